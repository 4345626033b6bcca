//! What may happen in a script.

use proptest::prelude::*;

/// How the files lie, and which of them the pattern means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `app.log`, and the pattern means it alone.
    Plain,
    /// `app.log`, and the pattern means what it is rotated to, too.
    Matching,
    /// A link to a file in another directory, where it is rotated.
    Linked,
    /// In a directory, which may be replaced.
    Nested,
}

/// What stands in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// No two lines are equal.
    Distinct,
    /// The same, behind a head of more than 1 KiB that is the same in every generation.
    Headed,
    /// All lines are equal.
    Equal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub layout: Layout,
    pub text: Text,
    /// Compressed files are read as a source.
    pub compressed: bool,
}

#[derive(Clone, Debug)]
pub enum Action {
    Write(usize),
    WritePartial,
    /// The writer that still has the file open that was rotated away last.
    WriteOld(usize),
    /// Away to a name that tells nothing; the writer makes a new file. The agent looks before the next rotation.
    RenameAway,
    /// To a name with a date.
    RenameDated,
    /// To `app.log.1`, those before one further.
    RenameChain,
    /// To `app.log.1` as above, but copied and truncated.
    CopyTruncate,
    /// Truncated without a copy, after a look.
    Truncate,
    /// Truncated without a look, and this much written at once: what was there is gone.
    Rewrite(usize),
    /// Deleted while the agent has it open, and perhaps has not read it; made again.
    Delete {
        read: bool,
    },
    /// Deleted while it is stopped, and made again: with the same inode, often.
    DeleteStopped,
    /// The oldest rotated file goes; its inode is free again.
    Prune,
    /// The newest of the rotated files is compressed; perhaps before anybody read it.
    Pack {
        zstd: bool,
        finished: bool,
    },
    /// Another name for the file.
    HardLink,
    /// A copy; the original goes on.
    Copy,
    /// The copy goes on, too.
    GrowCopy(usize),
    /// The link leads to a new file.
    Flip,
    /// The directory is renamed, to where the pattern means it or not, and made again.
    ReplaceDir {
        meant: bool,
    },
    Scan,
    /// One batch of each file.
    ReadSome,
    Read,
    /// Files read to their ends are closed.
    Idle,
    Checkpoint,
    Restart,
    /// Stopped, perhaps with something unread; other things happen before it starts again.
    Stop {
        read: bool,
    },
    Start,
    /// Killed; perhaps it stays down for a while.
    Crash {
        stay: bool,
    },
    /// Started again with other device numbers.
    Reboot,
    /// Started again where nothing tells birth times, and did not before.
    Unborn,
    /// Started again with a damaged record: one of its numbers is another.
    Damage(u8),
    /// The clock jumps by a day, forwards or backwards.
    ClockJump(bool),
    /// The file's time of change jumps by a day.
    Touch(bool),
}

pub fn script() -> impl Strategy<Value = Vec<Action>> {
    let write = prop_oneof![
        6 => (1..60_usize).prop_map(Action::Write),
        2 => Just(Action::WritePartial),
        2 => (1..20_usize).prop_map(Action::WriteOld),
    ];
    let rotate = prop_oneof![
        1 => Just(Action::RenameAway),
        2 => Just(Action::RenameDated),
        2 => Just(Action::RenameChain),
        2 => Just(Action::CopyTruncate),
        1 => Just(Action::Truncate),
        1 => (1..60_usize).prop_map(Action::Rewrite),
        1 => any::<bool>().prop_map(|read| Action::Delete { read }),
        1 => Just(Action::DeleteStopped),
        1 => Just(Action::Prune),
        2 => any::<(bool, bool)>().prop_map(|(zstd, finished)| Action::Pack { zstd, finished }),
        1 => Just(Action::HardLink),
        1 => Just(Action::Copy),
        1 => (1..20_usize).prop_map(Action::GrowCopy),
        2 => Just(Action::Flip),
        2 => any::<bool>().prop_map(|meant| Action::ReplaceDir { meant }),
    ];
    let agent = prop_oneof![
        3 => Just(Action::Scan),
        3 => Just(Action::Read),
        2 => Just(Action::ReadSome),
        1 => Just(Action::Idle),
        1 => Just(Action::Checkpoint),
        1 => Just(Action::Restart),
        2 => any::<bool>().prop_map(|read| Action::Stop { read }),
        1 => Just(Action::Start),
        1 => any::<bool>().prop_map(|stay| Action::Crash { stay }),
    ];
    let world = prop_oneof![
        1 => Just(Action::Reboot),
        1 => Just(Action::Unborn),
        1 => any::<u8>().prop_map(Action::Damage),
        1 => any::<bool>().prop_map(Action::ClockJump),
        1 => any::<bool>().prop_map(Action::Touch),
    ];
    let action = prop_oneof![4 => write, 6 => rotate, 5 => agent, 1 => world];
    prop::collection::vec(action, 1..40)
}

//! Patterns to file events.
//!
//! In: what to watch, what is known of files from before, and what the shards report. Out: [`FileEvent`]s. Kernel
//! events are hints that only save time; a periodic scan is the truth. It reads no more than the bytes that identify a
//! file, and runs on its caller's thread.
//!
//! ```text
//!   hints (which paths) --> look --> follow: streams whose place moved, left, came back, grew
//!   scan (all paths)   -->  list -->         |
//!                                            v
//!                                    candidates: places without a stream --> known? --> Opened
//! ```

mod copies; // new files that may be copies of what was shipped
mod entry; // the streams of one entry, followed over what the paths show
mod hints; // kernel events: which paths to look at
mod hub; // the one who waits, scans and answers
mod hunt; // the search for the file behind a mark
mod known; // files from before, found again by place and content
mod late; // finished files that are written again where no pattern looks
mod missed; // generations that came and went between two looks
mod open; // from a place without a stream to an opened file
mod paths_index; // which streams lie at a path
mod pinned; // deleted files that are still unread
mod problems; // paths that cannot be read
mod scan; // all paths, in portions
mod stream; // what is kept of a file that is read
mod truncated; // files that were truncated, and what came after
mod walk; // what paths show now

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::allow::{AllowPaths, OpenProblem};
use crate::batch::FileOffset;
use crate::identity::{Evidence, FileId, FileKey};
use crate::packed::Packing;
use crate::paths::PathPatterns;

pub use hub::{Discovery, Waker};

/// Where a file begins that was there when its entry was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At its first byte.
    Beginning,
    /// At its end.
    End,
}

/// A stream: one file of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// Name of the entry.
    pub entry: Arc<str>,
    /// The file.
    pub file: FileId,
}

/// What one entry wants to be watched.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// Name of the entry.
    pub entry: Arc<str>,
    /// Its paths.
    pub patterns: Arc<PathPatterns>,
    /// For files that exist when the entry is first seen.
    pub start: StartAt,
    /// A leaving file is finished when it was quiet for so long. (The shard keeps the time; it is here to be passed on.)
    pub finish_after: Duration,
    /// A file that nothing is known of and that was not written for so long is left alone until it is written.
    pub ignore_older: Option<Duration>,
    /// A file read to its end and quiet for so long is closed, until it grows. (The shard keeps the time; it is here to be
    /// passed on.)
    pub close_idle: Option<Duration>,
    /// Compressed files are meant, too: their content is read. Otherwise a new one is reported and not read.
    pub compressed: bool,
}

/// What is known of a file from the store, or from a stream that was closed.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownFile {
    /// Its stream.
    pub key: StreamKey,
    /// Where it lay on the disk.
    pub place: FileKey,
    /// What stood in it up to `offset` or a little before. Invariant: `evidence.at <= offset`.
    pub evidence: Evidence,
    /// Where reading goes on.
    pub offset: FileOffset,
    /// Its last known path.
    pub path: PathBuf,
    /// Its path when it was first seen.
    pub home: PathBuf,
    /// Its real path, where `path` led to it through links: beside this one it is rotated.
    pub target: Option<PathBuf>,
    /// Read to its end, last line shipped.
    pub finished: bool,
    /// The largest size that was seen of it (0: unknown): what is behind `offset` up to here is lost if it is gone.
    pub size_seen: FileOffset,
    /// When this was written: milliseconds since the Unix epoch.
    pub updated_ms: i64,
}

impl KnownFile {
    /// Whether a file of so many bytes on the disk can hold what was read (offsets in a compressed one are those of its
    /// content).
    pub(crate) fn fits(&self, size: u64) -> bool {
        size >= self.evidence.packed_bytes.unwrap_or(self.offset)
    }

    /// Whether the same file with so many bytes on the disk has nothing to read.
    pub(crate) fn is_all_of(&self, size: u64) -> bool {
        match self.evidence.packed_bytes {
            Some(bytes) => self.evidence.at == self.offset && bytes == size,
            None => self.offset == size,
        }
    }
}

/// A file to be read.
#[derive(Debug)]
pub struct OpenedFile {
    /// Its stream.
    pub key: StreamKey,
    /// Where it lies on the disk.
    pub place: FileKey,
    /// Where it is now.
    pub path: Arc<Path>,
    /// Where it was when it was first seen: decides shard and partition, survives rotation. The same `Arc` as `path`
    /// where they are equal.
    pub home: Arc<Path>,
    /// Its real path, where `path` leads to it through links.
    pub target: Option<Arc<Path>>,
    /// Open for reading.
    pub file: File,
    /// Some: an archive of a file that was read before it was compressed, whatever the entry says of compressed files. The
    /// evidence in `known` says so (`packed_bytes`): begin with that one, or for a new file with one that says so.
    pub packing: Option<Packing>,
    /// Some: go on where it says, its content was verified. None: a new file.
    pub known: Option<KnownFile>,
    /// For a new file: 0, or its size when the entry says `end` and the file existed when the entry was first seen.
    pub start: FileOffset,
    /// The file that had this path before and was not finished when this one was seen: its last line goes first. It
    /// may have been finished since, then there is nothing to wait for.
    pub predecessor: Option<StreamKey>,
}

/// What happened to a file.
#[derive(Debug)]
pub enum FileEvent {
    /// There is a file to read.
    Opened(Box<OpenedFile>),
    /// There is more to read, perhaps (or less: the reader tells).
    Grew(StreamKey),
    /// It was truncated: it is shorter than at the last look, or begins with something else. A reader at 0 cannot see that by itself: the shard reports
    /// `Truncated` for it. Otherwise as `Grew`.
    Shrank(StreamKey),
    /// Renamed; its content goes on, read through the same descriptor.
    Moved {
        /// Which.
        key: StreamKey,
        /// Where it is now; the path may be one that no pattern matches.
        to: PathBuf,
    },
    /// Renamed, replaced or deleted, and nobody will append by its path any more: read it to the end, wait until it was
    /// quiet for `finish_after`, then finish it and report that. `Grew` may not come for it: look by yourself.
    Leaving {
        /// Which.
        key: StreamKey,
        /// No name for it was found any more: once closed it cannot be opened again. Comes a second time when a file
        /// that was renamed is deleted.
        gone: bool,
    },
    /// A file that was leaving is back in its place.
    Back(StreamKey),
    /// A stream whose shard said `Idle` has something to read again, or is leaving: go on with this descriptor. When the
    /// reader refuses it, report `Truncated`.
    Reopened {
        /// Which.
        key: StreamKey,
        /// Open for reading.
        file: File,
    },
    /// Deleted files that are still unread take more of the disk than they may, and this is the oldest: ship what is
    /// under way, close it, report `GivenUp`.
    GiveUp {
        /// Which.
        key: StreamKey,
        /// What it had not read when it was last reported.
        unread: u64,
    },
    /// Its entry does not want it any more: close it and report `Closed`.
    Dropped(StreamKey),
    /// A path that should be read and cannot. Reported once.
    Problem {
        /// For which entry.
        entry: Arc<str>,
        /// Which path.
        path: PathBuf,
        /// Why.
        problem: OpenProblem,
    },
    /// A problem that was reported is over.
    Healed {
        /// For which entry.
        entry: Arc<str>,
        /// Which path.
        path: PathBuf,
    },
    /// The first look for this entry is over: what was there has been opened. It counts as seen from now on.
    FirstScan(Arc<str>),
    /// A known file was found to be shipped already, all of it, in another place (a copy, a `.gz`): keep this of it.
    Recognised(Box<KnownFile>),
    /// Bytes of a file are nowhere any more: count them.
    Lost {
        /// Which.
        key: StreamKey,
        /// Its last known path.
        path: PathBuf,
        /// Up to where it was shipped.
        offset: FileOffset,
        /// Bytes behind `offset` that had been seen. What was written and removed between two looks nobody can count.
        bytes: u64,
        /// What happened.
        cause: LossCause,
    },
    /// What was seen of a vanished file behind `offset` was counted as lost, or is read in another file: it must not be
    /// counted again.
    Settled {
        /// Which.
        key: StreamKey,
        /// Up to where it was shipped.
        offset: FileOffset,
    },
    /// Nothing has to be kept of this file any more.
    Forgotten(StreamKey),
    /// Something that people should know.
    Notice(Notice),
}

/// Why bytes were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LossCause {
    /// Truncated before it was read to its end, and no copy holds the rest.
    #[error("it was truncated before it was read to its end, and no copy beside it holds the rest")]
    Truncated,
    /// Gone while the agent was stopped.
    #[error("it is gone, and nothing in its directory holds the rest")]
    NotFound,
    /// Deleted and still unread, and the files that are kept open for that took more than `pinned_bytes_max`.
    #[error("it was deleted before it was read to its end, and deleted files took more than pinned_bytes_max")]
    GivenUp,
    /// Appended to and deleted between two looks while it was closed as idle.
    #[error("it was appended to and deleted while it was closed as idle")]
    Closed,
}

/// Something that people should know; shipping goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Kernel events cannot be had (all, or below this directory): changes are seen at the next scan.
    #[error("no kernel events for {}: {reason}; changes there are seen by the periodic scan only", dir.display())]
    ScanOnly {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// No file can be opened any more: too many are open. Files that were not opened yet wait.
    #[error("too many open files: raise the limit of open files (ulimit -n, LimitNOFILE=); {waiting} files wait")]
    TooManyOpen {
        /// Files that wait.
        waiting: usize,
    },
    /// Deleted files that are still unread take most of what they may.
    #[error(
        "deleted files that are still unread take {bytes} bytes of the disk: at {bytes_max} the oldest is given up"
    )]
    PinnedNearLimit {
        /// What they take.
        bytes: u64,
        /// What they may take.
        bytes_max: u64,
    },
    /// A directory could not be listed.
    #[error("while listing {}: {reason}", dir.display())]
    Unlistable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What the shards tell back.
#[derive(Clone, Debug)]
pub enum StreamReport {
    /// The reader said `Truncated`: `known` is what was read of the generation that ended. Its place is looked at again
    /// and opened as a new file from 0; if its unread rest is found in a copy, the old stream is opened there.
    Truncated {
        /// The generation that ended.
        known: KnownFile,
        /// What it was read from, if that is still open: deleted by now, it is the only way to what was written since.
        file: Option<Arc<File>>,
    },
    /// Drained to its end and finished: kept for recognition, opened again only if it grows.
    Finished {
        /// What is known of it.
        known: KnownFile,
    },
    /// Read to its end and closed: say `Reopened` when there is more.
    Idle {
        /// Which.
        key: StreamKey,
        /// Bytes that the file had on the disk when it was read to its end.
        bytes_read: u64,
    },
    /// A file that is `gone` is not read to its end. Said again (about once a second) as long as that is so.
    Pinned {
        /// Which.
        key: StreamKey,
        /// What it takes on the disk: allocated blocks, in bytes.
        bytes: u64,
        /// Its size less the read position.
        unread: u64,
    },
    /// After `GiveUp`: closed.
    GivenUp {
        /// What is known of it.
        known: KnownFile,
        /// Its size less the mark: what nobody will ever ship.
        lost_bytes: u64,
    },
    /// After `Dropped`: closed. Opened again from here if an entry wants it.
    Closed {
        /// What is known of it.
        known: KnownFile,
    },
}

impl Default for DiscoverOptions {
    /// Nothing known, everything allowed, kernel events in use.
    fn default() -> Self {
        DiscoverOptions {
            scan_every: Duration::from_secs(10),
            allow: AllowPaths::all(),
            known: Vec::new(),
            entries_seen: BTreeSet::new(),
            hints: true,
            copy_hold: Duration::from_secs(5),
            forget_after: Duration::from_secs(24 * 3600),
            pinned_bytes_max: 10 << 30,
        }
    }
}

/// How to look.
#[derive(Debug)]
pub struct DiscoverOptions {
    /// Time between two scans.
    pub scan_every: Duration,
    /// What may be read.
    pub allow: AllowPaths,
    /// What the store knows.
    pub known: Vec<KnownFile>,
    /// Entries that the store has seen before: `start: end` does not count for them any more.
    pub entries_seen: BTreeSet<Arc<str>>,
    /// Use kernel events. Without, only scans.
    pub hints: bool,
    /// A new file that begins like one that is being read is held back for so long behind its last change: it may be a
    /// copy, and the original about to be truncated.
    pub copy_hold: Duration,
    /// What is known of a file that is gone from its directory is kept for so long behind its last change.
    pub forget_after: Duration,
    /// What deleted files that are still unread may take of the disk, in bytes.
    pub pinned_bytes_max: u64,
}

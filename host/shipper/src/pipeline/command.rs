//! What the conductor says to a shard and what a shard says back.

use crate::checkpoint::StreamRecord;
use crate::filter::ArmedChain;
use crate::model::EntryName;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;
use tailmill_tail::{KnownFile, OpenedFile, StreamKey};

/// To a shard.
pub enum ShardCommand {
    /// Read this file from now on.
    Open(Box<Opening>),
    /// There may be more to read.
    Grew(StreamKey),
    /// The file was renamed.
    Moved {
        /// Whose.
        key: StreamKey,
        /// Where it is now.
        to: std::path::PathBuf,
    },
    /// The file is shorter than it was.
    Shrank(StreamKey),
    /// Nobody appends by the file's path any more: drain it, and finish it once it is quiet.
    Leaving {
        /// Whose.
        key: StreamKey,
        /// It has no name any more: the open descriptor is all there is of it.
        gone: bool,
    },
    /// A file that was closed as idle has more to read, or is leaving.
    Reopened {
        /// Whose.
        key: StreamKey,
        /// Open for reading.
        file: File,
    },
    /// Deleted files that are still unread take too much of the disk: let go of this one, now.
    GiveUp(StreamKey),
    /// Bytes of a file are nowhere any more.
    CountLost {
        /// Of which entry.
        entry: EntryName,
        /// How many.
        bytes: u64,
    },
    /// A file that was leaving shows up again.
    Back(StreamKey),
    /// The entry does not want this file any more: ship what is under way, keep the mark, let go.
    Close(StreamKey),
    /// The entry says something new; its streams take it over at their next batch.
    Replan {
        /// Which entry.
        entry: EntryName,
        /// The new chain with its plan.
        armed: Arc<ArmedChain>,
    },
    /// Stop reading, drain, write marks; what is not acknowledged at the deadline comes again at the next start.
    Stop {
        /// When to give up waiting.
        deadline: Instant,
    },
}

/// A file to read, and where its last run left off.
pub struct Opening {
    /// The open file and its identity.
    pub opened: OpenedFile,
    /// What the store says of it.
    pub record: Option<StreamRecord>,
    /// The entry's chain with its plan.
    pub armed: Arc<ArmedChain>,
}

/// From a shard to the conductor.
pub enum ShardReport {
    /// The file is shorter than what was read of it: its place holds a new generation.
    Truncated {
        /// What was read of the generation that ended.
        known: KnownFile,
        /// Still open: what was written to it since may have no name any more.
        file: Option<Arc<File>>,
        /// Its last record.
        record: Box<StreamRecord>,
    },
    /// Read to the end, delivered and left: it is not opened again unless it grows.
    Finished {
        /// For recognition.
        known: KnownFile,
        /// Its last record.
        record: Box<StreamRecord>,
    },
    /// Closed as asked.
    Closed {
        /// For recognition.
        known: KnownFile,
        /// Its last record.
        record: Box<StreamRecord>,
    },
    /// Given up as asked: its descriptor is closed.
    GivenUp {
        /// For recognition.
        known: KnownFile,
        /// Its size less the mark.
        lost_bytes: u64,
    },
    /// Read to its end, quiet, and closed: say when there is more.
    Idle {
        /// Which.
        key: StreamKey,
        /// Bytes that the file had on the disk when it was read to its end.
        bytes_read: u64,
    },
    /// A deleted file is not read to its end yet.
    Pinned {
        /// Which.
        key: StreamKey,
        /// What it takes on the disk.
        bytes: u64,
        /// What of it was not read.
        unread: u64,
    },
    /// The shard is done.
    Stopped(StopSummary),
}

/// What a shard left behind when it stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopSummary {
    /// Which shard.
    pub shard: usize,
    /// Records that were not acknowledged at the deadline. They come again at the next start.
    pub undelivered_records: u64,
}

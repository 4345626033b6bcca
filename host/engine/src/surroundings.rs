//! What a filter may ask of the host, and what it told the host meanwhile.

use std::sync::Arc;

/// Facts about the batch, tick or flush that is being answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The same number for the same stream, for the life of the process.
    pub stream_id: u64,
    /// Path of the file. Bytes: a path need not be UTF-8.
    pub path: Arc<[u8]>,
    /// Where the first line of the batch starts in its file.
    pub first_offset: u64,
    /// Inode number of the file; 0: not known.
    pub inode: u64,
    /// The id of the file: another one for each generation of a path. Empty: not known.
    pub generation: Arc<str>,
    /// Number of the line of the file, the first being 1, with which the batch that was read begins; 0: not known.
    pub first_line: u64,
}

/// Facts that stay the same for the life of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Name of this machine.
    pub node: Arc<str>,
    /// Topics a record may be sent to; index 0 is the entry's own.
    pub topics: Vec<Arc<str>>,
}

/// What the guest said through the host interface since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNotes {
    /// Log lines: level (0 debug, 1 info, 2 warn, 3 error) and text.
    pub logs: Vec<(u8, String)>,
    /// Lines that its runtime wrote to stdout (1) or stderr (2).
    pub prints: Vec<(u8, String)>,
    /// What it added to its counters.
    pub counters: Vec<(String, u64)>,
    /// Log lines, prints and counts that went over a limit and were let fall.
    pub suppressed: u64,
}

impl HostNotes {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.prints.is_empty() && self.counters.is_empty() && self.suppressed == 0
    }
}

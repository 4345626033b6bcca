//! Records on their way to a sink: ranges of one shared buffer and what goes with them.

use tailmill_engine::{Column, Header};
use tailmill_tail::{Chunk, FileOffset};

/// Records whose values lie in one buffer. Record `i` is `buffer[starts[i]..ends[i]]`.
#[derive(Clone, Debug)]
pub struct RecordSet {
    /// The bytes of all values.
    pub buffer: Chunk,
    /// Start of each value.
    pub starts: Vec<u32>,
    /// End of each value. Invariant: as long as `starts`.
    pub ends: Vec<u32>,
    /// Where in the file the oldest input line of each record begins. Invariant: as long as `starts`.
    pub sources: Vec<FileOffset>,
    /// Keys, topics, timestamps and headers that a filter set; most sets have none.
    pub extras: Option<Box<Extras>>,
}

/// What filters set beside the value. Per-record vectors are empty (the default for all) or as long as the set.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Record keys.
    pub keys: Option<Column>,
    /// Index into the entry's topics.
    pub topics: Vec<u16>,
    /// Milliseconds since the Unix epoch.
    pub timestamps_ms: Vec<i64>,
    /// Record headers.
    pub headers: Vec<Header>,
}

impl RecordSet {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Value of record `i`.
    pub fn value(&self, i: usize) -> &[u8] {
        &self.buffer[self.starts[i] as usize..self.ends[i] as usize]
    }

    /// Bytes of all values together.
    pub fn value_bytes(&self) -> u64 {
        self.starts.iter().zip(&self.ends).map(|(start, end)| u64::from(end - start)).sum()
    }

    /// The oldest input line of any record, as a file offset.
    pub fn floor(&self) -> Option<FileOffset> {
        self.sources.iter().copied().min()
    }
}

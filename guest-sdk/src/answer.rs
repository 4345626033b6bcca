//! The contract's types in plain Rust: the same packed columns as in `wit/filter.wit`, little-endian, for wasm and tests.

/// Lines as the host hands them over, packed.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    /// The bytes the lines lie in, terminators between them.
    pub data: &'a [u8],
    /// Packed u32 start of each line.
    pub starts: &'a [u8],
    /// Packed u32 end of each line.
    pub ends: &'a [u8],
}

impl<'a> Lines<'a> {
    pub(crate) const NONE: Lines<'static> = Lines { data: &[], starts: &[], ends: &[] };

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.starts.len() / 4
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where line `i` lies in `data`.
    pub(crate) fn span(&self, i: usize) -> (usize, usize) {
        (u32_at(self.starts, i), u32_at(self.ends, i))
    }

    /// Line `i`.
    pub fn line(&self, i: usize) -> &'a [u8] {
        let (start, end) = self.span(i);
        &self.data[start..end]
    }
}

#[inline]
pub(crate) fn u32_at(packed: &[u8], i: usize) -> usize {
    let bytes = &packed[i * 4..i * 4 + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

/// One optional value a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// One bit a line, lowest first; empty: all present.
    pub present: Vec<u8>,
    /// The values, one behind the other.
    pub data: Vec<u8>,
    /// Packed u32 end of each value; an absent one repeats the end before it.
    pub ends: Vec<u8>,
}

/// New lines in place of old ones. Columns are packed; an empty one means the default for all lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The bytes of the lines.
    pub data: Vec<u8>,
    /// Packed u32 start of each line.
    pub starts: Vec<u8>,
    /// Packed u32 end of each line.
    pub ends: Vec<u8>,
    /// Packed u64: number of the oldest input line each came from.
    pub source: Vec<u8>,
    /// Record keys.
    pub keys: Option<Column>,
    /// Packed u16 index into the entry's topics.
    pub topics: Vec<u8>,
    /// Packed i64 milliseconds since the Unix epoch; the least i64: the host's.
    pub timestamps_ms: Vec<u8>,
    /// Record headers by name.
    pub headers: Vec<(String, Column)>,
}

/// What becomes of the lines of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // One a batch, moved twice.
pub enum Outcome {
    /// All go on.
    KeepAll,
    /// None goes on.
    DropAll,
    /// One bit a line, lowest first; 1 keeps.
    Keep(Vec<u8>),
    /// These go on in their place.
    Emit(Output),
}

/// Answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of the lines.
    pub outcome: Outcome,
    /// Number of the oldest line still inside the filter.
    pub oldest_held: Option<u64>,
}

/// Answer to a tick or a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// Lines let go.
    pub output: Option<Output>,
    /// Number of the oldest line still inside the filter.
    pub oldest_held: Option<u64>,
}

/// The filter cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number of the line it failed on, where known.
    pub line: Option<u64>,
    /// Why.
    pub message: String,
}

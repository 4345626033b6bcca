//! What goes into a filter and what it says, in the host's own types. Everything here was checked.

/// Lines as a filter gets them: line `i` is `data[starts[i]..ends[i]]`. Terminators lie between the lines.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    /// The bytes that the lines lie in.
    pub data: &'a [u8],
    /// Start of each line. Invariant: as many as `ends`.
    pub starts: &'a [u32],
    /// End of each line. Invariant: `starts[i] <= ends[i] <= data.len()`, lines in rising order without overlap.
    pub ends: &'a [u32],
}

impl<'a> Lines<'a> {
    /// Number of lines.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Line `i`.
    pub fn line(&self, i: usize) -> &'a [u8] {
        &self.data[self.starts[i] as usize..self.ends[i] as usize]
    }
}

/// Which of the two lanes of the contract a filter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum World {
    /// One call a batch.
    Batch,
    /// One call a line.
    Line,
}

impl World {
    pub(crate) const WANTED: &'static str = "tailmill:filter/batch@1 nor tailmill:filter/line@1";

    /// The name of the world in the contract.
    pub fn name(self) -> &'static str {
        match self {
            World::Batch => "batch-filter",
            World::Line => "line-filter",
        }
    }
}

/// One bit a line, lowest bit of the first word first; 1 keeps. Bits behind the last line are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// The bits.
    pub words: Vec<u64>,
    /// Number of lines.
    pub len: usize,
}

impl Mask {
    /// Whether line `i` is kept.
    pub fn get(&self, i: usize) -> bool {
        self.words.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    /// How many lines are kept.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Indices of the lines that are kept, rising.
    pub fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    at * 64 + bit
                })
            })
        })
    }
}

/// What becomes of the lines of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every line goes on as it is.
    KeepAll,
    /// No line goes on.
    DropAll,
    /// The lines with a 1 go on. Invariant: at least one is kept and at least one is not.
    Keep(Mask),
    /// These lines go on in place of the old ones.
    Emit(Output),
}

/// New lines. Every vector that is per line is empty (meaning: the default for all) or as long as `starts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The bytes of all lines.
    pub data: Vec<u8>,
    /// Start of each line in `data`.
    pub starts: Vec<u32>,
    /// End of each line in `data`.
    pub ends: Vec<u32>,
    /// Sequence number of the oldest input line each line came from. Always one for each line.
    pub sources: Vec<u64>,
    /// Record keys.
    pub keys: Option<Column>,
    /// Index into the entry's topics; empty: all 0.
    pub topics: Vec<u16>,
    /// Milliseconds since the Unix epoch; empty: the host's for all; `i64::MIN`: the host's for this line.
    pub timestamps_ms: Vec<i64>,
    /// Record headers.
    pub headers: Vec<Header>,
}

/// One optional value a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// `None`: no value for this line. Otherwise where the value lies in `data`.
    pub spans: Vec<Option<(u32, u32)>>,
    /// The bytes of all values.
    pub data: Vec<u8>,
}

impl Column {
    /// The value of line `i`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        self.spans.get(i).copied().flatten().map(|(start, end)| &self.data[start as usize..end as usize])
    }
}

/// A record header: its name and a value for some of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Name of the header.
    pub name: String,
    /// Its values.
    pub values: Column,
}

/// Answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of the lines.
    pub outcome: Outcome,
    /// Sequence number of the oldest input line that is still inside the filter.
    pub oldest_held: Option<u64>,
}

/// Answer to a tick or a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Lines let go.
    pub output: Option<Output>,
    /// As in [`Answer`].
    pub oldest_held: Option<u64>,
}

impl Output {
    /// Number of lines.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Line `i`.
    pub fn line(&self, i: usize) -> &[u8] {
        &self.data[self.starts[i] as usize..self.ends[i] as usize]
    }
}

/// What a filter says about itself when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// One instance may serve many files: it never holds and never ticks.
    pub stateless: bool,
    /// Lines with none of these byte strings never reach the filter; empty: all lines do.
    pub needles: Vec<Vec<u8>>,
    /// What becomes of lines that were skipped because of `needles`.
    pub keep_skipped: bool,
}

/// A call that failed. Whatever the kind, the instance it came from is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// The sequence number of the guilty line where the guest named one. A guest can lie: treat it as a hint.
    pub line: Option<u64>,
    /// For people. Bounded to 4 KiB.
    pub message: String,
}

/// Kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The guest ran into a wasm trap (unreachable, out of bounds, stack overflow, exit).
    Trap,
    /// The call took longer than its time.
    Timeout,
    /// The guest wanted more memory or table elements than it may have.
    Memory,
    /// The answer does not add up.
    BrokenAnswer,
    /// The guest itself said it cannot go on.
    Refused,
}

impl FaultKind {
    /// Every kind, in a fixed order (for counters).
    pub const ALL: [FaultKind; 5] =
        [FaultKind::Trap, FaultKind::Timeout, FaultKind::Memory, FaultKind::BrokenAnswer, FaultKind::Refused];

    /// The name used in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Trap => "trap",
            FaultKind::Timeout => "timeout",
            FaultKind::Memory => "memory",
            FaultKind::BrokenAnswer => "broken-answer",
            FaultKind::Refused => "refused",
        }
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

//! The rest of a buffer that held more lines than a batch may.

use super::look::Shown;
use crate::batch::{Chunk, FileOffset};
use crate::encoding::{Decoded, DecodedLine, DecodedLines};

/// The rest of a buffer.
#[derive(Debug)]
pub(super) struct Pending {
    /// The text.
    pub(super) chunk: Chunk,
    /// Where the reader's position is in it.
    pub(super) next: usize,
    pub(super) read_at_ms: i64,
    /// What the text was decoded from; none: from nothing, it is as it was read.
    pub(super) raw: Option<Box<Raw>>,
}

/// Bytes of the file whose text is in a chunk.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) bytes: Vec<u8>,
    /// File offset of the first one.
    pub(super) base: FileOffset,
    pub(super) lines: Vec<DecodedLine>,
    /// U+FFFD put in behind the last whole line.
    pub(super) rest_replaced: u64,
    pub(super) file_end: FileOffset,
}

impl Pending {
    pub(super) fn shown(&self) -> Shown<'_> {
        let text = &*self.chunk;
        let lines = self.raw.as_deref().map(|raw| DecodedLines { text, lines: &raw.lines, file_end: raw.file_end });
        Shown { text, lines }
    }
}

impl Raw {
    pub(super) fn between(&self, from: FileOffset, upto: FileOffset) -> &[u8] {
        &self.bytes[(from - self.base) as usize..(upto - self.base) as usize] // both lie in the buffer
    }

    /// How often U+FFFD was put in between two ends of lines, those longer than `line_bytes` left out.
    pub(super) fn replaced(&self, from: FileOffset, upto: FileOffset, line_bytes: usize) -> u64 {
        let whole = Decoded::replaced_between(&self.lines, from, upto, line_bytes);
        let rest = self.lines.last().is_none_or(|line| line.place.file_next < upto);
        if rest { whole + self.rest_replaced } else { whole }
    }
}

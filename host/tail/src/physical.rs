//! Physical lines: where they lie in the text that is split, and where they end in the file.

use memchr::memchr_iter;

use crate::batch::FileOffset;
use crate::terminator::Terminator;

/// One physical line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Physical {
    pub(crate) start: usize,
    /// Behind its last byte, terminator left out.
    pub(crate) end: usize,
    /// Behind its terminator.
    pub(crate) next: usize,
    /// The same as an offset in the file.
    pub(crate) file_next: FileOffset,
}

impl Physical {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// A text whose physical lines are known or can be found.
pub(crate) trait Physicals {
    /// The whole lines from `from` (where one begins) on whose terminators end at `upto` or before.
    fn lines(&self, from: usize, upto: usize) -> impl Iterator<Item = Physical>;
    /// The text.
    fn text(&self) -> &[u8];
    /// File offset behind its last byte.
    fn file_end(&self) -> FileOffset;
    /// Where a line that begins at `start` is cut to at most `max` bytes.
    fn cut(&self, start: usize, max: usize) -> usize;

    /// What is behind the last terminator as a line, for want of more.
    fn last_line(&self, start: usize) -> Physical {
        let end = self.text().len();
        Physical { start, end, next: end, file_next: self.file_end() }
    }
}

/// Bytes as they are, lines ended by LF or CR LF: the case that has to be quick.
#[derive(Clone, Copy)]
pub(crate) struct NewlineLines<'a> {
    pub(crate) bytes: &'a [u8],
    /// File offset of the first byte.
    pub(crate) base: FileOffset,
}

impl Physicals for NewlineLines<'_> {
    #[inline]
    fn lines(&self, from: usize, upto: usize) -> impl Iterator<Item = Physical> {
        let NewlineLines { bytes, base } = *self;
        let mut start = from;
        memchr_iter(b'\n', &bytes[from..upto]).map(move |at| {
            let newline = from + at;
            let end = if newline > start && bytes[newline - 1] == b'\r' { newline - 1 } else { newline };
            let line = Physical { start, end, next: newline + 1, file_next: base + newline as u64 + 1 };
            start = newline + 1;
            line
        })
    }

    fn text(&self) -> &[u8] {
        self.bytes
    }

    fn file_end(&self) -> FileOffset {
        self.base + self.bytes.len() as u64
    }

    fn cut(&self, start: usize, max: usize) -> usize {
        start + max
    }
}

/// Bytes as they are, lines ended by something else.
#[derive(Clone, Copy)]
pub(crate) struct DelimitedLines<'a> {
    pub(crate) bytes: &'a [u8],
    /// File offset of the first byte.
    pub(crate) base: FileOffset,
    pub(crate) terminator: &'a Terminator,
}

impl Physicals for DelimitedLines<'_> {
    fn lines(&self, from: usize, upto: usize) -> impl Iterator<Item = Physical> {
        let DelimitedLines { bytes, base, terminator } = *self;
        let mut start = from;
        std::iter::from_fn(move || {
            let (end, next) = terminator.find(&bytes[..upto], start, base)?;
            let line = Physical { start, end, next, file_next: base + next as u64 };
            start = next;
            Some(line)
        })
    }

    fn text(&self) -> &[u8] {
        self.bytes
    }

    fn file_end(&self) -> FileOffset {
        self.base + self.bytes.len() as u64
    }

    fn cut(&self, start: usize, max: usize) -> usize {
        start + max
    }
}

//! How bytes become lines: where a line ends, how long it may be, which encoding it is in, several physical lines to one.
//!
//! A line ends with LF; a CR directly before it is left out. An entry may name another delimiter, which is taken as it
//! is. NUL and every other byte are ordinary. An empty line is a line. With a multiline rule, physical lines are joined
//! to one line whose bytes lie together in the file, inner terminators kept. With an encoding, lines are found in the
//! text that the bytes stand for, and that text (UTF-8) is what limits, rules and filters see.

use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use crate::encoding::TextEncoding;

/// Longest line unless an entry says otherwise. Half of what Kafka takes as one record by default.
pub const LINE_BYTES_MAX_DEFAULT: usize = 512 * 1024;
/// Longest delimiter.
pub const DELIMITER_BYTES_MAX: usize = 16;

/// How bytes become lines.
#[derive(Clone, Debug)]
pub struct Framing {
    /// Longest line in bytes (of UTF-8 where there is an encoding), its terminator not counted.
    pub line_bytes_max: usize,
    /// What happens to a longer one.
    pub too_long: TooLong,
    /// Several physical lines to one.
    pub multiline: Option<Multiline>,
    /// What ends a line.
    pub delimiter: Delimiter,
    /// What the bytes are, if they are to become UTF-8. None: bytes are bytes.
    pub encoding: Option<TextEncoding>,
    /// Files that are gzip or zstd by their first bytes are unpacked; others are read as they are.
    pub compressed: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Framing {
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
            too_long: TooLong::Cut,
            multiline: None,
            delimiter: Delimiter::Newline,
            encoding: None,
            compressed: false,
        }
    }
}

/// What ends a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Delimiter {
    /// LF, or CR LF.
    #[default]
    Newline,
    /// Exactly these bytes (with an encoding: the UTF-8 of them). The first place from the start of a line on counts.
    Bytes(Arc<[u8]>),
}

/// Why something can not be a delimiter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelimiterError {
    /// No bytes, or too many.
    #[error("a delimiter has 1 to {DELIMITER_BYTES_MAX} bytes, not {0}")]
    Length(usize),
}

impl Delimiter {
    /// A delimiter of 1 to 16 bytes. `\n` given here is LF alone: a CR before it stays.
    pub fn of_bytes(bytes: &[u8]) -> Result<Delimiter, DelimiterError> {
        match bytes.len() {
            1..=DELIMITER_BYTES_MAX => Ok(Delimiter::Bytes(bytes.into())),
            other => Err(DelimiterError::Length(other)),
        }
    }

    /// Bytes of the longest form of it.
    pub(crate) fn longest(&self) -> usize {
        match self {
            Delimiter::Newline => 2,
            Delimiter::Bytes(bytes) => bytes.len(),
        }
    }
}

/// What happens to a line that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// It is cut to the limit.
    Cut,
    /// It is skipped, counted.
    Skip,
}

/// Several physical lines to one.
#[derive(Clone, Debug)]
pub struct Multiline {
    /// Where a record begins or ends.
    pub rule: MultilineRule,
    /// After so long without more, it is complete.
    pub timeout: Duration,
    /// Longest joined line in bytes. The physical line that would pass it begins a new one.
    pub bytes_max: usize,
}

/// Where a record begins or ends.
#[derive(Clone, Debug)]
pub enum MultilineRule {
    /// A line that matches begins a record.
    Start(Regex),
    /// A line that matches ends a record.
    End(Regex),
    /// A line that matches belongs to the one before.
    Continue(Regex),
}

impl MultilineRule {
    /// Whether a physical line begins a record, and whether it ends one.
    pub(crate) fn judge(&self, line: &[u8]) -> (bool, bool) {
        match self {
            MultilineRule::Start(start) => (start.is_match(line), false),
            MultilineRule::End(end) => (false, end.is_match(line)),
            MultilineRule::Continue(more) => (!more.is_match(line), false),
        }
    }
}

impl Framing {
    /// Longest physical line: with multiline, a line longer than the longest joined one is too long as well.
    pub(crate) fn physical_bytes_max(&self) -> usize {
        self.multiline.as_ref().map_or(self.line_bytes_max, |m| m.bytes_max.min(self.line_bytes_max))
    }
}

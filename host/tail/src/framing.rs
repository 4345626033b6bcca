//! How bytes become lines: the limits of a line, and several physical lines to one.
//!
//! A line ends with LF; a CR directly before it is left out. NUL and every other byte are ordinary. An empty line is a
//! line. With a multiline rule, physical lines are joined to one line whose bytes lie together in the file, inner
//! terminators kept.

use std::time::Duration;

use regex::bytes::Regex;

/// Longest line unless an entry says otherwise. Half of what Kafka takes as one record by default.
pub const LINE_BYTES_MAX_DEFAULT: usize = 512 * 1024;

/// How bytes become lines.
#[derive(Clone, Debug)]
pub struct Framing {
    /// Longest line in bytes, its terminator not counted.
    pub line_bytes_max: usize,
    /// What happens to a longer one.
    pub too_long: TooLong,
    /// Several physical lines to one.
    pub multiline: Option<Multiline>,
}

impl Default for Framing {
    fn default() -> Self {
        Framing { line_bytes_max: LINE_BYTES_MAX_DEFAULT, too_long: TooLong::Cut, multiline: None }
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

impl Framing {
    /// Longest physical line: with multiline, a line longer than the longest joined one is too long as well.
    pub(crate) fn physical_bytes_max(&self) -> usize {
        self.multiline.as_ref().map_or(self.line_bytes_max, |m| m.bytes_max.min(self.line_bytes_max))
    }
}

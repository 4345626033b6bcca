//! Bytes to lines.
use std::time::Duration;

/// How bytes become lines.
#[derive(Clone, Debug)]
pub struct Framing {
    /// Longest line in bytes.
    pub line_bytes_max: usize,
    /// What happens to a longer one.
    pub too_long: TooLong,
    /// Several physical lines to one.
    pub multiline: Option<Multiline>,
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
    /// Longest joined line in bytes.
    pub bytes_max: usize,
}

/// Where a record begins or ends.
#[derive(Clone, Debug)]
pub enum MultilineRule {
    /// A line that matches begins a record.
    Start(regex::bytes::Regex),
    /// A line that matches ends a record.
    End(regex::bytes::Regex),
    /// A line that matches belongs to the one before.
    Continue(regex::bytes::Regex),
}

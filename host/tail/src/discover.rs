//! Patterns to file events.

/// Where a file begins that was there when its entry was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At its first byte.
    Beginning,
    /// At its end.
    End,
}

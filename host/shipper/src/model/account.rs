//! Lines and the bytes of a file they stand for: the unit of the loss equation.

use std::ops::{Add, AddAssign, Sub};

/// A number of input lines and the bytes of the file that they stand for, terminators included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LineCount {
    /// Input lines.
    pub lines: u64,
    /// Bytes of the file, terminators included.
    pub bytes: u64,
}

impl LineCount {
    /// One line of so many bytes.
    pub fn one(bytes: u64) -> Self {
        LineCount { lines: 1, bytes }
    }

    /// Whether nothing is counted.
    pub fn is_zero(&self) -> bool {
        self.lines == 0 && self.bytes == 0
    }
}

impl Add for LineCount {
    type Output = LineCount;
    fn add(self, other: LineCount) -> LineCount {
        LineCount { lines: self.lines + other.lines, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for LineCount {
    fn add_assign(&mut self, other: LineCount) {
        *self = *self + other;
    }
}

impl Sub for LineCount {
    type Output = LineCount;
    fn sub(self, other: LineCount) -> LineCount {
        LineCount { lines: self.lines - other.lines, bytes: self.bytes - other.bytes }
    }
}

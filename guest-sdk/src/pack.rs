//! Turns verdicts on lines into one packed answer: bits as long as nothing was rewritten, columns from then on.
//!
//! Invariant: rows of an output lie in `data` in rising order. Kept lines that follow each other are copied in one piece,
//! their terminators with them.

use crate::answer::{Column, Lines, Output};

/// One bit a line.
pub(crate) struct Mask {
    words: Vec<u64>,
    pub(crate) kept: usize,
}

impl Mask {
    pub(crate) fn new(lines: usize) -> Mask {
        Mask { words: vec![0; lines.div_ceil(64)], kept: 0 }
    }

    #[inline]
    pub(crate) fn keep(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
        self.kept += 1;
    }

    pub(crate) fn keeps(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    pub(crate) fn into_bytes(self, lines: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(lines.div_ceil(8));
        bytes
    }
}

/// A column that is only paid for by the lines that have a value.
#[derive(Default)]
pub(crate) struct ColumnBuilder {
    present: Vec<u8>,
    data: Vec<u8>,
    ends: Vec<u8>,
    rows: usize,
    values: usize,
}

impl ColumnBuilder {
    /// Invariant: `row` is the last row set or a later one.
    pub(crate) fn set(&mut self, row: usize, value: &[u8]) {
        if row + 1 == self.rows && self.is_present(row) {
            let before = if row == 0 { 0 } else { crate::answer::u32_at(&self.ends, row - 1) };
            self.data.truncate(before);
            self.rows -= 1;
            self.ends.truncate(row * 4);
        } else {
            self.pad(row);
            self.values += 1;
        }
        self.data.extend_from_slice(value);
        self.push_end();
        self.present.resize(self.rows.div_ceil(8), 0);
        self.present[row / 8] |= 1 << (row % 8);
    }

    fn is_present(&self, row: usize) -> bool {
        self.present.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
    }

    fn pad(&mut self, rows: usize) {
        while self.rows < rows {
            self.push_end();
        }
    }

    fn push_end(&mut self) {
        push_u32(&mut self.ends, self.data.len());
        self.rows += 1;
    }

    fn finish(mut self, rows: usize) -> Column {
        self.pad(rows);
        self.present.resize(rows.div_ceil(8), 0);
        if self.values == rows {
            self.present.clear();
        }
        Column { present: self.present, data: self.data, ends: self.ends }
    }
}

/// Rows of new lines.
#[derive(Default)]
pub(crate) struct Rows {
    out: Output,
    rows: usize,
    /// Kept input lines, one behind the other, not copied yet.
    run: std::ops::Range<usize>,
    keys: Option<ColumnBuilder>,
    headers: Vec<(String, ColumnBuilder)>,
}

impl Rows {
    /// Room for about as much as came in: a filter that rewrites rarely doubles its lines.
    pub(crate) fn sized_for(input: &Lines<'_>) -> Rows {
        let mut rows = Rows::default();
        let lines = input.len();
        rows.out.data.reserve(input.data.len() + input.data.len() / 8);
        rows.out.starts.reserve(lines * 4);
        rows.out.ends.reserve(lines * 4);
        rows.out.source.reserve(lines * 8);
        rows
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Line `at` goes on as it is.
    pub(crate) fn keep(&mut self, at: usize, input: &Lines<'_>, first: u64) {
        // More than a terminator between two lines means that lines in between were left out: they must not be copied.
        let follows = self.run.end == at && !self.run.is_empty() && input.span(at).0 - input.span(at - 1).1 <= 2;
        if follows {
            self.run.end += 1;
        } else {
            self.copy_run(input, first);
            self.run = at..at + 1;
        }
        self.rows += 1;
    }

    fn copy_run(&mut self, input: &Lines<'_>, first: u64) {
        if self.run.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.run);
        let (from, to) = (input.span(run.start).0, input.span(run.end - 1).1);
        let base = self.out.data.len();
        self.out.data.extend_from_slice(&input.data[from..to]);
        for at in run {
            let (start, end) = input.span(at);
            push_u32(&mut self.out.starts, start - from + base);
            push_u32(&mut self.out.ends, end - from + base);
            self.out.source.extend_from_slice(&(first + at as u64).to_le_bytes());
        }
    }

    /// Adds a line that `write` appends to the data, and says which row it is.
    pub(crate) fn emit(
        &mut self,
        source: u64,
        input: &Lines<'_>,
        first: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        self.copy_run(input, first);
        let start = self.out.data.len();
        write(&mut self.out.data);
        push_u32(&mut self.out.starts, start);
        push_u32(&mut self.out.ends, self.out.data.len());
        self.out.source.extend_from_slice(&source.to_le_bytes());
        self.rows += 1;
        self.rows - 1
    }

    /// Invariant: `row` was emitted, and no line was kept since.
    pub(crate) fn set_source(&mut self, row: usize, source: u64) {
        self.out.source[row * 8..row * 8 + 8].copy_from_slice(&source.to_le_bytes());
    }

    pub(crate) fn set_key(&mut self, row: usize, key: &[u8]) {
        self.keys.get_or_insert_default().set(row, key);
    }

    pub(crate) fn set_header(&mut self, row: usize, name: &str, value: &[u8]) {
        if let Some((_, column)) = self.headers.iter_mut().find(|(known, _)| known == name) {
            return column.set(row, value);
        }
        let mut column = ColumnBuilder::default();
        column.set(row, value);
        self.headers.push((name.to_string(), column));
    }

    pub(crate) fn set_topic(&mut self, row: usize, topic: u16) {
        if topic != 0 || !self.out.topics.is_empty() {
            self.out.topics.resize(row * 2, 0);
            self.out.topics.extend_from_slice(&topic.to_le_bytes());
        }
    }

    pub(crate) fn set_timestamp_ms(&mut self, row: usize, at: i64) {
        pad_timestamps(&mut self.out.timestamps_ms, row);
        self.out.timestamps_ms.truncate(row * 8);
        self.out.timestamps_ms.extend_from_slice(&at.to_le_bytes());
    }

    pub(crate) fn finish(mut self, input: &Lines<'_>, first: u64) -> Output {
        self.copy_run(input, first);
        let rows = self.rows;
        if !self.out.topics.is_empty() {
            self.out.topics.resize(rows * 2, 0);
        }
        if !self.out.timestamps_ms.is_empty() {
            pad_timestamps(&mut self.out.timestamps_ms, rows);
        }
        self.out.keys = self.keys.map(|keys| keys.finish(rows));
        self.out.headers = self.headers.into_iter().map(|(name, column)| (name, column.finish(rows))).collect();
        self.out
    }
}

fn push_u32(packed: &mut Vec<u8>, value: usize) {
    // A batch and an answer are far below 4 GiB: wasm32 has no more memory than that.
    packed.extend_from_slice(&(value as u32).to_le_bytes());
}

fn pad_timestamps(packed: &mut Vec<u8>, rows: usize) {
    while packed.len() < rows * 8 {
        packed.extend_from_slice(&i64::MIN.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(places: &[usize]) -> Vec<u8> {
        places.iter().flat_map(|place| (*place as u32).to_le_bytes()).collect()
    }

    #[test]
    fn lines_in_a_row_are_copied_in_one_piece_and_what_lies_between_others_is_not() {
        let data = b"aa\r\nbb\nskipped\ncc\n";
        let (starts, ends) = (packed(&[0, 4, 15]), packed(&[2, 6, 17]));
        let input = Lines { data, starts: &starts, ends: &ends };
        let mut rows = Rows::default();
        (0..3).for_each(|at| rows.keep(at, &input, 10));
        let out = rows.finish(&input, 10);
        assert_eq!(out.data, b"aa\r\nbbcc");
        assert_eq!((out.starts, out.ends), (packed(&[0, 4, 6]), packed(&[2, 6, 8])));
        assert_eq!(out.source, [10u64, 11, 12].map(u64::to_le_bytes).concat());
    }
}

//! Which line of its file a record came from: for the `line` header, when an entry asks for it.
//!
//! In: the batches that enter the chain. Out: a header for each record whose line is known by the offset it came from. It
//! keeps the batches that lines are still held of, and nothing else.

use crate::model::{Extras, RecordSet};
use std::collections::VecDeque;
use tailmill_engine::{Column, Header};
use tailmill_tail::{Batch, FileOffset};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LineNumbers {
    batches: VecDeque<Lines>,
}

/// Lines of one batch.
#[derive(Debug)]
struct Lines {
    first_offset: FileOffset,
    first_line: u64,
    line_ends: Vec<FileOffset>,
    physicals: Vec<u32>,
}

impl LineNumbers {
    /// A batch enters the chain. One whose numbers are not known is left out.
    pub(super) fn add(&mut self, batch: &Batch) {
        let Some(first_line) = batch.first_line else { return };
        self.batches.push_back(Lines {
            first_offset: batch.first_offset,
            first_line,
            line_ends: batch.line_ends.clone(),
            physicals: batch.physicals.clone(),
        });
    }

    /// No record will come from a line before this one any more; None: from none that is known here.
    pub(super) fn forget_before(&mut self, oldest: Option<FileOffset>) {
        match oldest {
            None => self.batches.clear(),
            Some(oldest) => self.batches.retain(|lines| lines.line_ends.last().is_some_and(|end| *end > oldest)),
        }
    }

    /// Gives each record of the set its header.
    pub(super) fn put_into(&self, set: &mut RecordSet) {
        let mut column = Column { spans: Vec::with_capacity(set.len()), data: Vec::new() };
        let mut numbers = self.numbers(&set.sources);
        column.spans.extend(set.sources.iter().map(|_| {
            let start = column.data.len() as u32; // some ten bytes for each record
            let number = numbers.next().flatten()?;
            column.data.extend_from_slice(number.to_string().as_bytes());
            Some((start, column.data.len() as u32))
        }));
        let extras = set.extras.get_or_insert_with(|| Box::new(Extras::default()));
        extras.headers.push(Header { name: "line".to_owned(), values: column });
    }

    /// The numbers of the lines at these offsets. Quick where they rise.
    fn numbers(&self, offsets: &[FileOffset]) -> impl Iterator<Item = Option<u64>> {
        // Where the last one was found: batch, line, and its number.
        let mut at: Option<(usize, usize, u64)> = None;
        offsets.iter().map(move |offset| {
            let batch = self.batches.partition_point(|lines| lines.first_offset <= *offset).checked_sub(1)?;
            let lines = &self.batches[batch];
            let (mut line, mut number) = match at {
                Some((same, line, number)) if same == batch && lines.begin(line) <= *offset => (line, number),
                _ => (0, lines.first_line),
            };
            while lines.begin(line) < *offset {
                number += lines.physicals.get(line).map_or(1, |count| u64::from(*count));
                line += 1;
                if line == lines.line_ends.len() {
                    return None;
                }
            }
            at = Some((batch, line, number));
            (lines.begin(line) == *offset).then_some(number)
        })
    }
}

impl Lines {
    /// Where a line begins.
    fn begin(&self, line: usize) -> FileOffset {
        line.checked_sub(1).map_or(self.first_offset, |before| self.line_ends[before])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailmill_tail::{Chunk, Evidence};

    fn batch(first_offset: u64, first_line: Option<u64>, line_ends: &[u64], physicals: &[u32]) -> Batch {
        Batch {
            chunk: Chunk::new(Vec::new()),
            starts: vec![0; line_ends.len()],
            ends: vec![0; line_ends.len()],
            line_ends: line_ends.to_vec(),
            first_offset,
            end_offset: line_ends.last().copied().unwrap_or(first_offset),
            evidence: Evidence::default(),
            skipped_lines: 0,
            skipped_bytes: 0,
            cut_lines: 0,
            replaced: 0,
            first_line,
            physicals: physicals.to_vec(),
            read_at_ms: 0,
        }
    }

    fn three() -> LineNumbers {
        let mut numbers = LineNumbers::default();
        numbers.add(&batch(100, Some(10), &[110, 130, 131], &[]));
        numbers.add(&batch(131, None, &[140], &[]));
        numbers.add(&batch(140, Some(14), &[150, 160, 170], &[3, 1, 2]));
        numbers
    }

    fn check(numbers: &LineNumbers, sources: &[u64], expected: &[Option<&str>]) {
        let mut set = RecordSet {
            buffer: Chunk::new(Vec::new()),
            starts: vec![0; sources.len()],
            ends: vec![0; sources.len()],
            sources: sources.to_vec(),
            extras: None,
        };
        numbers.put_into(&mut set);
        let extras = set.extras.expect("a header");
        assert_eq!((extras.headers.len(), &*extras.headers[0].name), (1, "line"));
        let said = |i| extras.headers[0].values.get(i).map(|value| String::from_utf8_lossy(value).into_owned());
        let found: Vec<Option<String>> = (0..sources.len()).map(said).collect();
        assert_eq!(found, expected.iter().map(|one| one.map(str::to_owned)).collect::<Vec<_>>(), "{sources:?}");
    }

    #[test]
    fn a_record_has_the_number_of_the_line_it_came_from_where_that_is_known() {
        let numbers = three();
        check(&numbers, &[100, 110, 130], &[Some("10"), Some("11"), Some("12")]);
        check(&numbers, &[140, 150, 160], &[Some("14"), Some("17"), Some("18")]);
        check(&numbers, &[150, 150, 110, 160, 100], &[Some("17"), Some("17"), Some("11"), Some("18"), Some("10")]);
        check(&numbers, &[131, 50, 105, 170, 999], &[None; 5]);
        check(&LineNumbers::default(), &[0], &[None]);
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let mut numbers = three();
        numbers.forget_before(Some(130));
        check(&numbers, &[130, 140], &[Some("12"), Some("14")]);
        numbers.forget_before(Some(131));
        check(&numbers, &[130, 140], &[None, Some("14")]);
        numbers.forget_before(None);
        check(&numbers, &[140], &[None]);
    }
}

//! Lines that a person decided to leave out (`tailmill state step-over`): the batch is taken apart around them.

use super::services::Services;
use super::stream::Stream;
use crate::model::LineCount;
use crate::observe::DropReason;
use std::collections::BTreeSet;
use tailmill_tail::{Batch, FileOffset};

impl Stream {
    /// Takes what is around such lines in hand, counts what is left out.
    pub(super) fn leave_out(&mut self, batch: Batch, services: &mut Services) {
        let (parts, left_out) = take_apart(batch, &self.step_over);
        for (offset, count) in left_out {
            tracing::warn!(entry = %self.entry(), file = %self.path.display(), offset, bytes = count.bytes, "stepped over a line");
            self.counts.dropped += count;
            services.ledger(&self.armed.entry.name).drop_lines(DropReason::SteppedOver, count);
        }
        let mark = self.mark();
        self.step_over.retain(|offset| *offset >= mark);
        self.rest.extend(parts);
    }
}

/// The parts of a batch between the lines that begin at one of `offsets`, and what these lines stood for.
fn take_apart(batch: Batch, offsets: &BTreeSet<FileOffset>) -> (Vec<Batch>, Vec<(FileOffset, LineCount)>) {
    let (mut parts, mut left_out, mut from) = (Vec::new(), Vec::new(), 0);
    for line in 0..batch.len() {
        if offsets.contains(&batch.line_offset(line)) {
            parts.push(part(&batch, from, line));
            left_out.push((batch.line_offset(line), LineCount::one(batch.line_bytes(line))));
            from = line + 1;
        }
    }
    if left_out.is_empty() {
        return (vec![batch], left_out);
    }
    parts.push(part(&batch, from, batch.len()));
    parts.retain(|part| !part.is_empty());
    (parts, left_out)
}

/// Lines `from..to` of a batch, over the same bytes.
fn part(batch: &Batch, from: usize, to: usize) -> Batch {
    let first_offset = if from < batch.len() { batch.line_offset(from) } else { batch.end_offset };
    Batch {
        chunk: batch.chunk.clone(),
        starts: batch.starts[from..to].to_vec(),
        ends: batch.ends[from..to].to_vec(),
        line_ends: batch.line_ends[from..to].to_vec(),
        first_offset,
        end_offset: if to > from { batch.line_ends[to - 1] } else { first_offset },
        skipped_lines: 0,
        skipped_bytes: 0,
        cut_lines: 0,
        replaced: 0,
        first_line: batch.first_line.map(|first| first + batch.physical_lines_before(from)),
        physicals: batch.physicals.get(from..to).map(<[u32]>::to_vec).unwrap_or_default(),
        ..batch.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailmill_tail::{Chunk, Evidence};

    fn batch(lines: &[&str], first_offset: u64) -> Batch {
        let (mut data, mut starts, mut ends, mut line_ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            starts.push(data.len() as u32);
            data.extend_from_slice(line.as_bytes());
            ends.push(data.len() as u32);
            data.push(b'\n');
            line_ends.push(first_offset + data.len() as u64);
        }
        let end_offset = first_offset + data.len() as u64;
        Batch {
            chunk: Chunk::new(data),
            starts,
            ends,
            line_ends,
            first_offset,
            end_offset,
            evidence: Evidence::default(),
            skipped_lines: 0,
            skipped_bytes: 0,
            cut_lines: 0,
            replaced: 0,
            first_line: None,
            physicals: Vec::new(),
            read_at_ms: 0,
        }
    }

    fn check(offsets: &[u64], expected: &[&[&str]], expected_left_out: &[u64]) {
        let whole = batch(&["a", "bb", "ccc", "dddd"], 100);
        let bytes = whole.bytes();
        let (parts, left_out) = take_apart(whole, &offsets.iter().copied().collect());
        let texts: Vec<Vec<String>> = parts
            .iter()
            .map(|part| (0..part.len()).map(|i| String::from_utf8_lossy(part.line(i)).into_owned()).collect())
            .collect();
        assert_eq!(texts, expected, "{offsets:?}");
        assert_eq!(left_out.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), expected_left_out);
        let kept: u64 = parts.iter().map(|part| (0..part.len()).map(|i| part.line_bytes(i)).sum::<u64>()).sum();
        let left: u64 = left_out.iter().map(|(_, count)| count.bytes).sum();
        assert_eq!(kept + left, bytes, "every byte is in one of them");
    }

    #[test]
    fn a_batch_is_taken_apart_around_the_lines_that_are_left_out() {
        check(&[], &[&["a", "bb", "ccc", "dddd"]], &[]);
        check(&[7], &[&["a", "bb", "ccc", "dddd"]], &[]);
        check(&[102], &[&["a"], &["ccc", "dddd"]], &[102]);
        check(&[100], &[&["bb", "ccc", "dddd"]], &[100]);
        check(&[109], &[&["a", "bb", "ccc"]], &[109]);
        check(&[100, 102, 105, 109], &[], &[100, 102, 105, 109]);
    }
}

//! The loss equation of one stream: which of its input lines have no end yet.
//!
//! In: each batch's line ends, then the sources of what came out, then how far back a filter may still reach. Out: how
//! many lines and bytes each of these settled. A line is settled once; a source that is unknown here (it was settled
//! before, or was read by an earlier process) counts nothing. While nothing is held there is one segment, and a batch
//! of which all lines come out in order is settled by one comparison.

use crate::model::LineCount;
use std::collections::VecDeque;
use tailmill_tail::FileOffset;

/// Input lines that are inside a chain.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Invariant: in rising order of offsets, none settled as a whole.
    segments: VecDeque<Segment>,
    pending: LineCount,
}

/// The lines of one batch.
#[derive(Debug)]
struct Segment {
    first_offset: FileOffset,
    /// Offset behind each line. Invariant: strictly rising, not empty.
    line_ends: Vec<FileOffset>,
    /// One bit a line, set when the line has an end. Empty: none has.
    settled: Vec<u64>,
    /// What is not settled.
    open: LineCount,
}

impl Window {
    /// The lines of a batch that begins at `first_offset`.
    pub(super) fn add(&mut self, first_offset: FileOffset, line_ends: Vec<FileOffset>) {
        let Some(last) = line_ends.last() else { return };
        let open = LineCount { lines: line_ends.len() as u64, bytes: last - first_offset };
        self.pending += open;
        self.segments.push_back(Segment { first_offset, line_ends, settled: Vec::new(), open });
    }

    /// Lines that have no end yet.
    pub(super) fn pending(&self) -> LineCount {
        self.pending
    }

    /// The oldest line that has no end yet.
    pub(super) fn oldest(&self) -> Option<FileOffset> {
        let segment = self.segments.front()?;
        (0..segment.line_ends.len()).find(|&i| !segment.is_settled(i)).map(|i| segment.offset(i))
    }

    /// Settles the lines that begin at these offsets, as far as they are open; returns what was open.
    pub(super) fn settle(&mut self, sources: &[FileOffset]) -> LineCount {
        if let [only] = self.segments.make_contiguous()
            && only.is_exactly(sources)
        {
            let all = only.open;
            self.segments.clear();
            self.pending = LineCount::default();
            return all;
        }
        let mut sum = LineCount::default();
        let mut at = (0, 0);
        for &source in sources {
            let Some(found) = self.find(source, at) else { continue };
            at = found;
            sum += self.segments[at.0].settle(at.1);
        }
        self.took(sum)
    }

    /// Settles every open line that begins before `limit` (`None`: every one); returns what was open.
    pub(super) fn settle_before(&mut self, limit: Option<FileOffset>) -> LineCount {
        let Some(limit) = limit else {
            self.segments.clear();
            return std::mem::take(&mut self.pending);
        };
        let mut sum = LineCount::default();
        for segment in &mut self.segments {
            if segment.first_offset >= limit {
                break;
            }
            if segment.end() <= limit {
                sum += std::mem::take(&mut segment.open);
                continue;
            }
            for i in 0..segment.line_ends.len() {
                if segment.offset(i) >= limit {
                    break;
                }
                sum += segment.settle(i);
            }
        }
        self.took(sum)
    }

    /// Forgets all lines.
    pub(super) fn clear(&mut self) {
        *self = Window::default();
    }

    fn took(&mut self, sum: LineCount) -> LineCount {
        if !sum.is_zero() {
            self.pending = self.pending - sum;
            self.segments.retain(|segment| segment.open.lines > 0);
        }
        sum
    }

    /// The line that begins at `source`. `near`: where the last one was found; sources mostly rise.
    fn find(&self, source: FileOffset, near: (usize, usize)) -> Option<(usize, usize)> {
        let (mut s, mut from) = near;
        let segment = self.segments.get(s)?;
        if source < segment.offset(from) || source >= segment.end() {
            s = self.segments.partition_point(|segment| segment.end() <= source);
            from = 0;
        }
        let segment = self.segments.get(s)?;
        for i in from..(from + 8).min(segment.line_ends.len()) {
            if segment.offset(i) == source {
                return Some((s, i));
            }
        }
        let i = segment.line_ends.partition_point(|&end| end <= source);
        (i < segment.line_ends.len() && segment.offset(i) == source).then_some((s, i))
    }
}

impl Segment {
    fn offset(&self, i: usize) -> FileOffset {
        if i == 0 { self.first_offset } else { self.line_ends[i - 1] }
    }

    fn end(&self) -> FileOffset {
        self.line_ends[self.line_ends.len() - 1]
    }

    fn is_settled(&self, i: usize) -> bool {
        self.open.lines == 0 || self.settled.get(i / 64).is_some_and(|word| word & (1 << (i % 64)) != 0)
    }

    /// Whether no line is settled and these are the offsets of all lines in order.
    fn is_exactly(&self, sources: &[FileOffset]) -> bool {
        let n = self.line_ends.len();
        self.open.lines == n as u64
            && sources.len() == n
            && sources[0] == self.first_offset
            && sources[1..] == self.line_ends[..n - 1]
    }

    fn settle(&mut self, i: usize) -> LineCount {
        if self.is_settled(i) {
            return LineCount::default();
        }
        if self.settled.is_empty() {
            self.settled = vec![0; self.line_ends.len().div_ceil(64)];
        }
        self.settled[i / 64] |= 1 << (i % 64);
        let line = LineCount::one(self.line_ends[i] - self.offset(i));
        self.open = self.open - line;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: u64, bytes: u64) -> LineCount {
        LineCount { lines, bytes }
    }

    /// Three lines of 10 bytes from 100 on, then two of 5.
    fn window() -> Window {
        let mut window = Window::default();
        window.add(100, vec![110, 120, 130]);
        window.add(130, vec![135, 140]);
        window
    }

    #[test]
    fn a_line_is_settled_once() {
        let mut window = window();
        assert_eq!(window.settle(&[110, 110, 120]), lines(2, 20));
        assert_eq!(window.settle(&[110]), lines(0, 0));
        assert_eq!(window.pending(), lines(3, 20));
        assert_eq!(window.settle_before(Some(130)), lines(1, 10));
        assert_eq!(window.settle_before(None), lines(2, 10));
        assert_eq!(window.pending(), lines(0, 0));
    }

    #[test]
    fn sources_may_come_in_any_order_and_from_any_batch() {
        let mut window = window();
        assert_eq!(window.settle(&[135, 100, 130, 120]), lines(4, 30));
        assert_eq!(window.oldest(), Some(110));
    }

    #[test]
    fn an_offset_that_starts_no_line_counts_nothing() {
        let mut window = window();
        assert_eq!(window.settle(&[0, 99, 101, 134, 140, 1000]), lines(0, 0));
        assert_eq!(window.pending(), lines(5, 40));
    }

    #[test]
    fn a_whole_batch_in_order_is_settled_at_once() {
        let mut window = Window::default();
        window.add(7, vec![8, 9, 12]);
        assert_eq!(window.settle(&[7, 8, 9]), lines(3, 5));
        assert_eq!(window.oldest(), None);
    }

    #[test]
    fn the_limit_settles_only_lines_that_begin_before_it() {
        let mut window = window();
        assert_eq!(window.settle_before(Some(115)), lines(2, 20));
        assert_eq!(window.settle_before(Some(115)), lines(0, 0));
        assert_eq!(window.oldest(), Some(120));
        assert_eq!(window.settle_before(Some(131)), lines(2, 15));
        assert_eq!(window.settle_before(Some(5000)), lines(1, 5));
    }
}

//! From a filter's numbers back to the file: what a rewritten line came from and what it takes over from there.

use super::pieces;
use super::stage::Stage;
use crate::model::RecordSet;
use tailmill_engine::Output;
use tailmill_tail::FileOffset;

impl Stage {
    /// A filter's output with file offsets in place of numbers. `current`: the lines of this call.
    pub(super) fn rewrite(&self, output: Output, current: Option<(u64, &RecordSet)>) -> RecordSet {
        let unordered = !self.first_in_chain && !self.is_rising(current);
        let floors = if unordered { self.floors(&output, current) } else { (0, Vec::new()) };
        let offset = |seq: u64| match seq.checked_sub(floors.0).and_then(|i| floors.1.get(i as usize)) {
            Some(floor) => *floor,
            None => self.offset(seq, current),
        };
        let inherit = |seq: u64| match current {
            Some((first, set)) if seq >= first => set.extras.as_deref().map(|extras| (extras, (seq - first) as usize)),
            _ => self.backlog.extras(seq),
        };
        let extras = self.backlog.has_extras() || current.is_some_and(|(_, set)| set.extras.is_some());
        pieces::emitted(output, offset, extras.then_some(&inherit))
    }

    fn offset(&self, seq: u64, current: Option<(u64, &RecordSet)>) -> FileOffset {
        if let Some((first, set)) = current
            && let Some(source) = seq.checked_sub(first).and_then(|i| set.sources.get(i as usize))
        {
            return *source;
        }
        match (self.backlog.offset(seq), self.ancient) {
            (Some(offset), _) => offset,
            (None, Some((below, offset))) if seq < below => offset,
            _ => self.held_offset.unwrap_or(self.last_source),
        }
    }

    fn is_rising(&self, current: Option<(u64, &RecordSet)>) -> bool {
        current.is_none_or(|(_, set)| {
            set.sources.is_sorted()
                && set.sources.first().is_none_or(|first| self.backlog.last_source().is_none_or(|last| last <= *first))
        }) && self.backlog.is_rising()
    }

    /// An earlier stage changed the order of lines: the line with the least number is not the one that came first in
    /// the file. So a joined line counts from the least offset that any line from its source on has.
    fn floors(&self, output: &Output, current: Option<(u64, &RecordSet)>) -> (u64, Vec<FileOffset>) {
        let Some(&low) = output.sources.iter().min() else { return (0, Vec::new()) };
        let mut floors: Vec<_> = (low..self.next_seq).map(|seq| self.offset(seq, current)).collect();
        let mut least = FileOffset::MAX;
        for floor in floors.iter_mut().rev() {
            least = least.min(*floor);
            *floor = least;
        }
        (low, floors)
    }
}

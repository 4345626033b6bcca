//! From a filter's numbers back to the file: what a rewritten line came from and what it takes over from there.

use super::pieces;
use super::stage::Stage;
use crate::model::RecordSet;
use tailmill_engine::Output;
use tailmill_tail::FileOffset;

impl Stage {
    /// A filter's output with file offsets in place of numbers. `current`: the lines of this call.
    pub(super) fn rewrite(&self, output: Output, current: Option<(u64, &RecordSet)>) -> RecordSet {
        let floors = if self.is_rising(current) { None } else { Some(self.floors(&output, current)) };
        let offset = |seq: u64| {
            let offset = self.offset(seq, current);
            floors.as_ref().and_then(|floors| floors.from(seq)).map_or(offset, |floor| floor.min(offset))
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

    /// Whether no line that is known here began before one with a lesser number.
    fn is_rising(&self, current: Option<(u64, &RecordSet)>) -> bool {
        let mut last = self.ancient.map_or(0, |(_, offset)| offset);
        self.backlog.is_rising(&mut last)
            && current.is_none_or(|(_, set)| {
                set.sources.is_sorted() && set.sources.first().is_none_or(|first| *first >= last)
            })
    }

    /// An earlier stage changed the order of lines: the line with the least number is not the one that came first in
    /// the file. So a joined line counts from the least offset that any line from its source on has.
    fn floors(&self, output: &Output, current: Option<(u64, &RecordSet)>) -> Floors {
        let low = output.sources.iter().copied().min().unwrap_or(u64::MAX);
        let current = current.map(|(first, set)| (first, &set.sources[..]));
        let mut floors = Vec::new();
        for (first, sources) in self.backlog.sources().chain(current) {
            let numbered = (first..).zip(sources.iter().copied());
            floors.extend(numbered.filter(|(seq, _)| *seq >= low));
        }
        let mut least = FileOffset::MAX;
        for (_, floor) in floors.iter_mut().rev() {
            least = least.min(*floor);
            *floor = least;
        }
        Floors(floors)
    }
}

/// Numbers of known lines, rising, each with the least offset of the lines from there on.
struct Floors(Vec<(u64, FileOffset)>);

impl Floors {
    /// The least offset of the lines with this number and higher ones. `None`: none of them is known.
    fn from(&self, seq: u64) -> Option<FileOffset> {
        let at = self.0.partition_point(|(known, _)| *known < seq);
        self.0.get(at).map(|(_, floor)| *floor)
    }
}

//! Progress of one stream: which of its records are still on their way, and from where it would have to go on.
//!
//! In: tickets as records are sent and settled, evidence at batch boundaries, saved filter states. Out: the mark and the
//! resume point. Pure: no clock, no I/O, nothing per line.
//!
//! ```text
//!   file   ├──────────┼───────────────┼──────────────┼───────────────►
//!                   mark            floor          read position
//!          settled    │ least of: floors of unresolved tickets, oldest held line, read position
//! ```

use std::collections::VecDeque;

use tailmill_tail::{Evidence, FileOffset};

use super::records::{ResumePoint, STATE_BYTES_MAX, StageSnapshot};
use crate::model::LineCount;

/// Boundaries remembered. More are thinned out: an older evidence only makes the next run read a little more twice.
const HISTORY_MAX: usize = 256;

/// Snapshots that wait for their tickets. The oldest is the next to become valid, so a newer one replaces the newest.
const CANDIDATES_MAX: usize = 2;

/// Number of a ticket. Rises, and is never given twice by one [`Progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One answer's records, on their way.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Start of the oldest input line that any of them came from.
    floor: FileOffset,
    /// Records that are not settled yet; 0: resolved.
    left: u32,
    /// Input lines that they stand for.
    carries: LineCount,
}

/// A saved state and the position it belongs to.
#[derive(Clone, Debug)]
struct Snapshot {
    /// Valid once every ticket before this one is resolved.
    after: u64,
    offset: FileOffset,
    evidence: Evidence,
    stages: Vec<StageSnapshot>,
}

/// Progress of one stream.
///
/// Whoever drives it keeps the promise that a line is always covered: by the read position, by `held`, or by the floor
/// of an unresolved ticket. Then the mark never goes back.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Unresolved tickets, and resolved ones behind an unresolved one, in issue order.
    open: VecDeque<Open>,
    /// Number of the first of `open`.
    first: u64,
    /// Tickets in `open` that are not resolved.
    unresolved: usize,
    /// Batch boundaries. Invariant: rising, never empty, the first is not behind the mark.
    history: VecDeque<Evidence>,
    /// Snapshots whose tickets are not all resolved, in order.
    candidates: VecDeque<Snapshot>,
    valid: Option<Snapshot>,
}

impl Progress {
    /// A stream that goes on at `at`; `evidence` is of the file up to there or before.
    pub fn new(at: FileOffset, evidence: Evidence) -> Progress {
        debug_assert!(evidence.at <= at, "evidence of bytes that were not read");
        Progress {
            open: VecDeque::new(),
            first: 0,
            unresolved: 0,
            history: VecDeque::from([evidence]),
            candidates: VecDeque::new(),
            valid: None,
        }
    }

    /// A ticket for `records` records whose oldest input line starts at `floor` and that stand for `carries`.
    /// `evidence.at <= floor`.
    pub fn issue(&mut self, floor: FileOffset, evidence: Evidence, records: u32, carries: LineCount) -> Ticket {
        debug_assert!(evidence.at <= floor, "evidence of bytes behind the floor");
        self.note_boundary(evidence);
        let ticket = Ticket(self.first + self.open.len() as u64);
        self.open.push_back(Open { floor, left: records, carries });
        if records == 0 {
            self.drop_resolved();
        } else {
            self.unresolved += 1;
        }
        ticket
    }

    /// So many records of a ticket came to their end: acknowledged, or dropped by policy. Returns what the ticket carries
    /// when these were its last ones. A ticket that is resolved already changes nothing.
    pub fn settle(&mut self, ticket: Ticket, records: u32) -> Option<LineCount> {
        let open = self.open_mut(ticket)?;
        debug_assert!(records <= open.left, "more records settled than were sent");
        open.left = open.left.saturating_sub(records);
        if open.left > 0 {
            return None;
        }
        let carries = open.carries;
        self.unresolved -= 1;
        self.drop_resolved();
        Some(carries)
    }

    /// Takes lines out of what a ticket carries, because they end in another way (dropped by policy). Returns what was
    /// taken: never more than the ticket still carries.
    pub fn take_from(&mut self, ticket: Ticket, lines: LineCount) -> LineCount {
        let Some(open) = self.open_mut(ticket) else { return LineCount::default() };
        let taken =
            LineCount { lines: lines.lines.min(open.carries.lines), bytes: lines.bytes.min(open.carries.bytes) };
        open.carries = open.carries - taken;
        taken
    }

    /// Everything before the mark is settled for good. `read`: offset of the first byte not read; `held`: start of the
    /// oldest line that is still inside the filter chain.
    pub fn mark(&self, read: FileOffset, held: Option<FileOffset>) -> FileOffset {
        let floors = self.open.iter().filter(|open| open.left > 0).map(|open| open.floor);
        floors.chain(held).fold(read, FileOffset::min)
    }

    /// The newest known evidence of the file up to `mark` or before.
    pub fn evidence_for(&self, mark: FileOffset) -> Evidence {
        let behind = self.history.partition_point(|evidence| evidence.at <= mark);
        match behind.checked_sub(1) {
            Some(newest) => self.history[newest],
            // A mark before everything that is known: nothing can be said of it.
            None => Evidence::default(),
        }
    }

    /// Remembers what the file looked like at a batch boundary. One that is not newer than the last is known already.
    pub fn note_boundary(&mut self, evidence: Evidence) {
        match self.history.back_mut() {
            // Nothing was read, and more of the beginning was seen.
            Some(last) if last.at == 0 && evidence.at == 0 && last.prefix_len < evidence.prefix_len => *last = evidence,
            Some(last) if last.at >= evidence.at => return,
            _ => {}
        }
        self.history.push_back(evidence);
        if self.history.len() > HISTORY_MAX {
            let mut place = 0;
            self.history.retain(|_| {
                place += 1;
                // The first is the one that covers the mark.
                place % 2 == 1
            });
        }
    }

    /// Tickets that are not resolved.
    pub fn in_flight(&self) -> usize {
        self.unresolved
    }

    /// Whether every ticket is resolved.
    pub fn is_clear(&self) -> bool {
        self.unresolved == 0
    }

    /// The filters' state was saved when everything before `offset`, a batch boundary, had gone through them. It becomes
    /// the resume point once every ticket issued so far is resolved. A state that is too large for the store is refused:
    /// the resume point stays what it was.
    pub fn snapshot_taken(&mut self, offset: FileOffset, evidence: Evidence, stages: Vec<StageSnapshot>) {
        let state_bytes: usize = stages.iter().map(|stage| stage.state.len()).sum();
        if state_bytes > STATE_BYTES_MAX {
            return;
        }
        let snapshot = Snapshot { after: self.first + self.open.len() as u64, offset, evidence, stages };
        if self.candidates.len() == CANDIDATES_MAX {
            self.candidates.pop_back();
        }
        self.candidates.push_back(snapshot);
        self.choose_snapshot();
    }

    /// Whether a saved state is, or may become, the resume point.
    pub fn has_snapshots(&self) -> bool {
        self.valid.is_some() || !self.candidates.is_empty()
    }

    /// The saved state from which the stream would go on at `offset`, where it has come to rest.
    pub fn snapshot_at(&self, offset: FileOffset) -> Option<&[StageSnapshot]> {
        let settled = self.candidates.is_empty() && self.is_clear();
        self.valid.as_ref().filter(|snapshot| settled && snapshot.offset == offset).map(|snapshot| &*snapshot.stages)
    }

    /// The chain has no saved state any more: from now on the resume point is a position.
    pub fn forget_snapshots(&mut self) {
        self.candidates.clear();
        self.valid = None;
    }

    /// From where this stream would have to go on if it ended now, with evidence of the file up to there or before: the
    /// newest valid snapshot, else the mark.
    pub fn resume_point(&mut self, read: FileOffset, held: Option<FileOffset>) -> (ResumePoint, Evidence) {
        let mark = self.mark(read, held);
        self.prune_history(mark);
        match &self.valid {
            Some(snapshot) => {
                let point = ResumePoint::Snapshot { offset: snapshot.offset, stages: snapshot.stages.clone() };
                (point, snapshot.evidence)
            }
            None => (ResumePoint::Position { offset: mark }, self.evidence_for(mark)),
        }
    }

    fn open_mut(&mut self, ticket: Ticket) -> Option<&mut Open> {
        let place = ticket.0.checked_sub(self.first)?;
        self.open.get_mut(usize::try_from(place).ok()?).filter(|open| open.left > 0)
    }

    fn drop_resolved(&mut self) {
        while self.open.front().is_some_and(|open| open.left == 0) {
            self.open.pop_front();
            self.first += 1;
        }
        self.choose_snapshot();
    }

    /// The newest candidate whose tickets are all resolved wins, older ones are of no more use.
    fn choose_snapshot(&mut self) {
        while self.candidates.front().is_some_and(|candidate| candidate.after <= self.first) {
            self.valid = self.candidates.pop_front();
        }
    }

    /// Only the newest boundary at or before the mark will be asked for.
    fn prune_history(&mut self, mark: FileOffset) {
        while self.history.len() > 1 && self.history[1].at <= mark {
            self.history.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "tickets_tests.rs"]
mod tests;

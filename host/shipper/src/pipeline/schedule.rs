//! Whose turn it is: a queue of streams that have work, and timers for those that wait for a moment.

use super::streams::StreamIx;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Instant;

/// Ready streams in order, waiting ones by time or until something is acknowledged.
#[derive(Default)]
pub(super) struct Schedule {
    ready: VecDeque<StreamIx>,
    queued: HashSet<StreamIx>,
    timers: BTreeSet<(Instant, StreamIx)>,
    starved: Vec<StreamIx>,
    /// Those in `starved`.
    hungry: HashSet<StreamIx>,
}

impl Schedule {
    /// The stream has work: it gets a turn when those before it had theirs.
    pub(super) fn ready(&mut self, stream: StreamIx) {
        if self.queued.insert(stream) {
            self.ready.push_back(stream);
        }
    }

    /// The stream gets a turn at `when`, if it has none before.
    pub(super) fn at(&mut self, when: Instant, stream: StreamIx) {
        self.timers.insert((when, stream));
    }

    /// The stream waits until anything in flight is settled.
    pub(super) fn starved(&mut self, stream: StreamIx) {
        if self.hungry.insert(stream) {
            self.starved.push(stream);
        }
    }

    /// Something was settled: whoever waited for room is ready.
    pub(super) fn feed_starved(&mut self) {
        self.hungry.clear();
        for stream in std::mem::take(&mut self.starved) {
            self.ready(stream);
        }
    }

    /// Moves the streams whose moment has come to the ready ones.
    pub(super) fn ring(&mut self, now: Instant) {
        while let Some(&(when, stream)) = self.timers.first() {
            if when > now {
                break;
            }
            self.timers.pop_first();
            self.ready(stream);
        }
    }

    /// The next stream to get a turn.
    pub(super) fn next(&mut self) -> Option<StreamIx> {
        let stream = self.ready.pop_front()?;
        self.queued.remove(&stream);
        Some(stream)
    }

    /// Whether some stream has work now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next timer rings.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(when, _)| *when)
    }

    /// The stream is gone.
    pub(super) fn forget(&mut self, stream: StreamIx) {
        if self.queued.remove(&stream) {
            self.ready.retain(|other| *other != stream);
        }
        self.timers.retain(|(_, other)| *other != stream);
        if self.hungry.remove(&stream) {
            self.starved.retain(|other| *other != stream);
        }
    }
}

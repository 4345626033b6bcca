//! Where a shard keeps its streams: a slab with a name index. A slot's number is never used again for another stream
//! while reports for it may come, because numbers only rise.
//!
//! Most streams of a big machine have nothing to do for hours. They are asleep: whatever is done to all streams every
//! now and then (marks, snapshots, gauges) is done to those that are awake. A stream wakes when it gets a turn.

use super::stream::Stream;
use crate::model::EntryName;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tailmill_tail::StreamKey;

/// A stream's number on its shard.
pub(super) type StreamIx = u64;

/// All streams of a shard.
#[derive(Default)]
pub(super) struct Streams {
    next: StreamIx,
    /// Boxed: nodes of a tree are half empty.
    slots: BTreeMap<StreamIx, Box<Stream>>,
    by_key: HashMap<StreamKey, StreamIx>,
    /// Those that wait for the stream of this name to say its last line, and some that did.
    successors: HashMap<StreamKey, Vec<StreamIx>>,
    awake: BTreeSet<StreamIx>,
    /// How many streams of each entry are asleep. Invariant: none is 0.
    asleep: BTreeMap<EntryName, u64>,
}

impl Streams {
    /// Takes a stream in, awake.
    pub(super) fn insert(&mut self, make: impl FnOnce(StreamIx) -> Stream) -> StreamIx {
        self.next += 1;
        let stream = make(self.next);
        self.by_key.insert(stream.key.clone(), self.next);
        if let Some(predecessor) = &stream.predecessor {
            self.successors.entry(predecessor.clone()).or_default().push(self.next);
        }
        self.slots.insert(self.next, Box::new(stream));
        self.awake.insert(self.next);
        self.next
    }

    /// Lets a stream go.
    pub(super) fn remove(&mut self, ix: StreamIx) -> Option<Stream> {
        self.wake(ix);
        self.awake.remove(&ix);
        let stream = self.slots.remove(&ix)?;
        self.by_key.remove(&stream.key);
        self.successors.remove(&stream.key);
        Some(*stream)
    }

    /// By number.
    pub(super) fn get_mut(&mut self, ix: StreamIx) -> Option<&mut Stream> {
        self.slots.get_mut(&ix).map(Box::as_mut)
    }

    /// By number.
    pub(super) fn get(&self, ix: StreamIx) -> Option<&Stream> {
        self.slots.get(&ix).map(Box::as_ref)
    }

    /// By name.
    pub(super) fn find(&self, key: &StreamKey) -> Option<StreamIx> {
        self.by_key.get(key).copied()
    }

    /// Streams that wait for the stream of this name.
    pub(super) fn successors(&self, key: &StreamKey) -> Vec<StreamIx> {
        let waits = |ix: &StreamIx| self.get(*ix).is_some_and(|stream| stream.predecessor.as_ref() == Some(key));
        self.successors.get(key).into_iter().flatten().copied().filter(waits).collect()
    }

    /// All of them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamIx, &mut Stream)> {
        self.slots.iter_mut().map(|(ix, stream)| (*ix, stream.as_mut()))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamIx, &Stream)> {
        self.slots.iter().map(|(ix, stream)| (*ix, stream.as_ref()))
    }

    /// The numbers of those that are awake.
    pub(super) fn awake(&self) -> Vec<StreamIx> {
        self.awake.iter().copied().collect()
    }

    /// Whether all are asleep.
    pub(super) fn are_asleep(&self) -> bool {
        self.awake.is_empty()
    }

    /// Those that are asleep.
    pub(super) fn sleepers(&self) -> impl Iterator<Item = &Stream> {
        self.iter().filter(|(ix, _)| !self.awake.contains(ix)).map(|(_, stream)| stream)
    }

    /// How many streams of each entry are asleep.
    pub(super) fn asleep(&self) -> &BTreeMap<EntryName, u64> {
        &self.asleep
    }

    /// Something happens to a stream.
    pub(super) fn wake(&mut self, ix: StreamIx) {
        let Some(stream) = self.slots.get(&ix).filter(|_| self.awake.insert(ix)) else { return };
        if let Some(count) = self.asleep.get_mut(stream.entry()) {
            *count -= 1;
            if *count == 0 {
                self.asleep.remove(stream.entry());
            }
        }
    }

    /// Nothing is to be done for a stream until it gets a turn again.
    pub(super) fn put_to_sleep(&mut self, ix: StreamIx) {
        if let Some(stream) = self.slots.get_mut(&ix).filter(|_| self.awake.remove(&ix)) {
            stream.unsent.shrink_to_fit();
            *self.asleep.entry(stream.entry().clone()).or_default() += 1;
        }
    }
}

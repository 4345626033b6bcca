//! Where a shard keeps its streams: a slab with a name index. A slot's number is never used again for another stream
//! while reports for it may come, because numbers only rise.
//!
//! Most streams of a big machine have nothing to do for hours. They are asleep: whatever is done to all streams every
//! now and then (marks, snapshots, gauges) is done to those that are awake. A stream wakes when it gets a turn. One whose
//! file is closed, too, is parked in few bytes while it sleeps, and made whole when anybody wants to change it.

use super::parked::Parked;
use super::stream::Stream;
use crate::model::EntryName;
use crate::observe::StreamSnapshot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tailmill_tail::StreamKey;

/// A stream's number on its shard.
pub(super) type StreamIx = u64;

/// Boxed: nodes of a tree are half empty.
enum Slot {
    Whole(Box<Stream>),
    /// Invariant: asleep.
    Parked(Box<Parked>),
}

impl Slot {
    fn entry(&self) -> &EntryName {
        match self {
            Slot::Whole(stream) => stream.entry(),
            Slot::Parked(parked) => parked.entry(),
        }
    }
}

/// All streams of a shard.
#[derive(Default)]
pub(super) struct Streams {
    next: StreamIx,
    slots: BTreeMap<StreamIx, Slot>,
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
        self.slots.insert(self.next, Slot::Whole(Box::new(stream)));
        self.awake.insert(self.next);
        self.next
    }

    /// Lets a stream go.
    pub(super) fn remove(&mut self, ix: StreamIx) -> Option<Stream> {
        self.wake(ix);
        self.awake.remove(&ix);
        let stream = match self.slots.remove(&ix)? {
            Slot::Whole(stream) => *stream,
            Slot::Parked(parked) => parked.wake(ix),
        };
        self.by_key.remove(&stream.key);
        self.successors.remove(&stream.key);
        Some(stream)
    }

    /// By number. One that was parked is whole again; give it a turn, so that it can be parked once more.
    pub(super) fn get_mut(&mut self, ix: StreamIx) -> Option<&mut Stream> {
        let slot = self.slots.get_mut(&ix)?;
        if let Slot::Parked(_) = slot {
            let Some(Slot::Parked(parked)) = self.slots.remove(&ix) else { return None };
            self.slots.insert(ix, Slot::Whole(Box::new(parked.wake(ix))));
        }
        match self.slots.get_mut(&ix)? {
            Slot::Whole(stream) => Some(stream),
            Slot::Parked(_) => None,
        }
    }

    /// By number; none that is parked: it has nothing to say.
    pub(super) fn get(&self, ix: StreamIx) -> Option<&Stream> {
        match self.slots.get(&ix)? {
            Slot::Whole(stream) => Some(stream),
            Slot::Parked(_) => None,
        }
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

    /// All but those that are parked.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamIx, &Stream)> {
        self.slots.iter().filter_map(|(ix, slot)| match slot {
            Slot::Whole(stream) => Some((*ix, stream.as_ref())),
            Slot::Parked(_) => None,
        })
    }

    /// The numbers of all.
    pub(super) fn all(&self) -> Vec<StreamIx> {
        self.slots.keys().copied().collect()
    }

    /// The numbers of all streams of an entry.
    pub(super) fn of_entry(&self, entry: &EntryName) -> Vec<StreamIx> {
        self.slots.iter().filter(|(_, slot)| slot.entry() == entry).map(|(ix, _)| *ix).collect()
    }

    /// The numbers of those that are awake.
    pub(super) fn awake(&self) -> Vec<StreamIx> {
        self.awake.iter().copied().collect()
    }

    /// Whether all are asleep.
    pub(super) fn are_asleep(&self) -> bool {
        self.awake.is_empty()
    }

    /// What a person sees of those that are asleep.
    pub(super) fn show_sleepers(&self) -> impl Iterator<Item = StreamSnapshot> {
        self.slots.iter().filter(|(ix, _)| !self.awake.contains(ix)).map(|(_, slot)| match slot {
            Slot::Whole(stream) => stream.show(),
            Slot::Parked(parked) => parked.show(),
        })
    }

    /// How many streams of each entry are asleep.
    pub(super) fn asleep(&self) -> &BTreeMap<EntryName, u64> {
        &self.asleep
    }

    /// Something happens to a stream.
    pub(super) fn wake(&mut self, ix: StreamIx) {
        let Some(slot) = self.slots.get(&ix).filter(|_| self.awake.insert(ix)) else { return };
        if let Some(count) = self.asleep.get_mut(slot.entry()) {
            *count -= 1;
            if *count == 0 {
                self.asleep.remove(slot.entry());
            }
        }
    }

    /// Nothing is to be done for a stream until it gets a turn again.
    pub(super) fn put_to_sleep(&mut self, ix: StreamIx) {
        let Some(slot) = self.slots.get_mut(&ix).filter(|_| self.awake.remove(&ix)) else { return };
        *self.asleep.entry(slot.entry().clone()).or_default() += 1;
        if let Slot::Whole(stream) = slot {
            stream.unsent.shrink_to_fit();
            if let Some(parked) = Parked::of(stream) {
                *slot = Slot::Parked(Box::new(parked));
            }
        }
    }
}

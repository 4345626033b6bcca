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
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tailmill_tail::StreamKey;

/// A stream's number on its shard.
pub(super) type StreamIx = u64;

/// Boxed: nodes of a tree are half empty.
enum Slot {
    Whole(Box<Stream>),
    /// Where it is parked. Invariant: asleep.
    Parked(usize),
}

/// All streams of a shard.
#[derive(Default)]
pub(super) struct Streams {
    next: StreamIx,
    slots: BTreeMap<StreamIx, Slot>,
    /// In one piece: between the thousands of whole streams that a first look makes, each would keep a page of memory.
    parked: Slab<Parked>,
    by_key: HashMap<StreamKey, StreamIx>,
    /// Those whose files came directly after that of the stream of this name. Invariant: it is there.
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
        if let Some(predecessor) = stream.predecessor.as_ref().filter(|key| self.by_key.contains_key(key)) {
            self.successors.entry(predecessor.clone()).or_default().push(self.next);
        }
        self.slots.insert(self.next, Slot::Whole(Box::new(stream)));
        self.awake.insert(self.next);
        self.next
    }

    /// Lets a stream go. Those behind it are behind the one that was before it from now on.
    pub(super) fn remove(&mut self, ix: StreamIx) -> Option<Stream> {
        self.wake(ix);
        self.awake.remove(&ix);
        let stream = match self.slots.remove(&ix)? {
            Slot::Whole(stream) => *stream,
            Slot::Parked(at) => self.unpark(at).wake(ix),
        };
        self.by_key.remove(&stream.key);
        let behind = self.successors.remove(&stream.key).unwrap_or_default();
        for other in &behind {
            if let Some(other) = self.get_mut(*other) {
                other.predecessor.clone_from(&stream.predecessor);
            }
        }
        if let Some(before) = &stream.predecessor {
            self.forget_successor(before, ix);
            if !behind.is_empty() && self.by_key.contains_key(before) {
                self.successors.entry(before.clone()).or_default().extend(behind);
            }
        }
        Some(stream)
    }

    fn unpark(&mut self, at: usize) -> Parked {
        let parked = self.parked.remove(at);
        if self.parked.is_empty() {
            self.parked.shrink_to_fit();
        }
        parked
    }

    fn entry_at<'a>(&'a self, slot: &'a Slot) -> &'a EntryName {
        match slot {
            Slot::Whole(stream) => stream.entry(),
            Slot::Parked(at) => self.parked[*at].entry(),
        }
    }

    fn forget_successor(&mut self, key: &StreamKey, ix: StreamIx) {
        if let Some(behind) = self.successors.get_mut(key) {
            behind.retain(|other| *other != ix);
            if behind.is_empty() {
                self.successors.remove(key);
            }
        }
    }

    /// By number. One that was parked is whole again; give it a turn, so that it can be parked once more.
    pub(super) fn get_mut(&mut self, ix: StreamIx) -> Option<&mut Stream> {
        if let Slot::Parked(at) = *self.slots.get(&ix)? {
            let whole = self.unpark(at).wake(ix);
            self.slots.insert(ix, Slot::Whole(Box::new(whole)));
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

    /// By number, to be changed; none that is parked.
    pub(super) fn get_whole(&mut self, ix: StreamIx) -> Option<&mut Stream> {
        match self.slots.get_mut(&ix)? {
            Slot::Whole(stream) => Some(stream),
            Slot::Parked(_) => None,
        }
    }

    /// By name.
    pub(super) fn find(&self, key: &StreamKey) -> Option<StreamIx> {
        self.by_key.get(key).copied()
    }

    /// The streams of the files that had a stream's path before its own, the last of them first.
    pub(super) fn ancestors(&self, ix: StreamIx) -> Vec<StreamIx> {
        let before = |ix: &StreamIx| self.find(self.get(*ix)?.predecessor.as_ref()?);
        std::iter::successors(before(&ix), before).collect()
    }

    /// The files before it have all come to their ends.
    pub(super) fn has_no_predecessor(&mut self, ix: StreamIx) {
        if let Some(before) = self.get_mut(ix).and_then(|stream| stream.predecessor.take()) {
            self.forget_successor(&before, ix);
        }
    }

    /// Streams whose files came directly after that of the stream of this name.
    pub(super) fn behind(&self, key: &StreamKey) -> Vec<StreamIx> {
        self.successors.get(key).cloned().unwrap_or_default()
    }

    /// Whether any stream came after another one that is still there.
    pub(super) fn has_successors(&self) -> bool {
        !self.successors.is_empty()
    }

    /// Streams that wait for the stream of this name, directly or behind others.
    pub(super) fn waiting_behind(&self, key: &StreamKey) -> Vec<StreamIx> {
        let (mut waiting, mut keys) = (Vec::new(), vec![key]);
        while let Some(key) = keys.pop() {
            for ix in self.successors.get(key).into_iter().flatten() {
                let Some(stream) = self.get(*ix) else { continue };
                keys.push(&stream.key);
                if !stream.waits_for.is_empty() {
                    waiting.push(*ix);
                }
            }
        }
        waiting
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
        self.slots.iter().filter(|(_, slot)| self.entry_at(slot) == entry).map(|(ix, _)| *ix).collect()
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
            Slot::Parked(at) => self.parked[*at].show(),
        })
    }

    /// How many streams of each entry are asleep.
    pub(super) fn asleep(&self) -> &BTreeMap<EntryName, u64> {
        &self.asleep
    }

    /// Something happens to a stream.
    pub(super) fn wake(&mut self, ix: StreamIx) {
        let Some(slot) = self.slots.get(&ix).filter(|_| self.awake.insert(ix)) else { return };
        let entry = self.entry_at(slot).clone();
        if let Some(count) = self.asleep.get_mut(&entry) {
            *count -= 1;
            if *count == 0 {
                self.asleep.remove(&entry);
            }
        }
    }

    /// Nothing is to be done for a stream until it gets a turn again.
    pub(super) fn put_to_sleep(&mut self, ix: StreamIx) {
        let Some(slot) = self.slots.get(&ix).filter(|_| self.awake.remove(&ix)) else { return };
        let entry = self.entry_at(slot).clone();
        *self.asleep.entry(entry).or_default() += 1;
        if let Some(Slot::Whole(stream)) = self.slots.get_mut(&ix) {
            stream.unsent.shrink_to_fit();
            if let Some(parked) = Parked::of(stream) {
                let at = self.parked.insert(parked);
                self.slots.insert(ix, Slot::Parked(at));
            }
        }
    }
}

//! Where a shard keeps its streams: a slab with a name index. A slot's number is never used again for another stream
//! while reports for it may come, because numbers only rise.

use super::stream::Stream;
use std::collections::{BTreeMap, HashMap};
use tailmill_tail::StreamKey;

/// A stream's number on its shard.
pub(super) type StreamIx = u64;

/// All streams of a shard.
#[derive(Default)]
pub(super) struct Streams {
    next: StreamIx,
    slots: BTreeMap<StreamIx, Stream>,
    by_key: HashMap<StreamKey, StreamIx>,
}

impl Streams {
    /// Takes a stream in.
    pub(super) fn insert(&mut self, make: impl FnOnce(StreamIx) -> Stream) -> StreamIx {
        self.next += 1;
        let stream = make(self.next);
        self.by_key.insert(stream.key.clone(), self.next);
        self.slots.insert(self.next, stream);
        self.next
    }

    /// Lets a stream go.
    pub(super) fn remove(&mut self, ix: StreamIx) -> Option<Stream> {
        let stream = self.slots.remove(&ix)?;
        self.by_key.remove(&stream.key);
        Some(stream)
    }

    /// By number.
    pub(super) fn get_mut(&mut self, ix: StreamIx) -> Option<&mut Stream> {
        self.slots.get_mut(&ix)
    }

    /// By number.
    pub(super) fn get(&self, ix: StreamIx) -> Option<&Stream> {
        self.slots.get(&ix)
    }

    /// By name.
    pub(super) fn find(&self, key: &StreamKey) -> Option<StreamIx> {
        self.by_key.get(key).copied()
    }

    /// All of them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamIx, &mut Stream)> {
        self.slots.iter_mut().map(|(ix, stream)| (*ix, stream))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamIx, &Stream)> {
        self.slots.iter().map(|(ix, stream)| (*ix, stream))
    }
}

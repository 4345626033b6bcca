//! How many compressed files are unpacked at once: each one that is open in the middle holds the window of its format, up
//! to 128 MiB of zstd. One for each shard; its owner decides who may ask (its streams wait in turn).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Hands out so many unpackers at most. Clones share them.
#[derive(Clone, Debug)]
pub struct Unpackers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    busy: AtomicUsize,
    open: AtomicBool,
}

/// Leave to unpack one file, until it is dropped.
#[derive(Debug)]
pub(crate) struct Leave(Unpackers);

impl Unpackers {
    /// At most `max` at once.
    pub fn new(max: usize) -> Unpackers {
        Unpackers(Arc::new(Inner { max, busy: AtomicUsize::new(0), open: AtomicBool::new(true) }))
    }

    /// How many more may begin.
    pub fn room(&self) -> usize {
        self.0.max.saturating_sub(self.0.busy.load(Ordering::Relaxed))
    }

    /// Whether those who ask from now on get one while there is room: false as long as others go before them.
    pub fn let_in(&self, open: bool) {
        self.0.open.store(open, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Option<Leave> {
        if !self.0.open.load(Ordering::Relaxed) {
            return None;
        }
        let more = |busy: usize| (busy < self.0.max).then_some(busy + 1);
        self.0.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Leave(self.clone()))
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

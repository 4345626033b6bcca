//! What the workbench needs of an engine and an agent does not: a clock for guests that its owner moves, and a count of what
//! was executed. Both make a run repeatable to the last digit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a store is given before each call; what is left after it was not used.
pub(crate) const FUEL: u64 = u64::MAX / 2;

/// The time that guests are told. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct GuestClock(Arc<AtomicU64>);

impl GuestClock {
    /// Stands still at this many nanoseconds since the Unix epoch.
    pub fn at_ns(ns: u64) -> GuestClock {
        GuestClock(Arc::new(AtomicU64::new(ns)))
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves it.
    pub fn set_ns(&self, ns: u64) {
        self.0.store(ns, Ordering::Relaxed);
    }
}

/// What was counted since the engine was made, over all instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Wasm instructions that guests executed, as wasmtime counts them (its fuel): the same for the same work on every machine.
    pub instructions: u64,
    /// Lines that never entered wasm because they hold none of the filter's needles.
    pub skipped_lines: u64,
}

/// The counters behind [`Counted`].
#[derive(Debug, Default)]
pub(crate) struct Tally {
    instructions: AtomicU64,
    skipped_lines: AtomicU64,
}

impl Tally {
    pub(crate) fn fuel_left(&self, left: u64) {
        self.instructions.fetch_add(FUEL.saturating_sub(left), Ordering::Relaxed);
    }

    pub(crate) fn skipped(&self, lines: usize) {
        self.skipped_lines.fetch_add(lines as u64, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self) -> Counted {
        Counted {
            instructions: self.instructions.load(Ordering::Relaxed),
            skipped_lines: self.skipped_lines.load(Ordering::Relaxed),
        }
    }
}

/// Both, where an engine has them.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub(crate) clock: Option<GuestClock>,
    pub(crate) tally: Option<Tally>,
}

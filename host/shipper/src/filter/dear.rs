//! Whether an armed chain is dear: its calls take so long that each would hold up the other streams of a shard.
//!
//! In: how long the longest call of a slice took, on any shard, and how long the filters took to start when they were
//! armed. Out: a flag that a shard looks at once a turn. A new plan is a new armed chain, which is not dear until it
//! was seen to be.
//!
//! ```text
//!            a call of DEAR_CALL or more             CALM_SLICES slices in a row below CALM_CALL
//!   cheap ────────────────────────────────> dear ───────────────────────────────────────────────> cheap
//!                    a start of DEAR_CALL or more: dear for good
//! ```

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// A call that takes so long is dear: twice what a turn may take.
pub const DEAR_CALL: Duration = Duration::from_millis(20);

/// Far below the other bound, so that a chain does not go to and fro.
const CALM_CALL: Duration = Duration::from_millis(5);

/// Slices in a row that prove it.
const CALM_SLICES: u32 = 256;

/// Each start of an instance costs as much, whatever the calls cost.
const FOR_GOOD: u32 = u32::MAX;

/// See the module. Shards share it; the order in which they see each other's changes does not matter.
#[derive(Debug)]
pub struct Dearness {
    /// Calm slices that are still to come. 0: it is not dear.
    left: AtomicU32,
    /// Lines of a batch that fitted lately.
    lines: AtomicUsize,
}

/// What a slice changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// Its calls go where they hold up nobody, from now on.
    Dear,
    /// It was calm for long.
    Cheap,
}

impl Dearness {
    /// Of filters of which the slowest took so long to start.
    pub fn starting_in(longest_start: Duration) -> Dearness {
        let left = if longest_start >= DEAR_CALL { FOR_GOOD } else { 0 };
        Dearness { left: AtomicU32::new(left), lines: AtomicUsize::new(usize::MAX) }
    }

    /// Whether it is.
    pub fn is_dear(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// The longest call of a slice took so long.
    pub fn saw(&self, longest_call: Duration) -> Option<Turned> {
        let before = self.left.load(Ordering::Relaxed);
        let after = match before {
            FOR_GOOD => FOR_GOOD,
            // No filter was asked: its breaker is open.
            left if longest_call.is_zero() => left,
            _ if longest_call >= DEAR_CALL => CALM_SLICES,
            0 => 0,
            _ if longest_call >= CALM_CALL => CALM_SLICES,
            left => left - 1,
        };
        if after == before {
            return None;
        }
        self.left.store(after, Ordering::Relaxed);
        match (before, after) {
            (0, _) => Some(Turned::Dear),
            (_, 0) => Some(Turned::Cheap),
            _ => None,
        }
    }

    /// So many lines make a call that is short enough.
    pub fn fits(&self, lines: usize) {
        self.lines.store(lines, Ordering::Relaxed);
    }

    /// What the first batch of a stream may have at the most: no more than fitted other streams.
    pub fn first_lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }
}

/// What this thread used of a CPU: on a busy machine a call takes long on the clock without being dear.
pub fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Duration = Duration::from_micros(4_999);
    const BETWEEN: Duration = Duration::from_micros(19_999);

    #[test]
    fn one_dear_call_is_enough_and_it_takes_long_calm_to_be_cheap_again() {
        let dearness = Dearness::starting_in(BETWEEN);
        assert_eq!((dearness.saw(BETWEEN), dearness.is_dear()), (None, false));
        assert_eq!((dearness.saw(DEAR_CALL), dearness.is_dear()), (Some(Turned::Dear), true));
        for upset in [BETWEEN, DEAR_CALL] {
            (1..CALM_SLICES).for_each(|_| assert_eq!(dearness.saw(CALM), None));
            assert_eq!(dearness.saw(upset), None, "it begins anew");
        }
        (1..CALM_SLICES).for_each(|_| assert_eq!((dearness.saw(CALM), dearness.is_dear()), (None, true)));
        assert_eq!((dearness.saw(CALM), dearness.is_dear()), (Some(Turned::Cheap), false));
        assert_eq!(dearness.saw(CALM), None);
    }

    #[test]
    fn slices_without_a_call_prove_nothing() {
        let dearness = Dearness::starting_in(Duration::ZERO);
        dearness.saw(DEAR_CALL);
        (0..2 * CALM_SLICES).for_each(|_| assert_eq!(dearness.saw(Duration::ZERO), None));
        assert!(dearness.is_dear());
    }

    #[test]
    fn filters_that_take_long_to_start_are_dear_for_good() {
        let dearness = Dearness::starting_in(DEAR_CALL);
        (0..2 * CALM_SLICES).for_each(|_| assert_eq!(dearness.saw(CALM), None));
        assert_eq!((dearness.saw(DEAR_CALL), dearness.is_dear()), (None, true));
    }

    #[test]
    fn what_fitted_one_stream_is_where_the_next_begins() {
        let dearness = Dearness::starting_in(Duration::ZERO);
        assert_eq!(dearness.first_lines(), usize::MAX);
        dearness.fits(16);
        assert_eq!(dearness.first_lines(), 16);
    }
}

//! What a shard wants of a chain that calls its filters: done on the spot, or on the lane when such calls are dear.
//!
//! Both ways are the same function; it also says how long the longest call took.

use crate::checkpoint::StageSnapshot;
use crate::filter::{ArmedChain, Chain, DEAR_CALL, RestWhy, SharedInstances, Step, thread_cpu_time};
use crate::observe::EntryLedger;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_engine::Fault;

/// What is to be done.
pub(super) enum Errand {
    /// A slice of the work that is in it.
    Step,
    /// It is to run other filters.
    Swap(Arc<ArmedChain>),
    /// Its state is to be saved.
    Save,
    /// Its instances are to be put to rest.
    Rest(RestWhy),
}

/// What came of it.
pub(super) enum Came {
    Stepped(Step),
    Swapped(Arc<ArmedChain>, Result<(), Fault>),
    Saved(Result<Option<Vec<StageSnapshot>>, Fault>),
    Rested,
}

impl Errand {
    /// Does it; a step ends at `until`, after one call at least. Also says how long the longest call took.
    pub(super) fn run(
        self,
        chain: &mut Chain,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
        until: Instant,
    ) -> (Came, Duration) {
        // A chain without filters costs nothing, and is not asked what it costs.
        let is_bare = matches!(self, Errand::Step) && chain.armed().digests().next().is_none();
        let begun = (!is_bare).then(thread_cpu_time);
        let used = || begun.map_or(Duration::ZERO, |begun| thread_cpu_time().saturating_sub(begun));
        match self {
            Errand::Step => {
                let step = chain.step(shared, ledger, until);
                let longest = chain.take_longest_call();
                // On a busy machine a call takes long on the clock without being dear.
                let longest = if longest < DEAR_CALL { longest } else { longest.min(used()) };
                (Came::Stepped(step), longest)
            }
            Errand::Swap(armed) => {
                let swapped = chain.swap(armed.clone(), shared, ledger);
                (Came::Swapped(armed, swapped), used())
            }
            Errand::Save => {
                let saved = chain.snapshot(ledger);
                (Came::Saved(saved), used())
            }
            Errand::Rest(why) => {
                chain.rest(ledger, Instant::now(), why);
                (Came::Rested, used())
            }
        }
    }
}

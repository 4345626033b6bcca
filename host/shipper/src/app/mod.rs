//! Wires all rooms and owns the order of start and stop.
//!
//! Start: state directory (lock, store) → engine → commit thread → cluster threads → shards → conductor → control plane
//! (configuration, admin port). Stop is the other way round from the conductor on: it stops discovery, tells the shards
//! to drain, waits for them until the deadline; then the commit thread writes the last marks; then the rest goes.
//! Threads and tasks are spawned here and nowhere else.

mod conductor; // plans and file events to shard commands
mod run; // the daemon: start, wait for a signal, stop
mod judge; // modules judged without an agent
mod memory; // what a burst needed goes back to the system
mod workshop; // the filter room without an agent
mod start; // everything up, in order; and down again

pub use judge::{Judge, problems_at_first_start};
pub use run::{RunOptions, run};
pub use start::{PlanSource, Running, StopOutcome, start};
pub use workshop::Workshop;

//! The filter room: a batch of lines in; records, dropped lines and held lines out.
//!
//! A stream owns a [`Chain`]: work is put in (`offer` a batch, `tick`, `flush`), `step` does it in slices, and what it
//! came to is an [`Answered`]. Instances of stateless filters are shared by the streams of a shard
//! ([`SharedInstances`]); modules are loaded once by the [`Armory`]. A filter that fails costs the stream its instance
//! and at most the guilty line, by the entry's policy; never a line more, and never another stream.
//! This room touches neither disk nor network, and it does not log or count on its own: it fills the entry's ledger.
//!
//! In reading order:

mod answered; // what work came to
mod armory; // modules, loaded once
mod guest; // the seam to the engine
mod chain; // the chain of one stream: work in, answers out
mod run; // one piece of work through one stage; faults and the guilty line
mod stage; // one place of a chain: instance, numbers, held lines
mod revive; // from a fault back to an instance
mod origins; // from numbers back to the file
mod backlog; // input lines that a stateful stage may need again
mod pieces; // cutting, masking and rewriting sets of lines
mod extras; // keys, topics, timestamps and headers through a chain
mod shared; // instances of stateless filters
mod breaker; // a filter that fails too often is left alone for a while
mod rest; // instances with nothing to do, and those that have grown
mod bypass; // what a chain does meanwhile
mod pairing; // which filter follows which
mod swap; // a new plan in a running chain
mod resume; // snapshots, going on from one, starting over
mod window; // the loss equation: which input lines have no end yet
mod finish; // the end of a chain: few sets, little pinned memory
mod meter; // the cost ledger
mod dear; // calls that would hold up a shard

#[cfg(test)]
pub(crate) mod tests;

pub use answered::{Answered, DeadLetter, StageEvent, Step, What};
pub use armory::{ArmedChain, Armory};
pub use chain::{Chain, StreamFacts};
pub use dear::{DEAR_CALL, Dearness, Turned, thread_cpu_time};
pub use rest::RestWhy;
pub use shared::SharedInstances;

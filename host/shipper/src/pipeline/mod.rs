//! Shards and streams: read, filter, deliver, mark.
//!
//! A shard is one thread that owns its streams and takes one batch of one of them through read, filter chain and
//! producer to the end, then the next; nothing is queued and nothing is locked between these steps. In: commands
//! (open this file, the plan of this entry changed, close, stop). Out: reports to the conductor and marks to the commit
//! thread. This room decides what an acknowledgement or a failure means for a stream's progress; it never opens files
//! by itself and never knows where plans come from.
//!
//! In reading order:

mod account; // a stream's counts in its entry's ledger
mod away; // chains of dear filters leave and return
mod budget; // how much may be in flight
mod command; // what is said to a shard and what it says back
mod descriptor; // closed while idle, let go when the disk needs it
mod ending; // finished, closed, truncated, stopped
mod errand; // what a shard wants of a chain
mod events; // what filters said, to the log
mod goes_on; // a record that is open at the end of a file, and the next file
mod lively; // never too many instances of filters
mod housekeeping; // marks to the store, counts to the board
mod lane; // a second thread for chains whose calls are dear
mod line_numbers; // which line of its file a record came from
mod lineage; // the order of files that had the same path
mod outgoing; // from an answer to parcels
mod parcels; // which stream a report belongs to
mod parked; // a stream that sleeps, in few bytes
mod recovery; // records that Kafka refused
mod said; // how often the log says that a filter failed
mod schedule; // whose turn it is
mod seat; // where a stream's chain is
mod services; // what a shard lends its streams
mod shard; // the thread: commands, turns, reports, timers
mod step_over; // lines that a person decided to leave out
mod opening; // a file becomes a stream
mod stream; // one file of one entry on its way
mod streams; // where a shard keeps its streams
mod turn; // one turn of a stream

pub use command::{Opening, ShardCommand, ShardReport, StopSummary};
pub use lane::{LaneWorker, StartLane};
pub use services::{ClusterLink, ShardSettings};
pub use shard::{Shard, ShardLinks};

#[cfg(test)]
mod tests;

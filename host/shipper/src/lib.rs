//! Tailmill, the daemon and its command line.
//!
//! In the order in which data passes the rooms:

pub mod model; // shared vocabulary: entry, plan, record set
pub mod config; // etcd and files to a Plan
pub mod filter; // batch to records, through the engine
pub mod pipeline; // shards and streams: read, filter, deliver, mark
pub mod deliver; // records to acknowledgements
pub mod checkpoint; // tickets, marks, the store
pub mod observe; // counters, metrics, status, logs (a leaf)
pub mod app; // wires all rooms, owns start and stop order
pub mod fleet; // the operator's side of etcd
pub mod cli; // the outermost room

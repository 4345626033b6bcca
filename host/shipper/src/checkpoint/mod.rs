//! How far each stream has come, for good: tickets, marks, the store.
//!
//! In: tickets issued and settled, saved filter states. Out: resume points, and a store that has them after any crash.
//! This room never reads a log file and never knows Kafka: what an acknowledgement is, its callers say.
//!
//! In reading order:

mod committer; // the body of the commit thread: groups records, commits, retries
mod frame; // one record as bytes that can be found again in a damaged file
mod lock; // one agent per state directory
mod records; // what is kept of a stream
mod repair; // what can be read of a damaged store goes to a new one
mod store; // redb: records by (entry, file)
mod tickets; // progress of one stream: floors, mark, snapshots

pub use committer::{CommitMessage, Committer, MarkStore, StoreHealth};
pub use lock::StateLock;
pub use records::{ResumePoint, STATE_BYTES_MAX, StageSnapshot, SteppedOver, StreamRecord};
pub use repair::{Repaired, repair};
pub use store::{Changes, FORMAT_VERSION, Store, StoreError};
pub use tickets::{Progress, Ticket};

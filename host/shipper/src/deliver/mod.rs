//! Records to Kafka, and what became of each: acknowledged or failed.
//!
//! In: parcels (a set of records, where they go, a tag). Out: one report a parcel, when its last record is reported. This
//! room never decides what a failure means for progress, and never blocks a shard: what takes a network round trip
//! happens on librdkafka's threads or on the metadata thread.
//!
//! In reading order:

mod parcel; // what goes in and what comes back
mod refusal; // error codes to what a caller can do
mod producer; // one a (shard, cluster): enqueues, keeps order, collects reports
mod run; // records in the portions in which librdkafka gets them
mod ffi; // the unsafe part: librdkafka without copies
mod partition; // which partition a record goes to
mod headers; // headers that every record gets
mod envelope; // records as JSON objects
mod trouble; // what is wrong with a cluster, until it healed
mod topics; // partition counts, kept fresh by a thread of its own
mod settings; // cluster plan to librdkafka's configuration

pub use envelope::json_envelope;
pub use headers::{HeaderSource, numbers};
pub use parcel::{Parcel, PartitionChoice, Report};
pub use partition::stream_partition;
pub use producer::{Producer, RECORD_OVERHEAD_BYTES};
pub use refusal::{Refusal, RefusalKind};
pub use topics::{TopicDirectory, TopicState};

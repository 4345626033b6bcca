//! What goes into a producer and what comes back.

use std::sync::Arc;

use super::headers::HeaderSource;
use super::refusal::Refusal;
use crate::model::RecordSet;

/// Records that go out together, and where to.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The records. Their order within a partition is kept, also from parcel to parcel.
    pub set: RecordSet,
    /// Topics, indexed by the set's `extras.topics`; 0 for records without one. Never empty.
    pub topics: Vec<Arc<str>>,
    /// How each record's partition is chosen.
    pub partition: PartitionChoice,
    /// Key of records for which the set has none.
    pub key: Option<Arc<[u8]>>,
    /// Headers that every record gets, beside those in the set. Records with headers or timestamps take a slower way.
    pub headers: Vec<HeaderSource>,
    /// Number of the first record among those of its line: above 0 when earlier ones were sent before, in another parcel.
    pub first_number: u32,
    /// Milliseconds since the Unix epoch, for records for which the set says nothing; `None`: the moment of sending.
    pub timestamp_ms: Option<i64>,
    /// Comes back in the report.
    pub tag: u64,
}

/// How a record's partition is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionChoice {
    /// One number for each of the parcel's topics.
    PerTopic(Vec<i32>),
    /// This number in every topic. A record for a topic that has no such partition fails.
    Number(i32),
    /// By the record's key as the Java client does; records without one go to one partition picked at random.
    Key,
    /// In turn.
    RoundRobin,
    /// All to one partition picked at random.
    Random,
}

/// What became of a parcel: comes once, when its last record is reported.
#[derive(Clone, Debug)]
pub struct Report {
    /// The parcel's.
    pub tag: u64,
    /// The parcel's records, handed back.
    pub set: RecordSet,
    /// How many records Kafka acknowledged.
    pub acked: u32,
    /// The others, by their index in the set, in rising order. A record in this list may still have been written: only an
    /// acknowledgement says more than "not known".
    pub failed: Vec<(u32, Refusal)>,
}

//! The vocabulary that rooms share. Plain data: no I/O, no room's logic.

mod account;
pub mod kafka_properties; // what a cluster may set
pub mod exit; // exit codes
mod plan;
mod records;

pub use account::LineCount;
pub use plan::{
    BreakerPlan, BreakerThen, ClusterPlan, Delivery, EntryName, EntryPlan, FilterPlan, Format, HeaderKind, HeldPlan,
    KeySource, ModuleFile, OnError, OnRefused, Origin, Partitioning, Plan, Problem,
};
pub use records::{Extras, HOSTS_TIME, RecordSet};

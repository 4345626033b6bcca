//! The operator's side of etcd: modules, entries, rollouts and nodes, for a whole fleet.
//!
//! In: what a person asked for. Out: transactions, and what lies in etcd, as plain data. Nothing is written by halves: what a
//! command changes is one transaction, guarded by everything that it was decided on, and a command that lost the race looks
//! again. This room must never be part of a running agent, print anything, or write what an agent's own parser refuses.

mod desk; // a client that tries again
pub(crate) mod entries; // entries and their history
pub(crate) mod gc; // blobs that nothing refers to
pub(crate) mod import; // classic settings to entries
pub(crate) mod modules; // releases
pub(crate) mod nodes; // what agents say of themselves
pub(crate) mod rollout; // releases on trial

pub(crate) use desk::{Desk, FleetError, Guard, Write};

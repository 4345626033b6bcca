//! What a fleet is told of one agent: `nodes/NODE` in etcd. Made from a status; pure.
//!
//! A few kilobytes, whatever the agent ships: files are left out, problems and entries are bounded. Fields are added, never
//! renamed or removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Problem;
use crate::observe::status::{EntryStatus, ErrorStatus, FilterStatus, HealthStatus, LossStatus, RateStatus, Status};

/// Problems that are told; more are counted.
const PROBLEMS_MAX: usize = 50;
/// Entries that are told.
const ENTRIES_MAX: usize = 1_000;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// As of [`Status`].
    pub schema: u32,
    /// Its name.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// What entries select it by.
    pub labels: BTreeMap<String, String>,
    /// When the agent started.
    pub started_ms: i64,
    /// When the document was made.
    pub at_ms: i64,
    /// etcd's revision that the plan in force was made of.
    pub revision: i64,
    /// Whether all that it depends on is well and nothing is refused.
    pub ready: bool,
    /// What it refuses and why; the last good form of it is in force.
    pub problems: Vec<Problem>,
    /// How many more.
    pub problems_untold: u64,
    /// What it depends on and is in trouble.
    pub troubles: Vec<HealthStatus>,
    /// Entries in force.
    pub entries: Vec<NodeEntry>,
}

/// One entry on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeEntry {
    /// Its name.
    pub name: String,
    /// Where it was written.
    pub origin: String,
    /// `blocked`, `waiting` or `working`.
    pub state: String,
    /// Open files.
    pub streams: u64,
    /// Bytes behind the marks.
    pub lag_bytes: u64,
    /// How long the oldest of these has waited.
    pub lag_ms: u64,
    /// How fast.
    pub rates: RateStatus,
    /// Where every line went.
    pub loss: LossStatus,
    /// The newest error.
    pub last_error: Option<ErrorStatus>,
    /// Digests of the chain in force, in order.
    pub modules: Vec<String>,
    /// What each module has done since the agent started; also those that stood there before.
    pub filters: Vec<NodeFilter>,
}

/// One module in an entry's chain on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFilter {
    /// Its name.
    pub name: String,
    /// Digest of the module.
    pub digest: String,
    /// Lines offered.
    pub lines_in: u64,
    /// Lines dropped.
    pub dropped: u64,
    /// Failed calls.
    pub faults: u64,
    /// Time spent in calls.
    pub busy_ns: u64,
    /// Times that its breaker opened.
    pub breaker_opened: u64,
}

impl NodeStatus {
    /// The document for this status of a node with these labels, at this revision.
    pub fn of(status: Status, labels: BTreeMap<String, String>, revision: i64) -> NodeStatus {
        let mut problems = status.plan.map(|plan| plan.problems).unwrap_or_default();
        let problems_untold = problems.len().saturating_sub(PROBLEMS_MAX) as u64;
        problems.truncate(PROBLEMS_MAX);
        let entries = status.entries.into_iter().filter(|entry| entry.in_plan).take(ENTRIES_MAX);
        NodeStatus {
            schema: status.schema,
            node: status.node,
            version: status.version,
            labels,
            started_ms: status.started_ms,
            at_ms: status.now_ms,
            revision,
            ready: status.ready,
            problems,
            problems_untold,
            troubles: status.health.into_iter().filter(|part| !part.ok).collect(),
            entries: entries.map(entry).collect(),
        }
    }

    /// What must be told at once when it changes; counters and rates are not.
    pub fn material(&self) -> NodeStatus {
        let entry = |entry: &NodeEntry| NodeEntry {
            name: entry.name.clone(),
            origin: entry.origin.clone(),
            state: entry.state.clone(),
            modules: entry.modules.clone(),
            filters: entry.filters.iter().map(faults).collect(),
            ..NodeEntry::default()
        };
        let entries = self.entries.iter().map(entry).collect();
        NodeStatus { at_ms: 0, entries, ..self.clone() }
    }
}

/// Only what is worth a word at once.
fn faults(filter: &NodeFilter) -> NodeFilter {
    let NodeFilter { name, digest, faults, breaker_opened, .. } = filter.clone();
    NodeFilter { name, digest, faults, breaker_opened, ..NodeFilter::default() }
}

fn entry(entry: EntryStatus) -> NodeEntry {
    let state = match (entry.blocked_streams, entry.waiting_streams) {
        (1.., _) => "blocked",
        (0, 1..) => "waiting",
        (0, 0) => "working",
    };
    NodeEntry {
        name: entry.name,
        origin: entry.origin,
        state: state.to_owned(),
        streams: entry.streams,
        lag_bytes: entry.lag_bytes,
        lag_ms: entry.lag_ms,
        rates: entry.rates,
        loss: entry.loss,
        last_error: entry.last_error,
        modules: entry.modules,
        filters: entry.filters.into_iter().map(filter).collect(),
    }
}

fn filter(filter: FilterStatus) -> NodeFilter {
    NodeFilter {
        name: filter.name,
        digest: filter.digest,
        lines_in: filter.lines_in,
        dropped: filter.dropped,
        faults: filter.faults.values().sum(),
        busy_ns: filter.busy_ns,
        breaker_opened: filter.breaker_opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::PlanStatus;

    fn status() -> Status {
        let filter =
            FilterStatus { digest: "d".to_owned(), faults: [("trap".to_owned(), 2)].into(), ..Default::default() };
        let entry = EntryStatus {
            name: "web".to_owned(),
            in_plan: true,
            blocked_streams: 1,
            modules: vec!["d".to_owned()],
            filters: vec![filter],
            ..Default::default()
        };
        let gone = EntryStatus { name: "gone".to_owned(), ..Default::default() };
        Status { node: "n".to_owned(), entries: vec![entry, gone], ..Default::default() }
    }

    #[test]
    fn it_tells_what_is_in_force_and_no_more_than_a_bounded_part_of_what_is_wrong() {
        let problem = |i: usize| Problem { source: i.to_string(), key: String::new(), reason: String::new() };
        let plan = PlanStatus { revision: 1, problems: (0..70).map(problem).collect() };
        let node = NodeStatus::of(Status { plan: Some(plan), ..status() }, BTreeMap::new(), 7);
        assert_eq!((node.problems.len(), node.problems_untold, node.revision), (PROBLEMS_MAX, 20, 7));
        assert_eq!(node.entries.len(), 1, "what is not in the plan is not told");
        assert_eq!((node.entries[0].state.as_str(), node.entries[0].filters[0].faults), ("blocked", 2));
    }

    #[test]
    fn counters_alone_are_not_worth_a_word_and_states_are() {
        let node = |change: &dyn Fn(&mut Status)| {
            let mut status = status();
            change(&mut status);
            NodeStatus::of(status, BTreeMap::new(), 7).material()
        };
        let before = node(&|_| ());
        assert_eq!(before, node(&|status| status.now_ms = 5));
        assert_eq!(before, node(&|status| status.entries[0].lag_bytes = 5));
        assert_eq!(before, node(&|status| status.entries[0].filters[0].lines_in = 5));
        assert_ne!(before, node(&|status| status.entries[0].blocked_streams = 0));
        let faulted = node(&|status| {
            status.entries[0].filters[0].faults.insert("trap".to_owned(), 3);
        });
        assert_ne!(before, faulted);
    }
}

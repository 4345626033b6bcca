//! The nodes of a fleet: what each says of itself, and who is behind, refuses something or is gone.

use std::collections::BTreeMap;

use super::{Desk, FleetError, Write};
use crate::observe::NodeStatus;

/// All nodes as of now.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// The last change to entries and modules: what a node must have seen.
    pub(crate) revision: i64,
    /// Nodes that live, by name; an error is why what it wrote cannot be read.
    pub(crate) nodes: BTreeMap<String, Result<NodeStatus, String>>,
    /// Nodes that were here and are not any more, with the time of their last start.
    pub(crate) gone: BTreeMap<String, i64>,
}

/// How a node is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Not heard for longer than its lease.
    Gone,
    /// What it wrote makes no sense.
    Unreadable,
    /// Something is in trouble: a stream is blocked, a cluster does not answer.
    Trouble,
    /// It keeps the last good form of something.
    Refuses,
    /// It has not taken the last change yet.
    Behind,
    /// All is well.
    Ok,
}

impl State {
    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Gone => "gone",
            State::Unreadable => "unreadable",
            State::Trouble => "trouble",
            State::Refuses => "refuses",
            State::Behind => "behind",
            State::Ok => "ok",
        }
    }
}

impl Fleet {
    /// How this node is.
    pub(crate) fn state(&self, node: &Result<NodeStatus, String>) -> State {
        match node {
            Err(_) => State::Unreadable,
            Ok(node) if !node.troubles.is_empty() || node.entries.iter().any(|entry| entry.state == "blocked") => {
                State::Trouble
            }
            Ok(node) if !node.problems.is_empty() => State::Refuses,
            Ok(node) if node.revision < self.revision => State::Behind,
            Ok(_) => State::Ok,
        }
    }
}

/// Reads the whole fleet.
pub(crate) async fn fleet(desk: &mut Desk) -> Result<Fleet, FleetError> {
    let mut fleet = Fleet::default();
    // What was removed leaves no key behind, but a line in its history.
    for folder in ["entries/", "modules/", "history/", "steps/"] {
        fleet.revision = fleet.revision.max(desk.newest(folder).await?);
    }
    let prefix = desk.prefix().to_owned();
    for pair in &desk.folder("nodes/").await?.pairs {
        let key = String::from_utf8_lossy(pair.key()).into_owned();
        let name = key.strip_prefix(&format!("{prefix}nodes/")).unwrap_or_default().to_owned();
        let status = serde_json::from_slice::<NodeStatus>(pair.value());
        let status = status.map_err(|error| format!("{key} is no status of a node: {error}"));
        fleet.nodes.insert(name, status);
    }
    for pair in &desk.folder("seen/").await?.pairs {
        let key = String::from_utf8_lossy(pair.key()).into_owned();
        let name = key.strip_prefix(&format!("{prefix}seen/")).unwrap_or_default();
        if !fleet.nodes.contains_key(name) {
            let seen: serde_json::Value = serde_json::from_slice(pair.value()).unwrap_or_default();
            fleet.gone.insert(name.to_owned(), seen["started_ms"].as_i64().unwrap_or_default());
        }
    }
    Ok(fleet)
}

/// Forgets a node that is gone for good.
pub(crate) async fn forget(desk: &mut Desk, node: &str) -> Result<(), FleetError> {
    let prefix = desk.prefix().to_owned();
    if desk.get(&format!("{prefix}nodes/{node}")).await?.one().is_some() {
        return Err(FleetError::refused(format!("{node} lives: stop its agent first")));
    }
    if desk.get(&format!("{prefix}seen/{node}")).await?.one().is_none() {
        return Err(FleetError::refused(format!("there was never a node `{node}`")));
    }
    desk.commit(&[], &[Write::Delete(format!("{prefix}seen/{node}"))]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Problem;
    use crate::observe::status::HealthStatus;

    #[test]
    fn the_worst_that_is_known_of_a_node_is_its_state() {
        let fleet = Fleet { revision: 9, ..Fleet::default() };
        let check = |change: &dyn Fn(&mut NodeStatus), expected: State| {
            let mut node = NodeStatus { revision: 9, ..NodeStatus::default() };
            change(&mut node);
            assert_eq!(fleet.state(&Ok(node)), expected);
        };
        let problem = Problem { source: "s".to_owned(), key: String::new(), reason: "r".to_owned() };
        check(&|_| (), State::Ok);
        check(&|node| node.revision = 8, State::Behind);
        check(&|node| (node.revision, node.problems) = (8, vec![problem.clone()]), State::Refuses);
        check(
            &|node| (node.problems, node.troubles) = (vec![problem.clone()], vec![HealthStatus::default()]),
            State::Trouble,
        );
        assert_eq!(fleet.state(&Err("?".to_owned())), State::Unreadable);
    }
}

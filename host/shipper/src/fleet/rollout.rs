//! Rollouts: a release on trial, judged by what nodes say of it, promoted step by step or taken back.
//!
//! Nodes decide by themselves whether they are in the trial (a hash of their name, or labels), so a promotion is one write to
//! one key. Who judges is whoever runs `rollout watch`; what does not even start is refused by each agent alone, whoever watches.
//! Each step is noted with its reason in the transaction that takes it.

use std::collections::BTreeMap;

use serde::Serialize;
use tailmill_engine::Digest;

use super::modules::{library, noted};
use super::nodes::Fleet;
use super::{Desk, FleetError};
use crate::config::depot::{Canary, FORMAT, InForce, Share, Thresholds, is_canary};
use crate::observe::{NodeFilter, NodeStatus};

/// Races that are lost before it is given up.
const ROUNDS: usize = 10;

/// What the nodes of one side have done with their release.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Side {
    pub(crate) version: String,
    /// Nodes that should run it.
    pub(crate) nodes: usize,
    /// Nodes that do.
    pub(crate) running: usize,
    pub(crate) lines: u64,
    pub(crate) dropped: u64,
    pub(crate) faults: u64,
    pub(crate) busy_ns: u64,
}

/// A trial as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Trial {
    pub(crate) share: Share,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) since_ms: i64,
    pub(crate) canary: Side,
    pub(crate) others: Side,
    /// Nodes of the trial that refuse the release, and what they say.
    pub(crate) refusals: BTreeMap<String, String>,
    /// Why it should be taken back; empty: nothing speaks against it.
    pub(crate) verdict: Vec<String>,
    /// Whether the trial has seen enough lines to be judged.
    pub(crate) is_judged: bool,
}

impl Side {
    fn add(&mut self, filters: &[&NodeFilter]) {
        for filter in filters {
            self.lines += filter.lines_in;
            self.dropped += filter.dropped;
            self.faults += filter.faults;
            self.busy_ns += filter.busy_ns;
        }
    }

    fn per_line(&self, count: u64) -> f64 {
        if self.lines == 0 { 0.0 } else { count as f64 / self.lines as f64 }
    }
}

/// Compares both sides of the trial of this record, which was written at this revision.
pub(crate) fn judge(record: &InForce, written_at: i64, fleet: &Fleet) -> Option<Trial> {
    let canary = record.canary.as_ref()?;
    let mut trial =
        Trial { share: canary.share, labels: canary.labels.clone(), since_ms: canary.since_ms, ..Trial::default() };
    trial.canary.version.clone_from(&canary.release.version);
    trial.others.version.clone_from(&record.release.version);
    let (new, old) = (canary.release.digest.to_string(), record.release.digest.to_string());
    for node in fleet.nodes.values().flatten() {
        let uses = |digest: &str| node.entries.iter().any(|entry| entry.modules.iter().any(|module| module == digest));
        let (has_new, has_old) = (uses(&new), uses(&old));
        if !has_new && !has_old {
            continue;
        }
        let of = |digest: &str| -> Vec<&NodeFilter> {
            node.entries.iter().flat_map(|entry| &entry.filters).filter(|filter| filter.digest == digest).collect()
        };
        if is_canary(&record.release.name, canary, &node.node, &node.labels) {
            trial.canary.nodes += 1;
            trial.canary.running += usize::from(has_new);
            trial.canary.add(&of(&new));
            if has_old && node.revision >= written_at {
                trial.refusals.extend(refusal(node, &record.release.name));
            }
        } else {
            trial.others.nodes += 1;
            trial.others.running += usize::from(has_old);
            trial.others.add(&of(&old));
        }
    }
    weigh(&mut trial, &canary.thresholds);
    Some(trial)
}

/// What a node says against the release that it should run and does not.
fn refusal(node: &NodeStatus, module: &str) -> Option<(String, String)> {
    let fetching = |reason: &str| reason.ends_with(crate::config::depot::FETCHING);
    let about = node.problems.iter().find(|problem| problem.key.starts_with("filters[") && !fetching(&problem.reason));
    about.map(|problem| (node.node.clone(), format!("{module}: {problem}")))
}

fn weigh(trial: &mut Trial, limits: &Thresholds) {
    for (node, why) in &trial.refusals {
        trial.verdict.push(format!("{node} refuses it: {why}"));
    }
    let (canary, others) = (&trial.canary, &trial.others);
    trial.is_judged = canary.lines >= limits.lines_min;
    // Faults are never too few to count: a module that only faults filters no line.
    let faults = 1000.0 * (canary.per_line(canary.faults) - others.per_line(others.faults));
    if canary.faults > 0 && (faults > limits.faults_per_1000 || canary.lines == 0) {
        trial.verdict.push(format!(
            "{} faults in {} lines, {} in {} elsewhere",
            canary.faults, canary.lines, others.faults, others.lines
        ));
    }
    if !trial.is_judged || others.lines < limits.lines_min {
        return;
    }
    let dropped = canary.per_line(canary.dropped) - others.per_line(others.dropped);
    if dropped > limits.dropped_more {
        let percent = |side: &Side| 100.0 * side.per_line(side.dropped);
        trial.verdict.push(format!("drops {:.1} % of its lines, {:.1} % elsewhere", percent(canary), percent(others)));
    }
    let (slow, usual) = (canary.per_line(canary.busy_ns), others.per_line(others.busy_ns));
    if usual > 0.0 && slow > limits.slower_times * usual {
        trial.verdict.push(format!("takes {slow:.0} ns a line, {usual:.0} ns elsewhere"));
    }
}

/// What was done to a rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Moved {
    pub(crate) version: String,
    pub(crate) share: Share,
    /// Whether the trial is over.
    pub(crate) is_over: bool,
}

/// Gives the canary to more nodes; to all: it is in force. `seen`: digest that must be on trial, when a judge acts.
pub(crate) async fn promote(
    desk: &mut Desk,
    name: &str,
    to: Share,
    by: &str,
    reason: &str,
    seen: Option<Digest>,
) -> Result<Moved, FleetError> {
    act(desk, name, by, reason, seen, |before, canary| {
        if to < canary.share {
            return Err(format!("{to} is less than the {} that have it: abort it instead", canary.share));
        }
        let over = to.is_whole();
        let record = match over {
            true => InForce {
                format: FORMAT,
                step: before.step + 1,
                release: canary.release.clone(),
                previous: Some(before.release.number),
                canary: None,
            },
            false => InForce {
                step: before.step + 1,
                canary: Some(Canary { share: to, ..canary.clone() }),
                ..before.clone()
            },
        };
        Ok((record, if over { "promote" } else { "canary" }, to))
    })
    .await
}

/// Takes the canary back: all nodes run what is in force.
pub(crate) async fn abort(
    desk: &mut Desk,
    name: &str,
    by: &str,
    reason: &str,
    seen: Option<Digest>,
) -> Result<Moved, FleetError> {
    act(desk, name, by, reason, seen, |before, _| {
        Ok((InForce { step: before.step + 1, canary: None, ..before.clone() }, "abort", Share::default()))
    })
    .await
}

async fn act(
    desk: &mut Desk,
    name: &str,
    by: &str,
    reason: &str,
    seen: Option<Digest>,
    decide: impl Fn(&InForce, &Canary) -> Result<(InForce, &'static str, Share), String>,
) -> Result<Moved, FleetError> {
    for _ in 0..ROUNDS {
        let library = library(desk).await?;
        let no_trial = || FleetError::refused(format!("no release of `{name}` is on trial"));
        let (before, revision) = library.in_force.get(name).ok_or_else(no_trial)?;
        let canary = before.canary.as_ref().ok_or_else(no_trial)?;
        if seen.is_some_and(|seen| seen != canary.release.digest) {
            return Err(FleetError::refused(format!("another release of `{name}` is on trial by now")));
        }
        let (record, action, share) = decide(before, canary).map_err(FleetError::Refused)?;
        let step = noted(&record, action, share, &canary.release.version, canary.release.digest, by, reason);
        if desk.commit_record(&record, *revision, &step, Vec::new(), None).await? {
            let is_over = record.canary.is_none();
            return Ok(Moved { version: canary.release.version.clone(), share, is_over });
        }
    }
    Err(FleetError::Crowded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::depot::Release;
    use crate::model::Problem;
    use crate::observe::NodeEntry;

    fn release(version: &str) -> Release {
        Release {
            format: FORMAT,
            name: "m".to_owned(),
            version: version.to_owned(),
            number: 1,
            digest: Digest::of(version.as_bytes()),
            size: 0,
            chunks: vec![],
            signature: None,
            pushed_ms: 0,
            pushed_by: String::new(),
        }
    }

    /// A node that runs this version, with lines, dropped, faults and time.
    fn node(name: &str, trial: bool, version: &str, counts: [u64; 4]) -> NodeStatus {
        let digest = Digest::of(version.as_bytes()).to_string();
        let filter = NodeFilter {
            name: "m".to_owned(),
            digest: digest.clone(),
            lines_in: counts[0],
            dropped: counts[1],
            faults: counts[2],
            busy_ns: counts[3],
            breaker_opened: 0,
        };
        let entry = NodeEntry { modules: vec![digest], filters: vec![filter], ..NodeEntry::default() };
        let labels = if trial { [("zone".to_owned(), "a".to_owned())].into() } else { BTreeMap::new() };
        NodeStatus { node: name.to_owned(), labels, revision: 9, entries: vec![entry], ..NodeStatus::default() }
    }

    fn check(nodes: Vec<NodeStatus>, expected: &[&str]) -> Trial {
        let canary = Canary {
            release: release("2"),
            share: Share::default(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            since_ms: 0,
            thresholds: Thresholds::default(),
        };
        let record = InForce { format: FORMAT, step: 1, release: release("1"), previous: None, canary: Some(canary) };
        let nodes = nodes.into_iter().map(|node| (node.node.clone(), Ok(node))).collect();
        let trial = judge(&record, 9, &Fleet { revision: 9, nodes, gone: BTreeMap::new() }).unwrap();
        assert_eq!(trial.verdict.len(), expected.len(), "{:?}", trial.verdict);
        for (said, expected) in trial.verdict.iter().zip(expected) {
            assert!(said.contains(expected), "{said}");
        }
        trial
    }

    #[test]
    fn a_canary_that_faults_drops_or_slows_beyond_the_others_is_spoken_against() {
        let others = || node("b", false, "1", [100_000, 10_000, 10, 10_000_000]);
        let with = |counts| vec![node("a", true, "2", counts), others()];
        let trial = check(with([10_000, 1_000, 1, 1_000_000]), &[]);
        assert!(trial.is_judged);
        assert_eq!((trial.canary.nodes, trial.canary.running, trial.others.lines), (1, 1, 100_000));
        check(with([10_000, 1_000, 50, 1_000_000]), &["50 faults in 10000 lines, 10 in 100000 elsewhere"]);
        check(with([10_000, 9_000, 0, 1_000_000]), &["drops 90.0 % of its lines, 10.0 % elsewhere"]);
        check(with([10_000, 1_000, 0, 9_000_000]), &["takes 900 ns a line, 100 ns elsewhere"]);
        check(with([0, 0, 7, 0]), &["7 faults in 0 lines"]);
        // Too few lines to say anything about.
        assert!(!check(with([10, 10, 0, 9_000_000]), &[]).is_judged);
    }

    #[test]
    fn a_node_of_the_trial_that_keeps_the_old_one_says_why_and_others_do_not_matter() {
        let mut refusing = node("a", true, "1", [10, 0, 0, 0]);
        let problem = |key: &str, reason: &str| Problem {
            source: "etcd e".to_owned(),
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        refusing.problems = vec![problem("filters[0]", "while starting: trap")];
        check(vec![refusing.clone()], &["a refuses it: m: etcd e: filters[0]: while starting: trap"]);
        refusing.problems = vec![problem("filters[0].use", "module is being fetched")];
        check(vec![refusing.clone()], &[]);
        refusing.problems = vec![problem("topic", "is not allowed")];
        check(vec![refusing.clone()], &[]);
        // It has not heard of the trial yet.
        refusing.problems = vec![problem("filters[0]", "of before")];
        refusing.revision = 8;
        check(vec![refusing], &[]);
        // A node that has nothing to do with the module.
        check(vec![node("c", true, "other", [5, 5, 5, 5])], &[]);
    }
}

//! The agent at one moment, in plain data: what metrics, status, readiness and the summary are made from. Pure.

use std::ops::AddAssign;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{EntryName, Problem};
use crate::observe::board::{EntryFacts, Part};
use crate::observe::ledger::{EntryLedger, LastError, ShardTotals, StreamSnapshot, StreamState};

/// A shard that says nothing for so long is stuck. A call into a filter is stopped long before.
pub const SHARD_SILENT_MAX: Duration = Duration::from_secs(30);

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The node's name.
    pub node: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// When the agent was started.
    pub started_ms: i64,
    /// How long it has been running.
    pub uptime: Duration,
    /// Whether it is stopping.
    pub stopping: bool,
    /// Revision and problems of the plan in force.
    pub plan: Option<(u64, Vec<Problem>)>,
    /// Entries in the plan, and those that were in it and have been counted for.
    pub entries: Vec<EntryView>,
    /// Streams as the shards list them (a bounded number, the worst first within each shard).
    pub streams: Vec<StreamSnapshot>,
    /// Whether these have metrics of their own.
    pub file_metrics: bool,
    /// The shards.
    pub shards: Vec<ShardView>,
    /// One row for each part that has reported.
    pub health: Vec<HealthView>,
    /// Files that cannot be read.
    pub file_problems: Vec<FileProblem>,
    /// How many more of them there are.
    pub file_problems_unlisted: u64,
    /// What else a person should know, oldest first.
    pub notices: Vec<LastError>,
}

/// One entry, all shards together.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryView {
    /// Its name.
    pub name: EntryName,
    /// What the plan says of it; `None`: it is not in the plan any more.
    pub facts: Option<EntryFacts>,
    /// What was counted.
    pub ledger: EntryLedger,
    /// How fast.
    pub rates: Rates,
}

impl EntryView {
    pub(crate) fn new(name: EntryName) -> Self {
        EntryView { name, facts: None, ledger: EntryLedger::default(), rates: Rates::default() }
    }
}

/// Per second, over the last few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Lines read.
    pub read_lines: f64,
    /// Bytes read.
    pub read_bytes: f64,
    /// Lines delivered.
    pub delivered_lines: f64,
    /// Records acknowledged.
    pub acked_records: f64,
    /// Bytes of their values.
    pub acked_bytes: f64,
}

impl AddAssign for Rates {
    fn add_assign(&mut self, other: Rates) {
        self.read_lines += other.read_lines;
        self.read_bytes += other.read_bytes;
        self.delivered_lines += other.delivered_lines;
        self.acked_records += other.acked_records;
        self.acked_bytes += other.acked_bytes;
    }
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardView {
    /// What it counts for itself.
    pub totals: ShardTotals,
    /// How long ago it last published (or the board was made).
    pub silent: Duration,
    /// Whether it has published at all.
    pub heard: bool,
}

/// One part of the agent's surroundings.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthView {
    /// Which one.
    pub part: Part,
    /// What is wrong; `None`: nothing.
    pub trouble: Option<String>,
    /// Since when it is so, in milliseconds since the Unix epoch.
    pub since_ms: i64,
}

/// A file that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct FileProblem {
    /// The entry that wants it.
    pub entry: EntryName,
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub message: String,
}

impl From<(&(EntryName, PathBuf), &String)> for FileProblem {
    fn from(((entry, path), message): (&(EntryName, PathBuf), &String)) -> Self {
        FileProblem { entry: entry.clone(), path: path.clone(), message: message.clone() }
    }
}

impl View {
    /// Why the agent is not ready; empty: it is. Ready means that a plan is in force and that every entry in it can
    /// ship: nothing refused in the config, no blocked stream, clusters and store well. A file that cannot be read and
    /// a lost etcd are shown in the status but do not count: everything else ships.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping {
            reasons.push("stopping".to_owned());
        }
        match &self.plan {
            None => reasons.push("no plan in force yet".to_owned()),
            Some((_, problems)) => reasons.extend(problems.iter().map(|problem| format!("config: {problem}"))),
        }
        reasons.extend(self.entries.iter().filter_map(|entry| self.blocked(entry)));
        let troubles = self.health.iter().filter(|health| health.part != Part::Etcd);
        reasons.extend(troubles.filter_map(|health| Some(format!("{}: {}", health.part, health.trouble.as_ref()?))));
        reasons
    }

    /// Why the process should be considered stuck; empty: it is alive.
    pub fn not_alive(&self) -> Vec<String> {
        let silent = self.shards.iter().enumerate().filter(|(_, shard)| shard.heard && shard.silent > SHARD_SILENT_MAX);
        silent.map(|(i, shard)| format!("shard {i} has been silent for {} s", shard.silent.as_secs())).collect()
    }

    /// Whether lines in = lines out for every entry.
    pub fn is_balanced(&self) -> bool {
        self.entries.iter().all(|entry| entry.ledger.is_balanced())
    }

    /// All entries together.
    pub fn total(&self) -> (EntryLedger, Rates) {
        let mut sum = (EntryLedger::default(), Rates::default());
        for entry in &self.entries {
            sum.0 += &entry.ledger;
            sum.1 += entry.rates;
        }
        sum
    }

    fn blocked(&self, entry: &EntryView) -> Option<String> {
        if entry.ledger.blocked_streams == 0 {
            return None;
        }
        let listed = self.streams.iter().filter(|stream| stream.entry == entry.name);
        let why = listed.filter_map(|stream| match &stream.state {
            StreamState::Blocked(reason) => {
                Some(format!(": {} at byte {}: {reason}", String::from_utf8_lossy(&stream.path), stream.mark))
            }
            _ => None,
        });
        let first = why.into_iter().next().unwrap_or_default();
        Some(format!("entry {}: {} blocked{first}", entry.name, streams(entry.ledger.blocked_streams)))
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Etcd => write!(f, "etcd"),
            Part::Store => write!(f, "state store"),
            Part::Cluster(name) => write!(f, "cluster {name}"),
            Part::Topic(cluster, topic) => write!(f, "topic {topic} (cluster {cluster})"),
            Part::Entry(name) => write!(f, "entry {name}"),
        }
    }
}

fn streams(n: u64) -> String {
    if n == 1 { "1 stream".to_owned() } else { format!("{n} streams") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(blocked_streams: u64) -> EntryView {
        let ledger = EntryLedger { blocked_streams, ..Default::default() };
        EntryView { ledger, ..EntryView::new("web".into()) }
    }

    fn health(part: Part, trouble: Option<&str>) -> HealthView {
        HealthView { part, trouble: trouble.map(str::to_owned), since_ms: 0 }
    }

    fn problem() -> Problem {
        Problem { source: "web.json".into(), key: "topic".into(), reason: "missing".into() }
    }

    /// `change` is done to a view that is ready.
    fn check(expected: &[&str], change: impl FnOnce(&mut View)) {
        let well = [Part::Store, Part::Cluster("default".into())].map(|part| health(part, None));
        let mut view =
            View { plan: Some((1, vec![])), entries: vec![entry(0)], health: well.into(), ..Default::default() };
        change(&mut view);
        assert_eq!(view.not_ready(), expected);
    }

    #[test]
    fn an_agent_with_a_plan_and_no_trouble_is_ready() {
        check(&[], |_| {});
    }

    #[test]
    fn every_trouble_of_an_entry_makes_it_not_ready_and_is_named() {
        check(&["no plan in force yet"], |view| view.plan = None);
        check(&["stopping"], |view| view.stopping = true);
        check(&["config: web.json: topic: missing"], |view| view.plan = Some((2, vec![problem()])));
        check(&["entry web: 2 streams blocked"], |view| view.entries = vec![entry(2)]);
        check(&["state store: no space left on device"], |view| {
            view.health[0].trouble = Some("no space left on device".into());
        });
        check(&["cluster default: all brokers are down"], |view| {
            view.health[1].trouble = Some("all brokers are down".into());
        });
        let topic = Part::Topic("default".into(), "app".into());
        check(&["topic app (cluster default): missing"], |view| view.health.push(health(topic, Some("missing"))));
    }

    #[test]
    fn the_first_blocked_stream_is_shown_with_its_place_and_reason() {
        check(&["entry web: 1 stream blocked: /var/log/a at byte 42: filter grep: trap"], |view| {
            view.entries = vec![entry(1)];
            view.streams = vec![StreamSnapshot {
                entry: "web".into(),
                file: tailmill_tail::FileId(1),
                path: b"/var/log/a"[..].into(),
                read: 50,
                mark: 42,
                size: 60,
                state: StreamState::Blocked("filter grep: trap".into()),
                loss: Default::default(),
            }];
        });
    }

    #[test]
    fn a_lost_etcd_and_an_unreadable_file_do_not_stop_what_ships() {
        check(&[], |view| view.health.push(health(Part::Etcd, Some("connection refused"))));
        check(&[], |view| {
            let path = PathBuf::from("/fifo");
            view.file_problems = vec![FileProblem { entry: "web".into(), path, message: "a FIFO".into() }];
        });
    }

    #[test]
    fn a_shard_that_was_heard_and_went_silent_means_stuck() {
        let check = |heard, silent_s, alive| {
            let shard = ShardView { heard, silent: Duration::from_secs(silent_s), ..Default::default() };
            let view = View { shards: vec![ShardView::default(), shard], ..Default::default() };
            assert_eq!(view.not_alive().is_empty(), alive, "heard {heard}, silent for {silent_s} s");
        };
        check(true, 30, true);
        check(true, 31, false);
        check(false, 1000, true);
    }
}

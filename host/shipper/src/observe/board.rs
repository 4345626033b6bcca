//! The one place that knows how the agent is doing. Shards overwrite their slot a few times a second; config, deliver,
//! discovery and the committer report their health; the admin server, the summary and the watchdog read a [`View`].
//!
//! In: whole snapshots and facts, replaced, never streamed. Out: views, made when somebody asks. Writers hold a lock for
//! one assignment, readers for one reference count; nothing here waits for I/O and everything is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use crate::model::{EntryName, Origin, Plan, Problem};
use crate::observe::ledger::{EntryLedger, LastError, ShardSnapshot};
use crate::observe::view::{EntryView, FileProblem, HealthView, Rates, ShardView, View};

/// Rates are means over the last one to two of these.
pub const RATE_WINDOW: Duration = Duration::from_secs(5);

/// File problems that are listed. Beyond it they are only counted: a glob may match a million unreadable files.
pub const FILE_PROBLEMS_MAX: usize = 256;

/// Notices that are remembered.
pub const NOTICES_MAX: usize = 32;

/// What can be well or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The connection to etcd. The agent ships without it, so it does not decide readiness.
    Etcd,
    /// The state store.
    Store,
    /// A Kafka cluster.
    Cluster(Arc<str>),
    /// A topic that is missing or unreachable.
    Topic(Arc<str>, Arc<str>),
    /// An entry, for a reason that is not in the plan's problems.
    Entry(EntryName),
}

/// The board. Clones show the same one.
#[derive(Clone, Debug)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Arc<str>,
    started: Instant,
    started_ms: i64,
    stopping: AtomicBool,
    file_metrics: AtomicBool,
    slots: Vec<Mutex<Slot>>,
    control: Mutex<Control>,
}

/// What one shard said last, and two older samples to take rates from.
#[derive(Debug)]
struct Slot {
    at: Instant,
    heard: bool,
    latest: Arc<ShardSnapshot>,
    base: Sample,
    next_base: Sample,
}

#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    counts: BTreeMap<EntryName, [u64; 5]>,
}

#[derive(Debug, Default)]
struct Control {
    plan: Option<PlanFacts>,
    health: BTreeMap<(Part, usize), Health>,
    file_problems: BTreeMap<(EntryName, PathBuf), String>,
    file_problems_unlisted: u64,
    notices: VecDeque<LastError>,
}

#[derive(Clone, Debug)]
struct Health {
    trouble: Option<String>,
    since_ms: i64,
}

/// What is shown of a plan.
#[derive(Clone, Debug, Default)]
pub struct PlanFacts {
    /// Its revision.
    pub revision: u64,
    /// What was refused.
    pub problems: Vec<Problem>,
    /// Its entries.
    pub entries: BTreeMap<EntryName, EntryFacts>,
}

/// What is shown of an entry in the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryFacts {
    /// Its own topic.
    pub topic: String,
    /// Its cluster.
    pub cluster: String,
    /// Where it was written.
    pub origin: String,
    /// Digests of its chain, in order.
    pub modules: Vec<String>,
}

impl Board {
    /// A board for so many shards. The node's name is shown in status and metrics.
    pub fn new(node: impl Into<Arc<str>>, shards: usize) -> Board {
        let started = Instant::now();
        let slot = || {
            let empty = Sample { at: started, counts: BTreeMap::new() };
            Mutex::new(Slot {
                at: started,
                heard: false,
                latest: Arc::default(),
                base: empty.clone(),
                next_base: empty,
            })
        };
        Board(Arc::new(Inner {
            node: node.into(),
            started,
            started_ms: now_ms(),
            stopping: AtomicBool::new(false),
            file_metrics: AtomicBool::new(false),
            slots: (0..shards).map(|_| slot()).collect(),
            control: Mutex::default(),
        }))
    }

    /// Listed files get metrics of their own (`admin.file_metrics`).
    pub fn show_files_in_metrics(&self) {
        self.0.file_metrics.store(true, Ordering::Relaxed);
    }

    /// A shard's new state, in place of its last one. Calls for a shard beyond those of [`Board::new`] are ignored.
    pub fn publish(&self, shard: usize, snapshot: ShardSnapshot) {
        self.publish_at(shard, snapshot, Instant::now());
    }

    pub(crate) fn publish_at(&self, shard: usize, snapshot: ShardSnapshot, now: Instant) {
        let snapshot = Arc::new(snapshot);
        let Some(slot) = self.0.slots.get(shard) else { return };
        let mut slot = lock(slot);
        if now.saturating_duration_since(slot.next_base.at) >= RATE_WINDOW {
            let counts = snapshot.entries.iter().map(|(name, ledger)| (name.clone(), sample(ledger)));
            let newest = Sample { at: now, counts: counts.collect() };
            slot.base = std::mem::replace(&mut slot.next_base, newest);
        }
        slot.at = now;
        slot.heard = true;
        slot.latest = snapshot;
    }

    /// A plan came into force.
    pub fn plan(&self, plan: &Plan) {
        let entries = plan.entries.iter().map(|(name, entry)| {
            let topic = entry.topics.first().map(|topic| topic.to_string()).unwrap_or_default();
            let facts = EntryFacts {
                topic,
                cluster: entry.cluster.to_string(),
                origin: origin(&entry.origin),
                modules: entry.filters.iter().map(|filter| filter.module.digest.to_string()).collect(),
            };
            (name.clone(), facts)
        });
        let facts = PlanFacts { revision: plan.revision, problems: plan.problems.clone(), entries: entries.collect() };
        let mut control = self.control();
        // A problem with a file of an entry that is gone would stay for ever: nobody is left to heal it.
        control.file_problems.retain(|(entry, _), _| facts.entries.contains_key(entry));
        control.health.retain(|(part, _), _| match part {
            Part::Entry(entry) => facts.entries.contains_key(entry),
            _ => true,
        });
        control.plan = Some(facts);
    }

    /// This part is well, as far as this reporter (a shard's number, or 0) can see.
    pub fn well(&self, part: Part, reporter: usize) {
        let mut control = self.control();
        // Topics and entries come and go without bound, and only their troubles are shown.
        if matches!(part, Part::Topic(..) | Part::Entry(_)) {
            control.health.remove(&(part, reporter));
        } else {
            set_health(&mut control, part, reporter, None);
        }
    }

    /// This part is in trouble. `message` says why and, when we know, what to do.
    pub fn trouble(&self, part: Part, reporter: usize, message: impl Into<String>) {
        set_health(&mut self.control(), part, reporter, Some(message.into()));
    }

    /// A reporter has nothing more to say about a part (the cluster was removed).
    pub fn forget(&self, part: Part, reporter: usize) {
        self.control().health.remove(&(part, reporter));
    }

    /// A file that an entry means cannot be read.
    pub fn file_problem(&self, entry: &EntryName, path: &Path, message: impl Into<String>) {
        let mut control = self.control();
        let key = (entry.clone(), path.to_owned());
        if control.file_problems.len() < FILE_PROBLEMS_MAX || control.file_problems.contains_key(&key) {
            control.file_problems.insert(key, message.into());
        } else {
            control.file_problems_unlisted += 1;
        }
    }

    /// It can be read now, or is gone.
    pub fn file_healed(&self, entry: &EntryName, path: &Path) {
        let mut control = self.control();
        if control.file_problems.remove(&(entry.clone(), path.to_owned())).is_none() {
            control.file_problems_unlisted = control.file_problems_unlisted.saturating_sub(1);
        }
    }

    /// Something a person should know that is no trouble of any part (e.g. the limit of inotify watches is reached).
    pub fn notice(&self, message: impl Into<String>) {
        let mut control = self.control();
        if control.notices.len() == NOTICES_MAX {
            control.notices.pop_front();
        }
        control.notices.push_back(LastError { at_ms: now_ms(), message: message.into() });
    }

    /// The agent has begun to stop: it is not ready any more.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// Everything, as of now.
    pub fn view(&self) -> View {
        self.view_at(Instant::now(), now_ms())
    }

    pub(crate) fn view_at(&self, now: Instant, now_ms: i64) -> View {
        let mut view = View {
            node: self.0.node.to_string(),
            now_ms,
            started_ms: self.0.started_ms,
            uptime: now.saturating_duration_since(self.0.started),
            stopping: self.0.stopping.load(Ordering::Acquire),
            file_metrics: self.0.file_metrics.load(Ordering::Relaxed),
            ..View::default()
        };
        let mut entries: BTreeMap<EntryName, EntryView> = BTreeMap::new();
        for slot in &self.0.slots {
            add_shard(&mut view, &mut entries, slot, now);
        }
        let control = self.control();
        for (name, facts) in control.plan.iter().flat_map(|plan| &plan.entries) {
            let entry = entries.entry(name.clone()).or_insert_with(|| EntryView::new(name.clone()));
            entry.facts = Some(facts.clone());
        }
        view.entries = entries.into_values().collect();
        view.plan = control.plan.as_ref().map(|plan| (plan.revision, plan.problems.clone()));
        view.health = merged_health(&control);
        view.file_problems_unlisted = control.file_problems_unlisted;
        view.file_problems = control.file_problems.iter().map(FileProblem::from).collect();
        view.notices = control.notices.iter().cloned().collect();
        view
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.0.control)
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A panic of another thread does not make plain data unusable: every write is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

fn set_health(control: &mut Control, part: Part, reporter: usize, trouble: Option<String>) {
    let fresh = Health { trouble: None, since_ms: now_ms() };
    let health = control.health.entry((part, reporter)).or_insert_with(|| fresh.clone());
    if health.trouble.is_some() != trouble.is_some() {
        health.since_ms = fresh.since_ms;
    }
    health.trouble = trouble;
}

/// One row a part: in trouble when any reporter says so, since the first of them said so.
fn merged_health(control: &Control) -> Vec<HealthView> {
    let mut rows: Vec<HealthView> = Vec::new();
    for ((part, _), health) in &control.health {
        let row = HealthView { part: part.clone(), trouble: health.trouble.clone(), since_ms: health.since_ms };
        match rows.last_mut().filter(|last| last.part == row.part) {
            None => rows.push(row),
            Some(last) if last.trouble.is_none() && row.trouble.is_some() => *last = row,
            Some(last) if last.trouble.is_some() == row.trouble.is_some() => {
                last.since_ms = last.since_ms.min(row.since_ms);
            }
            Some(_) => {}
        }
    }
    rows
}

fn add_shard(view: &mut View, entries: &mut BTreeMap<EntryName, EntryView>, slot: &Mutex<Slot>, now: Instant) {
    let (latest, base, at, heard) = {
        let slot = lock(slot);
        (slot.latest.clone(), slot.base.clone(), slot.at, slot.heard)
    };
    let seconds = at.saturating_duration_since(base.at).as_secs_f64();
    for (name, ledger) in &latest.entries {
        let entry = entries.entry(name.clone()).or_insert_with(|| EntryView::new(name.clone()));
        entry.ledger += ledger;
        entry.rates += rates(sample(ledger), base.counts.get(name), seconds);
    }
    view.streams.extend(latest.streams.iter().cloned());
    let silent = now.saturating_duration_since(at);
    view.shards.push(ShardView { totals: latest.totals.clone(), silent, heard });
}

fn sample(ledger: &EntryLedger) -> [u64; 5] {
    [ledger.read.lines, ledger.read.bytes, ledger.delivered.lines, ledger.records_acked, ledger.records_acked_bytes]
}

fn rates(now: [u64; 5], base: Option<&[u64; 5]>, seconds: f64) -> Rates {
    if seconds <= 0.0 {
        return Rates::default();
    }
    let rate = |i: usize| now[i].saturating_sub(base.map_or(0, |base| base[i])) as f64 / seconds;
    Rates {
        read_lines: rate(0),
        read_bytes: rate(1),
        delivered_lines: rate(2),
        acked_records: rate(3),
        acked_bytes: rate(4),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => path.display().to_string(),
        Origin::EtcdKey(key) => format!("etcd {key}"),
        Origin::ArrayItem { key, index } => format!("etcd {key}[{index}]"),
        Origin::CommandLine => "command line".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LineCount;

    fn read(lines: u64) -> ShardSnapshot {
        let read = LineCount { lines, bytes: lines * 10 };
        let ledger = EntryLedger { read, pending: read, ..Default::default() };
        ShardSnapshot { entries: [("web".into(), ledger)].into(), ..Default::default() }
    }

    #[test]
    fn shards_are_added_up_and_a_new_snapshot_replaces_the_old_one() {
        let board = Board::new("n", 2);
        board.publish(0, read(5));
        board.publish(1, read(100));
        board.publish(0, read(7));
        board.publish(9, read(1000));
        let view = board.view();
        assert_eq!(view.entries.len(), 1);
        assert_eq!(view.entries[0].ledger.read, LineCount { lines: 107, bytes: 1070 });
    }

    #[test]
    fn rates_are_means_over_the_last_window_and_not_since_the_start() {
        let board = Board::new("n", 1);
        let start = board.0.started;
        // 1,000 lines a second for 20 s, then nothing.
        for quarter in 1..=160_u64 {
            let at = start + Duration::from_millis(250 * quarter);
            board.publish_at(0, read((250 * quarter).min(20_000)), at);
            let rate = board.view_at(at, 0).entries[0].rates.read_lines;
            let expected = if quarter <= 80 { 1000.0 } else { 0.0 };
            if quarter <= 80 || quarter >= 80 + 40 {
                assert!((rate - expected).abs() < 1.0, "quarter {quarter}: {rate}");
            }
        }
    }

    #[test]
    fn a_part_is_in_trouble_when_one_of_its_reporters_says_so() {
        let board = Board::new("n", 2);
        let cluster = || Part::Cluster("default".into());
        let check = |expected: Option<&str>| {
            let health = board.view().health;
            assert_eq!(health.len(), 1);
            assert_eq!(health[0].trouble.as_deref(), expected);
        };
        board.well(cluster(), 0);
        board.well(cluster(), 1);
        check(None);
        board.trouble(cluster(), 1, "all brokers down");
        check(Some("all brokers down"));
        board.well(cluster(), 0);
        check(Some("all brokers down"));
        board.well(cluster(), 1);
        check(None);
        board.trouble(cluster(), 0, "no route");
        check(Some("no route"));
    }

    #[test]
    fn troubles_of_topics_and_entries_leave_no_row_behind() {
        let board = Board::new("n", 1);
        let topic = || Part::Topic("default".into(), "web".into());
        board.trouble(topic(), 0, "missing");
        assert_eq!(board.view().health.len(), 1);
        board.well(topic(), 0);
        assert!(board.view().health.is_empty());
        board.trouble(Part::Entry("gone".into()), 0, "cannot arm");
        board.plan(&Plan::default());
        assert!(board.view().health.is_empty(), "the plan has no such entry");
    }

    #[test]
    fn file_problems_are_bounded_and_heal() {
        let board = Board::new("n", 1);
        let entry: EntryName = "web".into();
        for i in 0..FILE_PROBLEMS_MAX + 3 {
            board.file_problem(&entry, &PathBuf::from(format!("/f{i}")), "permission denied");
        }
        let view = board.view();
        assert_eq!((view.file_problems.len(), view.file_problems_unlisted), (FILE_PROBLEMS_MAX, 3));
        board.file_healed(&entry, Path::new("/f0"));
        assert_eq!(board.view().file_problems.len(), FILE_PROBLEMS_MAX - 1);
    }
}

//! The conductor: turns plans and file events into commands for shards, and knows which stream lives where.
//!
//! It runs on a thread of its own around [`Discovery`]. It owns what no shard owns: the plan in force, where each live
//! stream is, and the records of streams that are not live.

use super::memory::{Bursts, give_back};
use crate::checkpoint::{CommitMessage, StreamRecord};
use crate::filter::{ArmedChain, Armory};
use crate::model::{EntryName, EntryPlan, Plan};
use crate::observe::{Board, Part};
use crate::pipeline::{Opening, ShardCommand, ShardReport, StopSummary};
use crossbeam_channel::{Receiver, Sender};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_tail::{Discovery, FileEvent, KnownFile, OpenedFile, StreamKey, StreamReport, WatchSpec};

/// Never waits longer than this, whatever discovery does.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What is said to the conductor. Whoever sends wakes discovery.
pub(super) enum ConductorMessage {
    /// A new plan is in force.
    Plan(Arc<Plan>),
    /// A shard reports.
    Report(Box<ShardReport>),
    /// Stop everything; shards give up waiting at the deadline.
    Stop {
        /// When.
        deadline: Instant,
    },
}

/// See the module.
pub(super) struct Conductor {
    pub discovery: Discovery,
    pub shards: Vec<Sender<ShardCommand>>,
    pub armory: Arc<Armory>,
    pub board: Board,
    pub commits: Sender<CommitMessage>,
    pub messages: Receiver<ConductorMessage>,
    /// Records of streams that are not live.
    pub records: HashMap<StreamKey, StreamRecord>,
    entries: BTreeMap<EntryName, Arc<ArmedChain>>,
    live: HashMap<StreamKey, usize>,
    bursts: Bursts,
}

impl Conductor {
    pub(super) fn new(
        discovery: Discovery,
        shards: Vec<Sender<ShardCommand>>,
        armory: Arc<Armory>,
        board: Board,
        commits: Sender<CommitMessage>,
        messages: Receiver<ConductorMessage>,
        records: HashMap<StreamKey, StreamRecord>,
    ) -> Self {
        Conductor {
            discovery,
            shards,
            armory,
            board,
            commits,
            messages,
            records,
            entries: BTreeMap::new(),
            live: HashMap::new(),
            bursts: Bursts::default(),
        }
    }

    /// Works until told to stop and every shard has said that it stopped.
    pub(super) fn run(mut self) -> Vec<StopSummary> {
        loop {
            while let Ok(message) = self.messages.try_recv() {
                match message {
                    ConductorMessage::Plan(plan) => self.apply(&plan),
                    ConductorMessage::Report(report) => self.hear(*report),
                    ConductorMessage::Stop { deadline } => return self.stop(deadline),
                }
            }
            for event in self.discovery.wait(Instant::now() + WAIT_MAX) {
                self.act(event);
            }
            if self.bursts.is_over(Instant::now()) {
                give_back();
            }
        }
    }

    /// Puts a plan in force: entries that differ are armed; one that cannot be keeps its old form.
    fn apply(&mut self, plan: &Plan) {
        for (name, entry) in &plan.entries {
            let current = self.entries.get(name);
            if current.is_some_and(|armed| Arc::ptr_eq(&armed.entry, entry)) {
                continue;
            }
            match self.armory.arm(entry) {
                Ok(armed) => {
                    self.board.forget(Part::Entry(name.clone()), 0);
                    self.take_over(name, armed, current.is_none());
                }
                Err(problem) => {
                    tracing::error!(entry = %name, "the entry keeps its last good form: {problem}");
                    self.board.trouble(Part::Entry(name.clone()), 0, problem.to_string());
                }
            }
        }
        self.entries.retain(|name, _| plan.entries.contains_key(name));
        self.board.plan(plan);
        self.discovery.set_specs(self.entries.values().map(|armed| watch_spec(&armed.entry)).collect());
        let in_use = self.entries.values().flat_map(|armed| armed.digests()).collect();
        self.armory.retain(&in_use);
    }

    fn take_over(&mut self, name: &EntryName, armed: Arc<ArmedChain>, new: bool) {
        tracing::info!(entry = %name, topic = %armed.entry.topics[0], filters = armed.entry.filters.len(), "{}", if new { "entry added" } else { "entry changed" });
        self.entries.insert(name.clone(), armed.clone());
        if !new {
            for shard in &self.shards {
                let _ = shard.send(ShardCommand::Replan { entry: name.clone(), armed: armed.clone() });
            }
        }
    }

    /// What happened to a file.
    fn act(&mut self, event: FileEvent) {
        match event {
            FileEvent::Opened(opened) => self.open(*opened),
            FileEvent::Grew(key) => self.tell(&key.clone(), ShardCommand::Grew(key)),
            FileEvent::Shrank(key) => self.tell(&key.clone(), ShardCommand::Shrank(key)),
            FileEvent::Moved { key, to } => self.tell(&key.clone(), ShardCommand::Moved { key, to }),
            FileEvent::Leaving { key, gone } => self.tell(&key.clone(), ShardCommand::Leaving { key, gone }),
            FileEvent::Back(key) => self.tell(&key.clone(), ShardCommand::Back(key)),
            FileEvent::Dropped(key) => self.tell(&key.clone(), ShardCommand::Close(key)),
            FileEvent::Problem { entry, path, problem } => {
                tracing::warn!(%entry, file = %path.display(), "skipped: {problem}");
                self.board.file_problem(&entry, &path, problem.to_string());
            }
            FileEvent::Healed { entry, path } => {
                tracing::info!(%entry, file = %path.display(), "healed");
                self.board.file_healed(&entry, &path);
            }
            FileEvent::FirstScan(entry) => {
                let _ = self.commits.send(CommitMessage::EntrySeen(entry.to_string()));
            }
            FileEvent::Reopened { key, file } => self.tell(&key.clone(), ShardCommand::Reopened { key, file }),
            FileEvent::GiveUp { key, .. } => self.tell(&key.clone(), ShardCommand::GiveUp(key)),
            FileEvent::Recognised(known) => self.recognised(&known),
            FileEvent::Lost { key, path, offset, bytes, cause } => {
                let told = format!("{}: {cause}; {bytes} bytes behind byte {offset} are lost", path.display());
                tracing::error!(entry = %key.entry, "{told}");
                self.board.notice(told);
                // Any shard may count for an entry.
                let _ = self.shards[0].send(ShardCommand::CountLost { entry: key.entry, bytes });
            }
            FileEvent::Settled { key, offset } => {
                if let Some(record) = self.records.get_mut(&key) {
                    record.size_seen = offset;
                    let commit = CommitMessage::Commit { records: vec![record.clone()], removed: Vec::new() };
                    let _ = self.commits.send(commit);
                }
            }
            FileEvent::Forgotten(key) => {
                self.records.remove(&key);
                let _ = self.commits.send(CommitMessage::Commit { records: Vec::new(), removed: vec![key] });
            }
            FileEvent::Notice(notice) => {
                tracing::warn!("{notice}");
                self.board.notice(notice.to_string());
            }
        }
    }

    /// A file was shipped already, all of it, and lies in another place now.
    fn recognised(&mut self, known: &KnownFile) {
        tracing::info!(entry = %known.key.entry, file = %known.path.display(), "shipped already under another name");
        if let Some(record) = self.records.get_mut(&known.key) {
            record.place = known.place;
            record.path.clone_from(&known.path);
            record.finished = true;
            let _ = self.commits.send(CommitMessage::Commit { records: vec![record.clone()], removed: Vec::new() });
        }
    }

    fn open(&mut self, opened: OpenedFile) {
        let Some(armed) = self.entries.get(&opened.key.entry).cloned() else {
            return;
        };
        let mut record = self.records.remove(&opened.key);
        if let (Some(record), Some(known), true) = (&mut record, &opened.known, opened.packing.is_some()) {
            record.evidence = known.evidence; // of the archive's content from now on
        }
        let shard = shard_of(&opened.key.entry, &opened.home, self.shards.len());
        let from = record.as_ref().map_or(opened.start, |record| record.resume.offset());
        tracing::info!(entry = %opened.key.entry, file = %opened.path.display(), id = %opened.key.file, from, "reading");
        self.live.insert(opened.key.clone(), shard);
        self.bursts.add(Instant::now());
        let _ = self.shards[shard].send(ShardCommand::Open(Box::new(Opening { opened, record, armed })));
    }

    fn tell(&mut self, key: &StreamKey, command: ShardCommand) {
        if let Some(shard) = self.live.get(key) {
            let _ = self.shards[*shard].send(command);
        }
    }

    /// What a shard reports.
    fn hear(&mut self, report: ShardReport) {
        match report {
            ShardReport::Truncated { known, record, file } => {
                tracing::info!(entry = %known.key.entry, file = %known.path.display(), "truncated: what lies in the file now is read from its beginning");
                self.live.remove(&known.key);
                self.records.insert(known.key.clone(), *record);
                self.discovery.report(StreamReport::Truncated { known, file });
            }
            ShardReport::Finished { known, record } => {
                self.live.remove(&known.key);
                self.records.insert(known.key.clone(), *record);
                self.discovery.report(StreamReport::Finished { known });
            }
            ShardReport::Closed { known, record } => {
                self.live.remove(&known.key);
                self.records.insert(known.key.clone(), *record);
                self.discovery.report(StreamReport::Closed { known });
            }
            ShardReport::GivenUp { known, lost_bytes } => {
                self.live.remove(&known.key);
                self.discovery.report(StreamReport::GivenUp { known, lost_bytes });
            }
            ShardReport::Idle { key, bytes_read } => {
                self.bursts.add(Instant::now());
                self.discovery.report(StreamReport::Idle { key, bytes_read });
            }
            ShardReport::Pinned { key, bytes, unread } => {
                self.discovery.report(StreamReport::Pinned { key, bytes, unread })
            }
            ShardReport::Stopped(_) => {}
        }
    }

    fn stop(self, deadline: Instant) -> Vec<StopSummary> {
        for shard in &self.shards {
            let _ = shard.send(ShardCommand::Stop { deadline });
        }
        let mut summaries = Vec::new();
        // A shard that panicked never reports: its end is noticed when it is joined.
        let give_up = deadline + Duration::from_secs(5);
        while summaries.len() < self.shards.len() {
            match self.messages.recv_deadline(give_up) {
                Ok(ConductorMessage::Report(report)) => {
                    if let ShardReport::Stopped(summary) = *report {
                        summaries.push(summary);
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        summaries
    }
}

/// What discovery needs to know of an entry.
fn watch_spec(entry: &Arc<EntryPlan>) -> WatchSpec {
    WatchSpec {
        entry: entry.name.clone(),
        patterns: entry.patterns.clone(),
        start: entry.start,
        finish_after: entry.finish_after,
        ignore_older: entry.ignore_older,
        close_idle: entry.close_idle,
        compressed: entry.framing.compressed,
    }
}

/// A file and its rotated successors stay on one shard.
fn shard_of(entry: &str, home: &Path, shards: usize) -> usize {
    let mut key = entry.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(home.as_os_str().as_bytes());
    (xxhash_rust::xxh3::xxh3_64(&key) % shards as u64) as usize
}

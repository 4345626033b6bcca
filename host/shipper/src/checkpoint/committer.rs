//! The body of the commit thread: takes records from shards, groups them, commits about once a second or when asked.
//!
//! Never an fsync on a shard. When the store fails, the newest record of every stream is kept and tried again: shipping
//! goes on, marks wait, and health says so loudly. What waits is bounded by the number of streams.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tailmill_tail::StreamKey;

use super::records::StreamRecord;
use super::store::{Changes, Store, StoreError};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Attempts when the agent stops, and the pause between them.
const LAST_ATTEMPTS: u32 = 5;
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// To the commit thread.
#[derive(Debug)]
pub enum CommitMessage {
    /// These records are new; these streams are forgotten.
    Commit {
        /// Written or replaced.
        records: Vec<StreamRecord>,
        /// Taken out.
        removed: Vec<StreamKey>,
    },
    /// An entry was seen for the first time.
    EntrySeen(String),
    /// Commit everything that came before this message, now. The answer is the error, if any; what failed is kept and
    /// tried again.
    Flush(Sender<Result<(), String>>),
}

/// What the committer writes to.
pub trait MarkStore {
    /// Writes all of it, durably, or nothing.
    fn commit(&mut self, changes: Changes<'_>) -> Result<(), StoreError>;
}

impl MarkStore for Store {
    fn commit(&mut self, changes: Changes<'_>) -> Result<(), StoreError> {
        Store::commit(self, changes)
    }
}

/// How the store is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Why marks wait; `None`: all is well.
    pub trouble: Option<String>,
    /// Streams whose newest record is not in the store.
    pub waiting: usize,
    /// Commits so far.
    pub commits: u64,
}

/// Groups, commits, retries.
pub struct Committer<S, H> {
    store: S,
    every: Duration,
    report: H,
    /// The newest word on each stream; `None`: taken out.
    pending: HashMap<StreamKey, Option<StreamRecord>>,
    entries_seen: BTreeSet<String>,
    /// When to commit; `None`: nothing is pending.
    due: Option<Instant>,
    failures: u32,
    health: StoreHealth,
}

impl<S: MarkStore, H: FnMut(StoreHealth)> Committer<S, H> {
    /// Commits to `store` about `every` so often; `report` hears after each attempt.
    pub fn new(store: S, every: Duration, report: H) -> Self {
        Committer {
            store,
            every,
            report,
            pending: HashMap::new(),
            entries_seen: BTreeSet::new(),
            due: None,
            failures: 0,
            health: StoreHealth::default(),
        }
    }

    /// Works until all senders are gone, then commits what is left.
    pub fn run(mut self, messages: Receiver<CommitMessage>) {
        loop {
            let came = match self.due {
                Some(due) => messages.recv_deadline(due),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match came {
                Ok(message) => self.take(message, Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.commit_if_due(Instant::now());
        }
        for attempt in 0..LAST_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(LAST_PAUSE);
            }
            if self.commit(Instant::now()).is_ok() {
                break;
            }
        }
    }

    fn take(&mut self, message: CommitMessage, now: Instant) {
        match message {
            CommitMessage::Commit { records, removed } => {
                self.pending.extend(removed.into_iter().map(|key| (key, None)));
                self.pending.extend(records.into_iter().map(|record| (record.key(), Some(record))));
            }
            CommitMessage::EntrySeen(name) => {
                self.entries_seen.insert(name);
            }
            CommitMessage::Flush(reply) => {
                let done = self.commit(now);
                // Whoever asked may have gone.
                let _ = reply.send(done);
                return;
            }
        }
        if self.has_pending() && self.due.is_none() {
            self.due = Some(now + self.every);
        }
    }

    fn commit_if_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            // The error is in the health.
            let _ = self.commit(now);
        }
    }

    fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.entries_seen.is_empty()
    }

    fn commit(&mut self, now: Instant) -> Result<(), String> {
        self.due = None;
        if !self.has_pending() {
            return Ok(());
        }
        let removed: Vec<StreamKey> =
            self.pending.iter().filter(|(_, record)| record.is_none()).map(|(key, _)| key.clone()).collect();
        let records: Vec<StreamRecord> = self.pending.values().flatten().cloned().collect();
        let entries_seen: Vec<String> = self.entries_seen.iter().cloned().collect();
        let changes = Changes { records: &records, removed: &removed, entries_seen: &entries_seen, stepped_over: &[] };
        let done = self.store.commit(changes).map_err(|error| error.to_string());
        match &done {
            Ok(()) => {
                // What a burst of thousands of files needed is not kept.
                self.pending = HashMap::new();
                self.entries_seen.clear();
                self.failures = 0;
                self.health = StoreHealth { trouble: None, waiting: 0, commits: self.health.commits + 1 };
            }
            Err(error) => {
                self.failures += 1;
                self.due = Some(now + backoff(self.failures));
                self.health.trouble = Some(format!("marks are not saved, shipping goes on: {error}"));
                self.health.waiting = self.pending.len();
            }
        }
        (self.report)(self.health.clone());
        done
    }
}

/// 1, 2, 4 … 30 seconds.
fn backoff(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(RETRY_MAX)
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;

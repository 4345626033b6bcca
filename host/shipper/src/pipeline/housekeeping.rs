//! What a shard does every now and then: marks to the store, counts to the board, a new producer for a broken one.

use super::events;
use super::shard::Shard;
use super::stream::Stream;
use super::streams::StreamIx;
use crate::checkpoint::CommitMessage;
use crate::filter::RestWhy;
use crate::model::LineCount;
use crate::observe::ledger::STREAMS_LISTED_MAX;
use crate::observe::{EntryLedger, Part, ShardSnapshot, ShardTotals, StreamState};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often counts are shown.
pub(super) const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// A compressed file that is not read for so long makes room for others.
const UNPACKER_KEPT: Duration = Duration::from_secs(10);

/// The same while every stream is asleep.
const PUBLISH_IDLE_EVERY: Duration = Duration::from_secs(2);

impl Shard {
    pub(super) fn housekeeping(&mut self) {
        let now = self.services.now;
        if now >= self.checkpoint_at {
            self.checkpoint_at = now + self.services.settings.checkpoint_every;
            self.take_snapshots();
            self.put_to_rest();
            self.call_in();
            self.commit_marks(false);
            self.tell_untold(false);
            self.services.lane.close_if_idle(now);
            self.say_pinned();
            self.pass_unpackers_on();
        }
        if now >= self.publish_at {
            self.publish_at = now + if self.streams.are_asleep() { PUBLISH_IDLE_EVERY } else { PUBLISH_EVERY };
            self.renew_broken_producers();
            self.publish();
        }
    }

    /// Streams whose filters can save their state get a new resume point, at a batch boundary.
    pub(super) fn take_snapshots(&mut self) {
        for ix in self.streams.awake() {
            let Some(stream) = self.streams.get_mut(ix) else { continue };
            if !stream.dirty || stream.is_saved {
                continue;
            }
            // A batch in the hand lies before the reader's position and has not entered the chain.
            if !stream.chain.is_idle() || !stream.rest.is_empty() {
                stream.save_due = true;
                continue;
            }
            if stream.armed.dearness.is_dear() && self.stopping.is_some_and(|deadline| Instant::now() >= deadline) {
                continue; // its last snapshot will do
            }
            stream.save(&mut self.services);
        }
    }

    /// Streams whose filters hold a line for too long.
    pub(super) fn call_in(&mut self) {
        let now = self.services.now;
        for ix in self.streams.awake() {
            let Some(stream) = self.streams.get_mut(ix) else { continue };
            stream.call_in_due = !stream.chain.is_idle();
            if stream.call_in(now) {
                self.schedule.ready(ix);
            }
        }
    }

    /// Says how many faults the log did not tell one by one.
    pub(super) fn tell_untold(&mut self, at_end: bool) {
        self.services.said.untold(self.services.now, at_end).iter().for_each(events::log_untold);
    }

    /// Filters of streams to which nothing came for a while need no instances.
    fn put_to_rest(&mut self) {
        let now = self.services.now;
        for ix in self.streams.awake() {
            let Some(stream) = self.streams.get_mut(ix).filter(|stream| stream.may_rest(now)) else { continue };
            stream.rest_tried = true;
            stream.put_to_rest(RestWhy::Idle, &mut self.services);
        }
    }

    /// Sends the marks that moved to the commit thread.
    pub(super) fn commit_marks(&mut self, all: bool) {
        let now_ms = self.services.now_ms();
        let mut records = Vec::new();
        let streams = if all { self.streams.all() } else { self.streams.awake() };
        for ix in streams {
            let Some(stream) = self.streams.get_mut(ix) else { continue };
            if all || std::mem::take(&mut stream.dirty) {
                records.push(stream.record(false, now_ms));
                // The mark of a stream with something under way moves again when that is settled; `settle` says so.
            }
        }
        if !records.is_empty() {
            let _ = self.links.commits.send(CommitMessage::Commit { records, removed: Vec::new() });
        }
    }

    /// Deleted files that are not read to their ends are bounded by what they take of the disk: whoever knows all of them
    /// decides.
    fn say_pinned(&mut self) {
        for ix in self.streams.awake() {
            if let Some(report) = self.streams.get_mut(ix).and_then(|stream| stream.say_pinned()) {
                (self.links.report)(report);
            }
        }
    }

    /// A compressed file that was not read for a while (its topic is down, its writer pauses) does not keep its window while
    /// others wait for theirs.
    fn pass_unpackers_on(&mut self) {
        if !self.schedule.has_unpack_queue() {
            return;
        }
        let now = self.services.now;
        let stands = |stream: &Stream| now.saturating_duration_since(stream.read_at) >= UNPACKER_KEPT;
        let held = self.streams.iter().filter(|(_, stream)| stream.reader.is_unpacking() && stands(stream));
        let held: Vec<StreamIx> = held.map(|(ix, _)| ix).collect();
        for ix in held {
            if let Some(stream) = self.streams.get_mut(ix) {
                stream.reader.stop_unpacking();
            }
        }
        self.schedule.feed_unpacking(self.services.pool.unpackers().room());
    }

    /// Shows the counts, with the gauges worked out now.
    pub(super) fn publish(&mut self) {
        for ledger in self.services.ledgers.values_mut() {
            clear_gauges(ledger);
        }
        let now = self.services.now;
        self.show_topics();
        for (entry, count) in self.streams.asleep() {
            self.services.ledgers.entry(entry.clone()).or_default().streams += count;
        }
        let (mut streams, mut drowsy) = (Vec::new(), Vec::new());
        for ix in self.streams.awake() {
            let Some(stream) = self.streams.get(ix) else { continue };
            let ledger = self.services.ledgers.entry(stream.entry().clone()).or_default();
            let shown = stream.show();
            let lag = shown.size.saturating_sub(shown.mark);
            ledger.streams += 1;
            ledger.pending += stream.pending();
            ledger.lag_bytes += lag;
            if lag > 0 {
                let behind = now.saturating_duration_since(stream.caught_up_at).as_millis() as u64;
                ledger.lag_ms = ledger.lag_ms.max(behind);
            }
            match shown.state {
                StreamState::Blocked(_) => ledger.blocked_streams += 1,
                StreamState::Waiting(_) => ledger.waiting_streams += 1,
                StreamState::Working | StreamState::Idle => {}
            }
            streams.push(shown);
            if stream.may_sleep() {
                drowsy.push(ix);
            }
        }
        let room = STREAMS_LISTED_MAX.saturating_sub(streams.len());
        streams.extend(self.streams.show_sleepers().take(room));
        drowsy.into_iter().for_each(|ix| self.streams.put_to_sleep(ix));
        streams.sort_by_key(|shown| (urgency(&shown.state), std::cmp::Reverse(shown.size.saturating_sub(shown.mark))));
        streams.truncate(STREAMS_LISTED_MAX);
        let totals = ShardTotals {
            inflight_bytes: self.services.budget.charged() as u64,
            inflight_records: self.services.parcels.records(),
            ..self.services.totals.clone()
        };
        let snapshot = ShardSnapshot { entries: self.services.ledgers.clone(), streams, totals };
        self.links.board.publish(self.services.settings.shard, snapshot);
        for (cluster, producer) in &self.services.producers {
            let part = Part::Cluster(cluster.clone());
            match producer.health() {
                Some(trouble) => self.links.board.trouble(part, self.services.settings.shard, trouble),
                None => self.links.board.well(part, self.services.settings.shard),
            }
        }
    }

    /// Topics that streams wait for are shown by name, and no longer when nobody waits.
    fn show_topics(&mut self) {
        let shard = self.services.settings.shard;
        let mut waited_for = BTreeSet::new();
        let awake = self.streams.awake().into_iter().filter_map(|ix| self.streams.get(ix));
        for stream in awake.filter(|stream| !stream.unsent.is_empty()) {
            let entry = &stream.armed.entry;
            let Some(directory) = self.services.topics(&entry.cluster) else { continue };
            for topic in entry.topics.iter().chain(&entry.dead_letter_topic) {
                if let Some(problem) = directory.problem(topic) {
                    let part = Part::Topic(entry.cluster.clone(), topic.clone());
                    self.links.board.trouble(part.clone(), shard, problem);
                    waited_for.insert(part);
                }
            }
        }
        for part in self.services.topics_in_trouble.difference(&waited_for) {
            self.links.board.forget(part.clone(), shard);
        }
        self.services.topics_in_trouble = waited_for;
    }

    /// A producer that failed for good is replaced, and its streams replay from their marks.
    fn renew_broken_producers(&mut self) {
        let broken: Vec<(Arc<str>, String)> = self
            .services
            .producers
            .iter()
            .filter_map(|(cluster, producer)| Some((cluster.clone(), producer.is_fatal()?)))
            .collect();
        for (cluster, why) in broken {
            tracing::error!(%cluster, "the producer failed for good, a new one replays from the marks: {why}");
            self.replace_producer(&cluster);
        }
    }

    /// Nothing that the producer was given will ever be reported.
    pub(super) fn replace_producer(&mut self, cluster: &Arc<str>) {
        self.services.producers.remove(cluster);
        self.services.forget_parcels_of(cluster);
        // What is parked has nothing under way and nothing to go back to.
        let streams: Vec<StreamIx> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.armed.entry.cluster == *cluster)
            .map(|(ix, _)| ix)
            .collect();
        for ix in streams {
            let Some(stream) = self.streams.get_mut(ix) else { continue };
            stream.go_back(&mut self.services);
            self.schedule.ready(ix);
        }
    }
}

/// Gauges are made anew for each snapshot.
fn clear_gauges(ledger: &mut EntryLedger) {
    ledger.pending = LineCount::default();
    ledger.lag_bytes = 0;
    ledger.lag_ms = 0;
    ledger.streams = 0;
    ledger.blocked_streams = 0;
    ledger.waiting_streams = 0;
}

/// Which streams are listed first.
fn urgency(state: &StreamState) -> u8 {
    match state {
        StreamState::Blocked(_) => 0,
        StreamState::Waiting(_) => 1,
        StreamState::Working => 2,
        StreamState::Idle => 3,
    }
}

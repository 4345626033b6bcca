//! The thread that owns a set of streams and does everything that their lines need.
//!
//! Order of one round: commands, delivery reports, timers, one stream's turn, housekeeping. Nothing here blocks but the
//! wait for the next of these, and that never longer than [`WAIT_MAX`].

use super::account;
use super::command::{ShardCommand, ShardReport, StopSummary};
use super::housekeeping::PUBLISH_EVERY;
use super::lane::StartLane;
use super::lively::Lively;
use super::schedule::Schedule;
use super::services::{Services, ShardSettings};
use super::stream::{Life, Stream};
use super::streams::{StreamIx, Streams};
use super::turn::Turn;
use crate::checkpoint::CommitMessage;
use crate::deliver::Report;
use crate::filter::ArmedChain;
use crate::model::EntryName;
use crate::observe::Board;
use crossbeam_channel::{Receiver, Sender};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_tail::StreamKey;

/// The longest wait when there is nothing to do.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The longest wait for delivery reports: commands are looked at in between.
const POLL_MAX: Duration = Duration::from_millis(5);

/// The same while chains are away: they are waited for instead, and reports are looked at in between.
const POLL_BESIDE_LANE: Duration = Duration::from_millis(1);

/// Room for so many delivery reports is kept.
const CAME_KEPT: usize = 1024;

/// What connects a shard with the rest.
pub struct ShardLinks {
    /// From the conductor.
    pub commands: Receiver<ShardCommand>,
    /// To the conductor: says it and wakes it.
    pub report: Box<dyn Fn(ShardReport) + Send>,
    /// To the commit thread.
    pub commits: Sender<CommitMessage>,
    /// Where counts are shown.
    pub board: Board,
    /// Starts a second thread for filters whose calls are dear, when there are any.
    pub lane: StartLane,
}

/// One shard.
pub struct Shard {
    pub(super) streams: Streams,
    pub(super) schedule: Schedule,
    pub(super) services: Services,
    pub(super) lively: Lively,
    pub(super) links: ShardLinks,
    pub(super) checkpoint_at: Instant,
    pub(super) publish_at: Instant,
    /// Set when the agent stops: when to give up waiting for acknowledgements.
    pub(super) stopping: Option<Instant>,
    came: Vec<Report>,
}

impl Shard {
    /// A shard without streams.
    pub fn new(settings: ShardSettings, mut links: ShardLinks) -> Self {
        let now = Instant::now();
        let lane = std::mem::replace(&mut links.lane, Box::new(|_| Err("it was started before".to_owned())));
        Shard {
            streams: Streams::default(),
            schedule: Schedule::default(),
            checkpoint_at: now + settings.checkpoint_every,
            publish_at: now,
            services: Services::new(settings, lane),
            lively: Lively::default(),
            links,
            stopping: None,
            came: Vec::new(),
        }
    }

    /// Works until it is told to stop, or the conductor is gone.
    pub fn run(mut self) {
        while self.hear() && self.wait() && !self.is_drained() {
            self.round();
        }
        self.finish();
    }

    /// What is done between two looks at the commands.
    pub(super) fn round(&mut self) {
        self.poll_reports();
        self.services.now = Instant::now();
        self.schedule.ring(self.services.now);
        if let Some(ix) = self.schedule.next() {
            self.turn(ix);
        }
        self.housekeeping();
    }

    /// Takes what was said and what comes from the lane. False when nobody can say anything more.
    pub(super) fn hear(&mut self) -> bool {
        loop {
            match self.links.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(crossbeam_channel::TryRecvError::Empty) => break,
                Err(crossbeam_channel::TryRecvError::Disconnected) => return self.goes_on_alone(),
            }
        }
        while let Ok(from_lane) = self.services.lane.returns().try_recv() {
            self.welcome(from_lane);
        }
        true
    }

    /// Waits for the next of these when there is nothing else to do.
    fn wait(&mut self) -> bool {
        let reports_may_come = !self.services.parcels.is_empty();
        if self.schedule.has_ready() || reports_may_come && self.services.lane.away() == 0 {
            return true;
        }
        let now = Instant::now();
        let next = self
            .schedule
            .next_timer()
            .into_iter()
            .chain([self.checkpoint_at, self.publish_at])
            .chain(self.stopping)
            .min();
        let longest = if reports_may_come { POLL_BESIDE_LANE } else { WAIT_MAX };
        let wait = next.map_or(longest, |moment| moment.saturating_duration_since(now)).min(longest);
        crossbeam_channel::select! {
            recv(self.links.commands) -> command => match command {
                Ok(command) => self.obey(command),
                Err(_) => return self.goes_on_alone(),
            },
            recv(self.services.lane.returns()) -> from_lane => if let Ok(from_lane) = from_lane {
                self.welcome(from_lane);
            },
            default(wait) => {}
        }
        true
    }

    /// Nobody can say anything more: a shard that stops goes on to its end.
    fn goes_on_alone(&mut self) -> bool {
        self.links.commands = crossbeam_channel::never();
        self.stopping.is_some()
    }

    fn obey(&mut self, command: ShardCommand) {
        match command {
            ShardCommand::Open(opening) => self.open(*opening),
            // Whether it is at its end is not known until it is read again, which may have to wait for room.
            ShardCommand::Grew(key) => self.with(&key, |stream| stream.at_end = false),
            ShardCommand::Moved { key, to } => self.with(&key, |stream| {
                stream.chain.set_path(to.as_os_str().as_bytes().into());
                stream.path = to.into();
                stream.dirty = true;
            }),
            ShardCommand::Shrank(key) => self.with(&key, |stream| stream.shrank = stream.reader.position() == 0),
            ShardCommand::Leaving { key, gone } => self.with(&key, |stream| {
                stream.gone = gone;
                stream.at_end &= !stream.reader.is_open();
                if stream.life == Life::Reading {
                    stream.life = Life::Leaving;
                }
            }),
            ShardCommand::Back(key) => self.with(&key, |stream| {
                stream.gone = false;
                if stream.life == Life::Leaving {
                    stream.life = Life::Reading;
                }
            }),
            ShardCommand::Reopened { key, file } => self.with(&key, |stream| stream.reopened(file)),
            ShardCommand::GiveUp(key) => self.with(&key, Stream::give_up),
            ShardCommand::CountLost { entry, bytes } => self.services.ledger(&entry).lost_bytes += bytes,
            ShardCommand::Close(key) => self.with(&key, |stream| stream.life = Life::Closing),
            ShardCommand::Replan { entry, armed } => self.replan(&entry, &armed),
            ShardCommand::Stop { deadline } => {
                self.stopping = Some(deadline);
                // Whatever was between read and deliver goes on to its end.
                self.streams.all().into_iter().for_each(|ix| self.schedule.ready(ix));
            }
        }
    }

    fn with(&mut self, key: &StreamKey, change: impl FnOnce(&mut Stream)) {
        if let Some(ix) = self.streams.find(key)
            && let Some(stream) = self.streams.get_mut(ix)
        {
            change(stream);
            self.schedule.set_leaving(ix, stream.life == Life::Leaving);
            self.schedule.ready(ix);
        }
    }

    fn replan(&mut self, entry: &EntryName, armed: &Arc<ArmedChain>) {
        for ix in self.streams.of_entry(entry) {
            if let Some(stream) = self.streams.get_mut(ix) {
                stream.next_armed = Some(armed.clone());
                self.schedule.ready(ix);
            }
        }
    }

    /// One stream's turn, and what follows from how it ended.
    fn turn(&mut self, ix: StreamIx) {
        self.streams.wake(ix);
        self.publish_at = self.publish_at.min(self.services.now + PUBLISH_EVERY);
        let may_read = self.stopping.is_none() && !self.must_wait(ix);
        let until = Instant::now() + self.services.settings.turn;
        let unpackers = self.services.pool.unpackers();
        unpackers.let_in(self.schedule.may_unpack(ix, unpackers.room()));
        let Some(stream) = self.streams.get_mut(ix) else {
            return;
        };
        stream.rest_tried = false;
        let turn = stream.turn(&mut self.services, until, may_read);
        match turn {
            Turn::Again => self.schedule.ready(ix),
            Turn::Idle => {}
            Turn::Starved => self.schedule.starved(ix),
            Turn::Unpacking => self.schedule.wait_to_unpack(ix),
            Turn::Crowded => self.services.lane.wait(stream.entry(), ix),
            Turn::Until(moment) => self.schedule.at(moment, ix),
            Turn::AsksNext => self.ask_next(ix),
            Turn::Truncated => {
                stream.life = Life::Truncated;
                self.schedule.ready(ix);
            }
        }
        if turn != Turn::Unpacking {
            self.schedule.leave_unpack_queue(ix);
        }
        for (moment, ix) in self.services.wakes.drain(..) {
            self.schedule.at(moment, ix);
        }
        for report in self.services.says.drain(..) {
            (self.links.report)(report);
        }
        self.arrange_places(ix, turn);
        self.pass_on(ix);
        self.note_lively(ix);
        self.end_if_due(ix);
        self.wake_successors(ix);
        self.schedule.feed_unpacking(self.services.pool.unpackers().room());
    }

    /// Takes a stream off the shard when everything of it has come to an end.
    fn end_if_due(&mut self, ix: StreamIx) {
        let Some(stream) = self.streams.get_mut(ix) else {
            return;
        };
        let Some(report) = stream.ended(&self.services) else {
            return;
        };
        stream.leave_ledger(&mut self.services);
        stream.leave_lane(&mut self.services);
        let key = stream.key.clone();
        let record = match &report {
            ShardReport::Finished { record, .. }
            | ShardReport::Closed { record, .. }
            | ShardReport::Truncated { record, .. } => Some((**record).clone()),
            _ => None,
        };
        let records = record.into_iter().collect();
        let _ = self.links.commits.send(CommitMessage::Commit { records, removed: Vec::new() });
        (self.links.report)(report);
        let mut waiting = self.streams.waiting_behind(&key);
        waiting.extend(self.streams.behind(&key)); // one that nobody is before any more may be parked
        self.streams.remove(ix);
        self.schedule.forget(ix);
        waiting.into_iter().for_each(|ix| self.schedule.ready(ix));
    }

    /// Takes delivery reports, waiting a little when there is nothing else to do.
    fn poll_reports(&mut self) {
        // With chains away `wait` has waited.
        let waits = !self.schedule.has_ready() && !self.services.parcels.is_empty() && self.services.lane.away() == 0;
        let mut wait = if waits { POLL_MAX } else { Duration::ZERO };
        if let Some(moment) = self.schedule.next_timer() {
            wait = wait.min(moment.saturating_duration_since(Instant::now()));
        }
        let mut came = std::mem::take(&mut self.came);
        for producer in self.services.producers.values_mut() {
            producer.poll(std::mem::take(&mut wait), &mut came);
        }
        self.services.now = Instant::now();
        for report in came.drain(..) {
            self.settle(report);
        }
        came.shrink_to(CAME_KEPT);
        self.came = came;
    }

    /// What a report means for its stream.
    pub(super) fn settle(&mut self, report: Report) {
        let Some(note) = self.services.parcels.take(report.tag) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(note.stream) else {
            return;
        };
        self.services.budget.release(&note.entry, &note.topic, note.charged);
        if stream.incarnation != note.incarnation {
            return;
        }
        stream.outstanding -= 1;
        if report.acked > 0 {
            account::acknowledged(stream, &note, report.acked, report.set.value_bytes(), &mut self.services);
        }
        if !report.failed.is_empty() {
            stream.refused(report.tag, &report.set, &note, report.failed);
        } else if note.alone {
            stream.trial_passed();
        }
        let wake = stream.recovery.is_active() || stream.life != Life::Reading || stream.next_armed.is_some();
        if stream.at_end && stream.partial_bytes == 0 && stream.pending().is_zero() {
            stream.caught_up_at = self.services.now;
        }
        if wake {
            self.schedule.ready(note.stream);
        }
        self.schedule.feed_starved();
    }

    /// Whether a stopping shard has nothing left to wait for.
    pub(super) fn is_drained(&self) -> bool {
        let Some(deadline) = self.stopping else {
            return false;
        };
        let working = self.streams.iter().any(|(_, stream)| stream.will_send_more(&self.services));
        (self.services.parcels.is_empty() && !working) || Instant::now() >= deadline
    }

    /// Gives up what is still under way, collects every report, writes the marks.
    pub(super) fn finish(&mut self) {
        let mut came = Vec::new();
        let until = Instant::now() + Duration::from_secs(2);
        for producer in self.services.producers.values_mut() {
            producer.purge_and_drain(until, &mut came);
        }
        let undelivered = came.iter().map(|report| report.failed.len() as u64).sum::<u64>();
        for mut report in came {
            // Purged, not refused: the mark stays before it and it comes again.
            let purged = std::mem::take(&mut report.failed);
            if purged.is_empty() || report.acked > 0 {
                self.settle(report);
            }
        }
        self.services.lane.close();
        self.take_snapshots();
        self.commit_marks(true);
        self.tell_untold(true);
        self.publish();
        let unsent: u64 = self.streams.iter().map(|(_, stream)| stream.unsent_records()).sum();
        let summary = StopSummary { shard: self.services.settings.shard, undelivered_records: undelivered + unsent };
        (self.links.report)(ShardReport::Stopped(summary));
    }
}

//! One turn of a stream: batches through read, filter and deliver until its time is up or it has to wait.

use super::errand::{Came, Errand};
use super::services::Services;
use super::stream::{Life, Stream, Stuck};
use super::{account, events};
use crate::filter::{ArmedChain, Chain, Step};
use crate::model::HeaderKind;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_engine::Fault;
use tailmill_tail::{BatchLimits, FileOffset, Read};

/// How long a filter that fails with `on_error: block` rests before it gets the line again: a new module may have come
/// meanwhile, and a fault that depends on time may be gone.
const BLOCKED_RETRY: Duration = Duration::from_secs(10);

/// One filter call aims at this much time at the most.
const CALL_AIM: Duration = Duration::from_millis(10);

/// Lines of the smallest batch that a slow filter gets.
const BATCH_LINES_MIN: usize = 16;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its time is up and there is more.
    Again,
    /// Nothing to do until something happens (growth, a report, a command).
    Idle,
    /// No room in the budget: until something is settled.
    Starved,
    /// Enough compressed files are being unpacked: until it is this one's turn.
    Unpacking,
    /// Enough streams of its entry have a batch on the lane: until it is this one's turn.
    Crowded,
    /// Until this moment, or until something happens.
    Until(Instant),
    /// At the end of a finished file, with a record that may go on in the next one: what that begins with has to be known.
    AsksNext,
    /// The reader failed for good, or the file was truncated: this generation is over.
    Truncated,
}

impl Stream {
    /// Works until `until`. `may_read`: no predecessor goes first, and the shard is not stopping.
    pub(super) fn turn(&mut self, services: &mut Services, until: Instant, may_read: bool) -> Turn {
        loop {
            services.now = Instant::now();
            if let Some(end) = self.turn_step(services, until, may_read) {
                return end;
            }
            if services.now >= until {
                return Turn::Again;
            }
        }
    }

    /// One step of a turn; `Some` ends it.
    fn turn_step(&mut self, services: &mut Services, until: Instant, may_read: bool) -> Option<Turn> {
        if self.chain.is_away() {
            return Some(Turn::Idle);
        }
        if self.recovery.is_active() {
            return Some(self.recover(services).map_or(Turn::Idle, Turn::Until));
        }
        if !self.send_unsent(services) {
            return Some(Turn::Until(services.now + services.settings.topic_retry));
        }
        if let Some(came) = self.chain.take() {
            return self.came(came, services);
        }
        if let Some(armed) = self.swap_due() {
            return self.errand(Errand::Swap(armed), services, until);
        }
        if let Some(stuck) = self.stuck.as_ref().filter(|stuck| stuck.retry_at > services.now) {
            return Some(Turn::Until(stuck.retry_at));
        }
        if !self.chain.is_idle() {
            return self.errand(Errand::Step, services, until);
        }
        let Some(chain) = self.chain.here() else { return Some(Turn::Idle) };
        if let Some(moment) = chain.tick_due() {
            if moment <= services.now {
                chain.tick(services.now);
                // What a tick lets go a later filter may hold, and let go when the chain is flushed.
                self.flushed = false;
                return None;
            }
            services.wake_at(self.ix, moment);
        }
        if self.catches_up(services) {
            return None;
        }
        match self.life {
            Life::Finishing | Life::Truncated | Life::GivingUp { .. } => return self.let_go(services),
            Life::Closing => return Some(Turn::Idle),
            Life::Reading | Life::Leaving if self.shrank => return Some(Turn::Truncated),
            Life::Leaving if self.gone && !self.reader.is_open() => {
                // Closed at its end, and deleted: there is no more.
                self.life = Life::Finishing;
                return None;
            }
            Life::Reading | Life::Leaving if !self.reader.is_open() => return Some(Turn::Idle),
            Life::Reading | Life::Leaving if !may_read => return Some(Turn::Idle),
            Life::Reading | Life::Leaving => {}
        }
        if !services.budget.has_room(self.entry(), &self.topic().clone()) {
            return Some(Turn::Starved);
        }
        if self.armed.dearness.is_dear() && !services.lane.may_enter(self.entry(), self.ix, self.has_place) {
            return Some(Turn::Crowded);
        }
        self.read_more(services)
    }

    /// Has the chain do something that calls its filters: on the spot, or on the lane when such calls are dear.
    fn errand(&mut self, errand: Errand, services: &mut Services, until: Instant) -> Option<Turn> {
        let next = if let Errand::Swap(armed) = &errand { armed } else { &self.armed };
        self.is_saved = false;
        let is_dear = self.armed.dearness.is_dear() || next.dearness.is_dear();
        if is_dear && services.lane.is_up() {
            self.send_away(errand, services);
            return Some(Turn::Idle);
        }
        let Some(chain) = self.chain.here() else { return Some(Turn::Idle) };
        let entry = self.armed.entry.name.clone();
        let (shared, ledger) = services.shared_and_ledger(&entry);
        let (came, longest_call) = errand.run(chain, shared, ledger, until);
        self.saw(&came, longest_call);
        self.came(came, services)
    }

    /// What came of an errand.
    fn came(&mut self, came: Came, services: &mut Services) -> Option<Turn> {
        self.log_events(services);
        match came {
            Came::Stepped(step) => self.stepped(step, services),
            Came::Swapped(armed, swapped) => self.swapped(armed, swapped, services),
            Came::Saved(saved) => {
                self.saved(saved, services);
                (self.dirty, self.is_saved) = (true, true);
                None
            }
            Came::Rested => {
                self.rest_tried = true;
                None
            }
        }
    }

    fn stepped(&mut self, step: Step, services: &mut Services) -> Option<Turn> {
        match step {
            Step::Working => Some(Turn::Again),
            Step::Done(answered) => {
                self.stuck = None;
                self.take(answered, services);
                self.adapt_batch();
                None
            }
            Step::Blocked { so_far, line, fault, stage, until } => {
                self.take(so_far, services);
                let name = self.armed.entry.filters.get(stage).map_or("?", |filter| &*filter.name);
                if let Some(until) = until {
                    let reason =
                        format!("filter {name} failed on too many lines and is left alone for a while: {fault}");
                    return Some(self.rest(reason, line, until, services));
                }
                let reason = format!(
                    "filter {name} fails on the line at offset {line} of {}: {fault} (on_error is \"block\": replace the \
                     module, change the entry, or step over the line with `tailmill state step-over`)",
                    self.path.display()
                );
                Some(self.stand_still(reason, Some(line), services))
            }
        }
    }

    /// At a batch boundary, or while stuck: take over what the entry says now.
    fn swap_due(&mut self) -> Option<Arc<ArmedChain>> {
        if !self.chain.is_idle() && self.stuck.is_none() {
            return None;
        }
        self.next_armed.take()
    }

    fn swapped(&mut self, armed: Arc<ArmedChain>, swapped: Result<(), Fault>, services: &mut Services) -> Option<Turn> {
        match swapped {
            Ok(()) => {
                self.reader.set_framing(armed.entry.framing.clone());
                if armed.entry.topics[0] != self.armed.entry.topics[0] {
                    self.partition = None;
                }
                self.armed = armed;
                self.dirty = true;
                self.stuck = None;
                // What an earlier filter would not let go, the new one may.
                self.flushed = false;
            }
            Err(fault) => {
                let entry = &armed.entry.name;
                let reason =
                    format!("the new filters of entry {entry} do not take over: {fault}; the old ones stay in force");
                account::stuck(self, services, &reason);
            }
        }
        None
    }

    /// What guests said and how they failed, under the entry's and the filter's name.
    pub(super) fn log_events(&mut self, services: &mut Services) {
        for event in self.chain.take_events() {
            events::log(self.entry(), &self.path, &event, &mut services.said, services.now);
        }
    }

    /// Reads the next batch and hands it to the chain.
    fn read_more(&mut self, services: &mut Services) -> Option<Turn> {
        if let Some(batch) = self.rest.pop_front() {
            self.enter(batch);
            return None;
        }
        let limits = BatchLimits { bytes: services.settings.batch_bytes, lines: self.next_lines() };
        let read = match self.may_go_on() {
            true => self.reader.read(&limits, &services.pool),
            false => self.reader.read_due(&limits, &services.pool, services.now),
        };
        match read {
            Ok(Read::Batch(batch)) if self.predecessor.is_some() => {
                // Whatever lay in the file before when this was read goes first.
                self.take_in(batch, services);
                self.must_ask = true;
                Some(Turn::Again)
            }
            Ok(Read::Batch(batch)) => {
                self.offer(batch, services);
                None
            }
            Ok(Read::Working) => {
                self.at_end = false;
                self.read_at = services.now;
                None
            }
            Ok(Read::Waiting) => {
                self.at_end = false;
                Some(Turn::Unpacking)
            }
            Ok(Read::AtEnd { partial_bytes }) => {
                self.at_end = true;
                self.note_packed_end(services);
                if partial_bytes != self.partial_bytes {
                    // A line that is still being written is not quiet.
                    self.quiet_since = None;
                }
                self.partial_bytes = partial_bytes;
                if partial_bytes == 0 && self.pending().is_zero() {
                    self.caught_up_at = services.now;
                }
                self.wait_at_end(services)
            }
            Ok(Read::Truncated { .. }) => Some(Turn::Truncated),
            Err(error) => Some(self.read_failed(error, services)),
        }
    }

    /// A batch enters the chain.
    pub(super) fn offer(&mut self, batch: tailmill_tail::Batch, services: &mut Services) {
        if self.step_over.is_empty() {
            self.note_read(&batch, services);
            return self.enter(batch);
        }
        self.take_in(batch, services);
        if let Some(first) = self.rest.pop_front() {
            self.enter(first);
        }
    }

    /// A batch was read, and is kept in the hand.
    fn take_in(&mut self, batch: tailmill_tail::Batch, services: &mut Services) {
        self.note_read(&batch, services);
        if self.step_over.is_empty() {
            self.rest.push_back(batch);
        } else {
            self.leave_out(batch, services);
        }
    }

    fn note_read(&mut self, batch: &tailmill_tail::Batch, services: &mut Services) {
        account::read(self, batch, services);
        self.progress.note_boundary(batch.evidence);
        self.read_at = services.now;
        self.read_since_seen = true;
        self.at_end = false;
        self.partial_bytes = 0;
        self.quiet_since = None;
        self.idle_since = None;
        self.dirty = true;
        self.ends_otherwise();
    }

    /// A whole batch, or what is left of one.
    pub(super) fn enter(&mut self, batch: tailmill_tail::Batch) {
        if !batch.is_empty() {
            if self.armed.entry.headers.contains(&HeaderKind::Line) {
                self.line_numbers.get_or_insert_default().add(&batch);
            }
            match self.chain.here() {
                Some(chain) => chain.offer(batch),
                None => self.rest.push_front(batch),
            }
        }
    }

    /// At the end of the file: wait for growth, or for the quiet that finishes a leaving file.
    fn wait_at_end(&mut self, services: &mut Services) -> Option<Turn> {
        if self.life != Life::Leaving {
            self.close_if_idle(services);
            return Some(self.reader.join_due().map_or(Turn::Idle, Turn::Until));
        }
        let since = *self.quiet_since.get_or_insert(services.now);
        let done_at = since + self.armed.entry.finish_after;
        let join_due = self.reader.join_due();
        if services.now >= done_at {
            return self.finish_file(services);
        }
        if join_due.is_some_and(|due| due <= services.now) && self.may_go_on() {
            return self.finish_across(services);
        }
        Some(Turn::Until(join_due.map_or(done_at, |due| due.min(done_at))))
    }

    /// At the end of a compressed file: what is wrong with it is told once, and where its content ends is remembered, so
    /// that a restart need not unpack it to know.
    pub(super) fn note_packed_end(&mut self, services: &mut Services) {
        if let Some(problem) = self.reader.take_problem() {
            account::stuck(self, services, &format!("while reading {}: {problem}", self.path.display()));
        }
        let evidence = self.reader.evidence();
        if evidence.packed_bytes.is_some() {
            self.progress.note_boundary(evidence);
        }
    }

    /// Nothing could be read: loud, and again later. The mark stays.
    pub(super) fn read_failed(&mut self, error: tailmill_tail::reader::ReadError, services: &mut Services) -> Turn {
        let reason = format!("while reading {}: {error}", self.path.display());
        self.stand_still(reason, None, services)
    }

    /// Only a person or time can help: says so once, and tries again later.
    pub(super) fn stand_still(&mut self, reason: String, line: Option<FileOffset>, services: &mut Services) -> Turn {
        if self.stuck.is_none() {
            account::stuck(self, services, &reason);
        }
        let retry_at = services.now + BLOCKED_RETRY;
        self.stuck = Some(Stuck { reason, line, retry_at });
        self.dirty = true;
        // What came before it does not wait with it.
        let topic_retry = services.now + services.settings.topic_retry;
        Turn::Until(if self.unsent.is_empty() { retry_at } else { retry_at.min(topic_retry) })
    }

    /// A filter's breaker is open. The log has it from the file that opened it; the status has it from each.
    fn rest(&mut self, reason: String, line: FileOffset, until: Instant, services: &mut Services) -> Turn {
        let now_ms = services.now_ms();
        services.ledger(&self.armed.entry.name).error(now_ms, &*reason);
        self.stuck = Some(Stuck { reason, line: Some(line), retry_at: until });
        self.dirty = true;
        let topic_retry = services.now + services.settings.topic_retry;
        Turn::Until(if self.unsent.is_empty() { until } else { until.min(topic_retry) })
    }

    /// Batches follow the cost of the filters, so that a call aims at 10 ms and a slow filter does not hold the shard.
    fn adapt_batch(&mut self) {
        let Some(ns_per_line) = self.chain.at_rest().and_then(Chain::cost_hint) else {
            return;
        };
        self.batch_lines = fitting_lines(ns_per_line, self.batch_lines_max);
        self.armed.dearness.fits(self.batch_lines);
    }
}

/// Lines of a batch whose call takes the time that is aimed at; never more than `most`.
fn fitting_lines(ns_per_line: f64, most: usize) -> usize {
    let lines = (CALL_AIM.as_nanos() as f64 / ns_per_line.max(0.1)) as usize;
    lines.clamp(BATCH_LINES_MIN.min(most), most)
}

#[cfg(test)]
mod tests {
    use super::fitting_lines;

    #[test]
    fn batches_follow_the_cost_of_a_line_within_their_bounds() {
        let cases = [
            (0.0, 4096, 4096),
            (1_000.0, 4096, 4096),
            (10_000.0, 4096, 1000),
            (1e9, 4096, 16),
            (1e9, 5, 5),
            (1.0, 1, 1),
        ];
        for (ns_per_line, most, lines) in cases {
            assert_eq!(fitting_lines(ns_per_line, most), lines, "{ns_per_line} ns a line, at most {most} lines");
        }
    }
}

//! Chains of dear filters leave their streams for the lane, and return.
//!
//! In: errands that would hold up the shard. Out: the same stream, later. Meanwhile the stream stands still: what it is
//! told is noted and takes effect when its chain is back; nothing of it ends, and it does not go back to its mark.

use super::account;
use super::errand::{Came, Errand};
use super::lane::{FromLane, Return, Trip};
use super::services::Services;
use super::shard::Shard;
use super::stream::{Life, Stream};
use super::streams::StreamIx;
use super::turn::Turn;
use crate::checkpoint::StageSnapshot;
use crate::filter::{Chain, RestWhy, Turned};
use std::time::{Duration, Instant};
use tailmill_engine::Fault;

impl Stream {
    /// The chain goes to the lane, which is up.
    pub(super) fn send_away(&mut self, errand: Errand, services: &mut Services) {
        let Some(chain) = self.chain.depart() else { return };
        if matches!(errand, Errand::Step) && !self.has_place {
            self.has_place = true;
            services.lane.take_place(self.entry());
        }
        services.lane.send(Trip { stream: self.ix, chain, errand });
    }

    /// An errand was done: whether such ones hold up the shard.
    pub(super) fn saw(&self, came: &Came, longest_call: Duration) {
        let armed = if let Came::Swapped(next, _) = came { next } else { &self.armed };
        match armed.dearness.saw(longest_call) {
            Some(Turned::Dear) => tracing::info!(
                entry = %self.entry(), file = %self.path.display(), call_ms = longest_call.as_millis(),
                "calls of its filters take long: from now on they run beside the other entries"
            ),
            Some(Turned::Cheap) => {
                tracing::info!(entry = %self.entry(), "calls of its filters are short again: they run with the other entries")
            }
            None => {}
        }
    }

    /// Has the filters save their state, at a batch boundary, for a new resume point.
    pub(super) fn save(&mut self, services: &mut Services) {
        let is_dear = self.armed.dearness.is_dear() && self.chain.at_rest().is_some_and(Chain::wants_snapshots);
        if is_dear && services.lane.is_up() {
            return self.send_away(Errand::Save, services);
        }
        let Some(chain) = self.chain.here() else { return };
        let saved = chain.snapshot(services.ledger(&self.armed.entry.name));
        self.log_events(services);
        self.saved(saved, services);
    }

    /// Has the filters go on without instances, as far as they can.
    pub(super) fn put_to_rest(&mut self, why: RestWhy, services: &mut Services) {
        if self.armed.dearness.is_dear() && services.lane.is_up() {
            return self.send_away(Errand::Rest(why), services);
        }
        let (Some(chain), now) = (self.chain.here(), services.now) else { return };
        chain.rest(services.ledger(&self.armed.entry.name), now, why);
        self.log_events(services);
    }

    /// At a batch boundary: what housekeeping would have done, had it found the stream at one. A stream with a dear chain and
    /// enough to read never is when somebody looks. True: the chain has something to do.
    pub(super) fn catches_up(&mut self, services: &mut Services) -> bool {
        if self.save_due && self.rest.is_empty() {
            self.save_due = false;
            if !self.is_saved {
                self.save(services);
                self.dirty = true;
                return true;
            }
        }
        std::mem::take(&mut self.call_in_due) && self.call_in(services.now)
    }

    /// A mark does not wait for ever for a filter that holds a line. True: it is called in.
    pub(super) fn call_in(&mut self, now: Instant) -> bool {
        let Some(chain) = self.chain.here().filter(|chain| chain.is_idle() && chain.is_overdue(now)) else {
            return false;
        };
        chain.call_in(now);
        true
    }

    /// The filters saved their state.
    pub(super) fn saved(&mut self, saved: Result<Option<Vec<StageSnapshot>>, Fault>, services: &mut Services) {
        match saved {
            // It has read nothing meanwhile, wherever its chain was.
            Ok(Some(stages)) => self.progress.snapshot_taken(self.reader.position(), self.reader.evidence(), stages),
            // At rest, and its state cannot be saved whole: an older one would bring back all that went out since.
            Ok(None) if self.chain.is_idle() => self.progress.forget_snapshots(),
            Ok(None) => {}
            // The log has it as a fault, bounded.
            Err(fault) => {
                let reason = format!("while saving the filter state of {}: {fault}", self.path.display());
                let now_ms = services.now_ms();
                services.ledger(&self.armed.entry.name).error(now_ms, reason);
            }
        }
    }

    /// Back to the mark, because nothing that is under way will ever be reported: now, or when the chain is back.
    pub(super) fn go_back(&mut self, services: &mut Services) {
        self.goes_back = self.chain.is_away();
        if self.goes_back {
            return;
        }
        account::rewound(self, services);
        if self.life == Life::Finishing {
            self.life = Life::Leaving;
        }
        if let Err(error) = self.rewind() {
            let reason = format!("while going back in {}: {error}", self.path.display());
            account::stuck(self, services, &reason);
        }
    }

    /// Lines of the next batch, at the most. A filter whose cost is not known is not given more than fitted its sisters.
    pub(super) fn next_lines(&self) -> usize {
        let knows = |chain: &Chain| chain.cost_hint().is_some();
        if !self.armed.dearness.is_dear() || self.chain.at_rest().is_none_or(knows) {
            return self.batch_lines;
        }
        self.batch_lines.min(self.armed.dearness.first_lines())
    }

    /// The stream is taken off its shard.
    pub(super) fn leave_lane(&mut self, services: &mut Services) {
        services.lane.leave_queue(&self.armed.entry.name, self.ix);
        if std::mem::take(&mut self.has_place) {
            services.lane.give_place_back(&self.armed.entry.name);
        }
    }

    /// Whether it has something on the lane that pins memory, and will have until it is done.
    fn needs_place(&self) -> bool {
        let stands = self.stuck.is_some() || self.recovery.is_active();
        self.chain.is_away() || !self.chain.is_idle() && !stands
    }
}

impl Shard {
    /// A chain is back.
    pub(super) fn welcome(&mut self, from_lane: FromLane) {
        let FromLane::Return(back) = from_lane else {
            // As if the panic had been here: whoever waits for this thread sees it.
            panic!("the lane of shard {} panicked", self.services.settings.shard);
        };
        let Return { stream: ix, chain, came, ledger, longest_call } = *back;
        self.services.lane.came_back();
        *self.services.ledger(&chain.armed().entry.name) += &ledger;
        let Some(stream) = self.streams.get_mut(ix) else { return };
        stream.saw(&came, longest_call);
        stream.chain.come_back(chain, came);
        if stream.goes_back {
            stream.go_back(&mut self.services);
        }
        self.schedule.ready(ix);
    }

    /// After a stream's turn: whether it waits for a place on the lane, needs its own any longer, and who is next.
    pub(super) fn arrange_places(&mut self, ix: StreamIx, turn: Turn) {
        if !self.services.lane.is_in_use() {
            return;
        }
        let Some(stream) = self.streams.get_mut(ix) else { return };
        let (entry, lane) = (&stream.armed.entry.name, &mut self.services.lane);
        let mut is_room = turn != Turn::Crowded && lane.leave_queue(entry, ix);
        if stream.has_place && !stream.needs_place() {
            stream.has_place = false;
            lane.give_place_back(&stream.armed.entry.name);
            is_room = true;
        }
        if is_room {
            lane.next(&stream.armed.entry.name).into_iter().for_each(|next| self.schedule.ready(next));
        }
    }
}

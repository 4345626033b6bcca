//! Instances that are put to rest: those of streams that have nothing to do, and those that have grown.
//!
//! A filter that can save its state needs no instance between two batches: what it saved is loaded by the next one. So
//! twenty thousand files that nobody writes to cost twenty thousand states, not as many instances; and an instance whose
//! memory, which never shrinks, comes near its limit is replaced before it fails.

use super::armory::ArmedStage;
use super::chain::Chain;
use super::meter::Meter;
use super::stage::{Life, Stage};
use crate::observe::EntryLedger;
use std::time::{Duration, Instant};

/// Ticks of a filter at rest come at most this often: each costs a start.
pub(super) const RESTING_TICK: Duration = Duration::from_secs(60);
/// An instance is replaced when it has used so much of the room between what it was born with and its limit, in percent …
const GROWN_PERCENT: usize = 75;
/// … and has worked so many times as long as a start takes, so that starts never cost more than a twentieth.
const WORTH_STARTS: u64 = 20;

/// How an instance has lived so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    /// Linear memory after its start, in bytes.
    pub born_bytes: usize,
    /// What the start took.
    pub start_ns: u64,
    /// What its calls with lines took since.
    pub busy_ns: u64,
}

impl Growth {
    /// Whether it should be replaced at the next chance.
    pub(super) fn is_enough(&self, bytes: usize, limit: usize) -> bool {
        let room = limit.saturating_sub(self.born_bytes);
        let grown = bytes.saturating_sub(self.born_bytes);
        grown > 0 && grown >= room / 100 * GROWN_PERCENT && self.busy_ns >= WORTH_STARTS * self.start_ns
    }
}

/// Why instances are put to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestWhy {
    /// Nothing has come for a while: only what time does not change.
    Idle,
    /// There are too many: also what wants brisk ticks.
    TooMany,
}

impl Stage {
    /// Whether its instance has grown so much that it should be replaced, and can be.
    pub(super) fn has_grown(&self, armed: &ArmedStage) -> bool {
        let Life::Up(guest) = &self.life else { return false };
        self.saves && self.growth.is_enough(guest.memory_bytes(), armed.plan.limits.memory_bytes)
    }

    /// What it has seen is saved: the next instance goes on from that.
    pub(super) fn put_down(&mut self) {
        self.life = Life::Down;
    }

    /// Whether the saved state covers all that the instance has seen.
    pub(super) fn is_saved(&self) -> bool {
        self.saved.is_some() && self.backlog.since_save() == 0 && self.unsaved_bytes == 0
    }

    /// Number of the next line and the state, if that is all there is to know.
    pub(super) fn saved_as(&self) -> Option<(u64, &[u8])> {
        let saved = self.saved.as_ref().filter(|_| self.is_saved() && self.held.is_none())?;
        (saved.next_seq == self.next_seq).then_some((saved.next_seq, &*saved.state))
    }

    /// Puts an instance down that has nothing to do, if its state can be saved and time changes nothing in it. A fault costs
    /// the instance as it always does; what it had seen is fed to the next one.
    fn rest(&mut self, armed: &ArmedStage, meter: &mut Meter<'_>, now: Instant, why: RestWhy) {
        let wants_ticks = self.every.is_some_and(|every| every < RESTING_TICK);
        if !self.saves || !matches!(self.life, Life::Up(_)) || (wants_ticks && self.held.is_some()) {
            return;
        }
        let is_brisk = wants_ticks && why == RestWhy::Idle;
        let before =
            self.saved.as_ref().filter(|_| is_brisk && self.backlog.was_ticked()).map(|saved| saved.state.clone());
        if !self.is_saved() && self.save(meter).is_some() {
            meter.ledger.recycles += 1;
            return;
        }
        let unchanged = before.is_some() && self.saved.as_ref().map(|saved| &saved.state) == before.as_ref();
        if !self.is_saved() || (is_brisk && !unchanged) {
            return;
        }
        if armed.has_ticks && !self.asks_again(meter, now) {
            return;
        }
        meter.ledger.rests += 1;
        self.put_down();
    }

    /// Asks how often it wants ticks from now on. False: that failed.
    fn asks_again(&mut self, meter: &mut Meter<'_>, now: Instant) -> bool {
        let Life::Up(guest) = &mut self.life else { return false };
        match meter.call(&mut **guest, |guest| guest.every_ms()) {
            Ok(every) => {
                let every = every.map(|ms| Duration::from_millis(u64::from(ms)));
                self.next_tick = every.map(|every| now + every.max(RESTING_TICK));
                true
            }
            Err(_) => {
                meter.ledger.recycles += 1;
                self.life = Life::Down;
                false
            }
        }
    }
}

impl Chain {
    /// Whether a filter has an instance of this stream's own that could be put to rest.
    pub fn has_instances(&self) -> bool {
        self.stages.iter().any(|stage| stage.saves && matches!(stage.life, Life::Up(_)))
    }

    /// Instances of this stream's own.
    pub fn instances(&self) -> usize {
        self.stages.iter().filter(|stage| !matches!(stage.life, Life::Down)).count()
    }

    /// Puts the instances down of which that can be done. Only when idle.
    pub fn rest(&mut self, ledger: &mut EntryLedger, now: Instant, why: RestWhy) {
        for place in 0..self.stages.len() {
            let mut meter = Chain::meter(&self.armed, place, &mut self.costs[place], &mut self.events, ledger);
            self.stages[place].rest(&self.armed.stages[place], &mut meter, now, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_replaced_when_it_has_used_up_its_room_and_was_worth_its_start() {
        let cases = [
            ("as it was born", 4_000, 1000, false),
            ("below three quarters of the room", 33_999, 1000, false),
            ("three quarters of the room", 34_000, 200, true),
            ("it was started just now", 44_000, 199, false),
        ];
        for (what, bytes, busy_ns, replaced) in cases {
            let growth = Growth { born_bytes: 4_000, start_ns: 10, busy_ns };
            assert_eq!(growth.is_enough(bytes, 44_000), replaced, "{what}");
        }
        let full = Growth { born_bytes: 44_000, start_ns: 0, busy_ns: 1 };
        assert!(!full.is_enough(44_000, 44_000), "it was born as large as it may be");
    }
}

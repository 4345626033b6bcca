//! How a stage comes to an instance, and back to one after a fault: start, saved state, the calls since then again.
//!
//! What a repeated call answers was sent on before and is thrown away, except for lines that had not gone on and that
//! the old instance held: should a filter not repeat itself, they would be lost otherwise.

use super::armory::ArmedStage;
use super::backlog::Entry;
use super::guest::Guest;
use super::meter::Meter;
use super::pieces;
use super::rest::Growth;
use super::stage::{Life, Saved, Stage, Unwell};
use crate::model::RecordSet;
use std::time::{Duration, Instant};
use tailmill_engine::{Mask, Origin, Outcome, Output};

/// A started instance; `every`: how often it wants a tick.
pub(super) struct Started {
    guest: Box<dyn Guest>,
    growth: Growth,
    every: Option<Duration>,
}

impl Stage {
    /// Makes one call towards an instance that is up. `None`: it is up.
    pub(super) fn wake(
        &mut self,
        armed: &ArmedStage,
        origin: &Origin,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Option<RecordSet>>, Unwell> {
        match std::mem::replace(&mut self.life, Life::Down) {
            Life::Up(guest) => {
                self.life = Life::Up(guest);
                Ok(None)
            }
            Life::Down => {
                let Started { guest, growth, every } = start(armed, self.saved.as_ref(), meter)?;
                self.growth = growth;
                self.set_every(every, Instant::now());
                self.life =
                    if self.backlog.replay(0).is_some() { Life::Replaying { guest, next: 0 } } else { Life::Up(guest) };
                Ok(Some(None))
            }
            Life::Replaying { guest, next } => self.replay(guest, next, origin, meter).map(Some),
        }
    }

    /// Goes on with an instance that was started for it.
    pub(super) fn become_instance(&mut self, Started { guest, growth, every }: Started) {
        self.life = Life::Up(guest);
        self.growth = growth;
        self.next_tick = None;
        self.set_every(every, Instant::now());
    }

    /// One kept call again, or the end of it.
    fn replay(
        &mut self,
        mut guest: Box<dyn Guest>,
        next: usize,
        origin: &Origin,
        meter: &mut Meter<'_>,
    ) -> Result<Option<RecordSet>, Unwell> {
        let (rescued, now_held) = match self.backlog.replay(next) {
            None => {
                self.life = Life::Up(guest);
                return Ok(None);
            }
            Some(Entry::Lines(kept)) => {
                let lines = pieces::lines(&kept.set);
                let answer =
                    meter.call(&mut *guest, |guest| guest.run(kept.first, lines, origin)).map_err(Unwell::State)?;
                let (first, set) = (kept.first, kept.set.clone());
                (self.rescue(answer.outcome, first, set), answer.oldest_held)
            }
            Some(entry) => {
                let is_tick = matches!(entry, Entry::Tick);
                let again = |guest: &mut dyn Guest| if is_tick { guest.tick(origin) } else { guest.flush(origin) };
                let released = meter.call(&mut *guest, again).map_err(Unwell::State)?;
                let rescued = released.output.and_then(|output| self.rescue_output(output, None));
                (rescued, released.oldest_held)
            }
        };
        if self.backlog.replay(next + 1).is_some() {
            self.life = Life::Replaying { guest, next: next + 1 };
        } else {
            self.life = Life::Up(guest);
            self.set_held(now_held);
            self.trim();
        }
        Ok(rescued)
    }

    /// The lines of a replayed answer that had not gone on and were held.
    fn rescue(&mut self, outcome: Outcome, first: u64, mut set: RecordSet) -> Option<RecordSet> {
        let mut mask = match outcome {
            Outcome::KeepAll => pieces::uniform(set.len(), true),
            Outcome::DropAll => return None,
            Outcome::Keep(mask) => mask,
            Outcome::Emit(output) => return self.rescue_output(output, Some((first, &set))),
        };
        mask = self.only_missing(&mask, |i| first + i as u64);
        pieces::keep(&mut set, &mask);
        (!set.is_empty()).then_some(set)
    }

    fn rescue_output(&mut self, output: Output, current: Option<(u64, &RecordSet)>) -> Option<RecordSet> {
        let seqs = output.sources.clone();
        let mut out = self.rewrite(output, current);
        let mask = self.only_missing(&pieces::uniform(out.len(), true), |i| seqs[i]);
        pieces::keep(&mut out, &mask);
        (!out.is_empty()).then_some(out)
    }

    fn only_missing(&mut self, mask: &Mask, seq: impl Fn(usize) -> u64) -> Mask {
        let mut missing = pieces::uniform(mask.len, false);
        let Some(held) = self.held else { return missing };
        let wanted: Vec<usize> = (0..mask.len)
            .filter(|&i| pieces::is_set(mask, i) && seq(i) >= held && !self.backlog.is_gone(seq(i)))
            .collect();
        for i in wanted {
            pieces::set(&mut missing, i);
            self.backlog.mark_gone(seq(i));
        }
        missing
    }
}

/// A new instance, with this state if there is one, and how often it wants a tick.
pub(super) fn start(armed: &ArmedStage, saved: Option<&Saved>, meter: &mut Meter<'_>) -> Result<Started, Unwell> {
    let (mut guest, growth) = meter.start(&*armed.starter).map_err(Unwell::Start)?;
    let mut every = None;
    if armed.has_ticks {
        // A filter that asks for a tick every 0 ms gets one every millisecond.
        every = meter.call(&mut *guest, |guest| guest.every_ms()).map_err(Unwell::Start)?;
    }
    if let Some(saved) = saved {
        let load = |guest: &mut dyn Guest| guest.load_state(&saved.state, saved.next_seq, saved.held);
        meter.call(&mut *guest, load).map_err(Unwell::State)?;
    }
    let every = every.map(|ms| Duration::from_millis(u64::from(ms.max(1))));
    Ok(Started { guest, growth, every })
}

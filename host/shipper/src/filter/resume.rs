//! Snapshots of a chain, going on from one, and starting over.

use super::armory::{ArmedChain, ArmedStage};
use super::chain::Chain;
use super::meter::Cost;
use super::pairing::pairs;
use super::stage::{Stage, Unwell};
use crate::checkpoint::StageSnapshot;
use crate::model::RecordSet;
use crate::observe::EntryLedger;
use std::sync::Arc;
use tailmill_engine::{Fault, FaultKind};
use tailmill_tail::FileOffset;

impl Chain {
    /// Whether this chain's state can be saved whole: some stage has state, and every one that may hold lines can save.
    pub fn wants_snapshots(&self) -> bool {
        let mut own = self.armed.stages.iter().zip(&self.stages).filter(|(armed, _)| !armed.stateless).peekable();
        own.peek().is_some() && own.all(|(armed, stage)| armed.has_state && stage.saves)
    }

    /// The saved state of every stage that has one, at the end of what was put in. `None`: not all of them can save, or the chain is
    /// not idle, or a stage holds lines for which an earlier one set a key, a topic, a timestamp or headers (its state
    /// does not know them). A fault costs an instance, no line.
    pub fn snapshot(&mut self, ledger: &mut EntryLedger) -> Result<Option<Vec<StageSnapshot>>, Fault> {
        if !self.is_idle() || !self.wants_snapshots() || !self.stages.iter().any(Stage::is_in_use) {
            return Ok(None);
        }
        for place in 0..self.stages.len() {
            if self.armed.stages[place].stateless || self.stages[place].is_saved() {
                continue;
            }
            while let Some(rescued) = self.wake(place, ledger).map_err(unwell_fault)? {
                if rescued.is_some() {
                    // Lines turned up that go on: the chain is not at rest. The shard finds it has work.
                    self.unanswered = true;
                    self.push(place + 1, rescued);
                    return Ok(None);
                }
            }
            let mut meter = Chain::meter(&self.armed, place, &mut self.costs[place], &mut self.events, ledger);
            if let Some(fault) = self.stages[place].save(&mut meter) {
                meter.ledger.recycles += 1;
                return Err(fault);
            }
        }
        // A state has no place for the keys and topics that earlier stages set for lines that are inside it.
        if !self.wants_snapshots() || self.stages.iter().any(Stage::holds_extras) {
            return Ok(None);
        }
        let snapshot = |(armed, stage): (&ArmedStage, &Stage)| StageSnapshot {
            name: armed.plan.name.to_string(),
            digest: armed.plan.module.digest,
            state: stage.saved.as_ref().map(|saved| saved.state.clone()).unwrap_or_default(),
            next_seq: stage.next_seq,
            oldest_held: stage.held_offset,
        };
        let own = self.armed.stages.iter().zip(&self.stages).filter(|(armed, _)| !armed.stateless);
        Ok(Some(own.map(snapshot).collect()))
    }

    /// Goes on from a snapshot taken at `at`: every stage is started and has taken its state when this returns. On an
    /// error the chain has seen nothing, and its stream can go on from the oldest line that the snapshot holds.
    pub fn restore(
        &mut self,
        snapshot: &[StageSnapshot],
        at: FileOffset,
        ledger: &mut EntryLedger,
    ) -> Result<(), Fault> {
        self.restore_later(snapshot, at)?;
        for place in 0..self.stages.len() {
            while self.stages[place].saved.is_some() {
                match self.wake(place, ledger) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(unwell) => {
                        self.reset();
                        return Err(unwell_fault(unwell));
                    }
                }
            }
        }
        Ok(())
    }

    /// As [`Chain::restore`], but instances are started when there is something for them to do: a filter that does not
    /// take its state shows up as a blocked step.
    pub fn restore_later(&mut self, snapshot: &[StageSnapshot], at: FileOffset) -> Result<(), Fault> {
        self.reset();
        let armed = self.armed.clone();
        let pairs = pairs(snapshot.len(), armed.stages.len(), |i, j| {
            let (saved, armed) = (&snapshot[i], &armed.stages[j]);
            let is_pair = armed.has_state && *saved.name == *armed.plan.name;
            // Lines that are held need a place more than anything else does.
            let same = usize::from(saved.digest == armed.plan.module.digest);
            is_pair.then(|| (usize::from(saved.oldest_held.is_some()), 2 + same))
        });
        for (i, saved) in snapshot.iter().enumerate() {
            match pairs.iter().position(|pair| *pair == Some(i)) {
                Some(place) => self.stages[place].restore(saved, at, armed.stages[place].has_ticks),
                None if saved.oldest_held.is_some() => {
                    self.reset();
                    return Err(homeless(&saved.name));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Forgets everything: the stream goes back to its mark and reads again. What was pending is no longer.
    pub fn reset(&mut self) {
        self.stages = self.armed.stages.iter().map(|stage| Stage::new(stage, 0)).collect();
        self.work.clear();
        self.came = Default::default();
        self.window.clear();
        self.unanswered = false;
    }

    /// Forgets everything and runs another chain from now on.
    pub fn replace(&mut self, armed: Arc<ArmedChain>) {
        self.costs = vec![Cost::default(); armed.stages.len()];
        self.armed = armed;
        self.reset();
    }

    pub(super) fn wake(&mut self, place: usize, ledger: &mut EntryLedger) -> Result<Option<Option<RecordSet>>, Unwell> {
        let mut meter = Chain::meter(&self.armed, place, &mut self.costs[place], &mut self.events, ledger);
        self.stages[place].wake(&self.armed.stages[place], &self.origin, &mut meter)
    }
}

pub(super) fn unwell_fault(unwell: Unwell) -> Fault {
    match unwell {
        Unwell::Start(fault) | Unwell::State(fault) => fault,
    }
}

pub(super) fn homeless(filter: &str) -> Fault {
    let message =
        format!("lines are held in the saved state of filter {filter}, and the new chain has no place for them");
    Fault { kind: FaultKind::Refused, line: None, message }
}

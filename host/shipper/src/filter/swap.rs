//! A new plan in a running chain.
//!
//! A swap prepares everything that can fail on the side and only then changes the chain. A stage that says the same as
//! before keeps its instance. A changed one starts anew and gets the state that the old one saves now, or, when one of
//! the two cannot save, the lines that the old one held, as its first input. A stage that is gone lets go of what it
//! holds to the stages behind it.

use super::armory::ArmedChain;
use super::chain::{Chain, Task, Trial};
use super::extras;
use super::meter::Cost;
use super::pairing::pairs;
use super::resume::{homeless, unwell_fault};
use super::revive::{Started, start};
use super::shared::SharedInstances;
use super::stage::{Ran, Stage};
use crate::model::RecordSet;
use crate::observe::EntryLedger;
use std::sync::Arc;
use tailmill_engine::Fault;

/// How a stage of the new chain begins.
enum Beginning {
    /// As another stage of the old chain, with its instance.
    Goes { from: usize },
    /// A changed filter that has the state of the old one. Not `is_current`: the state is older than the old one's last
    /// call (it does not come back any more, and there are lines that are nowhere else).
    Takes { from: usize, guest: Started, is_current: bool },
    /// A fresh instance; `from`: the lines that this old stage held are its first input.
    Fresh { from: Option<usize>, guest: Option<Started> },
}

impl Chain {
    /// Runs another chain from now on, at a batch boundary or while blocked. Lines may come out of it: step while the
    /// chain is not idle. On an error the old chain stays in force and nothing was lost.
    pub fn swap(
        &mut self,
        armed: Arc<ArmedChain>,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Fault> {
        let pairs = successors(&self.armed, &armed);
        let mut beginnings = Vec::with_capacity(pairs.len());
        for (new, from) in pairs.iter().enumerate() {
            beginnings.push(self.begin(&armed, new, *from, shared, ledger)?);
        }
        for old in 0..self.stages.len() {
            if !pairs.contains(&Some(old)) {
                self.let_go(old, ledger)?;
            }
        }
        self.commit(armed, &pairs, beginnings, ledger);
        Ok(())
    }

    /// Prepares a stage of the new chain without touching the old one.
    fn begin(
        &mut self,
        armed: &Arc<ArmedChain>,
        new: usize,
        from: Option<usize>,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<Beginning, Fault> {
        let from = from.filter(|old| !self.armed.stages[*old].stateless);
        let to = &armed.stages[new];
        let (mut cost, old_armed) = (Cost::default(), self.armed.clone());
        if to.stateless {
            let mut meter = Chain::meter(armed, new, &mut cost, &mut self.events, ledger);
            shared.instance(armed, new, &mut meter)?;
            self.can_feed(from)?;
            return Ok(Beginning::Fresh { from, guest: None });
        }
        let Some(old) = from.filter(|old| self.stages[*old].is_in_use()) else {
            let mut meter = Chain::meter(armed, new, &mut cost, &mut self.events, ledger);
            // Started only to see that it does: an idle stream of a big chain costs nothing.
            start(to, None, &mut meter).map_err(unwell_fault)?;
            return Ok(Beginning::Fresh { from, guest: None });
        };
        if old_armed.same_stage(old, armed, new) {
            return Ok(Beginning::Goes { from: old });
        }
        if self.stages[old].saves && to.has_state {
            let is_current = self.save_last(old, ledger);
            if is_current || self.stages[old].holds_ancient() {
                let mut meter = Chain::meter(armed, new, &mut cost, &mut self.events, ledger);
                let guest = start(to, self.stages[old].saved.as_ref(), &mut meter).map_err(unwell_fault)?;
                return Ok(Beginning::Takes { from: old, guest, is_current });
            }
        }
        self.can_feed(from)?;
        let mut meter = Chain::meter(armed, new, &mut cost, &mut self.events, ledger);
        let guest = start(to, None, &mut meter).map_err(unwell_fault)?;
        Ok(Beginning::Fresh { from, guest: Some(guest) })
    }

    /// Whether the lines that an old stage holds can be given to another one.
    fn can_feed(&self, from: Option<usize>) -> Result<(), Fault> {
        match from.filter(|old| self.stages[*old].holds_ancient()) {
            Some(old) => Err(homeless(&self.armed.stages[old].plan.name)),
            None => Ok(()),
        }
    }

    /// The old filter's last save, from an instance that has seen all its lines: another filter would not say the same of
    /// them, and hold or send what had gone on. False: it does not come to that.
    fn save_last(&mut self, old: usize, ledger: &mut EntryLedger) -> bool {
        // A save that fails takes the instance with it; once more is enough for a fault that passes.
        for _ in 0..2 {
            if !self.wake_old(old, ledger) {
                return false;
            }
            let mut meter = Chain::meter(&self.armed, old, &mut self.costs[old], &mut self.events, ledger);
            match self.stages[old].save(&mut meter) {
                Some(_) => meter.ledger.recycles += 1,
                None => return self.stages[old].saves,
            }
        }
        false
    }

    /// Brings the instance of an old stage back, if it is not there. False: it does not come back.
    fn wake_old(&mut self, old: usize, ledger: &mut EntryLedger) -> bool {
        let mut rescued = Vec::new();
        let is_up = loop {
            match self.wake(old, ledger) {
                Ok(None) => break true,
                Ok(Some(lines)) => rescued.extend(lines),
                Err(_) => break false,
            }
        };
        self.insert(old + 1, rescued);
        is_up
    }

    /// A stage that the new chain does not have lets go of what it holds, as at the end of a file. What it does not let go
    /// of goes on as it came in.
    fn let_go(&mut self, old: usize, ledger: &mut EntryLedger) -> Result<(), Fault> {
        if self.stages[old].held_offset.is_none() {
            return Ok(());
        }
        if self.armed.stages[old].has_finish && self.wake_old(old, ledger) {
            let mut meter = Chain::meter(&self.armed, old, &mut self.costs[old], &mut self.events, ledger);
            let ran = self.stages[old].flush(&self.armed.stages[old], &self.origin, &mut meter);
            if let Ok(Ran::Went(out)) = ran {
                self.insert(old + 1, out.into_iter().collect());
            }
        }
        self.can_feed(Some(old))
    }

    /// Nothing can fail from here on.
    fn commit(
        &mut self,
        armed: Arc<ArmedChain>,
        pairs: &[Option<usize>],
        beginnings: Vec<Beginning>,
        ledger: &mut EntryLedger,
    ) {
        let old_armed = std::mem::replace(&mut self.armed, armed);
        let old_costs = std::mem::take(&mut self.costs);
        let mut old: Vec<Option<Stage>> = std::mem::take(&mut self.stages).into_iter().map(Some).collect();
        let mut fed = Vec::new();
        for (new, beginning) in beginnings.into_iter().enumerate() {
            let to = self.armed.stages[new].clone();
            let changed = pairs[new].is_none_or(|from| !old_armed.same_stage(from, &self.armed, new));
            if changed {
                ledger.filter(new, &to.plan.name, to.plan.module.digest).swaps += 1;
            }
            let kept_cost = pairs[new].filter(|_| !changed).map(|from| old_costs[from]);
            self.costs.push(kept_cost.unwrap_or_default());
            let next_seq = pairs[new].and_then(|from| old[from].as_ref()).map_or(0, |stage| stage.next_seq);
            let stage = match beginning {
                Beginning::Goes { from } => old[from].take().map(|stage| stage.moved(&to)),
                Beginning::Takes { from, guest, is_current } => old[from].take().map(|stage| {
                    let mut stage = stage.moved(&to);
                    if !is_current {
                        fed.push(Fed { from, to: new, sets: stage.forget_since_save() });
                    }
                    stage.become_instance(guest);
                    stage
                }),
                Beginning::Fresh { from, guest } => {
                    let mut stage = Stage::new(&to, next_seq);
                    if let Some(guest) = guest {
                        stage.become_instance(guest);
                    }
                    if let Some(from) = from
                        && let Some(mut gone) = old[from].take()
                    {
                        stage.last_source = gone.last_source;
                        fed.push(Fed { from, to: new, sets: gone.forget() });
                    }
                    Some(stage)
                }
            };
            self.stages.push(stage.unwrap_or_else(|| Stage::new(&to, next_seq)));
        }
        let places = Places { pairs, len: old.len() };
        for (from, stage) in old.into_iter().enumerate() {
            if let Some(mut stage) = stage {
                fed.push(Fed { from, to: places.of(from), sets: stage.forget() });
            }
        }
        self.move_work(&places, fed);
        self.retarget(&old_armed);
    }

    /// Waiting work finds its place in the new chain, and held lines that are fed among it.
    fn move_work(&mut self, places: &Places<'_>, mut fed: Vec<Fed>) {
        // A filter that is called in is flushed alone; the file goes on, and the new one is called in when it is due.
        let at_end = !self.work.iter().any(|task| matches!(task, Task::Overdue { .. }));
        let mut flushing = false;
        let mut work = Vec::with_capacity(self.work.len());
        for task in std::mem::take(&mut self.work) {
            match task {
                Task::Run { stage, set, trial } => work.push(Task::Run { stage: places.of(stage), set, trial }),
                Task::Flush { .. } => flushing = at_end,
                // The next tick and the next save come by themselves.
                Task::Tick { .. } | Task::Overdue { .. } | Task::Save { .. } => {}
            }
        }
        if flushing {
            self.work.extend((0..self.stages.len()).rev().map(|stage| Task::Flush { stage }));
        }
        self.work.append(&mut work);
        // What a later stage held is older, so it comes last, and thereby before the rest.
        fed.sort_by_key(|fed| (fed.to, fed.from));
        for Fed { to, sets, .. } in fed {
            self.insert(to, sets);
        }
    }

    /// Lines that wait for a stage: before all that waits for it already, behind what waits for later stages.
    fn insert(&mut self, stage: usize, sets: Vec<RecordSet>) {
        let later = |task: &Task| matches!(task, Task::Run { stage: at, .. } if *at > stage);
        let at = self.work.iter().position(later).unwrap_or(self.work.len());
        let tasks: Vec<Task> = sets
            .into_iter()
            .rev()
            .filter(|set| !set.is_empty())
            .map(|set| Task::Run { stage, set, trial: Trial::Plain })
            .collect();
        self.unanswered |= !tasks.is_empty();
        self.work.splice(at..at, tasks);
    }

    /// Topics that filters set were indices into the old entry's list.
    fn retarget(&mut self, old: &ArmedChain) {
        let (old, new) = (&old.entry.topics, &self.armed.entry.topics);
        if old == new {
            return;
        }
        let waiting = self.work.iter_mut().filter_map(|task| match task {
            Task::Run { set, .. } => Some(set),
            Task::Tick { .. } | Task::Flush { .. } | Task::Overdue { .. } | Task::Save { .. } => None,
        });
        for set in waiting.chain(&mut self.came.sets) {
            if let Some(extras) = &mut set.extras {
                extras::retarget(extras, old, new);
            }
        }
        for stage in &mut self.stages {
            stage.backlog.retarget(old, new);
        }
    }
}

/// What an old stage held, on its way to a new one.
struct Fed {
    from: usize,
    to: usize,
    sets: Vec<RecordSet>,
}

/// Where stages of the old chain went.
struct Places<'a> {
    pairs: &'a [Option<usize>],
    len: usize,
}

impl Places<'_> {
    /// Where lines that waited before a stage of the old chain wait in the new one: before the same stage, or, when
    /// that is gone, behind the last one before it that is still there.
    fn of(&self, old: usize) -> usize {
        if old >= self.len {
            return self.pairs.len();
        }
        let new_of = |old: usize| self.pairs.iter().position(|pair| *pair == Some(old));
        new_of(old).unwrap_or_else(|| (0..old).rev().find_map(new_of).map_or(0, |new| new + 1))
    }
}

/// Which old stage each new stage follows: of the same name, in order, as many as can be; of several ways to do that,
/// the one in which most say the same. Only a filter of the same name gets a state.
fn successors(old: &ArmedChain, new: &ArmedChain) -> Vec<Option<usize>> {
    pairs(old.stages.len(), new.stages.len(), |i, j| {
        let is_pair = old.stages[i].plan.name == new.stages[j].plan.name;
        is_pair.then(|| (1, usize::from(old.same_stage(i, new, j))))
    })
}

//! What a chain does about a filter whose breaker is open: wait, or let the lines go past it.

use super::breaker::{Gate, seconds};
use super::chain::{Chain, Stop, Task, Trial};
use super::shared::SharedInstances;
use crate::model::{BreakerPlan, BreakerThen, RecordSet};
use crate::observe::EntryLedger;
use std::time::Instant;
use tailmill_engine::Fault;

/// How a breaker opened.
struct Opened {
    then: BreakerThen,
    until: Instant,
}

impl Chain {
    /// The task, if its filter may be called. `None`: it was done without the filter.
    pub(super) fn admit(
        &mut self,
        task: Task,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<Option<Task>, Box<Stop>> {
        let (stage, is_tick) = match &task {
            Task::Run { stage, .. } | Task::Flush { stage } => (*stage, false),
            Task::Tick { stage } => (*stage, true),
            Task::Overdue { .. } | Task::Save { .. } => return Ok(Some(task)),
        };
        let Some(plan) = self.armed.stages[stage].plan.breaker else { return Ok(Some(task)) };
        let breaker = shared.breaker(&self.armed, stage);
        let Gate::Shut(until) = breaker.gate(Instant::now) else { return Ok(Some(task)) };
        if is_tick {
            // Another one comes by itself.
            return Ok(None);
        }
        if plan.then == BreakerThen::Bypass && !self.stages[stage].holds_ancient() {
            self.bypass(stage, task, ledger);
            return Ok(None);
        }
        match breaker.last_fault().cloned() {
            Some(fault) => Err(Box::new(Stop { task, fault, stage, until: Some(until) })),
            None => Ok(Some(task)),
        }
    }

    /// The breaker has just opened: what becomes of the task.
    fn shut(
        &mut self,
        stage: usize,
        task: Task,
        fault: Fault,
        opened: Opened,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        if opened.then == BreakerThen::Bypass && !self.stages[stage].holds_ancient() {
            self.bypass(stage, task, ledger);
            return Ok(());
        }
        Err(Box::new(Stop { task, fault, stage, until: Some(opened.until) }))
    }

    /// Lines go past the filter. What it held goes first, as it came in.
    fn bypass(&mut self, stage: usize, task: Task, ledger: &mut EntryLedger) {
        if self.stages[stage].is_busy() {
            let open = self.stages[stage].step_aside();
            self.work.push(task);
            for set in open.into_iter().rev() {
                self.past(stage, set, ledger);
            }
        } else if let Task::Run { set, .. } = task {
            self.past(stage, set, ledger);
        }
    }

    fn past(&mut self, stage: usize, set: RecordSet, ledger: &mut EntryLedger) {
        let meter = Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger);
        meter.ledger.bypassed += set.len() as u64;
        self.came.passed_lines += set.len() as u64;
        self.push(stage + 1, Some(set));
    }

    /// `on_error` is about to be applied to a line. `Err`: not now, the breaker opened instead, and this is what happens.
    pub(super) fn judge_or_rest(
        &mut self,
        stage: usize,
        set: RecordSet,
        fault: &Fault,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<RecordSet, Result<(), Box<Stop>>> {
        let Some(plan) = self.armed.stages[stage].plan.breaker else { return Ok(set) };
        let now = Instant::now();
        let Some((until, faults)) = shared.breaker(&self.armed, stage).fault(&plan, fault, now) else {
            return Ok(set);
        };
        self.say_opened(stage, faults, &plan, until, now, fault, ledger);
        // The line waits with the others, or goes past the filter with them.
        let task = Task::Run { stage, set, trial: Trial::Plain };
        Err(self.shut(stage, task, fault.clone(), Opened { then: plan.then, until }, ledger))
    }

    /// A filter does not start: no line's fault. Its lines go past it for a while where that is wanted.
    pub(super) fn no_start(
        &mut self,
        stage: usize,
        task: Task,
        fault: Fault,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        let bypass = |plan: &BreakerPlan| plan.then == BreakerThen::Bypass;
        let Some(plan) = self.armed.stages[stage].plan.breaker.filter(bypass) else {
            return Err(Box::new(Stop { task, fault, stage, until: None }));
        };
        let now = Instant::now();
        let until = shared.breaker(&self.armed, stage).open(&plan, &fault, now);
        self.say_opened(stage, 1, &plan, until, now, &fault, ledger);
        self.shut(stage, task, fault, Opened { then: plan.then, until }, ledger)
    }

    #[allow(clippy::too_many_arguments, reason = "all of it is said")]
    fn say_opened(
        &mut self,
        stage: usize,
        faults: u32,
        plan: &BreakerPlan,
        until: Instant,
        now: Instant,
        fault: &Fault,
        ledger: &mut EntryLedger,
    ) {
        let mut meter = Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger);
        meter.breaker_opened(faults, plan.then, seconds(until, now), fault);
    }

    /// A call went well.
    pub(super) fn went_well(
        &mut self,
        stage: usize,
        lines: usize,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) {
        let Some(plan) = self.armed.stages[stage].plan.breaker else { return };
        if shared.breaker(&self.armed, stage).good(&plan, lines as u64) {
            Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger).breaker_closed();
        }
    }
}

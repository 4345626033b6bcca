//! One piece of work through one stage: at most one engine call, then new work, or a stop.
//!
//! A call with several lines that fails is cut: around the line that the guest names (a hint: it may lie), else in
//! halves. So the guilty lines are found one by one, each tried alone in a fresh instance, in order; the entry's
//! `on_error` is for them only. A filter that does not start, or does not come back with its state under `on_error = block`, stops the stream:
//! that is no line's fault.

use super::answered::DeadLetter;
use super::chain::{Chain, Stop, Task, Trial};
use super::pieces;
use super::shared::SharedInstances;
use super::stage::{Ran, Unwell};
use crate::model::{OnError, RecordSet};
use crate::observe::EntryLedger;
use std::time::Instant;
use tailmill_engine::{Fault, FaultKind, Outcome};

impl Chain {
    /// Does one task. Whatever is left of it, and what follows from it, is put on the stack.
    pub(super) fn perform(
        &mut self,
        task: Task,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        let Some(task) = self.admit(task, shared, ledger)? else { return Ok(()) };
        match task {
            Task::Run { stage, set, trial } if self.armed.stages[stage].stateless => {
                self.run_shared(stage, set, trial, shared, ledger)
            }
            Task::Run { stage, set, trial } => self.run_own(stage, set, trial, shared, ledger),
            Task::Save { stage } => {
                let mut meter = Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger);
                let (own, armed) = (&mut self.stages[stage], &self.armed.stages[stage]);
                let has_grown = own.has_grown(armed);
                if own.save(&mut meter).is_some() {
                    meter.ledger.recycles += 1;
                } else if has_grown && own.is_saved() {
                    meter.grown();
                    own.put_down();
                }
                Ok(())
            }
            Task::Overdue { stage, held } => self.overdue(stage, held, ledger),
            Task::Tick { stage } | Task::Flush { stage } => self.release(stage, task, shared, ledger),
        }
    }

    /// A set of lines that goes on to this stage.
    pub(super) fn push(&mut self, stage: usize, set: Option<RecordSet>) {
        if let Some(set) = set.filter(|set| !set.is_empty()) {
            self.work.push(Task::Run { stage, set, trial: Trial::Plain });
        }
    }

    fn run_shared(
        &mut self,
        stage: usize,
        set: RecordSet,
        trial: Trial,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        let mut meter = Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger);
        let guest = match shared.instance(&self.armed, stage, &mut meter) {
            Ok(guest) => guest,
            Err(fault) => return self.no_start(stage, Task::Run { stage, set, trial }, fault, shared, ledger),
        };
        let first = self.stages[stage].next_seq;
        let before = meter.ledger.busy_ns;
        match meter.run(guest, first, &set, &self.origin) {
            Ok(answer) => {
                let lines = set.len();
                self.stages[stage].next_seq += lines as u64;
                let out = judge(answer.outcome, first, set);
                meter.out(out.as_ref());
                let ns = meter.ledger.busy_ns - before;
                shared.called(&self.armed, stage, ns, &mut meter);
                self.went_well(stage, lines, shared, ledger);
                self.push(stage + 1, out);
                Ok(())
            }
            Err(fault) => {
                meter.ledger.recycles += 1;
                shared.discard(&self.armed, stage);
                self.failed(stage, set, trial, fault, first, shared, ledger)
            }
        }
    }

    fn run_own(
        &mut self,
        stage: usize,
        set: RecordSet,
        trial: Trial,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        let mut meter = Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger);
        let lines = set.len();
        let own = &mut self.stages[stage];
        let first = own.next_seq;
        let mut left = Some(set);
        let ran = own.run(&self.armed.stages[stage], &mut left, &self.origin, &mut meter);
        match ran {
            Ok(Ran::Went(out)) => {
                meter.out(out.as_ref());
                if own.wants_save(&self.armed.stages[stage]) {
                    self.work.push(Task::Save { stage });
                }
                self.went_well(stage, lines, shared, ledger);
                self.push(stage + 1, out);
                Ok(())
            }
            Ok(Ran::Waking(rescued)) => {
                self.work.extend(left.map(|set| Task::Run { stage, set, trial }));
                self.push(stage + 1, rescued);
                Ok(())
            }
            Ok(Ran::Failed(fault)) => {
                meter.ledger.recycles += 1;
                match left {
                    Some(set) => self.failed(stage, set, trial, fault, first, shared, ledger),
                    None => Ok(()),
                }
            }
            Err(unwell) => match left {
                Some(set) => self.unwell(stage, Task::Run { stage, set, trial }, unwell, shared, ledger),
                None => Ok(()),
            },
        }
    }

    /// A tick or a flush of one stage.
    fn release(
        &mut self,
        stage: usize,
        task: Task,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        if self.armed.stages[stage].stateless {
            return Ok(());
        }
        let mut meter = Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger);
        let (own, armed) = (&mut self.stages[stage], &self.armed.stages[stage]);
        let is_flush = matches!(task, Task::Flush { .. });
        let ran = if is_flush {
            own.flush(armed, &self.origin, &mut meter)
        } else {
            let ran = own.tick(armed, &self.origin, &mut meter);
            if let Ok(Ran::Went(_) | Ran::Failed(_)) = &ran {
                own.ticked(matches!(ran, Ok(Ran::Went(_))), Instant::now());
            }
            ran
        };
        match ran {
            Ok(Ran::Went(out)) => {
                meter.out(out.as_ref());
                let left = if is_flush && !armed.has_ticks { own.left_behind(&mut meter) } else { Vec::new() };
                if own.wants_save(armed) {
                    self.work.push(Task::Save { stage });
                }
                for set in left.into_iter().rev() {
                    self.push(stage + 1, Some(set));
                }
                self.push(stage + 1, out);
                Ok(())
            }
            Ok(Ran::Waking(rescued)) => {
                self.work.push(task);
                self.push(stage + 1, rescued);
                Ok(())
            }
            Ok(Ran::Failed(fault)) => {
                meter.ledger.recycles += 1;
                // Another tick comes by itself, and what the filter holds waits for it. There is no other flush.
                if is_flush { self.flush_failed(stage, task, fault) } else { Ok(()) }
            }
            Err(unwell) => self.unwell(stage, task, unwell, shared, ledger),
        }
    }

    /// A call with these lines failed. `first`: the number of the first of them.
    #[allow(clippy::too_many_arguments, reason = "the call, how it went, and whose it was")]
    fn failed(
        &mut self,
        stage: usize,
        set: RecordSet,
        trial: Trial,
        fault: Fault,
        first: u64,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        if set.len() > 1 {
            self.cut(stage, set, trial, &fault, first);
            return Ok(());
        }
        // A filter that says it cannot take the line means the line. Anything else may be the instance's fault.
        if trial != Trial::Alone && fault.kind != FaultKind::Refused {
            self.work.push(Task::Run { stage, set, trial: Trial::Alone });
            return Ok(());
        }
        let mut set = match self.judge_or_rest(stage, set, &fault, shared, ledger) {
            Ok(set) => set,
            Err(instead) => return instead,
        };
        match self.armed.stages[stage].plan.on_error {
            OnError::Block => {
                return Err(Box::new(Stop { task: Task::Run { stage, set, trial }, fault, stage, until: None }));
            }
            OnError::Pass => {
                self.came.passed_lines += 1;
                self.push(stage + 1, Some(set));
            }
            OnError::Drop => self.came.dropped.append(&mut set.sources),
            OnError::DeadLetter => self.bury(stage, &set, &fault),
        }
        Ok(())
    }

    /// Cuts a piece around the line that the guest named, or in halves.
    fn cut(&mut self, stage: usize, mut set: RecordSet, trial: Trial, fault: &Fault, first: u64) {
        let named = fault.line.and_then(|line| usize::try_from(line.checked_sub(first)?).ok());
        let mut push = |set: RecordSet, trial| {
            if !set.is_empty() {
                self.work.push(Task::Run { stage, set, trial });
            }
        };
        match named.filter(|named| trial == Trial::Plain && *named < set.len()) {
            Some(named) => {
                let mut line = pieces::split_off(&mut set, named);
                push(pieces::split_off(&mut line, 1), Trial::Named);
                push(line, Trial::Named);
                push(set, Trial::Named);
            }
            None => {
                let half = set.len() / 2;
                push(pieces::split_off(&mut set, half), Trial::Plain);
                push(set, Trial::Plain);
            }
        }
    }

    /// The filter was asked to let go of this line, if it can be asked. `on_error` is for what it still holds.
    fn overdue(&mut self, stage: usize, held: u64, ledger: &mut EntryLedger) -> Result<(), Box<Stop>> {
        if self.stages[stage].held != Some(held) {
            return Ok(());
        }
        let most = self.armed.stages[stage].plan.held.time.as_millis();
        let message = format!("it holds lines for longer than held_ms_max ({most})");
        let fault = Fault { kind: FaultKind::BrokenAnswer, line: Some(held), message };
        let mut meter = Chain::meter(&self.armed, stage, &mut self.costs[stage], &mut self.events, ledger);
        let fault = meter.noted(fault);
        self.flush_failed(stage, Task::Overdue { stage, held }, fault)
    }

    /// The file is finished and the filter does not let go of what it holds: `on_error` is for these lines.
    fn flush_failed(&mut self, stage: usize, task: Task, fault: Fault) -> Result<(), Box<Stop>> {
        let policy = self.armed.stages[stage].plan.on_error;
        if policy == OnError::Block || self.stages[stage].holds_ancient() {
            return Err(Box::new(Stop { task, fault, stage, until: None }));
        }
        let open = self.stages[stage].forget();
        match policy {
            OnError::Block => {}
            OnError::Pass => {
                self.came.passed_lines += open.iter().map(|set| set.len() as u64).sum::<u64>();
                for set in open.into_iter().rev() {
                    self.push(stage + 1, Some(set));
                }
            }
            OnError::Drop => self.came.dropped.extend(open.iter().flat_map(|set| &set.sources)),
            OnError::DeadLetter => open.iter().for_each(|set| self.bury(stage, set, &fault)),
        }
        Ok(())
    }

    /// The instance cannot be had.
    fn unwell(
        &mut self,
        stage: usize,
        task: Task,
        unwell: Unwell,
        shared: &mut SharedInstances,
        ledger: &mut EntryLedger,
    ) -> Result<(), Box<Stop>> {
        let policy = self.armed.stages[stage].plan.on_error;
        match unwell {
            Unwell::State(_) if policy != OnError::Block && !self.stages[stage].holds_ancient() => {
                // It does not take back what it knew. The lines it held are new input for a fresh instance.
                let open = self.stages[stage].forget();
                self.work.push(task);
                for set in open.into_iter().rev() {
                    self.push(stage, Some(set));
                }
                Ok(())
            }
            Unwell::Start(fault) => self.no_start(stage, task, fault, shared, ledger),
            Unwell::State(fault) => Err(Box::new(Stop { task, fault, stage, until: None })),
        }
    }

    fn bury(&mut self, stage: usize, set: &RecordSet, fault: &Fault) {
        let plan = &self.armed.stages[stage].plan;
        for i in 0..set.len() {
            self.came.dead_letters.push(DeadLetter {
                source: set.sources[i],
                line: set.value(i).to_vec(),
                stage,
                filter: plan.name.clone(),
                digest: plan.module.digest,
                kind: fault.kind,
                message: fault.message.clone(),
                count: Default::default(),
            });
        }
    }
}

/// What of the lines goes on after a stateless filter's verdict: every line is judged alone.
fn judge(outcome: Outcome, first: u64, mut set: RecordSet) -> Option<RecordSet> {
    match outcome {
        Outcome::KeepAll => Some(set),
        Outcome::DropAll => None,
        Outcome::Keep(mask) => {
            pieces::keep(&mut set, &mask);
            Some(set)
        }
        Outcome::Emit(output) => {
            // The engine has checked that every source is a line of this call; a wrong one would count for the last.
            let last = set.len() - 1;
            let line = |seq: u64| usize::try_from(seq.saturating_sub(first)).map_or(last, |i| i.min(last));
            let inherit = |seq: u64| set.extras.as_deref().map(|extras| (extras, line(seq)));
            let inherit: Option<super::extras::Inherit<'_>> = if set.extras.is_some() { Some(&inherit) } else { None };
            Some(pieces::emitted(output, |seq| set.sources[line(seq)], inherit))
        }
    }
}

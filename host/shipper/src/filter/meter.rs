//! The cost ledger: every call goes through a [`Meter`], which counts it, takes its time, and collects what the guest
//! had to say, also when the call failed. One clock reading before and one after a call, nothing per line.

use super::answered::{StageEvent, What};
use super::guest::{Guest, Starter};
use super::pieces;
use super::rest::Growth;
use crate::model::{BreakerThen, RecordSet};
use crate::observe::FilterLedger;
use std::sync::Arc;
use std::time::Instant;
use tailmill_engine::{Answer, Fault, HostNotes, Origin, Outcome};

/// Events kept for the shard to log; more are counted only.
const EVENTS_MAX: usize = 64;
/// The cost of a line is an average over about so many of the last lines.
const COST_LINES: u64 = 16_384;

/// What a stage's lines cost lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    ns: u64,
    lines: u64,
    /// The longest call, or start, since somebody asked.
    longest_ns: u64,
}

/// Counts the calls to one stage.
pub(super) struct Meter<'a> {
    pub ledger: &'a mut FilterLedger,
    pub events: &'a mut Events,
    pub cost: &'a mut Cost,
}

/// What a person may want to know of, in order, bounded.
#[derive(Debug, Default)]
pub(super) struct Events {
    list: Vec<StageEvent>,
}

impl Cost {
    fn add(&mut self, ns: u64, lines: u64) {
        if self.lines > COST_LINES {
            self.ns /= 2;
            self.lines /= 2;
        }
        self.ns += ns;
        self.lines += lines;
    }

    /// The longest call or start since this was asked last, in nanoseconds.
    pub(super) fn take_longest(&mut self) -> u64 {
        std::mem::take(&mut self.longest_ns)
    }

    /// Nanoseconds a line. `None`: nothing is known yet.
    pub(super) fn ns_per_line(&self) -> Option<f64> {
        (self.lines > 0).then(|| self.ns as f64 / self.lines as f64)
    }
}

impl Events {
    /// What happened since the last time.
    pub(super) fn take(&mut self) -> Vec<StageEvent> {
        std::mem::take(&mut self.list)
    }

    fn push(&mut self, ledger: &FilterLedger, what: What) {
        let matters = matches!(what, What::BreakerOpened { .. } | What::BreakerClosed);
        if matters || self.list.len() < EVENTS_MAX {
            self.list.push(StageEvent { stage: ledger.place, filter: Arc::clone(&ledger.name), what });
        } else if matches!(what, What::Fault(_)) {
            self.one_more(ledger);
        }
    }

    /// A fault for which there is no room: one event for each place of the chain says how many.
    fn one_more(&mut self, ledger: &FilterLedger) {
        let of_place = self.list.iter_mut().filter(|event| event.stage == ledger.place);
        for event in of_place {
            if let What::MoreFaults(more) = &mut event.what {
                *more += 1;
                return;
            }
        }
        let (stage, filter) = (ledger.place, Arc::clone(&ledger.name));
        self.list.push(StageEvent { stage, filter, what: What::MoreFaults(1) });
    }
}

impl Meter<'_> {
    /// Lines through an instance.
    pub(super) fn run(
        &mut self,
        guest: &mut dyn Guest,
        first: u64,
        set: &RecordSet,
        origin: &Origin,
    ) -> Result<Answer, Fault> {
        let lines = set.len() as u64;
        let before = self.ledger.busy_ns;
        let result = self.call(guest, |guest| guest.run(first, pieces::lines(set), origin));
        self.cost.add(self.ledger.busy_ns - before, lines);
        self.ledger.lines_in += lines;
        self.ledger.bytes_in += set.value_bytes();
        self.ledger.skipped_by_needle += guest.take_skipped();
        if let Ok(answer) = &result {
            self.verdict(&answer.outcome, lines);
        }
        result
    }

    /// Any call to an instance.
    pub(super) fn call<T>(
        &mut self,
        guest: &mut dyn Guest,
        call: impl FnOnce(&mut dyn Guest) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let since = Instant::now();
        let result = call(guest);
        self.took(since);
        self.ledger.calls += 1;
        self.ledger.memory(guest.memory_bytes());
        self.take_notes(guest.take_notes());
        self.check(result)
    }

    /// A new instance.
    pub(super) fn start(&mut self, starter: &dyn Starter) -> Result<(Box<dyn Guest>, Growth), Fault> {
        let since = Instant::now();
        let result = starter.start();
        let start_ns = self.took(since);
        let mut guest = self.check(result)?;
        let growth = Growth { born_bytes: guest.memory_bytes(), start_ns, busy_ns: 0 };
        self.ledger.memory(guest.memory_bytes());
        self.take_notes(guest.take_notes());
        Ok((guest, growth))
    }

    /// Counts a fault, wherever it was found.
    pub(super) fn check<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = &result {
            self.ledger.fault(fault.kind);
            self.events.push(self.ledger, What::Fault(fault.clone()));
        }
        result
    }

    /// An instance is replaced because it has grown.
    pub(super) fn grown(&mut self) {
        self.ledger.recycles += 1;
        self.events.push(self.ledger, What::Grown);
    }

    /// The filter is left alone for a while.
    pub(super) fn breaker_opened(&mut self, faults: u32, then: BreakerThen, seconds: u64, fault: &Fault) {
        self.ledger.breaker_opened += 1;
        self.events.push(self.ledger, What::BreakerOpened { faults, then, seconds, fault: fault.clone() });
    }

    /// It works again.
    pub(super) fn breaker_closed(&mut self) {
        self.events.push(self.ledger, What::BreakerClosed);
    }

    /// A fault that no call came to.
    pub(super) fn noted(&mut self, fault: Fault) -> Fault {
        self.ledger.fault(fault.kind);
        self.events.push(self.ledger, What::Fault(fault.clone()));
        fault
    }

    /// Lines that a tick or a flush let go.
    pub(super) fn emitted(&mut self, lines: usize) {
        self.ledger.emitted += lines as u64;
    }

    /// Lines that go on to the next stage.
    pub(super) fn out(&mut self, out: Option<&RecordSet>) {
        self.ledger.bytes_out += out.map_or(0, RecordSet::value_bytes);
    }

    fn took(&mut self, since: Instant) -> u64 {
        let ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.ledger.busy_ns += ns;
        self.cost.longest_ns = self.cost.longest_ns.max(ns);
        ns
    }

    fn verdict(&mut self, outcome: &Outcome, lines: u64) {
        match outcome {
            Outcome::KeepAll => self.ledger.kept += lines,
            Outcome::DropAll => self.ledger.dropped += lines,
            Outcome::Keep(mask) => {
                let kept = pieces::count(mask).min(lines);
                self.ledger.kept += kept;
                self.ledger.dropped += lines - kept;
            }
            Outcome::Emit(output) => self.ledger.emitted += output.starts.len() as u64,
        }
    }

    fn take_notes(&mut self, notes: HostNotes) {
        if notes.is_empty() {
            return;
        }
        for (name, by) in &notes.counters {
            self.ledger.guest_count(name, *by);
        }
        self.ledger.notes_suppressed += notes.suppressed;
        if !notes.logs.is_empty() || !notes.prints.is_empty() || notes.suppressed > 0 {
            self.events.push(self.ledger, What::Notes(notes));
        }
    }
}

//! Lines through a filter: a chain of one stage in the filter room, as a shard of the agent drives it.
//!
//! The time that the filter is told stands still while lines come, and moves only when it holds lines at the end and waits
//! for ticks: so a run gives the same answers each time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tailmill_engine::{FaultKind, HostNotes, Traits};
use tailmill_tail::{Batch, FileOffset, PathPatterns};

use super::record::{LineFault, Record};
use super::{NODE, Stop};
use crate::app::Workshop;
use crate::cli::dev::plan;
use crate::filter::{Answered, ArmedChain, Chain, SharedInstances, Step, StreamFacts, What};
use crate::model::FilterPlan;
use crate::observe::{EntryLedger, FilterLedger};

/// The time that filters are told first: the beginning of 2026.
const CLOCK_NS: u64 = 1_767_225_600_000_000_000;
/// Ticks that a filter gets to let go of what it holds behind the end of the lines.
const TICKS_MAX: usize = 1_000;
/// A step ends when its work is done.
const STEP: Duration = Duration::from_secs(3600);

/// A filter that is loaded and was seen to start.
pub(super) struct Candidate {
    pub(super) traits: Traits,
    armed: Arc<ArmedChain>,
}

/// How lines are run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// A filter that says it is stateless gets a new instance for each batch.
    pub(super) fresh: bool,
}

/// What came of a run.
#[derive(Default)]
pub(super) struct Ran {
    /// In order.
    pub(super) records: Vec<Record>,
    /// In order.
    pub(super) faults: Vec<LineFault>,
    /// The filter could not be brought up again: nothing behind this line was looked at.
    pub(super) stuck: Option<LineFault>,
    /// Lines that it held at the end and did not let go.
    pub(super) held: u64,
    /// What it logged and printed.
    pub(super) notes: Vec<String>,
    /// The agent's cost ledger of it.
    pub(super) ledger: EntryLedger,
}

impl Candidate {
    /// An error is about the module or its configuration.
    pub(super) fn arm(shop: &Workshop, plan: FilterPlan, topics: &[String]) -> Result<Candidate, Stop> {
        let nothing = PathPatterns::new(&["/nothing".to_owned()], &[]);
        let nothing = nothing.map_err(|_| Stop::usage("no patterns can be made"))?;
        let entry = Arc::new(plan::entry(nothing, topics, vec![plan]));
        shop.guest_clock().set_ns(CLOCK_NS);
        let armed = shop.armory().arm(&entry).map_err(|problem| Stop::Usage(problem.reason))?;
        let traits = armed.traits(0).clone();
        Ok(Candidate { traits, armed })
    }

    /// Runs these batches through a fresh instance.
    pub(super) fn run(&self, shop: &Workshop, path: &Path, batches: Vec<Batch>, how: How) -> Ran {
        let mut run = self.begin(shop, path);
        for batch in batches {
            if !run.offer(batch) {
                return run.end();
            }
            if how.fresh {
                run.shared = SharedInstances::new();
            }
        }
        run.finish();
        run.end()
    }

    /// A run whose batches the caller puts in.
    pub(super) fn begin<'a>(&self, shop: &'a Workshop, path: &Path) -> Run<'a> {
        shop.guest_clock().set_ns(CLOCK_NS);
        let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).into();
        // Not those of the file: answers are the same on every machine.
        let facts = StreamFacts { stream_id: 1, path, inode: 1, generation: NODE.into() };
        Run {
            shop,
            chain: Chain::new(self.armed.clone(), facts),
            shared: SharedInstances::new(),
            offsets: Vec::new(),
            ran: Ran::default(),
            collects: true,
        }
    }
}

/// A run that goes on.
pub(super) struct Run<'a> {
    shop: &'a Workshop,
    chain: Chain,
    shared: SharedInstances,
    /// Where each line begins.
    offsets: Vec<FileOffset>,
    ran: Ran,
    /// Whether what comes is kept.
    collects: bool,
}

impl Run<'_> {
    /// For measuring: answers are looked at by nobody.
    pub(super) fn without_answers(mut self) -> Self {
        self.collects = false;
        self
    }

    /// Puts a batch in and waits for all that comes of it. False: the filter is stuck.
    pub(super) fn offer(&mut self, batch: Batch) -> bool {
        if self.collects {
            self.offsets.extend((0..batch.len()).map(|i| batch.line_offset(i)));
        }
        self.chain.offer(batch);
        self.drive()
    }

    /// The lines are at their end.
    pub(super) fn finish(&mut self) {
        self.chain.flush();
        if !self.drive() {
            return;
        }
        let mut now = Instant::now();
        for _ in 0..TICKS_MAX {
            let Some(due) = self.chain.tick_due().filter(|_| self.chain.waits_for_tick()) else { return };
            let clock = self.shop.guest_clock();
            let passed = u64::try_from(due.saturating_duration_since(now).as_nanos()).unwrap_or(u64::MAX);
            clock.set_ns(clock.now_ns().saturating_add(passed));
            now = now.max(due);
            self.chain.tick(now);
            if !self.drive() {
                return;
            }
        }
    }

    /// What the filter cost so far.
    pub(super) fn ledger(&self) -> Option<&FilterLedger> {
        self.ran.ledger.filters.first()
    }

    pub(super) fn end(mut self) -> Ran {
        self.ran.held = self.chain.pending().lines;
        self.ran
    }

    fn drive(&mut self) -> bool {
        loop {
            let step = self.chain.step(&mut self.shared, &mut self.ran.ledger, Instant::now() + STEP);
            self.listen();
            match step {
                Step::Working => {}
                Step::Done(answered) => {
                    self.take(&answered);
                    return true;
                }
                Step::Blocked { so_far, line, fault, .. } => {
                    self.take(&so_far);
                    let line = self.line(line);
                    self.ran.stuck =
                        Some(LineFault { line, value: Vec::new(), kind: fault.kind, message: fault.message });
                    return false;
                }
            }
        }
    }

    fn take(&mut self, answered: &Answered) {
        if !self.collects {
            return;
        }
        for set in &answered.records {
            for i in 0..set.len() {
                let line = self.line(set.sources[i]);
                self.ran.records.push(Record::of(set, i, line));
            }
        }
        for letter in &answered.dead_letters {
            let (line, message) = (self.line(letter.source), letter.message.clone());
            self.ran.faults.push(LineFault { line, value: letter.line.clone(), kind: letter.kind, message });
        }
    }

    /// The number of the line that begins there.
    fn line(&self, offset: FileOffset) -> usize {
        self.offsets.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    fn listen(&mut self) {
        for event in self.chain.take_events() {
            if let What::Notes(notes) = event.what {
                self.ran.notes.extend(said(&notes));
            }
        }
    }
}

fn said(notes: &HostNotes) -> Vec<String> {
    const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
    let logs = notes.logs.iter().map(|(level, text)| {
        let level = LEVELS.get(usize::from(*level)).copied().unwrap_or("error");
        format!("log {level}: {text}")
    });
    let prints =
        notes.prints.iter().map(|(stream, text)| format!("{}: {text}", if *stream == 1 { "stdout" } else { "stderr" }));
    logs.chain(prints).collect()
}

impl Ran {
    /// Whether both say the same, whatever it cost. Messages of faults are for people.
    pub(super) fn same_as(&self, other: &Ran) -> bool {
        let faults = |ran: &Ran| -> Vec<(usize, FaultKind)> {
            ran.faults.iter().chain(&ran.stuck).map(|fault| (fault.line, fault.kind)).collect()
        };
        self.records == other.records && faults(self) == faults(other) && self.held == other.held
    }

    /// Everything that failed.
    pub(super) fn all_faults(&self) -> impl Iterator<Item = &LineFault> {
        self.faults.iter().chain(&self.stuck)
    }
}

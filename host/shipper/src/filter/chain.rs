//! The chain of one stream: work in, answers out.
//!
//! Work is a stack of pieces, each waiting before one stage, so that what comes out of a stage goes through the rest of
//! the chain before the next piece enters it: order is kept, also while a batch is cut to find a guilty line, and the
//! chain can stop between any two engine calls and go on in the stream's next turn.

use super::answered::{Answered, DeadLetter, StageEvent, Step};
use super::armory::ArmedChain;
use super::meter::{Cost, Events, Meter};
use super::shared::SharedInstances;
use super::stage::Stage;
use super::window::Window;
use super::{finish, pieces};
use crate::checkpoint::StageSnapshot;
use crate::model::{LineCount, RecordSet};
use crate::observe::EntryLedger;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_engine::{Fault, Origin};
use tailmill_tail::{Batch, FileOffset};

/// What a chain may tell its guests about the stream.
#[derive(Clone, Debug)]
pub struct StreamFacts {
    /// The same for the life of the process.
    pub stream_id: u64,
    /// Where the file is.
    pub path: Arc<[u8]>,
    /// Its inode number.
    pub inode: u64,
    /// Its surrogate id: another one for each generation of a path, the same under every name.
    pub generation: Arc<str>,
}

/// The chain of one stream. Lives on its shard.
pub struct Chain {
    pub(super) armed: Arc<ArmedChain>,
    /// One for each filter. Those of stateless filters only number lines.
    pub(super) stages: Vec<Stage>,
    pub(super) costs: Vec<Cost>,
    pub(super) origin: Origin,
    /// The last is next.
    pub(super) work: Vec<Task>,
    /// Something was put in whose answer was not handed out yet.
    pub(super) unanswered: bool,
    pub(super) came: Came,
    pub(super) window: Window,
    pub(super) events: Events,
}

/// A piece of work. `stage`: which stage does it; one past the last: it leaves the chain.
#[derive(Debug)]
pub(super) enum Task {
    Run {
        stage: usize,
        set: RecordSet,
        trial: Trial,
    },
    Tick {
        stage: usize,
    },
    Flush {
        stage: usize,
    },
    /// It holds this line for longer than it may.
    Overdue {
        stage: usize,
        held: u64,
    },
    Save {
        stage: usize,
    },
}

/// How a set of lines comes to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// As it came from the stage before, or as half of what failed.
    Plain,
    /// Cut out around a line that the guest named. It may lie, so it is not believed twice in a row.
    Named,
    /// One line that failed alone. It gets a fresh instance: the last one may have been spoilt by earlier lines.
    Alone,
}

/// What came out and was not handed out yet.
#[derive(Default)]
pub(super) struct Came {
    pub sets: Vec<RecordSet>,
    pub dead_letters: Vec<DeadLetter>,
    /// Sources of lines that `on_error = drop` took.
    pub dropped: Vec<FileOffset>,
    pub passed_lines: u64,
    /// Lines of a batch that went through a chain without filters.
    pub bare: LineCount,
}

/// Why a chain stands still. The task is tried again.
pub(super) struct Stop {
    pub task: Task,
    pub fault: Fault,
    pub stage: usize,
    /// The filter is left alone until then.
    pub until: Option<Instant>,
}

impl Chain {
    /// A chain that has seen nothing. Instances are started when there is something for them to do.
    pub fn new(armed: Arc<ArmedChain>, facts: StreamFacts) -> Chain {
        let stages = armed.stages.iter().map(|stage| Stage::new(stage, 0)).collect();
        let StreamFacts { stream_id, path, inode, generation } = facts;
        let origin = Origin { stream_id, path, inode, generation, first_offset: 0, first_line: 0 };
        Chain {
            stages,
            costs: vec![Cost::default(); armed.stages.len()],
            armed,
            origin,
            work: Vec::new(),
            unanswered: false,
            came: Came::default(),
            window: Window::default(),
            events: Events::default(),
        }
    }

    /// What the chain runs.
    pub fn armed(&self) -> &Arc<ArmedChain> {
        &self.armed
    }

    /// The file was renamed.
    pub fn set_path(&mut self, path: Arc<[u8]>) {
        self.origin.path = path;
    }

    /// Numbers of the stages' next lines, when these and `snapshot` are all that has to be kept of the chain: no filter has
    /// an instance of its own, a line, or a state that is not in there.
    pub fn numbers_at_rest(&self, snapshot: &[StageSnapshot]) -> Option<Box<[u64]>> {
        let at_rest = self.is_idle() && self.oldest_held().is_none() && self.tick_due().is_none();
        let own = self.armed.stages.iter().zip(&self.stages).filter(|(armed, _)| !armed.stateless);
        let known = match snapshot {
            [] => own.clone().all(|(_, stage)| stage.saved.is_none()),
            _ => own
                .clone()
                .map(|(_, stage)| stage.saved_as())
                .eq(snapshot.iter().map(|s| Some((s.next_seq, &*s.state)))),
        };
        let plain = self.stages.iter().all(|stage| !stage.is_busy());
        (at_rest && plain && known).then(|| self.stages.iter().map(|stage| stage.next_seq).collect())
    }

    /// Goes on where a chain was at rest: right after `new`, with the same filters.
    pub fn go_on_from(&mut self, numbers: &[u64]) {
        for (stage, next_seq) in self.stages.iter_mut().zip(numbers) {
            stage.next_seq = *next_seq;
        }
    }

    /// Whether all that was put in has been answered.
    pub fn is_idle(&self) -> bool {
        self.work.is_empty() && !self.unanswered
    }

    /// Puts a batch in; `step` does the work. Only when idle. Lines that the tail room skipped are not the chain's.
    pub fn offer(&mut self, batch: Batch) {
        self.unanswered = true;
        self.origin.first_offset = batch.first_offset;
        self.origin.first_line = batch.first_line.unwrap_or(0);
        if batch.is_empty() {
            return;
        }
        if self.stages.is_empty() && self.window.pending().is_zero() {
            let bytes = batch.line_ends.last().map_or(0, |end| end - batch.first_offset);
            self.came.bare += LineCount { lines: batch.len() as u64, bytes };
            self.came.sets.push(pieces::from_batch_whole(batch));
            return;
        }
        let first_offset = batch.first_offset;
        let (set, line_ends) = pieces::from_batch(batch);
        self.window.add(first_offset, line_ends);
        self.work.push(Task::Run { stage: 0, set, trial: Trial::Plain });
    }

    /// When the next tick is due. `None`: no filter that is running, or holds lines, wants any.
    pub fn tick_due(&self) -> Option<Instant> {
        self.stages.iter().filter_map(|stage| stage.next_tick).min()
    }

    /// Puts the ticks in that are due at `now`; `step` does the work. Only when idle.
    pub fn tick(&mut self, now: Instant) {
        for (place, stage) in self.stages.iter_mut().enumerate().rev() {
            if stage.next_tick.is_some_and(|due| due <= now) {
                stage.next_tick = stage.every.map(|every| now + every);
                self.work.push(Task::Tick { stage: place });
                self.unanswered = true;
            }
        }
    }

    /// The file is finished: puts in that every stage lets go of what it holds; `step` does the work. Only when idle.
    pub fn flush(&mut self) {
        self.unanswered = true;
        self.work.extend((0..self.stages.len()).rev().map(|stage| Task::Flush { stage }));
    }

    /// Whether a filter holds a line for longer than it may. Only when idle.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.armed.stages.iter().zip(&self.stages).any(|(armed, stage)| stage.is_overdue(armed, now))
    }

    /// Filters that hold a line for longer than they may have to let go of what they hold; `step` does the work. Only when
    /// idle.
    pub fn call_in(&mut self, now: Instant) {
        for place in (0..self.stages.len()).rev() {
            let (armed, stage) = (&self.armed.stages[place], &self.stages[place]);
            let Some(held) = stage.held.filter(|_| stage.is_overdue(armed, now)) else { continue };
            self.work.push(Task::Overdue { stage: place, held });
            if armed.has_finish {
                self.work.push(Task::Flush { stage: place });
            }
            self.unanswered = true;
        }
    }

    /// Works until all is done, or until `until` has passed; makes at least one engine call.
    pub fn step(&mut self, shared: &mut SharedInstances, ledger: &mut EntryLedger, until: Instant) -> Step {
        let mut called = false;
        while let Some(task) = self.work.pop() {
            match task {
                Task::Run { stage, set, .. } if stage >= self.stages.len() => self.came.sets.push(set),
                task if called && Instant::now() >= until => {
                    self.work.push(task);
                    return Step::Working;
                }
                task => {
                    called = true;
                    if let Err(stop) = self.perform(task, shared, ledger) {
                        let Stop { task, fault, stage, until } = *stop;
                        let held = self.stages[stage].held_offset;
                        let line = task.oldest().or(held).unwrap_or(self.origin.first_offset);
                        self.work.push(task);
                        return Step::Blocked { so_far: self.answer(), line, fault, stage, until };
                    }
                }
            }
        }
        self.unanswered = false;
        Step::Done(self.answer())
    }

    /// The oldest line that has no end yet or that any stage holds: the mark must not pass it. While work waits, that
    /// includes every line in it, so it is never younger than `Step::Blocked.line`.
    pub fn oldest_held(&self) -> Option<FileOffset> {
        let bare = (!self.came.bare.is_zero()).then_some(self.origin.first_offset);
        // The window alone does not say it: a record may count from an older line than its own, which is then settled.
        let waiting = self.work.iter().filter_map(Task::oldest);
        self.window.oldest().into_iter().chain(self.held_offsets()).chain(waiting).chain(bare).min()
    }

    /// Input lines inside the chain: held, or in work.
    pub fn pending(&self) -> LineCount {
        self.window.pending() + self.came.bare
    }

    /// What happened to filters since the last time, for the log; bounded, the ledger has the counts.
    pub fn take_events(&mut self) -> Vec<StageEvent> {
        self.events.take()
    }

    /// Nanoseconds that the dearest filter takes a line, lately: batches can be made to fit. `None`: not known yet.
    pub fn cost_hint(&self) -> Option<f64> {
        self.costs.iter().filter_map(Cost::ns_per_line).reduce(f64::max)
    }

    /// The longest call or start of any filter since this was asked last.
    pub fn take_longest_call(&mut self) -> Duration {
        Duration::from_nanos(self.costs.iter_mut().map(Cost::take_longest).max().unwrap_or(0))
    }

    /// Whether a filter that holds lines wants ticks, so that time alone may bring them out.
    pub fn waits_for_tick(&self) -> bool {
        self.stages.iter().any(|stage| stage.held_offset.is_some() && stage.next_tick.is_some())
    }

    /// Bytes that held lines pin.
    pub fn held_bytes(&self) -> usize {
        self.stages.iter().map(|stage| stage.backlog.pinned_from(0)).sum()
    }

    pub(super) fn meter<'a>(
        armed: &ArmedChain,
        stage: usize,
        cost: &'a mut Cost,
        events: &'a mut Events,
        ledger: &'a mut EntryLedger,
    ) -> Meter<'a> {
        let plan = &armed.stages[stage].plan;
        Meter { ledger: ledger.filter(stage, &plan.name, plan.module.digest), events, cost }
    }

    fn held_offsets(&self) -> impl Iterator<Item = FileOffset> + '_ {
        self.stages.iter().filter_map(|stage| stage.held_offset)
    }

    /// Hands out what came, and settles the count (see [`super::answered`]).
    fn answer(&mut self) -> Answered {
        let came = std::mem::take(&mut self.came);
        let records = finish::sets(came.sets);
        let mut dead_letters = came.dead_letters;
        let mut carries = came.bare;
        if !self.window.pending().is_zero() {
            for set in &records {
                carries += self.window.settle(&set.sources);
            }
            for letter in &mut dead_letters {
                letter.count = self.window.settle(&[letter.source]);
                carries += letter.count;
            }
        }
        let dropped = self.window.settle(&came.dropped);
        let waiting = self.work.iter().filter_map(Task::oldest);
        let filtered = self.window.settle_before(self.held_offsets().chain(waiting).min());
        let floor = records.iter().filter_map(RecordSet::floor).chain(dead_letters.iter().map(|l| l.source)).min();
        Answered { records, dead_letters, floor, carries, filtered, dropped, passed_lines: came.passed_lines }
    }
}

impl Task {
    fn oldest(&self) -> Option<FileOffset> {
        match self {
            Task::Run { set, .. } => set.floor(),
            Task::Tick { .. } | Task::Flush { .. } | Task::Overdue { .. } | Task::Save { .. } => None,
        }
    }
}

//! One place of a stream's chain, for a filter that has an instance of its own.
//!
//! In: sets of lines, ticks, flushes, one engine call each. Out: what goes on to the next place. It numbers the lines
//! it takes (only lines of calls that succeeded count, so the numbers have no gaps), turns the filter's numbers back
//! into file offsets, and keeps what is needed to build the instance again:
//!
//! ```text
//!   Down ── start, load saved state ──> Replaying ── every kept call again ──> Up ── fault ──> Down
//! ```
//!
//! The arrow to Up is in `revive`, the way from numbers to the file in `origins`.

use super::armory::ArmedStage;
use super::backlog::{Backlog, Entry};
use super::guest::Guest;
use super::meter::Meter;
use super::pieces;
use super::rest::Growth;
use crate::checkpoint::StageSnapshot;
use crate::model::RecordSet;
use std::time::{Duration, Instant};
use tailmill_engine::{Answer, Fault, FaultKind, Mask, Origin, Outcome, Released};
use tailmill_tail::FileOffset;

/// A stage that can save does so after so many calls …
const SAVE_AFTER_CALLS: usize = 16;
/// … or so many bytes of lines, so that a fault costs little to come back from.
const SAVE_AFTER_BYTES: u64 = 4 << 20;

/// After a tick that failed the next one comes so much later, and twice that after each further one …
const TICK_AGAIN: Duration = Duration::from_secs(1);
/// … up to so many times: some four minutes.
const FAULTS_COUNTED: u32 = 8;

/// See the module.
pub(super) struct Stage {
    pub life: Life,
    /// Number of the next line.
    pub next_seq: u64,
    /// The oldest line that the filter holds, by number and by file offset.
    pub held: Option<u64>,
    pub held_offset: Option<FileOffset>,
    /// Lines that are only in a restored state: their numbers are below the first, they began at the second or later.
    pub ancient: Option<(u64, FileOffset)>,
    pub saved: Option<Saved>,
    pub backlog: Backlog,
    pub unsaved_bytes: u64,
    /// The filter can save. Given up when saving fails for so long that the backlog would burst.
    pub saves: bool,
    pub every: Option<Duration>,
    pub next_tick: Option<Instant>,
    /// Ticks that failed in a row: each makes the next one wait twice as long.
    pub tick_faults: u32,
    /// Saves that failed in a row: each makes the next one wait for twice as many calls.
    pub save_faults: u32,
    /// Since when it goes on from a restored state.
    pub restored_at: Option<Instant>,
    /// How the instance has lived.
    pub growth: Growth,
    /// Memory that held lines may pin.
    held_bytes_max: usize,
    /// Where the last line came from: for output that names a line that is no longer known.
    pub last_source: FileOffset,
}

/// What the filter saved, and the numbers that went with it.
pub(super) struct Saved {
    pub state: Vec<u8>,
    pub next_seq: u64,
    pub held: Option<u64>,
}

/// The instance.
pub(super) enum Life {
    Down,
    Replaying {
        guest: Box<dyn Guest>,
        /// Which kept call is next.
        next: usize,
    },
    Up(Box<dyn Guest>),
}

/// An instance that could not be had.
pub(super) enum Unwell {
    /// It does not start.
    Start(Fault),
    /// It does not take its saved state or the calls since then.
    State(Fault),
}

/// What one call to a stage came to.
pub(super) enum Ran {
    /// The instance is not there yet (one call was made for it); these lines turned up on the way. Try again.
    Waking(Option<RecordSet>),
    /// Done; these lines go on.
    Went(Option<RecordSet>),
    /// The call failed; the instance is gone.
    Failed(Fault),
}

impl Stage {
    pub(super) fn new(armed: &ArmedStage, next_seq: u64) -> Stage {
        Stage {
            life: Life::Down,
            next_seq,
            held: None,
            held_offset: None,
            ancient: None,
            saved: None,
            backlog: Backlog::default(),
            unsaved_bytes: 0,
            saves: armed.has_state,
            every: None,
            next_tick: None,
            tick_faults: 0,
            save_faults: 0,
            restored_at: None,
            growth: Growth::default(),
            held_bytes_max: armed.plan.held.bytes,
            last_source: 0,
        }
    }

    /// Goes on from a saved state, with the lines from `at` on.
    pub(super) fn restore(&mut self, from: &StageSnapshot, at: FileOffset, has_ticks: bool) {
        let (next_seq, held) = (from.next_seq, from.oldest_held);
        // Which number the oldest held line had is not in a snapshot. Any from 0 on may be named.
        self.held = held.map(|_| 0);
        self.saved = Some(Saved { state: from.state.clone(), next_seq, held: self.held });
        self.next_seq = next_seq;
        self.held_offset = held;
        self.ancient = held.map(|held| (next_seq, held));
        self.last_source = at;
        self.restored_at = Some(Instant::now());
        // Held lines may be waiting for nothing but time: a first tick brings the instance, which says when the next is.
        self.next_tick = (has_ticks && held.is_some()).then(Instant::now);
    }

    /// Goes on in a chain of another shape, or with another module.
    pub(super) fn moved(mut self, armed: &ArmedStage) -> Stage {
        self.saves = armed.has_state;
        self.held_bytes_max = armed.plan.held.bytes;
        self
    }

    /// Whether there is, or should be, an instance with something in it.
    pub(super) fn is_in_use(&self) -> bool {
        !matches!(self.life, Life::Down) || self.saved.is_some() || !self.backlog.is_empty()
    }

    /// Whether it holds lines that are nowhere else than in its saved state.
    pub(super) fn holds_ancient(&self) -> bool {
        matches!((self.held, self.ancient), (Some(held), Some((below, _))) if held < below)
    }

    /// Whether it holds a line for longer than it may.
    pub(super) fn is_overdue(&self, armed: &ArmedStage, now: Instant) -> bool {
        let Some(held) = self.held else { return false };
        let since = self.backlog.came_at(held).or(self.restored_at);
        since.is_some_and(|since| now.saturating_duration_since(since) > armed.plan.held.time)
    }

    /// Whether a line that it may hold came with extras.
    pub(super) fn holds_extras(&self) -> bool {
        self.held.is_some() && self.backlog.has_extras()
    }

    /// Whether so much happened since the last save that another one is due.
    pub(super) fn wants_save(&self, armed: &ArmedStage) -> bool {
        let patience = self.save_faults.min(FAULTS_COUNTED);
        let calls = self.backlog.since_save() >= SAVE_AFTER_CALLS << patience;
        let due = self.saves && (calls || self.unsaved_bytes >= SAVE_AFTER_BYTES << patience);
        due || self.has_grown(armed)
    }

    /// Runs lines. `set` is left as it was when they have to be run again, and empty otherwise.
    pub(super) fn run(
        &mut self,
        armed: &ArmedStage,
        set: &mut Option<RecordSet>,
        origin: &Origin,
        meter: &mut Meter<'_>,
    ) -> Result<Ran, Unwell> {
        if let Some(rescued) = self.wake(armed, origin, meter)? {
            return Ok(Ran::Waking(rescued));
        }
        let (Life::Up(guest), Some(lines)) = (&mut self.life, set.as_ref()) else { return Ok(Ran::Waking(None)) };
        let before = meter.ledger.busy_ns;
        let result = meter.run(&mut **guest, self.next_seq, lines, origin);
        self.growth.busy_ns += meter.ledger.busy_ns - before;
        match result.and_then(|answer| meter.check(self.check_held(lines, answer))) {
            Ok(answer) => {
                let out = set.take().and_then(|set| self.absorb(set, answer));
                Ok(Ran::Went(out))
            }
            Err(fault) => Ok(self.fail(fault)),
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, armed: &ArmedStage, origin: &Origin, meter: &mut Meter<'_>) -> Result<Ran, Unwell> {
        self.release(armed, origin, meter, Entry::Tick)
    }

    /// The file is finished.
    pub(super) fn flush(&mut self, armed: &ArmedStage, origin: &Origin, meter: &mut Meter<'_>) -> Result<Ran, Unwell> {
        self.release(armed, origin, meter, Entry::Flush)
    }

    /// Saves the state. `None`: there is nothing that can be saved now.
    pub(super) fn save(&mut self, meter: &mut Meter<'_>) -> Option<Fault> {
        let Life::Up(guest) = &mut self.life else { return None };
        self.unsaved_bytes = 0;
        match meter.call(&mut **guest, |guest| guest.save()) {
            Ok(Some(state)) => {
                self.save_faults = 0;
                self.saved = Some(Saved { state, next_seq: self.next_seq, held: self.held });
                self.backlog.saved();
                self.trim();
                None
            }
            Ok(None) => {
                self.saves = false;
                self.trim();
                None
            }
            Err(fault) => {
                self.save_faults += 1;
                self.life = Life::Down;
                Some(fault)
            }
        }
    }

    /// A tick failed, or went well.
    pub(super) fn ticked(&mut self, well: bool, now: Instant) {
        if well {
            self.tick_faults = 0;
            return;
        }
        self.tick_faults += 1;
        let wait = TICK_AGAIN * 2_u32.pow((self.tick_faults - 1).min(FAULTS_COUNTED));
        self.next_tick = self.every.map(|every| now + every.max(wait));
    }

    /// Gives up what the instance knew. Returns the lines that it still held, as they came in: they are new input, for
    /// this stage or a later one. Must not be called while it holds ancient lines.
    pub(super) fn forget(&mut self) -> Vec<RecordSet> {
        let open = self.backlog.take_open(self.held);
        self.life = Life::Down;
        self.saved = None;
        self.unsaved_bytes = 0;
        self.ancient = None;
        self.set_held(None);
        open
    }

    /// Goes back to the saved state. Returns the lines since then that it still held, as they came in: they are new input.
    pub(super) fn forget_since_save(&mut self) -> Vec<RecordSet> {
        let open = self.backlog.take_open_since_save(self.held);
        self.life = Life::Down;
        self.unsaved_bytes = 0;
        if let Some(saved) = &self.saved {
            (self.next_seq, self.held) = (saved.next_seq, saved.held);
        }
        self.set_held(self.held);
        open
    }

    /// Whether there is anything to be put down before lines may go past it.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.life, Life::Down) || self.held.is_some() || !self.backlog.is_empty()
    }

    /// Lines will go past it for a while: no instance, and no line held. What it saved is kept, if no line is in that.
    /// Returns the lines that it held, as they came in. Must not be called while it holds ancient lines.
    pub(super) fn step_aside(&mut self) -> Vec<RecordSet> {
        let in_saved = self.saved.as_ref().is_some_and(|saved| saved.held.is_some());
        if self.held.is_some() || in_saved {
            return self.forget();
        }
        let open = self.forget_since_save();
        self.trim();
        open
    }

    /// After the last flush, when no tick comes either: nobody will ever ask the filter for what it still holds. These
    /// lines go on as they came in, and it counts as a fault.
    pub(super) fn left_behind(&mut self, meter: &mut Meter<'_>) -> Vec<RecordSet> {
        if self.held.is_none() || self.holds_ancient() {
            return Vec::new();
        }
        let message = "it holds lines at the end of the file and has no way to let them go".to_owned();
        let fault = Fault { kind: FaultKind::BrokenAnswer, line: self.held, message };
        let _counted: Result<(), Fault> = meter.check(Err(fault));
        self.forget()
    }

    /// Takes over what an instance said about its ticks when it started.
    pub(super) fn set_every(&mut self, every: Option<Duration>, now: Instant) {
        self.every = every;
        if self.tick_faults > 0 && self.next_tick.is_some() && every.is_some() {
            // It is made to wait, however often it is started meanwhile.
            return;
        }
        self.next_tick = every.map(|every| self.next_tick.unwrap_or(now + every).min(now + every));
    }

    fn release(
        &mut self,
        armed: &ArmedStage,
        origin: &Origin,
        meter: &mut Meter<'_>,
        what: Entry,
    ) -> Result<Ran, Unwell> {
        let is_tick = matches!(what, Entry::Tick);
        // Without the function there is no call: an answer made up for it would say that nothing is held any more.
        if !self.is_in_use() || !(if is_tick { armed.has_ticks } else { armed.has_finish }) {
            return Ok(Ran::Went(None));
        }
        if let Some(rescued) = self.wake(armed, origin, meter)? {
            return Ok(Ran::Waking(rescued));
        }
        let Life::Up(guest) = &mut self.life else { return Ok(Ran::Waking(None)) };
        match meter.call(&mut **guest, |guest| if is_tick { guest.tick(origin) } else { guest.flush(origin) }) {
            Ok(released) => {
                if self.saves || !self.backlog.is_empty() {
                    if is_tick { self.backlog.push_tick() } else { self.backlog.push_flush() }
                }
                Ok(Ran::Went(self.absorb_released(released, meter)))
            }
            Err(fault) => Ok(self.fail(fault)),
        }
    }

    fn fail(&mut self, fault: Fault) -> Ran {
        self.life = Life::Down;
        Ran::Failed(fault)
    }

    /// Held lines pin memory: beyond the bound the answer is as good as broken.
    fn check_held(&self, lines: &RecordSet, answer: Answer) -> Result<Answer, Fault> {
        let Some(held) = answer.oldest_held else { return Ok(answer) };
        let pinned = self.backlog.pinned_from(held) + pieces::columns_bytes(lines);
        let max = self.held_bytes_max;
        if pinned <= max {
            return Ok(answer);
        }
        let message = format!("the filter holds lines back that pin {pinned} bytes; at most {max} are allowed");
        Err(Fault { kind: FaultKind::BrokenAnswer, line: None, message })
    }

    fn absorb(&mut self, mut set: RecordSet, answer: Answer) -> Option<RecordSet> {
        let (first, len) = (self.next_seq, set.len());
        self.next_seq += len as u64;
        self.last_source = set.sources.last().copied().unwrap_or(self.last_source);
        self.unsaved_bytes += set.value_bytes();
        let keep_input = self.saves || answer.oldest_held.is_some();
        let mut sources = Vec::new();
        let (out, gone, input) = match answer.outcome {
            Outcome::KeepAll if keep_input => (Some(set.clone()), pieces::uniform(len, true), Some(set)),
            Outcome::KeepAll => (Some(set), Mask::default(), None),
            Outcome::DropAll => (None, pieces::uniform(len, false), keep_input.then_some(set)),
            Outcome::Keep(mask) => {
                let input = keep_input.then(|| set.clone());
                pieces::keep(&mut set, &mask);
                (Some(set), mask, input)
            }
            Outcome::Emit(output) => {
                if keep_input {
                    sources.clone_from(&output.sources);
                }
                let out = self.rewrite(output, Some((first, &set)));
                (Some(out), pieces::uniform(len, false), keep_input.then_some(set))
            }
        };
        if let Some(input) = input {
            self.backlog.push_lines(first, input, gone);
            for seq in sources {
                self.backlog.mark_gone(seq);
            }
        }
        self.set_held(answer.oldest_held);
        self.trim();
        out.filter(|out| !out.is_empty())
    }

    fn absorb_released(&mut self, released: Released, meter: &mut Meter<'_>) -> Option<RecordSet> {
        let had = self.held;
        let out = released.output.filter(|output| !output.starts.is_empty()).map(|output| {
            meter.emitted(output.starts.len());
            for &seq in &output.sources {
                self.backlog.mark_gone(seq);
            }
            self.rewrite(output, None)
        });
        self.set_held(released.oldest_held);
        if out.is_some() || had != self.held {
            // Time has passed for this instance and will not have passed for the next one: replaying cannot bring this
            // moment back, only a saved state can.
            self.unsaved_bytes = SAVE_AFTER_BYTES;
        }
        self.trim();
        out
    }

    pub(super) fn set_held(&mut self, held: Option<u64>) {
        self.held = held;
        if !self.holds_ancient() {
            self.ancient = None;
        }
        self.held_offset = held.map(|held| match self.ancient {
            Some((below, offset)) => self.backlog.oldest_from(below).map_or(offset, |oldest| oldest.min(offset)),
            None => self.backlog.oldest_from(held).unwrap_or(self.last_source),
        });
    }

    pub(super) fn trim(&mut self) {
        self.backlog.trim(self.held, self.saves);
        if self.saves && self.backlog.pinned_from(0) > 2 * self.held_bytes_max && !self.holds_ancient() {
            // Saving has failed for a long time. Lines are never lost by this, only what else the filter remembers.
            self.saves = false;
            self.saved = None;
            self.backlog.uncover();
            self.backlog.trim(self.held, false);
        }
    }
}

//! A running filter: lines in, checked answers out.

use crate::answer::{Answer, Fault, FaultKind, Lines, Outcome, Released, Traits};
use crate::check::{self, Allowed, broken};
use crate::each_line;
use crate::fault;
use crate::limits::Limits;
use crate::needles::{self, Needles};
use crate::pace::Living;
use crate::pack;
use crate::store::{self, State};
use crate::surroundings::{HostNotes, Origin};
use crate::wit::func;
use std::ops::RangeInclusive;
use wasmtime::Store;
use wasmtime::component::TypedFunc;

/// A running filter. After a [`Fault`] it answers every call with a fault: drop it and start another.
///
/// One call, in the sense of `limits.call_time`, is one [`Instance::run`] in both lanes: a batch of 1,000 lines has the time
/// of one call in the line lane too.
pub struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) lane: Lane,
    pub(crate) optional: Optional,
    pub(crate) traits: Traits,
    pub(crate) skip: Option<Needles>,
    pub(crate) limits: Limits,
    pub(crate) progress: Progress,
    pub(crate) scratch: Scratch,
    pub(crate) broken: Option<FaultKind>,
    /// Lines without a needle that nobody asked about yet.
    pub(crate) skipped: u64,
    pub(crate) _living: Living,
}

/// The function that answers lines.
pub(crate) enum Lane {
    Batch(func::RunBatch<'static>),
    Line(func::RunLine<'static>),
}

/// Functions that a filter may have.
#[derive(Default)]
pub(crate) struct Optional {
    pub(crate) ticks: Option<(func::EveryMs, func::Release)>,
    pub(crate) flush: Option<func::Release>,
    pub(crate) state: Option<(func::Save, func::Load<'static>)>,
}

/// What the filter has seen and still holds, by sequence number.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    last: Option<u64>,
    oldest_held: Option<u64>,
}

impl Progress {
    /// Which lines an answer to `count` lines from `first` on may name.
    fn window_of_lines(&self, first: u64, count: usize) -> RangeInclusive<u64> {
        self.oldest_held.map_or(first, |held| held.min(first))..=last_of(first, count)
    }

    /// Which lines may be named without new ones: those that are held, or else the last one.
    fn window_of_release(&self) -> RangeInclusive<u64> {
        match self.last {
            Some(last) => self.oldest_held.unwrap_or(last)..=last,
            #[allow(clippy::reversed_empty_ranges)]
            None => 1..=0,
        }
    }
}

fn last_of(first: u64, count: usize) -> u64 {
    first.saturating_add(count as u64).saturating_sub(1)
}

/// Buffers that are used again.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) packed: pack::Scratch,
    given: Vec<u32>,
}

impl Instance {
    /// What the filter said about itself.
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Answers a batch. `first`: sequence number of its first line in this stream and stage.
    ///
    /// Lines with none of the declared needles are answered here, without entering the filter; this is honoured for stateless
    /// filters only, because the others count lines by position.
    pub fn run(&mut self, first: u64, lines: Lines<'_>, origin: &Origin) -> Result<Answer, Fault> {
        self.usable()?;
        let answer = if lines.is_empty() {
            Ok(Answer { outcome: Outcome::KeepAll, oldest_held: self.progress.oldest_held })
        } else if self.skip.is_some() {
            self.run_skipping(first, lines, origin)
        } else {
            self.enter(first, lines, None, origin)
        };
        let answer = self.noted(answer)?;
        if !lines.is_empty() {
            self.progress = Progress { last: Some(last_of(first, lines.len())), oldest_held: answer.oldest_held };
        }
        Ok(answer)
    }

    /// Lines that were answered without entering the filter, for want of a needle, since this was last asked.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// How often [`Instance::tick`] should be called. `None`: never, which is what a stateless filter always says.
    pub fn every_ms(&mut self) -> Result<Option<u32>, Fault> {
        self.usable()?;
        let Some((every_ms, _)) = self.optional.ticks.filter(|_| !self.traits.stateless) else { return Ok(None) };
        let every = self.call(&every_ms, (), "every-ms", 0);
        Ok(Some(self.noted(every)?.0).filter(|ms| *ms > 0))
    }

    /// Lets the filter release lines because time passed. Nothing when it never ticks.
    pub fn tick(&mut self, origin: &Origin) -> Result<Released, Fault> {
        self.release(self.optional.ticks.map(|(_, tick)| tick), origin, "tick")
    }

    /// Lets the filter release lines because the file is finished. Nothing when the module has no `finish`.
    pub fn flush(&mut self, origin: &Origin) -> Result<Released, Fault> {
        self.release(self.optional.flush, origin, "flush")
    }

    /// Its state. `None` when the module has no `state`, or the filter is stateless.
    pub fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        self.usable()?;
        let Some((save, _)) = self.optional.state.filter(|_| !self.traits.stateless) else { return Ok(None) };
        let max = self.limits.state_bytes;
        let saved = self.call(&save, (), "save", max).and_then(|(saved,)| match saved {
            Ok(saved) if saved.len() <= max => Ok(saved),
            Ok(saved) => Err(broken(format!("a state of {} bytes, and {max} are allowed", saved.len()))),
            Err(message) => Err(fault::refused(None, &message)),
        });
        self.noted(saved).map(Some)
    }

    /// Gives a fresh instance a saved state. `next`: sequence number of the line that will come next; `oldest_held`: the oldest
    /// line that is inside the state. Both are needed to check later answers. A module without `state` refuses.
    pub fn load_state(&mut self, saved: &[u8], next: u64, oldest_held: Option<u64>) -> Result<(), Fault> {
        self.usable()?;
        let loaded = match self.optional.state {
            Some((_, load)) => {
                let load: func::Load<'_> = load;
                self.call(&load, (saved,), "load", 0).and_then(|(loaded,): (Result<(), Vec<u8>>,)| {
                    loaded.map_err(|message| fault::refused(None, &message))
                })
            }
            None => Err(fault::refused(None, b"the module has no state interface")),
        };
        self.noted(loaded)?;
        self.progress = Progress { last: next.checked_sub(1), oldest_held };
        Ok(())
    }

    /// Linear memory, all memories together. It never shrinks, so this is the peak too.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().usage.memory
    }

    /// What the filter said through the host interface since this was last asked. Works after a fault too.
    pub fn take_notes(&mut self) -> HostNotes {
        self.store.data_mut().notes.take()
    }

    fn usable(&self) -> Result<(), Fault> {
        self.broken.map_or(Ok(()), |kind| Err(fault::of_no_more_use(kind)))
    }

    /// Remembers that there was a fault.
    fn noted<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = &result {
            self.broken = Some(fault.kind);
        }
        result
    }

    fn call<P, R>(&mut self, function: &TypedFunc<P, R>, params: P, during: &str, bytes: usize) -> Result<R, Fault>
    where
        P: wasmtime::component::ComponentNamedList + wasmtime::component::Lower,
        R: wasmtime::component::ComponentNamedList + wasmtime::component::Lift,
    {
        let _running = store::begin_call(&mut self.store, self.limits.call_time, bytes);
        let called = function.call(&mut self.store, params);
        store::end_call(&mut self.store);
        called.map_err(|error| fault::of_error(&error, self.store.data_mut(), during))
    }

    fn release(&mut self, function: Option<func::Release>, origin: &Origin, during: &str) -> Result<Released, Fault> {
        self.usable()?;
        let Some(function) = function.filter(|_| !self.traits.stateless) else { return Ok(Released::default()) };
        self.store.data_mut().origin.clone_from(origin);
        let called = self.call(&function, (), during, self.limits.output_bytes);
        let allowed = self.allowed(self.progress.window_of_release(), 0);
        let released = called.and_then(|(answer,)| match answer {
            Ok(answer) => check::released(answer, &allowed),
            Err(said) => Err(fault::refused(known_line(said.line, &allowed), &said.message)),
        });
        let released = self.noted(released)?;
        self.progress.oldest_held = released.oldest_held;
        Ok(released)
    }

    fn run_skipping(&mut self, first: u64, lines: Lines<'_>, origin: &Origin) -> Result<Answer, Fault> {
        let mut given = std::mem::take(&mut self.scratch.given);
        if let Some(needles) = &self.skip {
            needles.lines(lines, &mut given);
            self.store.data().count_skipped(lines.len() - given.len());
            self.skipped += (lines.len() - given.len()) as u64;
        }
        let answer = if given.len() == lines.len() {
            self.enter(first, lines, None, origin)
        } else {
            let entered = match given.is_empty() {
                true => Ok(Answer { outcome: Outcome::DropAll, oldest_held: None }),
                false => self.enter(first, lines, Some(&given), origin),
            };
            let keep = self.traits.keep_skipped;
            entered
                .map(|answer| Answer { outcome: needles::widen(answer.outcome, lines, &given, first, keep), ..answer })
                .map_err(|fault| Fault {
                    line: fault.line.map(|line| needles::widen_number(line, &given, first)),
                    ..fault
                })
        };
        self.scratch.given = given;
        answer
    }

    /// Calls the filter, with all lines or with those that are `given` (indices, rising).
    fn enter(&mut self, first: u64, lines: Lines<'_>, given: Option<&[u32]>, origin: &Origin) -> Result<Answer, Fault> {
        let count = given.map_or(lines.len(), <[u32]>::len);
        let time = self.limits.call_time;
        self.store.data_mut().origin.clone_from(origin);
        let _running = store::begin_call(&mut self.store, time, self.limits.output_bytes);
        let run = match &self.lane {
            Lane::Batch(run) => *run,
            Lane::Line(run) => {
                let outcome = each_line::run(*run, &mut self.store, first, lines, self.limits.output_bytes);
                store::end_call(&mut self.store);
                return Ok(Answer { outcome: outcome?, oldest_held: None });
            }
        };
        let run: func::RunBatch<'_> = run;
        let packed = pack::pack(lines, given, &mut self.scratch.packed);
        let called = run.call(&mut self.store, (first, packed));
        store::end_call(&mut self.store);
        let (answer,) = called.map_err(|error| fault::of_error(&error, self.store.data_mut(), "run"))?;
        let allowed = self.allowed(self.progress.window_of_lines(first, count), count);
        match answer {
            Ok(answer) => Ok(Answer {
                oldest_held: check::held(answer.oldest_held, &allowed)?,
                outcome: check::outcome(answer.outcome, &allowed)?,
            }),
            Err(said) => Err(fault::refused(known_line(said.line, &allowed), &said.message)),
        }
    }

    fn allowed(&self, window: RangeInclusive<u64>, lines: usize) -> Allowed<'_> {
        Allowed {
            window,
            lines,
            topics: self.store.data().surroundings.topics.len(),
            may_hold: !self.traits.stateless,
            limits: &self.limits,
        }
    }
}

/// The line that a guest blames, if it can be one.
fn known_line(line: Option<u64>, allowed: &Allowed<'_>) -> Option<u64> {
    line.filter(|line| allowed.window.contains(line))
}

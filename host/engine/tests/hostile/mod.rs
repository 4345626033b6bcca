//! The hostile corpus: modules that mean harm, each with the one limit that stops it. Data only: the engine's tests run each case
//! with that limit and, in a child process, without it; the end-to-end suite runs them beside a good entry.
//!
//! A case counts when it was seen to do harm to a host without the limit ([`Case::harm`] says which). What wasmtime or the scan
//! refuses in any host (`Stops::Always`) harms nobody, and is not counted.
#![allow(dead_code, reason = "no test binary uses all of it")]

mod build; // what a compiler suffers from
mod lies; // answers that do not add up
mod refused; // what no host would run
mod space; // memory, tables, stack, answers
mod time; // loops

use crate::guests::{Answer, Guest};

/// One hostile module.
pub(crate) struct Case {
    /// What it does.
    pub(crate) name: &'static str,
    /// What stops it.
    pub(crate) stops: Stops,
    /// How far it gets.
    pub(crate) at: At,
    /// Part of what is said about it.
    pub(crate) says: &'static str,
    /// Lines of the batch that shows it.
    pub(crate) lines: usize,
    /// The answer it gives, where that is what is wrong.
    pub(crate) lie: Option<Answer>,
    make: Box<dyn Fn() -> Vec<u8>>,
}

/// What stops a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stops {
    /// Time of a call.
    Time,
    Memory,
    Tables,
    Stack,
    /// Bytes of an answer.
    Output,
    /// Lines held back.
    Held,
    /// The checks of answers.
    Checks,
    /// What a module may be.
    Functions,
    BodyBytes,
    LoopNesting,
    Locals,
    /// Limits of the compile child.
    CompileTime,
    CompileMemory,
    /// Nothing that could be taken away.
    Always,
}

/// How far a module gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// It is not even loaded.
    Load,
    /// It is not started.
    Start,
    /// It is started, and does not say how often it ticks, which it is asked before its first line.
    Asked,
    /// Its first batch of lines.
    Run,
    /// A tick, a flush, or a state.
    Later,
    /// It runs, and gets nothing of what it wants.
    Denied,
}

/// What happens to a host that has all limits but the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// More than half a second of CPU where a tenth was allowed; for a compilation, more than two.
    Hangs,
    /// 256 MiB more of memory.
    Eats,
    /// The process is gone, by a signal.
    Crashes,
    /// The thread of the shard panics.
    Panics,
    /// The mark stands still for 100,000 lines.
    Sticks,
}

impl Case {
    pub(crate) fn new(name: &'static str, stops: Stops, at: At, says: &'static str, guest: Guest) -> Case {
        Case::made(name, stops, at, says, move || guest.wasm())
    }

    pub(crate) fn made(
        name: &'static str,
        stops: Stops,
        at: At,
        says: &'static str,
        make: impl Fn() -> Vec<u8> + 'static,
    ) -> Case {
        Case { name, stops, at, says, lines: 2, lie: None, make: Box::new(make) }
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        (self.make)()
    }

    /// What it does without the limit; one of these. Empty: it is not counted.
    pub(crate) fn harm(&self) -> &'static [Harm] {
        match self.stops {
            Stops::Time => &[Harm::Hangs],
            Stops::Memory | Stops::Tables | Stops::Output => &[Harm::Eats],
            Stops::Stack => &[Harm::Crashes],
            Stops::Held => &[Harm::Sticks],
            Stops::Checks => &[Harm::Panics],
            // What comes first depends on the machine.
            Stops::Functions | Stops::BodyBytes | Stops::LoopNesting | Stops::Locals => &[Harm::Hangs, Harm::Eats],
            Stops::CompileTime | Stops::CompileMemory => &[Harm::Hangs, Harm::Eats],
            Stops::Always => &[],
        }
    }
}

/// All of them. Names are unique.
pub(crate) fn all() -> Vec<Case> {
    [time::cases(), space::cases(), lies::cases(), build::cases(), refused::cases()].into_iter().flatten().collect()
}

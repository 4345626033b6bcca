//! The seam between this room and the engine: an instance as the chain sees it. Tests put a scripted one here.

use std::sync::Arc;
use tailmill_engine::{Answer, Fault, HostNotes, Instance, Limits, Lines, Module, Origin, Released, Surroundings};

/// A filter instance. Any fault poisons it: it is thrown away. It may go to another thread between two calls.
pub(super) trait Guest: Send {
    /// Lines numbered from `first` on.
    fn run(&mut self, first: u64, lines: Lines<'_>, origin: &Origin) -> Result<Answer, Fault>;
    /// `None`: it wants no ticks.
    fn every_ms(&mut self) -> Result<Option<u32>, Fault>;
    /// Time has passed.
    fn tick(&mut self, origin: &Origin) -> Result<Released, Fault>;
    /// The file is finished.
    fn flush(&mut self, origin: &Origin) -> Result<Released, Fault>;
    /// `None`: it cannot save.
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault>;
    /// The counterpart of `save`. `next`: number of the line that comes next; `oldest_held`: the oldest inside the state.
    fn load_state(&mut self, saved: &[u8], next: u64, oldest_held: Option<u64>) -> Result<(), Fault>;
    /// Lines that were answered without it, for want of a needle, since last asked.
    fn take_skipped(&mut self) -> u64 {
        0
    }
    /// Linear memory, in bytes.
    fn memory_bytes(&self) -> usize;
    /// What it logged, printed and counted since last asked.
    fn take_notes(&mut self) -> HostNotes;
}

/// Makes instances of one module with one configuration.
pub(super) trait Starter: Send + Sync {
    /// A fresh instance that has its configuration.
    fn start(&self) -> Result<Box<dyn Guest>, Fault>;
}

/// The real one.
pub(super) struct ModuleStarter {
    pub module: Module,
    pub with: Arc<str>,
    pub limits: Limits,
    pub surroundings: Surroundings,
    pub line_world_stateless: bool,
}

impl ModuleStarter {
    pub(super) fn start_instance(&self) -> Result<Instance, Fault> {
        self.module.start(&self.with, &self.limits, &self.surroundings, self.line_world_stateless)
    }
}

impl Starter for ModuleStarter {
    fn start(&self) -> Result<Box<dyn Guest>, Fault> {
        Ok(Box::new(self.start_instance()?))
    }
}

impl Guest for Instance {
    fn run(&mut self, first: u64, lines: Lines<'_>, origin: &Origin) -> Result<Answer, Fault> {
        Instance::run(self, first, lines, origin)
    }
    fn every_ms(&mut self) -> Result<Option<u32>, Fault> {
        Instance::every_ms(self)
    }
    fn tick(&mut self, origin: &Origin) -> Result<Released, Fault> {
        Instance::tick(self, origin)
    }
    fn flush(&mut self, origin: &Origin) -> Result<Released, Fault> {
        Instance::flush(self, origin)
    }
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        Instance::save(self)
    }
    fn load_state(&mut self, saved: &[u8], next: u64, oldest_held: Option<u64>) -> Result<(), Fault> {
        Instance::load_state(self, saved, next, oldest_held)
    }
    fn take_skipped(&mut self) -> u64 {
        Instance::take_skipped(self)
    }
    fn memory_bytes(&self) -> usize {
        Instance::memory_bytes(self)
    }
    fn take_notes(&mut self) -> HostNotes {
        Instance::take_notes(self)
    }
}

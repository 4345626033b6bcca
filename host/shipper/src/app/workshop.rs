//! The engine and filter room without an agent, for the workbench: what `tailmill test` says of a filter is what the agent will
//! do with it. Two differences make a run repeatable: guests are told a time that the owner moves, and with
//! [`Workshop::counting`] the code counts what it executes.

use super::start::{EPOCH_EVERY, spawn, ticker};
use crate::filter::Armory;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tailmill_engine::{CacheOptions, CompileLimits, Counted, Engine, EngineOptions, GuestClock};

/// Loads, arms and clocks filters.
pub struct Workshop {
    engine: Engine,
    armory: Armory,
    guest_clock: GuestClock,
    stop: Arc<AtomicBool>,
    clock: Option<JoinHandle<()>>,
    _compiled: Option<tempfile::TempDir>,
}

impl Workshop {
    /// As in the agent. `compiled`: where compiled modules are kept; `None`: in a directory that goes with the workshop.
    pub fn new(node: &str, compiled: Option<PathBuf>) -> Result<Workshop> {
        let temporary = match &compiled {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("tailmill-compiled-")
                    .tempdir()
                    .context("while making a directory to compile modules in")?,
            ),
        };
        let own = temporary.as_ref().map(|dir| dir.path().join("compiled"));
        let dir = compiled.or(own).context("while choosing a directory to compile modules in")?;
        let compiler =
            std::env::current_exe().context("while looking for the own executable, which compiles modules")?;
        let cache = CacheOptions { dir, compiler, limits: CompileLimits::STANDARD };
        Workshop::with(node, EngineOptions { cache: Some(cache), ..EngineOptions::default() }, temporary)
    }

    /// With code that counts what it executes. Slower: measure no time with it.
    pub fn counting(node: &str) -> Result<Workshop> {
        Workshop::with(node, EngineOptions { counts: true, ..EngineOptions::default() }, None)
    }

    fn with(node: &str, options: EngineOptions, compiled: Option<tempfile::TempDir>) -> Result<Workshop> {
        let guest_clock = GuestClock::default();
        let options = EngineOptions { epoch_every: EPOCH_EVERY, guest_clock: Some(guest_clock.clone()), ..options };
        let engine = Engine::new(options).context("while starting the filter engine")?;
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Some(spawn("epoch", ticker(engine.clone(), stop.clone()))?);
        let armory = Armory::new(engine.clone(), node.into());
        Ok(Workshop { engine, armory, guest_clock, stop, clock, _compiled: compiled })
    }

    /// Where modules are loaded and chains armed.
    pub fn armory(&self) -> &Armory {
        &self.armory
    }

    /// What guests are told the time is.
    pub fn guest_clock(&self) -> &GuestClock {
        &self.guest_clock
    }

    /// What guests have executed so far.
    pub fn counted(&self) -> Counted {
        self.engine.counted()
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(clock) = self.clock.take() {
            let _ = clock.join();
        }
    }
}

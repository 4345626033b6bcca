//! Modules judged without an agent: `tailmill check`, and before the first start.
//!
//! The same engine and limits as in a run, with a clock of its own, so that a module that loops at its start is stopped
//! here too. Compiled modules go to a directory that goes with the judge: a check changes nothing.

use super::start::{armory_in, compiled_dir, spawn, ticker};
use crate::config::{self, ModuleCheck, Settings};
use crate::filter::Armory;
use crate::model::{FilterPlan, Problem};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Starts each module once and says what is wrong with it.
pub struct Judge {
    armory: Arc<Armory>,
    stop: Arc<AtomicBool>,
    clock: Option<JoinHandle<()>>,
    _compiled: Option<tempfile::TempDir>,
}

impl Judge {
    /// A judge for the agent with these settings.
    pub fn new(settings: &Settings) -> Result<Judge> {
        let compiled = tempfile::Builder::new().prefix("tailmill-check-").tempdir();
        let compiled = compiled.context("while making a directory to compile modules in")?;
        let dir = compiled.path().join("compiled");
        Judge::with(settings, dir, Some(compiled))
    }

    /// A judge whose compiled modules the agent will find.
    fn of_agent(settings: &Settings) -> Result<Judge> {
        Judge::with(settings, compiled_dir(settings), None)
    }

    fn with(settings: &Settings, dir: PathBuf, goes_too: Option<tempfile::TempDir>) -> Result<Judge> {
        let (engine, armory) = armory_in(settings, dir)?;
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Some(spawn("epoch", ticker(engine, stop.clone()))?);
        Ok(Judge { armory, stop, clock, _compiled: goes_too })
    }
}

/// What is wrong with the entries and modules on this machine, when nothing was ever in force here: then nothing is
/// started. Later the same things stop nobody, since there is a last good form to go on with.
pub fn problems_at_first_start(settings: &Settings) -> Result<Vec<Problem>> {
    if config::has_last_good_plan(settings) {
        return Ok(Vec::new());
    }
    Ok(config::local_problems(settings, &Judge::of_agent(settings)?))
}

impl ModuleCheck for Judge {
    fn check(&self, filter: &FilterPlan, topics: &[Arc<str>]) -> Result<(), String> {
        self.armory.check(filter, topics)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(clock) = self.clock.take() {
            let _ = clock.join();
        }
    }
}

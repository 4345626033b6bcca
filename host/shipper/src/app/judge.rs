//! Modules judged without an agent: `tailmill check`.
//!
//! The same engine and limits as in a run, with a clock of its own, so that a module that loops at its start is stopped
//! here too. Compiled modules go to a directory that goes with the judge: a check changes nothing.

use super::start::{armory_in, spawn, ticker};
use crate::config::{ModuleCheck, Settings};
use crate::filter::Armory;
use crate::model::FilterPlan;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Starts each module once and says what is wrong with it.
pub struct Judge {
    armory: Arc<Armory>,
    stop: Arc<AtomicBool>,
    clock: Option<JoinHandle<()>>,
    _compiled: tempfile::TempDir,
}

impl Judge {
    /// A judge for the agent with these settings.
    pub fn new(settings: &Settings) -> Result<Judge> {
        let compiled = tempfile::Builder::new().prefix("tailmill-check-").tempdir();
        let compiled = compiled.context("while making a directory to compile modules in")?;
        let (engine, armory) = armory_in(settings, compiled.path().join("compiled"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Some(spawn("epoch", ticker(engine, stop.clone()))?);
        Ok(Judge { armory, stop, clock, _compiled: compiled })
    }
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

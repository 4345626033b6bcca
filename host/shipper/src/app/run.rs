//! The daemon: start, wait for a signal, stop.

use super::start::{PlanSource, Running, start};
use crate::config::Settings;
use crate::model::{Problem, exit};
use crate::observe::{self, Board};
use anyhow::{Context, Result};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// What `tailmill run` was asked.
pub struct RunOptions {
    /// Checked settings.
    pub settings: Settings,
    /// Reads them again, on SIGHUP.
    pub reload: Box<dyn Fn() -> Result<Settings, Vec<Problem>>>,
}

/// Runs until SIGTERM or SIGINT. Returns the exit code: 0 clean, 2 undelivered records at the deadline.
pub fn run(options: RunOptions) -> Result<i32> {
    let settings = Arc::new(options.settings.clone());
    let board = Board::new(settings.node.clone(), settings.shards);
    if settings.file_metrics {
        board.show_files_in_metrics();
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = %settings.node, state_dir = %settings.state_dir.display(), shards = settings.shards, "starting");
    let running = start(settings.clone(), PlanSource::Settings, board.clone())?;
    if let Some(admin) = running.admin() {
        tracing::info!("admin port on http://{admin} (/status /metrics /healthz /readyz)");
    }
    let (stop_watchdog, watchdog_stopped) = tokio::sync::watch::channel(false);
    running.runtime().spawn(observe::notify_service_manager(board.clone(), watchdog_stopped));
    let name = running
        .runtime()
        .block_on(wait_for_signal(&|| reload(&running, &*options.reload)))
        .context("while waiting for signals")?;
    tracing::info!(
        "{name}: stopping; what is under way is delivered first, for at most {:?}",
        settings.limits.stop_deadline
    );
    let _ = stop_watchdog.send(true);
    let outcome = running.stop();
    observe::log_summary(&board);
    if outcome.lost_shards > 0 {
        tracing::error!(
            "{} shards did not stop in order; their marks are those of the last commit",
            outcome.lost_shards
        );
        return Ok(exit::FAILED);
    }
    if outcome.undelivered_records > 0 {
        tracing::warn!(
            "{} records were not acknowledged at the deadline; they come again at the next start",
            outcome.undelivered_records
        );
        return Ok(exit::UNDELIVERED);
    }
    Ok(exit::CLEAN)
}

/// What is wrong in the settings leaves those of before in force.
fn reload(running: &Running, read: &dyn Fn() -> Result<Settings, Vec<Problem>>) {
    match read() {
        Ok(new) => {
            for warning in &new.warnings {
                tracing::warn!("{warning}");
            }
            let waits = running.reload(new);
            tracing::info!("SIGHUP: the settings are read again");
            if !waits.is_empty() {
                tracing::warn!("SIGHUP: changes of these keys wait for a restart: {}", waits.join("; "));
            }
        }
        Err(problems) => {
            for problem in &problems {
                tracing::error!("SIGHUP: the settings stay as they were: {problem}");
            }
        }
    }
}

/// A second signal while stopping ends the process at once: the operator has decided.
async fn wait_for_signal(reload: &dyn Fn()) -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let name = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => reload(),
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
        }
        tracing::warn!("second signal: ending at once; what was not acknowledged comes again at the next start");
        std::process::exit(exit::UNDELIVERED);
    });
    Ok(name)
}

//! What filters said and how they failed, as log lines. Bounded by the chain, and for faults by `said`; the ledger has the
//! counts.

use super::said::{Said, TOLD, Untold};
use crate::filter::{StageEvent, What};
use crate::model::{BreakerThen, EntryName};
use std::path::Path;
use std::time::Instant;

/// Logs one event under the entry's and the filter's name.
pub(super) fn log(entry: &EntryName, path: &Path, event: &StageEvent, said: &mut Said, now: Instant) {
    let (filter, file) = (&*event.filter, path.display());
    match &event.what {
        What::Fault(fault) => {
            if said.tells(entry, &event.filter, now, || fault.to_string()) {
                tracing::warn!(%entry, filter, %file, "the filter failed and was replaced: {fault}");
            }
        }
        What::MoreFaults(more) => said.more(entry, &event.filter, now, *more),
        What::BreakerOpened { faults, then, seconds, fault } => {
            let meanwhile = match then {
                BreakerThen::Hold => "the entry waits",
                BreakerThen::Bypass => "lines go past it",
            };
            tracing::error!(
                %entry, filter, %file,
                "the filter failed on {faults} lines and is left alone for {seconds} s; {meanwhile}. The last time: {fault}"
            )
        }
        What::Grown => {
            tracing::debug!(%entry, filter, %file, "the filter had grown near its memory limit: another instance goes on")
        }
        What::BreakerClosed => tracing::warn!(%entry, filter, "the filter works again: its breaker is closed"),
        What::Notes(notes) => {
            for (level, message) in &notes.logs {
                match level {
                    0 => tracing::debug!(%entry, filter, "{message}"),
                    1 => tracing::info!(%entry, filter, "{message}"),
                    2 => tracing::warn!(%entry, filter, "{message}"),
                    _ => tracing::error!(%entry, filter, "{message}"),
                }
            }
            for (fd, text) in &notes.prints {
                let stream = if *fd == 2 { "stderr" } else { "stdout" };
                tracing::info!(%entry, filter, stream, "{text}");
            }
        }
    }
}

/// Faults that were not told one by one.
pub(super) fn log_untold(untold: &Untold) {
    let Untold { entry, filter, faults, seconds, last } = untold;
    let filter = &**filter;
    tracing::warn!(
        %entry, filter, faults,
        "{faults} more faults of filter {filter} in the last {seconds} s, beyond the first {TOLD} that were told; the last: {last}"
    );
}

//! What filters said and how they failed, as log lines. Bounded by the chain; the ledger has the counts.

use crate::filter::{StageEvent, What};
use crate::model::EntryName;
use std::path::Path;

/// Logs one event under the entry's and the filter's name.
pub(super) fn log(entry: &EntryName, path: &Path, event: &StageEvent) {
    let (filter, file) = (&*event.filter, path.display());
    match &event.what {
        What::Fault(fault) => {
            tracing::warn!(%entry, filter, %file, "the filter failed and was replaced: {fault}")
        }
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

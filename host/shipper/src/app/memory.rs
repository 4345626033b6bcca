//! Memory that a burst needed goes back to the system.
//!
//! The first look at thousands of files allocates on several threads what is let go seconds later; glibc keeps it in its
//! arenas, which at 20,000 files is more than what is in use.

use std::time::{Duration, Instant};

/// So many files at least make a burst.
const BURST_FILES: usize = 1_000;
/// The burst is over when no file was opened for so long: its marks are written by then.
const QUIET: Duration = Duration::from_secs(5);

/// Counts opened files and gives memory back when they were many and no more come.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    opened: usize,
    last: Option<Instant>,
}

impl Bursts {
    /// A file was opened.
    pub(super) fn opened(&mut self, now: Instant) {
        self.opened += 1;
        self.last = Some(now);
    }

    /// To be called now and then.
    pub(super) fn look(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= QUIET) {
            if self.opened >= BURST_FILES {
                give_back();
            }
            *self = Bursts::default();
        }
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer and may be called at any time from any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

//! Memory that a burst needed goes back to the system: glibc by itself keeps what is free between what is in use.
//!
//! The first look at thousands of files allocates on several threads what is let go seconds later, when they were read and
//! closed. Measured with 20,000 idle files, resident: 78 to 82 MiB with it, 95 to 97 MiB without.

use std::time::{Duration, Instant};

/// So many files at least make a burst.
const BURST_FILES: usize = 1_000;
/// The burst is over when no file was opened or closed for so long: its marks are written by then, its streams asleep.
const QUIET: Duration = Duration::from_secs(5);

/// Counts files that are opened, and closed as idle, and says when they were many and no more come.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    files: usize,
    last: Option<Instant>,
}

impl Bursts {
    /// A file was opened or closed.
    pub(super) fn add(&mut self, now: Instant) {
        self.files += 1;
        self.last = Some(now);
    }

    /// To be called now and then. True: a burst is over, its memory is worth giving back.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) < QUIET) {
            return false;
        }
        std::mem::take(self).files >= BURST_FILES
    }
}

/// Gives back what is free.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer and may be called at any time from any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds at which so many files were opened or closed; at which of the looks, one a second, the burst is over.
    fn check(files: &[(u64, usize)], over: &[u64]) {
        let begun = Instant::now();
        let mut bursts = Bursts::default();
        let mut said = Vec::new();
        for second in 0..60 {
            let now = begun + Duration::from_secs(second);
            for _ in files.iter().filter(|(at, _)| *at == second).flat_map(|(_, count)| 0..*count) {
                bursts.add(now);
            }
            if bursts.is_over(now) {
                said.push(second);
            }
        }
        assert_eq!(said, over, "{files:?}");
    }

    #[test]
    fn a_burst_is_over_when_nothing_more_comes_for_a_while_and_is_said_once() {
        check(&[(0, 1_000)], &[5]);
        check(&[(0, 600), (4, 600)], &[9]);
        check(&[(0, 1_000), (5, 1_000), (20, 5_000)], &[10, 25]);
    }

    #[test]
    fn a_few_files_now_and_then_are_no_burst() {
        check(&[], &[]);
        check(&[(0, 999)], &[]);
        check(&[(0, 600), (10, 600), (20, 600)], &[]);
    }
}

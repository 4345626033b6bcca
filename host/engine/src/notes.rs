//! What a guest tells the host beside its answers: log lines, prints, counters. A guest that shouts cannot fill a disk, a
//! memory or a metrics page: what goes over a limit is let fall and counted.

use crate::surroundings::HostNotes;
use std::time::{Duration, Instant};

/// Lines of log and print together that are taken in a second.
const LINES_PER_SECOND: u32 = 100;
/// Bytes of them.
const BYTES_PER_SECOND: usize = 64 << 10;
/// Bytes of one; the rest is cut off.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Bytes that are kept for an owner who does not ask.
const KEPT_BYTES_MAX: usize = 128 << 10;
/// Names of counters: each is a time series for every agent.
const COUNTERS_MAX: usize = 32;
/// Bytes of a counter's name.
pub(crate) const COUNTER_NAME_BYTES_MAX: usize = 64;

/// What was said since it was last taken, and what may still be said.
pub(crate) struct Notes {
    said: HostNotes,
    kept_bytes: usize,
    /// Every name this instance ever used. Invariant: at most `COUNTERS_MAX`.
    names: Vec<String>,
    window: Option<Instant>,
    lines: u32,
    bytes: usize,
}

/// What a message is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Log,
    Print,
}

impl Notes {
    pub(crate) fn new() -> Notes {
        Notes { said: HostNotes::default(), kept_bytes: 0, names: Vec::new(), window: None, lines: 0, bytes: 0 }
    }

    /// Whether a message of `len` bytes will be taken; it counts against the limits when it is.
    pub(crate) fn admit(&mut self, len: usize, now: Instant) -> bool {
        let len = len.min(MESSAGE_BYTES_MAX);
        if self.window.is_none_or(|begun| now.duration_since(begun) >= Duration::from_secs(1)) {
            self.window = Some(now);
            (self.lines, self.bytes) = (0, 0);
        }
        let fits = self.lines < LINES_PER_SECOND
            && self.bytes + len <= BYTES_PER_SECOND
            && self.kept_bytes + len <= KEPT_BYTES_MAX;
        if fits {
            self.lines += 1;
            self.bytes += len;
            self.kept_bytes += len;
        } else {
            self.said.suppressed = self.said.suppressed.saturating_add(1);
        }
        fits
    }

    /// Takes a message that was admitted. `tag`: the level or the file descriptor.
    pub(crate) fn say(&mut self, kind: Kind, tag: u8, text: String) {
        match kind {
            Kind::Log => self.said.logs.push((tag.min(3), text)),
            Kind::Print => self.said.prints.push((tag, text)),
        }
    }

    pub(crate) fn count(&mut self, name: &str, by: u64) {
        let known = self.names.iter().any(|known| known == name);
        if !known && (self.names.len() >= COUNTERS_MAX || !is_good_name(name)) {
            self.said.suppressed = self.said.suppressed.saturating_add(1);
            return;
        }
        if !known {
            self.names.push(name.to_owned());
        }
        match self.said.counters.iter_mut().find(|(counted, _)| counted == name) {
            Some((_, sum)) => *sum = sum.saturating_add(by),
            None => self.said.counters.push((name.to_owned(), by)),
        }
    }

    /// Counts something that could not even be read.
    pub(crate) fn suppress(&mut self) {
        self.said.suppressed = self.said.suppressed.saturating_add(1);
    }

    pub(crate) fn take(&mut self) -> HostNotes {
        self.kept_bytes = 0;
        std::mem::take(&mut self.said)
    }
}

/// A label in metrics: short, printable, nothing to escape.
fn is_good_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= COUNTER_NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(notes: &mut Notes, messages: usize, len: usize, now: Instant) -> usize {
        (0..messages).filter(|_| notes.admit(len, now)).count()
    }

    #[test]
    fn a_second_takes_so_many_lines_and_the_next_second_as_many_again() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        assert_eq!(admitted(&mut notes, 150, 1, now), 100);
        assert_eq!(admitted(&mut notes, 150, 1, now + Duration::from_millis(999)), 0);
        assert_eq!(admitted(&mut notes, 150, 1, now + Duration::from_secs(1)), 100);
        assert_eq!(notes.take().suppressed, 50 + 150 + 50);
    }

    #[test]
    fn a_second_takes_so_many_bytes_however_long_the_messages() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        assert_eq!(admitted(&mut notes, 50, usize::MAX, now), 16);
    }

    #[test]
    fn what_nobody_takes_is_bounded() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        let later = |second| now + Duration::from_secs(second);
        let all: usize = (0..100).map(|second| admitted(&mut notes, 50, MESSAGE_BYTES_MAX, later(second))).sum();
        assert_eq!(all, KEPT_BYTES_MAX / MESSAGE_BYTES_MAX);
        notes.take();
        assert_eq!(admitted(&mut notes, 50, MESSAGE_BYTES_MAX, later(200)), 16);
    }

    #[test]
    fn the_33rd_counter_is_not_counted_and_the_others_go_on() {
        let mut notes = Notes::new();
        for round in 0..2 {
            (0..40).for_each(|i| notes.count(&format!("c{i}"), 2));
            let said = notes.take();
            assert_eq!((said.counters.len(), said.suppressed), (32, 8), "round {round}");
            assert_eq!(said.counters[31], ("c31".to_owned(), 2));
        }
    }

    #[test]
    fn a_name_that_would_need_escaping_is_not_counted() {
        let mut notes = Notes::new();
        for name in ["", "a b", "a\"", "ü", &"x".repeat(65)] {
            notes.count(name, 1);
        }
        notes.count("lines.kept", u64::MAX);
        notes.count("lines.kept", 5);
        let said = notes.take();
        assert_eq!((said.counters, said.suppressed), (vec![("lines.kept".to_owned(), u64::MAX)], 5));
    }
}

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
/// What keeping a line costs beside its bytes, so that empty ones are bounded too.
const ENTRY_BYTES: usize = 32;
/// Names of counters: each is a time series for every agent.
const COUNTERS_MAX: usize = 32;
/// Bytes of a counter's name.
pub(crate) const COUNTER_NAME_BYTES_MAX: usize = 64;

/// What was said since it was last taken, and what may still be said.
pub(crate) struct Notes {
    said: HostNotes,
    /// The begun lines of stdout and stderr: runtimes write in small pieces.
    begun: [Vec<u8>; 2],
    kept_bytes: usize,
    /// Every name this instance ever used. Invariant: at most `COUNTERS_MAX`.
    names: Vec<String>,
    window: Option<Instant>,
    lines: u32,
    bytes: usize,
}

impl Notes {
    pub(crate) fn new() -> Notes {
        Notes {
            said: HostNotes::default(),
            begun: Default::default(),
            kept_bytes: 0,
            names: Vec::new(),
            window: None,
            lines: 0,
            bytes: 0,
        }
    }

    /// Takes a log line, or lets it fall.
    pub(crate) fn log(&mut self, level: u8, message: &[u8], now: Instant) {
        self.open_window(now);
        let message = &message[..message.len().min(MESSAGE_BYTES_MAX)];
        if self.admit_bytes(message.len()) && self.admit_line() {
            self.said.logs.push((level.min(3), String::from_utf8_lossy(message).into_owned()));
        }
    }

    /// Takes what was written to stdout (1) or stderr (any other), line by line.
    pub(crate) fn print(&mut self, fd: u8, text: &[u8], now: Instant) {
        self.open_window(now);
        let fd = if fd == 1 { 1 } else { 2 };
        for piece in text[..text.len().min(MESSAGE_BYTES_MAX)].split_inclusive(|byte| *byte == b'\n') {
            if !self.admit_bytes(piece.len()) {
                continue;
            }
            let (line, is_whole) = piece.strip_suffix(b"\n").map_or((piece, false), |line| (line, true));
            let begun = &mut self.begun[usize::from(fd) - 1];
            begun.extend_from_slice(line);
            if is_whole || begun.len() >= MESSAGE_BYTES_MAX {
                self.end_line(fd);
            }
        }
    }

    fn end_line(&mut self, fd: u8) {
        let line = std::mem::take(&mut self.begun[usize::from(fd) - 1]);
        if self.admit_line() {
            self.said.prints.push((fd, String::from_utf8_lossy(&line).into_owned()));
        }
    }

    fn open_window(&mut self, now: Instant) {
        if self.window.is_none_or(|begun| now.duration_since(begun) >= Duration::from_secs(1)) {
            self.window = Some(now);
            (self.lines, self.bytes) = (0, 0);
        }
    }

    fn admit_bytes(&mut self, len: usize) -> bool {
        let fits = self.bytes + len <= BYTES_PER_SECOND && self.kept_bytes + len <= KEPT_BYTES_MAX;
        if fits {
            self.bytes += len;
            self.kept_bytes += len;
        } else {
            self.suppress();
        }
        fits
    }

    fn admit_line(&mut self) -> bool {
        let fits = self.lines < LINES_PER_SECOND && self.kept_bytes + ENTRY_BYTES <= KEPT_BYTES_MAX;
        if fits {
            self.lines += 1;
            self.kept_bytes += ENTRY_BYTES;
        } else {
            self.suppress();
        }
        fits
    }

    pub(crate) fn count(&mut self, name: &str, by: u64) {
        let known = self.names.iter().any(|known| known == name);
        if !known && (self.names.len() >= COUNTERS_MAX || !is_good_name(name)) {
            return self.suppress();
        }
        if !known {
            self.names.push(name.to_owned());
        }
        match self.said.counters.iter_mut().find(|(counted, _)| counted == name) {
            Some((_, sum)) => *sum = sum.saturating_add(by),
            None => self.said.counters.push((name.to_owned(), by)),
        }
    }

    /// Counts something that was let fall.
    pub(crate) fn suppress(&mut self) {
        self.said.suppressed = self.said.suppressed.saturating_add(1);
    }

    /// All of it, begun lines too: they may be a guest's last words.
    pub(crate) fn take(&mut self) -> HostNotes {
        for fd in [1, 2] {
            if !self.begun[usize::from(fd) - 1].is_empty() {
                self.end_line(fd);
            }
        }
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

    fn logged(notes: &mut Notes, messages: usize, len: usize, now: Instant) -> usize {
        let before = notes.said.logs.len();
        (0..messages).for_each(|_| notes.log(1, &vec![b'x'; len], now));
        notes.said.logs.len() - before
    }

    #[test]
    fn a_second_takes_so_many_lines_and_the_next_second_as_many_again() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        assert_eq!(logged(&mut notes, 150, 1, now), 100);
        assert_eq!(logged(&mut notes, 150, 1, now + Duration::from_millis(999)), 0);
        assert_eq!(logged(&mut notes, 150, 1, now + Duration::from_secs(1)), 100);
        assert_eq!(notes.take().suppressed, 50 + 150 + 50);
    }

    #[test]
    fn a_second_takes_so_many_bytes_however_long_the_messages() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        assert_eq!(logged(&mut notes, 50, 1 << 20, now), 16);
    }

    #[test]
    fn what_nobody_takes_is_bounded() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        let later = |second| now + Duration::from_secs(second);
        let all: usize = (0..100).map(|second| logged(&mut notes, 50, MESSAGE_BYTES_MAX, later(second))).sum();
        assert_eq!(all, KEPT_BYTES_MAX / (MESSAGE_BYTES_MAX + ENTRY_BYTES));
        let empty: usize = (100..200).map(|second| logged(&mut notes, 50, 0, later(second))).sum();
        assert!(empty < 4_000);
        notes.take();
        assert_eq!(logged(&mut notes, 50, MESSAGE_BYTES_MAX, later(200)), 16);
    }

    #[test]
    fn pieces_that_a_runtime_writes_become_lines() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        for (fd, piece) in [(2, "panic: "), (1, "out"), (2, "no\n\ngoroutine "), (2, "1"), (7, " [running]")] {
            notes.print(fd, piece.as_bytes(), now);
        }
        let line = |fd, line: &str| (fd, line.to_owned());
        let wanted = [line(2, "panic: no"), line(2, ""), line(1, "out"), line(2, "goroutine 1 [running]")];
        assert_eq!(notes.take().prints, wanted);
        assert!(notes.take().is_empty());
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        (0..100).for_each(|_| notes.print(1, &[b'x'; 500], now));
        let prints = notes.take().prints;
        assert_eq!(prints.iter().map(|(_, line)| line.len()).collect::<Vec<_>>(), [vec![4500; 11], vec![500]].concat());
    }

    #[test]
    fn printed_lines_count_against_the_limit() {
        let (mut notes, now) = (Notes::new(), Instant::now());
        (0..10).for_each(|_| notes.print(1, "\n".repeat(15).as_bytes(), now));
        let said = notes.take();
        assert_eq!((said.prints.len(), said.suppressed), (100, 50));
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

//! Generations that came and went between two looks.
//!
//! In: a file that left its place (renamed, deleted, truncated), and since when. Out: files beside it that must have been
//! in that place since, under names that rotation gives and no pattern need match: they are read before the file that is
//! there now. A file counts when it was born after the one that left was last seen in its place.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::entry::{Entry, now_ns};
use super::hunt::files_in;
use super::stream::Candidate;
use super::walk::Shown;

/// The clock that stamps files is a little coarser than the one that is asked; and writers create a file some time
/// before the first look at it.
const SLACK_NS: i128 = 1_000_000_000;
/// Words that rotation puts behind a name instead of a number.
const OLD: [&[u8]; 6] = [b"old", b"bak", b"prev", b"last", b"save", b"orig"];

/// A file that left its place.
#[derive(Debug)]
pub(super) struct Departure {
    /// The place: a path.
    pub(super) seat: Arc<Path>,
    /// What was born before this was not in that place since: nanoseconds since the Unix epoch.
    pub(super) since_ns: i128,
}

impl Departure {
    /// `born_ns`: of the file that left; `seen_ns`: when it was last seen in its place.
    pub(super) fn new(seat: Arc<Path>, born_ns: Option<i64>, seen_ns: i128) -> Departure {
        // Seen in the future: the clock was set back since, and tells nothing.
        let seen_ns = if seen_ns > now_ns() { i128::MIN } else { seen_ns.saturating_sub(SLACK_NS) };
        Departure { seat, since_ns: seen_ns.max(born_ns.map_or(i128::MIN, i128::from)) }
    }
}

impl Entry {
    /// Puts generations that nobody saw in front of the backlog, the oldest first.
    pub(super) fn find_missed(&mut self) {
        for departure in std::mem::take(&mut self.departed) {
            let Some(dir) = departure.seat.parent() else { continue };
            let mut missed: Vec<Candidate> = Vec::new();
            for (path, shown) in files_in(dir) {
                let rotated = is_rotated(&path, &departure.seat) && born_ns(&shown) >= departure.since_ns;
                let known = self.has_place(&shown.place) || self.is_waiting(&shown.place);
                if !rotated || known || self.spec.patterns.matches(&path) || self.known.claims(&shown.place, None) {
                    continue;
                }
                missed.push(Candidate { seat: Some(departure.seat.clone()), ..Candidate::new(path, shown) });
            }
            missed.sort_by_key(|candidate| (born_ns(&candidate.shown), candidate.shown.modified_ns));
            // The one that left comes before them, the one that is in the place now behind.
            let behind = self.backlog.iter().take_while(|candidate| candidate.found.is_some()).count();
            missed.into_iter().rev().for_each(|candidate| self.backlog.insert(behind, candidate));
        }
    }
}

fn born_ns(shown: &Shown) -> i128 {
    shown.place.born_ns.map_or(shown.modified_ns, i128::from)
}

/// Whether rotation makes this name out of that of `seat`: a number, a date or a word like `old` behind the name, or
/// between its stem and its ending.
fn is_rotated(path: &Path, seat: &Path) -> bool {
    let (Some(name), Some(own)) = (path.file_name(), seat.file_name()) else { return false };
    let (name, own) = (name.as_bytes(), own.as_bytes());
    if name.strip_prefix(own).is_some_and(is_mark_of_rotation) {
        return true;
    }
    let (Some(stem), Some(ending)) = (seat.file_stem().map(OsStr::as_bytes), seat.extension()) else { return false };
    let ending = [b".", ending.as_bytes()].concat();
    name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(&ending[..])).is_some_and(is_mark_of_rotation)
}

/// `.1`, `-20240101`, `.2024-01-01_12.30`, `.old`.
fn is_mark_of_rotation(mark: &[u8]) -> bool {
    let Some((b'.' | b'-' | b'_', rest)) = mark.split_first() else { return false };
    let dated = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'T' | b'Z' | b'+');
    OLD.contains(&rest) || (rest.iter().all(dated) && rest.iter().any(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(name: &str, seat: &str) -> bool {
        is_rotated(&Path::new("/v").join(name), &Path::new("/v").join(seat))
    }

    #[test]
    fn numbers_dates_and_old_words_are_marks_of_rotation_and_other_words_are_not() {
        for name in [
            "app.log.1",
            "app.log-20240101",
            "app.log.2024-01-01T10:00:00Z",
            "app.log.old",
            "app-2024.log",
            "app.1.log",
        ] {
            assert!(rotated(name, "app.log"), "{name}");
        }
        for name in [
            "app.log",
            "app.log.gz",
            "app.log.pos",
            "app.log1",
            "app.logs.1",
            "apple.1.log",
            "app.log.",
            "app.err.log",
            "app.log.-",
        ] {
            assert!(!rotated(name, "app.log"), "{name}");
        }
        assert!(rotated("syslog.1", "syslog") && !rotated("syslog-ng.1", "syslog"));
    }
}

//! Generations that came and went between two looks.
//!
//! In: a file that left its place (renamed, deleted, truncated), and since when. Out: files beside it that must have been
//! in that place since, under names that rotation gives, whether or not a pattern matches them: they are read before the
//! file that is there now. A file counts when it was born after the one that left was last seen in its place.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::KnownFile;
use super::entry::{Entry, now_ns};
use super::hunt::files_in;
use super::stream::{Candidate, Stream};
use super::walk::{Shown, targets_of};
use crate::compare::is_monotonous;
use crate::evidence::read_full;
use crate::identity::{FileId, FileKey};
use crate::packed::Packing;

/// The clock that stamps files is a little coarser than the one that is asked; and writers create a file some time
/// before the first look at it.
pub(super) const SLACK_NS: i128 = 1_000_000_000;
/// Words that rotation puts behind a name instead of a number.
const OLD: [&[u8]; 6] = [b"old", b"bak", b"prev", b"last", b"save", b"orig"];

/// Digits of the shortest date: `240101`.
const DATE_DIGITS: usize = 6;
/// Bytes of a copy that are compared, and in one go. A copy that is alike for so long is one.
const COMPARED_BYTES_MAX: u64 = 8 << 20;
const PART_BYTES: usize = 64 * 1024;
/// So many bytes tell whether a file repeats itself.
const TAIL_BYTES: u64 = 4096;

/// A file that left its place.
#[derive(Debug)]
pub(super) struct Departure {
    /// The place: a path.
    pub(super) seat: Arc<Path>,
    /// What that led to.
    pub(super) target: Option<Arc<Path>>,
    /// What was born before this was not in that place since: nanoseconds since the Unix epoch.
    pub(super) since_ns: i128,
}

impl Departure {
    /// `born_ns`: of the file that left; `seen_ns`: when it was last seen in its place.
    pub(super) fn new(seat: Arc<Path>, target: Option<Arc<Path>>, born_ns: Option<i64>, seen_ns: i128) -> Departure {
        // Seen in the future: the clock was set back since, and tells nothing.
        let seen_ns = if seen_ns > now_ns() { i128::MIN } else { seen_ns.saturating_sub(SLACK_NS) };
        Departure { seat, target, since_ns: seen_ns.max(born_ns.map_or(i128::MIN, i128::from)) }
    }

    /// Of a file that was read in its place.
    pub(super) fn of_stream(stream: &Stream) -> Departure {
        Departure::new(stream.seat.clone(), stream.target.clone(), stream.place.born_ns, stream.seen_ns)
    }

    /// Of a known file. None: it was not in its place when it was seen last.
    pub(super) fn of(known: &KnownFile, born_ns: Option<i64>) -> Option<Departure> {
        let in_place = !known.finished && known.path == known.home;
        let seen_ns = i128::from(known.updated_ms) * 1_000_000;
        let target = known.target.as_deref().map(Arc::from);
        in_place.then(|| Departure::new(Arc::from(known.home.as_path()), target, born_ns, seen_ns))
    }
}

impl Entry {
    /// Puts generations that nobody saw in front of the backlog, the oldest first.
    pub(super) fn find_missed(&mut self) {
        if !self.hunts.is_empty() {
            return; // what is searched for may have been in the place before them
        }
        for departure in std::mem::take(&mut self.departed) {
            let missed = self.in_place_since(&departure, &|_, _| true);
            // The one that left comes before them, the one that is in the place now behind.
            let known = |c: &&Candidate| c.found.is_some() || c.seat.is_some() || self.known.claims(&c.shown.place);
            let behind = self.backlog.iter().take_while(known).count();
            missed.into_iter().rev().for_each(|candidate| self.backlog.insert(behind, candidate));
        }
    }

    /// A known file of which nothing was shipped is in its place: what was in it before may have been copied away. Nothing
    /// is known of its content, so its copies are told by their names and births. True: there are some, and they are in
    /// front of the backlog.
    pub(super) fn seek_copies(&mut self, id: FileId, file: &File, shown: &Shown) -> bool {
        let Some(known) = self.known.get(id) else { return false };
        if known.finished || known.offset > 0 || known.evidence.at > 0 {
            return false;
        }
        let seat: Arc<Path> = Arc::from(known.home.as_path());
        let target = known.target.as_deref().map(Arc::from);
        let departure = Departure::new(seat, target, None, i128::from(known.updated_ms) * 1_000_000);
        // One that holds nothing but what the file itself begins with has nothing to add.
        let adds = |path: &Path, copy: &Shown| copy.place != shown.place && !is_beginning_of(path, copy, file, shown);
        let copies = self.in_place_since(&departure, &adds);
        let found = !copies.is_empty();
        copies.into_iter().rev().for_each(|candidate| self.backlog.push_front(candidate));
        found
    }

    /// The files that were in a place after the one that left it, and that nobody reads, the oldest first. Those that wait
    /// to be opened because a pattern matches their new names wait no more.
    fn in_place_since(&mut self, departure: &Departure, but: &dyn Fn(&Path, &Shown) -> bool) -> Vec<Candidate> {
        let mut missed: Vec<Candidate> = Vec::new();
        // Where the seat is a link, rotation happens beside what it leads to.
        let target = departure.target.iter().map(|target| target.to_path_buf());
        let seats = targets_of(&departure.seat).into_iter().chain([departure.seat.to_path_buf()]).chain(target);
        let beside = |seat: PathBuf| {
            let files = seat.parent().map(files_in).unwrap_or_default();
            files.into_iter().map(move |(path, shown)| (seat.clone(), path, shown))
        };
        for (seat, path, shown) in seats.flat_map(beside) {
            let meant = self.spec.patterns.matches(&path);
            let Some(packing) = self.came_since(&path, &shown, &seat, departure.since_ns) else { continue };
            // What is finished is told by its content when it is opened: its inode may be another file's by now.
            let known = self.known.awaits(&shown.place) || self.known.has_nothing_new(&shown);
            let twice = missed.iter().any(|candidate| candidate.shown.place == shown.place);
            if twice || self.has_place(&shown.place) || known || !but(&path, &shown) {
                continue;
            }
            let seat = Some(departure.seat.clone());
            match self.take_waiting(&shown.place, &seat) {
                Waiting::Nowhere if meant && self.is_ignored(&shown, false) => {}
                Waiting::Nowhere => missed.push(Candidate { seat, packing, ..Candidate::new(path, shown) }),
                Waiting::Taken(candidate) => missed.push(Candidate { seat, packing, ..*candidate }),
                Waiting::Elsewhere => {}
            }
        }
        // Of an archive only the last write is known; a writer may go on in the old file after the new one was born.
        let by_birth = missed.iter().all(|candidate| candidate.packing.is_none());
        missed.sort_by(|a, b| {
            let rank =
                |c: &Candidate| (if by_birth { born_ns(&c.shown) } else { c.shown.modified_ns }, c.shown.modified_ns);
            rank(a).cmp(&rank(b)).then_with(|| turn(&a.path).cmp(&turn(&b.path)))
        });
        missed
    }

    /// Whether rotation made this file of one that was at `seat` since then; if so, how it is compressed.
    fn came_since(&self, path: &Path, shown: &Shown, seat: &Path, since_ns: i128) -> Option<Option<Packing>> {
        let meant = self.spec.patterns.matches(path);
        if !Packing::is_named(path) {
            return (is_rotated(path, seat, meant) && born_ns(shown) >= since_ns).then_some(None);
        }
        let original = path.with_extension("");
        let rotated = is_rotated(&original, seat, meant) && shown.modified_ns >= since_ns;
        // As long as the original is there it is the one to read: the archive may not be complete.
        if !rotated || (meant && self.spec.compressed) || original.symlink_metadata().is_ok() {
            return None;
        }
        let packing = File::open(path).and_then(|file| Packing::of(&file)).ok()?;
        packing.map(Some)
    }

    /// Takes a new file out of the backlog. One that is compared with others first will have been in this place when it
    /// comes back.
    fn take_waiting(&mut self, place: &FileKey, seat: &Option<Arc<Path>>) -> Waiting {
        if let Some(at) = self.backlog.iter().position(|candidate| candidate.shown.place == *place) {
            if self.backlog[at].found.is_some() || self.backlog[at].seat.is_some() {
                return Waiting::Elsewhere;
            }
            return self.backlog.remove(at).map_or(Waiting::Nowhere, |candidate| Waiting::Taken(Box::new(candidate)));
        }
        let probed = self.probes.iter_mut().map(|probe| &mut probe.candidate);
        let mut all = probed.chain(self.held.iter_mut().map(|held| &mut held.candidate));
        match all.find(|candidate| candidate.shown.place == *place) {
            Some(candidate) => {
                if candidate.seat.is_none() {
                    candidate.seat.clone_from(seat);
                }
                Waiting::Elsewhere
            }
            None => Waiting::Nowhere,
        }
    }
}

/// Where a new file waits.
enum Waiting {
    Nowhere,
    /// In the backlog: it does no more.
    Taken(Box<Candidate>),
    /// Where it stays.
    Elsewhere,
}

/// Whether a copy holds what a file begins with, and nothing else. In doubt it does not: equal lines prove nothing.
fn is_beginning_of(path: &Path, copy: &Shown, file: &File, shown: &Shown) -> bool {
    if copy.size > shown.size || copy.size == 0 {
        return copy.size == 0;
    }
    let compare = || {
        let copied = File::open(path)?;
        let (mut one, mut other) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
        let (mut at, upto) = (0, copy.size.min(COMPARED_BYTES_MAX));
        while at < upto {
            let part = (upto - at).min(PART_BYTES as u64) as usize; // at most 64 KiB
            let both = read_full(&copied, &mut one[..part], at)? && read_full(file, &mut other[..part], at)?;
            if !both || one[..part] != other[..part] {
                return Ok(false);
            }
            at += part as u64;
        }
        let tail_from = upto - upto.min(TAIL_BYTES);
        let mut tail = vec![0; (upto - tail_from) as usize]; // at most 4 KiB
        io::Result::Ok(read_full(&copied, &mut tail, tail_from)? && !is_monotonous(&tail))
    };
    compare().unwrap_or(false)
}

/// The order of rotated files that were made in one tick of the clock, the oldest first: the greatest number, the
/// earliest date.
fn turn(path: &Path) -> (std::cmp::Reverse<u32>, &Path) {
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let digits = name.rsplit(|byte| !byte.is_ascii_digit()).find(|digits| !digits.is_empty()).unwrap_or_default();
    let number = if digits.len() < DATE_DIGITS { std::str::from_utf8(digits).ok() } else { None };
    (std::cmp::Reverse(number.and_then(|digits| digits.parse().ok()).unwrap_or(0)), path)
}

fn born_ns(shown: &Shown) -> i128 {
    shown.place.born_ns.map_or(shown.modified_ns, i128::from)
}

/// Whether rotation makes this name out of that of `seat`: a number, a date or a word like `old` behind the name, or
/// between its stem and its ending. `surely`: what is read under this name in any case may be a log of its own, as
/// `app-2.log` beside `app.log`: only a date counts there.
fn is_rotated(path: &Path, seat: &Path, surely: bool) -> bool {
    let (Some(name), Some(own)) = (path.file_name(), seat.file_name()) else { return false };
    let (name, own) = (name.as_bytes(), own.as_bytes());
    if name.strip_prefix(own).is_some_and(is_mark_of_rotation) {
        return true;
    }
    let (Some(stem), Some(ending)) = (seat.file_stem().map(OsStr::as_bytes), seat.extension()) else { return false };
    let ending = [b".", ending.as_bytes()].concat();
    let mark = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(&ending[..]));
    let digits = |mark: &[u8]| mark.iter().filter(|byte| byte.is_ascii_digit()).count();
    mark.is_some_and(|mark| is_mark_of_rotation(mark) && (!surely || digits(mark) >= DATE_DIGITS))
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
        is_rotated(&Path::new("/v").join(name), &Path::new("/v").join(seat), false)
    }

    #[test]
    fn a_log_of_its_own_beside_another_is_no_generation_of_that_one() {
        let surely = |name: &str| is_rotated(&Path::new("/v").join(name), Path::new("/v/app.log"), true);
        assert!(surely("app.log.1") && surely("app.log-20240101") && surely("app-20240101.log"));
        assert!(!surely("app-2.log") && !surely("app.3.log"));
    }

    #[test]
    fn of_generations_made_in_one_tick_of_the_clock_the_greatest_number_and_the_earliest_date_come_first() {
        for order in [
            ["/v/app.log.10", "/v/app.log.2", "/v/app.log.1"],
            ["/v/app.log-20240101", "/v/app.log-20240102", "/v/app.log-20240203"],
            ["/v/app.2.log.gz", "/v/app.1.log", "/v/app.log.old"],
        ] {
            let mut sorted: Vec<&Path> = order.iter().rev().map(Path::new).collect();
            sorted.sort_by_key(|path| turn(path));
            assert_eq!(sorted, order.map(Path::new));
        }
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

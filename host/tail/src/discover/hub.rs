//! The one who waits, scans and answers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::entry::{Entry, now_ns};
use super::hints::Hints;
use super::known::KnownFiles;
use super::open::{Opener, Pace};
use super::pinned::Pinned;
use super::scan::Scan;
use super::walk::look;
use super::{DiscoverOptions, FileEvent, KnownFile, LossCause, Notice, StreamReport, WatchSpec};
use crate::allow::AllowPaths;

/// Hints that come within so long of the last ones wait for each other.
const HINTS_EVERY: Duration = Duration::from_millis(5);
/// Scans that hints ask for are at least so far apart, and ten times as far as one takes.
const RESCAN_EVERY: Duration = Duration::from_millis(20);
/// Where there are so many files that a scan takes its time, scans come less often: they take no more than this part of
/// it (one in so many), and when hints tell of most things anyway, much less. But never is the time between two scans
/// stretched by more than the factor.
const SCAN_SHARE: u32 = 20;
const SCAN_SHARE_HINTED: u32 = 1000;
const SCAN_STRETCH_MAX: u32 = 12;
/// Files opened in one go: shards begin with the first ones while others are still found, and close idle ones.
const OPENS_MAX: usize = 256;
/// Vanished files are looked for at least so often.
const SWEEP_EVERY_MAX: Duration = Duration::from_secs(600);
/// A portion of a scan is over after so many names, or so long.
const PORTION_NAMES: usize = 8192;
const PORTION: Duration = Duration::from_millis(10);
/// Bytes compared in one go, of files that may be copies.
const COMPARED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Without a way to be woken (no descriptor left at the start), a wait is no longer than this.
const UNWOKEN_WAIT_MAX: Duration = Duration::from_millis(50);

/// Finds files. One owner calls everything, on a thread of its own.
#[derive(Debug)]
pub struct Discovery {
    scan_every: Duration,
    allow: AllowPaths,
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    /// What is known of the files of entries that are not there (yet, or any more).
    shelf: HashMap<Arc<str>, KnownFiles>,
    entries_seen: BTreeSet<Arc<str>>,
    pub(super) hints: Option<Hints>,
    waker: Waker,
    /// Said by `set_specs` and `report`, for the next wait.
    said: Vec<FileEvent>,
    next_scan: Instant,
    /// Not before this will a hint bring the next scan forward.
    rescan_from: Instant,
    /// Entries to be scanned out of turn.
    dirty: BTreeSet<Arc<str>>,
    hints_taken: Option<Instant>,
    pub(super) unlistable: HashSet<PathBuf>,
    out_of_descriptors: bool,
    /// Hints asked for a scan of everything.
    rescan_wanted: bool,
    /// The scan that goes on.
    scan: Option<Scan>,
    pinned: Pinned,
    forget_after: Duration,
    /// Not before this will vanished files be looked for.
    next_sweep: Option<Instant>,
    copy_hold: Duration,
    /// When the next held file is let go.
    release_at: Option<Instant>,
}

/// Makes [`Discovery::wait`] return at once, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    woken: Arc<AtomicBool>,
    fd: Option<Arc<OwnedFd>>,
}

impl Waker {
    fn new() -> Waker {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Waker { woken: Arc::new(AtomicBool::new(false)), fd: fd.map(Arc::new) }
    }

    /// Wakes; a wake while nobody waits counts for the next wait.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(fd) = &self.fd {
            // Only fails when it was woken more often than a counter of 64 bits can tell.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    fn take(&self) -> bool {
        if let Some(fd) = &self.fd {
            let _ = rustix::io::read(fd, &mut [0_u8; 8]);
        }
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Discovery {
    /// Looks at nothing yet.
    pub fn new(options: DiscoverOptions) -> Discovery {
        let mut shelf: HashMap<Arc<str>, KnownFiles> = HashMap::new();
        for known in options.known {
            shelf.entry(known.key.entry.clone()).or_default().insert(known);
        }
        let mut said = Vec::new();
        let hints = match options.hints.then(Hints::new) {
            Some(Ok(hints)) => Some(hints),
            Some(Err(notice)) => {
                said.push(FileEvent::Notice(notice));
                None
            }
            None => None,
        };
        Discovery {
            scan_every: options.scan_every,
            allow: options.allow,
            entries: BTreeMap::new(),
            shelf,
            entries_seen: options.entries_seen,
            hints,
            waker: Waker::new(),
            said,
            next_scan: Instant::now(),
            rescan_from: Instant::now(),
            dirty: BTreeSet::new(),
            hints_taken: None,
            unlistable: HashSet::new(),
            out_of_descriptors: false,
            rescan_wanted: false,
            scan: None,
            pinned: Pinned::new(options.pinned_bytes_max),
            forget_after: options.forget_after,
            next_sweep: None,
            copy_hold: options.copy_hold,
            release_at: None,
        }
    }

    /// For other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The complete set of what is to be watched; what changed is worked out inside, and seen at the next `wait`. Of
    /// an entry whose patterns changed, only streams that are meant no more are dropped.
    pub fn set_specs(&mut self, specs: Vec<WatchSpec>) {
        let names: BTreeSet<Arc<str>> = specs.iter().map(|spec| spec.entry.clone()).collect();
        for (name, entry) in &mut self.entries {
            if !names.contains(name) && entry.wanted {
                entry.wanted = false;
                entry.drop_unwanted(&mut self.said);
            }
        }
        for spec in specs {
            let name = spec.entry.clone();
            match self.entries.get_mut(&name) {
                Some(entry) => {
                    let same = entry.wanted && entry.spec.patterns == spec.patterns;
                    entry.wanted = true;
                    entry.spec = spec;
                    if same {
                        continue;
                    }
                    entry.drop_unwanted(&mut self.said);
                }
                None => {
                    let seen = !self.entries_seen.insert(name.clone());
                    let known = self.shelf.remove(&name).unwrap_or_default();
                    self.entries.insert(name.clone(), Entry::new(spec, seen, known));
                }
            }
            self.dirty.insert(name);
        }
        self.shelve_ended();
    }

    /// Takes in what a shard says; what follows from it is seen at the next `wait`.
    pub fn report(&mut self, report: StreamReport) {
        let known = match report {
            StreamReport::Idle { key, bytes_read } => {
                if let Some(entry) = self.entries.get_mut(&key.entry) {
                    entry.close_idle(key.file, bytes_read);
                }
                return;
            }
            StreamReport::Pinned { key, bytes, unread } => {
                return self.pinned.set(key, bytes, unread, &mut self.said);
            }
            StreamReport::GivenUp { known, lost_bytes } => {
                self.pinned.remove(&known.key);
                return self.give_up(known, lost_bytes);
            }
            StreamReport::Truncated { ref known, .. }
            | StreamReport::Finished { ref known }
            | StreamReport::Closed { ref known } => known.clone(),
        };
        self.pinned.remove(&known.key);
        let name = known.key.entry.clone();
        let Some(entry) = self.entries.get_mut(&name) else {
            self.shelf.entry(name).or_default().insert(known);
            return;
        };
        match report {
            // Its shard has finished with it, but not with what a copy of it may hold.
            StreamReport::Truncated { file, .. } if entry.wanted => {
                entry.read_deleted(&known, file);
                entry.search_copy(KnownFile { finished: false, ..known });
            }
            // Its generation is over and nobody will look for the rest: nothing at its place may be taken for it.
            StreamReport::Truncated { .. } => drop(entry.remove(known.key.file)),
            StreamReport::Finished { .. } => entry.keep(KnownFile { finished: true, ..known }),
            _ => entry.keep(known),
        }
        self.dirty.insert(name);
        self.shelve_ended();
    }

    fn give_up(&mut self, known: KnownFile, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(&known.key.entry) {
            entry.remove(known.key.file);
        }
        let (key, path, offset) = (known.key, known.path, known.offset);
        self.said.push(FileEvent::Lost { key: key.clone(), path, offset, bytes, cause: LossCause::GivenUp });
        self.said.push(FileEvent::Forgotten(key));
        self.shelve_ended();
    }

    /// Blocks at most until `deadline`, the next scan, a hint or a wake; then returns what happened.
    pub fn wait(&mut self, deadline: Instant) -> Vec<FileEvent> {
        loop {
            let mut events = self.due();
            // Hints do not wait for the end of a scan, a comparison, or thousands of files to be opened.
            if self.is_busy() && self.block(Instant::now(), true) {
                events.extend(self.take_hints());
            }
            if !events.is_empty() || self.waker.take() || Instant::now() >= deadline {
                return events;
            }
            if self.is_busy() {
                continue;
            }
            let until = deadline.min(self.next_scan).min(self.release_at.unwrap_or(deadline));
            if !self.block(until, true) {
                continue;
            }
            // A hint: others are about to follow it. Napping lets the kernel fold them together.
            if let Some(taken) = self.hints_taken {
                self.block(taken + HINTS_EVERY, false);
            }
            let events = self.take_hints();
            if !events.is_empty() {
                return events;
            }
        }
    }

    /// Scans everything now and returns what happened.
    pub fn scan_now(&mut self) -> Vec<FileEvent> {
        self.scan_at(Instant::now())
    }

    /// As `scan_now`, as if it were `now`.
    pub fn scan_at(&mut self, now: Instant) -> Vec<FileEvent> {
        let mut events = std::mem::take(&mut self.said);
        while self.scan.is_some() {
            self.go_on_scanning(&mut events);
        }
        self.begin_scan();
        while self.scan.is_some() {
            self.go_on_scanning(&mut events);
        }
        while self.open_some(now, &mut events) {}
        self.sweep(now, &mut events);
        events
    }

    /// The next `wait` begins a scan.
    pub fn scan_soon(&mut self) {
        self.next_scan = Instant::now();
    }

    /// Whether a scan was begun and is not over.
    pub fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Forgets files that are gone for long.
    fn sweep(&mut self, now: Instant, events: &mut Vec<FileEvent>) {
        if self.next_sweep.is_some_and(|next| now < next) {
            return;
        }
        self.next_sweep = Some(now + (self.forget_after / 4).min(SWEEP_EVERY_MAX));
        let kept_ms = i64::try_from(self.forget_after.as_millis()).unwrap_or(i64::MAX);
        let before_ms = i64::try_from(now_ns() / 1_000_000).unwrap_or(i64::MAX).saturating_sub(kept_ms);
        for entry in self.entries.values_mut() {
            entry.forget_vanished(before_ms, events);
        }
        for known in self.shelf.values_mut() {
            let gone = known.take_vanished(before_ms, &|_| false);
            events.extend(gone.into_iter().map(|known| FileEvent::Forgotten(known.key)));
        }
        self.shelf.retain(|_, known| !known.is_empty());
    }

    /// What can be said without waiting: one portion of what there is to do.
    fn due(&mut self) -> Vec<FileEvent> {
        let mut events = std::mem::take(&mut self.said);
        if self.scan.is_none() && Instant::now() >= self.next_scan {
            self.begin_scan();
        } else if self.scan.is_none() && !self.dirty.is_empty() {
            let names = std::mem::take(&mut self.dirty).into_iter().collect();
            self.scan = Some(Scan::new(names, false));
        }
        self.go_on_scanning(&mut events);
        self.open_some(Instant::now(), &mut events);
        if self.scan.is_none() {
            self.sweep(Instant::now(), &mut events);
        }
        events
    }

    fn begin_scan(&mut self) {
        if let Some(hints) = &mut self.hints {
            hints.begin_scan();
        }
        // A directory that healed, or went, is worth another word when it fails again.
        self.unlistable.retain(|dir| std::fs::read_dir(dir).is_err());
        self.scan = Some(Scan::new(self.entries.keys().cloned().collect(), true));
        self.dirty.clear();
        self.out_of_descriptors = false;
    }

    /// Where directories come and go all the time, scans do not follow each other without a pause.
    fn scan_again(&mut self) {
        if self.scan.is_none() && std::mem::take(&mut self.rescan_wanted) {
            self.next_scan = self.next_scan.min(self.rescan_from);
        }
    }

    /// Goes on with the scan, if there is one, until a portion is done that tells something or takes its time.
    fn go_on_scanning(&mut self, events: &mut Vec<FileEvent>) {
        let begun = Instant::now();
        let looked_before = self.scan.as_ref().map_or(0, |scan| scan.looked);
        while let Some(mut scan) = self.scan.take() {
            if self.step_scan(&mut scan, events) {
                return self.end_scan(&scan);
            }
            self.scan = Some(scan);
            let looked = self.scan.as_ref().map_or(0, |scan| scan.looked) - looked_before;
            if looked >= PORTION_NAMES || begun.elapsed() >= PORTION {
                return;
            }
        }
    }

    fn end_scan(&mut self, scan: &Scan) {
        if !scan.full {
            return;
        }
        if let Some(hints) = &mut self.hints {
            hints.end_scan();
        }
        let now = Instant::now();
        let share = if self.hints.is_some() { SCAN_SHARE_HINTED } else { SCAN_SHARE };
        self.next_scan = now + (scan.took * share).clamp(self.scan_every, self.scan_every * SCAN_STRETCH_MAX);
        self.rescan_from = now + RESCAN_EVERY.max(scan.took * 10);
        self.scan_again();
    }

    /// Opens a few of the files that wait, and compares a little. True: there is more to do.
    fn open_some(&mut self, now: Instant, events: &mut Vec<FileEvent>) -> bool {
        let mut left = OPENS_MAX;
        let mut budget = COMPARED_BYTES_MAX;
        self.release_at = None;
        for entry in self.entries.values_mut() {
            let copy_hold = self.copy_hold;
            let mut opener = Opener { allow: &self.allow, hints: self.hints.as_mut(), events, copy_hold };
            entry.look_at_beginnings(&mut opener);
            entry.reopen_closed(&mut opener);
            entry.step_hunts(&mut opener, &mut budget);
            entry.find_missed();
            entry.step_probes(&mut opener, &mut budget);
            let due = entry.release_held(now, self.copy_hold, &self.allow);
            self.release_at = self.release_at.into_iter().chain(due).min();
            if self.out_of_descriptors {
                continue;
            }
            let before = entry.backlog.len();
            if entry.open_backlog(&mut opener, left) == Pace::OutOfDescriptors {
                self.out_of_descriptors = true;
                events.push(FileEvent::Notice(Notice::TooManyOpen { waiting: entry.backlog.len() }));
            }
            left -= before.saturating_sub(entry.backlog.len()).min(left);
            if !entry.held.is_empty() {
                let due = now + self.copy_hold; // at the latest, for what was held back just now
                self.release_at = self.release_at.map_or(Some(due), |at| Some(at.min(due)));
            }
        }
        self.has_work()
    }

    fn take_hints(&mut self) -> Vec<FileEvent> {
        let mut events = Vec::new();
        let Some(hints) = &mut self.hints else { return events };
        let hinted = hints.drain();
        self.hints_taken = Some(Instant::now());
        for entry in self.entries.values_mut() {
            let cared = hinted.paths.iter().filter(|path| entry.cares_for(path));
            let looks: Vec<_> = cared.map(|path| (path.clone(), look(path))).collect();
            if !looks.is_empty() {
                entry.take_in(looks, &mut events);
            }
        }
        // What is asked for during a scan may lie in what it passed already.
        self.rescan_wanted |= hinted.rescan;
        self.scan_again();
        self.open_some(Instant::now(), &mut events);
        events
    }

    /// Whether there is something to do at once.
    fn is_busy(&self) -> bool {
        self.scan.is_some() || !self.dirty.is_empty() || self.has_work()
    }

    fn has_work(&self) -> bool {
        let out = self.out_of_descriptors;
        self.entries.values().any(|entry| if out { entry.is_comparing() } else { entry.has_work() })
    }

    /// Waits for a wake, or (`for_hints`) a hint; true when a hint is there.
    fn block(&self, until: Instant, for_hints: bool) -> bool {
        let mut left = until.saturating_duration_since(Instant::now());
        if self.waker.fd.is_none() {
            left = left.min(UNWOKEN_WAIT_MAX);
        }
        let mut fds = Vec::with_capacity(2);
        let hints = self.hints.as_ref().filter(|_| for_hints);
        if let Some(hints) = hints {
            fds.push(PollFd::from_borrowed_fd(hints.fd(), PollFlags::IN));
        }
        if let Some(fd) = &self.waker.fd {
            fds.push(PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // Interrupted by a signal: as if time were up; the caller looks at the clock.
        let _ = poll(&mut fds, Some(&timeout));
        hints.is_some() && fds[0].revents().contains(PollFlags::IN)
    }

    /// Entries that were removed and whose streams are all closed: what is known of their files stays.
    fn shelve_ended(&mut self) {
        let ended = self.entries.iter().filter(|(_, entry)| !entry.wanted && entry.streams.is_empty());
        let ended: Vec<Arc<str>> = ended.map(|(name, _)| name.clone()).collect();
        for name in ended {
            if let Some(entry) = self.entries.remove(&name) {
                self.shelf.insert(name, entry.known);
            }
        }
    }
}

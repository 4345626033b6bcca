//! Looks at all paths of entries, in portions: a directory of a hundred thousand files holds nothing else up.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hub::Discovery;
use super::walk::{Look, Walk};
use super::{FileEvent, Notice};

/// Names looked at in one portion: a few milliseconds.
const NAMES_MAX: usize = 2048;

/// A scan that goes on.
#[derive(Debug)]
pub(super) struct Scan {
    /// Of all entries.
    pub(super) full: bool,
    /// The time that it took so far, without what was done between its portions.
    pub(super) took: Duration,
    /// Names looked at so far.
    pub(super) looked: usize,
    names: VecDeque<Arc<str>>,
    now: Option<Listing>,
}

/// The listing of one entry.
#[derive(Debug)]
struct Listing {
    name: Arc<str>,
    walk: Walk,
    /// What was not as expected.
    news: Vec<(PathBuf, Look)>,
}

impl Scan {
    pub(super) fn new(names: Vec<Arc<str>>, full: bool) -> Scan {
        Scan { full, took: Duration::ZERO, looked: 0, names: names.into(), now: None }
    }
}

impl Discovery {
    /// Goes on with a scan, one portion. True: it is over.
    pub(super) fn step_scan(&mut self, scan: &mut Scan, events: &mut Vec<FileEvent>) -> bool {
        let begun = Instant::now();
        let over = self.step_listing(scan, events);
        scan.took += begun.elapsed();
        over
    }

    fn step_listing(&mut self, scan: &mut Scan, events: &mut Vec<FileEvent>) -> bool {
        let Some(mut listing) = scan.now.take() else {
            let Some(name) = scan.names.pop_front() else { return true };
            if let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.wanted) {
                entry.begin_listing();
                let walk = Walk::new(entry.spec.patterns.clone());
                scan.now = Some(Listing { name, walk, news: Vec::new() });
            }
            return scan.now.is_none() && scan.names.is_empty();
        };
        let Some(entry) = self.entries.get_mut(&listing.name).filter(|entry| entry.wanted) else { return false };
        if !listing.walk.is_of(&entry.spec.patterns) {
            scan.names.push_front(listing.name); // it means something else now: from the beginning
            return false;
        }
        let hints = &mut self.hints;
        let mut on_dir = |dir: &Path| {
            if let Some(notice) = hints.as_mut().and_then(|hints| hints.watch_dir(dir)) {
                events.push(FileEvent::Notice(notice));
            }
        };
        if let Some(portion) = listing.walk.step(NAMES_MAX, &mut on_dir) {
            for (dir, reason) in portion.unlistable {
                if self.unlistable.insert(dir.clone()) {
                    events.push(FileEvent::Notice(Notice::Unlistable { dir, reason }));
                }
            }
            let mut looks = portion.looks;
            if listing.walk.may_repeat() {
                looks.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            listing.news.extend(entry.sift(looks, events));
            scan.looked += listing.walk.met();
            scan.now = Some(listing);
            return false;
        }
        let news = entry.take_in_all(listing.news, events);
        entry.search_missing(&news);
        entry.read_orphans();
        for stream in entry.streams.values().filter(|stream| stream.link) {
            if let Some(notice) = self.hints.as_mut().and_then(|hints| hints.watch_file(&stream.path)) {
                events.push(FileEvent::Notice(notice));
            }
        }
        scan.names.is_empty()
    }
}

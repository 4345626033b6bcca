//! The streams of one entry, followed over what the paths show.
//!
//! In: looks at paths (all of the entry's, or those a hint named). Out: what happened to files that are streams already,
//! and candidates: places that have no stream yet. A stream is its file's place; paths only lead to it.
//!
//! ```text
//!            path shows another file, or none
//!   in place ---------------------------------> leaving ---- Finished ---> known, finished
//!   (path = seat) <----- shown at its seat ----    |
//!                                                  +-- no name left --> leaving, gone
//! ```

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::copies::{Beginnings, Held, Probe};
use super::hunt::Hunt;
use super::known::KnownFiles;
use super::late::LateFiles;
use super::missed::Departure;
use super::paths_index::PathsIndex;
use super::stream::{Candidate, State, Stream};
use super::walk::{Look, Shown, find_place, is_link, look};
use super::{FileEvent, StartAt, StreamKey, WatchSpec};
use crate::allow::OpenProblem;
use crate::identity::{FileId, FileKey};

/// What one entry watches.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: WatchSpec,
    /// False: removed, and only waits for its streams to be closed.
    pub(super) wanted: bool,
    /// Whether `start: end` counts for what the first listing shows.
    pub(super) start_at_end: bool,
    /// Whether there was a listing.
    pub(super) listed: bool,
    /// Whether everything of the first listing was opened, and this was said.
    pub(super) first_scan_over: bool,
    /// Boxed: a table has many empty places.
    pub(super) streams: HashMap<FileId, Box<Stream>>,
    by_place: HashMap<FileKey, FileId>,
    paths: PathsIndex,
    pub(super) known: KnownFiles,
    /// Places without a stream, to be opened.
    pub(super) backlog: VecDeque<Candidate>,
    /// Searches for known files, one after the other.
    pub(super) hunts: VecDeque<Hunt>,
    /// New files that are compared with finished ones.
    pub(super) probes: VecDeque<Probe>,
    /// New files that wait until it is known whether they are copies.
    pub(super) held: Vec<Held>,
    pub(super) beginnings: Beginnings,
    /// Streams that grew and whose first bytes are few.
    pub(super) young: Vec<FileId>,
    /// Places that a file left, to be searched for generations that nobody saw.
    pub(super) departed: Vec<Departure>,
    /// Finished files that no listing shows.
    pub(super) late: LateFiles,
    /// Places of truncated files, whose next generation has no stream yet, with their paths.
    pub(super) orphans: HashMap<FileKey, Arc<Path>>,
    /// Streams that were closed as idle and have something to read.
    pub(super) to_reopen: BTreeSet<FileId>,
    pub(super) problems: HashMap<PathBuf, OpenProblem>,
    /// When this look began: nanoseconds since the Unix epoch.
    pub(super) looked_ns: i128,
    /// Counts looks.
    pub(super) round: u64,
    /// The count when the listing that goes on began.
    listing_from: u64,
    /// Counts streams that left their seats.
    pub(super) departures: u64,
}

impl Entry {
    pub(super) fn new(spec: WatchSpec, seen_before: bool, known: KnownFiles) -> Entry {
        let start_at_end = spec.start == StartAt::End && !seen_before;
        let mut entry = Entry {
            spec,
            wanted: true,
            start_at_end,
            listed: false,
            first_scan_over: false,
            streams: HashMap::new(),
            by_place: HashMap::new(),
            paths: PathsIndex::default(),
            known,
            backlog: VecDeque::new(),
            hunts: VecDeque::new(),
            probes: VecDeque::new(),
            held: Vec::new(),
            beginnings: Beginnings::default(),
            young: Vec::new(),
            departed: Vec::new(),
            late: LateFiles::default(),
            orphans: HashMap::new(),
            to_reopen: BTreeSet::new(),
            problems: HashMap::new(),
            looked_ns: i128::MIN,
            round: 0,
            listing_from: 0,
            departures: 0,
        };
        entry.watch_all_late();
        entry
    }

    pub(super) fn key(&self, file: FileId) -> StreamKey {
        StreamKey { entry: self.spec.entry.clone(), file }
    }

    pub(super) fn has_place(&self, place: &FileKey) -> bool {
        self.by_place.contains_key(place)
    }

    /// Whether a look at `path` can tell anything.
    pub(super) fn cares_for(&self, path: &Path) -> bool {
        self.lying_at(path).next().is_some()
            || (self.wanted && (self.spec.patterns.matches(path) || self.late.contains(path)))
    }

    /// Streams that lie at this path, as far as anybody knows.
    fn lying_at(&self, path: &Path) -> impl Iterator<Item = FileId> {
        let lies = move |id: &FileId| self.streams.get(id).is_some_and(|stream| &*stream.path == path);
        self.paths.at(path).iter().copied().filter(lies)
    }

    pub(super) fn insert(&mut self, id: FileId, stream: Stream) {
        self.by_place.insert(stream.place, id);
        self.paths.insert(&stream.path, id);
        self.paths.insert(&stream.seat, id);
        self.beginnings.insert(id, &stream.beginning);
        self.streams.insert(id, Box::new(stream));
    }

    pub(super) fn remove(&mut self, id: FileId) -> Option<Box<Stream>> {
        let stream = self.streams.remove(&id)?;
        if self.by_place.get(&stream.place) == Some(&id) {
            self.by_place.remove(&stream.place);
        }
        self.paths.remove(&stream.path, id);
        self.paths.remove(&stream.seat, id);
        self.beginnings.remove(id, &stream.beginning);
        Some(stream)
    }

    /// Streams that belong at this path.
    pub(super) fn at_seat(&self, path: &Path) -> Vec<FileId> {
        let belongs = |id: &FileId| self.streams.get(id).is_some_and(|stream| &*stream.seat == path);
        self.paths.at(path).iter().copied().filter(belongs).collect()
    }

    /// Whether a new file in this place is taken care of already.
    pub(super) fn is_waiting(&self, place: &FileKey) -> bool {
        let backlog = self.backlog.iter().chain(self.probes.iter().map(|probe| &probe.candidate));
        let mut all = backlog.chain(self.held.iter().map(|held| &held.candidate));
        all.any(|candidate| candidate.shown.place == *place)
    }

    /// Says `Dropped` for streams that nobody wants any more: all, or those in place whose path is meant no more.
    pub(super) fn drop_unwanted(&mut self, events: &mut Vec<FileEvent>) {
        let mut unwanted = BTreeSet::new();
        for (id, stream) in &mut self.streams {
            let meant = match stream.state {
                State::Dropped => continue,
                State::InPlace => self.spec.patterns.matches(&stream.path),
                State::Leaving { .. } => true,
            };
            if !self.wanted || !meant {
                stream.state = State::Dropped;
                unwanted.insert(*id);
            }
        }
        events.extend(unwanted.into_iter().map(|id| FileEvent::Dropped(self.key(id))));
        if !self.wanted {
            self.backlog.clear();
            self.hunts.clear();
            self.probes.clear();
            self.held.clear();
            self.problems.clear();
        }
    }

    /// The stream whose line goes before the first one of a new file at `path`: the last that left this path.
    pub(super) fn predecessor(&self, path: &Path) -> Option<StreamKey> {
        let streams = self.paths.at(path).iter().filter_map(|id| Some((*id, self.streams.get(id)?)));
        let leaving = streams.filter(|(_, stream)| matches!(stream.state, State::Leaving { .. }));
        let (last, _) = leaving.max_by_key(|(_, stream)| stream.left)?;
        Some(self.key(last))
    }

    /// A listing of all of the entry's paths begins; its looks come in portions (`sift`), then `take_in_all`.
    pub(super) fn begin_listing(&mut self) {
        self.round += 1;
        self.listing_from = self.round;
        self.looked_ns = now_ns();
    }

    /// Takes in what is as expected of a portion; returns the rest.
    pub(super) fn sift(&mut self, looks: Vec<(PathBuf, Look)>, events: &mut Vec<FileEvent>) -> Vec<(PathBuf, Look)> {
        looks.into_iter().filter(|(path, look)| !self.is_as_expected(path, look, events)).collect()
    }

    /// Takes in the rest of a complete listing: a path that is missing shows nothing. Returns what was not as expected.
    pub(super) fn take_in_all(
        &mut self,
        looks: Vec<(PathBuf, Look)>,
        events: &mut Vec<FileEvent>,
    ) -> HashMap<PathBuf, Look> {
        self.round += 1;
        self.looked_ns = now_ns();
        let mut looks: HashMap<_, _> = looks.into_iter().collect();
        // What follows for files that are read must not come from a look of long ago.
        for (path, shown) in &mut looks {
            let read = matches!(shown, Look::File(shown) if self.has_place(&shown.place));
            if read || self.lying_at(path).next().is_some() {
                *shown = look(path);
            }
        }
        self.take_in_news(&looks, true, events);
        self.look_at_late();
        looks
    }

    /// Takes in what some paths show.
    pub(super) fn take_in(&mut self, looks: Vec<(PathBuf, Look)>, events: &mut Vec<FileEvent>) {
        self.round += 1;
        self.looked_ns = now_ns();
        let mut looks: HashMap<_, _> = self.sift(looks, events).into_iter().collect();
        looks.retain(|path, _| {
            let late = self.late.contains(path);
            if late {
                self.hinted_late(path);
            }
            !late || self.lying_at(path).next().is_some()
        });
        if !looks.is_empty() {
            self.take_in_news(&looks, false, events);
        }
    }

    /// What most looks at many files come to, made cheap: a stream's file in its place, grown or not, or a finished
    /// file that did not change.
    fn is_as_expected(&mut self, path: &Path, look: &Look, events: &mut Vec<FileEvent>) -> bool {
        let Look::File(shown) = look else { return false };
        if !self.problems.is_empty() && self.problems.contains_key(path) {
            return false;
        }
        let Some(id) = self.by_place.get(&shown.place).copied() else { return self.known.has_nothing_new(shown) };
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if stream.state != State::InPlace || stream.path.as_os_str() != path.as_os_str() {
            return false;
        }
        stream.round = self.round;
        stream.seen_ns = self.looked_ns;
        let shrank = stream.shrank;
        if stream.see(shown) {
            let news = if stream.shrank && !shrank { FileEvent::Shrank } else { FileEvent::Grew };
            if stream.is_young() {
                self.young.push(id);
            }
            if stream.closed.is_some() {
                self.to_reopen.insert(id);
            }
            events.push(news(self.key(id)));
        }
        true
    }

    fn take_in_news(&mut self, looks: &HashMap<PathBuf, Look>, complete: bool, events: &mut Vec<FileEvent>) {
        let mut shown_at: HashMap<FileKey, Vec<&Path>> = HashMap::new();
        for (path, look) in looks {
            if let Look::File(shown) = look {
                shown_at.entry(shown.place).or_default().push(path);
            }
        }
        shown_at.values_mut().for_each(|paths| paths.sort());
        self.follow_streams(looks, &shown_at, complete, events);
        if !self.wanted {
            return;
        }
        self.note_problems(looks, complete, events);
        self.collect_candidates(looks, &shown_at, complete);
    }

    fn follow_streams(
        &mut self,
        looks: &HashMap<PathBuf, Look>,
        shown_at: &HashMap<FileKey, Vec<&Path>>,
        complete: bool,
        events: &mut Vec<FileEvent>,
    ) {
        let ids: Vec<FileId> = match complete {
            true => {
                self.streams.iter().filter(|(_, stream)| stream.round < self.listing_from).map(|(id, _)| *id).collect()
            }
            false => {
                let by_path = looks.keys().flat_map(|path| self.lying_at(path));
                let by_place = shown_at.keys().filter_map(|place| self.by_place.get(place).copied());
                by_path.chain(by_place).collect::<BTreeSet<_>>().into_iter().collect()
            }
        };
        let mut said: Vec<(Arc<Path>, Vec<FileEvent>)> = Vec::new();
        for id in ids {
            let Some(before) = self.streams.get(&id).map(|stream| stream.path.clone()) else { continue };
            let mut own = Vec::new();
            self.follow(id, looks, shown_at, complete, &mut own);
            if !own.is_empty() {
                said.push((before, own));
            }
        }
        said.sort_by(|(a, _), (b, _)| a.cmp(b));
        events.extend(said.into_iter().flat_map(|(_, own)| own));
    }

    /// Where one stream's file is now.
    fn follow(
        &mut self,
        id: FileId,
        looks: &HashMap<PathBuf, Look>,
        shown_at: &HashMap<FileKey, Vec<&Path>>,
        complete: bool,
        events: &mut Vec<FileEvent>,
    ) {
        let key = self.key(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let elsewhere = shown_at.get(&stream.place).map_or(&[][..], Vec::as_slice);
        let seat_shows = elsewhere.contains(&&*stream.seat);
        let gone = stream.state == State::Leaving { gone: true };
        if stream.state == State::Dropped || (gone && elsewhere.is_empty()) {
            if gone && !complete {
                events.push(FileEvent::Grew(key)); // written through a descriptor that somebody still has
            }
            return;
        }
        let asked;
        let here = match looks.get(&*stream.path) {
            Some(look) => look,
            None => {
                asked = look(&stream.path);
                &asked
            }
        };
        let now = match here {
            _ if seat_shows => Some(stream.seat.to_path_buf()),
            look if look.shows(&stream.place) => Some(stream.path.to_path_buf()),
            _ if !elsewhere.is_empty() => Some(elsewhere[0].to_owned()),
            // Cannot be looked at: nothing is known, so nothing changes.
            Look::Bad(OpenProblem::Permission | OpenProblem::Io(_)) => return,
            _ => {
                let place = stream.place;
                let names = [Some(&*stream.path), stream.target.as_deref()];
                let mut dirs = names.into_iter().flatten().filter_map(|name| name.parent());
                dirs.find_map(|dir| find_place(dir, &|other| *other == place, place.inode))
            }
        };
        let shown = now.as_deref().and_then(|path| match looks.get(path) {
            Some(Look::File(shown)) => Some(*shown),
            _ => match look(path) {
                Look::File(shown) => Some(shown),
                _ => None,
            },
        });
        self.settle(id, key, now, shown.filter(|shown| self.by_place.get(&shown.place) == Some(&id)), events);
    }

    /// Says what the new whereabouts of a stream come to.
    fn settle(
        &mut self,
        id: FileId,
        key: StreamKey,
        now: Option<PathBuf>,
        shown: Option<Shown>,
        events: &mut Vec<FileEvent>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let departure = Departure::of_stream(stream);
        let was_in_place = stream.state == State::InPlace;
        if stream.closed.is_some() {
            self.to_reopen.insert(id); // whatever happened to it: its shard has to see how it ends
        }
        if was_in_place {
            self.departures += 1;
            stream.left = self.departures; // counts only if it leaves
        }
        let Some((path, shown)) = now.zip(shown) else {
            stream.state = State::Leaving { gone: true };
            if was_in_place {
                self.departed.push(departure);
            }
            events.push(FileEvent::Leaving { key, gone: true });
            return;
        };
        if path != *stream.path {
            stream.link = is_link(&path);
            let path = if path == *stream.seat { stream.seat.clone() } else { Arc::from(path) };
            let before = std::mem::replace(&mut stream.path, path.clone());
            events.push(FileEvent::Moved { key: key.clone(), to: path.to_path_buf() });
            if before != stream.seat {
                self.paths.remove(&before, id);
            }
            self.paths.insert(&path, id);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let in_place = stream.path == stream.seat;
        if in_place {
            stream.seen_ns = self.looked_ns;
        }
        match (stream.state, in_place) {
            (State::InPlace, false) => {
                stream.state = State::Leaving { gone: false };
                self.departed.push(departure);
                events.push(FileEvent::Leaving { key: key.clone(), gone: false });
            }
            (State::Leaving { .. }, true) => {
                stream.state = State::InPlace;
                events.push(FileEvent::Back(key.clone()));
            }
            (State::Leaving { gone: true }, false) => stream.state = State::Leaving { gone: false },
            _ => {}
        }
        let shrank = stream.shrank;
        if stream.see(&shown) {
            if stream.is_young() {
                self.young.push(id);
            }
            events.push(if stream.shrank && !shrank { FileEvent::Shrank(key) } else { FileEvent::Grew(key) });
        }
    }

    /// Places without a stream. Those where a known file may lie come first (so that what it is not is known before new
    /// files are opened), of these the ones that were renamed; then the ones written longest ago.
    fn collect_candidates(
        &mut self,
        looks: &HashMap<PathBuf, Look>,
        shown_at: &HashMap<FileKey, Vec<&Path>>,
        complete: bool,
    ) {
        let from_first_listing = complete && !self.listed;
        if complete {
            let stays =
                |c: &Candidate| c.from_first_listing || c.found.is_some() || c.file.is_some() || c.seat.is_some();
            self.backlog.retain(stays);
            self.listed = true;
        }
        let backlog = self.backlog.iter().chain(self.probes.iter().map(|probe| &probe.candidate));
        let all = backlog.chain(self.held.iter().map(|held| &held.candidate));
        let waiting: HashSet<FileKey> = all.map(|candidate| candidate.shown.place).collect();
        let mut new = Vec::new();
        for (place, paths) in shown_at {
            if self.has_place(place) || waiting.contains(place) {
                continue;
            }
            // Of several names: the one that it has had, its own rather than a link to it, the shortest.
            let seat = self.orphans.get(place);
            let rank =
                |path: &&&Path| (seat.is_none_or(|seat| **seat != ***path), is_link(path), path.as_os_str().len());
            let first = if paths.len() == 1 { paths.first() } else { paths.iter().min_by_key(rank) };
            let Some(&path) = first else { continue };
            if let Some(Look::File(shown)) = looks.get(path)
                && !self.known.has_nothing_new(shown)
                && !self.is_ignored(shown, from_first_listing)
            {
                new.push(Candidate { from_first_listing, ..Candidate::new(path.to_owned(), *shown) });
            }
        }
        new.sort_by(|a, b| {
            let rank = |c: &Candidate| {
                let turn = self.known.turn(&c.path, &c.shown.place);
                (turn, c.shown.modified_ns, c.shown.place.born_ns)
            };
            rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path))
        });
        self.backlog.extend(new);
    }

    /// Whether nobody wants what was written so long ago. What is begun at its end needs a mark.
    pub(super) fn is_ignored(&self, shown: &Shown, from_first_listing: bool) -> bool {
        let Some(age) = self.spec.ignore_older else { return false };
        let age_ns = i128::try_from(age.as_nanos()).unwrap_or(i128::MAX);
        let old = self.looked_ns.saturating_sub(shown.modified_ns) > age_ns;
        old && !(self.start_at_end && from_first_listing) && !self.known.claims(&shown.place)
    }
}

pub(super) fn now_ns() -> i128 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(age.as_nanos()).unwrap_or(i128::MAX)
}

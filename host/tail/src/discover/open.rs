//! From a place without a stream to an opened file: is it known, is it a copy, is it new?

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::copies::beginning_of;
use super::entry::Entry;
use super::hints::Hints;
use super::hunt::{Alike, Hunt, Hunted, Rules};
use super::missed::Departure;
use super::stream::{Candidate, State, Stream};
use super::walk::{Look, Shown, is_link, look, real_path};
use super::{FileEvent, KnownFile, LossCause, OpenedFile};
use crate::allow::{AllowPaths, OpenProblem};
use crate::evidence::Verdict;
use crate::identity::{FileId, FileKey};
use crate::packed::Packing;

/// What opening needs beside the entry.
pub(super) struct Opener<'a> {
    pub(super) allow: &'a AllowPaths,
    pub(super) hints: Option<&'a mut Hints>,
    pub(super) events: &'a mut Vec<FileEvent>,
    /// How long a file that may be a copy is held back.
    pub(super) copy_hold: Duration,
}

/// Whether more can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    GoOn,
    /// No descriptor is left: try again at the next scan.
    OutOfDescriptors,
}

impl Entry {
    /// Opens at most `files_max` of the backlog. What a search or a comparison is about waits for its end.
    pub(super) fn open_backlog(&mut self, opener: &mut Opener<'_>, files_max: usize) -> Pace {
        let mut waiting = Vec::new();
        let mut pace = Pace::GoOn;
        let mut left = files_max;
        while left > 0 {
            let Some(candidate) = self.backlog.pop_front() else { break };
            if candidate.found.is_none() && self.is_hunted(&candidate) {
                waiting.push(candidate);
                continue;
            }
            left -= 1;
            if let Some(candidate) = self.open_one(candidate, opener) {
                self.backlog.push_front(candidate);
                pace = Pace::OutOfDescriptors;
                break;
            }
            // It was found elsewhere than in its place: those that were there after it come next.
            self.find_missed();
        }
        waiting.into_iter().rev().for_each(|candidate| self.backlog.push_front(candidate));
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new(); // what a burst of thousands of files needed is not kept
        }
        if self.listed && !self.first_scan_over && !self.is_first_listing_open() {
            self.first_scan_over = true;
            opener.events.push(FileEvent::FirstScan(self.spec.entry.clone()));
        }
        pace
    }

    /// Whether something can be done without waiting for anybody.
    pub(super) fn has_work(&self) -> bool {
        !self.hunts.is_empty() || !self.probes.is_empty() || !self.backlog.is_empty() || !self.departed.is_empty()
    }

    pub(super) fn is_comparing(&self) -> bool {
        !self.hunts.is_empty() || !self.probes.is_empty()
    }

    fn is_first_listing_open(&self) -> bool {
        let probed = self.probes.iter().map(|probe| &probe.candidate);
        self.backlog.iter().chain(probed).any(|candidate| candidate.from_first_listing)
    }

    fn is_hunted(&self, candidate: &Candidate) -> bool {
        self.hunts.iter().any(|hunt| {
            self.known.get(hunt.id).is_some_and(|known| hunt.is_about(known, &candidate.path, &candidate.shown.place))
        })
    }

    /// Searches for known files that no path of a complete listing shows.
    pub(super) fn search_missing(&mut self, looks: &HashMap<PathBuf, Look>) {
        let mut places: HashMap<u64, Vec<FileKey>> = HashMap::new();
        for look in looks.values() {
            if let Look::File(shown) = look {
                places.entry(shown.place.inode).or_default().push(shown.place);
            }
        }
        for id in self.known.take_missing(&places) {
            self.search_for(id, false, Vec::new(), None);
        }
        for id in self.known.take_late(&places) {
            self.search_archive(id);
        }
    }

    /// A finished file is gone: it may have been written again, and then compressed.
    pub(super) fn search_archive(&mut self, id: FileId) {
        self.search_for(id, false, Vec::new(), None);
        if let Some(hunt) = self.hunts.back_mut() {
            hunt.late = true;
        }
    }

    pub(super) fn search_for(&mut self, id: FileId, replaced: bool, beginning: Vec<u8>, size_seen: Option<u64>) {
        self.known.set_searched(id, true);
        let Some(known) = self.known.get(id) else { return };
        let size_seen = size_seen.unwrap_or(known.size_seen);
        self.hunts.push_back(Hunt::new(id, replaced, beginning, size_seen));
    }

    /// All of them at once: what any of them is about waits.
    fn list_hunts(&mut self, allow: &AllowPaths) {
        let mut hunts = std::mem::take(&mut self.hunts);
        for hunt in &mut hunts {
            let id = hunt.id;
            let read = |place: &FileKey| self.has_place(place);
            let claimed = |path: &Path, shown: &Shown| self.known.is_of_another(path, shown, id, allow);
            let refused = |path: &Path| Packing::is_named(path) && !self.spec.compressed;
            let meant = |path: &Path| self.spec.patterns.matches(path) && !refused(path);
            if let Some(known) = self.known.get(id) {
                hunt.list(known, &Rules { read: &read, claimed: &claimed, meant: &meant });
            }
        }
        self.hunts = hunts;
    }

    /// Goes on with searches, about `budget` bytes.
    pub(super) fn step_hunts(&mut self, opener: &mut Opener<'_>, budget: &mut u64) {
        while *budget > 0 {
            self.list_hunts(opener.allow);
            let Some(mut hunt) = self.hunts.pop_front() else { return };
            let Some(known) = self.known.get(hunt.id) else { continue };
            let (place, home) = (known.place, known.home.clone());
            let hunted = hunt.step(known, opener.allow, budget);
            if hunt.displaced {
                self.orphans.insert(place, Arc::from(home.as_path()));
            }
            match hunted {
                Hunted::Working => self.hunts.push_front(hunt),
                Hunted::Doubtful(alike) => {
                    self.depart(&hunt, alike.iter().filter_map(|one| one.shown.place.born_ns).min());
                    self.settle_known(&hunt, opener);
                    for Alike { path, shown, packing } in alike.into_iter().rev() {
                        let seat = Some(Arc::from(home.as_path()));
                        let new = Candidate::new(path, shown);
                        let again = Candidate { packing, seat, compared: true, compared_with_streams: true, ..new };
                        self.backlog.push_front(again);
                    }
                }
                Hunted::Found { path, shown, packing, ends } => {
                    if !hunt.late {
                        self.depart(&hunt, shown.place.born_ns);
                    }
                    // What was written down at a stop may be the size of the next generation.
                    if hunt.newest_first && packing.is_none() {
                        self.count_uncopied(&hunt, shown.size, opener);
                    }
                    let elsewhere = known_elsewhere(self.known.get(hunt.id), &shown);
                    let at_home = self.known.get(hunt.id).is_some_and(|known| known.home == path);
                    if ends && elsewhere && !at_home {
                        self.is_shipped_at(hunt.id, &path, &shown, opener);
                    } else {
                        self.backlog.retain(|candidate| candidate.shown.place != shown.place);
                        self.held.retain(|held| held.candidate.shown.place != shown.place);
                        let found = Some(hunt.id);
                        let born_ns = shown.place.born_ns;
                        let before = |c: &&Candidate| c.found.is_some() && c.shown.place.born_ns < born_ns;
                        let behind = self.backlog.iter().take_while(before).count();
                        self.backlog.insert(behind, Candidate { found, packing, ..Candidate::new(path, shown) });
                    }
                }
                Hunted::Nothing if hunt.late => {}
                Hunted::Nothing => self.give_up(&hunt, opener),
            }
        }
    }

    /// The known file left its place while nobody looked: generations behind it may have come and gone as well.
    fn depart(&mut self, hunt: &Hunt, copy_born_ns: Option<i64>) {
        let Some(known) = self.known.get(hunt.id) else { return };
        // A truncated file keeps its birth: what was copied before is told by its copy.
        let born_ns = if hunt.replaced { copy_born_ns.or(known.place.born_ns) } else { known.place.born_ns };
        self.departed.extend(Departure::of(known, born_ns));
    }

    /// What was seen of a truncated file and is not in its copy was written after it was copied.
    fn count_uncopied(&mut self, hunt: &Hunt, copied: u64, opener: &mut Opener<'_>) {
        let Some(known) = self.known.get(hunt.id) else { return };
        if hunt.size_seen <= copied || known.evidence.packed_bytes.is_some() {
            return;
        }
        let (key, path, cause) = (known.key.clone(), known.path.clone(), LossCause::Truncated);
        let bytes = hunt.size_seen - copied;
        opener.events.push(FileEvent::Lost { key, path, offset: copied, bytes, cause });
    }

    /// Nothing holds the rest of a known file.
    fn give_up(&mut self, hunt: &Hunt, opener: &mut Opener<'_>) {
        self.depart(hunt, None);
        let Some(known) = self.known.get(hunt.id) else { return };
        let bytes = if hunt.comes_again { 0 } else { hunt.size_seen.saturating_sub(known.offset) };
        // Of a file that was read to the last byte that anybody saw, nothing is known to be missing.
        if bytes > 0 || (!hunt.replaced && known.offset > 0) {
            let cause = if hunt.replaced { LossCause::Truncated } else { LossCause::NotFound };
            let (key, path, offset) = (known.key.clone(), known.path.clone(), known.offset);
            opener.events.push(FileEvent::Lost { key, path, offset, bytes, cause });
        }
        self.settle_known(hunt, opener);
    }

    /// The search is over, and what was found is read as files of their own.
    fn settle_known(&mut self, hunt: &Hunt, opener: &mut Opener<'_>) {
        if hunt.replaced {
            // Nothing at its old place may be taken for it.
            if let Some(known) = self.known.remove(hunt.id) {
                opener.events.push(FileEvent::Forgotten(known.key));
            }
        } else if let Some((key, offset)) = self.known.settle(hunt.id) {
            // It is not forgotten: killed before the others are known, the next start has to search again.
            opener.events.push(FileEvent::Settled { key, offset });
        }
    }

    /// The shard of a stream closed it at the end of its file.
    pub(super) fn close_idle(&mut self, id: FileId, bytes_read: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.closed = Some(bytes_read);
        // It grew, or left, before its shard heard of it.
        if stream.seen.0 != bytes_read || stream.state != State::InPlace {
            self.to_reopen.insert(id);
        }
    }

    /// Opens streams that were closed as idle and have something to read.
    pub(super) fn reopen_closed(&mut self, opener: &mut Opener<'_>) {
        for id in std::mem::take(&mut self.to_reopen) {
            let key = self.key(id);
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Some(bytes_read) = stream.closed else { continue };
            match opener.allow.open(&stream.path) {
                Ok(file) if file.metadata().is_ok_and(|now| FileKey::of(&now) == stream.place) => {
                    stream.closed = None;
                    opener.events.push(FileEvent::Reopened { key, file });
                }
                // Its path shows something else: the next look tells where it went.
                Ok(_) | Err(OpenProblem::NotFound | OpenProblem::DanglingLink) => {
                    let bytes = stream.seen.0.saturating_sub(bytes_read);
                    if stream.state == (State::Leaving { gone: true }) && bytes > 0 {
                        stream.closed = Some(stream.seen.0); // said once
                        let (path, offset, cause) = (stream.path.to_path_buf(), bytes_read, LossCause::Closed);
                        opener.events.push(FileEvent::Lost { key, path, offset, bytes, cause });
                    }
                }
                Err(_) => drop(self.to_reopen.insert(id)), // tried again at the next look
            }
        }
    }

    /// Forgets files that changed last before `before_ms` and are gone from their directories.
    pub(super) fn forget_vanished(&mut self, before_ms: i64, events: &mut Vec<FileEvent>) {
        let searched = self.hunts.iter().map(|hunt| hunt.id);
        let busy: BTreeSet<FileId> =
            searched.chain(self.backlog.iter().filter_map(|candidate| candidate.found)).collect();
        let gone = self.known.take_vanished(before_ms, &|id| busy.contains(&id));
        events.extend(gone.into_iter().map(|known| FileEvent::Forgotten(known.key)));
    }

    /// Some: no descriptor is left.
    fn open_one(&mut self, candidate: Candidate, opener: &mut Opener<'_>) -> Option<Candidate> {
        let opened = opener.allow.open(&candidate.path).and_then(|file| {
            let shown = Shown::of(&file.metadata().map_err(OpenProblem::Io)?);
            Ok((file, shown))
        });
        let opened = match (&candidate.file, opened) {
            (Some(kept), Ok((_, shown))) if shown.place != candidate.shown.place => reopened(kept),
            (Some(kept), Err(OpenProblem::NotFound | OpenProblem::DanglingLink)) => reopened(kept),
            (_, opened) => opened,
        };
        let path = candidate.path.clone();
        let problem = match opened {
            Ok((_, shown)) if self.has_place(&shown.place) => return None,
            Ok((file, shown)) => {
                if matches!(Packing::refusal(&file, self.spec.compressed), Ok(None)) {
                    self.heal(&path, opener.events);
                }
                match self.recognise(candidate, file, shown, opener) {
                    Ok(()) => return None,
                    Err(error) => OpenProblem::Io(error),
                }
            }
            Err(OpenProblem::NotFound) => {
                // What was found here went again: search once more.
                if let Some(id) = candidate.found {
                    self.known.set_searched(id, false);
                }
                return None;
            }
            Err(problem) if is_out_of_descriptors(&problem) => return Some(candidate),
            Err(problem) => problem,
        };
        self.trouble(&path, problem, opener.events);
        None
    }

    fn recognise(
        &mut self,
        mut candidate: Candidate,
        file: File,
        shown: Shown,
        opener: &mut Opener<'_>,
    ) -> std::io::Result<()> {
        if let Some(id) = candidate.found {
            let Some(known) = self.known.get(id) else { return Ok(()) };
            let same = candidate.packing.is_some()
                || (known.fits(shown.size) && known.evidence.check(&file)? == Verdict::Same);
            if same {
                self.open_known(id, &candidate, file, shown, opener);
            }
            return Ok(());
        }
        if let Some(id) = self.known.find_here(&file, &shown)? {
            let Some(known) = self.known.get(id) else { return Ok(()) };
            // In its own place a file is followed: it may grow, and be renamed before anybody looks.
            if known.finished && known.is_all_of(shown.size) && candidate.path != known.home {
                self.known.set_compared(id, &shown);
                return Ok(());
            }
            if !candidate.copies_sought && self.seek_copies(id, &file, &shown) {
                candidate = Candidate { shown, copies_sought: true, file: Some(Arc::new(file)), ..candidate };
                let behind = self.backlog.iter().take_while(|other| other.seat.is_some()).count();
                self.backlog.insert(behind, candidate);
                return Ok(());
            }
            self.open_known(id, &candidate, file, shown, opener);
            return Ok(());
        }
        // What was known to lie here lies here no more: its unread rest may be in a copy, and goes first.
        let replaced = self.known.take_replaced(&shown.place);
        if !replaced.is_empty() {
            replaced.into_iter().for_each(|id| self.search_for(id, true, Vec::new(), None));
            candidate.file = Some(Arc::new(file));
            self.backlog.push_front(Candidate { shown, ..candidate });
            return Ok(());
        }
        let Some(candidate) = self.probe(candidate, &file, &shown)? else { return Ok(()) };
        let Some(candidate) = self.hold(candidate, &file, &shown, opener)? else { return Ok(()) };
        self.open_new(&candidate, file, shown, opener)
    }

    fn open_known(&mut self, id: FileId, candidate: &Candidate, file: File, shown: Shown, opener: &mut Opener<'_>) {
        let Some(mut known) = self.known.remove(id) else { return };
        if candidate.packing.is_some() {
            // From now on the offsets are those of a content.
            known.evidence.packed_bytes.get_or_insert(0);
        }
        // A finished file that grows again has settled where it is now, if files are read there; any other belongs where
        // it was first seen.
        let settled = known.finished && self.spec.patterns.matches(&candidate.path);
        let seat = if settled { candidate.path.clone() } else { known.home.clone() };
        let home = known.home.clone();
        if candidate.found.is_none() && !known.finished && known.path == home && candidate.path != home {
            let seen_ns = i128::from(known.updated_ms) * 1_000_000;
            let target = known.target.as_deref().map(Arc::from);
            self.departed.push(Departure::new(Arc::from(home.as_path()), target, known.place.born_ns, seen_ns));
        }
        let start = known.offset;
        self.open_as(id, candidate, shown, seat, (file, home, Some(known), start), opener);
    }

    fn open_new(
        &mut self,
        candidate: &Candidate,
        file: File,
        shown: Shown,
        opener: &mut Opener<'_>,
    ) -> std::io::Result<()> {
        let wanted = self.spec.compressed || candidate.packing.is_some();
        if let Some(problem) = Packing::refusal(&file, wanted)? {
            self.trouble(&candidate.path, problem, opener.events);
            return Ok(());
        }
        let id = FileId::random()?;
        let at_end = self.start_at_end && candidate.from_first_listing && shown.place == candidate.shown.place;
        // Shorter than when it was listed: it was truncated since, and everything in it is new.
        let start = if at_end && shown.size >= candidate.shown.size { candidate.shown.size } else { 0 };
        let seat = candidate.seat.as_deref().unwrap_or(&candidate.path).to_owned();
        self.open_as(id, candidate, shown, seat.clone(), (file, seat, None, start), opener);
        Ok(())
    }

    fn open_as(
        &mut self,
        id: FileId,
        candidate: &Candidate,
        shown: Shown,
        seat: PathBuf,
        (file, home, known, start): (File, PathBuf, Option<KnownFile>, u64),
        opener: &mut Opener<'_>,
    ) {
        // Of several names for one file that of its seat counts.
        let seated = seat == candidate.path || look(&seat).shows(&shown.place);
        let leaving = !seated;
        let predecessor = if !leaving || known.is_none() { self.predecessor(&seat) } else { None };
        let link = is_link(if leaving { &candidate.path } else { &seat });
        if link
            && let Some(hints) = &mut opener.hints
            && let Some(notice) = hints.watch_file(if leaving { &candidate.path } else { &seat })
        {
            opener.events.push(FileEvent::Notice(notice));
        }
        self.departures += u64::from(leaving);
        let home_is_seat = home == seat;
        let seat: Arc<Path> = Arc::from(seat);
        let path = if leaving { Arc::from(candidate.path.as_path()) } else { seat.clone() };
        let home = if home_is_seat { seat.clone() } else { Arc::from(home) };
        let beginning = beginning_of(&file, candidate.packing).unwrap_or_default();
        let target: Option<Arc<Path>> = real_path(&file).filter(|real| **real != *path).map(Arc::from);
        let stream = Stream {
            place: shown.place,
            path: path.clone(),
            seat,
            seen: (shown.size, shown.modified_ns),
            seen_ns: self.looked_ns,
            // What cannot be read now is not compared with copies: then they are read.
            beginning: beginning.into_boxed_slice(),
            shrank: false,
            size_max: shown.size,
            size_max_before: shown.size,
            state: if leaving { State::Leaving { gone: false } } else { State::InPlace },
            left: self.departures,
            round: self.round,
            closed: None,
            link,
            target: target.clone(),
        };
        self.insert(id, stream);
        opener.events.push(FileEvent::Opened(Box::new(OpenedFile {
            key: self.key(id),
            place: shown.place,
            path,
            home,
            target,
            file,
            packing: candidate.packing,
            known,
            start,
            predecessor,
        })));
        if leaving {
            opener.events.push(FileEvent::Leaving { key: self.key(id), gone: false });
        }
    }
}

/// Whether what was found does not lie where the file was known to lie.
fn known_elsewhere(known: Option<&KnownFile>, shown: &Shown) -> bool {
    known.is_some_and(|known| known.place != shown.place && !known.place.same_but_device(&shown.place))
}

fn reopened(kept: &File) -> Result<(File, Shown), OpenProblem> {
    let file = kept.try_clone().map_err(OpenProblem::Io)?;
    let shown = Shown::of(&file.metadata().map_err(OpenProblem::Io)?);
    Ok((file, shown))
}

fn is_out_of_descriptors(problem: &OpenProblem) -> bool {
    let codes = [Errno::MFILE.raw_os_error(), Errno::NFILE.raw_os_error()];
    matches!(problem, OpenProblem::Io(error) if error.raw_os_error().is_some_and(|code| codes.contains(&code)))
}

//! From a place without a stream to an opened file: is it known, is it a copy, is it new?

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::entry::{Candidate, Entry, State, Stream};
use super::hints::Hints;
use super::known::{Search, search};
use super::walk::{Look, Shown, is_link, look};
use super::{FileEvent, KnownFile, Notice, OpenedFile};
use crate::allow::{AllowPaths, OpenProblem};
use crate::evidence::Verdict;
use crate::identity::{FileId, FileKey};

/// What opening needs beside the entry.
pub(super) struct Opener<'a> {
    pub(super) allow: &'a AllowPaths,
    pub(super) hints: Option<&'a mut Hints>,
    pub(super) events: &'a mut Vec<FileEvent>,
}

/// Whether more can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    GoOn,
    /// No descriptor is left: try again at the next scan.
    OutOfDescriptors,
}

impl Entry {
    /// Opens at most `files_max` of the backlog.
    pub(super) fn open_backlog(&mut self, opener: &mut Opener<'_>, files_max: usize) -> Pace {
        for _ in 0..files_max {
            let Some(candidate) = self.backlog.pop_front() else { break };
            if self.open_one(&candidate, opener) == Pace::OutOfDescriptors {
                self.backlog.push_front(candidate);
                return Pace::OutOfDescriptors;
            }
        }
        if self.listed && !self.first_scan_over && !self.backlog.iter().any(|c| c.from_first_listing) {
            self.first_scan_over = true;
            opener.events.push(FileEvent::FirstScan(self.spec.entry.clone()));
        }
        Pace::GoOn
    }

    /// Searches for known files that no path of a complete listing shows, and puts what is found in front.
    pub(super) fn search_missing(&mut self, looks: &HashMap<PathBuf, Look>, opener: &mut Opener<'_>) {
        let mut places: HashMap<u64, Vec<FileKey>> = HashMap::new();
        for look in looks.values() {
            if let Look::File(shown) = look {
                places.entry(shown.place.inode).or_default().push(shown.place);
            }
        }
        for id in self.known.take_missing(&places) {
            self.search_for(id, false, opener);
        }
    }

    /// A generation ended: its unread rest may be in a copy. What lies at its place is another file.
    pub(super) fn search_copy(&mut self, known: KnownFile, opener: &mut Opener<'_>) {
        let id = known.key.file;
        self.keep(known);
        self.search_for(id, true, opener);
        // Found: it waits in front of the backlog. Not found: nothing at its old place may be taken for it.
        if !self.backlog.iter().any(|candidate| candidate.found == Some(id)) {
            self.known.remove(id);
        }
    }

    fn search_for(&mut self, id: FileId, by_content_only: bool, opener: &mut Opener<'_>) {
        let Some(known) = self.known.get(id) else { return };
        let read = |place: &FileKey| self.has_place(place);
        let claimed = |place: &FileKey| *place == known.place || self.known.claims(place, Some(id));
        let meant = |path: &Path| self.spec.patterns.matches(path);
        let how = Search { allow: opener.allow, by_content_only, read: &read, claimed: &claimed, meant: &meant };
        let found = search(known, &how);
        if let Some(path) = found
            && let Look::File(shown) = look(&path)
        {
            self.backlog.retain(|candidate| candidate.shown.place != shown.place);
            self.backlog.push_front(Candidate { path, shown, from_first_listing: false, found: Some(id) });
        } else if !by_content_only && known.offset > 0 {
            opener.events.push(FileEvent::Notice(Notice::NotFoundAgain {
                key: known.key.clone(),
                path: known.path.clone(),
                offset: known.offset,
            }));
        }
    }

    fn open_one(&mut self, candidate: &Candidate, opener: &mut Opener<'_>) -> Pace {
        let opened = opener.allow.open(&candidate.path).and_then(|file| {
            let shown = Shown::of(&file.metadata().map_err(OpenProblem::Io)?);
            Ok((file, shown))
        });
        let outcome = match opened {
            Ok((_, shown)) if self.has_place(&shown.place) => Ok(()),
            Ok((file, shown)) => {
                self.heal(&candidate.path, opener.events);
                self.recognise(candidate, file, shown, opener).map_err(OpenProblem::Io)
            }
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(()) | Err(OpenProblem::NotFound) => Pace::GoOn,
            Err(problem) if is_out_of_descriptors(&problem) => Pace::OutOfDescriptors,
            Err(problem) => {
                self.trouble(&candidate.path, problem, opener.events);
                Pace::GoOn
            }
        }
    }

    fn recognise(
        &mut self,
        candidate: &Candidate,
        file: File,
        shown: Shown,
        opener: &mut Opener<'_>,
    ) -> std::io::Result<()> {
        if let Some(id) = candidate.found {
            let Some(known) = self.known.get(id) else { return Ok(()) };
            let same = shown.size >= known.offset && known.evidence.check(&file)? == Verdict::Same;
            if same && shown.size == known.offset && known.place != shown.place {
                self.known.remove(id); // a copy, and nothing in it is unread
            } else if same {
                self.open_known(id, candidate, file, shown, opener);
            }
            return Ok(());
        }
        if let Some(id) = self.known.find_here(&file, &shown)? {
            let Some(known) = self.known.get(id) else { return Ok(()) };
            if known.finished && known.offset == shown.size {
                self.known.set_compared(id, &shown);
            } else {
                self.open_known(id, candidate, file, shown, opener);
            }
            return Ok(());
        }
        // What was known to lie here lies here no more: its unread rest may be in a copy, and goes first.
        for id in self.known.take_replaced(&shown.place) {
            self.search_for(id, true, opener);
            if let Some(copy) = self.backlog.pop_front_if(|candidate| candidate.found == Some(id)) {
                self.open_one(&copy, opener);
            }
        }
        if self.known.is_copy_of_finished(&file, &candidate.path, &shown)? {
            return Ok(());
        }
        self.open_new(candidate, file, shown, opener)
    }

    fn open_known(&mut self, id: FileId, candidate: &Candidate, file: File, shown: Shown, opener: &mut Opener<'_>) {
        let Some(known) = self.known.remove(id) else { return };
        // A finished file that grows again has settled where it is now; any other belongs where it was first seen.
        let seat = if known.finished { candidate.path.clone() } else { known.home.clone() };
        let leaving = seat != candidate.path;
        let home = known.home.clone();
        let start = known.offset;
        let opened = (file, home, Some(known), start);
        self.open_as(id, candidate, shown, seat, opened, opener);
        if leaving {
            self.departures += 1;
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.state = State::Leaving { gone: false };
                stream.left = self.departures;
            }
            opener.events.push(FileEvent::Leaving { key: self.key(id), gone: false });
        }
    }

    fn open_new(
        &mut self,
        candidate: &Candidate,
        file: File,
        shown: Shown,
        opener: &mut Opener<'_>,
    ) -> std::io::Result<()> {
        let id = FileId::random()?;
        let at_end = self.start_at_end && candidate.from_first_listing && shown.place == candidate.shown.place;
        // Shorter than when it was listed: it was truncated since, and everything in it is new.
        let start = if at_end && shown.size >= candidate.shown.size { candidate.shown.size } else { 0 };
        let opened = (file, candidate.path.clone(), None, start);
        self.open_as(id, candidate, shown, candidate.path.clone(), opened, opener);
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
        let predecessor = if seat == candidate.path { self.predecessor(&candidate.path) } else { None };
        let link = is_link(&candidate.path);
        if link
            && let Some(hints) = &mut opener.hints
            && let Some(notice) = hints.watch_file(&candidate.path)
        {
            opener.events.push(FileEvent::Notice(notice));
        }
        let path: Arc<Path> = Arc::from(candidate.path.as_path());
        let seen = (shown.size, shown.modified_ns);
        let stream = Stream {
            place: shown.place,
            path,
            seat: Arc::from(seat),
            seen,
            state: State::InPlace,
            left: 0,
            round: 0,
            link,
        };
        self.insert(id, stream);
        opener.events.push(FileEvent::Opened(Box::new(OpenedFile {
            key: self.key(id),
            place: shown.place,
            path: candidate.path.clone(),
            home,
            file,
            known,
            start,
            predecessor,
        })));
    }
}

fn is_out_of_descriptors(problem: &OpenProblem) -> bool {
    let codes = [Errno::MFILE.raw_os_error(), Errno::NFILE.raw_os_error()];
    matches!(problem, OpenProblem::Io(error) if error.raw_os_error().is_some_and(|code| codes.contains(&code)))
}

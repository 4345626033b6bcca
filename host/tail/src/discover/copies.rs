//! New files that may be copies of what was shipped already.
//!
//! In: a file that nobody knows. Out: it is all of a finished file whose original is gone (a copy, a `.gz`): shipped
//! already; or it begins like a file that is being read: held back until it is known whether that one is truncated (then
//! it was copied away), or a while is over (then it is a file of its own). In doubt it is read: lines come twice, none is
//! missing.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::hunt::{OPEN_COST_BYTES, is_named_after};
use super::known::{is_still_there, named_after};
use super::open::Opener;
use super::stream::{Candidate, State, Stream};
use super::walk::Shown;
use super::{FileEvent, KnownFile};
use crate::allow::AllowPaths;
use crate::compare::{Compared, Comparison};
use crate::evidence::read_full;
use crate::identity::FileId;
use crate::packed::Packing;

/// First bytes that are kept of each file that is read.
pub(super) const BEGINNING_BYTES: usize = 64;
/// Files that begin alike are told from each other by so many of these.
const BUCKET_BYTES: usize = 16;
/// A new file is compared with at most so many that begin alike.
const ALIKE_MAX: usize = 32;
/// So many bytes of a new file and of one that is still there are compared at once.
const GLANCE_BYTES: usize = 64 * 1024;
/// A file that begins like one that shrank or leaves, and is named after it, waits so long for the end of that one.
const ENDING_HOLD: Duration = Duration::from_secs(3600);

/// A new file, compared with finished ones in slices.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) candidate: Candidate,
    file: File,
    packing: Option<Packing>,
    of: VecDeque<FileId>,
    now: Option<(FileId, Box<Comparison>)>,
}

/// A new file that begins like files that are being read.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) candidate: Candidate,
    file: File,
    of: Vec<FileId>,
    /// When it was last seen to change.
    changed: Instant,
}

/// Streams by their first bytes.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    alike: HashMap<[u8; BUCKET_BYTES], Vec<FileId>>,
    short: Vec<FileId>,
}

impl Beginnings {
    pub(super) fn insert(&mut self, id: FileId, beginning: &[u8]) {
        match bucket(beginning) {
            Some(bucket) => self.alike.entry(bucket).or_default().push(id),
            None => self.short.push(id),
        }
    }

    pub(super) fn remove(&mut self, id: FileId, beginning: &[u8]) {
        match bucket(beginning) {
            Some(bucket) => {
                if let Some(ids) = self.alike.get_mut(&bucket) {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.alike.remove(&bucket);
                    }
                }
            }
            None => self.short.retain(|other| *other != id),
        }
    }

    /// Streams that may begin like this.
    fn like(&self, beginning: &[u8]) -> Vec<FileId> {
        let alike = bucket(beginning).and_then(|bucket| self.alike.get(&bucket)).into_iter().flatten();
        alike.take(ALIKE_MAX).chain(self.short.iter().rev().take(ALIKE_MAX)).copied().collect()
    }
}

fn bucket(beginning: &[u8]) -> Option<[u8; BUCKET_BYTES]> {
    beginning.get(..BUCKET_BYTES).and_then(|bytes| bytes.try_into().ok())
}

/// The first bytes of a file's content.
pub(super) fn beginning_of(file: &File, packing: Option<Packing>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BEGINNING_BYTES];
    let mut got = 0;
    let mut content = packing.map(|packing| packing.unpack(file.try_clone()?)).transpose()?;
    while got < bytes.len() {
        let read = match &mut content {
            None => file.read_at(&mut bytes[got..], got as u64),
            Some(content) => content.read(&mut bytes[got..]),
        };
        match read {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Still being compressed: what there is counts.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

impl Entry {
    /// Takes a candidate that may be a copy of something finished, to be compared; or gives it back.
    pub(super) fn probe(&mut self, candidate: Candidate, file: &File, shown: &Shown) -> io::Result<Option<Candidate>> {
        if candidate.compared {
            return Ok(Some(candidate));
        }
        let packing = Packing::of(file)?;
        let seat = candidate.seat.as_deref().filter(|_| candidate.is_unseen_archive());
        let mut of = self.known.maybe_copied(&candidate.path, shown.size, packing.is_some(), seat);
        // The device number is a hint only.
        let here = |known: &KnownFile| known.place == shown.place || known.place.same_but_device(&shown.place);
        of.retain(|id| self.known.get(*id).is_some_and(|known| here(known) || !is_still_there(known)));
        if of.is_empty() {
            return Ok(Some(candidate));
        }
        let file = file.try_clone()?;
        let candidate = Candidate { shown: *shown, ..candidate };
        self.probes.push_back(Probe { candidate, file, packing, of: of.into(), now: None });
        Ok(None)
    }

    /// Compares about `budget` bytes more.
    pub(super) fn step_probes(&mut self, opener: &mut Opener<'_>, budget: &mut u64) {
        while *budget > 0 {
            let Some(mut probe) = self.probes.pop_front() else { return };
            let known = probe.now.as_ref().map(|(id, _)| *id).or(probe.of.front().copied());
            let Some(known) = known.and_then(|id| self.known.get(id)) else {
                probe.now = None;
                if probe.of.pop_front().is_none() {
                    self.backlog.push_front(Candidate { compared: true, ..probe.candidate });
                } else {
                    self.probes.push_front(probe);
                }
                continue;
            };
            let (id, at_home) = (known.key.file, known.home == probe.candidate.path && probe.packing.is_none());
            *budget = budget.saturating_sub(OPEN_COST_BYTES);
            let outcome = (|| {
                let mut comparison = match probe.now.take() {
                    Some((_, comparison)) => comparison,
                    None => {
                        probe.of.pop_front();
                        let file = probe.file.try_clone()?;
                        Box::new(Comparison::new(file, probe.packing, &known.evidence, known.offset, &[])?)
                    }
                };
                let outcome = comparison.step(budget)?;
                probe.now = (outcome == Compared::Working).then_some((id, comparison));
                io::Result::Ok(outcome)
            })();
            match outcome {
                // In its own place a file is followed: it may grow, and be renamed before anybody looks.
                Ok(Compared::Same { monotonous: false, ends: true }) if at_home => {
                    self.backlog.push_front(Candidate { found: Some(id), ..probe.candidate });
                }
                // Of the archives that were made since, one is that of the file that is gone: one with its very bytes.
                Ok(Compared::Same { monotonous, ends: true }) if !monotonous || probe.candidate.is_unseen_archive() => {
                    self.is_shipped_at(id, &probe.candidate.path, &probe.candidate.shown, opener);
                }
                // What cannot be read cannot be compared: it is tried as what it seems to be.
                _ => self.probes.push_front(probe),
            }
        }
    }

    /// All of a known file, and nothing else, lies in another place now.
    pub(super) fn is_shipped_at(&mut self, id: FileId, path: &Path, shown: &Shown, opener: &mut Opener<'_>) {
        let Some(mut known) = self.known.remove(id) else { return };
        known.place = shown.place;
        known.path = path.to_owned();
        known.finished = true;
        // One that is no archive may have a writer yet: where all generations begin alike, it may be another one.
        let is_plain = shown.size == known.offset && !Packing::is_named(path);
        self.known.insert(known.clone());
        self.known.set_compared(id, shown);
        if is_plain {
            self.watch_late(id);
        }
        opener.events.push(FileEvent::Recognised(Box::new(known)));
    }

    /// Holds a candidate back that begins like a file that is being read; or gives it back.
    pub(super) fn hold(
        &mut self,
        candidate: Candidate,
        file: &File,
        shown: &Shown,
        opener: &Opener<'_>,
    ) -> io::Result<Option<Candidate>> {
        let never = opener.copy_hold.is_zero() || candidate.from_first_listing;
        // An empty generation that nobody saw is no copy of anything, and after a crash nothing would lead to it.
        let empty = candidate.seat.is_some() && shown.size == 0;
        // What was written into a file of ours after it was truncated is no copy either.
        let own = self.orphans.contains_key(&shown.place);
        if never || empty || own || candidate.compared_with_streams {
            return Ok(Some(candidate));
        }
        let mut of = self.suspects(&candidate.path, file, shown, opener.allow)?;
        if candidate.seat.is_some() && candidate.packing.is_none() {
            // A generation that nobody saw: after a restart nothing would lead to it. It waits only for one that was truncated.
            of.retain(|id| self.streams.get(id).is_some_and(|stream| stream.shrank));
        }
        if of.is_empty() {
            return Ok(Some(candidate));
        }
        let candidate = Candidate { shown: *shown, ..candidate };
        self.held.push(Held { candidate, file: file.try_clone()?, of, changed: Instant::now() });
        Ok(None)
    }

    /// The streams of which the file may be a copy.
    fn suspects(&self, path: &Path, file: &File, shown: &Shown, allow: &AllowPaths) -> io::Result<Vec<FileId>> {
        if self.streams.is_empty() {
            return Ok(Vec::new());
        }
        let packing = Packing::of(file)?;
        let beginning = beginning_of(file, packing)?;
        let beside = |stream: &Stream| {
            let own = [Some(&*stream.seat), Some(&*stream.path), stream.target.as_deref()];
            path.parent().is_some_and(|dir| own.into_iter().flatten().any(|own| own.parent() == Some(dir)))
        };
        // At the seat of a file that left lies its successor.
        let successor = |stream: &Stream| path == &*stream.seat && stream.state != State::InPlace;
        let mut ids = if beginning.is_empty() {
            // Nothing to compare yet: only its name tells.
            let seats = named_after(&without_packing(path));
            let at = |seat: &std::path::PathBuf| self.at_seat(seat);
            seats.iter().flat_map(at).collect()
        } else {
            self.beginnings.like(&beginning)
        };
        ids.sort();
        ids.dedup();
        ids.retain(|id| {
            let Some(stream) = self.streams.get(id) else { return false };
            if stream.state == State::Dropped || !beside(stream) || successor(stream) {
                return false;
            }
            let shared = beginning.len().min(stream.beginning.len());
            let alike = beginning[..shared] == stream.beginning[..shared];
            let told = shared > 0 || beginning.is_empty();
            told && alike
                && (packing.is_some() || stream.shrank || may_be_copy(file, shown, stream, allow).unwrap_or(true))
        });
        Ok(ids)
    }

    /// Lets go what is known to be a copy or not by now. Some: when the next one will be.
    pub(super) fn release_held(&mut self, now: Instant, hold: Duration, allow: &AllowPaths) -> Option<Instant> {
        let mut next = None;
        for mut held in std::mem::take(&mut self.held) {
            let shown = held.file.metadata().map(|metadata| Shown::of(&metadata)).unwrap_or(held.candidate.shown);
            if shown != held.candidate.shown {
                held.candidate.shown = shown;
                held.changed = now;
                held.of = self.suspects(&held.candidate.path, &held.file, &shown, allow).unwrap_or_default();
            }
            let alive = |id: &&FileId| self.streams.get(id).is_some_and(|stream| stream.state != State::Dropped);
            let streams: Vec<&Stream> =
                held.of.iter().filter(alive).filter_map(|id| self.streams.get(id).map(|one| &**one)).collect();
            // One that was truncated or leaves ends by itself, and then it is known how much of it was read.
            let path = without_packing(&held.candidate.path);
            let ending = |stream: &&Stream| stream.shrank || stream.state != State::InPlace;
            let sure = |stream: &&Stream| ending(stream) && is_named_after(&path, &stream.seat);
            let due = held.changed + if streams.iter().any(sure) { ENDING_HOLD.max(hold) } else { hold };
            if !streams.is_empty() && now < due {
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
                self.held.push(held);
                continue;
            }
            let over = !streams.is_empty();
            let file = Some(Arc::new(held.file));
            // Its original is read no more: what is known of that one now is compared with it.
            let compared = held.candidate.compared && over;
            self.backlog.push_front(Candidate { compared, compared_with_streams: over, file, ..held.candidate });
        }
        next
    }

    /// Reads the first bytes of streams that had few of them when they were looked at before.
    pub(super) fn look_at_beginnings(&mut self, opener: &mut Opener<'_>) {
        for id in std::mem::take(&mut self.young) {
            let key = self.key(id);
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Ok(file) = opener.allow.open(&stream.path) else { continue };
            let here = file.metadata().is_ok_and(|metadata| Shown::of(&metadata).place == stream.place);
            let Some(beginning) = beginning_of(&file, None).ok().filter(|_| here) else { continue };
            if !beginning.starts_with(&stream.beginning[..]) {
                // It was truncated, and what stood there before is what counts.
                stream.was_replaced();
                opener.events.push(FileEvent::Shrank(key));
            } else {
                self.beginnings.remove(id, &stream.beginning);
                self.beginnings.insert(id, &beginning);
                stream.beginning = beginning.into_boxed_slice();
            }
        }
    }
}

/// `app.log.1` for `app.log.1.gz`.
fn without_packing(path: &Path) -> std::path::PathBuf {
    if Packing::is_named(path) { path.with_extension("") } else { path.to_owned() }
}

/// Whether a new file's bytes are those of a stream's file, as far as both are there and a glance tells.
fn may_be_copy(file: &File, shown: &Shown, stream: &Stream, allow: &AllowPaths) -> io::Result<bool> {
    // Gone: nothing to compare.
    let Ok(original) = allow.open(&stream.path) else { return Ok(true) };
    let there = Shown::of(&original.metadata()?);
    let mut beginning = vec![0; stream.beginning.len()];
    if there.place != stream.place || !read_full(&original, &mut beginning, 0)? || beginning[..] != stream.beginning[..]
    {
        return Ok(true); // replaced or truncated meanwhile: what it was is what counts
    }
    let bytes = shown.size.min(there.size).min(GLANCE_BYTES as u64) as usize; // at most 64 KiB
    let (mut one, mut other) = (vec![0; bytes], vec![0; bytes]);
    Ok(!read_full(file, &mut one, 0)? || !read_full(&original, &mut other, 0)? || one == other)
}

//! Finished files that may be written again where nobody looks.
//!
//! In: a file that was rotated to a name that no pattern matches, read to its end and let go once it was quiet. Out: a
//! candidate, when its writer, who was not told to open its log anew yet, goes on after all. It costs a look at its
//! name every scan, for a day; no descriptor and no listing, but when it is renamed once more.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use super::KnownFile;
use super::entry::{Entry, now_ns};
use super::stream::{Candidate, State, Stream};
use super::walk::{Look, look};
use crate::identity::FileId;

/// So long after it was finished: who rotates daily has told every writer by then.
pub(super) const WATCHED_NS: i128 = 24 * 3600 * 1_000_000_000;
/// Looked at in one go.
const LOOKS_MAX: usize = 4096;

/// Finished files by the paths where they were last seen: several may have been seen at one, one after the other.
#[derive(Debug, Default)]
pub(super) struct LateFiles {
    by_path: HashMap<PathBuf, Vec<FileId>>,
    /// In the order in which they are looked at.
    turns: VecDeque<(PathBuf, FileId)>,
}

impl LateFiles {
    fn insert(&mut self, path: PathBuf, id: FileId) {
        let here = self.by_path.entry(path.clone()).or_default();
        if !here.contains(&id) {
            here.push(id);
            self.turns.push_back((path, id));
        }
    }

    /// The next one whose turn it is: it is watched no more unless it is put in again.
    fn take(&mut self) -> Option<(PathBuf, FileId)> {
        let (path, id) = self.turns.pop_front()?;
        if let Some(here) = self.by_path.get_mut(&path) {
            here.retain(|other| *other != id);
            if here.is_empty() {
                self.by_path.remove(&path);
            }
        }
        Some((path, id))
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.by_path.contains_key(path)
    }
}

impl Entry {
    /// A stream ended; what is known of it is kept.
    pub(super) fn keep(&mut self, known: KnownFile) {
        let id = known.key.file;
        let (stream, finished) = (self.remove(id), known.finished);
        self.known.insert(known);
        self.watch_late(id);
        // Closed as idle, and gone: what was written to it since may be in its archive. Any other was read to its end.
        let unread = |stream: &Stream| stream.closed.is_some() && stream.state == State::Leaving { gone: true };
        if finished && !stream.is_some_and(|stream| unread(&stream)) {
            self.known.set_searched(id, true);
        }
    }

    /// A file was finished: looks will not show it when no pattern matches its path.
    pub(super) fn watch_late(&mut self, id: FileId) {
        if let Some(known) = self.known.get(id)
            && known.finished
            && now_ns() < i128::from(known.updated_ms) * 1_000_000 + WATCHED_NS
            && !self.spec.patterns.matches(&known.path)
        {
            self.late.insert(known.path.clone(), id);
        }
    }

    /// All that were finished before, when the entry comes: each is looked at once, however long ago that was.
    pub(super) fn watch_all_late(&mut self) {
        for id in self.known.ids() {
            if let Some(known) = self.known.get(id)
                && known.finished
                && !self.spec.patterns.matches(&known.path)
            {
                self.late.insert(known.path.clone(), id);
            }
        }
    }

    /// Looks at a portion of them; those that were renamed meanwhile are searched for in their directories.
    pub(super) fn look_at_late(&mut self) {
        let mut moved: HashMap<PathBuf, Vec<FileId>> = HashMap::new();
        for _ in 0..self.late.turns.len().min(LOOKS_MAX) {
            let Some((path, id)) = self.late.take() else { break };
            match self.written_late(id, &path) {
                Some(true) => {}
                Some(false) => self.watch_late(id),
                None => drop(path.parent().map(|dir| moved.entry(dir.to_owned()).or_default().push(id))),
            }
        }
        for (dir, ids) in moved {
            self.follow_late(&dir, &ids);
        }
    }

    /// A kernel event named this path.
    pub(super) fn hinted_late(&mut self, path: &Path) {
        for id in self.late.by_path.get(path).cloned().unwrap_or_default() {
            self.written_late(id, path); // it stays until its turn comes: then it is read, or watched on
        }
    }

    /// Whether there is more in it than was read of it; then it is a candidate. None: the path shows another file, or
    /// none.
    fn written_late(&mut self, id: FileId, path: &Path) -> Option<bool> {
        let Some(known) = self.known.get(id) else { return Some(true) }; // read again, or forgotten
        let Look::File(shown) = look(path) else { return None };
        if shown.place != known.place && !shown.place.same_but_device(&known.place) {
            return None;
        }
        if !known.fits(shown.size) || known.is_all_of(shown.size) {
            return Some(false);
        }
        if !self.has_place(&shown.place) && !self.is_waiting(&shown.place) {
            self.backlog.push_back(Candidate { found: Some(id), ..Candidate::new(path.to_owned(), shown) });
        }
        Some(true)
    }

    fn follow_late(&mut self, dir: &Path, ids: &[FileId]) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let names: HashMap<u64, PathBuf> = entries.flatten().map(|entry| (entry.ino(), entry.path())).collect();
        for id in ids {
            let Some(known) = self.known.get(*id) else { continue };
            let Some(path) = names.get(&known.place.inode).cloned() else { continue };
            self.known.set_path(*id, path.clone());
            if self.written_late(*id, &path) == Some(false) {
                self.watch_late(*id);
            }
        }
    }
}

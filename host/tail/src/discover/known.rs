//! Files from before: what the store or a closed stream knows of them, and how they are found again.
//!
//! A file is found by its place, verified by its content, and when its place shows it no more, by its content alone.
//! In doubt a file is a new one: then lines come twice, but none is missing.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use super::entry::now_ns;
use super::hunt::{PROOF_BYTES_MIN, may_lie_at};
use super::late::WATCHED_NS;
use super::walk::{Look, Shown, find_place, look};
use super::{KnownFile, StreamKey};
use crate::allow::AllowPaths;
use crate::compare::{Compared, Comparison};
use crate::evidence::Verdict;
use crate::identity::{FileId, FileKey};
use crate::packed::Packing;

/// A new file is compared with at most so many finished ones.
const COPIED_FILES_MAX: usize = 100;
/// The archives of at most so many finished files are searched for, those that were finished last.
const LATE_FILES_MAX: usize = 256;

/// What is known of the files of one entry that no stream reads now.
#[derive(Debug, Default)]
pub(super) struct KnownFiles {
    by_id: HashMap<FileId, Kept>,
    by_inode: HashMap<u64, Vec<FileId>>,
    by_home: HashMap<PathBuf, Vec<FileId>>,
    finished_by_size: HashMap<u64, Vec<FileId>>,
}

#[derive(Debug)]
struct Kept {
    file: KnownFile,
    /// Size and time of a finished file that was compared and has nothing to read.
    compared: Option<(u64, i128)>,
    /// It was searched for, in vain: not again.
    searched: bool,
}

impl KnownFiles {
    pub(super) fn insert(&mut self, file: KnownFile) {
        let id = file.key.file;
        self.remove(id);
        self.by_inode.entry(file.place.inode).or_default().push(id);
        self.by_home.entry(file.home.clone()).or_default().push(id);
        if file.finished {
            self.finished_by_size.entry(file.offset).or_default().push(id);
        }
        self.by_id.insert(id, Kept { file, compared: None, searched: false });
    }

    pub(super) fn remove(&mut self, id: FileId) -> Option<KnownFile> {
        let kept = self.by_id.remove(&id)?;
        take_out(&mut self.by_inode, &kept.file.place.inode, id);
        take_out(&mut self.by_home, &kept.file.home, id);
        take_out(&mut self.finished_by_size, &kept.file.offset, id);
        Some(kept.file)
    }

    pub(super) fn get(&self, id: FileId) -> Option<&KnownFile> {
        self.by_id.get(&id).map(|kept| &kept.file)
    }

    /// All of them.
    pub(super) fn ids(&self) -> Vec<FileId> {
        self.by_id.keys().copied().collect()
    }

    /// It was renamed.
    pub(super) fn set_path(&mut self, id: FileId, path: PathBuf) {
        if let Some(kept) = self.by_id.get_mut(&id) {
            kept.file.path = path;
        }
    }

    /// What was seen behind its offset is counted, or read in another file. None: there was nothing.
    pub(super) fn settle(&mut self, id: FileId) -> Option<(StreamKey, u64)> {
        let known = &mut self.by_id.get_mut(&id)?.file;
        let unread = known.size_seen > known.offset;
        known.size_seen = known.offset;
        unread.then(|| (known.key.clone(), known.offset))
    }

    /// Whether a finished file lies at this place and did not change since it was compared.
    pub(super) fn has_nothing_new(&self, shown: &Shown) -> bool {
        self.at_inode(shown.place.inode)
            .any(|kept| kept.file.place == shown.place && kept.compared == Some((shown.size, shown.modified_ns)))
    }

    /// A finished file was compared as it is now, and there is nothing to read in it.
    pub(super) fn set_compared(&mut self, id: FileId, shown: &Shown) {
        if let Some(kept) = self.by_id.get_mut(&id) {
            kept.compared = Some((shown.size, shown.modified_ns));
        }
    }

    /// Whether some known file may lie at this place.
    pub(super) fn claims(&self, place: &FileKey) -> bool {
        self.at_inode(place.inode).any(|kept| may_lie_at(&kept.file, place))
    }

    /// Whether a known file (other than `but`) lies at this place. Where births are not known the inode number may be
    /// another file's by now: then what stands in it has to agree.
    pub(super) fn is_of_another(&self, path: &Path, shown: &Shown, but: FileId, allow: &AllowPaths) -> bool {
        self.at_inode(shown.place.inode).map(|kept| &kept.file).any(|known| {
            let sure = known.place == shown.place && known.place.born_ns.is_some();
            let agrees = || {
                let file = allow.open(path).ok()?;
                Some(known.evidence.proven() > 0 && known.evidence.check(&file).ok()? == Verdict::Same)
            };
            known.key.file != but
                && may_lie_at(known, &shown.place)
                && (sure
                    || known.place.same_but_device(&shown.place)
                    || (known.fits(shown.size) && agrees() != Some(false)))
        })
    }

    /// When a file is looked at among others: 0 when a known file may lie there that was renamed since it was first seen
    /// (it goes before the one that has its place now), 1 when another known one may, 2 when none.
    pub(super) fn turn(&self, path: &Path, place: &FileKey) -> u8 {
        let claims = self.at_inode(place.inode).filter(|kept| may_lie_at(&kept.file, place));
        claims.map(|kept| u8::from(kept.file.home == path)).min().unwrap_or(2)
    }

    /// Whether a known file that is not finished may lie at this place.
    pub(super) fn awaits(&self, place: &FileKey) -> bool {
        self.at_inode(place.inode).any(|kept| !kept.file.finished && may_lie_at(&kept.file, place))
    }

    /// The known file that lies at `place` and whose content is in `file`. Of several (generations of one place, whose
    /// lines may be all the same) the one that was not finished, then the one of which most was read.
    pub(super) fn find_here(&self, file: &File, shown: &Shown) -> io::Result<Option<FileId>> {
        let mut here: Vec<_> =
            self.at_inode(shown.place.inode).map(|kept| &kept.file).filter(|k| may_lie_at(k, &shown.place)).collect();
        let rank = |known: &KnownFile| (known.place == shown.place, !known.finished, known.offset, known.key.file);
        here.sort_by_key(|known| std::cmp::Reverse(rank(known)));
        for known in here {
            if !known.fits(shown.size) {
                continue;
            }
            let sure = known.place == shown.place || known.place.same_but_device(&shown.place);
            let same = match sure {
                true => known.evidence.check(file)? == Verdict::Same,
                // Same inode number on another device, no birth times: only content can tell.
                false => is_proven_by_content(known, file)?,
            };
            if same {
                return Ok(Some(known.key.file));
            }
        }
        Ok(None)
    }

    /// Unfinished files that were not searched for yet and lie at none of the places that paths show (by inode). They
    /// count as searched for from now on.
    pub(super) fn take_missing(&mut self, shown: &HashMap<u64, Vec<FileKey>>) -> Vec<FileId> {
        let mut missing = Vec::new();
        for (id, kept) in &mut self.by_id {
            let places = shown.get(&kept.file.place.inode).map_or(&[][..], Vec::as_slice);
            let here = places.iter().any(|place| may_lie_at(&kept.file, place));
            if !kept.file.finished && !kept.searched && !here {
                kept.searched = true;
                missing.push(*id);
            }
        }
        missing.sort();
        missing
    }

    /// Finished files that lie at none of the places that paths show, that may have been written again before they were
    /// compressed, and whose archives were not searched for yet. They count as searched for from now on.
    pub(super) fn take_late(&mut self, shown: &HashMap<u64, Vec<FileKey>>) -> Vec<FileId> {
        let mut late = Vec::new();
        for (id, kept) in &mut self.by_id {
            let known = &kept.file;
            let places = shown.get(&known.place.inode).map_or(&[][..], Vec::as_slice);
            if known.finished
                && !std::mem::replace(&mut kept.searched, true)
                && known.evidence.at >= PROOF_BYTES_MIN
                && known.evidence.packed_bytes.is_none()
                && now_ns() < i128::from(known.updated_ms) * 1_000_000 + WATCHED_NS
                && !places.iter().any(|place| may_lie_at(known, place))
                && !is_still_there(known)
            {
                late.push((known.updated_ms, *id));
            }
        }
        late.sort_by_key(|(updated_ms, id)| (std::cmp::Reverse(*updated_ms), *id));
        late.truncate(LATE_FILES_MAX);
        late.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether it was searched for.
    pub(super) fn set_searched(&mut self, id: FileId, searched: bool) {
        if let Some(kept) = self.by_id.get_mut(&id) {
            kept.searched = searched;
        }
    }

    /// Unfinished files that lay at this place before it showed something else, not searched for yet.
    pub(super) fn take_replaced(&mut self, place: &FileKey) -> Vec<FileId> {
        let ids = self.by_inode.get(&place.inode).cloned().unwrap_or_default();
        let mut replaced = Vec::new();
        for id in ids {
            if let Some(kept) = self.by_id.get_mut(&id)
                && may_lie_at(&kept.file, place)
                && !kept.file.finished
                && !kept.searched
            {
                kept.searched = true;
                replaced.push(id);
            }
        }
        replaced
    }

    /// Finished files of which a new file of `size` bytes at `path` may be a copy; `packed`: its content may be. `seat`: it
    /// was made of one that was there: then also of one of which little is known.
    pub(super) fn maybe_copied(&self, path: &Path, size: u64, packed: bool, seat: Option<&Path>) -> Vec<FileId> {
        let mut ids: Vec<FileId> = match packed {
            false => self.finished_by_size.get(&size).into_iter().flatten().copied().collect(),
            true => {
                let mut homes = named_after(&path.with_extension(""));
                homes.extend(seat.map(Path::to_owned));
                homes.iter().filter_map(|home| self.by_home.get(home)).flatten().copied().collect()
            }
        };
        ids.retain(|id| {
            let bytes_min = if seat.is_some() { 1 } else { PROOF_BYTES_MIN };
            let evident = |known: &KnownFile| known.evidence.at >= bytes_min && known.evidence.at == known.offset;
            self.get(*id).is_some_and(|known| known.finished && evident(known))
        });
        ids.sort();
        ids.dedup();
        ids.truncate(COPIED_FILES_MAX);
        ids
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Takes out files that changed last before `before_ms` (since the Unix epoch) and are gone from their directories.
    /// One whose directory cannot be looked at is not gone.
    pub(super) fn take_vanished(&mut self, before_ms: i64, busy: &dyn Fn(FileId) -> bool) -> Vec<KnownFile> {
        let mut inodes: HashMap<&Path, Option<HashSet<u64>>> = HashMap::new();
        let mut gone = Vec::new();
        for kept in self.by_id.values() {
            let known = &kept.file;
            if known.updated_ms >= before_ms || busy(known.key.file) {
                continue;
            }
            let dirs = names_of(known).filter_map(|path| path.parent());
            let here = dirs.into_iter().any(|dir| {
                let inodes = inodes.entry(dir).or_insert_with(|| inodes_in(dir));
                inodes.as_ref().is_none_or(|inodes| inodes.contains(&known.place.inode))
            });
            if !here || (may_be_looked_at(known) && !is_still_there(known)) {
                gone.push(known.key.file);
            }
        }
        gone.sort();
        gone.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn at_inode(&self, inode: u64) -> impl Iterator<Item = &Kept> {
        self.by_inode.get(&inode).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }
}

/// The inode numbers in a directory; none in one that is not there. None: it cannot be looked at.
fn inodes_in(dir: &Path) -> Option<HashSet<u64>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.ok().map(|entry| entry.ino())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(HashSet::new()),
        Err(_) => None,
    }
}

fn may_be_looked_at(known: &KnownFile) -> bool {
    names_of(known).filter_map(|path| path.parent()).all(|dir| inodes_in(dir).is_some())
}

/// The paths where it was seen.
fn names_of(known: &KnownFile) -> impl Iterator<Item = &Path> {
    [Some(&known.path), Some(&known.home), known.target.as_ref()].into_iter().flatten().map(PathBuf::as_path)
}

/// Takes an id out of an index.
fn take_out<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Vec<FileId>>, at: &K, id: FileId) {
    if let Some(ids) = index.get_mut(at) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(at);
        }
    }
}

/// The paths that one may be named after: `app.log-1.2` after `app.log-1`, `app.log`, `app` and, with the ending of
/// its name put behind each, `app.2`.
pub(super) fn named_after(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name() else { return Vec::new() };
    let bytes = name.as_bytes();
    let mut paths = vec![path.to_owned()];
    for (at, _) in bytes.iter().enumerate().filter(|(at, byte)| *at > 0 && matches!(byte, b'.' | b'-' | b'_')) {
        let shorter = OsStr::from_bytes(&bytes[..at]);
        paths.push(path.with_file_name(shorter));
        if let Some(ending) = path.extension() {
            let whole = [shorter.as_bytes(), b".", ending.as_bytes()].concat();
            paths.push(path.with_file_name(OsStr::from_bytes(&whole)));
        }
    }
    paths
}

/// Whether the original can still be seen, under its last name or another one beside it.
pub(super) fn is_still_there(known: &KnownFile) -> bool {
    let same = |place: &FileKey| *place == known.place || place.same_but_device(&known.place);
    matches!(look(&known.path), Look::File(shown) if same(&shown.place))
        || [Some(&known.path), known.target.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|path| path.parent())
            .any(|dir| find_place(dir, &same, known.place.inode).is_some())
}

/// Whether `file` begins with everything that was read of `known`, and that is enough to be sure.
fn is_proven_by_content(known: &KnownFile, file: &File) -> io::Result<bool> {
    if known.evidence.proven() < PROOF_BYTES_MIN {
        return Ok(false);
    }
    // Only for a file at the same inode number whose birth nobody knows: that it is read in one go is rare.
    let packing = Packing::of(file)?.filter(|_| known.evidence.packed_bytes.is_some());
    let mut comparison = Comparison::new(file.try_clone()?, packing, &known.evidence, known.offset, &[])?;
    Ok(matches!(comparison.step(&mut { u64::MAX })?, Compared::Same { monotonous: false, .. }))
}

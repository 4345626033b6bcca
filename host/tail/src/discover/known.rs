//! Files from before: what the store or a closed stream knows of them, and how they are found again.
//!
//! A file is found by its place, verified by its content, and when its place shows it no more, by its content alone.
//! In doubt a file is a new one: then lines come twice, but none is missing.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::KnownFile;
use super::walk::{Look, Shown, find_place, look};
use crate::allow::AllowPaths;
use crate::evidence::{FINGERPRINT_BYTES, Verdict};
use crate::identity::{FileId, FileKey};

/// Content proves nothing unless at least so much of it is known: many logs begin with the same few lines.
const PROOF_BYTES_MIN: u64 = FINGERPRINT_BYTES as u64;
/// When a file is searched by its content, at most so many files are compared, the ones written last first.
const SEARCH_FILES_MAX: usize = 1000;

/// What is known of the files of one entry that no stream reads now.
#[derive(Debug, Default)]
pub(super) struct KnownFiles {
    by_id: HashMap<FileId, Kept>,
    by_inode: HashMap<u64, Vec<FileId>>,
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
        self.remove(file.key.file);
        self.by_inode.entry(file.place.inode).or_default().push(file.key.file);
        self.by_id.insert(file.key.file, Kept { file, compared: None, searched: false });
    }

    pub(super) fn remove(&mut self, id: FileId) -> Option<KnownFile> {
        let kept = self.by_id.remove(&id)?;
        let inode = kept.file.place.inode;
        if let Some(ids) = self.by_inode.get_mut(&inode) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_inode.remove(&inode);
            }
        }
        Some(kept.file)
    }

    pub(super) fn get(&self, id: FileId) -> Option<&KnownFile> {
        self.by_id.get(&id).map(|kept| &kept.file)
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

    /// Whether some known file (other than `but`) may lie at this place.
    pub(super) fn claims(&self, place: &FileKey, but: Option<FileId>) -> bool {
        self.at_inode(place.inode).any(|kept| Some(kept.file.key.file) != but && may_lie_at(&kept.file, place))
    }

    /// The known file that lies at `place` and whose content is in `file`. Of several (generations of one place, whose
    /// lines may be all the same) the one that was not finished, then the one of which most was read.
    pub(super) fn find_here(&self, file: &File, shown: &Shown) -> io::Result<Option<FileId>> {
        let mut here: Vec<_> =
            self.at_inode(shown.place.inode).map(|kept| &kept.file).filter(|k| may_lie_at(k, &shown.place)).collect();
        let rank = |known: &KnownFile| (known.place == shown.place, !known.finished, known.offset, known.key.file);
        here.sort_by_key(|known| std::cmp::Reverse(rank(known)));
        for known in here {
            if known.offset > shown.size {
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

    /// Whether all of `file` is a copy of a finished file whose original is gone. Then it takes that one's place.
    pub(super) fn is_copy_of_finished(&mut self, file: &File, path: &Path, shown: &Shown) -> io::Result<bool> {
        let sizes = self.by_id.values().filter(|kept| kept.file.finished && kept.file.offset == shown.size);
        let like: Vec<FileId> = sizes.map(|kept| kept.file.key.file).collect();
        for id in like {
            let Some(kept) = self.by_id.get(&id) else { continue };
            let known = &kept.file;
            if known.evidence.at != shown.size || !is_proven_by_content(known, file)? || is_still_there(known) {
                continue;
            }
            if let Some(mut known) = self.remove(id) {
                known.place = shown.place;
                known.path = path.to_owned();
                self.insert(known);
                self.set_compared(id, shown);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn at_inode(&self, inode: u64) -> impl Iterator<Item = &Kept> {
        self.by_inode.get(&inode).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }
}

/// Where to search, and what is not to be found.
pub(super) struct Search<'a> {
    pub(super) allow: &'a AllowPaths,
    /// Only a copy is wanted: what lies at the known place is something else.
    pub(super) by_content_only: bool,
    /// Whether a stream reads what lies there.
    pub(super) read: &'a dyn Fn(&FileKey) -> bool,
    /// Whether another known file may lie there.
    pub(super) claimed: &'a dyn Fn(&FileKey) -> bool,
    /// Whether a file would be read under this path anyway, from its beginning.
    pub(super) meant: &'a dyn Fn(&Path) -> bool,
}

/// Searches the directories of `known` for its file: by its place under any name, then by its content.
pub(super) fn search(known: &KnownFile, how: &Search<'_>) -> Option<PathBuf> {
    let dirs: BTreeSet<&Path> = [&known.path, &known.home].into_iter().filter_map(|path| path.parent()).collect();
    if !how.by_content_only {
        for dir in &dirs {
            let same = |place: &FileKey| may_lie_at(known, place) && !(how.read)(place);
            if let Some(path) = find_place(dir, &same, known.place.inode)
                && let Ok(file) = how.allow.open(&path)
                && is_found_under_another_name(known, &file).unwrap_or(false)
            {
                return Some(path);
            }
        }
    }
    let mut files: Vec<(PathBuf, Shown)> = dirs.iter().flat_map(|dir| files_in(dir)).collect();
    files.retain(|(_, shown)| shown.size >= known.offset && !(how.read)(&shown.place) && !(how.claimed)(&shown.place));
    files.sort_by(|(a, one), (b, other)| (other.modified_ns, a).cmp(&(one.modified_ns, b)));
    files.truncate(SEARCH_FILES_MAX);
    files.into_iter().map(|(path, _)| path).find(|path| {
        // What cannot be opened or read now is not it; nothing is lost but what could not be read anyway.
        let is_it = |file: File| match (how.meant)(path) {
            // In doubt it is read from its beginning, as the new file that it may be.
            true => is_proven_by_content(known, &file),
            // In doubt its rest is read: otherwise nothing of it would be.
            false => holds_the_rest(known, path, &file),
        };
        how.allow.open(path).is_ok_and(|file| is_it(file).unwrap_or(false))
    })
}

/// Whether the file is enough like a copy of `known` to read the unread rest from it. A few bytes are enough only in a
/// file that is named after it (`app.log.1` after `app.log`): nothing else with the same beginning must be shipped.
fn holds_the_rest(known: &KnownFile, path: &Path, file: &File) -> io::Result<bool> {
    let name = |path: &Path| path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    let named_after = [&known.home, &known.path].iter().any(|own| name(path).starts_with(&name(own)));
    let enough = known.evidence.at >= PROOF_BYTES_MIN || (known.evidence.at > 0 && named_after);
    Ok(enough && file.metadata()?.len() >= known.offset && known.evidence.check_all(file)? == Verdict::Same)
}

fn files_in(dir: &Path) -> Vec<(PathBuf, Shown)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|kind| kind.is_file()));
    let looks = paths.map(|entry| entry.path()).map(|path| (look(&path), path));
    looks.filter_map(|(look, path)| if let Look::File(shown) = look { Some((path, shown)) } else { None }).collect()
}

/// Whether a file at `place` may be the known one, content to be compared.
fn may_lie_at(known: &KnownFile, place: &FileKey) -> bool {
    let unborn = known.place.born_ns.is_none() || place.born_ns.is_none();
    known.place == *place || known.place.same_but_device(place) || (known.place.inode == place.inode && unborn)
}

/// Whether the file found at the place of `known`, under a name that no pattern need match, is that one. Without a birth
/// time the inode may belong to anything by now, and must not be shipped unless its content is known.
fn is_found_under_another_name(known: &KnownFile, file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    match FileKey::of(&metadata).same_but_device(&known.place) {
        true => Ok(metadata.len() >= known.offset && known.evidence.check(file)? == Verdict::Same),
        false => is_proven_by_content(known, file),
    }
}

/// Whether the original can still be seen, under its last name or another one beside it.
fn is_still_there(known: &KnownFile) -> bool {
    let same = |place: &FileKey| *place == known.place || place.same_but_device(&known.place);
    matches!(look(&known.path), Look::File(shown) if same(&shown.place))
        || known.path.parent().is_some_and(|dir| find_place(dir, &same, known.place.inode).is_some())
}

/// Whether `file` begins with everything that was read of `known`, and that is enough to be sure.
fn is_proven_by_content(known: &KnownFile, file: &File) -> io::Result<bool> {
    let evidence = &known.evidence;
    Ok(evidence.at >= PROOF_BYTES_MIN
        && file.metadata()?.len() >= known.offset
        && evidence.check_all(file)? == Verdict::Same
        && !is_monotonous(file, evidence.at)?)
}

/// Whether the bytes before `at` repeat themselves: equal heartbeats prove nothing, another file may be full of them
/// too. A period of up to half of the window counts.
fn is_monotonous(file: &File, at: u64) -> io::Result<bool> {
    let len = at.min(4 * FINGERPRINT_BYTES as u64) as usize; // at most 4 KiB
    let mut window = vec![0; len];
    file.read_exact_at(&mut window, at - len as u64)?;
    Ok((1..=len / 2).any(|period| window[period..] == window[..len - period]))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn monotonous(content: &[u8]) -> bool {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        is_monotonous(&file, content.len() as u64).unwrap()
    }

    #[test]
    fn equal_lines_are_monotonous_and_lines_with_a_number_are_not() {
        assert!(monotonous(&b"heartbeat ok\n".repeat(1000)));
        assert!(monotonous(&b"one\ntwo\n".repeat(200)));
        assert!(monotonous(&[0; 5000]));
        let numbered: Vec<u8> = (0..500).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
        assert!(!monotonous(&numbered));
    }
}

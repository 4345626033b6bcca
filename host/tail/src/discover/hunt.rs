//! The search for the file behind a mark.
//!
//! In: what is known of a file that was not read to its end, and whose place shows another file or none. Out: the file in
//! its directories that holds everything that was read of it (itself under another name, a copy, a compressed copy), or
//! that there is none. Files are compared in slices: a huge copy holds nothing up.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::KnownFile;
use super::entry::now_ns;
use super::missed::SLACK_NS;
use super::walk::{Look, Shown, look, targets_of};
use crate::allow::AllowPaths;
use crate::compare::{Compared, Comparison};
use crate::evidence::{FINGERPRINT_BYTES, Verdict};
use crate::identity::{FileId, FileKey};
use crate::packed::Packing;

/// Content proves nothing unless at least so much of it is known: many logs begin with the same few lines.
pub(super) const PROOF_BYTES_MIN: u64 = FINGERPRINT_BYTES as u64;
/// When a file is searched by its content, at most so many files are compared, the ones written last first.
const SEARCH_FILES_MAX: usize = 1000;
/// Directories are listed at most so often for one search.
const LISTINGS_MAX: u32 = 3;
/// What opening a file counts for in a budget of bytes.
pub(super) const OPEN_COST_BYTES: u64 = 16 * 1024;

/// One search.
#[derive(Debug)]
pub(super) struct Hunt {
    pub(super) id: FileId,
    /// What lies at its place is another file.
    pub(super) replaced: bool,
    /// It was truncated just now: the copy is the newest one. Otherwise several rotations may have come since.
    pub(super) newest_first: bool,
    /// It was finished, and may have been written again before it was compressed: only its archive is wanted, and nothing
    /// is lost when there is none.
    pub(super) late: bool,
    /// First bytes that were seen of it, for a file of which nothing was read.
    beginning: Vec<u8>,
    /// The largest size that was seen of it.
    pub(super) size_seen: u64,
    /// A file that is read from its beginning holds everything that was read of this one.
    pub(super) comes_again: bool,
    /// Its place, found under a name that nobody reads, holds something else: what was written there after it.
    pub(super) displaced: bool,
    /// How often the directories were listed: files may be renamed while others are compared.
    listings: u32,
    listed: bool,
    stale: bool,
    spots: VecDeque<Spot>,
    now: Option<(Spot, Option<Packing>, Box<Comparison>)>,
    /// All of the known file and nothing else; it counts when no other file begins with it and goes on.
    ended: Option<Box<Hunted>>,
    /// Files that begin like it, where any other generation may.
    alike: Vec<Alike>,
}

/// A file that may be the one, for all that is known.
#[derive(Debug)]
pub(super) struct Alike {
    pub(super) path: PathBuf,
    pub(super) shown: Shown,
    pub(super) packing: Option<Packing>,
}

/// A file that may be the one.
#[derive(Debug)]
struct Spot {
    path: PathBuf,
    shown: Shown,
    proof: Proof,
    /// Its name begins with that of the file.
    named: bool,
}

/// What has to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It lies where the file lay, and was born when it was: a glance is enough.
    Glance,
    /// It would be read under its name anyway, from its beginning: in doubt that is what happens.
    Certain,
    /// Nobody would read it otherwise: in doubt its rest is read.
    Likely,
    /// It is read from its beginning in any case. When it is alike, nothing is lost that is in it.
    ReadAnyway,
}

/// Where to search, and what is not to be found.
pub(super) struct Rules<'a> {
    /// Whether a stream reads what lies there.
    pub(super) read: &'a dyn Fn(&FileKey) -> bool,
    /// Whether another known file lies there.
    pub(super) claimed: &'a dyn Fn(&Path, &Shown) -> bool,
    /// Whether a file would be read under this path anyway.
    pub(super) meant: &'a dyn Fn(&Path) -> bool,
}

/// What a slice of a search came to.
#[derive(Debug)]
pub(super) enum Hunted {
    Working,
    Found {
        path: PathBuf,
        shown: Shown,
        packing: Option<Packing>,
        /// Nothing in it is unread.
        ends: bool,
    },
    /// What is known of it may stand in any other generation, too: each of these has to be read from its beginning. The
    /// one that was written last is the last one.
    Doubtful(Vec<Alike>),
    Nothing,
}

impl Hunt {
    /// Nothing listed yet. `replaced`: only a copy is wanted.
    pub(super) fn new(id: FileId, replaced: bool, beginning: Vec<u8>, size_seen: u64) -> Hunt {
        Hunt {
            id,
            replaced,
            newest_first: false,
            late: false,
            beginning,
            size_seen,
            comes_again: false,
            displaced: false,
            listings: 0,
            listed: false,
            stale: false,
            spots: VecDeque::new(),
            now: None,
            ended: None,
            alike: Vec::new(),
        }
    }

    /// Lists the directories of `known`, unless that was done.
    pub(super) fn list(&mut self, known: &KnownFile, rules: &Rules<'_>) {
        if std::mem::replace(&mut self.listed, true) {
            return;
        }
        self.listings += 1;
        self.stale = false;
        let replaced = self.replaced;
        let names = names_of(known);
        // Also where a link of that name led to before: there it may be renamed, but nothing is meant by that.
        let all_names: Vec<PathBuf> = names.iter().chain(&known.target).cloned().collect();
        let dirs: BTreeSet<&Path> = all_names.iter().filter_map(|path| path.parent()).collect();
        let mut files: Vec<(PathBuf, Shown)> = dirs.iter().flat_map(|dir| files_in(dir)).collect();
        files.sort_by(|(a, one), (b, other)| (other.modified_ns, a).cmp(&(one.modified_ns, b)));
        let mut spots = Vec::new();
        for (path, shown) in files {
            let read = (rules.read)(&shown.place);
            if (read && shown.place == known.place) || (self.late && (read || !Packing::is_named(&path))) {
                continue;
            }
            let same = !replaced && !read && may_lie_at(known, &shown.place);
            let meant = (rules.meant)(&path) || names.contains(&path); // under its name, or through a link of that name
            let proof = match meant {
                _ if read => Proof::ReadAnyway,
                _ if same && shown.place.same_but_device(&known.place) => Proof::Glance,
                _ if same => Proof::Certain, // its inode number may belong to anything by now
                true => Proof::Certain,
                false => Proof::Likely,
            };
            let claimed = shown.place == known.place || (rules.claimed)(&path, &shown);
            let too_small = !known.fits(shown.size) && !Packing::is_named(&path);
            let enough = proof == Proof::Glance || known.evidence.proven() >= PROOF_BYTES_MIN;
            self.displaced |= same && too_small && proof == Proof::Glance;
            let named = named_after(&path, &all_names);
            let told = same && enough || !same && !claimed && is_enough(known, named, proof, &self.beginning);
            if told && !too_small {
                spots.push(Spot { path, shown, proof, named });
            } else if !same && !claimed && !too_small && meant && named {
                spots.push(Spot { path, shown, proof: Proof::ReadAnyway, named });
            }
        }
        // Several may begin with all that is known (a head that all generations have). Files that are read in any case come
        // last, and before them what is older than the file; of those that were written since it was
        // seen, the one that was rotated first is the one.
        let seen_ns = i128::from(known.updated_ms) * 1_000_000 - SLACK_NS;
        let seen_ns = if seen_ns > now_ns() { i128::MIN } else { seen_ns }; // the clock was set back: it tells nothing
        let older = |spot: &Spot| is_older(&spot.shown, known);
        spots.sort_by_key(|spot: &Spot| match spot.proof {
            Proof::Glance => (0, false, 0),
            _ if spot.shown.place.inode == known.place.inode => (1, false, 0),
            Proof::Likely if older(spot) => (4, false, 0),
            Proof::Likely if !self.newest_first && spot.shown.modified_ns >= seen_ns => {
                (2, !spot.named, spot.shown.modified_ns)
            }
            Proof::Likely => (3, !spot.named, 0),
            Proof::Certain | Proof::ReadAnyway => (5, false, 0),
        });
        spots.truncate(SEARCH_FILES_MAX);
        self.spots = spots.into();
    }

    /// Whether a file must not be opened before this search is over: it may be what is searched for, or the successor
    /// of it.
    pub(super) fn is_about(&self, known: &KnownFile, path: &Path, place: &FileKey) -> bool {
        let names = [Some(&known.home), Some(&known.path), known.target.as_ref()];
        if !self.listed && names.into_iter().flatten().any(|own| own.parent() == path.parent()) {
            return true; // it may be, for all that is known yet
        }
        let now = self.now.iter().map(|(spot, ..)| spot);
        path == known.home || path == known.path || self.spots.iter().chain(now).any(|spot| spot.shown.place == *place)
    }

    /// Compares about `budget` bytes more.
    pub(super) fn step(&mut self, known: &KnownFile, allow: &AllowPaths, budget: &mut u64) -> Hunted {
        loop {
            let Some((spot, packing, mut comparison)) = self.now.take() else {
                let Some(spot) = self.spots.pop_front() else {
                    if self.stale && self.listings < LISTINGS_MAX {
                        self.listed = false;
                        return Hunted::Working;
                    }
                    return self.conclude(known);
                };
                if *budget == 0 {
                    self.spots.push_front(spot);
                    return Hunted::Working;
                }
                *budget = budget.saturating_sub(OPEN_COST_BYTES);
                // What cannot be opened or read now is not it; nothing is lost but what could not be read anyway.
                match self.begin(known, &spot, allow) {
                    Ok(Begun::Compare(packing, comparison)) => self.now = Some((spot, packing, comparison)),
                    Ok(Begun::Found { ends }) => {
                        let Spot { path, shown, .. } = spot;
                        return Hunted::Found { path, shown, packing: None, ends };
                    }
                    Ok(Begun::Other) if spot.proof == Proof::Glance => self.displaced = true,
                    Ok(Begun::Other) => {}
                    Ok(Begun::Moved) | Err(_) => self.stale = true,
                }
                continue;
            };
            match comparison.step(budget) {
                Ok(Compared::Working) => {
                    self.now = Some((spot, packing, comparison));
                    return Hunted::Working;
                }
                Ok(Compared::Same { monotonous: true, .. }) if self.late => {}
                Ok(Compared::Same { monotonous, ends }) => match spot.proof {
                    Proof::Certain if monotonous => self.comes_again = true,
                    Proof::ReadAnyway => self.comes_again = true,
                    proof => {
                        let doubtful = monotonous || known.evidence.proven() < PROOF_BYTES_MIN;
                        let Spot { path, shown, .. } = spot;
                        if doubtful && proof == Proof::Likely && !self.newest_first {
                            self.alike.push(Alike { path, shown, packing });
                            continue;
                        }
                        let found = Hunted::Found { path, shown, packing, ends };
                        if !ends {
                            return found;
                        }
                        self.ended.get_or_insert_with(|| Box::new(found));
                    }
                },
                Ok(Compared::Different) | Err(_) => {}
            }
        }
    }

    /// Everything was compared.
    fn conclude(&mut self, known: &KnownFile) -> Hunted {
        if let Some(found) = self.ended.take() {
            return *found;
        }
        let mut alike = std::mem::take(&mut self.alike);
        // Archives of older generations are no news, unless there is nothing else.
        if alike.iter().any(|one| !is_older(&one.shown, known)) {
            alike.retain(|one| !is_older(&one.shown, known));
        } else {
            alike.truncate(1);
        }
        alike.sort_by_key(|one| one.shown.modified_ns);
        if alike.is_empty() { Hunted::Nothing } else { Hunted::Doubtful(alike) }
    }

    fn begin(&self, known: &KnownFile, spot: &Spot, allow: &AllowPaths) -> io::Result<Begun> {
        let file = allow.open(&spot.path).map_err(io::Error::other)?;
        let metadata = file.metadata()?;
        if FileKey::of(&metadata) != spot.shown.place {
            return Ok(Begun::Moved);
        }
        if spot.proof == Proof::Glance {
            let same = known.fits(metadata.len()) && known.evidence.check(&file)? == Verdict::Same;
            // Its own place: even when nothing is unread now, more may come.
            return Ok(if same { Begun::Found { ends: false } } else { Begun::Other });
        }
        let packing = Packing::of(&file)?;
        let comparison = Comparison::new(file, packing, &known.evidence, known.offset, &self.beginning)?;
        Ok(Begun::Compare(packing, Box::new(comparison)))
    }
}

enum Begun {
    Compare(Option<Packing>, Box<Comparison>),
    Found { ends: bool },
    Other,
    Moved,
}

/// What was written last before the file was born can hardly hold it.
fn is_older(shown: &Shown, known: &KnownFile) -> bool {
    known.place.born_ns.is_some_and(|born| shown.modified_ns < i128::from(born))
}

/// The paths of a file; where one is a link, also what it leads to now.
fn names_of(known: &KnownFile) -> Vec<PathBuf> {
    let own = [&known.path, &known.home];
    own.into_iter().flat_map(|path| targets_of(path).into_iter().chain([path.clone()])).collect()
}

fn named_after(path: &Path, names: &[PathBuf]) -> bool {
    names.iter().any(|name| is_named_after(path, name))
}

/// Whether so much is known of the file that a comparison can tell enough. A few bytes do in a file that is named after
/// it (`app.log.1` after `app.log`), when nobody would read it otherwise: nothing else with the same beginning must be
/// shipped.
fn is_enough(known: &KnownFile, named_after: bool, proof: Proof, beginning: &[u8]) -> bool {
    let enough = known.evidence.proven() >= PROOF_BYTES_MIN;
    let some = known.evidence.proven() > 0 || !beginning.is_empty();
    match proof {
        Proof::Glance | Proof::Certain => enough,
        Proof::Likely => enough || (named_after && some),
        Proof::ReadAnyway => named_after && some,
    }
}

/// Whether the file's name begins with the other's, or with its stem (`app-20240101.log` after `app.log`).
pub(super) fn is_named_after(path: &Path, other: &Path) -> bool {
    let (Some(name), Some(own)) = (path.file_name(), other.file_name()) else { return false };
    let stem = other.file_stem().filter(|stem| *stem != own);
    name.as_bytes().starts_with(own.as_bytes())
        || stem.is_some_and(|stem| {
            let rest = name.as_bytes().strip_prefix(stem.as_bytes());
            rest.is_some_and(|rest| matches!(rest.first(), Some(b'-' | b'.' | b'_')))
        })
}

/// The regular files in a directory, links not followed.
pub(super) fn files_in(dir: &Path) -> Vec<(PathBuf, Shown)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|kind| kind.is_file()));
    let looks = paths.map(|entry| entry.path()).map(|path| (look(&path), path));
    looks.filter_map(|(look, path)| if let Look::File(shown) = look { Some((path, shown)) } else { None }).collect()
}

/// Whether a file at `place` may be the known one, content to be compared.
pub(super) fn may_lie_at(known: &KnownFile, place: &FileKey) -> bool {
    let unborn = known.place.born_ns.is_none() || place.born_ns.is_none();
    known.place == *place || known.place.same_but_device(place) || (known.place.inode == place.inode && unborn)
}

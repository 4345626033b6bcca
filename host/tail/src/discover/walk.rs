//! What paths show now: one path, or all that patterns mean, in portions.
//!
//! It only lists directories and asks for metadata; it opens no file and remembers nothing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::allow::OpenProblem;
use crate::identity::FileKey;
use crate::paths::{PathPatterns, Step};

/// A regular file, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) place: FileKey,
    pub(super) size: u64,
    pub(super) modified_ns: i128,
}

/// What a path shows.
#[derive(Debug)]
pub(super) enum Look {
    File(Shown),
    /// Nothing is there.
    Nothing,
    /// Something that cannot be read, or could not be looked at.
    Bad(OpenProblem),
}

/// What the paths of an entry show.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Only paths that show something, each once.
    pub(super) looks: Vec<(PathBuf, Look)>,
    /// Directories that could not be listed.
    pub(super) unlistable: Vec<(PathBuf, String)>,
}

impl Shown {
    pub(super) fn of(metadata: &fs::Metadata) -> Shown {
        Shown {
            place: FileKey::of(metadata),
            size: metadata.len(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        }
    }
}

impl Look {
    pub(super) fn shows(&self, place: &FileKey) -> bool {
        matches!(self, Look::File(shown) if shown.place == *place)
    }
}

/// Looks at one path.
pub(super) fn look(path: &Path) -> Look {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Look::File(Shown::of(&metadata)),
        Ok(metadata) if metadata.is_dir() => Look::Bad(OpenProblem::Directory),
        Ok(_) => Look::Bad(OpenProblem::NotRegular),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if is_link(path) => {
                Look::Bad(OpenProblem::DanglingLink)
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Look::Nothing,
            io::ErrorKind::PermissionDenied => Look::Bad(OpenProblem::Permission),
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Look::Bad(OpenProblem::DanglingLink),
            _ => Look::Bad(OpenProblem::Io(error)),
        },
    }
}

/// Whether the path itself is a symbolic link.
pub(super) fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Links that are followed by hand.
const LINKS_MAX: usize = 8;

/// Where a link leads, step by step; the last one need not be there. Rotation happens beside the file, not beside a link
/// to it.
pub(super) fn targets_of(path: &Path) -> Vec<PathBuf> {
    let mut targets: Vec<PathBuf> = Vec::new();
    while targets.len() < LINKS_MAX {
        let from = targets.last().map_or(path, PathBuf::as_path);
        let Ok(to) = fs::read_link(from) else { break };
        let to = from.parent().map_or_else(|| to.clone(), |dir| dir.join(&to));
        targets.push(to);
    }
    targets
}

/// The path of an open file without links. None: it has none any more.
pub(super) fn real_path(file: &fs::File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    let there = file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok().filter(|_| there)
}

/// The file in `dir` that lies at `place`, whatever its name.
pub(super) fn find_place(dir: &Path, same: &dyn Fn(&FileKey) -> bool, inode: u64) -> Option<PathBuf> {
    use std::os::unix::fs::DirEntryExt;
    let entries = fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let mut found: Vec<_> = entries.filter(|entry| entry.ino() == inode).map(|entry| entry.path()).collect();
    found.sort();
    found.into_iter().find(|path| matches!(look(path), Look::File(shown) if same(&shown.place)))
}

/// A walk through every path that patterns mean, in portions.
#[derive(Debug)]
pub(super) struct Walk {
    patterns: Arc<PathPatterns>,
    /// Next root.
    root: usize,
    /// Directories that are being listed, each inside the one before.
    open: Vec<Frame>,
    listing: Listing,
    /// Names met in this portion.
    met: usize,
}

#[derive(Debug)]
struct Frame {
    dir: PathBuf,
    entries: fs::ReadDir,
    /// The components of the glob that come next in it.
    active: Vec<usize>,
}

/// Called for each directory before it is listed, so that what happens in it from then on can be noticed.
pub(super) type OnDir<'a> = &'a mut dyn FnMut(&Path);

impl Walk {
    pub(super) fn new(patterns: Arc<PathPatterns>) -> Walk {
        Walk { patterns, root: 0, open: Vec::new(), listing: Listing::default(), met: 0 }
    }

    /// Whether these are the patterns that it walks through.
    pub(super) fn is_of(&self, patterns: &Arc<PathPatterns>) -> bool {
        Arc::ptr_eq(&self.patterns, patterns) || self.patterns == *patterns
    }

    /// Whether several ways may lead to one path: then looks may come twice.
    pub(super) fn may_repeat(&self) -> bool {
        self.patterns.roots().len() > 1
    }

    /// Names met in the last portion.
    pub(super) fn met(&self) -> usize {
        self.met
    }

    /// Looks at about `names_max` names more. Some: what they show; None: that was all.
    pub(super) fn step(&mut self, names_max: usize, on_dir: OnDir<'_>) -> Option<Listing> {
        self.met = 0;
        while self.met < names_max {
            let Some(frame) = self.open.last_mut() else {
                let patterns = self.patterns.clone();
                let Some(root) = patterns.roots().get(self.root) else { break };
                self.root += 1;
                if root.dir().is_dir() {
                    self.enter(root.dir(), vec![0], on_dir);
                } else if let Some(above) = root.dir().ancestors().find(|dir| dir.is_dir()) {
                    on_dir(above); // where the missing directory, or one above it, may appear
                }
                continue;
            };
            match frame.entries.next() {
                None => drop(self.open.pop()),
                Some(Ok(entry)) => {
                    let active = frame.active.clone();
                    self.meet(&entry.path(), &entry.file_name(), &active, entry.file_type().ok(), on_dir);
                }
                Some(Err(error)) => {
                    let dir = frame.dir.clone();
                    self.open.pop();
                    self.listing.unlistable.push((dir, error.to_string()));
                }
            }
        }
        let over = self.open.is_empty() && self.root >= self.patterns.roots().len();
        let listing = std::mem::take(&mut self.listing);
        let empty = listing.looks.is_empty() && listing.unlistable.is_empty();
        if over && empty { None } else { Some(listing) }
    }

    fn steps(&self) -> Arc<PathPatterns> {
        self.patterns.clone()
    }

    /// Begins with `dir`, in which the components `active` of the glob come next: each directory is listed once, however
    /// many ways lead into it.
    fn enter(&mut self, dir: &Path, mut active: Vec<usize>, on_dir: OnDir<'_>) {
        on_dir(dir);
        self.met += 1;
        let patterns = self.steps();
        let steps = patterns.roots()[self.root - 1].steps();
        // `**` also stands for no directory at all.
        let mut i = 0;
        while let Some(&step) = active.get(i) {
            if matches!(steps[step], Step::AnyDepth) && !active.contains(&(step + 1)) {
                active.push(step + 1);
            }
            i += 1;
        }
        if active.iter().all(|&step| matches!(steps[step], Step::Name(_))) {
            for step in active {
                if let Step::Name(name) = &steps[step] {
                    self.meet(&dir.join(name), name.as_os_str(), &[step], None, on_dir);
                }
            }
            return;
        }
        match fs::read_dir(dir) {
            Ok(entries) => self.open.push(Frame { dir: dir.to_owned(), entries, active }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.listing.unlistable.push((dir.to_owned(), error.to_string())),
        }
    }

    /// The components that come next below a directory called `name`. `**` does not follow links: they may lead in
    /// circles.
    fn below(&self, active: &[usize], name: &OsStr, real_dir: bool) -> Vec<usize> {
        let steps = self.patterns.roots()[self.root - 1].steps();
        let mut next = Vec::new();
        for &step in active {
            let below = match &steps[step] {
                Step::AnyDepth if !real_dir => continue,
                Step::AnyDepth => step,
                other if other.takes(name) && step + 1 < steps.len() => step + 1,
                _ => continue,
            };
            if !next.contains(&below) {
                next.push(below);
            }
        }
        next
    }

    /// One name in a directory: goes below it, or looks at it. `kind` is of the name itself, links not followed.
    fn meet(&mut self, path: &Path, name: &OsStr, active: &[usize], kind: Option<fs::FileType>, on_dir: OnDir<'_>) {
        self.met += 1;
        let real_dir = kind.is_some_and(|kind| kind.is_dir());
        let may_be_dir = kind.is_none_or(|kind| kind.is_dir() || kind.is_symlink());
        let next = if may_be_dir { self.below(active, name, real_dir) } else { Vec::new() };
        if !next.is_empty() && (real_dir || path.is_dir()) {
            self.enter(path, next, on_dir);
        }
        let patterns = self.steps();
        let steps = patterns.roots()[self.root - 1].steps();
        let last = steps.len() - 1;
        let meant = active.contains(&last) && steps[last].takes(name);
        if !meant || real_dir && !self.is_literal(path) {
            return;
        }
        if !self.patterns.matches(path) {
            return;
        }
        match look(path) {
            Look::Nothing => {}
            // A directory among files is nothing unusual, unless somebody wrote its very name.
            Look::Bad(OpenProblem::Directory) if !self.is_literal(path) => {}
            shown => self.listing.looks.push((path.to_owned(), shown)),
        }
    }

    fn is_literal(&self, path: &Path) -> bool {
        self.patterns.is_literal(path)
    }
}

//! Kernel events (inotify): which paths to look at. Hints only: losing all of them costs time until the next scan.
//!
//! Read on the caller's thread, directly: while it naps, the kernel folds equal events of a busy file into one, so a file
//! that is written a hundred thousand times a second costs no more than one that is written two hundred times.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::Notice;

/// Events read in one go: what is more waits for the next turn.
const EVENTS_MAX: usize = 16_384;

/// Where hints come from.
#[derive(Debug)]
pub(super) struct Hints {
    fd: OwnedFd,
    watched: HashMap<i32, Vec<Target>>,
    /// While a scan goes on: what is to be watched from now on.
    fresh: Option<HashMap<i32, Vec<Target>>>,
    /// Paths for which a notice was given.
    noticed: HashSet<PathBuf>,
    /// The limit of watches was reached, and a notice given: one for all.
    full: bool,
}

/// What a watch is of. Several paths may lead to one inode, and the kernel has one watch for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Dir(PathBuf),
    /// A file that a link in another directory leads to.
    File(PathBuf),
}

/// What the hints came to.
#[derive(Debug, Default)]
pub(super) struct Hinted {
    /// Paths to look at.
    pub(super) paths: HashSet<PathBuf>,
    /// Directories came, went or changed, or events were lost.
    pub(super) rescan: bool,
}

impl Hints {
    pub(super) fn new() -> Result<Hints, Notice> {
        match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(fd) => Ok(Hints { fd, watched: HashMap::new(), fresh: None, noticed: HashSet::new(), full: false }),
            Err(error) => Err(Notice::ScanOnly { dir: PathBuf::from("/"), reason: advice(error) }),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A scan of everything begins: what is not watched again until `end_scan` is not watched any more.
    pub(super) fn begin_scan(&mut self) {
        self.fresh = Some(HashMap::new());
    }

    pub(super) fn end_scan(&mut self) {
        let Some(fresh) = self.fresh.take() else { return };
        for wd in self.watched.keys().filter(|wd| !fresh.contains_key(wd)) {
            // Gone already when its directory is gone.
            let _ = inotify::remove_watch(&self.fd, *wd);
        }
        self.watched = fresh;
    }

    pub(super) fn watch_dir(&mut self, dir: &Path) -> Option<Notice> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        self.watch(dir, flags, Target::Dir(dir.to_owned()))
    }

    /// Watches the file that a link leads to.
    pub(super) fn watch_file(&mut self, link: &Path) -> Option<Notice> {
        self.watch(link, WatchFlags::MODIFY | WatchFlags::ATTRIB, Target::File(link.to_owned()))
    }

    fn watch(&mut self, path: &Path, flags: WatchFlags, target: Target) -> Option<Notice> {
        match inotify::add_watch(&self.fd, path, flags) {
            Ok(wd) => {
                // A scan takes its time: what it found already is heard of at once.
                for watched in [Some(&mut self.watched), self.fresh.as_mut()].into_iter().flatten() {
                    let targets = watched.entry(wd).or_default();
                    if !targets.contains(&target) {
                        targets.push(target.clone());
                    }
                }
                None
            }
            // It went in between; the scan sees that too.
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => self.refused(path, error),
        }
    }

    /// What to say of a watch that cannot be had: once for all when their limit is reached, else once for each path.
    fn refused(&mut self, path: &Path, error: Errno) -> Option<Notice> {
        let new = match error {
            Errno::NOSPC => !std::mem::replace(&mut self.full, true),
            _ => self.noticed.insert(path.to_owned()),
        };
        new.then(|| Notice::ScanOnly { dir: path.to_owned(), reason: advice(error) })
    }

    /// Takes the events that are there, without waiting.
    pub(super) fn drain(&mut self) -> Hinted {
        let mut hinted = Hinted::default();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(&self.fd, &mut buffer);
        // Busy files that take turns are not folded by the kernel: each is worth one path, whatever was said of it.
        let mut heard = HashSet::new();
        for _ in 0..EVENTS_MAX {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    hinted.rescan = true;
                    break;
                }
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                hinted.rescan = true;
            }
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            if let Some(name) = name
                && !flags.contains(ReadFlags::ISDIR)
                && !heard.insert((event.wd(), xxh3_64(name.as_bytes())))
            {
                continue;
            }
            for target in self.watched.get(&event.wd()).into_iter().flatten() {
                match (target, name) {
                    (Target::Dir(dir), Some(name)) if !flags.contains(ReadFlags::ISDIR) => {
                        hinted.paths.insert(dir.join(name));
                    }
                    (Target::Dir(_), _) => hinted.rescan = true,
                    (Target::File(path), _) => drop(hinted.paths.insert(path.clone())),
                }
            }
        }
        hinted
    }
}

/// What people can do about it.
fn advice(error: Errno) -> String {
    match error {
        Errno::NOSPC => "the limit of inotify watches is reached (raise fs.inotify.max_user_watches)".to_owned(),
        Errno::MFILE => "the limit of inotify instances is reached (raise fs.inotify.max_user_instances)".to_owned(),
        other => std::io::Error::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_watches_is_said_once_and_other_refusals_once_for_each_path() {
        let mut hints = Hints::new().unwrap();
        let mut said = Vec::new();
        for (path, error) in [
            ("/a", Errno::NOSPC),
            ("/b", Errno::NOSPC),
            ("/a", Errno::ACCESS),
            ("/b", Errno::ACCESS),
            ("/b", Errno::ACCESS),
        ] {
            said.extend(hints.refused(Path::new(path), error).map(|notice| notice.to_string()));
        }
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("max_user_watches") && said[0].contains("/a"), "{said:?}");
    }
}

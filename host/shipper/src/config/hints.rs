//! inotify as a hint that a directory changed. Nothing depends on it: whatever is lost here, the next scan finds.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Says when to look.
pub(super) struct Hints {
    dirs: Vec<Watched>,
    watcher: Option<RecommendedWatcher>,
    /// Holds one hint until somebody waits: many are one.
    changed: Arc<Notify>,
}

struct Watched {
    dir: PathBuf,
    /// The directory that is watched: another one may stand at this path by now.
    inode: Option<u64>,
}

impl Hints {
    pub(super) fn new(dirs: Vec<PathBuf>) -> Hints {
        let changed = Arc::new(Notify::new());
        let hint = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is no news.
            if !event.is_ok_and(|event| matches!(event.kind, notify::EventKind::Access(kind) if !closes_a_write(kind)))
            {
                hint.notify_one();
            }
        });
        let dirs = dirs.into_iter().map(|dir| Watched { dir, inode: None }).collect();
        let mut hints = Hints { dirs, watcher: watcher.ok(), changed };
        hints.renew();
        hints
    }

    /// Watches directories that appeared or were replaced since.
    pub(super) fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for watched in &mut self.dirs {
            let inode = inode(&watched.dir);
            if inode != watched.inode {
                let _ = watcher.unwatch(&watched.dir);
                let seen = inode.is_some() && watcher.watch(&watched.dir, RecursiveMode::NonRecursive).is_ok();
                if seen {
                    // What came between the last look and this watch.
                    self.changed.notify_one();
                }
                watched.inode = inode.filter(|_| seen);
            }
        }
    }

    /// Until something may have changed.
    pub(super) async fn wait(&self) {
        self.changed.notified().await;
    }

    /// Until nothing changes any more, so that a file being copied is not read half; at most 20 times as long.
    pub(super) async fn settle(&self, quiet: Duration) {
        for _ in 0..20 {
            if tokio::time::timeout(quiet, self.wait()).await.is_err() {
                return;
            }
        }
    }
}

fn closes_a_write(kind: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    kind == AccessKind::Close(AccessMode::Write)
}

fn inode(dir: &Path) -> Option<u64> {
    std::fs::metadata(dir).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for a hint, however slow the machine is; a lost one hangs and the test runner tells.
    fn hinted(hints: &Hints) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(hints.wait());
    }

    #[test]
    fn a_new_file_and_a_directory_that_was_replaced_are_hinted() {
        let dir = tempfile::tempdir().unwrap();
        let entries = dir.path().join("entries.d");
        std::fs::create_dir(&entries).unwrap();
        let mut hints = Hints::new(vec![entries.clone()]);
        hinted(&hints);
        std::fs::write(entries.join("a.json"), "{}").unwrap();
        hinted(&hints);
        std::fs::rename(&entries, dir.path().join("old")).unwrap();
        std::fs::create_dir(&entries).unwrap();
        hints.renew();
        hinted(&hints);
        std::fs::write(entries.join("b.json"), "{}").unwrap();
        hinted(&hints);
    }
}

//! Files that were truncated: one generation ended, and the next one lies in the same place.
//!
//! In: what a shard says of the one that ended. Out: a search for its copy, and candidates for the next one, also when that
//! was renamed or deleted before anybody looked.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::KnownFile;
use super::entry::Entry;
use super::stream::Candidate;
use super::walk::{Look, Shown, find_place, look, targets_of};

impl Entry {
    /// A generation ended: its unread rest may be in a copy. What lies at its place is another file.
    pub(super) fn search_copy(&mut self, known: KnownFile) {
        let id = known.key.file;
        let (beginning, size_max) = match self.streams.get_mut(&id) {
            // Not seen to shrink: nobody knows how long it was when it was truncated.
            Some(stream) if !stream.shrank => (std::mem::take(&mut stream.beginning).into_vec(), known.offset),
            Some(stream) => (std::mem::take(&mut stream.beginning).into_vec(), stream.size_max),
            None => (Vec::new(), known.offset),
        };
        self.beginnings.remove(id, &beginning);
        // What lies in its place from now on is the next generation, also when it is renamed before anybody looks.
        self.orphans.insert(known.place, Arc::from(known.home.as_path()));
        self.keep(known);
        self.search_for(id, true, beginning, Some(size_max));
        if let Some(hunt) = self.hunts.back_mut() {
            hunt.newest_first = true;
        }
    }

    /// A file was truncated, written again and deleted before its shard read it: what was written last has no name.
    pub(super) fn read_deleted(&mut self, known: &KnownFile, file: Option<Arc<File>>) {
        let Some((file, metadata)) = file.and_then(|file| file.metadata().ok().map(|metadata| (file, metadata))) else {
            return;
        };
        let shown = Shown::of(&metadata);
        if metadata.nlink() == 0 && shown.size > 0 && shown.place == known.place {
            let (seat, file) = (Some(Arc::from(known.home.as_path())), Some(file));
            self.backlog.push_back(Candidate { seat, file, ..Candidate::new(known.path.clone(), shown) });
        }
    }

    /// Reads what was written into files of ours after they were truncated, and that were renamed to where nobody looks.
    pub(super) fn read_orphans(&mut self) {
        for (place, seat) in std::mem::take(&mut self.orphans) {
            if self.has_place(&place) {
                continue;
            }
            if self.is_waiting(&place) {
                self.orphans.insert(place, seat);
                continue;
            }
            let mut dirs = targets_of(&seat).into_iter().chain([seat.to_path_buf()]);
            let found = dirs.find_map(|name| find_place(name.parent()?, &|other| *other == place, place.inode));
            let Some(path) = found else { continue }; // gone
            match look(&path) {
                Look::File(shown) if !self.spec.patterns.matches(&path) => {
                    self.backlog.push_back(Candidate { seat: Some(seat), ..Candidate::new(path, shown) });
                }
                _ => drop(self.orphans.insert(place, seat)), // the next look will find it
            }
        }
    }
}

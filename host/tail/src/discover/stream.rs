//! What discovery keeps of a file that is read, and of a place that waits to be opened.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copies::BEGINNING_BYTES;
use super::walk::Shown;
use crate::identity::{FileId, FileKey};
use crate::packed::Packing;

/// A file that is read.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) place: FileKey,
    /// Where it is now, or was seen last.
    pub(super) path: Arc<Path>,
    /// Where it is in place: shown anywhere else, it is leaving. The same `Arc` as `path` where they are equal.
    pub(super) seat: Arc<Path>,
    /// Size and time of change when it was last looked at.
    pub(super) seen: (u64, i128),
    /// When it was last seen in its place: nanoseconds since the Unix epoch.
    pub(super) seen_ns: i128,
    /// The first bytes that were seen of it.
    pub(super) beginning: Box<[u8]>,
    /// It became shorter: its shard will say whether what was read of it is gone. What it was before is kept.
    pub(super) shrank: bool,
    /// The largest size that was seen before it shrank.
    pub(super) size_max: u64,
    /// The same at the look before.
    pub(super) size_max_before: u64,
    pub(super) state: State,
    /// The count of departures when it left its seat: the larger, the later.
    pub(super) left: u64,
    /// The count of looks when it was last found as expected.
    pub(super) round: u64,
    /// Its shard closed it when it was read to its end and had so many bytes on the disk.
    pub(super) closed: Option<u64>,
    /// Its path is a link: what it leads to is watched by itself.
    pub(super) link: bool,
    /// Its real path when it was opened, where that is another one: there it is rotated.
    pub(super) target: Option<Arc<Path>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    InPlace,
    Leaving {
        gone: bool,
    },
    /// `Dropped` was said; it waits for `Closed`.
    Dropped,
}

/// A place that has no stream.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) shown: Shown,
    /// It was there when the entry was first looked at.
    pub(super) from_first_listing: bool,
    /// A search found this known file here.
    pub(super) found: Option<FileId>,
    /// How that one is compressed.
    pub(super) packing: Option<Packing>,
    /// It was in this place before anybody saw it.
    pub(super) seat: Option<Arc<Path>>,
    /// It is no copy of anything finished.
    pub(super) compared: bool,
    /// It is no copy of anything that is being read.
    pub(super) compared_with_streams: bool,
    /// Copies of what was in it before were looked for.
    pub(super) copies_sought: bool,
    /// Kept open since it was first seen: its path may be gone.
    pub(super) file: Option<Arc<File>>,
}

impl Candidate {
    pub(super) fn new(path: PathBuf, shown: Shown) -> Candidate {
        Candidate {
            path,
            shown,
            from_first_listing: false,
            found: None,
            packing: None,
            seat: None,
            compared: false,
            compared_with_streams: false,
            copies_sought: false,
            file: None,
        }
    }
}

impl Candidate {
    /// An archive that was made since its place was looked at: of the file that left it, or of one that nobody saw.
    pub(super) fn is_unseen_archive(&self) -> bool {
        self.seat.is_some() && self.packing.is_some() && !self.compared
    }
}

impl Stream {
    /// Whether more of its first bytes are worth a look.
    pub(super) fn is_young(&self) -> bool {
        self.beginning.len() < BEGINNING_BYTES && !self.shrank
    }

    /// It was truncated, although it did not shrink between two looks.
    pub(super) fn was_replaced(&mut self) {
        if !self.shrank {
            self.shrank = true;
            self.size_max = self.size_max_before;
        }
    }

    /// Takes in size and time of change. True: something is new.
    pub(super) fn see(&mut self, shown: &Shown) -> bool {
        if self.seen == (shown.size, shown.modified_ns) {
            return false;
        }
        self.shrank |= shown.size < self.seen.0;
        self.size_max_before = self.size_max;
        if !self.shrank {
            self.size_max = self.size_max.max(shown.size);
        }
        self.seen = (shown.size, shown.modified_ns);
        true
    }
}

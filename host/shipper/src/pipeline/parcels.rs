//! Which stream and which ticket a delivery report belongs to.

use super::streams::StreamIx;
use crate::checkpoint::Ticket;
use crate::model::EntryName;
use std::collections::HashMap;
use std::sync::Arc;

/// With nothing on its way, room for so many parcels is kept.
const ROOM_KEPT: usize = 1024;

/// What the shard remembers of a parcel that is on its way.
#[derive(Clone, Debug)]
pub(super) struct ParcelNote {
    /// Whose it is.
    pub stream: StreamIx,
    /// The stream's incarnation when it was sent: reports for an earlier one are for nobody.
    pub incarnation: u32,
    /// The ticket that its records settle.
    pub ticket: Ticket,
    /// Entry and topic that its bytes are charged to.
    pub entry: EntryName,
    /// See `entry`.
    pub topic: Arc<str>,
    /// The cluster it was sent to.
    pub cluster: Arc<str>,
    /// Bytes charged.
    pub charged: usize,
    /// Records in it.
    pub records: u32,
    /// Number of the first of them among those of its line.
    pub first_number: u32,
    /// Sent again because it was refused before: a refusal now is a verdict.
    pub alone: bool,
    /// It carries dead letters: they are not refused a second time.
    pub dead_letter: bool,
}

/// All parcels of a shard that are on their way.
#[derive(Default)]
pub(super) struct Parcels {
    next: u64,
    notes: HashMap<u64, ParcelNote>,
}

impl Parcels {
    /// Remembers a parcel; the number is its tag.
    pub(super) fn add(&mut self, note: ParcelNote) -> u64 {
        self.next += 1;
        self.notes.insert(self.next, note);
        self.next
    }

    /// Forgets a parcel whose report came.
    pub(super) fn take(&mut self, tag: u64) -> Option<ParcelNote> {
        let note = self.notes.remove(&tag);
        if self.notes.is_empty() && self.notes.capacity() > ROOM_KEPT {
            self.notes.shrink_to(ROOM_KEPT); // what a burst of thousands of files needed is not kept
        }
        note
    }

    /// Records on their way, of all streams.
    pub(super) fn records(&self) -> u64 {
        self.notes.values().map(|note| u64::from(note.records)).sum()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Forgets what was sent to a cluster whose producer is gone, and gives it back.
    pub(super) fn forget_cluster(&mut self, cluster: &str) -> Vec<ParcelNote> {
        self.notes.extract_if(|_, note| *note.cluster == *cluster).map(|(_, note)| note).collect()
    }
}

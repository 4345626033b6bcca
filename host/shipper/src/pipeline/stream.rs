//! One file of one entry on its way: its reader, its chain, its progress and what it waits for.

use super::goes_on::GoesOn;
use super::line_numbers::LineNumbers;
use super::lineage::WaitFor;
use super::outgoing::Outgoing;
use super::recovery::Recovery;
use super::seat::Seat;
use super::streams::StreamIx;
use crate::checkpoint::{Progress, ResumePoint, StageSnapshot, StreamRecord};
use crate::filter::{ArmedChain, Chain};
use crate::model::{EntryName, LineCount};
use crate::observe::{FileLedger, StreamSnapshot, StreamState};
use std::collections::{BTreeSet, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_tail::{Batch, Evidence, FileKey, FileOffset, KnownFile, Reader, StreamKey};

/// A stream to which nothing came for so long needs no instances of its filters: longer than most writers pause.
const REST_AFTER: Duration = Duration::from_secs(10);

/// What a stream is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its file is where the entry looks for it.
    Reading,
    /// Its file was renamed, replaced or deleted: it is drained, and finished once it is quiet.
    Leaving,
    /// Nothing more is read: wait for what is under way, then report it finished.
    Finishing,
    /// As `Finishing`, but the file was truncated: its place holds a new generation.
    Truncated,
    /// As `Finishing`, but its entry let it go: report it closed.
    Closing,
    /// As `Closing`, but its file took too much of the disk after it was deleted: it is closed already.
    GivingUp {
        /// Size of the file when it was closed.
        size: FileOffset,
    },
}

/// Why a stream stands still although there is work.
#[derive(Clone, Debug)]
pub(super) struct Stuck {
    /// For people: what happened, where, and what would help.
    pub reason: String,
    /// The line that it stands at, where it is known.
    pub line: Option<FileOffset>,
    /// When to try again.
    pub retry_at: Instant,
}

/// One stream. Owned by its shard.
pub(super) struct Stream {
    pub key: StreamKey,
    pub ix: StreamIx,
    /// Rises with every rewind: reports for what was sent before are for nobody.
    pub incarnation: u32,
    pub armed: Arc<ArmedChain>,
    /// Taken over at the next batch boundary.
    pub next_armed: Option<Arc<ArmedChain>>,
    pub place: FileKey,
    pub path: Arc<Path>,
    pub home: Arc<Path>,
    /// Its real path when it was opened, where that is another one.
    pub target: Option<Arc<Path>>,
    pub reader: Reader,
    pub chain: Seat,
    /// It has, or may have, a batch on the lane.
    pub has_place: bool,
    /// It goes back to its mark as soon as its chain is here.
    pub goes_back: bool,
    /// Its filters' state was saved on the lane, and nothing has happened to it since.
    pub is_saved: bool,
    /// Housekeeping wanted its filters' state, or what they hold too long, while it was at work: at its next boundary.
    pub save_due: bool,
    pub call_in_due: bool,
    pub progress: Progress,
    pub life: Life,
    /// A batch in its hand: it waits for the file before, or was taken apart because a line of it is stepped over.
    pub rest: VecDeque<Batch>,
    /// Starts of lines that a person decided to leave out.
    pub step_over: BTreeSet<FileOffset>,
    /// Records whose topic is not known to the cluster yet.
    pub unsent: VecDeque<Outgoing>,
    pub recovery: Recovery,
    /// The line of the last record, and the number of the next one from the same line.
    pub numbered: Option<(FileOffset, u32)>,
    /// Of lines that are in the chain, when a header says them.
    pub line_numbers: Option<Box<LineNumbers>>,
    /// Topic and number, once chosen, for `partition: stream`.
    pub partition: Option<(String, i32)>,
    /// The file that had this path before: its last line goes first. When that one has ended, the one before it.
    pub predecessor: Option<StreamKey>,
    /// It has to find out whether it waits for the files before its own: it was opened, or has a new batch in its hand.
    pub must_ask: bool,
    pub waits_for: Vec<WaitFor>,
    /// The file has no name any more.
    pub gone: bool,
    /// It was reported as a deleted file that is not read to its end.
    pub pinned: bool,
    /// The file is shorter than it was, and nothing of it was read.
    pub shrank: bool,
    pub stuck: Option<Stuck>,
    /// Its file is finished but for a record of several lines that may go on in the next one.
    pub goes_on: Option<Box<GoesOn>>,
    /// Parcels on their way.
    pub outstanding: u32,
    /// The mark may have moved since the last record was made.
    pub dirty: bool,
    /// What was read and what became of it.
    pub counts: FileLedger,
    /// Since its last turn its filters' instances were put to rest, or had to stay.
    pub rest_tried: bool,
    /// It is among those whose filters have instances.
    pub lively: bool,
    /// It read something since it was looked at as one of those.
    pub read_since_seen: bool,
    /// Nothing complete was left to read when it was last looked at.
    pub at_end: bool,
    /// Bytes of an unfinished last line.
    pub partial_bytes: u64,
    /// When bytes were read last.
    pub read_at: Instant,
    /// Last moment at which all there was had been delivered.
    pub caught_up_at: Instant,
    /// Since when the file, read to its end, has shown nothing new.
    pub idle_since: Option<Instant>,
    /// A turn at which it may be closed as idle is arranged for.
    pub close_at: Option<Instant>,
    /// Since when a leaving file has shown nothing new.
    pub quiet_since: Option<Instant>,
    /// No more comes from the file, and the filters were told so.
    pub flushed: bool,
    /// Lines of a batch: follows the cost of the filters, up to `batch_lines_max`.
    pub batch_lines: usize,
    pub batch_lines_max: usize,
}

impl Stream {
    /// Name of the entry.
    pub(super) fn entry(&self) -> &EntryName {
        &self.armed.entry.name
    }

    /// The entry's own topic.
    pub(super) fn topic(&self) -> &Arc<str> {
        &self.armed.entry.topics[0]
    }

    /// Everything before has entered the chain.
    pub(super) fn position(&self) -> FileOffset {
        self.rest.front().map_or_else(|| self.reader.position(), |batch| batch.first_offset)
    }

    /// What may be forgotten of the file: everything before the mark is settled for good.
    pub(super) fn mark(&self) -> FileOffset {
        self.progress.mark(self.position(), self.chain.oldest_held())
    }

    /// Input that has no end yet: in the chain, held, or on its way.
    pub(super) fn pending(&self) -> LineCount {
        self.counts.pending()
    }

    /// Whether a successor of the same path has to wait for this one.
    pub(super) fn goes_first(&self) -> bool {
        !self.at_end
            || self.partial_bytes > 0
            || self.chain.oldest_held().is_some()
            || !self.unsent.is_empty()
            || !self.rest.is_empty()
            || self.recovery.is_active()
            || !self.chain.is_idle()
            || self.holds_next()
    }

    /// Whether there is nothing to do, to show or to write down for it until something happens.
    pub(super) fn may_sleep(&self) -> bool {
        self.life == Life::Reading
            && !self.dirty
            && !self.goes_first()
            && self.pending().is_zero()
            && self.outstanding == 0
            && self.stuck.is_none()
            && self.next_armed.is_none()
            && (self.rest_tried || !self.chain.at_rest().is_some_and(Chain::has_instances))
    }

    /// Nothing came for a while and nothing is on its way: its filters' instances may be put to rest.
    pub(super) fn may_rest(&self, now: Instant) -> bool {
        self.at_end
            && !self.rest_tried
            && self.outstanding == 0
            && self.rest.is_empty()
            && now.saturating_duration_since(self.read_at) >= REST_AFTER
            && self.chain.at_rest().is_some_and(Chain::has_instances)
    }

    /// What a person sees of it.
    pub(super) fn show(&self) -> StreamSnapshot {
        let position = self.reader.position();
        let state = if !self.unsent.is_empty() {
            StreamState::Waiting(format!("topic {} is not there, or its cluster cannot be reached", self.topic()))
        } else if let Some(stuck) = &self.stuck {
            StreamState::Blocked(stuck.reason.clone())
        } else if self.at_end && self.pending().is_zero() {
            StreamState::Idle
        } else {
            StreamState::Working
        };
        let size = self.size();
        let path = self.path.as_os_str().as_bytes().into();
        let (entry, mark) = (self.entry().clone(), self.mark());
        let loss = self.counts;
        StreamSnapshot { entry, file: self.key.file, path, read: position, mark, size, state, loss }
    }

    /// Size of the file when it was last looked at.
    pub(super) fn size(&self) -> FileOffset {
        let position = self.reader.position();
        match self.life {
            Life::GivingUp { size } => size,
            _ if self.at_end => position + self.partial_bytes,
            _ => self.reader.size().unwrap_or(position),
        }
    }

    /// Records that wait to be sent, or to be sent again.
    pub(super) fn unsent_records(&self) -> u64 {
        self.unsent.iter().map(|outgoing| outgoing.set.len() as u64).sum::<u64>() + self.recovery.len() as u64
    }

    /// The record that the store keeps.
    pub(super) fn record(&mut self, finished: bool, now_ms: i64) -> StreamRecord {
        let (position, held) = (self.position(), self.chain.oldest_held());
        if self.mark() == self.reader.position() && self.rest.is_empty() {
            // As much as there is: the beginning of the last batch would prove less, of a short file nothing.
            self.progress.note_boundary(self.reader.evidence());
        }
        let (resume, evidence) = self.progress.resume_point(position, held);
        StreamRecord {
            entry: self.key.entry.to_string(),
            file: self.key.file,
            path: self.path.to_path_buf(),
            home: self.home.to_path_buf(),
            target: self.target.as_deref().map(Path::to_path_buf),
            place: self.place,
            evidence,
            resume,
            partition: self.partition.clone(),
            finished,
            size_seen: self.size(),
            updated_ms: now_ms,
            blocked: self.stuck.as_ref().and_then(|stuck| stuck.line),
            step_over: self.step_over.iter().copied().collect(),
        }
    }

    /// Goes on from a snapshot whose offset the reader stands at. A chain that cannot take it (other filters now, and no
    /// one to take the lines it holds) begins at the oldest line that the snapshot holds.
    pub(super) fn restore(&mut self, offset: FileOffset, evidence: Evidence, stages: Vec<StageSnapshot>) {
        let Some(chain) = self.chain.here() else { return };
        match chain.restore_later(&stages, offset) {
            Ok(()) => self.progress.snapshot_taken(offset, evidence, stages),
            Err(fault) => {
                let oldest = stages.iter().filter_map(|stage| stage.oldest_held).min().unwrap_or(offset);
                tracing::warn!(
                    entry = %self.entry(), file = %self.path.display(), from = oldest,
                    "the saved filter state does not fit the chain any more ({fault}): reading again from the oldest line it held"
                );
                if oldest < offset && self.reader.rewind(oldest, Evidence::default()).is_ok() {
                    self.progress = Progress::new(oldest, self.reader.evidence());
                }
            }
        }
    }

    /// Back to the last resume point: what is under way is forgotten and read again. Whoever calls this has made sure
    /// that no record of the old incarnation can still overtake (its producer is gone, or nothing is outstanding), and
    /// that the chain is not away.
    pub(super) fn rewind(&mut self) -> Result<(), tailmill_tail::reader::ReadError> {
        let (position, held) = (self.position(), self.chain.oldest_held());
        let (resume, evidence) = self.progress.resume_point(position, held);
        self.reader.rewind(resume.offset(), evidence)?;
        self.incarnation += 1;
        self.chain.reset();
        self.progress = Progress::new(resume.offset(), evidence);
        if let ResumePoint::Snapshot { offset, stages } = resume {
            self.restore(offset, evidence, stages);
        }
        self.goes_on = None;
        self.unsent.clear();
        self.rest.clear();
        self.recovery = Recovery::default();
        self.numbered = None;
        self.line_numbers = None;
        self.outstanding = 0;
        self.at_end = false;
        self.must_ask = true;
        self.flushed = false;
        Ok(())
    }
}

/// What discovery needs to recognise the file later.
pub(super) fn known_file(key: &StreamKey, record: &StreamRecord) -> KnownFile {
    KnownFile {
        key: key.clone(),
        place: record.place,
        evidence: record.evidence,
        offset: record.resume.offset(),
        path: record.path.clone(),
        home: record.home.clone(),
        target: record.target.clone(),
        finished: record.finished,
        size_seen: record.size_seen,
        updated_ms: record.updated_ms,
    }
}

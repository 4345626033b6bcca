//! A record of several lines that is open at the end of a finished file and goes on in the file that came after it.
//!
//! In: a stream that is about to hand out such a record, and the stream of the next file, which waits for it. Out: the
//! whole record, handed out by the older one. The newer one passes over its part of it when that has come to its end:
//! both marks are written down at once, so neither part can get lost; at the worst the newer part comes again.
//!
//! ```text
//!   Asks ---- the next file begins with another record, or there is none ----> Alone ---> its last record is as it is
//!     |  ^
//!     |  +-- only lines of it so far: wait, as long as a join waits
//!     +------ the next file begins with the rest ----> With ---> Handed ---> settled: the next file passes it over
//! ```

use super::account;
use super::services::Services;
use super::shard::Shard;
use super::stream::{Life, Stream};
use super::streams::StreamIx;
use super::turn::Turn;
use crate::checkpoint::{CommitMessage, Progress};
use crate::model::LineCount;
use crate::observe::DropReason;
use std::time::Instant;
use tailmill_tail::reader::{Continuation, Part};
use tailmill_tail::{Evidence, FileOffset, StreamKey};

/// What is known of the record at the end.
#[derive(Debug)]
pub(super) enum GoesOn {
    /// It is open; the shard looks into the next file. So much of that was seen, and since when no more.
    Asks { record: Vec<u8>, seen: u64, since: Instant },
    /// Nothing of it is in another file.
    Alone,
    /// It goes on in the file of this stream.
    With { record: Vec<u8>, next: StreamKey, part: Part },
    /// It was handed out: everything before `upto`.
    Handed { next: StreamKey, part: Part, upto: FileOffset },
}

impl Stream {
    /// Whether the next file waits for what this one ends with.
    pub(super) fn holds_next(&self) -> bool {
        self.goes_on.as_deref().is_some_and(|goes_on| !matches!(goes_on, GoesOn::Alone))
    }

    /// A join waits for the next file before its time is over.
    pub(super) fn may_go_on(&self) -> bool {
        let settled = matches!(self.goes_on.as_deref(), Some(GoesOn::Alone | GoesOn::Handed { .. }));
        self.life == Life::Leaving && !settled && self.armed.entry.framing.multiline.is_some()
    }

    /// Something was read: what was known of the end is not true any more.
    pub(super) fn ends_otherwise(&mut self) {
        if !matches!(self.goes_on.as_deref(), Some(GoesOn::Handed { .. })) {
            self.goes_on = None;
        }
    }

    /// Before the record that is open at the end of a leaving file is handed out: whether it goes on in the next file.
    /// Some: what the turn comes to; None: it does not.
    pub(super) fn finish_across(&mut self, services: &mut Services) -> Option<Turn> {
        match self.goes_on.take().map(|goes_on| *goes_on) {
            None => match self.reader.open_record(&services.pool) {
                Ok(Some(record)) => {
                    self.goes_on = Some(Box::new(GoesOn::Asks { record, seen: 0, since: services.now }));
                    Some(Turn::AsksNext)
                }
                Ok(None) => {
                    self.goes_on = Some(Box::new(GoesOn::Alone));
                    None
                }
                Err(error) => Some(self.read_failed(error, services)),
            },
            Some(asks @ GoesOn::Asks { .. }) => {
                self.goes_on = Some(Box::new(asks));
                Some(Turn::AsksNext)
            }
            Some(GoesOn::With { record, next, part }) => {
                match self.reader.finish_with(&record, &part.text, &services.pool) {
                    Ok(Some(batch)) => {
                        let upto = batch.end_offset;
                        self.offer(batch, services);
                        self.goes_on = Some(Box::new(GoesOn::Handed { next, part, upto }));
                        Some(Turn::Again)
                    }
                    // It was written once more: from the beginning.
                    Ok(None) => Some(Turn::Again),
                    Err(error) => Some(self.read_failed(error, services)),
                }
            }
            Some(settled @ (GoesOn::Alone | GoesOn::Handed { .. })) => {
                self.goes_on = Some(Box::new(settled));
                None
            }
        }
    }

    /// Nothing of the file has entered the chain: a batch in the hand is put back.
    fn put_back(&mut self, services: &mut Services) -> bool {
        if self.position() != 0 {
            return false;
        }
        if self.reader.position() == 0 {
            return true;
        }
        account::rewound(self, services);
        self.rest.clear();
        self.at_end = false;
        self.reader.rewind(0, Evidence::default()).is_ok()
    }

    /// The beginning of the file was shipped with the record before it.
    fn pass(&mut self, part: &Part, services: &mut Services) -> bool {
        if !self.put_back(services) || !self.reader.pass(part, &services.pool).is_ok_and(|same| same) {
            return false;
        }
        self.progress = Progress::new(part.bytes, self.reader.evidence());
        self.dirty = true;
        let count = LineCount { lines: 0, bytes: part.bytes };
        self.counts.read += count;
        self.counts.dropped += count;
        let ledger = services.ledger(self.entry());
        ledger.read += count;
        ledger.drop_lines(DropReason::Joined, count);
        true
    }
}

impl Shard {
    /// Looks into the file that came after a stream's own, whose last record is open.
    pub(super) fn ask_next(&mut self, ix: StreamIx) {
        let now = self.services.now;
        let Some(stream) = self.streams.get_mut(ix) else { return };
        let (key, framing) = (stream.key.clone(), stream.armed.entry.framing.clone());
        let Some(GoesOn::Asks { record, seen, since }) = stream.goes_on.take().map(|goes_on| *goes_on) else { return };
        let timeout = framing.multiline.as_ref().map_or_else(Default::default, |multiline| multiline.timeout);
        let found = self.begins_with(&key, &record);
        let goes_on = match found {
            Some((next, Continuation::Whole(part))) => GoesOn::With { record, next, part },
            Some((next, Continuation::Open(part))) => {
                let since = if part.bytes == seen { since } else { now };
                let due = now.saturating_duration_since(since) >= timeout;
                match part.bytes {
                    _ if !due => {
                        self.schedule.at(since + timeout, ix);
                        GoesOn::Asks { record, seen: part.bytes, since }
                    }
                    0 => GoesOn::Alone,
                    _ => GoesOn::With { record, next, part },
                }
            }
            Some((_, Continuation::None)) | None => GoesOn::Alone,
        };
        if !matches!(goes_on, GoesOn::Asks { .. }) {
            self.schedule.ready(ix);
        }
        if let Some(stream) = self.streams.get_mut(ix) {
            stream.goes_on = Some(Box::new(goes_on));
        }
    }

    /// The file that came directly after that of `key`, and how it begins.
    fn begins_with(&mut self, key: &StreamKey, record: &[u8]) -> Option<(StreamKey, Continuation)> {
        let next = self.streams.behind(key).into_iter().next()?;
        let stream = self.streams.get_mut(next)?;
        if !stream.put_back(&mut self.services) {
            return None;
        }
        // What cannot be read says so when it is its turn.
        let found = stream.reader.continuation_of(record, &self.services.pool).ok()?;
        Some((stream.key.clone(), found))
    }

    /// The record was shipped: the next file passes over its part of it.
    pub(super) fn pass_on(&mut self, ix: StreamIx) {
        let Some(stream) = self.streams.get_mut(ix) else { return };
        let Some(GoesOn::Handed { upto, .. }) = stream.goes_on.as_deref() else { return };
        if stream.mark() < *upto {
            return;
        }
        let Some(GoesOn::Handed { next, part, .. }) = stream.goes_on.take().map(|goes_on| *goes_on) else { return };
        let now_ms = self.services.now_ms();
        let mut records = vec![stream.record(false, now_ms)];
        if let Some(next) = self.streams.find(&next).and_then(|next| self.streams.get_mut(next)) {
            if next.pass(&part, &mut self.services) {
                records.push(next.record(false, now_ms));
            } else {
                tracing::info!(entry = %next.entry(), file = %next.path.display(), "its beginning comes again");
            }
        }
        let _ = self.links.commits.send(CommitMessage::Commit { records, removed: Vec::new() });
    }
}

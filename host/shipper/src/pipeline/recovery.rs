//! Records that came back as refused.
//!
//! A broker refuses whole requests and what follows then fails out of order, so a refusal is no verdict on a record unless
//! it was sent alone. The stream stops, waits for everything it has under way, then sends the failed records again, one
//! at a time and in order. One that is acknowledged was innocent; one that is refused alone meets the entry's
//! `on_refused`.

use super::account;
use super::outgoing::{Outgoing, Way, dead_letter};
use super::parcels::ParcelNote;
use super::services::Services;
use super::stream::{Stream, Stuck};
use crate::checkpoint::Ticket;
use crate::deliver::{Refusal, numbers};
use crate::model::{LineCount, OnRefused, RecordSet};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// How long a record that is refused for good, with `on_refused: block`, rests before it is tried again: an operator may
/// have raised the broker's limit or granted a right meanwhile.
const BLOCKED_RETRY: Duration = Duration::from_secs(15);

/// The failed records of one stream, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    failed: BTreeMap<(u64, u32), Failed>,
    /// The first one is on its way, alone.
    on_trial: bool,
    /// Nothing is tried before this moment.
    not_before: Option<Instant>,
}

/// One failed record.
#[derive(Debug)]
struct Failed {
    set: RecordSet,
    /// Its number among the records of its line.
    number: u32,
    ticket: Ticket,
    way: Way,
    why: Refusal,
    /// It was refused alone: that is a verdict.
    tried: bool,
}

impl Recovery {
    /// Whether there is anything to recover: the stream sends nothing new meanwhile.
    pub(super) fn is_active(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Records that are not through yet.
    pub(super) fn len(&self) -> usize {
        self.failed.len()
    }
}

impl Stream {
    /// Records of a parcel that failed: `failed` are indices into `set`.
    pub(super) fn refused(&mut self, tag: u64, set: &RecordSet, note: &ParcelNote, failed: Vec<(u32, Refusal)>) {
        if self.recovery.on_trial {
            // The first one failed alone; it stays where it is.
            self.recovery.on_trial = false;
            if let (Some(mut first), Some((_, why))) = (self.recovery.failed.first_entry(), failed.into_iter().next()) {
                first.get_mut().why = why;
                first.get_mut().tried = true;
            }
            return;
        }
        let way = if note.dead_letter { Way::DeadLetter } else { Way::Alone };
        let numbers = numbers(&set.sources, note.first_number);
        for (index, why) in failed {
            let (set, number) = (set.single(index as usize), numbers[index as usize]);
            let one = Failed { set, number, ticket: note.ticket, way, why, tried: false };
            self.recovery.failed.insert((tag, index), one);
        }
    }

    /// The record on trial was acknowledged.
    pub(super) fn trial_passed(&mut self) {
        if std::mem::take(&mut self.recovery.on_trial) {
            self.recovery.failed.pop_first();
            self.stuck = None;
        }
    }

    /// One step: nothing until all is reported, then the next record alone. Returns when to come back, if by time.
    pub(super) fn recover(&mut self, services: &mut Services) -> Option<Instant> {
        if self.outstanding > 0 || self.recovery.on_trial {
            return None;
        }
        if let Some(moment) = self.recovery.not_before.filter(|moment| *moment > services.now) {
            return Some(moment);
        }
        if self.recovery.failed.first_key_value().is_some_and(|(_, first)| first.tried) {
            self.recovery.not_before = self.judge(services);
            if self.recovery.not_before.is_some() {
                return self.recovery.not_before;
            }
        }
        let (_, first) = self.recovery.failed.first_key_value()?;
        let (set, first_number) = (first.set.clone(), first.number);
        let outgoing = Outgoing { set, first_number, ticket: first.ticket, way: first.way };
        if self.send(outgoing, services).is_err() {
            return Some(services.now + services.settings.topic_retry);
        }
        services.ledger(self.entry()).records_retried += 1;
        self.recovery.on_trial = true;
        None
    }

    /// The first record was refused alone: its policy. `Some`: it rests until then and is tried again.
    fn judge(&mut self, services: &mut Services) -> Option<Instant> {
        let mut entry = self.recovery.failed.first_entry()?;
        let key = *entry.key();
        let first = entry.get_mut();
        first.tried = false;
        if !first.why.for_good {
            return Some(services.now + services.settings.topic_retry);
        }
        let policy = if first.way == Way::DeadLetter { OnRefused::Block } else { self.armed.entry.on_refused };
        let offset = first.set.sources[0];
        match policy {
            OnRefused::Block => {
                let reason = format!(
                    "kafka refuses the record of the line at offset {offset} of {}: {} (on_refused is \"block\": raise the \
                     limit, grant the right, change the entry, or step over the line with `tailmill state step-over`)",
                    self.path.display(),
                    first.why.message
                );
                let retry_at = services.now + BLOCKED_RETRY;
                account::stuck(self, services, &reason);
                self.stuck = Some(Stuck { reason, line: Some(offset), retry_at });
                self.dirty = true;
                Some(retry_at)
            }
            OnRefused::Drop => {
                if let Some(failed) = self.recovery.failed.remove(&key) {
                    // A raw record is its line without the newline; the ticket bounds the count for any other.
                    let line = LineCount::one(failed.set.value_bytes() + 1);
                    account::dropped_refused(self, failed.ticket, line, services);
                }
                None
            }
            OnRefused::DeadLetter => {
                if let Some(first) = self.recovery.failed.get_mut(&key) {
                    let facts = [
                        ("tailmill.entry", self.armed.entry.name.as_bytes().to_vec()),
                        ("tailmill.file", self.path.as_os_str().as_bytes().to_vec()),
                        ("tailmill.offset", offset.to_string().into_bytes()),
                        ("tailmill.kind", b"refused".to_vec()),
                        ("tailmill.message", first.why.message.clone().into_bytes()),
                    ];
                    first.set = dead_letter(first.set.value(0).to_vec(), offset, facts);
                    first.way = Way::DeadLetter;
                }
                None
            }
        }
    }
}

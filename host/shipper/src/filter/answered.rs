//! What work in a chain came to.
//!
//! The rule of the count, for every input line of a stream (a line of its file, terminator included):
//!
//! - it is **carried** by the first answer in which a record or a dead letter names it as its source;
//! - else it is **dropped** when `on_error = drop` took it;
//! - else it is **filtered** as soon as no stage can still hold it, that is, when the oldest line that any stage holds
//!   is younger (lines that were joined into an older one end here);
//! - until then it is **pending**.
//!
//! Each line is counted once, so over all answers: input = carries + filtered + dropped + [`super::Chain::pending`].
//! Lines that came out of a restored state were read by an earlier process and count nowhere.

use crate::model::{BreakerThen, LineCount, RecordSet};
use std::sync::Arc;
use std::time::Instant;
use tailmill_engine::{Digest, Fault, FaultKind, HostNotes};
use tailmill_tail::FileOffset;

/// What a batch, a tick or a flush came to.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// In order; one set a buffer.
    pub records: Vec<RecordSet>,
    /// In order.
    pub dead_letters: Vec<DeadLetter>,
    /// The oldest source of any record or dead letter.
    pub floor: Option<FileOffset>,
    /// Input lines that the records and dead letters deliver.
    pub carries: LineCount,
    /// Input lines that filters let fall or joined into an older one.
    pub filtered: LineCount,
    /// Input lines that `on_error = drop` took.
    pub dropped: LineCount,
    /// Lines that went on unchanged because of `on_error = pass`, or past a filter whose breaker is open.
    pub passed_lines: u64,
}

impl Answered {
    /// Whether nothing came of it, not even a count.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.dead_letters.is_empty()
            && self.carries.is_zero()
            && self.filtered.is_zero()
            && self.dropped.is_zero()
            && self.passed_lines == 0
    }
}

/// A line that a filter failed on, under `on_error = dead-letter`.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Where its oldest input line begins in the file.
    pub source: FileOffset,
    /// The line as it came into the stage.
    pub line: Vec<u8>,
    /// Place of the filter in the chain, from 0.
    pub stage: usize,
    /// The filter's name.
    pub filter: Arc<str>,
    /// Its module.
    pub digest: Digest,
    /// What went wrong.
    pub kind: FaultKind,
    /// For people.
    pub message: String,
    /// The part of [`Answered::carries`] that this letter is the first to deliver (nothing, when a record of the same
    /// line went out before).
    pub count: LineCount,
}

/// How far a step got.
#[derive(Debug)]
pub enum Step {
    /// Out of time: call again.
    Working,
    /// All work is done.
    Done(Answered),
    /// The stream cannot go on: a guilty line under `on_error = block`, or a filter that does not start or come back
    /// (then no line is guilty and no line policy applies). Nothing behind `line` was processed. Calling `step` again
    /// tries the same line again.
    Blocked {
        /// What the lines before came to.
        so_far: Answered,
        /// The oldest line that waits.
        line: FileOffset,
        /// What went wrong.
        fault: Fault,
        /// Place of the filter in the chain, from 0.
        stage: usize,
        /// The filter's breaker is open: before this moment it is not asked again. `fault` is what opened it.
        until: Option<Instant>,
    },
}

/// Something a person may want to know of.
#[derive(Clone, Debug)]
pub struct StageEvent {
    /// Place of the filter in the chain, from 0.
    pub stage: usize,
    /// The filter's name.
    pub filter: Arc<str>,
    /// What happened.
    pub what: What,
}

/// See [`StageEvent`].
#[derive(Clone, Debug)]
pub enum What {
    /// A call failed; the instance was replaced.
    Fault(Fault),
    /// So many more did, of which there is no event: there were too many.
    MoreFaults(u64),
    /// What the guest logged, printed and counted.
    Notes(HostNotes),
    /// Its memory had grown near its limit: another instance goes on.
    Grown,
    /// It failed on too many lines and is left alone for a while.
    BreakerOpened {
        /// So many.
        faults: u32,
        /// What happens to the lines meanwhile.
        then: BreakerThen,
        /// How long, in seconds.
        seconds: u64,
        /// The last of the faults.
        fault: Fault,
    },
    /// It works again.
    BreakerClosed,
}

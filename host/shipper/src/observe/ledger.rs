//! The counters of one shard: plain numbers with one owner, no atomics and no locks. A shard adds to them while it
//! works, and a few times a second publishes a clone ([`ShardSnapshot`]) to the board, where the shards are added up.
//!
//! The loss equation, for each entry, in lines and in bytes of the file (terminators included):
//!
//! ```text
//! read = delivered + filtered + dropped{reason} + rewound + pending
//! ```
//!
//! Everything but `pending` only rises. `rewound` is what was still pending when a stream went back to its mark: it is
//! read again and counted again. A snapshot is taken between two turns, so the equation holds in every one of them.
//! What an oracle believes must never come from here: it looks at Kafka and at the files.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use tailmill_engine::{Digest, FaultKind};
use tailmill_tail::{FileId, FileOffset};

use super::file_ledger::FileLedger;
use crate::model::{EntryName, LineCount};

/// Names of counters that one filter of one entry may have; further names are counted in `guest_counters_refused`.
pub const GUEST_COUNTERS_MAX: usize = 32;

/// Length of such a name, in bytes; longer ones are refused too.
pub const GUEST_COUNTER_NAME_MAX: usize = 64;

/// Streams that a snapshot lists one by one. The rest is only in the sums: a machine may have 100,000 files.
pub const STREAMS_LISTED_MAX: usize = 256;

/// Why a line was dropped although no filter said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// Longer than `line_max_bytes` and the entry says `skip`.
    TooLong,
    /// A filter failed on it and `on_error` says `drop`.
    FilterError,
    /// Kafka refused it and `on_refused` says `drop`.
    Refused,
    /// A person stepped over it (`tailmill state step-over`).
    SteppedOver,
    /// Bytes of a file that begin it and belong to the last record of the file before: shipped with that.
    Joined,
}

impl DropReason {
    /// Every reason, in a fixed order.
    pub const ALL: [DropReason; 5] = [
        DropReason::TooLong,
        DropReason::FilterError,
        DropReason::Refused,
        DropReason::SteppedOver,
        DropReason::Joined,
    ];

    /// The name used in metrics, status and logs.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::TooLong => "too-long",
            DropReason::FilterError => "filter-error",
            DropReason::Refused => "refused",
            DropReason::SteppedOver => "stepped-over",
            DropReason::Joined => "joined",
        }
    }
}

/// The newest error of an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LastError {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// As it was logged.
    pub message: String,
}

/// What one shard counts for one entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryLedger {
    /// Handed out by the tail room, repeats included.
    pub read: LineCount,
    /// Acknowledged by Kafka (also on the dead-letter topic).
    pub delivered: LineCount,
    /// Dropped by a filter's verdict, or joined into another line.
    pub filtered: LineCount,
    /// Dropped for another reason; indexed by [`DropReason`]. Use [`EntryLedger::drop_lines`].
    pub dropped: [LineCount; DropReason::ALL.len()],
    /// Was pending when a stream went back to its mark; counted again when read again.
    pub rewound: LineCount,
    /// Gauge: read and not yet resolved (in work, held by a filter, or waiting for an acknowledgement).
    pub pending: LineCount,

    /// Records that Kafka acknowledged.
    pub records_acked: u64,
    /// Bytes of their values.
    pub records_acked_bytes: u64,
    /// Records that Kafka refused for good.
    pub records_refused: u64,
    /// Records that were sent again after a failure that may pass.
    pub records_retried: u64,
    /// Records acknowledged on the dead-letter topic.
    pub dead_letters: u64,
    /// Lines shipped as they were because a filter failed on them (`on_error` = `pass`).
    pub passed_lines: u64,
    /// Lines delivered shortened because they were too long.
    pub cut_lines: u64,
    /// What was malformed in the encoding of its file and is delivered as U+FFFD.
    pub malformed: u64,
    /// Bytes of files that went away before they could be read. Not in the equation: they were never read.
    pub lost_bytes: u64,

    /// Gauge: bytes in the files behind the marks.
    pub lag_bytes: u64,
    /// Gauge: how long the oldest of these bytes has been waiting. Merged by the greatest.
    pub lag_ms: u64,
    /// Gauge: open streams.
    pub streams: u64,
    /// Gauge: streams held by `block`.
    pub blocked_streams: u64,
    /// Gauge: streams that wait because their topic is down, missing or behind.
    pub waiting_streams: u64,
    /// The newest error.
    pub last_error: Option<LastError>,
    /// One for each place in the chain and module that ever stood there.
    pub filters: Vec<FilterLedger>,
}

impl EntryLedger {
    /// Counts dropped lines.
    pub fn drop_lines(&mut self, reason: DropReason, lines: LineCount) {
        self.dropped[reason as usize] += lines;
    }

    /// What was dropped for one reason.
    pub fn dropped_for(&self, reason: DropReason) -> LineCount {
        self.dropped[reason as usize]
    }

    /// What was dropped for any reason.
    pub fn dropped_total(&self) -> LineCount {
        self.dropped.iter().fold(LineCount::default(), |sum, count| sum + *count)
    }

    /// Notes an error; the newest one is kept.
    pub fn error(&mut self, at_ms: i64, message: impl Into<String>) {
        self.last_error = Some(LastError { at_ms, message: message.into() });
    }

    /// The counters of the filter at this place (from 0) of the chain. A swapped module gets counters of its own.
    pub fn filter(&mut self, place: usize, name: &Arc<str>, digest: Digest) -> &mut FilterLedger {
        let known = self.filters.iter().position(|filter| filter.is(place, name, digest));
        let at = known.unwrap_or_else(|| {
            self.filters.push(FilterLedger::new(place, name.clone(), digest));
            self.filters.len() - 1
        });
        &mut self.filters[at]
    }

    /// What the equation cannot explain, in lines and bytes; (0, 0) when it balances. Positive: lost from sight.
    pub fn unaccounted(&self) -> (i128, i128) {
        let explained = [self.delivered, self.filtered, self.dropped_total(), self.rewound, self.pending];
        let sum = |of: fn(&LineCount) -> u64| explained.iter().map(|count| i128::from(of(count))).sum::<i128>();
        (i128::from(self.read.lines) - sum(|count| count.lines), i128::from(self.read.bytes) - sum(|count| count.bytes))
    }

    /// Whether read = delivered + filtered + dropped + rewound + pending.
    pub fn is_balanced(&self) -> bool {
        self.unaccounted() == (0, 0)
    }
}

impl AddAssign<&EntryLedger> for EntryLedger {
    fn add_assign(&mut self, other: &EntryLedger) {
        self.read += other.read;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        for (sum, count) in self.dropped.iter_mut().zip(&other.dropped) {
            *sum += *count;
        }
        self.rewound += other.rewound;
        self.pending += other.pending;
        self.records_acked += other.records_acked;
        self.records_acked_bytes += other.records_acked_bytes;
        self.records_refused += other.records_refused;
        self.records_retried += other.records_retried;
        self.dead_letters += other.dead_letters;
        self.passed_lines += other.passed_lines;
        self.cut_lines += other.cut_lines;
        self.malformed += other.malformed;
        self.lost_bytes += other.lost_bytes;
        self.lag_bytes += other.lag_bytes;
        self.lag_ms = self.lag_ms.max(other.lag_ms);
        self.streams += other.streams;
        self.blocked_streams += other.blocked_streams;
        self.waiting_streams += other.waiting_streams;
        self.last_error = self.last_error.take().max(other.last_error.clone());
        for filter in &other.filters {
            *self.filter(filter.place, &filter.name, filter.digest) += filter;
        }
    }
}

/// What one shard counts for one module at one place of one entry's chain: the cost ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterLedger {
    /// Place in the chain, from 0.
    pub place: usize,
    /// Name as written in `use`.
    pub name: Arc<str>,
    /// The module.
    pub digest: Digest,
    /// Calls into the module (batches, ticks, flushes, and those of bisection).
    pub calls: u64,
    /// Lines offered to it.
    pub lines_in: u64,
    /// Bytes of these lines, terminators left out.
    pub bytes_in: u64,
    /// Lines that went on as they were.
    pub kept: u64,
    /// Lines it dropped.
    pub dropped: u64,
    /// Lines it wrote in place of others.
    pub emitted: u64,
    /// Bytes of all lines that went on, kept or emitted.
    pub bytes_out: u64,
    /// Lines that never reached it because they hold none of its needles.
    pub skipped_by_needle: u64,
    /// Failed calls; indexed by [`FaultKind`]. Use [`FilterLedger::fault`].
    pub faults: [u64; FaultKind::ALL.len()],
    /// Time spent in calls, in nanoseconds.
    pub busy_ns: u64,
    /// Most memory that an instance had. Merged by the greatest.
    pub memory_peak_bytes: u64,
    /// Instances made anew, after a fault or because they had grown.
    pub recycles: u64,
    /// Instances put to rest because nothing came.
    pub rests: u64,
    /// Times that its breaker opened.
    pub breaker_opened: u64,
    /// Lines that went past it while its breaker was open.
    pub bypassed: u64,
    /// Times that this module replaced another in a running chain.
    pub swaps: u64,
    /// Bytes of log and print output that were not passed on because there was too much of it.
    pub notes_suppressed: u64,
    /// Counters that the filter keeps itself.
    pub guest_counters: BTreeMap<String, u64>,
    /// Counts under names beyond [`GUEST_COUNTERS_MAX`] or longer than [`GUEST_COUNTER_NAME_MAX`].
    pub guest_counters_refused: u64,
}

impl FilterLedger {
    /// All zero.
    pub fn new(place: usize, name: Arc<str>, digest: Digest) -> Self {
        FilterLedger {
            place,
            name,
            digest,
            calls: 0,
            lines_in: 0,
            bytes_in: 0,
            kept: 0,
            dropped: 0,
            emitted: 0,
            bytes_out: 0,
            skipped_by_needle: 0,
            faults: [0; FaultKind::ALL.len()],
            busy_ns: 0,
            memory_peak_bytes: 0,
            recycles: 0,
            rests: 0,
            breaker_opened: 0,
            bypassed: 0,
            swaps: 0,
            notes_suppressed: 0,
            guest_counters: BTreeMap::new(),
            guest_counters_refused: 0,
        }
    }

    /// Counts a failed call.
    pub fn fault(&mut self, kind: FaultKind) {
        self.faults[kind as usize] += 1;
    }

    /// Failed calls of one kind.
    pub fn faults_of(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize]
    }

    /// Failed calls of any kind.
    pub fn faults_total(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Notes how much memory an instance has now.
    pub fn memory(&mut self, bytes: usize) {
        self.memory_peak_bytes = self.memory_peak_bytes.max(bytes as u64);
    }

    /// Adds to one of the filter's own counters.
    pub fn guest_count(&mut self, name: &str, by: u64) {
        if let Some(counter) = self.guest_counters.get_mut(name) {
            // The guest chooses the number: it must not be able to overflow us into a panic.
            *counter = counter.saturating_add(by);
        } else if self.guest_counters.len() < GUEST_COUNTERS_MAX && name.len() <= GUEST_COUNTER_NAME_MAX {
            self.guest_counters.insert(name.to_owned(), by);
        } else {
            self.guest_counters_refused += 1;
        }
    }

    fn is(&self, place: usize, name: &str, digest: Digest) -> bool {
        self.place == place && self.digest == digest && *self.name == *name
    }
}

impl AddAssign<&FilterLedger> for FilterLedger {
    fn add_assign(&mut self, other: &FilterLedger) {
        self.calls += other.calls;
        self.lines_in += other.lines_in;
        self.bytes_in += other.bytes_in;
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.emitted += other.emitted;
        self.bytes_out += other.bytes_out;
        self.skipped_by_needle += other.skipped_by_needle;
        for (sum, count) in self.faults.iter_mut().zip(&other.faults) {
            *sum += *count;
        }
        self.busy_ns += other.busy_ns;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.recycles += other.recycles;
        self.rests += other.rests;
        self.breaker_opened += other.breaker_opened;
        self.bypassed += other.bypassed;
        self.swaps += other.swaps;
        self.notes_suppressed += other.notes_suppressed;
        for (name, by) in &other.guest_counters {
            self.guest_count(name, *by);
        }
        self.guest_counters_refused += other.guest_counters_refused;
    }
}

/// What a stream is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// There is more to read, or something in work.
    Working,
    /// Read to the end and acknowledged.
    Idle,
    /// Cannot send for a reason that will pass (topic missing, cluster down, too much in flight).
    Waiting(String),
    /// Held by `block` until someone acts.
    Blocked(String),
}

/// One stream at the time of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSnapshot {
    /// Its entry.
    pub entry: EntryName,
    /// Its file generation.
    pub file: FileId,
    /// Where the file is now.
    pub path: Arc<[u8]>,
    /// Next byte to read.
    pub read: FileOffset,
    /// Where a restart would begin.
    pub mark: FileOffset,
    /// Size of the file when last looked at.
    pub size: u64,
    /// What it is doing.
    pub state: StreamState,
    /// Where its lines went.
    pub loss: FileLedger,
}

/// What a shard counts for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Turns given to streams.
    pub turns: u64,
    /// Batches read.
    pub batches: u64,
    /// Time spent in turns (not waiting), in nanoseconds.
    pub busy_ns: u64,
    /// Gauge: bytes pinned by records on their way.
    pub inflight_bytes: u64,
    /// Gauge: records on their way.
    pub inflight_records: u64,
}

/// Everything a shard publishes at once, taken between two turns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardSnapshot {
    /// A ledger for each entry that the shard ever had a stream of.
    pub entries: BTreeMap<EntryName, EntryLedger>,
    /// At most [`STREAMS_LISTED_MAX`] streams; blocked ones first, then waiting, then those furthest behind.
    pub streams: Vec<StreamSnapshot>,
    /// The shard's own.
    pub totals: ShardTotals,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(lines: u64, bytes: u64) -> LineCount {
        LineCount { lines, bytes }
    }

    #[test]
    fn the_equation_balances_only_when_every_term_is_there() {
        let mut ledger = EntryLedger { read: count(10, 100), ..Default::default() };
        assert_eq!(ledger.unaccounted(), (10, 100));
        ledger.delivered = count(4, 40);
        ledger.filtered = count(3, 30);
        ledger.drop_lines(DropReason::Refused, count(1, 9));
        ledger.rewound = count(1, 11);
        assert_eq!(ledger.unaccounted(), (1, 10));
        ledger.pending = count(1, 10);
        assert!(ledger.is_balanced());
        ledger.delivered = count(5, 40);
        assert_eq!(ledger.unaccounted(), (-1, 0));
    }

    #[test]
    fn merging_adds_counters_takes_the_greatest_lag_and_the_newest_error() {
        let digest = Digest::of(b"a");
        let name: Arc<str> = "grep".into();
        let mut one = EntryLedger { read: count(1, 2), lag_ms: 5, lag_bytes: 7, ..Default::default() };
        one.error(20, "newer");
        one.filter(0, &name, digest).fault(FaultKind::Timeout);
        one.filter(0, &name, digest).memory(100);
        let mut two = EntryLedger { read: count(3, 4), lag_ms: 9, lag_bytes: 1, ..Default::default() };
        two.error(10, "older");
        two.filter(0, &name, digest).fault(FaultKind::Timeout);
        two.filter(0, &name, digest).memory(50);
        two.filter(0, &name, Digest::of(b"b")).calls = 1;
        let mut reversed = one.clone();
        reversed += &two;
        two += &one;
        assert_eq!(reversed.last_error, two.last_error);
        assert_eq!((two.read, two.lag_ms, two.lag_bytes), (count(4, 6), 9, 8));
        assert_eq!(two.last_error, Some(LastError { at_ms: 20, message: "newer".into() }));
        assert_eq!(two.filters.len(), 2, "a swapped module has counters of its own");
        assert_eq!((two.filters[0].faults_of(FaultKind::Timeout), two.filters[0].memory_peak_bytes), (2, 100));
    }

    #[test]
    fn a_guest_can_neither_overflow_a_counter_nor_fill_the_memory_with_names() {
        let mut filter = FilterLedger::new(0, "f".into(), Digest::of(b""));
        filter.guest_count("n", u64::MAX);
        filter.guest_count("n", 1);
        assert_eq!(filter.guest_counters["n"], u64::MAX);
        for i in 0..100 {
            filter.guest_count(&format!("name {i}"), 1);
        }
        assert_eq!((filter.guest_counters.len(), filter.guest_counters_refused), (GUEST_COUNTERS_MAX, 69));
    }

    #[test]
    fn indices_of_reasons_and_fault_kinds_are_their_places_in_the_lists() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
        for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
    }
}

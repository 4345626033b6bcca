//! `/status`: the state of this agent as one JSON document, and the same types for whoever reads it.
//!
//! The document is stable: fields are added, never renamed or removed, and a reader ignores what it does not know.
//! Times are milliseconds since the Unix epoch where the name ends in `_ms`; paths are UTF-8 with replacement
//! characters. Made from a view; pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailmill_engine::FaultKind;

use crate::model::{LineCount, Problem};
use crate::observe::file_ledger::FileLedger;
use crate::observe::ledger::{DropReason, EntryLedger, FilterLedger, LastError, StreamSnapshot, StreamState};
use crate::observe::version;
use crate::observe::view::{EntryView, FileProblem, HealthView, View};

/// Rises when a reader must look again at what the fields mean.
pub const SCHEMA: u32 = 1;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// [`SCHEMA`] of the agent that wrote it.
    pub schema: u32,
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// When the document was made.
    pub now_ms: i64,
    /// When the agent started.
    pub started_ms: i64,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Whether it is stopping.
    pub stopping: bool,
    /// As `/readyz` says.
    pub ready: bool,
    /// Why it is not ready.
    pub not_ready: Vec<String>,
    /// The plan in force; none before the first.
    pub plan: Option<PlanStatus>,
    /// Sums over all entries.
    pub total: EntryStatus,
    /// One for each entry in the plan or counted for since the start.
    pub entries: Vec<EntryStatus>,
    /// Streams, the worst first; a bounded number of them.
    pub streams: Vec<StreamStatus>,
    /// What the agent depends on.
    pub health: Vec<HealthStatus>,
    /// Files that match an entry and cannot be read.
    pub file_problems: Vec<FileProblemStatus>,
    /// How many more of them there are.
    pub file_problems_unlisted: u64,
    /// What else a person should know.
    pub notices: Vec<ErrorStatus>,
}

/// The plan in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanStatus {
    /// Rises with every change.
    pub revision: u64,
    /// What is refused in what was written.
    pub problems: Vec<Problem>,
}

/// One entry, or the sum of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntryStatus {
    /// Its name; empty in the sum.
    pub name: String,
    /// Whether it is in the plan in force.
    pub in_plan: bool,
    /// Its own topic.
    pub topic: String,
    /// Its cluster.
    pub cluster: String,
    /// Where it was written.
    pub origin: String,
    /// Digests of the chain in force, in order.
    pub modules: Vec<String>,
    /// Where every line and byte went.
    pub loss: LossStatus,
    /// What Kafka said.
    pub records: RecordStatus,
    /// Lines shipped as they came because a filter failed on them.
    pub passed_lines: u64,
    /// Lines shipped shortened.
    pub cut_lines: u64,
    /// What was malformed in the encoding of its file and was delivered as U+FFFD.
    pub malformed: u64,
    /// Bytes behind the marks.
    pub lag_bytes: u64,
    /// How long the oldest of these has waited.
    pub lag_ms: u64,
    /// Open files.
    pub streams: u64,
    /// Of these, held by a block policy.
    pub blocked_streams: u64,
    /// Of these, waiting for their topic or cluster.
    pub waiting_streams: u64,
    /// How fast.
    pub rates: RateStatus,
    /// The newest error.
    pub last_error: Option<ErrorStatus>,
    /// The chain, and modules that stood in it before.
    pub filters: Vec<FilterStatus>,
}

/// read = delivered + filtered + dropped + rewound + pending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossStatus {
    /// Read from files, repeats included.
    pub read: LineCount,
    /// Acknowledged by Kafka.
    pub delivered: LineCount,
    /// Dropped or joined by a filter's verdict.
    pub filtered: LineCount,
    /// Dropped for another reason, by reason. Reasons without a line are left out.
    pub dropped: BTreeMap<String, LineCount>,
    /// Pending when a stream went back to its mark, read again afterwards.
    pub rewound: LineCount,
    /// Not yet resolved.
    pub pending: LineCount,
    /// Whether the equation holds.
    pub balanced: bool,
    /// Lines it cannot explain; positive: lost from sight.
    pub unaccounted_lines: i64,
    /// Bytes it cannot explain.
    pub unaccounted_bytes: i64,
    /// Bytes of files that were nowhere any more before they were shipped. Beside the equation: they were never read.
    pub lost_bytes: u64,
}

/// What Kafka said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordStatus {
    /// Acknowledged.
    pub acked: u64,
    /// Bytes of their values.
    pub acked_bytes: u64,
    /// Refused for good.
    pub refused: u64,
    /// Sent again.
    pub retried: u64,
    /// Acknowledged on the dead-letter topic.
    pub dead_letters: u64,
}

/// Per second, over the last few seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateStatus {
    /// Lines read.
    pub read_lines: f64,
    /// Bytes read.
    pub read_bytes: f64,
    /// Lines delivered.
    pub delivered_lines: f64,
    /// Records acknowledged.
    pub acked_records: f64,
    /// Bytes of their values.
    pub acked_bytes: f64,
}

/// One module at one place of an entry's chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterStatus {
    /// Place in the chain, from 0.
    pub place: usize,
    /// Name.
    pub name: String,
    /// Digest of the module.
    pub digest: String,
    /// Calls into it.
    pub calls: u64,
    /// Lines offered.
    pub lines_in: u64,
    /// Bytes offered.
    pub bytes_in: u64,
    /// Bytes that went on.
    pub bytes_out: u64,
    /// Lines that went on as they were.
    pub kept: u64,
    /// Lines dropped.
    pub dropped: u64,
    /// Lines written in place of others.
    pub emitted: u64,
    /// Lines decided without a call because they hold no needle.
    pub skipped_by_needle: u64,
    /// Failed calls by kind. Kinds without a fault are left out.
    pub faults: BTreeMap<String, u64>,
    /// Time spent in calls.
    pub busy_ns: u64,
    /// Most memory that an instance had.
    pub memory_peak_bytes: u64,
    /// Instances made anew, after a fault or because they had grown.
    pub recycles: u64,
    /// Instances put to rest because nothing came.
    pub rests: u64,
    /// Times that its breaker opened.
    pub breaker_opened: u64,
    /// Lines that went past it while its breaker was open.
    pub bypassed: u64,
    /// Times it replaced another module.
    pub swaps: u64,
    /// Counters that it keeps itself.
    pub counters: BTreeMap<String, u64>,
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamStatus {
    /// Its entry.
    pub entry: String,
    /// Its file generation, as `tailmill state show` names it.
    pub file: String,
    /// Where the file is now.
    pub path: String,
    /// Next byte to read.
    pub read: u64,
    /// Where a restart would begin.
    pub mark: u64,
    /// Size of the file.
    pub size: u64,
    /// `working`, `idle`, `waiting` or `blocked`.
    pub state: String,
    /// Why it waits or is blocked.
    pub reason: Option<String>,
    /// Where its lines went, since this agent opened it.
    pub loss: FileLoss,
}

/// The loss equation of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileLoss {
    /// What came to an end.
    #[serde(flatten)]
    pub ledger: FileLedger,
    /// Not yet resolved.
    pub pending: LineCount,
}

/// Something that the agent depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthStatus {
    /// For people: `cluster default`, `state store`, `etcd`.
    pub part: String,
    /// Whether it is well.
    pub ok: bool,
    /// What is wrong.
    pub message: Option<String>,
    /// Since when it is so.
    pub since_ms: i64,
}

/// A file that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileProblemStatus {
    /// The entry that wants it.
    pub entry: String,
    /// The file.
    pub path: String,
    /// Why not.
    pub message: String,
}

/// Something that was logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorStatus {
    /// When.
    pub at_ms: i64,
    /// What.
    pub message: String,
}

impl Status {
    /// The document for a view.
    pub fn of(view: &View) -> Status {
        let not_ready = view.not_ready();
        let (ledger, rates) = view.total();
        let total = EntryView { ledger, rates, ..EntryView::new("".into()) };
        // The chains of different entries have nothing in common that a sum could show.
        let total = EntryStatus { filters: vec![], ..entry(&total) };
        Status {
            schema: SCHEMA,
            node: view.node.clone(),
            version: version::long().to_owned(),
            now_ms: view.now_ms,
            started_ms: view.started_ms,
            uptime_ms: u64::try_from(view.uptime.as_millis()).unwrap_or(u64::MAX),
            stopping: view.stopping,
            ready: not_ready.is_empty(),
            not_ready,
            plan: view
                .plan
                .as_ref()
                .map(|(revision, problems)| PlanStatus { revision: *revision, problems: problems.clone() }),
            total,
            entries: view.entries.iter().map(entry).collect(),
            streams: view.streams.iter().map(stream).collect(),
            health: view.health.iter().map(health).collect(),
            file_problems: view.file_problems.iter().map(file_problem).collect(),
            file_problems_unlisted: view.file_problems_unlisted,
            notices: view.notices.iter().map(error).collect(),
        }
    }
}

impl LossStatus {
    /// Dropped for any reason.
    pub fn dropped_total(&self) -> LineCount {
        self.dropped.values().fold(LineCount::default(), |sum, count| sum + *count)
    }

    fn of(ledger: &EntryLedger) -> LossStatus {
        let clamp = |n: i128| i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX });
        let (lines, bytes) = ledger.unaccounted();
        let reasons = DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), ledger.dropped_for(*reason)));
        LossStatus {
            read: ledger.read,
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            dropped: reasons.filter(|(_, count)| !count.is_zero()).collect(),
            rewound: ledger.rewound,
            pending: ledger.pending,
            balanced: ledger.is_balanced(),
            unaccounted_lines: clamp(lines),
            unaccounted_bytes: clamp(bytes),
            lost_bytes: ledger.lost_bytes,
        }
    }
}

fn entry(view: &EntryView) -> EntryStatus {
    let ledger = &view.ledger;
    let facts = view.facts.clone().unwrap_or_default();
    EntryStatus {
        name: view.name.to_string(),
        in_plan: view.facts.is_some(),
        topic: facts.topic,
        cluster: facts.cluster,
        origin: facts.origin,
        modules: facts.modules,
        loss: LossStatus::of(ledger),
        records: RecordStatus {
            acked: ledger.records_acked,
            acked_bytes: ledger.records_acked_bytes,
            refused: ledger.records_refused,
            retried: ledger.records_retried,
            dead_letters: ledger.dead_letters,
        },
        passed_lines: ledger.passed_lines,
        cut_lines: ledger.cut_lines,
        malformed: ledger.malformed,
        lag_bytes: ledger.lag_bytes,
        lag_ms: ledger.lag_ms,
        streams: ledger.streams,
        blocked_streams: ledger.blocked_streams,
        waiting_streams: ledger.waiting_streams,
        rates: RateStatus {
            read_lines: view.rates.read_lines,
            read_bytes: view.rates.read_bytes,
            delivered_lines: view.rates.delivered_lines,
            acked_records: view.rates.acked_records,
            acked_bytes: view.rates.acked_bytes,
        },
        last_error: ledger.last_error.as_ref().map(error),
        filters: ledger.filters.iter().map(filter).collect(),
    }
}

fn filter(ledger: &FilterLedger) -> FilterStatus {
    let faults = FaultKind::ALL.iter().map(|kind| (kind.name().to_owned(), ledger.faults_of(*kind)));
    FilterStatus {
        place: ledger.place,
        name: ledger.name.to_string(),
        digest: ledger.digest.to_string(),
        calls: ledger.calls,
        lines_in: ledger.lines_in,
        bytes_in: ledger.bytes_in,
        bytes_out: ledger.bytes_out,
        kept: ledger.kept,
        dropped: ledger.dropped,
        emitted: ledger.emitted,
        skipped_by_needle: ledger.skipped_by_needle,
        faults: faults.filter(|(_, count)| *count > 0).collect(),
        busy_ns: ledger.busy_ns,
        memory_peak_bytes: ledger.memory_peak_bytes,
        recycles: ledger.recycles,
        rests: ledger.rests,
        breaker_opened: ledger.breaker_opened,
        bypassed: ledger.bypassed,
        swaps: ledger.swaps,
        counters: ledger.guest_counters.clone(),
    }
}

fn stream(snapshot: &StreamSnapshot) -> StreamStatus {
    let (state, reason) = match &snapshot.state {
        StreamState::Working => ("working", None),
        StreamState::Idle => ("idle", None),
        StreamState::Waiting(reason) => ("waiting", Some(reason.clone())),
        StreamState::Blocked(reason) => ("blocked", Some(reason.clone())),
    };
    StreamStatus {
        entry: snapshot.entry.to_string(),
        file: snapshot.file.to_string(),
        path: String::from_utf8_lossy(&snapshot.path).into_owned(),
        read: snapshot.read,
        mark: snapshot.mark,
        size: snapshot.size,
        state: state.to_owned(),
        reason,
        loss: FileLoss { ledger: snapshot.loss, pending: snapshot.loss.pending() },
    }
}

fn health(view: &HealthView) -> HealthStatus {
    HealthStatus {
        part: view.part.to_string(),
        ok: view.trouble.is_none(),
        message: view.trouble.clone(),
        since_ms: view.since_ms,
    }
}

fn file_problem(problem: &FileProblem) -> FileProblemStatus {
    FileProblemStatus {
        entry: problem.entry.to_string(),
        path: problem.path.to_string_lossy().into_owned(),
        message: problem.message.clone(),
    }
}

fn error(error: &LastError) -> ErrorStatus {
    ErrorStatus { at_ms: error.at_ms, message: error.message.clone() }
}

//! `/metrics`: everything the board knows, as OpenMetrics text. Made from a view when it is asked for; nothing is
//! counted here. Names start with `tailmill_`, units come last, counters end with `_total`.
//!
//! The loss equation per entry, in lines and bytes (`_lines_total`, `_bytes_total`):
//! `read = delivered + filtered + dropped{reason} + rewound + pending`.

use std::borrow::Cow;
use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tailmill_engine::FaultKind;

use crate::model::LineCount;
use crate::observe::exposition::{Families, Labels};
use crate::observe::file_ledger::FileLedger;
use crate::observe::ledger::{DropReason, EntryLedger, FilterLedger, StreamSnapshot};
use crate::observe::process;
use crate::observe::view::{EntryView, ShardView, View};
use crate::observe::{Board, Part, version};

/// The content type of what [`render`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Name, help and value of a term of the loss equation.
type Term<L> = (&'static str, &'static str, fn(&L) -> LineCount);

/// Name, unit, help and value of a counter.
type Counter<L> = (&'static str, &'static str, &'static str, fn(&L) -> u64);

/// The whole exposition, as of now.
pub fn render(board: &Board) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(board.view(), process::usage())));
    let mut text = String::with_capacity(16 << 10);
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Exposition(View, process::Usage);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Exposition(view, usage) = self;
        let mut to = Families { encoder };
        agent(&mut to, view)?;
        health(&mut to, view)?;
        loss_equation(&mut to, &view.entries)?;
        delivery(&mut to, &view.entries)?;
        streams(&mut to, &view.entries)?;
        if view.file_metrics {
            files(&mut to, &view.streams)?;
        }
        filters(&mut to, &view.entries)?;
        shards(&mut to, &view.shards)?;
        process_usage(&mut to, usage)
    }
}

fn agent(to: &mut Families<'_>, view: &View) -> Result<(), Error> {
    let build: Labels<'_> = vec![("version", version::VERSION.into()), ("commit", version::commit().into())];
    to.info("tailmill_build", "Version of this agent", &build)?;
    to.gauge(
        "tailmill_start_time",
        "seconds",
        "When the agent started, since the Unix epoch",
        one(view.started_ms as f64 / 1000.0),
    )?;
    to.gauge("tailmill_ready", "", "1 when every entry of the plan can ship", one(bit(view.not_ready().is_empty())))?;
    let (revision, problems) = view.plan.as_ref().map_or((0, 0), |(revision, problems)| (*revision, problems.len()));
    to.gauge("tailmill_config_revision", "", "Revision of the plan in force, 0 before the first", one(revision))?;
    to.gauge("tailmill_config_problems", "", "Things in the configuration that are refused", one(problems as u64))?;
    let in_plan = view.entries.iter().filter(|entry| entry.facts.is_some()).count();
    to.gauge("tailmill_config_entries", "", "Entries in the plan in force", one(in_plan as u64))?;
    let files = view.file_problems.len() as u64 + view.file_problems_unlisted;
    to.gauge("tailmill_file_problems", "", "Files that match an entry and cannot be read", one(files))
}

fn health(to: &mut Families<'_>, view: &View) -> Result<(), Error> {
    let rows = |wanted: fn(&Part) -> Option<Labels<'_>>| {
        view.health.iter().filter_map(move |row| Some((wanted(&row.part)?, bit(row.trouble.is_none()))))
    };
    to.gauge(
        "tailmill_store_up",
        "",
        "1 when marks can be written",
        rows(|part| match part {
            Part::Store => Some(vec![]),
            _ => None,
        }),
    )?;
    to.gauge(
        "tailmill_etcd_up",
        "",
        "1 when etcd answers",
        rows(|part| match part {
            Part::Etcd => Some(vec![]),
            _ => None,
        }),
    )?;
    to.gauge(
        "tailmill_cluster_up",
        "",
        "1 when the cluster can be written to",
        rows(|part| match part {
            Part::Cluster(name) => Some(vec![("cluster", Cow::from(&**name))]),
            _ => None,
        }),
    )?;
    to.gauge(
        "tailmill_topic_up",
        "",
        "0 when the topic is missing or unreachable",
        rows(|part| match part {
            Part::Topic(cluster, topic) => Some(vec![("cluster", (&**cluster).into()), ("topic", (&**topic).into())]),
            _ => None,
        }),
    )
}

fn loss_equation(to: &mut Families<'_>, entries: &[EntryView]) -> Result<(), Error> {
    let terms: [Term<EntryLedger>; 4] = [
        ("read", "Read from files, repeats included", |ledger| ledger.read),
        ("delivered", "Acknowledged by Kafka", |ledger| ledger.delivered),
        ("filtered", "Dropped or joined by a filter's verdict", |ledger| ledger.filtered),
        ("rewound", "Pending when a stream went back to its mark, read again afterwards", |ledger| ledger.rewound),
    ];
    for (name, help, of) in terms {
        let name = format!("tailmill_{name}");
        to.counter(&name, "lines", help, per_entry(entries, |ledger| of(ledger).lines))?;
        to.counter(&name, "bytes", help, per_entry(entries, |ledger| of(ledger).bytes))?;
    }
    let help = "Dropped for another reason than a filter's verdict";
    to.counter("tailmill_dropped", "lines", help, per_reason(entries, |count| count.lines))?;
    to.counter("tailmill_dropped", "bytes", help, per_reason(entries, |count| count.bytes))?;
    let help = "Read and not yet resolved";
    to.gauge("tailmill_pending", "lines", help, per_entry(entries, |ledger| ledger.pending.lines))?;
    to.gauge("tailmill_pending", "bytes", help, per_entry(entries, |ledger| ledger.pending.bytes))
}

fn delivery(to: &mut Families<'_>, entries: &[EntryView]) -> Result<(), Error> {
    let counters: [Counter<EntryLedger>; 9] = [
        ("records_acked", "", "Records acknowledged by Kafka", |ledger| ledger.records_acked),
        ("records_acked", "bytes", "Bytes of the values of acknowledged records", |l| l.records_acked_bytes),
        ("records_refused", "", "Records that Kafka refused for good", |ledger| ledger.records_refused),
        ("records_retried", "", "Records sent again after a failure that may pass", |l| l.records_retried),
        ("dead_letters", "", "Records acknowledged on the dead-letter topic", |ledger| ledger.dead_letters),
        ("passed", "lines", "Lines shipped as they came because a filter failed on them", |l| l.passed_lines),
        ("cut", "lines", "Lines shipped shortened because they were too long", |ledger| ledger.cut_lines),
        ("malformed", "", "Malformed in the encoding of its file, shipped as U+FFFD", |ledger| ledger.malformed),
        ("lost", "bytes", "Bytes of files that went away before they were shipped", |l| l.lost_bytes),
    ];
    for (name, unit, help, of) in counters {
        to.counter(&format!("tailmill_{name}"), unit, help, per_entry(entries, of))?;
    }
    Ok(())
}

fn streams(to: &mut Families<'_>, entries: &[EntryView]) -> Result<(), Error> {
    let seconds = |ledger: &EntryLedger| ledger.lag_ms as f64 / 1000.0;
    to.gauge("tailmill_lag", "bytes", "Bytes in the files behind the marks", per_entry(entries, |l| l.lag_bytes))?;
    to.gauge("tailmill_lag", "seconds", "How long the oldest of these has waited", per_entry(entries, seconds))?;
    to.gauge("tailmill_streams", "", "Open files", per_entry(entries, |ledger| ledger.streams))?;
    let help = "Open files held by a block policy";
    to.gauge("tailmill_streams_blocked", "", help, per_entry(entries, |ledger| ledger.blocked_streams))?;
    let help = "Open files that wait for their topic or cluster";
    to.gauge("tailmill_streams_waiting", "", help, per_entry(entries, |ledger| ledger.waiting_streams))
}

/// The loss equation of each listed file. A series a file generation: only where it was asked for.
fn files(to: &mut Families<'_>, streams: &[StreamSnapshot]) -> Result<(), Error> {
    let terms: [Term<FileLedger>; 5] = [
        ("read", "Read from the file, repeats included", |ledger| ledger.read),
        ("delivered", "Lines of the file acknowledged by Kafka", |ledger| ledger.delivered),
        ("filtered", "Lines of the file dropped or joined by a filter's verdict", |ledger| ledger.filtered),
        ("dropped", "Lines of the file dropped for another reason", |ledger| ledger.dropped),
        ("rewound", "Pending when the stream went back to its mark, read again afterwards", |ledger| ledger.rewound),
    ];
    for (name, help, of) in terms {
        let name = format!("tailmill_file_{name}");
        to.counter(&name, "lines", help, per_file(streams, |stream| of(&stream.loss).lines))?;
        to.counter(&name, "bytes", help, per_file(streams, |stream| of(&stream.loss).bytes))?;
    }
    let help = "Read of the file and not yet resolved";
    to.gauge("tailmill_file_pending", "lines", help, per_file(streams, |stream| stream.loss.pending().lines))?;
    to.gauge("tailmill_file_pending", "bytes", help, per_file(streams, |stream| stream.loss.pending().bytes))?;
    let help = "Bytes of the file before its mark";
    to.gauge("tailmill_file_mark", "bytes", help, per_file(streams, |stream| stream.mark))?;
    to.gauge("tailmill_file_size", "bytes", "Size of the file", per_file(streams, |stream| stream.size))
}

fn per_file(
    streams: &[StreamSnapshot],
    of: impl Fn(&StreamSnapshot) -> u64,
) -> impl Iterator<Item = (Labels<'_>, u64)> {
    streams.iter().map(move |stream| {
        let labels: Labels<'_> = vec![
            ("entry", (&*stream.entry).into()),
            ("path", String::from_utf8_lossy(&stream.path)),
            ("file", stream.file.to_string().into()),
        ];
        (labels, of(stream))
    })
}

fn filters(to: &mut Families<'_>, entries: &[EntryView]) -> Result<(), Error> {
    let counters: [Counter<FilterLedger>; 14] = [
        ("calls", "", "Calls into the module", |filter| filter.calls),
        ("in", "lines", "Lines offered to the filter", |filter| filter.lines_in),
        ("in", "bytes", "Bytes of these lines", |filter| filter.bytes_in),
        ("out", "bytes", "Bytes of the lines that went on", |filter| filter.bytes_out),
        ("kept", "lines", "Lines that went on as they were", |filter| filter.kept),
        ("dropped", "lines", "Lines that the filter dropped", |filter| filter.dropped),
        ("emitted", "lines", "Lines that the filter wrote in place of others", |filter| filter.emitted),
        ("skipped", "lines", "Lines without any needle, decided without a call", |f| f.skipped_by_needle),
        ("recycles", "", "Instances made anew, after a fault or because they had grown", |filter| filter.recycles),
        ("rests", "", "Instances put to rest because nothing came", |filter| filter.rests),
        ("breaker_opened", "", "Times that the breaker opened", |filter| filter.breaker_opened),
        ("bypassed", "lines", "Lines that went past the filter while its breaker was open", |f| f.bypassed),
        ("swaps", "", "Times the module replaced another in a running chain", |filter| filter.swaps),
        ("notes_suppressed", "", "Log and print output of the filter that was too much", |f| f.notes_suppressed),
    ];
    for (name, unit, help, of) in counters {
        to.counter(&format!("tailmill_filter_{name}"), unit, help, per_filter(entries, of))?;
    }
    let seconds = |filter: &FilterLedger| filter.busy_ns as f64 / 1e9;
    to.counter("tailmill_filter_busy", "seconds", "Time spent in calls", per_filter(entries, seconds))?;
    let help = "Most memory that an instance had";
    to.gauge("tailmill_filter_memory_peak", "bytes", help, per_filter(entries, |filter| filter.memory_peak_bytes))?;
    let faults = each_filter(entries).flat_map(|(labels, filter)| {
        FaultKind::ALL.map(|kind| (with(&labels, "reason", kind.name()), filter.faults_of(kind)))
    });
    to.counter("tailmill_filter_faults", "", "Calls that failed", faults)?;
    let guests = each_filter(entries).flat_map(|(labels, filter)| {
        let counters = filter.guest_counters.iter();
        counters.map(move |(name, count)| (with(&labels, "counter", name), *count))
    });
    to.counter("tailmill_filter_guest", "", "Counters that the filter keeps itself", guests)
}

fn shards(to: &mut Families<'_>, shards: &[ShardView]) -> Result<(), Error> {
    let rows = |of: fn(&ShardView) -> u64| {
        shards.iter().enumerate().map(move |(i, shard)| (vec![("shard", i.to_string().into())], of(shard)))
    };
    to.counter("tailmill_shard_turns", "", "Turns given to streams", rows(|shard| shard.totals.turns))?;
    to.counter("tailmill_shard_batches", "", "Batches read", rows(|shard| shard.totals.batches))?;
    let busy = rows(|shard| shard.totals.busy_ns).map(|(labels, ns)| (labels, ns as f64 / 1e9));
    to.counter("tailmill_shard_busy", "seconds", "Time spent in turns", busy)?;
    let help = "Bytes pinned by records on their way";
    to.gauge("tailmill_shard_inflight", "bytes", help, rows(|shard| shard.totals.inflight_bytes))?;
    let help = "Records on their way";
    to.gauge("tailmill_shard_inflight_records", "", help, rows(|shard| shard.totals.inflight_records))
}

/// The names that every Prometheus client library uses, so that ready-made dashboards work.
fn process_usage(to: &mut Families<'_>, usage: &process::Usage) -> Result<(), Error> {
    to.counter("process_cpu", "seconds", "User and system time of the process", one(usage.cpu_seconds))?;
    to.gauge("process_resident_memory", "bytes", "Resident memory of the process", one(usage.resident_bytes))?;
    to.gauge("process_open_fds", "", "Open file descriptors", one(usage.open_fds))?;
    to.gauge("process_max_fds", "", "Most file descriptors that may be open", one(usage.max_fds))
}

fn one<V>(value: V) -> [(Labels<'static>, V); 1] {
    [(vec![], value)]
}

fn bit(yes: bool) -> u64 {
    u64::from(yes)
}

fn entry_label(entry: &EntryView) -> Labels<'_> {
    vec![("entry", Cow::from(&*entry.name))]
}

fn with<'a>(labels: &Labels<'a>, name: &'static str, value: &'a str) -> Labels<'a> {
    let mut labels = labels.clone();
    labels.push((name, value.into()));
    labels
}

fn per_entry<V>(entries: &[EntryView], of: impl Fn(&EntryLedger) -> V) -> impl Iterator<Item = (Labels<'_>, V)> {
    entries.iter().map(move |entry| (entry_label(entry), of(&entry.ledger)))
}

fn per_reason(entries: &[EntryView], of: fn(&LineCount) -> u64) -> impl Iterator<Item = (Labels<'_>, u64)> {
    entries.iter().flat_map(move |entry| {
        DropReason::ALL
            .map(|reason| (with(&entry_label(entry), "reason", reason.name()), of(&entry.ledger.dropped_for(reason))))
    })
}

fn each_filter(entries: &[EntryView]) -> impl Iterator<Item = (Labels<'_>, &FilterLedger)> {
    entries.iter().flat_map(|entry| {
        entry.ledger.filters.iter().map(|filter| {
            let labels = vec![
                ("entry", Cow::from(&*entry.name)),
                ("place", filter.place.to_string().into()),
                ("filter", Cow::from(&*filter.name)),
                ("digest", filter.digest.short().into()),
            ];
            (labels, filter)
        })
    })
}

fn per_filter<V>(entries: &[EntryView], of: impl Fn(&FilterLedger) -> V) -> impl Iterator<Item = (Labels<'_>, V)> {
    each_filter(entries).map(move |(labels, filter)| (labels, of(filter)))
}

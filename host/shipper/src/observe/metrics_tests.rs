//! The exposition, read by a strict reader of the parts of OpenMetrics 1.0 that we use.

use std::collections::{BTreeMap, BTreeSet};
use tailmill_engine::{Digest, FaultKind};

use super::ledger::{DropReason, EntryLedger, ShardSnapshot, StreamSnapshot, StreamState};
use super::{Board, FileLedger, Part, metrics};
use crate::model::{LineCount, Plan, Problem};

/// Series with their values, and the type of each family. Panics on anything that is not conformant.
struct Read {
    series: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Read {
    fn of(text: &str) -> Read {
        let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
        let mut read = Read { series: BTreeMap::new(), types: BTreeMap::new() };
        let (mut family, mut steps) = (String::new(), Vec::new());
        for line in body.split_terminator('\n') {
            if let Some(comment) = line.strip_prefix("# ") {
                let [keyword, name, rest] = *comment.splitn(3, ' ').collect::<Vec<_>>() else { panic!("{line}") };
                if name != family {
                    family = name.to_owned();
                    steps.clear();
                }
                assert!(!steps.contains(&keyword.to_owned()), "twice: {line}");
                steps.push(keyword.to_owned());
                read.descriptor(keyword, name, rest);
            } else {
                read.sample(line, &family);
            }
        }
        read
    }

    fn descriptor(&mut self, keyword: &str, family: &str, rest: &str) {
        match keyword {
            "HELP" => assert!(rest.ends_with('.') && !rest.contains('\n'), "help of {family}: {rest}"),
            "TYPE" => {
                let before = self.types.insert(family.to_owned(), rest.to_owned());
                assert!(before.is_none(), "family {family} comes twice");
                assert!(!family.ends_with("_total") && !family.ends_with("_info"), "suffix in family name {family}");
            }
            "UNIT" => assert!(family.ends_with(&format!("_{rest}")), "unit {rest} of {family}"),
            _ => panic!("unknown keyword {keyword}"),
        }
    }

    fn sample(&mut self, line: &str, family: &str) {
        let name_len = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
        let kind = self.types.get(family).unwrap_or_else(|| panic!("sample before its TYPE: {line}"));
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            "gauge" => "",
            other => panic!("type {other}"),
        };
        assert_eq!(&line[..name_len], format!("{family}{suffix}"), "{line}");
        let labels_len = if line[name_len..].starts_with('{') { labels(&line[name_len..]) } else { 0 };
        let value = line[name_len + labels_len..].strip_prefix(' ').expect("one space before the value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("value of {line}"));
        assert!(kind != "counter" || value >= 0.0, "{line}");
        let series = line[..name_len + labels_len].to_owned();
        assert!(self.series.insert(series, value).is_none(), "series comes twice: {line}");
    }

    fn get(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} among {:#?}", self.series.keys()))
    }
}

/// Length of `{name="value",…}`. Checks names, escapes and that no name comes twice.
fn labels(text: &str) -> usize {
    let (mut at, mut names) = (1, BTreeSet::new());
    if text[at..].starts_with('}') {
        return 2;
    }
    loop {
        let name = &text[at..at + text[at..].find("=\"").expect("label value in quotes")];
        let ok = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(ok) && names.insert(name), "label {name} in {text}");
        at += name.len() + 2;
        loop {
            match text.as_bytes()[at] {
                b'"' => break,
                b'\\' => {
                    assert!(matches!(text.as_bytes()[at + 1], b'\\' | b'"' | b'n'), "escape in {text}");
                    at += 2;
                }
                _ => at += 1,
            }
        }
        at += 1;
        match text.as_bytes()[at] {
            b',' => at += 1,
            b'}' => return at + 1,
            other => panic!("{} in {text}", char::from(other)),
        }
    }
}

const NASTY: &str = "we\"b\\\nx";

fn board() -> Board {
    let board = Board::new("n", 2);
    let digest = Digest::of(b"module");
    for shard in 0..2 {
        let mut ledger = EntryLedger {
            read: LineCount { lines: 10, bytes: 100 },
            delivered: LineCount { lines: 7, bytes: 70 },
            pending: LineCount { lines: 2, bytes: 20 },
            lag_ms: 1500,
            records_acked: 7,
            records_acked_bytes: 63,
            ..Default::default()
        };
        ledger.drop_lines(DropReason::Refused, LineCount { lines: 1, bytes: 10 });
        for (place, name) in ["grep", "grep", "redact"].into_iter().enumerate() {
            let filter = ledger.filter(place, &name.into(), digest);
            filter.fault(FaultKind::Timeout);
            filter.busy_ns = 250_000_000;
            filter.guest_count("seen\"it", 3);
        }
        let entries = [(NASTY.into(), ledger), ("empty".into(), EntryLedger::default())];
        board.publish(shard, ShardSnapshot { entries: entries.into(), ..Default::default() });
        board.well(Part::Cluster("default".into()), shard);
    }
    board.trouble(Part::Cluster("other".into()), 0, "down");
    board.well(Part::Store, 0);
    board.trouble(Part::Topic("default".into(), "app".into()), 0, "missing");
    let problem = Problem { source: "a.json".into(), key: String::new(), reason: "bad".into() };
    board.plan(&Plan { revision: 4, problems: vec![problem], ..Default::default() });
    board
}

#[test]
fn the_exposition_of_a_busy_agent_is_conformant_and_says_what_was_counted() {
    let read = Read::of(&metrics::render(&board()).unwrap());
    let entry = r#"{entry="we\"b\\\nx"}"#;
    assert_eq!(read.get(&format!("tailmill_read_lines_total{entry}")), 20.0);
    assert_eq!(read.get(&format!("tailmill_read_bytes_total{entry}")), 200.0);
    assert_eq!(read.get(&format!("tailmill_pending_lines{entry}")), 4.0);
    assert_eq!(read.get(&format!("tailmill_lag_seconds{entry}")), 1.5);
    assert_eq!(read.get(&format!("tailmill_records_acked_total{entry}")), 14.0);
    assert_eq!(read.get(&format!("tailmill_records_acked_bytes_total{entry}")), 126.0);
    assert_eq!(read.get(r#"tailmill_dropped_lines_total{entry="we\"b\\\nx",reason="refused"}"#), 2.0);
    let digest = Digest::of(b"module").short();
    let filter = format!(r#"entry="we\"b\\\nx",place="1",filter="grep",digest="{digest}""#);
    assert_eq!(read.get(&format!(r#"tailmill_filter_faults_total{{{filter},reason="timeout"}}"#)), 2.0);
    assert_eq!(read.get(&format!("tailmill_filter_busy_seconds_total{{{filter}}}")), 0.5);
    assert_eq!(read.get(&format!(r#"tailmill_filter_guest_total{{{filter},counter="seen\"it"}}"#)), 6.0);
    assert_eq!(read.get("tailmill_config_revision"), 4.0);
    assert_eq!(read.get("tailmill_config_problems"), 1.0);
    assert_eq!(read.get("tailmill_ready"), 0.0);
    assert_eq!(read.get("tailmill_store_up"), 1.0);
    assert_eq!(read.get(r#"tailmill_cluster_up{cluster="default"}"#), 1.0);
    assert_eq!(read.get(r#"tailmill_cluster_up{cluster="other"}"#), 0.0);
    assert_eq!(read.get(r#"tailmill_topic_up{cluster="default",topic="app"}"#), 0.0);
    assert!(read.get("process_resident_memory_bytes") > 0.0);
    assert!(read.series.keys().any(|series| series.starts_with("tailmill_build_info{version=")));
}

#[test]
fn the_loss_equation_can_be_checked_from_the_metrics_alone() {
    let read = Read::of(&metrics::render(&board()).unwrap());
    for unit in ["lines", "bytes"] {
        let sum_of = |name: &str| -> f64 {
            let family = format!("tailmill_{name}_{unit}");
            let of_entry = |series: &&String| series.starts_with(&family) && series.contains(r#"entry="we"#);
            read.series.keys().filter(of_entry).map(|series| read.series[series]).sum()
        };
        let explained: f64 = ["delivered", "filtered", "dropped", "rewound", "pending"].into_iter().map(sum_of).sum();
        assert!(sum_of("read") > 0.0);
        assert_eq!(sum_of("read"), explained, "{unit}");
    }
}

#[test]
fn single_files_have_series_only_where_they_were_asked_for() {
    let board = Board::new("n", 1);
    let count = |lines| LineCount { lines, bytes: lines * 10 };
    let loss = FileLedger { read: count(5), delivered: count(2), dropped: count(1), ..FileLedger::default() };
    let [a, b] = [1, 2].map(|file| StreamSnapshot {
        entry: "web".into(),
        file: tailmill_tail::FileId(file),
        path: b"/var/log/a"[..].into(),
        read: 50,
        mark: 30,
        size: 60,
        state: StreamState::Working,
        loss,
    });
    board.publish(0, ShardSnapshot { streams: vec![a, b], ..Default::default() });
    let none = Read::of(&metrics::render(&board).unwrap());
    assert!(!none.series.keys().any(|series| series.starts_with("tailmill_file_read")));
    board.show_files_in_metrics();
    let read = Read::of(&metrics::render(&board).unwrap());
    let file = |number: u32| format!(r#"{{entry="web",path="/var/log/a",file="{number:032x}"}}"#);
    assert_eq!(read.get(&format!("tailmill_file_read_lines_total{}", file(1))), 5.0);
    assert_eq!(read.get(&format!("tailmill_file_dropped_bytes_total{}", file(2))), 10.0);
    assert_eq!(read.get(&format!("tailmill_file_pending_lines{}", file(2))), 2.0);
    assert_eq!(read.get(&format!("tailmill_file_mark_bytes{}", file(2))), 30.0);
}

#[test]
fn an_agent_that_has_just_started_has_a_conformant_exposition_too() {
    let read = Read::of(&metrics::render(&Board::new("n", 1)).unwrap());
    assert_eq!(read.get("tailmill_ready"), 0.0);
    assert_eq!(read.types["tailmill_read_lines"], "counter");
}

#[test]
fn the_reader_of_these_tests_refuses_what_is_not_conformant() {
    let head = "# HELP a_lines Help.\n# TYPE a_lines counter\n# UNIT a_lines lines\n";
    let refused = [
        "a_lines 1\n# EOF\n".to_owned(),
        format!("{head}a_lines 1\n# EOF\n"),
        format!("{head}a_lines_total 1\na_lines_total 2\n# EOF\n"),
        format!("{head}a_lines_total 1\n{head}# EOF\n"),
        format!("{head}a_lines_total{{x=\"\\t\"}} 1\n# EOF\n"),
        format!("{head}a_lines_total 1\n"),
        head.replace(" lines\n", " bytes\n") + "# EOF\n",
    ];
    for text in refused {
        let outcome = std::panic::catch_unwind(|| Read::of(&text));
        assert!(outcome.is_err(), "{text}");
    }
    Read::of(&format!("{head}a_lines_total{{x=\"\\n\"}} 1\n# EOF\n"));
}

//! The status document and its text, from a board that was told everything it can be told.

use tailmill_engine::{Digest, FaultKind};

use super::file_ledger::FileLedger;
use super::ledger::{DropReason, EntryLedger, ShardSnapshot, StreamSnapshot, StreamState};
use super::status::{SCHEMA, Status};
use super::status_text::{Look, one_line, render, summary};
use super::text::Paint;
use super::view::{EntryView, FileProblem, HealthView, Rates, View};
use super::{Board, Part};
use crate::model::{LineCount, Problem};
use crate::observe::board::EntryFacts;
use crate::observe::ledger::LastError;

const PLAIN: Look = Look { paint: Paint(false), streams_max: 3 };

fn count(lines: u64, bytes: u64) -> LineCount {
    LineCount { lines, bytes }
}

fn web() -> EntryView {
    let mut ledger = EntryLedger {
        read: count(1_000_000, 120_000_000),
        delivered: count(899_000, 107_880_000),
        filtered: count(100_000, 12_000_000),
        pending: count(990, 118_800),
        records_acked: 899_000,
        records_acked_bytes: 106_000_000,
        lag_bytes: 118_800,
        lag_ms: 1_250,
        streams: 2,
        ..Default::default()
    };
    ledger.drop_lines(DropReason::Refused, count(10, 1_200));
    let filter = ledger.filter(0, &"grep".into(), Digest::of(b"grep"));
    filter.lines_in = 1_000_000;
    filter.kept = 900_000;
    filter.dropped = 100_000;
    filter.busy_ns = 48_000_000;
    filter.memory_peak_bytes = 1 << 20;
    let facts = EntryFacts {
        topic: "web_log".into(),
        cluster: "default".into(),
        origin: "etcd e/web".into(),
        ..Default::default()
    };
    let rates = Rates { read_lines: 12_345.6, read_bytes: 1_500_000.0, acked_records: 12_000.0, ..Default::default() };
    EntryView { name: "web".into(), facts: Some(facts), ledger, rates }
}

fn app() -> EntryView {
    let mut ledger = EntryLedger {
        read: count(10, 1_000),
        delivered: count(4, 400),
        pending: count(5, 500),
        streams: 1,
        blocked_streams: 1,
        last_error: Some(LastError { at_ms: 88_000, message: "filter json: trap: unreachable".into() }),
        ..Default::default()
    };
    let filter = ledger.filter(0, &"json".into(), Digest::of(b"json"));
    filter.lines_in = 10;
    filter.fault(FaultKind::Trap);
    filter.guest_count("not_json", 2);
    let facts =
        EntryFacts { topic: "app".into(), cluster: "eu".into(), origin: "app.json".into(), ..Default::default() };
    EntryView { name: "app".into(), facts: Some(facts), ledger, rates: Rates::default() }
}

fn stream(entry: &str, path: &str, mark: u64, size: u64, state: StreamState) -> StreamSnapshot {
    let read = count(size / 10, size);
    let loss = FileLedger { read, delivered: count(mark / 10, mark), ..FileLedger::default() };
    let file = tailmill_tail::FileId(7);
    StreamSnapshot { entry: entry.into(), file, path: path.as_bytes().into(), read: size, mark, size, state, loss }
}

fn view() -> View {
    View {
        node: "web-01".into(),
        now_ms: 100_000,
        uptime: std::time::Duration::from_secs(11_520),
        plan: Some((7, vec![])),
        entries: vec![app(), web()],
        streams: vec![
            stream("web", "/var/log/nginx/access.log", 119_881_200, 120_000_000, StreamState::Working),
            stream("web", "/var/log/nginx/\u{1b}[31mevil.log", 300, 300, StreamState::Idle),
            stream("app", "/var/log/app.log", 500, 1_000, StreamState::Blocked("filter json: trap".into())),
        ],
        health: vec![HealthView { part: Part::Etcd, trouble: Some("connection refused".into()), since_ms: 1 }],
        file_problems: vec![FileProblem {
            entry: "app".into(),
            path: "/var/log/secret".into(),
            message: "permission denied".into(),
        }],
        ..View::default()
    }
}

/// Built without a version in the text: it changes with every release.
fn status() -> Status {
    Status { version: "VERSION".into(), ..Status::of(&view()) }
}

#[test]
fn the_text_shows_what_a_person_asks_first() {
    insta::assert_snapshot!(render(&status(), PLAIN), @r"
    web-01: not ready, plan 7, up 3 h 12 min, tailmill VERSION
      trouble   entry app: 1 stream blocked: /var/log/app.log at byte 500: filter json: trap
      etcd      connection refused (the last plan stays in force)
      skipped   /var/log/secret (entry app): permission denied

    app → app on eu
      rate      0 lines/s read (0 B/s), 0 records/s acknowledged (0 B/s)
      lag       0 B
      lines     10 read = 4 delivered + 0 filtered + 5 pending  NOT BALANCED: +1 lines, +100 bytes unaccounted for
      bytes     1000 B read = 400 B delivered + 0 B filtered + 500 B pending
      filter    json 02bd175f3297  10 in, 1 × trap, not_json = 2
      file      /var/log/app.log  500 B of 1000 B shipped, blocked at byte 500: filter json: trap
      error     12 s ago: filter json: trap: unreachable

    web → web_log
      rate      12,346 lines/s read (1.4 MiB/s), 12,000 records/s acknowledged (0 B/s)
      lag       116.0 KiB, 1.2 s
      lines     1,000,000 read = 899,000 delivered + 100,000 filtered + 10 dropped (refused) + 990 pending  balanced
      bytes     114.4 MiB read = 102.9 MiB delivered + 11.4 MiB filtered + 1.2 KiB dropped (refused) + 116.0 KiB pending
      filter    grep faefbbbf05cb  1,000,000 in, 900,000 kept, 100,000 dropped, 48 ns a line, 1.0 MiB memory
      file      /var/log/nginx/access.log  114.3 MiB of 114.4 MiB shipped
      file      /var/log/nginx/\u{1b}[31mevil.log  at its end (300 B)

    all entries
      rate      12,346 lines/s read (1.4 MiB/s), 12,000 records/s acknowledged (0 B/s)
      lines     1,000,010 read = 899,004 delivered + 100,000 filtered + 10 dropped (refused) + 995 pending  NOT BALANCED: +1 lines, +100 bytes unaccounted for
      bytes     114.4 MiB read = 102.9 MiB delivered + 11.4 MiB filtered + 1.2 KiB dropped (refused) + 116.5 KiB pending
    ");
}

#[test]
fn the_summary_says_where_every_line_went() {
    insta::assert_snapshot!(summary(&status(), Paint(false)), @r"
    stopped after 3 h 12 min
    entry app
      lines     10 read = 4 delivered + 0 filtered + 5 pending  NOT BALANCED: +1 lines, +100 bytes unaccounted for
      bytes     1000 B read = 400 B delivered + 0 B filtered + 500 B pending
      error     filter json: trap: unreachable
    entry web
      lines     1,000,000 read = 899,000 delivered + 100,000 filtered + 10 dropped (refused) + 990 pending  balanced
      bytes     114.4 MiB read = 102.9 MiB delivered + 11.4 MiB filtered + 1.2 KiB dropped (refused) + 116.0 KiB pending
    all entries
      lines     1,000,010 read = 899,004 delivered + 100,000 filtered + 10 dropped (refused) + 995 pending  NOT BALANCED: +1 lines, +100 bytes unaccounted for
      bytes     114.4 MiB read = 102.9 MiB delivered + 11.4 MiB filtered + 1.2 KiB dropped (refused) + 116.5 KiB pending
    NOT BALANCED: +1 lines, +100 bytes unaccounted for, 995 lines pending: read again at the next start
    ");
}

#[test]
fn a_clean_run_ends_with_nothing_lost() {
    let mut one = web();
    one.ledger.delivered += one.ledger.pending;
    one.ledger.pending = LineCount::default();
    let view = View { entries: vec![one], uptime: std::time::Duration::from_secs(42), ..view() };
    insta::assert_snapshot!(summary(&Status::of(&view), Paint(false)), @r"
    stopped after 42 s
    entry web
      lines     1,000,000 read = 899,990 delivered + 100,000 filtered + 10 dropped (refused) + 0 pending  balanced
      bytes     114.4 MiB read = 103.0 MiB delivered + 11.4 MiB filtered + 1.2 KiB dropped (refused) + 0 B pending
    0 lines lost
    ");
}

#[test]
fn one_line_fits_a_service_managers_status() {
    insta::assert_snapshot!(one_line(&status()), @"3 files in 2 entries, 12,346 lines/s, 12,000 sent/s, lag 116.0 KiB");
}

#[test]
fn an_agent_that_has_just_started_has_a_status_too() {
    let status = Status { version: "VERSION".into(), uptime_ms: 0, ..Status::of(&Board::new("n", 1).view()) };
    insta::assert_snapshot!(render(&status, PLAIN), @r"
    n: not ready, no plan yet, up 0 s, tailmill VERSION
      trouble   no plan in force yet
    ");
}

#[test]
fn escape_sequences_in_file_names_and_messages_stay_out_of_the_terminal() {
    assert!(!render(&status(), PLAIN).contains('\u{1b}'));
}

#[test]
fn colours_change_nothing_but_colours() {
    let coloured = render(&status(), Look { paint: Paint(true), streams_max: 3 });
    let mut plain = String::new();
    for (i, part) in coloured.split('\u{1b}').enumerate() {
        plain.push_str(if i == 0 { part } else { &part[part.find('m').unwrap() + 1..] });
    }
    assert_ne!(coloured, plain);
    assert_eq!(plain, render(&status(), PLAIN));
}

#[test]
fn the_document_survives_json_and_readers_take_what_they_do_not_know() {
    let json = serde_json::to_string(&status()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status());
    let newer = json.replacen('{', r#"{"a_field_of_the_future": 1, "#, 1);
    assert_eq!(serde_json::from_str::<Status>(&newer).unwrap(), status());
    let older: Status = serde_json::from_str(r#"{"schema": 1, "node": "n"}"#).unwrap();
    assert_eq!((older.schema, older.node.as_str()), (SCHEMA, "n"));
}

#[test]
fn the_names_in_the_document_are_a_contract() {
    let document = serde_json::to_value(status()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    insta::assert_snapshot!(keys(&document), @"schema node version now_ms started_ms uptime_ms stopping ready not_ready plan total entries streams health file_problems file_problems_unlisted notices");
    insta::assert_snapshot!(keys(&document["entries"][0]), @"name in_plan topic cluster origin modules loss records passed_lines cut_lines malformed lag_bytes lag_ms streams blocked_streams waiting_streams rates last_error filters");
    insta::assert_snapshot!(keys(&document["entries"][0]["loss"]), @"read delivered filtered dropped rewound pending balanced unaccounted_lines unaccounted_bytes lost_bytes");
    insta::assert_snapshot!(keys(&document["entries"][0]["filters"][0]), @"place name digest calls lines_in bytes_in bytes_out kept dropped emitted skipped_by_needle faults busy_ns memory_peak_bytes recycles rests breaker_opened bypassed swaps counters");
    insta::assert_snapshot!(keys(&document["streams"][0]["loss"]), @"read delivered filtered dropped rewound pending");
    insta::assert_snapshot!(keys(&document["streams"][0]), @"entry file path read mark size state reason loss");
}

#[test]
fn problems_of_the_configuration_are_listed() {
    let problem = Problem { source: "a.json".into(), key: "topic".into(), reason: "missing".into() };
    let view = View { plan: Some((1, vec![problem])), ..View::default() };
    let text = render(&Status::of(&view), PLAIN);
    assert!(text.contains("trouble   config: a.json: topic: missing\n"), "{text}");
}

#[test]
fn a_board_gives_the_document_over_its_view() {
    let board = Board::new("n", 1);
    let ledger = EntryLedger { read: count(3, 30), pending: count(3, 30), ..Default::default() };
    board.publish(0, ShardSnapshot { entries: [("e".into(), ledger)].into(), ..Default::default() });
    let status = Status::of(&board.view());
    assert!(status.entries[0].loss.balanced && !status.entries[0].in_plan);
    assert_eq!(status.total.loss.pending, count(3, 30));
}

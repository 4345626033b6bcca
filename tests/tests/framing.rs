//! What the keys about lines promise, end to end: over rotations and restarts, with marks that are each entry's own.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::{self, Style};
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrival, arrives_once, balances, entry, log};
use tailmill_tests::scratch;
use tailmill_tests::topic::Tap;

fn until_read(agent: &mut Agent, path: &Path, bytes: u64) {
    agent.until("the file is read", |agent| {
        let status = agent.status();
        let stream = status["streams"].as_array()?.iter().find(|stream| stream["path"] == json!(path))?;
        (stream["read"].as_u64()? >= bytes).then_some(())
    });
}

/// The lines with these numbers as one text.
fn joined(numbers: std::ops::Range<u64>) -> String {
    let texts: Vec<Vec<u8>> = numbers.map(|number| lines::line(Style::Java, 1, number)).collect();
    String::from_utf8(texts.join(&b'\n')).expect("lines of ours are text")
}

/// As logrotate does with `copytruncate`.
fn copy_and_truncate(file: &LogFile, to: &str) {
    std::fs::copy(file.path(), file.path().with_extension(to)).expect("a log can be copied");
    let file = std::fs::File::options().write(true).open(file.path()).expect("it is there");
    file.set_len(0).expect("a log can be truncated");
}

#[test]
fn records_of_several_lines_are_whole_over_restarts_and_rotations_in_the_middle_of_them() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("multiline", 1);
    let mut agent = Agent::new(kafka);
    let mut entry = entry(&agent, "app.log", &topic);
    // Only its end finishes the last record of a file.
    entry["multiline"] = json!({ "start": "^2026", "timeout_ms": 3_600_000 });
    agent.entry("app", &entry);
    let mut file = log(&agent, "app", Style::Java, 1);
    // Eight lines are a record: it stops in the middle of the hundred-first.
    file.write(804);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the whole records are there", || agent.report(), |records| records.len() == 100);
    agent.stop_cleanly();
    file.write(398);
    agent.start();
    tap.until("all whole records are there", || agent.report(), |records| records.len() >= 150);
    // Renamed in the middle of a record, while it runs; then while it is stopped.
    file.rotate();
    file.write(300);
    tap.until("the next whole records are there", || agent.report(), |records| records.len() >= 187);
    agent.stop_cleanly();
    file.rotate();
    file.write(300);
    agent.start();
    tap.until("and those of the next file", || agent.report(), |records| records.len() >= 225);
    // Copied and truncated in the middle of one.
    copy_and_truncate(&file, "copy");
    file.write(204);
    tap.until("and those behind the truncation", || agent.report(), |records| records.len() >= 250);
    // A last one that nothing comes behind.
    file.rotate();
    tap.until("the last one is there", || agent.report(), |records| records.len() >= 251);
    agent.stop_cleanly();
    let last = file.numbers().end;
    let wanted: Vec<String> = (0..last).step_by(8).map(|first| joined(first..last.min(first + 8))).collect();
    assert_eq!(tap.texts(), wanted);
    assert_eq!(agent.summary()["total"]["balanced"], json!(true), "{}", agent.summary());
}

#[test]
fn utf_16_arrives_as_utf_8_over_a_restart_in_the_middle_of_a_character() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("utf16", 1);
    let mut agent = Agent::new(kafka);
    let mut entry = entry(&agent, "app.log", &topic);
    entry["encoding"] = json!("utf-16le");
    agent.entry("app", &entry);
    let texts: Vec<String> =
        (0..200).map(|number| format!("line {number}: Grüße, \u{1F600} \u{30A}\u{2028}")).collect();
    let bytes: Vec<u8> = texts
        .iter()
        .flat_map(|text| format!("{text}\r\n").encode_utf16().collect::<Vec<_>>())
        .flat_map(u16::to_le_bytes)
        .collect();
    // In the high half of a surrogate pair.
    let cut = bytes.windows(2).skip((bytes.len() / 2) & !1).position(|pair| pair == [0x3D, 0xD8]).unwrap()
        + ((bytes.len() / 2) & !1)
        + 1;
    let mut file = log(&agent, "app", Style::Json, 1);
    file.append(&bytes[..cut]);
    agent.start();
    let whole = bytes[..cut].chunks_exact(2).filter(|unit| unit == b"\n\0").count();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the first lines are there", || agent.report(), |records| records.len() == whole);
    agent.stop_cleanly();
    file.append(&bytes[cut..]);
    agent.start();
    tap.until("the rest is there", || agent.report(), |records| records.len() >= texts.len());
    agent.stop_cleanly();
    assert_eq!(tap.texts(), texts);
}

#[test]
fn with_a_delimiter_of_nul_lines_hold_newlines_and_a_restart_changes_nothing() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("nul", 1);
    let mut agent = Agent::new(kafka);
    let mut entry = entry(&agent, "app.log", &topic);
    entry["delimiter"] = json!("\u{0}");
    agent.entry("app", &entry);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.append(b"one\ntwo\r\n\0\0half");
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the first lines are there", || agent.report(), |records| records.len() == 2);
    agent.stop_cleanly();
    file.append(b" and half\0the end");
    agent.start();
    tap.until("the third line is there", || agent.report(), |records| records.len() == 3);
    file.rotate();
    tap.until("the last line is there", || agent.report(), |records| records.len() == 4);
    agent.stop_cleanly();
    assert_eq!(tap.texts(), ["one\ntwo\r\n", "", "half and half", "the end"]);
}

#[test]
fn compressed_files_are_read_once_over_a_restart_in_the_middle() {
    let kafka = Kafka::shared();
    for name in ["app.log.gz", "app.log.zst"] {
        let topic = kafka.topic("packed", 1);
        let mut agent = Agent::new(kafka);
        agent.set("agent", "inflight_topic_bytes_max", 1 << 19).set("agent", "batch_bytes", 1 << 16);
        let mut entry = entry(&agent, name, &topic);
        entry["compressed"] = json!(true);
        agent.entry("app", &entry);
        let aside = scratch::dir("content");
        let mut content = LogFile::create(aside.path().join("app.log"), Style::Access, 1);
        content.write(200_000);
        let plain = std::fs::read(content.path()).unwrap();
        let packed = if name.ends_with("gz") {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&plain).unwrap();
            gzip.finish().unwrap()
        } else {
            zstd::bulk::compress(&plain, 1).unwrap()
        };
        std::fs::write(agent.path("logs").join(name), packed).unwrap();
        let mut tap = Tap::open(kafka, &topic);
        for arrived in [1, 50_000] {
            agent.start();
            tap.until("some lines are there", || agent.report(), |records| records.len() >= arrived);
            agent.stop_cleanly();
            assert!(tap.to_end().len() < 200_000, "it was stopped in the middle");
        }
        agent.start();
        arrives_once(&Expected::all([&content]), &mut tap, &mut agent);
    }
}

#[test]
fn two_entries_over_one_file_have_marks_of_their_own() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("first", 1);
    let later = format!("{topic}-later");
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(3_000);
    agent.entry("first", &entry(&agent, "app.log", &topic)).entry("second", &entry(&agent, "*.log", &later));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&file]), &mut tap, &agent);
    // The second one has no topic yet: its mark is where it was.
    agent.stop();
    file.write(3_000);
    file.rotate();
    file.write(3_000);
    kafka.create(&later, 1, &[]);
    agent.start();
    let expected = Expected::all([&file]);
    let mut second = Tap::open(kafka, &later);
    arrival(&expected, &mut second, &agent).assert_once(|| agent.report());
    arrives_once(&expected, &mut tap, &mut agent);
    arrives_once_more(&expected, &mut second);
    balances(&agent, "second", &expected);
}

/// Nothing came since.
fn arrives_once_more(expected: &Expected, tap: &mut Tap) {
    let verdict = expected.judge(tap.to_end(), tailmill_tests::oracle::Content::Same);
    verdict.assert_once(String::new);
}

#[test]
fn an_entry_that_is_removed_and_added_again_goes_on_where_it_was() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("again", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    let entry = entry(&agent, "app.log", &topic);
    agent.set("agent", "checkpoint_every_ms", 50).entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    let in_plan = |agent: &Agent| {
        agent.status()["entries"].as_array().is_some_and(|all| all.iter().any(|one| one["in_plan"] == json!(true)))
    };
    for restarted in [false, true, false] {
        file.write(2_000);
        arrival(&Expected::all([&file]), &mut tap, &agent);
        agent.remove_entry("app");
        agent.until("the entry is gone", |agent| {
            (!in_plan(agent) && agent.status()["streams"] == json!([])).then_some(())
        });
        file.write(1_000);
        if restarted {
            agent.stop_cleanly();
            agent.start();
        }
        file.rotate();
        file.write(1_000);
        agent.entry("app", &entry);
    }
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn an_entry_may_begin_at_the_end_leave_files_out_and_skip_what_is_too_long() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("rules", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.append(b"before\n");
    log(&agent, "debug", Style::Json, 2).append(b"not wanted\n");
    let mut entry = entry(&agent, "*.log", &topic);
    entry["start"] = json!("end");
    entry["exclude"] = json!(["debug*"]);
    entry["line_max_bytes"] = json!(1_000);
    entry["line_too_long"] = json!("skip");
    agent.entry("app", &entry);
    agent.start();
    until_read(&mut agent, file.path(), 7);
    file.append(b"one\n").append(&[b'x'; 5_000]).append(b"\ntwo\n");
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the lines are there", || agent.report(), |records| records.len() >= 2);
    // What is new after that is read from its beginning.
    log(&agent, "new", Style::Json, 3).append(b"three\n");
    tap.until("the new file is read", || agent.report(), |records| records.len() >= 3);
    agent.stop_cleanly();
    assert_eq!(tap.texts(), ["one", "two", "three"]);
    let loss = agent.summary()["entries"]["app"].clone();
    assert_eq!(loss["dropped"], json!({ "too-long": { "lines": 1, "bytes": 5_001 } }), "{loss}");
    assert_eq!(loss["balanced"], json!(true), "{loss}");
}

#[test]
fn every_key_of_an_entry_that_is_documented_is_accepted_and_no_other() {
    let text = std::fs::read_to_string(scratch::repository().join("docs/configuration.md")).unwrap();
    let table = text.split("## Entries").nth(1).unwrap();
    let keys = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut keys: Vec<String> = keys.filter(|cell| !cell.contains("(of a filter)")).flat_map(names).collect();
    keys.sort();
    let mut values: Vec<(&str, Value)> = vec![
        ("path", json!(["/var/log/a.log", "/var/log/{b,c}*.log"])),
        ("exclude", json!("*.gz")),
        ("topic", json!("one")),
        ("topics", json!(["two"])),
        ("cluster", json!("default")),
        ("nodes", json!(["web-*"])),
        ("labels", json!({ "role": "web" })),
        ("start", json!("end")),
        ("finish_after_ms", json!(1_000)),
        ("close_idle_ms", json!(0)),
        ("ignore_older_ms", json!(86_400_000)),
        ("line_max_bytes", json!(10_000)),
        ("line_too_long", json!("skip")),
        ("multiline", json!({ "start": "^x", "timeout_ms": 10, "max_bytes": 1_000 })),
        ("delimiter", json!("\u{0}")),
        ("encoding", json!("utf-16le")),
        ("compressed", json!(false)),
        ("filters", json!([{ "use": "grep", "with": { "include": "x" }, "on_error": "drop" }])),
        ("on_refused", json!("dead-letter")),
        ("dead_letter_topic", json!("three")),
        ("format", json!("json")),
        ("partition", json!("key")),
        ("key", json!({ "fixed": "k" })),
        ("headers", json!(["id", "node", "path", "offset", "entry"])),
    ];
    let mut agent = Agent::new(Kafka::shared());
    agent.stock("grep");
    let check = |agent: &Agent, values: &[(&str, Value)]| {
        let entry: serde_json::Map<String, Value> =
            values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        agent.entry("app", &Value::Object(entry));
        let output = agent.run(["check"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    agent.set("", "node", "web-1");
    assert_eq!(check(&agent, &values).0, Some(0), "{}", check(&agent, &values).1);
    let mut known: Vec<&str> = values.iter().map(|(key, _)| *key).collect();
    known.sort_unstable();
    assert_eq!(keys, known, "the documented keys and those of this test");
    values.push(("unheard_of", json!(1)));
    assert_eq!(check(&agent, &values).0, Some(64));
}

//! Lines on their ordinary way: from files through filters to Kafka, once and in order, and counted.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::{self, Style};
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::{Content, Expected};
use tailmill_tests::scene::{arrival, arrives_once, balances, entry, filtered, log};
use tailmill_tests::topic::{Record, Tap};

fn holds(line: &[u8], word: &str) -> bool {
    memchr::memmem::find(line, word.as_bytes()).is_some()
}

#[test]
fn every_line_of_ten_files_arrives_once_and_in_order_through_grep() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("ten", 4);
    let mut agent = Agent::new(kafka);
    let mut files: Vec<LogFile> = (0..10).map(|i| log(&agent, &format!("web-{i}"), Style::Access, i)).collect();
    for file in &mut files {
        file.write(20_000);
    }
    let grep = json!([{ "use": "grep", "with": { "exclude": "healthz" } }]);
    agent.stock("grep").entry("web", &filtered(entry(&agent, "web-*.log", &topic), grep));
    agent.start();
    let expected = Expected::those(&files, |line| !holds(line, "healthz"));
    assert!(expected.filtered.0 > 10_000, "the filter has something to do");
    arrives_once(&expected, &mut Tap::open(kafka, &topic), &mut agent);
    balances(&agent, "web", &expected);
}

#[test]
fn lines_pass_a_chain_of_filters_in_its_order() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("chain", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Syslog, 1);
    file.write(5_000);
    // The second grep sees what `upper` wrote: were the order another one, every line would be dropped.
    let chain = json!([
        { "use": "grep", "with": { "include": "ERROR" } },
        { "use": "upper" },
        { "use": "grep", "with": { "include": "WEB-01" } },
    ]);
    agent.stock("grep").stock("upper").entry("app", &filtered(entry(&agent, "app.log", &topic), chain));
    agent.start();
    let expected = Expected::those([&file], |line| holds(line, "ERROR"));
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the lines are there", || agent.report(), |records| records.len() >= expected.len());
    agent.stop_cleanly();
    let upper = |number| String::from_utf8_lossy(&lines::line(Style::Syslog, 1, number)).to_ascii_uppercase();
    let wanted: Vec<String> = file.numbers().map(upper).filter(|line| line.contains("ERROR")).collect();
    assert_eq!(tap.texts(), wanted);
    balances(&agent, "app", &expected);
}

#[test]
fn a_file_that_is_rotated_while_it_is_written_is_read_to_its_end_each_time() {
    // What the entry means: the log alone, and the log with everything it was renamed to.
    for (name, pattern) in [("alone", "alone.log"), ("both", "both.log*")] {
        let kafka = Kafka::shared();
        let topic = kafka.topic("rotated", 3);
        let mut agent = Agent::new(kafka);
        let mut file = log(&agent, name, Style::Json, 1);
        agent.entry("app", &entry(&agent, pattern, &topic));
        agent.start();
        let mut tap = Tap::open(kafka, &topic);
        for round in 0..15 {
            // A file that comes and goes between two looks was never under the entry's path: that is not this test.
            let before = file.numbers().end as usize;
            file.write(700 + round);
            tap.until("the new file was noticed", || agent.report(), |records| records.len() > before);
            file.write(700);
            file.rotate();
        }
        file.write(500);
        let expected = Expected::all([&file]);
        arrives_once(&expected, &mut tap, &mut agent);
        balances(&agent, "app", &expected);
    }
}

#[test]
fn a_last_line_without_newline_is_shipped_when_its_file_is_finished_and_not_before() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("partial", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Syslog, 1);
    file.append(b"one\nhal");
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the first line is there", || agent.report(), |records| records.len() == 1);
    file.append(b"f\nthe end");
    tap.until("the second line is there", || agent.report(), |records| records.len() == 2);
    file.rotate();
    file.append(b"new\n");
    tap.until("the last two are there", || agent.report(), |records| records.len() == 4);
    assert_eq!(tap.texts(), ["one", "half", "the end", "new"]);
}

#[test]
fn a_json_envelope_says_where_a_line_came_from() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("envelope", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Syslog, 1);
    file.append(b"a \"quoted\" \\ line\n");
    let mut entry = entry(&agent, "app.log", &topic);
    entry["format"] = json!("json");
    agent.entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the line is there", || agent.report(), |records| records.len() == 1);
    let value: Value = serde_json::from_slice(tap.records()[0].bytes()).unwrap();
    assert_eq!(value["message"], r#"a "quoted" \ line"#);
    assert_eq!((&value["node"], &value["path"]), (&json!("test-node"), &json!(file.path())));
    assert!(value.get("time").is_some(), "{value}");
}

#[test]
fn records_carry_the_headers_and_the_key_that_the_entry_asks_for() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("headers", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Syslog, 1);
    file.append(b"one\nthree\n");
    let mut entry = entry(&agent, "app.log", &topic);
    entry["headers"] = json!(["id", "node", "path", "offset", "entry"]);
    entry["key"] = json!("node");
    agent.entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    let records = tap.until("the lines are there", || agent.report(), |records| records.len() == 2);
    let path = file.path().display().to_string();
    for (record, offset) in records.iter().zip(["0", "4"]) {
        let text = |name| record.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(text("node").as_deref(), Some("test-node"));
        assert_eq!(text("path").as_deref(), Some(&*path));
        assert_eq!(text("entry").as_deref(), Some("app"));
        assert_eq!(text("offset").as_deref(), Some(offset));
        assert_eq!(record.key.as_deref(), Some(&b"test-node"[..]));
    }
    let ids: Vec<_> = records.iter().map(|record| record.header("id").map(<[u8]>::to_vec)).collect();
    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn records_say_which_line_of_which_file_they_are_also_after_a_restart_and_a_rotation() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("line-numbers", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    let mut entry = entry(&agent, "app.log", &topic);
    entry["headers"] = json!(["inode", "generation", "line"]);
    agent.entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    let inode = |file: &LogFile| std::fs::metadata(file.path()).expect("it is there").ino();
    // Number in the file and inode of each line, in order.
    let mut expected = Vec::new();
    let mut write = |file: &mut LogFile, lines: std::ops::RangeInclusive<u64>| {
        file.write(lines.clone().count() as u64);
        expected.extend(lines.map(|line| (line.to_string(), inode(file).to_string())));
        expected.len()
    };
    let all = write(&mut file, 1..=5_000);
    tap.until("the first lines", || agent.report(), |records| records.len() >= all);
    agent.stop_cleanly();
    let all = write(&mut file, 5_001..=5_100);
    agent.start();
    tap.until("those after a restart", || agent.report(), |records| records.len() >= all);
    file.rotate();
    let all = write(&mut file, 1..=50);
    tap.until("those of the next file", || agent.report(), |records| records.len() >= all);
    let text = |record: &Record, name: &str| String::from_utf8_lossy(record.header(name).expect(name)).into_owned();
    let found: Vec<(String, String)> =
        tap.records().iter().map(|record| (text(record, "line"), text(record, "inode"))).collect();
    assert_eq!(found.len(), expected.len());
    let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(wrong, None, "{:?}", wrong.map(|i| (&found[i], &expected[i])));
    let mut generations: Vec<String> = tap.records().iter().map(|record| text(record, "generation")).collect();
    assert!(generations.iter().all(|id| id.len() == 32));
    generations.dedup();
    assert_eq!(generations.len(), 2, "{generations:?}");
}

#[test]
fn a_filter_learns_of_which_file_its_lines_are_also_after_a_restart_and_a_rotation() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("asked-by-a-filter", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    agent.module("origin", &guests::says_origin());
    let mut entry = filtered(entry(&agent, "app.log", &topic), json!([{"use": "origin"}]));
    entry["headers"] = json!(["inode", "generation", "line"]);
    agent.entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    file.write(2_000);
    tap.until("the first lines", || agent.report(), |records| records.len() >= 2_000);
    agent.stop_cleanly();
    file.write(100);
    agent.start();
    tap.until("those after a restart", || agent.report(), |records| records.len() >= 2_100);
    file.rotate();
    file.write(50);
    tap.until("those of the next file", || agent.report(), |records| records.len() >= 2_150);
    // What the filter was told is what the host says in headers; the batch of a line begins with it or with one before it.
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    let header = |record: &Record, name: &str| String::from_utf8_lossy(record.header(name).expect(name)).into_owned();
    let mut firsts = Vec::new();
    for (i, record) in tap.records().iter().enumerate() {
        let (inode, rest) = record.bytes().split_at(8);
        let (first_line, generation) = rest.split_at(8);
        assert_eq!(number(inode).to_string(), header(record, "inode"), "record {i}");
        assert_eq!(String::from_utf8_lossy(generation), header(record, "generation"), "record {i}");
        let line: u64 = header(record, "line").parse().expect("a number");
        assert!((1..=line).contains(&number(first_line)), "record {i}: line {line} of a batch from {first_line:?} on");
        if [0, 2_000, 2_100].contains(&i) {
            firsts.push((number(first_line), line));
        }
    }
    assert_eq!(firsts, [(1, 1), (2_001, 2_001), (1, 1)]);
    let of = |i: usize| [16..48, 0..8].map(|part| tap.records()[i].bytes()[part].to_vec());
    assert_eq!(of(0), of(2_099));
    assert_ne!(of(0)[0], of(2_100)[0], "the generation of the next file");
    assert_ne!(of(0)[1], of(2_100)[1], "its inode");
}

#[test]
fn the_partition_is_the_one_that_the_entry_asks_for() {
    let kafka = Kafka::shared();
    let check = |partition: Value, right: fn(&[i32]) -> bool| {
        let topic = kafka.topic("partition", 4);
        let mut agent = Agent::new(kafka);
        let mut file = log(&agent, "app", Style::Json, 1);
        file.write(400);
        let mut entry = entry(&agent, "app.log", &topic);
        entry["partition"] = partition.clone();
        agent.entry("app", &entry);
        agent.start();
        let mut tap = Tap::open(kafka, &topic);
        tap.until("the lines are there", || agent.report(), |records| records.len() >= 400);
        let mut lines = [0; 4];
        tap.records().iter().for_each(|record| lines[record.partition as usize] += 1);
        assert!(right(&lines), "{partition}: {lines:?}");
    };
    check(json!(2), |lines| lines == [0, 0, 400, 0]);
    check(json!("round-robin"), |lines| lines == [100; 4]);
    check(json!("stream"), |lines| lines.contains(&400));
    check(json!("random"), |lines| lines.iter().sum::<i32>() == 400);
}

#[test]
fn empty_lines_and_bytes_that_are_no_text_arrive_as_they_are() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bytes", 1);
    let mut agent = Agent::new(kafka);
    log(&agent, "app", Style::Syslog, 1).append(b"\n\0\xff\xfe\n\ncrlf\r\n");
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the lines are there", || agent.report(), |records| records.len() == 4);
    let values: Vec<Option<&[u8]>> = tap.records().iter().map(|record| record.value.as_deref()).collect();
    assert_eq!(values, [Some(&b""[..]), Some(b"\0\xff\xfe"), Some(b""), Some(b"crlf")]);
}

#[test]
fn a_topic_that_is_missing_stops_its_own_streams_only_and_they_go_on_when_it_is_made() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("present", 1);
    let missing = format!("{topic}-missing");
    let mut agent = Agent::new(kafka);
    let (mut good, mut waiting) = (log(&agent, "good", Style::Access, 1), log(&agent, "waiting", Style::Access, 2));
    waiting.write(3_000);
    agent.entry("waiting", &entry(&agent, "waiting.log", &missing)).entry("good", &entry(&agent, "good.log", &topic));
    agent.start();
    agent.until("the missing topic is known to be missing", |agent| {
        let (code, body) = agent.get("/readyz")?;
        (code == 503 && body.contains(&missing)).then_some(())
    });
    agent.until_log("it does not exist: create it");
    good.write(30_000);
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&good]), &mut tap, &agent).assert_once(|| agent.report());
    kafka.create(&missing, 1, &[]);
    let mut tap = Tap::open(kafka, &missing);
    arrives_once(&Expected::all([&waiting]), &mut tap, &mut agent);
}

#[test]
fn a_topic_that_is_missing_is_made_where_the_settings_and_the_brokers_allow_it() {
    let kafka = Kafka::shared();
    let topic = format!("{}-made", kafka.topic("beside", 1));
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Access, 1);
    file.write(3_000);
    agent.set("kafka.properties", "allow.auto.create.topics", "true");
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    agent.until("all of it was acknowledged", |agent| {
        (agent.metric("tailmill_delivered_lines_total", "entry=\"app\"") == 3_000.0).then_some(())
    });
    let mut tap = Tap::open(kafka, &topic);
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn a_redacted_line_keeps_everything_but_the_secret() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("redacted", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(5_000);
    let redact = json!([{ "use": "redact", "with": {} }]);
    agent.stock("redact").entry("app", &filtered(entry(&agent, "app.log", &topic), redact));
    agent.start();
    let expected = Expected::all([&file]);
    let mut tap = Tap::open(kafka, &topic);
    expected.arrives(&mut tap, Content::Changed, || agent.report()).assert_once(|| agent.report());
    let address = "anna.schmidt@example.com";
    let had = file.numbers().filter(|number| holds(&lines::line(Style::Json, 1, *number), address)).count();
    assert!(had > 500, "the generator wrote {had} addresses");
    assert!(!tap.texts().iter().any(|text| text.contains(address)));
}

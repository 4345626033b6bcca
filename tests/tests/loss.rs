//! The loss equation of each entry, in lines and bytes, over several lives of an agent with a bad time: what the agent says
//! of itself against what the files, the topics and the marks say.

use std::os::unix::fs::MetadataExt as _;

use rustix::process::Signal;
use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::{Content, Expected};
use tailmill_tests::scene::{arrival, entry, filtered, log};
use tailmill_tests::topic::Tap;

/// Lines and bytes.
type Count = (u64, u64);

fn plus(a: Count, b: Count) -> Count {
    (a.0 + b.0, a.1 + b.1)
}

/// What was written that should not arrive, beside the lines that `grep` takes out.
#[derive(Default)]
struct Odd {
    too_long: Count,
    failing: Count,
}

impl Odd {
    fn write(&mut self, file: &mut LogFile) {
        for (length, count) in [(5_000, &mut self.too_long), (900, &mut self.failing)] {
            file.append(&vec![b'x'; length]).append(b"\n");
            *count = plus(*count, (1, length as u64 + 1));
        }
    }
}

fn write_each(files: &mut [LogFile; 2], count: u64) {
    for file in files {
        file.write(count);
    }
}

fn keep(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"healthz").is_none()
}

/// A term of an entry's equation, summed over the lives.
fn term(lives: &[Value], entry: &str, term: &[&str]) -> Count {
    let of = |life: &Value| {
        let found = term.iter().fold(&life["entries"][entry], |value, key| &value[*key]);
        (found["lines"].as_u64().unwrap_or(0), found["bytes"].as_u64().unwrap_or(0))
    };
    lives.iter().map(of).fold((0, 0), plus)
}

fn arrived(tap: &mut Tap) -> Count {
    tap.to_end().iter().map(|record| (1, record.bytes().len() as u64 + 1)).fold((0, 0), plus)
}

/// What lies in the files of an entry behind their marks.
fn behind_marks(agent: &Agent, entry: &str) -> u64 {
    let output = agent.run(["state", "show", "--json"]);
    let state: Value = serde_json::from_slice(&output.stdout).expect("state show says JSON");
    let streams = state["streams"].as_array().expect("streams are listed");
    let behind = |stream: &Value| {
        let size =
            std::fs::metadata(stream["path"].as_str().expect("a path is text")).expect("no file was deleted").len();
        let mark = stream["resume"]
            .as_object()
            .and_then(|parts| parts.get("offset").or_else(|| parts.values().next()?.get("offset")));
        size - mark.and_then(Value::as_u64).expect("a resume point has an offset")
    };
    streams.iter().filter(|stream| stream["entry"] == json!(entry)).map(behind).sum()
}

#[test]
fn over_a_chaos_of_restarts_rotations_and_failures_every_line_and_byte_is_accounted_for() {
    let kafka = Kafka::start();
    let topics = ["plain", "odd"].map(|name| kafka.topic(name, 2));
    let mut agent = Agent::new(&kafka);
    agent.set("agent", "stop_deadline_ms", 500);
    // A line that is long, but not too long, lets the second filter fail.
    agent
        .stock("grep")
        .module("bad", &guests::line_world("(if (i32.gt_u (local.get $len) (i32.const 800)) (then unreachable))"));
    let chain = json!([
        { "use": "grep", "with": { "exclude": "healthz" } },
        { "use": "bad", "on_error": "drop", "stateless": true },
    ]);
    let mut odd_entry = filtered(entry(&agent, "odd.log", &topics[1]), chain);
    odd_entry["line_max_bytes"] = json!(2_000);
    odd_entry["line_too_long"] = json!("skip");
    let plain_entry = entry(&agent, "plain.log", &topics[0]);
    agent.entry("plain", &plain_entry).entry("odd", &odd_entry);
    let mut files = [log(&agent, "plain", Style::Json, 1), log(&agent, "odd", Style::Access, 2)];
    let mut taps = topics.each_ref().map(|topic| Tap::open(&kafka, topic));
    let mut odd = Odd::default();
    let mut lives = Vec::new();
    let all = |file: &LogFile| if file.writer() == 2 { Expected::those([file], keep) } else { Expected::all([file]) };
    let everything = |files: &[LogFile; 2], taps: &mut [Tap; 2], agent: &Agent| {
        for (file, tap) in files.iter().zip(taps) {
            arrival(&all(file), tap, agent).assert_once(|| agent.report());
        }
    };

    // The broker dies and comes back; a stop while much is on its way.
    agent.set("agent", "stop_deadline_ms", 60_000).start();
    write_each(&mut files, 3_000);
    odd.write(&mut files[1]);
    everything(&files, &mut taps, &agent);
    kafka.kill();
    for file in &mut files {
        file.write(3_000).rotate();
        file.write(3_000);
    }
    agent.until("it says that the cluster is down", |agent| (agent.get("/readyz")?.0 == 503).then_some(()));
    kafka.start_again();
    everything(&files, &mut taps, &agent);
    write_each(&mut files, 30_000);
    odd.write(&mut files[1]);
    taps[0].until("some of it is there", || agent.report(), |records| records.len() > 10_000);
    agent.stop_cleanly();
    lives.push(agent.summary());

    // Rotations while stopped and while frozen; an entry goes and comes back.
    for file in &mut files {
        file.write(2_000).rotate();
        file.write(2_000).rotate();
        file.write(2_000);
    }
    agent.start();
    taps[1].until("it goes on", || agent.report(), |records| records.len() > 10_000);
    agent.process().signal(Signal::STOP);
    for file in &mut files {
        file.write(2_000).rotate();
        file.write(2_000);
    }
    odd.write(&mut files[1]);
    agent.process().signal(Signal::CONT);
    everything(&files, &mut taps, &agent);
    agent.remove_entry("plain");
    files[0].write(2_000);
    agent.until("the entry is gone", |agent| {
        let status = agent.status();
        status["streams"].as_array()?.iter().all(|stream| stream["entry"] != json!("plain")).then_some(())
    });
    agent.entry("plain", &plain_entry);
    everything(&files, &mut taps, &agent);
    agent.stop_cleanly();
    lives.push(agent.summary());

    // Stopped while the broker is down.
    agent.set("agent", "stop_deadline_ms", 500).start();
    write_each(&mut files, 1_000);
    everything(&files, &mut taps, &agent);
    let on_time = files.each_ref().map(all);
    agent.until("nothing is pending", |agent| {
        let pending = agent.status()["total"]["loss"]["pending"].clone();
        (pending == json!({ "lines": 0, "bytes": 0 })).then_some(())
    });
    kafka.stop();
    write_each(&mut files, 700);
    agent.until("it has read the rest", |agent| {
        let status = agent.status();
        let read = |file: &LogFile| {
            let path = json!(file.path());
            let stream = status["streams"].as_array()?.iter().find(|stream| stream["path"] == path)?;
            (stream["read"].as_u64()? == std::fs::metadata(file.path()).ok()?.len()).then_some(())
        };
        files.iter().try_for_each(read)
    });
    assert_eq!(agent.stop().code(), Some(2), "{}", agent.report());
    lives.push(agent.summary());
    kafka.start_again();

    for (ix, name) in ["plain", "odd"].into_iter().enumerate() {
        let (file, in_time, in_all) = (&files[ix], &on_time[ix], all(&files[ix]));
        let is = |what: &[&str]| term(&lives, name, what);
        let late = (in_all.delivered.0 - in_time.delivered.0, in_all.delivered.1 - in_time.delivered.1);
        let (too_long, failing) = if name == "odd" { (odd.too_long, odd.failing) } else { ((0, 0), (0, 0)) };
        let written = [in_all.delivered, in_all.filtered, too_long, failing].into_iter().fold((0, 0), plus);
        assert_eq!(written.1, file.bytes(), "the oracle knows every byte of {name}");
        in_time.judge(taps[ix].to_end(), Content::Same).assert_once(|| agent.report());
        assert_eq!(arrived(&mut taps[ix]), in_time.delivered, "what lies in the topic of {name}");

        assert_eq!(is(&["read"]), plus(written, is(&["rewound"])), "read of {name}: {lives:#?}");
        assert_eq!(is(&["delivered"]), in_time.delivered, "delivered of {name}: {lives:#?}");
        assert_eq!(is(&["filtered"]), in_all.filtered, "filtered of {name}: {lives:#?}");
        assert_eq!(is(&["dropped", "too-long"]), too_long, "too long of {name}: {lives:#?}");
        assert_eq!(is(&["dropped", "filter-error"]), failing, "failed of {name}: {lives:#?}");
        assert_eq!(is(&["pending"]), late, "pending of {name}: {lives:#?}");
        for life in &lives {
            assert_eq!(life["entries"][name]["balanced"], json!(true), "{life:#}");
            assert_eq!(life["entries"][name]["lost_bytes"], json!(0), "{life:#}");
        }
    }
    assert_eq!(behind_marks(&agent, "plain"), term(&lives, "plain", &["pending"]).1, "{}", agent.report());
}

/// The loss equation of an entry as `/status` says it; `/metrics` says the same.
fn equation(agent: &Agent, entry: &str) -> Value {
    let status = agent.status();
    let entries = status["entries"].as_array().expect("entries are listed");
    let loss = entries.iter().find(|one| one["name"] == json!(entry)).expect("the entry is there")["loss"].clone();
    assert_eq!(loss["balanced"], json!(true), "{loss}");
    let label = format!("entry=\"{entry}\"");
    for (term, kind) in
        [("read", "_total"), ("delivered", "_total"), ("filtered", "_total"), ("rewound", "_total"), ("pending", "")]
    {
        for unit in ["lines", "bytes"] {
            let said = agent.metric(&format!("tailmill_{term}_{unit}{kind}"), &label);
            assert_eq!(json!(said as u64), loss[term][unit], "{term} {unit}: /metrics {said}, /status {loss}");
        }
    }
    assert_eq!(json!(agent.metric("tailmill_lost_bytes_total", &label) as u64), loss["lost_bytes"], "{loss}");
    loss
}

/// Waits until the agent has counted this as delivered, and nothing else of the equation is open; both ways of asking it
/// agree.
fn settled(agent: &mut Agent, entry: &str, bytes: u64, why: &str) -> Value {
    agent.until(&format!("{bytes} bytes of {entry} are delivered {why}"), |agent| {
        let status = agent.status();
        let found = status["entries"].as_array()?.iter().find(|one| one["name"] == json!(entry))?;
        let loss = &found["loss"];
        (loss["delivered"]["bytes"] == json!(bytes) && loss["pending"]["bytes"] == json!(0)).then_some(())
    });
    let loss = equation(agent, entry);
    assert_eq!(loss["read"], loss["delivered"], "{loss}");
    loss
}

/// Everything that was so until now is in the store: what is written for the second line was put together after the first.
fn until_written_down(agent: &mut Agent, file: &mut LogFile) {
    let store = agent.path("state/tailmill.redb");
    let written = || std::fs::metadata(&store).and_then(|facts| facts.modified()).expect("the store is there");
    for _ in 0..2 {
        let before = written();
        file.write(1);
        agent.until("a commit", |_| (written() > before).then_some(()));
    }
}

/// Bytes of the logs behind the marks that the next start will find. A copy holds nothing of its own.
fn behind_marks_on_disk(agent: &Agent) -> u64 {
    let output = agent.run(["state", "show", "--json"]);
    let state: Value = serde_json::from_slice(&output.stdout).expect("state show says JSON");
    let streams = state["streams"].as_array().expect("streams are listed");
    let mark = |inode: u64| {
        let here = streams.iter().filter(|stream| stream["place"]["inode"] == json!(inode));
        let newest = here.max_by_key(|stream| stream["updated_ms"].as_i64());
        newest.map_or(0, |stream| stream["resume"]["offset"].as_u64().expect("a resume point has an offset"))
    };
    let files = std::fs::read_dir(agent.path("logs")).expect("a directory can be listed").flatten();
    let logs = files.filter(|file| !file.file_name().to_string_lossy().contains("copy"));
    logs.map(|file| file.metadata().expect("nobody deletes it")).map(|facts| facts.len() - mark(facts.ino())).sum()
}

#[test]
fn after_each_kill_exactly_what_lies_behind_the_marks_is_read_again() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("lives", 2);
    let mut agent = Agent::new(kafka);
    let mut entry = entry(&agent, "app.log", &topic);
    entry["finish_after_ms"] = json!(3_600_000);
    agent.entry("app", &entry);
    let mut file = log(&agent, "app", Style::Syslog, 1);
    let mut tap = Tap::open(kafka, &topic);
    let (mut counted, mut repeated_at_most) = (0, 0);
    const LIVES: u32 = 6;
    for life in 0..LIVES {
        let behind = if life == 0 { 0 } else { behind_marks_on_disk(&agent) };
        repeated_at_most += behind;
        let before = file.bytes();
        agent.start();
        file.write(500);
        settled(&mut agent, "app", behind + file.bytes() - before, "at first");
        file.rotate();
        file.write(500);
        let loss = settled(&mut agent, "app", behind + file.bytes() - before, "after a rotation");
        assert_eq!((&loss["rewound"]["bytes"], &loss["lost_bytes"]), (&json!(0), &json!(0)), "{loss}");
        // All of it was read: nothing is lost with the truncation, and nothing of the copy comes again.
        std::fs::copy(file.path(), agent.path(format!("logs/app.log.copy{life}"))).unwrap();
        std::fs::File::create(file.path()).unwrap();
        file.write(200);
        let loss = settled(&mut agent, "app", behind + file.bytes() - before, "after a truncation");
        assert_eq!(loss["lost_bytes"], json!(0), "{loss}");
        counted += loss["delivered"]["lines"].as_u64().unwrap();
        if life + 1 == LIVES {
            break;
        }
        // Killed before it has written down the truncation, it would read the copy again.
        until_written_down(&mut agent, &mut file);
        // More than it can have shipped when it dies, and a rotation that it may or may not have seen.
        file.write(20_000).rotate();
        file.write(20_000);
        let from = tap.to_end().len();
        tap.until("it is in the middle of it", || agent.report(), |records| records.len() > from + 1_000);
        agent.kill();
    }
    let loss = equation(&agent, "app");
    agent.stop_cleanly();
    let summary = agent.summary();
    for term in ["read", "delivered", "filtered", "rewound", "pending", "lost_bytes", "dropped", "balanced"] {
        assert_eq!(summary["entries"]["app"][term], loss[term], "{term}: /status {loss}, at the end {summary}");
    }
    assert_eq!(behind_marks_on_disk(&agent), 0, "{}", agent.report());
    let verdict = Expected::all([&file]).judge(tap.to_end(), Content::Same);
    verdict.assert_none_missing(|| agent.report());
    let in_kafka = arrived(&mut tap);
    assert!(in_kafka.0 >= counted, "{} records, {counted} counted before the kills", in_kafka.0);
    let repeated = in_kafka.1 - file.bytes();
    assert!(repeated <= repeated_at_most, "{repeated} bytes came again, {repeated_at_most} lay behind marks");
    println!(
        "{LIVES} lives: {} lines, {} repeated ({repeated} bytes of {repeated_at_most})",
        file.numbers().end,
        verdict.repeated
    );
}

#[test]
fn what_was_seen_and_truncated_away_without_a_copy_is_counted_to_the_byte() {
    let kafka = Kafka::start();
    let topic = kafka.topic("uncopied", 1);
    let mut agent = Agent::new(&kafka);
    // So little may be in flight that most of what is written while the broker is down is seen and not read.
    agent.set("agent", "inflight_bytes_max", 1 << 20).set("agent", "inflight_topic_bytes_max", 1 << 18);
    agent.set("agent", "batch_bytes", 1 << 16);
    let mut entry = entry(&agent, "*.log", &topic);
    entry["line_max_bytes"] = json!(10_000);
    agent.entry("app", &entry);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(10);
    agent.start();
    let mut tap = Tap::open(&kafka, &topic);
    arrival(&Expected::all([&file]), &mut tap, &agent);
    kafka.stop();
    // What happens in the directory is heard in its order: when this file is open, all before it was seen.
    let seen = |agent: &mut Agent, name: &str| {
        let path = log(agent, name, Style::Json, 9).path().to_owned();
        agent.until("it has seen what was written", |agent| {
            let status = agent.status();
            status["streams"].as_array()?.iter().any(|stream| stream["path"] == json!(path)).then_some(())
        });
    };
    file.write(10_000);
    seen(&mut agent, "first");
    std::fs::copy(file.path(), agent.path("logs/app.log.1")).unwrap();
    let (kept, from) = (file.numbers(), file.bytes());
    file.write(500);
    let lost = file.bytes() - from;
    let again = file.numbers().end;
    seen(&mut agent, "second");
    std::fs::File::create(file.path()).unwrap();
    file.write(100);
    seen(&mut agent, "third");
    kafka.start_again();
    let numbers = kept.chain(again..file.numbers().end);
    let expected = Expected::lines(Style::Json, numbers.map(|number| (1, number)));
    arrival(&expected, &mut tap, &agent);
    agent.until("the loss is counted", |agent| {
        (agent.status()["total"]["loss"]["lost_bytes"] != json!(0)).then_some(())
    });
    agent.stop_cleanly();
    expected.judge(tap.to_end(), Content::Same).assert_once(|| agent.report());
    let summary = agent.summary();
    assert_eq!(summary["entries"]["app"]["lost_bytes"], json!(lost), "{summary}");
    assert_eq!(arrived(&mut tap).1 + lost, file.bytes(), "{summary}");
    assert_eq!(summary["entries"]["app"]["balanced"], json!(true), "{summary}");
}

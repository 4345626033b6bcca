//! Descriptors and disk space: idle files are closed, deleted ones are bounded, and what is lost by that is counted.

use serde_json::json;
use std::path::Path;
use tailmill_tests::agent::Agent;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::oracle::{Content, Expected};
use tailmill_tests::scene::{arrival, arrives_once, balances, entry, log};
use tailmill_tests::topic::Tap;

/// Whether the agent has the file open.
fn has_open(agent: &Agent, path: &Path) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.process().pid())).expect("it runs");
    descriptors.flatten().any(|one| std::fs::read_link(one.path()).is_ok_and(|to| to == path))
}

fn has_open_deleted(agent: &Agent, path: &Path) -> bool {
    has_open(agent, Path::new(&format!("{} (deleted)", path.display())))
}

fn until_closed(agent: &mut Agent, path: &Path) {
    agent.until("the idle file is closed", |agent| (!has_open(agent, path)).then_some(()));
}

#[test]
fn idle_files_are_closed_and_nothing_that_happens_to_them_meanwhile_is_lost() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("idle", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(1_000);
    let mut entry = entry(&agent, "app.log", &topic);
    entry["close_idle_ms"] = json!(100);
    agent.set("agent", "scan_every_ms", 100).entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    let path = file.path().to_owned();
    for _ in 0..3 {
        arrival(&Expected::all([&file]), &mut tap, &agent);
        until_closed(&mut agent, &path);
        file.write(100);
    }
    // Written and renamed while it is closed; then once more, and half a line at the end.
    arrival(&Expected::all([&file]), &mut tap, &agent);
    until_closed(&mut agent, &path);
    file.write(100);
    file.rotate();
    file.write(100);
    arrival(&Expected::all([&file]), &mut tap, &agent);
    until_closed(&mut agent, &path);
    file.rotate();
    file.write(100);
    // Deleted while it is closed, with nothing unread.
    arrival(&Expected::all([&file]), &mut tap, &agent);
    until_closed(&mut agent, &path);
    std::fs::remove_file(&path).unwrap();
    agent.until("no stream is left of it", |agent| {
        let status = agent.status();
        let streams = status["streams"].as_array()?;
        streams.iter().all(|stream| stream["path"] != json!(path)).then_some(())
    });
    let expected = Expected::all([&file]);
    arrives_once(&expected, &mut tap, &mut agent);
    balances(&agent, "app", &expected);
}

#[test]
fn a_deleted_file_that_takes_too_much_is_given_up_and_its_loss_is_counted_to_the_byte() {
    let kafka = Kafka::start();
    let topic = kafka.topic("pinned", 1);
    let mut agent = Agent::new(&kafka);
    agent.set("agent", "inflight_bytes_max", 1 << 20).set("agent", "inflight_topic_bytes_max", 1 << 18);
    const PINNED_BYTES_MAX: u64 = 2_250_000;
    agent.set("agent", "pinned_bytes_max", PINNED_BYTES_MAX).set("agent", "batch_bytes", 1 << 16);
    let (mut small, mut large) = (log(&agent, "small", Style::Json, 1), log(&agent, "large", Style::Json, 2));
    small.write(10);
    large.write(10);
    let mut entry = entry(&agent, "*.log", &topic);
    entry["line_max_bytes"] = json!(10_000);
    agent.entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(&kafka, &topic);
    arrival(&Expected::all([&small, &large]), &mut tap, &agent);
    kafka.stop();
    // Each fits, the first so that people are warned; together they are too much.
    small.write(10_500);
    large.write(12_500);
    let kept = small.bytes() + large.bytes();
    assert!(small.bytes() * 10 > PINNED_BYTES_MAX * 8 && large.bytes() < PINNED_BYTES_MAX, "{kept} bytes");
    std::fs::remove_file(small.path()).unwrap();
    agent.until_log("deleted files that are still unread take");
    std::fs::remove_file(large.path()).unwrap();
    agent.until_log("given up: it was deleted");
    agent.until("its space is free", |agent| (!has_open_deleted(agent, small.path())).then_some(()));
    kafka.start_again();
    let all = Expected::all([&small, &large]);
    agent.until("the rest has come to an end", |agent| agent.status()["streams"].as_array()?.is_empty().then_some(()));
    agent.stop_cleanly();
    let verdict = all.judge(tap.to_end(), Content::Same);
    let delivered: u64 = tap.records().iter().map(|record| record.bytes().len() as u64 + 1).sum();
    let lost = agent.summary()["entries"]["app"]["lost_bytes"].as_u64().unwrap();
    assert!(!verdict.missing.is_empty(), "something was lost");
    assert_eq!(delivered + lost, kept, "{}", agent.report());
    assert!(verdict.missing.iter().all(|line| line.0 == 1), "only of the one that was deleted first");
}

#[test]
fn a_file_that_is_older_than_ignore_older_is_left_alone_until_it_is_written() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("older", 1);
    let mut agent = Agent::new(kafka);
    let (mut old, mut new) = (log(&agent, "old", Style::Json, 1), log(&agent, "new", Style::Json, 2));
    old.write(100);
    new.write(100);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7 * 24 * 3600);
    std::fs::File::options().append(true).open(old.path()).unwrap().set_modified(long_ago).unwrap();
    let mut entry = entry(&agent, "*.log", &topic);
    entry["ignore_older_ms"] = json!(24 * 3600 * 1000);
    agent.set("agent", "scan_every_ms", 100).entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&new]), &mut tap, &agent).assert_once(|| agent.report());
    assert_eq!(tap.to_end().len(), 100);
    old.write(100);
    arrives_once(&Expected::all([&old, &new]), &mut tap, &mut agent);
}

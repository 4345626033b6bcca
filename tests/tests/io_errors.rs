//! Disks that fail: a log that cannot be read, a state store that cannot be written. What is concerned stands still,
//! loudly; everything else goes on; when the disk is well again, every line has arrived once.

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::failing::{Calls, FailingDisk};
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrival, arrives_once, balances, entry, log};
use tailmill_tests::topic::Tap;

fn until_unready(agent: &mut Agent, why: &str) {
    agent.until(&format!("it is not ready: {why}"), |agent| {
        let (code, body) = agent.get("/readyz")?;
        (code == 503 && body.contains(why)).then_some(())
    });
}

fn until_ready(agent: &mut Agent) {
    agent.until("it is ready again", |agent| (agent.get("/readyz")?.0 == 200).then_some(()));
}

/// A good file and one on a failing disk, in one entry; what was written before has arrived.
fn one_of_two_fails() -> (Agent, FailingDisk, LogFile, LogFile, Tap) {
    let kafka = Kafka::shared();
    let topic = kafka.topic("reads", 1);
    let mut agent = Agent::new(kafka);
    let (mut good, mut bad) = (log(&agent, "good", Style::Json, 1), log(&agent, "bad", Style::Json, 2));
    let disk = FailingDisk::under(&mut agent, bad.path(), Calls::Reads, libc::EIO);
    good.write(500);
    bad.write(500);
    agent.entry("app", &entry(&agent, "*.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&good, &bad]), &mut tap, &agent);
    (agent, disk, good, bad, tap)
}

#[test]
fn a_file_that_cannot_be_read_stands_still_loudly_and_the_others_go_on() {
    let (mut agent, disk, mut good, mut bad, mut tap) = one_of_two_fails();
    let before = bad.bytes();
    disk.break_it();
    bad.write(500);
    agent.until("the stream is blocked", |agent| {
        let status = agent.status();
        let path = json!(bad.path());
        let stream = status["streams"].as_array()?.iter().find(|stream| stream["path"] == path)?.clone();
        let said = stream["reason"].as_str()?.contains("os error 5");
        (stream["state"] == json!("blocked") && said && stream["mark"] == json!(before)).then_some(())
    });
    until_unready(&mut agent, "entry app");
    good.write(20_000);
    tap.until("the other one goes on", || agent.report(), |records| records.len() == 21_000);
    assert!(agent.log().contains("os error 5"), "{}", agent.report());
    disk.mend();
    let expected = Expected::all([&good, &bad]);
    arrival(&expected, &mut tap, &agent);
    until_ready(&mut agent);
    arrives_once(&expected, &mut tap, &mut agent);
    balances(&agent, "app", &expected);
}

#[test]
fn a_file_that_cannot_be_read_at_the_start_keeps_its_mark() {
    let (mut agent, disk, mut good, mut bad, mut tap) = one_of_two_fails();
    agent.stop_cleanly();
    disk.break_it();
    good.write(1_000);
    bad.write(1_000);
    agent.set("agent", "scan_every_ms", 500).start();
    tap.until("the other one goes on", || agent.report(), |records| records.len() == 2_000);
    agent.until("it says what is wrong", |agent| {
        let status: Value = agent.status();
        status.to_string().contains("os error 5").then_some(())
    });
    disk.mend();
    arrives_once(&Expected::all([&good, &bad]), &mut tap, &mut agent);
}

#[test]
fn while_the_state_store_cannot_be_written_shipping_goes_on_and_marks_wait_loudly() {
    let kafka = Kafka::shared();
    for errno in [libc::EIO, libc::EROFS, libc::ENOSPC] {
        let topic = kafka.topic("writes", 1);
        let mut agent = Agent::new(kafka);
        let store = agent.path("state/tailmill.redb");
        let disk = FailingDisk::under(&mut agent, &store, Calls::Writes, errno);
        let mut file = log(&agent, "app", Style::Json, 1);
        file.write(1_000);
        agent.set("agent", "checkpoint_every_ms", 50);
        agent.entry("app", &entry(&agent, "app.log", &topic));
        agent.start();
        let mut tap = Tap::open(kafka, &topic);
        arrival(&Expected::all([&file]), &mut tap, &agent);
        disk.break_it();
        file.write(1_000);
        until_unready(&mut agent, "marks wait");
        file.write(20_000);
        arrival(&Expected::all([&file]), &mut tap, &agent).assert_once(|| agent.report());
        assert!(agent.log().contains("marks wait"), "the log says it too\n{}", agent.report());
        disk.mend();
        agent.until_log("marks are saved again");
        until_ready(&mut agent);
        agent.stop_cleanly();
        // They are: nothing comes again.
        file.write(1_000);
        agent.start();
        arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
    }
}

#[test]
fn what_came_while_marks_waited_comes_again_after_a_kill_and_nothing_else_does() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("waiting", 1);
    let mut agent = Agent::new(kafka);
    let store = agent.path("state/tailmill.redb");
    let disk = FailingDisk::under(&mut agent, &store, Calls::Writes, libc::EIO);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(1_000);
    agent.set("agent", "checkpoint_every_ms", 50);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&file]), &mut tap, &agent);
    agent.stop_cleanly();
    agent.start();
    disk.break_it();
    file.write(1_000);
    until_unready(&mut agent, "marks wait");
    arrival(&Expected::all([&file]), &mut tap, &agent);
    agent.kill();
    disk.mend();
    file.write(1_000);
    agent.start();
    let verdict = arrival(&Expected::all([&file]), &mut tap, &agent);
    verdict.assert_none_missing(|| agent.report());
    assert_eq!(verdict.repeated, 1_000, "{}", agent.report());
}

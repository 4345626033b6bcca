//! Filters that hold lines back: the end of a file waits for them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrives_once, balances, entry, filtered, log};
use tailmill_tests::topic::Tap;

#[test]
fn a_finished_file_waits_for_a_filter_that_lets_go_by_its_tick_only() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("ticks", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(100);
    agent.module("holder", &guests::holder(Some(2_000)));
    agent.entry("app", &filtered(entry(&agent, "app.log", &topic), json!([{ "use": "holder" }])));
    agent.start();
    agent.until("the lines are held", |agent| {
        (agent.status()["streams"][0]["read"] == json!(file.bytes())).then_some(())
    });
    file.rotate();
    agent.until("the lines have come to an end", |agent| {
        let loss = &agent.status()["entries"][0]["loss"];
        (loss["pending"]["lines"] == json!(0) && loss["rewound"]["lines"] != loss["filtered"]["lines"]).then_some(())
    });
    agent.stop_cleanly();
    balances(&agent, "app", &Expected::those([&file], |_| false));
}

#[test]
fn what_a_filter_holds_without_a_way_to_let_it_go_is_shipped_as_it_came_when_its_file_is_finished() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("never", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(100);
    agent.module("holder", &guests::holder(None));
    agent.entry("app", &filtered(entry(&agent, "app.log", &topic), json!([{ "use": "holder" }])));
    agent.start();
    until_read(&mut agent, file.bytes());
    let stream: Value = agent.status()["streams"][0].clone();
    assert_eq!(stream["mark"], json!(0), "{stream}");
    file.rotate();
    agent.until_log("no way to let them go");
    arrives_once(&Expected::all([&file]), &mut Tap::open(kafka, &topic), &mut agent);
}

#[test]
fn what_a_tick_lets_go_after_the_end_of_the_file_is_let_go_by_later_filters_too() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("late", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(100);
    agent.module("late", &guests::late(2_000));
    agent.module("holder", &guests::holder(None));
    let chain = json!([{ "use": "late" }, { "use": "holder" }]);
    agent.entry("app", &filtered(entry(&agent, "app.log", &topic), chain));
    agent.start();
    until_read(&mut agent, file.bytes());
    file.rotate();
    agent.until_log("no way to let them go");
    agent.until("the lines have come to an end", |agent| {
        let loss = &agent.status()["entries"][0]["loss"];
        (loss["pending"]["lines"] == json!(0) && loss["filtered"]["lines"] == json!(99)).then_some(())
    });
    agent.stop_cleanly();
}

#[test]
fn filters_of_files_that_nobody_writes_to_are_put_to_rest_and_go_on_with_what_they_knew() {
    const FILES: u32 = 100;
    let kafka = Kafka::shared();
    let topic = kafka.topic("rest", 1);
    let mut agent = Agent::new(kafka);
    let mut files: Vec<_> = (0..FILES).map(|i| log(&agent, &format!("app-{i}"), Style::Json, i)).collect();
    let mut entry = filtered(entry(&agent, "app-*.log", &topic), json!([{ "use": "counts" }]));
    entry["headers"] = json!(["path"]);
    entry["close_idle_ms"] = json!(1_000);
    agent.module("counts", &guests::counts(1)).entry("app", &entry);
    let mut tap = Tap::open(kafka, &topic);
    for round in 1..=3 {
        for file in &mut files {
            file.write(5);
        }
        if round != 2 {
            agent.start();
        }
        agent.until("all lines are delivered, and every instance is at rest", |agent| {
            let status = agent.status();
            let resting = status["entries"][0]["filters"][0]["rests"].as_u64() >= Some(u64::from(FILES));
            let delivered = status["entries"][0]["loss"]["delivered"]["lines"].as_u64();
            let lines = 5 * u64::from(FILES) * if round == 2 { 2 } else { 1 };
            (delivered == Some(lines) && resting).then_some(())
        });
        if round != 1 {
            agent.stop_cleanly();
        }
    }
    let mut seen: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
    for record in tap.to_end() {
        let path = record.header("path").expect("its path").to_vec();
        let number = u64::from_le_bytes(record.bytes().try_into().expect("8 bytes"));
        seen.entry(path).or_default().push(number);
    }
    assert_eq!(seen.len(), FILES as usize);
    for (path, numbers) in seen {
        assert_eq!(numbers, (0..15).collect::<Vec<_>>(), "{}", String::from_utf8_lossy(&path));
    }
}

/// The agent has read so many bytes of its only stream.
fn until_read(agent: &mut Agent, bytes: u64) {
    agent.until("the lines are held", |agent| (agent.status()["streams"][0]["read"].as_u64()? == bytes).then_some(()));
}

//! Filters that hold lines back: the end of a file waits for them.

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

/// The agent has read so many bytes of its only stream.
fn until_read(agent: &mut Agent, bytes: u64) {
    agent.until("the lines are held", |agent| (agent.status()["streams"][0]["read"].as_u64()? == bytes).then_some(()));
}

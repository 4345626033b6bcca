//! Filters whose every call takes long, and a bisection that runs for long, beside a good entry on the same shard: the
//! good one is answered many times while one such call is under way.
//!
//! The oracle is an order and no time: the good entry's lines come in helpings, each written when the one before has
//! arrived. A shard that has to end a call of the other entry first makes one such call a helping, at the least.

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrival, arrives_once, balances, entry, filtered, log};
use tailmill_tests::topic::Tap;

/// Of 5,000 lines each; so many calls of the bad filter while they arrive are far fewer than one a helping.
struct Meal {
    helpings: u64,
    calls_max: u64,
}

/// What an entry's filter was asked.
fn calls(agent: &Agent, entry: &str) -> u64 {
    agent.metric("tailmill_filter_calls_total", &format!("entry=\"{entry}\"")) as u64
}

/// One shard with a good entry and a bad one, whose module is busy with the first of `lines` lines when this returns.
fn beside(module: &[u8], filter: Value, lines: u64) -> (Agent, [String; 2], [tailmill_tests::logfile::LogFile; 2]) {
    let kafka = Kafka::shared();
    let topics = ["good", "bad"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    agent.set("agent", "shards", 1);
    let (to_good, mut to_bad) = (log(&agent, "good", Style::Access, 1), log(&agent, "bad", Style::Access, 2));
    to_bad.write(lines);
    agent.stock("grep").module("bad", module);
    let grep = json!([{ "use": "grep", "with": { "exclude": "no such word" } }]);
    agent.entry("good", &filtered(entry(&agent, "good.log", &topics[0]), grep));
    agent.entry("bad", &filtered(entry(&agent, "bad.log", &topics[1]), json!([filter])));
    agent.start();
    agent.until("the bad one is at work", |agent| (calls(agent, "bad") > 0).then_some(()));
    (agent, topics, [to_good, to_bad])
}

/// Feeds the good entry in helpings; all of it arrives, and meanwhile the bad one made far fewer calls.
fn good_is_not_held_up(meal: &Meal, agent: &mut Agent, topic: &str, file: &mut tailmill_tests::logfile::LogFile) {
    let Meal { helpings, calls_max } = *meal;
    let mut tap = Tap::open(Kafka::shared(), topic);
    let before = calls(agent, "bad");
    for _ in 0..helpings {
        file.write(5_000);
        let written = file.numbers().count();
        tap.until("a helping has arrived", || agent.report(), |records| records.len() >= written);
    }
    let meanwhile = calls(agent, "bad") - before;
    assert!(meanwhile < calls_max, "{meanwhile} calls of the bad filter while {helpings} helpings arrived");
    arrival(&Expected::all([&*file]), &mut tap, agent).assert_once(|| agent.report());
}

#[test]
fn a_filter_that_takes_long_on_every_call_does_not_hold_up_the_entries_beside_it() {
    let filter = json!({ "use": "bad", "on_error": "block", "timeout_ms": 10_000, "stateless": true });
    let (mut agent, [good, bad], [mut to_good, to_bad]) = beside(&guests::burns(1_500_000_000), filter, 3_000);
    good_is_not_held_up(&Meal { helpings: 40, calls_max: 15 }, &mut agent, &good, &mut to_good);
    // Another module, so that the rest does not take an hour: it takes over at the next batch.
    agent.module("bad", &guests::keep());
    let expected = Expected::all([&to_bad]);
    arrives_once(&expected, &mut Tap::open(Kafka::shared(), &bad), &mut agent);
    balances(&agent, "bad", &expected);
    balances(&agent, "good", &Expected::all([&to_good]));
}

#[test]
fn a_bisection_that_goes_on_for_long_does_not_hold_up_the_entries_beside_it() {
    // Halved down to each line, and each of them once more alone: 11 calls.
    const LINES: u64 = 4;
    let filter = json!({ "use": "bad", "on_error": "drop", "timeout_ms": 1_000, "stateless": true });
    let (mut agent, [good, bad], [mut to_good, to_bad]) =
        beside(&guests::batch_world("(loop $again (br $again))"), filter, LINES);
    good_is_not_held_up(&Meal { helpings: 20, calls_max: 7 }, &mut agent, &good, &mut to_good);
    let fates = |agent: &Agent| agent.metric("tailmill_dropped_lines_total", "entry=\"bad\"") as u64;
    // However long each call takes on a busy machine, there is another one, until there need not be.
    while fates(&agent) < LINES {
        let made = calls(&agent, "bad");
        let goes_on = |agent: &Agent| calls(agent, "bad") > made || fates(agent) == LINES;
        agent.until("the bisection goes on", |agent| goes_on(agent).then_some(()));
    }
    agent.stop_cleanly();
    assert_eq!(Tap::open(Kafka::shared(), &bad).to_end().len(), 0);
    let said = &agent.summary()["entries"]["bad"];
    assert_eq!((&said["balanced"], &said["read"]["bytes"]), (&json!(true), &json!(to_bad.bytes())), "{said}");
    balances(&agent, "good", &Expected::all([&to_good]));
}

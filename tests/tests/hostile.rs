//! Modules that loop, leak, crash and lie beside a good entry on the same shard: the good one never notices, and the
//! policy decides about the lines of the bad one.

#[path = "../../host/engine/tests/hostile/mod.rs"]
mod corpus; // the modules, as the engine's own tests have them
#[path = "../../host/engine/tests/engine/guests.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod guests;

use corpus::{At, Case, Stops};
use serde_json::{Value, json};
use tailmill_engine::Digest;
use tailmill_tests::agent::Agent;
use tailmill_tests::guests as modules;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::{self, Style};
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrival, arrives_once, balances, entry, filtered, log};
use tailmill_tests::topic::{Record, Tap};

/// A hostile module as the only filter of an entry.
fn hostile(policy: &str) -> Value {
    json!([{ "use": "bad", "on_error": policy, "timeout_ms": 20, "memory_mib": 64, "stateless": true }])
}

/// Modules that run beside the good entry at the same time.
const GROUP: usize = 24;

#[test]
fn beside_the_hostile_corpus_a_good_entry_loses_nothing_and_no_line_of_the_bad_ones_is_lost() {
    let kafka = Kafka::shared();
    // A compile child has a minute, which is too long here; and few lines do not show greed that grows with them.
    let is_quick = |case: &Case| !matches!(case.stops, Stops::CompileTime | Stops::CompileMemory) && case.lines == 2;
    let mut cases: Vec<Case> = corpus::all().into_iter().filter(is_quick).collect();
    // What crashes or lies in both worlds, on every line.
    let crashing = |(name, wasm): (_, Vec<u8>)| Case::made(name, Stops::Always, At::Run, "", move || wasm.clone());
    cases.extend(modules::hostile().into_iter().map(crashing));
    for group in cases.chunks(GROUP) {
        beside(kafka, group);
    }
}

fn beside(kafka: &Kafka, group: &[Case]) {
    let [good, bad] = ["good", "bad"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    // One shard: they cannot get out of each other's way.
    agent.set("agent", "shards", 1);
    let mut to_good = log(&agent, "good", Style::Access, 1);
    to_good.write(10_000);
    let grep = json!([{ "use": "grep", "with": { "exclude": "healthz" } }]);
    agent.stock("grep").entry("good", &filtered(entry(&agent, "good.log", &good), grep));
    agent.start();
    let (mut to_bad, mut kept_out) = (Vec::new(), Vec::new());
    for (i, case) in group.iter().enumerate() {
        let name = format!("bad-{i}-");
        let mut file = log(&agent, &name, Style::Access, i as u32 + 2);
        file.write(5);
        agent.module(&name, &case.wasm());
        let mut filters = hostile("pass");
        filters[0]["use"] = json!(name);
        agent.entry(&name, &filtered(entry(&agent, &format!("{name}.log"), &bad), filters));
        match case.at {
            At::Load | At::Start => kept_out.push((name, case.name)),
            At::Asked | At::Run | At::Later | At::Denied => to_bad.push(file),
        }
    }
    to_good.write(10_000);
    let about = group.iter().enumerate().map(|(i, case)| format!("bad-{i}- {}\n", case.name)).collect::<String>();
    let explain = |agent: &Agent| format!("{about}{}", agent.report());
    agent.until("each bad module that does not start is shown", |agent| {
        let (code, body) = agent.get("/readyz")?;
        (kept_out.is_empty() || code == 503 && kept_out.iter().all(|(name, _)| body.contains(name))).then_some(())
    });
    let verdict = arrival(&Expected::all(&to_bad), &mut Tap::open(kafka, &bad), &agent);
    verdict.assert_once(|| explain(&agent));
    to_good.write(5_000);
    let keep = |line: &[u8]| memchr::memmem::find(line, b"healthz").is_none();
    let expected = Expected::those([&to_good], keep);
    arrives_once(&expected, &mut Tap::open(kafka, &good), &mut agent);
    balances(&agent, "good", &expected);
}

#[test]
fn a_block_policy_holds_the_stream_until_the_module_is_replaced() {
    let kafka = Kafka::shared();
    let [good, bad] = ["good", "bad"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    agent.set("agent", "shards", 1);
    let (mut to_good, mut to_bad) = (log(&agent, "good", Style::Json, 1), log(&agent, "bad", Style::Json, 2));
    to_bad.write(500);
    agent.module("bad", &modules::line_world("unreachable")).entry("good", &entry(&agent, "good.log", &good));
    agent.entry("bad", &filtered(entry(&agent, "bad.log", &bad), hostile("block")));
    agent.start();
    agent.until("the stream is blocked, loudly", |agent| {
        let (code, body) = agent.get("/readyz")?;
        (code == 503 && body.contains("bad")).then_some(())
    });
    to_good.write(10_000);
    arrival(&Expected::all([&to_good]), &mut Tap::open(kafka, &good), &agent).assert_once(|| agent.report());
    assert_eq!(Tap::open(kafka, &bad).to_end().len(), 0);
    agent.module("bad", &modules::keep());
    arrives_once(&Expected::all([&to_bad]), &mut Tap::open(kafka, &bad), &mut agent);
}

#[test]
fn a_filter_that_fails_on_everything_is_left_alone_before_it_has_cost_the_lines() {
    let kafka = Kafka::shared();
    let [good, held, dead] = ["good", "held", "dead"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    agent.set("agent", "shards", 1);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(5_000);
    let mut filters = hostile("dead-letter");
    filters[0]["breaker"] = json!({ "faults": 10, "rest_ms": 3_600_000 });
    let mut to_held = filtered(entry(&agent, "app.log", &held), filters);
    to_held["dead_letter_topic"] = json!(dead);
    agent.module("bad", &modules::line_world("unreachable")).entry("held", &to_held);
    agent.entry("good", &entry(&agent, "app.log", &good));
    agent.start();
    agent.until("its entry waits, and says why", |agent| {
        let status = agent.status();
        let streams = status["streams"].as_array()?;
        streams.iter().find(|stream| stream["reason"].as_str().is_some_and(|why| why.contains("left alone")))?;
        Some(())
    });
    agent.until_log("the filter failed on 10 lines and is left alone for 3600 s; the entry waits");
    arrival(&Expected::all([&file]), &mut Tap::open(kafka, &good), &agent).assert_once(|| agent.report());
    // A better module is not made to wait.
    agent.module("bad", &modules::keep());
    let mut tap = Tap::open(kafka, &held);
    agent.until("the rest of the lines has come", |agent| {
        let entries = agent.status()["entries"].as_array()?.clone();
        let entry = entries.into_iter().find(|entry| entry["name"] == json!("held"))?;
        (entry["loss"]["delivered"]["lines"] == json!(5_000)).then_some(())
    });
    agent.stop_cleanly();
    let (letters, records) = (Tap::open(kafka, &dead).to_end().len(), tap.to_end().len());
    assert_eq!((letters, records), (9, 4_991), "the tenth line was not judged any more\n{}", agent.report());
}

#[test]
fn lines_go_past_a_filter_that_fails_on_everything_where_its_entry_says_pass() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("past", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(20_000);
    agent.module("bad", &modules::line_world("unreachable"));
    let mut filters = hostile("pass");
    filters[0]["breaker"] = json!({ "rest_ms": 3_600_000 });
    agent.entry("app", &filtered(entry(&agent, "app.log", &topic), filters));
    agent.start();
    agent.until_log("is left alone for 3600 s; lines go past it");
    let expected = Expected::all([&file]);
    arrival(&expected, &mut Tap::open(kafka, &topic), &agent);
    agent.until("all but the lines that were judged went past it, and once", |agent| {
        let filter = agent.status()["entries"][0]["filters"][0].clone();
        ((&filter["breaker_opened"], &filter["bypassed"]) == (&json!(1), &json!(20_000 - 99))).then_some(())
    });
    assert_eq!(agent.metric("tailmill_filter_bypassed_lines_total", ""), 19_901.0);
    arrives_once(&expected, &mut Tap::open(kafka, &topic), &mut agent);
    balances(&agent, "app", &expected);
}

/// Fails on every line that holds `7:` as the end of its number: about a tenth of them.
fn picky() -> Vec<u8> {
    modules::line_world(
        r#"(loop $next
            (if (i32.and
                    (i32.eq (i32.load8_u (i32.add (local.get $data) (local.get $i))) (i32.const 55))
                    (i32.eq (i32.load8_u offset=1 (i32.add (local.get $data) (local.get $i))) (i32.const 58)))
                (then unreachable))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (i32.sub (local.get $len) (i32.const 1)))))"#,
    )
}

/// A dead letter of `picky` says whose it is, where it was and what went wrong.
fn assert_says_why(record: &Record, agent: &Agent) {
    let header = |name: &str| {
        let found = record.header(name).unwrap_or_else(|| panic!("no {name} in {record:?}"));
        String::from_utf8_lossy(found).into_owned()
    };
    let file = std::fs::read(agent.path("logs").join("app.log")).expect("the file is there");
    let offset: usize = header("tailmill.offset").parse().expect("an offset");
    assert!(file[offset..].starts_with(record.bytes()), "the line of {record:?} is not at {offset}");
    assert_eq!(header("tailmill.file"), agent.path("logs").join("app.log").display().to_string());
    assert_eq!(header("tailmill.module"), Digest::of(&picky()).to_string());
    assert_eq!(["entry", "filter", "kind"].map(|name| header(&format!("tailmill.{name}"))), ["app", "bad", "trap"]);
    assert!(header("tailmill.message").contains("unreachable"), "{record:?}");
}

#[test]
fn the_policy_meets_the_guilty_lines_only() {
    let kafka = Kafka::shared();
    let guilty = |line: &[u8]| memchr::memmem::find(line, b"7:").is_some();
    for policy in ["drop", "pass", "dead-letter"] {
        let [topic, dead] = ["picky", "dead"].map(|name| kafka.topic(name, 1));
        let mut agent = Agent::new(kafka);
        let mut file = log(&agent, "app", Style::Json, 1);
        file.write(600);
        let mut entry = filtered(entry(&agent, "app.log", &topic), hostile(policy));
        if policy == "dead-letter" {
            entry["dead_letter_topic"] = json!(dead);
        }
        agent.module("bad", &picky()).entry("app", &entry);
        agent.start();
        let lines = file.numbers().map(|number| lines::line(Style::Json, 1, number));
        let wrong = lines.filter(|line| guilty(line)).count();
        assert!(wrong > 30, "{wrong} guilty lines");
        let innocent = Expected::those([&file], |line| policy == "pass" || !guilty(line));
        let mut tap = Tap::open(kafka, &topic);
        arrival(&innocent, &mut tap, &agent);
        let mut to_dead = Tap::open(kafka, &dead);
        if policy == "dead-letter" {
            let all_guilty = Expected::those([&file], guilty);
            arrival(&all_guilty, &mut to_dead, &agent).assert_once(|| agent.report());
            to_dead.records().iter().for_each(|record| assert_says_why(record, &agent));
        }
        agent.stop_cleanly();
        innocent.judge(tap.to_end(), tailmill_tests::oracle::Content::Same).assert_once(|| agent.report());
        let said = &agent.summary()["entries"]["app"];
        assert_eq!(said["balanced"], json!(true), "{policy}: {said}");
        let dropped: u64 =
            said["dropped"].as_object().into_iter().flatten().filter_map(|(_, n)| n["lines"].as_u64()).sum();
        assert_eq!(dropped, if policy == "drop" { wrong as u64 } else { 0 }, "{policy}: {said}");
    }
}

#[test]
fn a_module_that_never_finishes_its_start_keeps_only_its_own_entry_out() {
    let kafka = Kafka::shared();
    let [good, bad] = ["good", "bad"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    let mut to_good = log(&agent, "good", Style::Json, 1);
    to_good.write(1_000);
    agent.entry("good", &entry(&agent, "good.log", &good));
    agent.start();
    // Later than the start: a configuration that is bad at the start is refused as a whole.
    agent.module("bad", &modules::line_world_starting("", "(loop $again (br $again))"));
    agent.entry("bad", &filtered(entry(&agent, "bad.log", &bad), hostile("pass")));
    agent.until("the problem is shown", |agent| {
        let (code, body) = agent.get("/readyz")?;
        (code == 503 && body.contains("bad")).then_some(())
    });
    to_good.write(1_000);
    arrives_once(&Expected::all([&to_good]), &mut Tap::open(kafka, &good), &mut agent);
}

//! Random changes of the configuration in etcd while lines are written: none is lost, and none comes twice because of a change.
//!
//! `TAILMILL_CHANGES` says how many (`make soak`: 1,000); `TAILMILL_SEED` repeats a run.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking, too")]

use serde_json::{Value, json};
use std::time::Instant;
use tailmill_tests::agent::Agent;
use tailmill_tests::etcd::Etcd;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::{Content, Expected};
use tailmill_tests::scene::{entry, filtered, log};
use tailmill_tests::scratch;
use tailmill_tests::topic::{Record, Tap};
use tailmill_tests::wait;

const PREFIX: &str = "/changes/";
const FILES: usize = 4;

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// What is written of one file's entry.
#[derive(Clone, Copy, PartialEq)]
struct Shape {
    there: bool,
    topic: usize,
    filters: usize,
    finish_ms: usize,
}

fn key(file: usize) -> String {
    format!("{PREFIX}entries/file-{file}")
}

/// Modules that keep every line, in chains of different lengths.
fn chain(kind: usize) -> Value {
    let one = |name: &str| json!({ "use": name, "stateless": true });
    match kind {
        0 => json!([]),
        1 => json!([one("mine")]),
        2 => json!([one("mine@1")]),
        3 => json!([one("mine@2"), one("mine")]),
        // There is none: the entry keeps its last good form.
        _ => json!([one("nobody")]),
    }
}

fn push(agent: &Agent, version: &str, wasm: &[u8]) -> Vec<u8> {
    let path = agent.path("mine.wasm");
    std::fs::write(&path, wasm).unwrap();
    let output = agent.run(["module", "push", path.to_str().unwrap(), "--name", "mine", "--version", version]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Etcd::shared().get(&format!("{PREFIX}modules/mine")).unwrap()
}

#[test]
fn after_a_hundred_random_changes_under_load_every_line_has_come_once() {
    let (kafka, etcd) = (Kafka::shared(), Etcd::shared());
    let seed = scratch::seed();
    let changes: usize = std::env::var("TAILMILL_CHANGES").map_or(120, |text| text.parse().unwrap());
    tailmill_tests::say(&format!("{changes} changes, TAILMILL_SEED={seed}"));
    let mut dice = Dice(seed);
    let topics = ["first", "second"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![etcd.endpoint()]).set("etcd", "prefix", PREFIX).unset("modules", "dir");
    agent.set("modules", "fetch_spread_ms", 0);
    let records = [push(&agent, "1", &guests::keep()), push(&agent, "2", &guests::line_world("nop"))];
    let mut files: Vec<LogFile> =
        (0..FILES).map(|i| log(&agent, &format!("file-{i}"), Style::Json, i as u32 + 1)).collect();
    let mut shapes = [Shape { there: true, topic: 0, filters: 0, finish_ms: 200 }; FILES];
    let put = |agent: &Agent, file: usize, shape: Shape| {
        if !shape.there {
            return etcd.delete(&key(file));
        }
        let mut entry = filtered(entry(agent, &format!("file-{file}.log"), &topics[shape.topic]), chain(shape.filters));
        entry["finish_after_ms"] = json!(shape.finish_ms);
        etcd.put(&key(file), entry.to_string());
    };
    for (file, shape) in shapes.iter().enumerate() {
        put(&agent, file, *shape);
    }
    agent.start();
    for change in 0..changes {
        let file = dice.below(FILES);
        match dice.below(8) {
            0 => shapes[file].there = !shapes[file].there,
            1 | 2 => shapes[file].topic = 1 - shapes[file].topic,
            3 | 4 => shapes[file].filters = dice.below(5),
            5 => shapes[file].finish_ms = 200 + change,
            6 => etcd.put(&format!("{PREFIX}modules/mine"), records[dice.below(2)].as_slice()),
            _ => {
                etcd.put(&key(file), "{ this is no entry");
            }
        }
        put(&agent, file, shapes[file]);
        for written in &mut files {
            written.write(dice.below(200) as u64);
        }
        if dice.below(4) == 0 {
            // Now and then it is let to settle: else most changes would never come into force.
            let plan = agent.status()["plan"]["revision"].as_u64();
            etcd.put(&key(file), "{");
            put(&agent, file, Shape { finish_ms: 1_000 + change, ..shapes[file] });
            if shapes[file].there && shapes[file].filters < 4 {
                agent.until("a change is in force", |agent| {
                    (agent.status()["plan"]["revision"].as_u64() > plan).then_some(())
                });
            }
        }
    }
    for (file, shape) in shapes.iter_mut().enumerate() {
        (shape.there, shape.filters) = (true, 0);
        put(&agent, file, *shape);
    }
    let logs: Vec<&LogFile> = files.iter().collect();
    let expected = Expected::all([logs[0], logs[1], logs[2], logs[3]]);
    let taps = std::cell::RefCell::new(topics.each_ref().map(|topic| Tap::open(kafka, topic)));
    let come = || taps.borrow_mut().iter_mut().map(|tap| tap.to_end().len()).sum::<usize>();
    agent.until("every line has come", |_| (come() >= expected.delivered.0 as usize).then_some(()));
    agent.stop_cleanly();
    come();
    let taps = taps.into_inner();
    // A file's lines are in order in each topic; between two topics there is no order.
    for tap in &taps {
        assert_eq!(expected.judge(tap.records(), Content::Same).disorder, [], "TAILMILL_SEED={seed}");
    }
    let all: Vec<Record> = taps.iter().flat_map(|tap| tap.records().to_vec()).collect();
    let verdict = expected.judge(&all, Content::Same);
    let faultless = verdict.missing.is_empty() && verdict.repeated == 0 && verdict.foreign.is_empty();
    assert!(faultless && verdict.unwanted.is_empty(), "TAILMILL_SEED={seed}: {verdict}\n{}", agent.report());
}

#[test]
fn every_change_of_a_topic_is_heard_of_while_lines_come_and_how_soon_is_told() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/soon/");
    let topics = ["left", "right"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![etcd.endpoint()]).set("etcd", "prefix", prefix);
    let mut app = log(&agent, "app", Style::Json, 1);
    let put = |agent: &Agent, side: usize| {
        etcd.put(&format!("{prefix}entries/app"), entry(agent, "app.log", &topics[side]).to_string());
    };
    put(&agent, 1);
    agent.start();
    let mut taps = topics.each_ref().map(|topic| Tap::open(kafka, topic));
    let mut took_ms = Vec::new();
    for change in 0..50 {
        let (side, before) = (change % 2, taps[change % 2].to_end().len());
        let began = Instant::now();
        put(&agent, side);
        wait::until(
            "a record goes where it should now",
            || agent.report(),
            || {
                app.write(1);
                (taps[side].to_end().len() > before).then_some(())
            },
        );
        took_ms.push(began.elapsed().as_millis());
    }
    took_ms.sort_unstable();
    let (median, worst) = (took_ms[took_ms.len() / 2], took_ms[took_ms.len() - 1]);
    tailmill_tests::say(&format!(
        "from a put to the first record under the new plan: median {median} ms, worst of 50 {worst} ms"
    ));
    let expected = Expected::all([&app]);
    agent.until("every line has come", |_| {
        let come: usize = topics.iter().map(|topic| Tap::open(kafka, topic).to_end().len()).sum();
        (come >= expected.delivered.0 as usize).then_some(())
    });
    agent.stop_cleanly();
    let all: Vec<Record> = taps.iter_mut().flat_map(|tap| tap.to_end().to_vec()).collect();
    let verdict = expected.judge(&all, Content::Same);
    assert!(verdict.missing.is_empty() && verdict.repeated == 0, "{verdict}\n{}", agent.report());
}

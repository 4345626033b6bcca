//! New modules and new configurations under full load: no line lost, none twice, order kept, state carried; and a version
//! that does not work never takes over.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::scene::{entry, filtered, log};
use tailmill_tests::topic::Tap;
use tailmill_tests::writer::Writer;

const FILES: u32 = 4;
const SWAPS: u32 = 24;
/// What lies there at the start, in each file: the first swaps happen at full speed.
const BACKLOG: u64 = 100_000;

/// One change under way.
#[derive(Clone, Copy, Debug)]
enum Change {
    Module,
    Config,
    /// Not wasm; a start that fails; a state that is not taken.
    Bad(u32),
}

fn change(step: u32) -> Change {
    match step % 6 {
        0 | 3 => Change::Module,
        1 => Change::Config,
        2 => Change::Bad(step / 6 % 3),
        _ => Change::Module,
    }
}

/// Times that something took over, of all files together.
fn swaps(agent: &Agent) -> u64 {
    let filters = agent.status()["entries"][0]["filters"].clone();
    filters.as_array().into_iter().flatten().filter_map(|filter| filter["swaps"].as_u64()).sum()
}

fn bad_module(kind: u32, step: u32) -> Vec<u8> {
    match kind {
        0 => b"no wasm at all".to_vec(),
        1 => guests::line_world_starting("", "unreachable"),
        _ => guests::counts_for_itself(step),
    }
}

#[test]
fn what_takes_over_under_full_load_goes_on_with_the_next_line() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("swaps", 4);
    let mut agent = Agent::new(kafka);
    agent.set("agent", "shards", 2);
    let mut to_topic = entry(&agent, "app-*.log", &topic);
    to_topic["headers"] = json!(["path"]);
    let with_config = |n: u32| filtered(to_topic.clone(), json!([{ "use": "counts", "with": { "n": n } }]));
    agent.module("counts", &guests::counts(0)).entry("app", &with_config(0));
    let writers: Vec<Writer> = (0..FILES)
        .map(|i| {
            let mut file = log(&agent, &format!("app-{i}"), Style::Json, i);
            file.write(BACKLOG);
            Writer::start(file, &agent.path(format!("asked-{i}")))
        })
        .collect();
    agent.start();
    // A change that comes before the first plan is part of it, and takes over from nobody.
    agent.until("the first filters are in force", |agent| {
        (agent.metric("tailmill_filter_calls_total", "entry=\"app\"") > 0.0).then_some(())
    });
    let (mut taken, mut refused) = (0, 0);
    for step in 1..=SWAPS {
        match change(step) {
            Change::Module => drop(agent.module("counts", &guests::counts(step))),
            Change::Config => drop(agent.entry("app", &with_config(step))),
            Change::Bad(kind) => {
                agent.module("counts", &bad_module(kind, step));
                until_refused(&mut agent, kind);
                refused += 1;
                continue;
            }
        }
        taken += u64::from(FILES);
        agent.until("every file has what takes over", |agent| (swaps(agent) >= taken).then_some(()));
    }
    let lines: u64 = writers.into_iter().map(|writer| writer.end().numbers().end).sum();
    agent.until("all lines are delivered", |agent| {
        (agent.status()["entries"][0]["loss"]["delivered"]["lines"] == json!(lines)).then_some(())
    });
    assert_eq!(swaps(&agent), taken, "nothing else took over\n{}", agent.report());
    agent.stop_cleanly();
    let mut next: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut tap = Tap::open(kafka, &topic);
    for record in tap.to_end() {
        let next = next.entry(record.header("path").expect("its path").to_vec()).or_default();
        let number = u64::from_le_bytes(record.bytes().try_into().expect("8 bytes"));
        assert_eq!(number, *next, "none is missing, none comes twice, in order, and the state goes on");
        *next += 1;
    }
    assert_eq!((next.len(), next.values().sum::<u64>()), (FILES as usize, lines));
    println!(
        "{taken} times something took over, {refused} versions were refused: {lines} lines, each once and in order"
    );
}

/// The bad version was seen, and what was there stays in force.
fn until_refused(agent: &mut Agent, kind: u32) {
    if kind == 2 {
        return agent.until_log("do not take over");
    }
    agent.until("the problem is shown", |agent| {
        let status: Value = agent.status();
        let (code, body) = agent.get("/readyz")?;
        (code == 503
            && (body.contains("counts") || body.contains("filters[0]"))
            && status["entries"][0]["name"] == json!("app"))
        .then_some(())
    });
}

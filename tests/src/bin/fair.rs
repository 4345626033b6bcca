//! `make bench-fair`: how fast a good entry is beside slow and hostile filters on the same shard, against its rate alone:
//! one that takes nearly all of its time on every call, one that loops for ever, one that takes all the memory there is,
//! one that crashes. Without a breaker, which would leave the last three alone after a hundred lines; with one in a last
//! row. Rates of one run as ratios, in turn over several rounds; absolute ones mean nothing beyond this machine.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is for whoever started it")]

use serde_json::{Map, json};
use std::time::{Duration, Instant};
use tailmill_engine::{Engine, EngineOptions, Limits, Lines, Origin, Surroundings};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::{self, Style};
use tailmill_tests::scene::{entry, filtered, log};
use tailmill_tests::topic::Tap;

const USAGE: &str = "fair [--lines N] [--rounds N] [--json]
  --lines N   lines of the good entry (1000000)
  --rounds N  times that each case runs (3)
  --json      one JSON object instead of the table";

/// What the slow filter may take, and how much of that it does.
const LIMIT: Duration = Duration::from_millis(200);
const SHARE: f64 = 0.9;

fn main() -> anyhow::Result<()> {
    let (mut lines, mut rounds, mut as_json) = (1_000_000, 3, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| anyhow::anyhow!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--lines" => lines = value()?.parse()?,
            "--rounds" => rounds = value()?.parse()?,
            "--json" => as_json = true,
            _ => anyhow::bail!("unknown option {argument}\n{USAGE}"),
        }
    }
    let kafka = Kafka::start();
    let steps = steps()?;
    let cases = [
        ("alone", None),
        ("slow", Some(Bad { module: guests::burns(steps), breaks: false })),
        ("loop", Some(Bad { module: guests::batch_world("(loop $again (br $again))"), breaks: false })),
        ("memory bomb", Some(Bad { module: guests::swells(), breaks: false })),
        ("trap", Some(Bad { module: guests::batch_world("unreachable"), breaks: false })),
        ("trap, with a breaker", Some(Bad { module: guests::batch_world("unreachable"), breaks: true })),
    ];
    let text: Vec<u8> =
        (0..lines).flat_map(|number| [lines::line(Style::Access, 1, number), vec![b'\n']].concat()).collect();
    let mut rates = vec![Vec::new(); cases.len()];
    for round in 1..=rounds {
        for ((name, bad), rates) in cases.iter().zip(&mut rates) {
            let (rate, calls) = run(&kafka, &text, lines, bad.as_ref())?;
            eprintln!("round {round} of {rounds}: {name:<22} {rate:>10.0} lines/s, {calls} calls of the bad filter");
            rates.push(rate);
        }
    }
    let ratios: Vec<f64> =
        rates.iter().map(|own| median(own.iter().zip(&rates[0]).map(|(own, alone)| own / alone))).collect();
    for ((name, _), ratio) in cases.iter().zip(&ratios).filter(|_| !as_json) {
        println!("{name:<22} {ratio:>6.2}");
    }
    if as_json {
        let ratios: Map<_, _> =
            cases.iter().zip(&ratios).map(|((name, _), ratio)| ((*name).to_owned(), json!(ratio))).collect();
        println!("{}", json!({ "lines": lines, "rounds": rounds, "ratios": ratios }));
    }
    Ok(())
}

/// A filter of another entry.
struct Bad {
    module: Vec<u8>,
    /// It is left alone when it fails too often.
    breaks: bool,
}

/// Lines a second of the good entry, and calls of the bad one meanwhile.
fn run(kafka: &Kafka, text: &[u8], lines: u64, bad: Option<&Bad>) -> anyhow::Result<(f64, u64)> {
    let topics = ["good", "bad"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    agent.set("agent", "shards", 1).stock("grep");
    let (mut good, mut to_bad) = (log(&agent, "good", Style::Access, 1), log(&agent, "bad", Style::Access, 2));
    let grep = json!([{ "use": "grep", "with": { "exclude": "no such word" } }]);
    agent.entry("good", &filtered(entry(&agent, "good.log", &topics[0]), grep));
    if let Some(bad) = bad {
        to_bad.write(200_000);
        let time = u64::try_from(LIMIT.as_millis())?;
        let mut filter = json!([{ "use": "bad", "on_error": "drop", "timeout_ms": time, "stateless": true }]);
        if !bad.breaks {
            filter[0]["breaker"] = json!(false);
        }
        agent.module("bad", &bad.module).entry("bad", &filtered(entry(&agent, "bad.log", &topics[1]), filter));
    }
    let calls = |agent: &Agent| agent.metric("tailmill_filter_calls_total", "entry=\"bad\"") as u64;
    agent.start();
    if bad.is_some() {
        agent.until("the bad filter is at work", |agent| (calls(agent) > 2).then_some(()));
    }
    // The first line finds everything ready.
    good.append(b"first\n");
    let mut tap = Tap::open(kafka, &topics[0]);
    tap.until("the first line is there", || agent.report(), |records| records.len() == 1);
    let (before, begun) = (calls(&agent), Instant::now());
    good.append(text);
    let all = usize::try_from(lines + 1)?;
    tap.until("all lines are there", || agent.report(), |records| records.len() >= all);
    let rate = lines as f64 / begun.elapsed().as_secs_f64();
    let meanwhile = calls(&agent) - before;
    agent.kill();
    topics.iter().for_each(|topic| kafka.delete(topic));
    Ok((rate, meanwhile))
}

/// So many steps take the share of the limit on this machine's CPU.
fn steps() -> anyhow::Result<u32> {
    const TRIED: u32 = 100_000_000;
    let engine = Engine::new(EngineOptions::default())?;
    let module = engine.load(&guests::burns(TRIED))?;
    let surroundings = Surroundings { node: "bench".into(), topics: vec!["bench".into()] };
    let mut instance = module.start("{}", &Limits::STANDARD, &surroundings, true)?;
    let line = Lines { data: b"a", starts: &[0], ends: &[1] };
    let begun = cpu();
    instance.run(0, line, &Origin::default())?;
    let took = (cpu() - begun).as_secs_f64();
    Ok((f64::from(TRIED) * LIMIT.as_secs_f64() * SHARE / took) as u32)
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

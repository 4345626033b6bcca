//! `make bench-scale`: what many files cost that nobody writes to. CPU of the whole agent while nothing happens, its
//! memory and its open files, beside how long the first look at all of them took. Shares of a core, from /proc.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is for whoever started it")]

use serde_json::json;
use std::time::{Duration, Instant};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::topic::Tap;

const USAGE: &str = "scale [--files N,N,…] [--filter NAME] [--seconds N] [--json]
  --files N,…  how many idle files, one row each (1,1000,20000)
  --filter     every file has an instance of its own of this stock filter; `counts`: of a small one with a state
  --seconds N  how long nothing happens (60)
  --json       one JSON object a row instead of the table";

struct Options {
    files: Vec<usize>,
    filter: Option<String>,
    seconds: u64,
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let kafka = Kafka::start();
    if !options.json {
        println!("{:>8} {:>14} {:>12} {:>12} {:>12}", "files", "% of a core", "MiB", "open files", "first look s");
    }
    for files in options.files {
        let row = measure(&kafka, files, options.filter.as_deref(), Duration::from_secs(options.seconds))?;
        if options.json {
            println!("{row}");
        } else {
            println!(
                "{:>8} {:>14.2} {:>12.1} {:>12} {:>12.1}",
                files,
                row["cpu_percent"].as_f64().unwrap_or_default(),
                row["memory_bytes"].as_f64().unwrap_or_default() / f64::from(1 << 20),
                row["open_files"],
                row["first_look_s"].as_f64().unwrap_or_default()
            );
        }
    }
    Ok(())
}

fn measure(kafka: &Kafka, files: usize, filter: Option<&str>, quiet: Duration) -> anyhow::Result<serde_json::Value> {
    let topic = kafka.topic("scale", 1);
    let mut agent = Agent::new(kafka);
    for file in 0..files {
        let dir = agent.path(format!("logs/{}", file / 1_000));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("{file}.log")), format!("the only line of file {file}\n"))?;
    }
    let path = agent.path("logs/**/*.log");
    let mut entry = json!({ "path": path, "topic": topic, "close_idle_ms": 1_000 });
    if let Some(name) = filter {
        entry["filters"] = json!([{ "use": name }]);
        match name {
            "counts" => agent.module(name, &guests::counts(1)),
            _ => agent.stock(name),
        };
    }
    agent.entry("idle", &entry);
    let begun = Instant::now();
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("every line is there", || agent.report(), |records| records.len() >= files);
    let first_look = begun.elapsed();
    agent.until("the files are closed", |agent| (open_files(agent) < 200).then_some(()));
    if filter.is_some() {
        agent.until("the filters are at rest", |agent| {
            let rests = agent.status()["entries"][0]["filters"][0]["rests"].as_u64();
            (rests >= Some(files as u64)).then_some(())
        });
    }
    // Marks are written, timers have rung: what follows is rest.
    std::thread::sleep(Duration::from_secs(10));
    let before = agent.process().cpu();
    std::thread::sleep(quiet);
    let cpu = agent.process().cpu() - before;
    Ok(json!({
        "files": files,
        "cpu_percent": 100.0 * cpu.as_secs_f64() / quiet.as_secs_f64(),
        "memory_bytes": agent.process().memory().0,
        "open_files": open_files(&agent),
        "first_look_s": first_look.as_secs_f64(),
    }))
}

fn open_files(agent: &Agent) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", agent.process().pid())).map_or(0, Iterator::count)
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options { files: vec![1, 1_000, 20_000], filter: None, seconds: 60, json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| anyhow::anyhow!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--files" => options.files = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--filter" => options.filter = Some(value()?),
            "--seconds" => options.seconds = value()?.parse()?,
            "--json" => options.json = true,
            _ => anyhow::bail!("unknown option {argument}\n{USAGE}"),
        }
    }
    Ok(options)
}

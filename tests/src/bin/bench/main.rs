//! `make bench`: what a line costs on its way from a file to Kafka's acknowledgement, beside the least that librdkafka
//! alone needs for the same lines. CPU time of whole processes, one broker, the same file; several rounds in turn, so
//! that a busy moment of the machine hits all alike; the median of the ratios within a round. Absolute times mean
//! nothing beyond this machine.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is for whoever started it")]

mod data; // the file
mod contenders; // who ships it
mod engine; // the filter call alone
mod table; // what came out

use serde_json::json;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::scratch;

use contenders::{Contender, Cost};
use data::Data;

const USAGE: &str = "bench [--lines N] [--rounds N] [--json] [--only TEXT]
  --lines N    lines of the generated log (2000000)
  --rounds N   times that each contender runs (5)
  --only TEXT  only contenders with TEXT in their names, and those they are compared with
  --json       one JSON object instead of the table";

struct Options {
    lines: u64,
    rounds: usize,
    json: bool,
    only: String,
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let home = scratch::dir("bench");
    let kafka = Kafka::start();
    eprintln!("generating {} lines", options.lines);
    let data = Data::generate(&home.path().join("bench.log"), options.lines)?;
    let mut contenders = chosen(all(&kafka, &data)?, &options.only);
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); contenders.len()];
    // The first round warms caches: the file, the compiled modules, the broker's JIT.
    for round in 0..=options.rounds {
        for (contender, costs) in contenders.iter_mut().zip(&mut costs) {
            let Some(contender) = contender else { continue };
            let cost = contender.run(&kafka, &data, round)?;
            let ns = cost.cpu.as_nanos() as f64 / data.lines as f64;
            eprintln!(
                "round {round} of {}: {:<34} {ns:>6.0} ns a line, {:.1} s",
                options.rounds,
                contender.name,
                cost.wall.as_secs_f64()
            );
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    let named =
        contenders.iter().map(|contender| contender.as_ref().map(|contender| (contender.name, contender.against)));
    let rows = table::rows(&named.collect::<Vec<_>>(), &costs, data.lines);
    let calls = engine::measure(&data)?;
    if options.json {
        let (lines, bytes, rounds) = (data.lines, data.bytes, options.rounds);
        println!(
            "{}",
            json!({ "lines": lines, "bytes": bytes, "rounds": rounds, "rows": rows, "filter_calls": calls })
        );
    } else {
        table::print(&data, options.rounds, &rows, &calls);
    }
    Ok(())
}

fn all(kafka: &Kafka, data: &Data) -> anyhow::Result<Vec<Contender>> {
    let all = data.lines;
    let some = data.without(MANY)?;
    let grep = |with: serde_json::Value| json!([{ "use": "grep", "with": with }]);
    Ok(vec![
        Contender::limit("librdkafka alone: the limit", 0, all, &[]),
        Contender::limit("  without success reports", 0, all, &["--errors-only"]),
        Contender::limit("  one call a line", 0, all, &["--per-message"]),
        Contender::tailmill("tailmill, no filter", 0, all, kafka, json!([])),
        Contender::tailmill("tailmill, grep literal", 0, all, kafka, grep(json!({ "exclude": "no such word" }))),
        Contender::tailmill(
            "tailmill, grep regex",
            0,
            all,
            kafka,
            grep(json!({ "exclude_regex": "no [sS]uch \\w+rd" })),
        ),
        Contender::limit("librdkafka alone, some dropped", 6, some, &["--drop", MANY]),
        Contender::tailmill("tailmill, grep drops the same", 6, some, kafka, grep(json!({ "exclude": MANY }))),
    ])
}

/// Stands in a good part of the lines.
const MANY: &str = "e.orders";

/// The chosen ones and those they are compared with; places stay.
fn chosen(all: Vec<Contender>, only: &str) -> Vec<Option<Contender>> {
    let wanted: Vec<usize> = all.iter().filter(|one| one.name.contains(only)).map(|one| one.against).collect();
    let keep = |(i, one): (usize, Contender)| (one.name.contains(only) || wanted.contains(&i)).then_some(one);
    all.into_iter().enumerate().map(keep).collect()
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options { lines: 2_000_000, rounds: 5, json: false, only: String::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| anyhow::anyhow!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--lines" => options.lines = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--only" => options.only = value()?,
            "--json" => options.json = true,
            _ => anyhow::bail!("unknown option {argument}\n{USAGE}"),
        }
    }
    Ok(options)
}

//! `tailmill bench`: what a line costs, on the engine and in the filter room of the agent.
//!
//! Time is CPU time of this thread for whole passes over the file, calls, packing and the room's own work included. Two
//! versions take turns, so that what the machine does meanwhile hits both. Instructions are counted by another engine,
//! whose code counts: the same number each time, on every machine.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tailmill_engine::Limits;
use tailmill_tail::Batch;

use super::lines::{self, Between, Text};
use super::runner::{Candidate, Run};
use super::{ModuleArgs, NODE, Stop, code, workshop};
use crate::app::Workshop;
use crate::cli::dev::filters::FilterArg;
use crate::cli::output::note;
use crate::cli::say;
use crate::model::{FilterPlan, exit};
use crate::observe::text::{Paint, bytes, count, counted};

pub(in crate::cli) const EXAMPLES: &str = r#"Examples:
  tailmill bench grep app.log --with '{"include": "error"}'
  tailmill bench new.wasm app.log --against old.wasm       both in turns, and the ratio
  tailmill bench mine.wasm app.log --json | jq .this.instructions_a_line

Instructions a line are the same in every run and on every machine: what continuous integration can compare. Times are CPU
time of one core."#;

/// A pass over fewer bytes would be mostly the beginning and the end of it: short files are repeated.
const PASS_BYTES_MIN: usize = 4 << 20;
const PASSES_MIN: usize = 5;
const PASSES_MAX: usize = 10_000;
/// Code that counts is slower.
const COUNTING_TIME_FACTOR: u32 = 20;

#[derive(Args, Debug)]
pub(in crate::cli) struct BenchArgs {
    #[command(flatten)]
    module: ModuleArgs,
    /// File of lines
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Another version (or another configuration) to compare with
    #[arg(long, value_name = "OTHER[:JSON]", value_parser = FilterArg::parse)]
    against: Option<FilterArg>,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("must be from 0 to 3600".to_owned()) }
}

/// The lines of one pass.
struct Pass {
    batches: Vec<Batch>,
    lines: usize,
    /// Of the file, terminators included.
    bytes: u64,
    /// How often the file is in it.
    times: usize,
}

/// What was measured of one filter.
struct Measured {
    /// CPU time of each pass.
    passes: Vec<Duration>,
    memory_peak_bytes: u64,
    faults: u64,
    instructions_a_line: f64,
    /// Lines of a pass that its needles kept out of wasm.
    skipped: u64,
}

pub(in crate::cli) fn run(args: &BenchArgs) -> i32 {
    code(bench(args))
}

fn bench(args: &BenchArgs) -> Result<i32, Stop> {
    let mut plans = vec![args.module.plan()?];
    if let Some(other) = &args.against {
        plans.push(args.module.plan_of_other(other)?);
    }
    let pass = Pass::of(&Text::read(&args.file)?)?;
    let mut measured = measure(args, &plans, &pass)?;
    for (plan, measured) in plans.iter().zip(&mut measured) {
        count_work(args, plan, &pass, measured)?;
    }
    for (plan, measured) in plans.iter().zip(&measured).filter(|(_, measured)| measured.faults > 0) {
        note(&format!(
            "{}: {} failed, and finding them is in the figures",
            plan.name,
            counted(measured.faults, "call")
        ));
    }
    if args.json {
        say(&format!("{:#}\n", document(&pass, &measured)));
    } else {
        let names: Vec<&str> = plans.iter().map(|plan| plan.module.source.as_str()).collect();
        say(&text(&names, &pass, &measured, Paint::for_stream(&std::io::stdout())));
    }
    Ok(exit::CLEAN)
}

impl Pass {
    fn of(text: &Text) -> Result<Pass, Stop> {
        let lines = text.lines().len();
        let bytes: u64 = text.batches.iter().map(Batch::bytes).sum();
        if lines == 0 {
            return Err(Stop::Usage(format!("while reading {}: there is no line in it", text.path.display())));
        }
        let times = PASS_BYTES_MIN.div_ceil(bytes.max(1) as usize).min(1_000_000_usize.div_ceil(lines));
        let batches = if times == 1 { text.batches.clone() } else { repeated(text, times) };
        Ok(Pass { batches, lines: lines * times, bytes: bytes * times as u64, times })
    }

    /// The lines again, further on in the file.
    fn at(&self, offset: u64) -> Vec<Batch> {
        let mut batches = self.batches.clone();
        for batch in &mut batches {
            batch.first_offset += offset;
            batch.end_offset += offset;
            batch.line_ends.iter_mut().for_each(|end| *end += offset);
        }
        batches
    }
}

/// Batches as the agent would cut a file that holds the lines so many times.
fn repeated(text: &Text, times: usize) -> Vec<Batch> {
    let limits = tailmill_tail::BatchLimits::default();
    let lines = text.lines();
    let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
    for line in (0..times).flat_map(|_| lines.iter()) {
        if !group.is_empty() && (group.len() == limits.lines || bytes + line.len() + 1 > limits.bytes) {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += line.len() + 1;
        group.push(line.to_vec());
    }
    groups.push(group);
    lines::batches(&groups, Between::Nothing)
}

/// Passes in turns, until there are enough of them and the time is up.
fn measure(args: &BenchArgs, plans: &[FilterPlan], pass: &Pass) -> Result<Vec<Measured>, Stop> {
    let shop = workshop()?;
    let arm = |plan: &FilterPlan| Candidate::arm(&shop, plan.clone(), &args.module.topic);
    let candidates: Vec<Candidate> = plans.iter().map(arm).collect::<Result<_, _>>()?;
    let mut runs: Vec<Run<'_>> =
        candidates.iter().map(|candidate| candidate.begin(&shop, &args.file).without_answers()).collect();
    let mut passes: Vec<Vec<Duration>> = vec![Vec::new(); runs.len()];
    let mut spent = Duration::ZERO;
    let enough = Duration::from_secs_f64(args.seconds);
    // The first round warms up: instances start, memories grow.
    for round in 0..PASSES_MAX {
        for (run, passes) in runs.iter_mut().zip(&mut passes) {
            let took = one_pass(run, pass.at(round as u64 * pass.bytes), &args.file)?;
            if round > 0 {
                passes.push(took);
                spent += took;
            }
        }
        if round >= PASSES_MIN && spent >= enough {
            break;
        }
    }
    let measured = runs.iter().zip(passes).map(|(run, passes)| Measured {
        passes,
        memory_peak_bytes: run.ledger().map_or(0, |ledger| ledger.memory_peak_bytes),
        faults: run.ledger().map_or(0, |ledger| ledger.faults_total()),
        instructions_a_line: 0.0,
        skipped: 0,
    });
    Ok(measured.collect())
}

fn one_pass(run: &mut Run<'_>, batches: Vec<Batch>, file: &Path) -> Result<Duration, Stop> {
    let before = thread_time();
    for batch in batches {
        if !run.offer(batch) {
            let what = anyhow::anyhow!("the filter does not start again after a fault");
            return Err(Stop::Failed(what.context(format!("while running the lines of {}", file.display()))));
        }
    }
    Ok(thread_time().saturating_sub(before))
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The second pass through an engine that counts: nothing of the start is in it.
fn count_work(args: &BenchArgs, plan: &FilterPlan, pass: &Pass, measured: &mut Measured) -> Result<(), Stop> {
    let shop = Workshop::counting(NODE)?;
    let limits = Limits { call_time: plan.limits.call_time * COUNTING_TIME_FACTOR, ..plan.limits.clone() };
    let candidate = Candidate::arm(&shop, FilterPlan { limits, ..plan.clone() }, &args.module.topic)?;
    let mut run = candidate.begin(&shop, &args.file).without_answers();
    one_pass(&mut run, pass.at(0), &args.file)?;
    let before = shop.counted();
    one_pass(&mut run, pass.at(pass.bytes), &args.file)?;
    let after = shop.counted();
    measured.instructions_a_line = (after.instructions - before.instructions) as f64 / pass.lines as f64;
    measured.skipped = after.skipped_lines - before.skipped_lines;
    Ok(())
}

impl Measured {
    /// CPU time of the pass in the middle.
    fn median(&self) -> Duration {
        let mut sorted = self.passes.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    fn ns_a_line(&self, pass: &Pass) -> f64 {
        self.median().as_nanos() as f64 / pass.lines as f64
    }

    fn lines_a_second(&self, pass: &Pass) -> f64 {
        pass.lines as f64 / self.median().as_secs_f64().max(1e-9)
    }

    fn mb_a_second(&self, pass: &Pass) -> f64 {
        pass.bytes as f64 / 1e6 / self.median().as_secs_f64().max(1e-9)
    }

    fn skipped_share(&self, pass: &Pass) -> f64 {
        self.skipped as f64 / pass.lines as f64
    }

    fn json(&self, pass: &Pass) -> Value {
        json!({
            "passes": self.passes.len(),
            "ns_a_line": self.ns_a_line(pass),
            "lines_a_second": self.lines_a_second(pass),
            "mb_a_second": self.mb_a_second(pass),
            "instructions_a_line": self.instructions_a_line,
            "skipped_share": self.skipped_share(pass),
            "memory_peak_bytes": self.memory_peak_bytes,
            "faults": self.faults,
        })
    }
}

fn document(pass: &Pass, measured: &[Measured]) -> Value {
    let mut document = json!({
        "lines_a_pass": pass.lines,
        "bytes_a_pass": pass.bytes,
        "file_times_a_pass": pass.times,
        "this": measured[0].json(pass),
    });
    if let [this, other] = measured {
        document["other"] = other.json(pass);
        document["ratio"] = json!({
            "ns_a_line": ratio(this.ns_a_line(pass), other.ns_a_line(pass)),
            "instructions_a_line": ratio(this.instructions_a_line, other.instructions_a_line),
        });
    }
    document
}

/// None: there is nothing to divide by.
fn ratio(this: f64, other: f64) -> Option<f64> {
    (other > 0.0).then(|| this / other)
}

type Figure = fn(&Measured, &Pass) -> f64;
/// A name, a figure, and how it is written.
type Row<'a> = (&'a str, Figure, &'a dyn Fn(f64) -> String);

fn text(names: &[&str], pass: &Pass, measured: &[Measured], paint: Paint) -> String {
    let decimals = |value: f64| if value < 100.0 { format!("{value:.1}") } else { count(value.round() as u64) };
    let rows: [Row<'_>; 6] = [
        ("ns a line", Measured::ns_a_line, &decimals),
        ("lines/s", Measured::lines_a_second, &|value| count(value.round() as u64)),
        ("MB/s", Measured::mb_a_second, &decimals),
        ("instructions a line", |measured, _| measured.instructions_a_line, &|value| format!("{value:.2}")),
        ("skipped by needles", Measured::skipped_share, &|value| format!("{:.1} %", value * 100.0)),
        ("peak memory", |measured, _| measured.memory_peak_bytes as f64, &|value| bytes(value as u64)),
    ];
    let repeated =
        if pass.times > 1 { format!(" (the file {} times)", count(pass.times as u64)) } else { String::new() };
    let passes = measured[0].passes.len() as u64;
    let mut text = format!(
        "{}\n",
        paint.faint(&format!(
            "{} in a pass{repeated}; the middle one of {} passes",
            counted(pass.lines as u64, "line"),
            passes
        ))
    );
    if let [this, other] = names {
        let _ = writeln!(text, "{:<22}{:>16}{:>16}{:>9}", "", tail(this), tail(other), "ratio");
    }
    for (name, figure, shown) in rows {
        let values: Vec<f64> = measured.iter().map(|measured| figure(measured, pass)).collect();
        let _ = write!(text, "{name:<22}");
        values.iter().for_each(|value| text.push_str(&format!("{:>16}", shown(*value))));
        if let [this, other] = values[..] {
            let ratio = ratio(this, other).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = write!(text, "{ratio:>9}");
        }
        text.push('\n');
    }
    text
}

/// The end of a path, as much as fits its column.
fn tail(path: &str) -> String {
    const WIDTH: usize = 15;
    let chars: Vec<char> = path.chars().collect();
    match chars.len() > WIDTH {
        true => format!("…{}", chars[chars.len() - WIDTH + 1..].iter().collect::<String>()),
        false => path.to_owned(),
    }
}

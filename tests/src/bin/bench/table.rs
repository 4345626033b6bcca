//! From costs to rows to text.

use serde::Serialize;

use crate::contenders::{Cost, PROPERTIES};
use crate::data::Data;
use crate::engine::Call;

/// One contender's figures: medians over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    cpu_ns_per_line: f64,
    /// To the row it is compared with; the median of the ratios within each round.
    ratio: f64,
    wall_seconds: f64,
    memory_peak_bytes: Option<u64>,
}

pub(crate) fn rows(names: &[Option<(&'static str, usize)>], costs: &[Vec<Cost>], lines: u64) -> Vec<Row> {
    let named = names.iter().zip(costs).filter_map(|(name, costs)| Some((name.as_ref()?, costs)));
    let row = |((name, against), own): (&(&'static str, usize), &Vec<Cost>)| {
        let cpu = |cost: &Cost| cost.cpu.as_secs_f64();
        let pairs = own.iter().zip(&costs[*against]);
        Row {
            name,
            cpu_ns_per_line: median(own.iter().map(|cost| cpu(cost) * 1e9 / lines as f64)),
            ratio: median(pairs.map(|(own, other)| cpu(own) / cpu(other))),
            wall_seconds: median(own.iter().map(|cost| cost.wall.as_secs_f64())),
            memory_peak_bytes: own.iter().filter_map(|cost| cost.memory_bytes).max(),
        }
    };
    named.map(row).collect()
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

pub(crate) fn print(data: &Data, rounds: usize, rows: &[Row], calls: &[Call]) {
    let mean = data.bytes as f64 / data.lines as f64;
    println!("{} lines, {mean:.0} bytes each, {rounds} rounds in turn, medians; {}", data.lines, properties());
    println!("{:<36} {:>13} {:>7} {:>8} {:>9}", "", "CPU ns a line", "ratio", "wall s", "peak MiB");
    for row in rows {
        let memory = row.memory_peak_bytes.map_or_else(|| "-".to_owned(), |bytes| (bytes >> 20).to_string());
        let Row { name, cpu_ns_per_line, ratio, wall_seconds, .. } = row;
        println!("{name:<36} {cpu_ns_per_line:>13.0} {ratio:>7.2} {wall_seconds:>8.1} {memory:>9}");
    }
    println!();
    println!("{:<36} {:>13}", "the filter call alone", "ns a line");
    for call in calls {
        println!("{:<36} {:>13.0}", call.name, call.ns_per_line);
    }
}

fn properties() -> String {
    PROPERTIES.map(|(key, value)| format!("{key}={value}")).join(" ")
}

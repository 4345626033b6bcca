//! What looking at many idle files costs: `scan_cost FILES` makes that many in a temporary directory and prints the CPU
//! time of the first and of later scans.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tailmill_tail::{DiscoverOptions, Discovery, FileEvent, PathPatterns, StartAt, WatchSpec};

fn main() -> ExitCode {
    let files = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000);
    match measure(files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn measure(files: usize) -> std::io::Result<()> {
    let dir = tempfile::tempdir()?;
    for i in 0..files {
        std::fs::write(dir.path().join(format!("{i}.log")), "one line\n")?;
    }
    let include = [format!("{}/*.log", dir.path().display())];
    let patterns = PathPatterns::new(&include, &[]).map_err(|errors| std::io::Error::other(errors[0].to_string()))?;
    let mut discovery =
        Discovery::new(DiscoverOptions { scan_every: Duration::from_secs(3600), ..DiscoverOptions::default() });
    discovery.set_specs(vec![WatchSpec {
        entry: "bench".into(),
        patterns: Arc::new(patterns),
        start: StartAt::Beginning,
        finish_after: Duration::ZERO,
        ignore_older: None,
        close_idle: None,
        compressed: false,
    }]);
    for round in 0..5 {
        let before = cpu_ns();
        // The events hold open files: counted and closed, as idle files are.
        let opened = discovery.scan_now().iter().filter(|event| matches!(event, FileEvent::Opened(_))).count();
        println!("scan {round}: {:.1} ms, {opened} opened", (cpu_ns() - before) as f64 / 1e6);
    }
    Ok(())
}

/// CPU time of this process in nanoseconds.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

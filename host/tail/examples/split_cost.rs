//! What reading and splitting costs: `split_cost FILE [ROUNDS]` prints lines, MB/s and ns a line of CPU time.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::fs::File;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use tailmill_tail::{BatchLimits, BufferPool, Evidence, Framing, Read, ReadError, Reader};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(path) = args.next() else {
        eprintln!("usage: split_cost FILE [ROUNDS]");
        return ExitCode::from(64);
    };
    let rounds = args.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(3);
    for _ in 0..rounds {
        let before = cpu_ns();
        match File::open(&path).map_err(ReadError::Io).and_then(split_all) {
            Ok((lines, bytes)) => {
                let ns = (cpu_ns() - before).max(1);
                let (mb_s, ns_line) = (bytes as f64 * 1000.0 / ns as f64, ns as f64 / lines.max(1) as f64);
                println!("{lines} lines, {bytes} bytes: {mb_s:.0} MB/s, {ns_line:.1} ns a line");
            }
            Err(problem) => {
                eprintln!("while reading {}: {problem}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn split_all(file: File) -> Result<(u64, u64), ReadError> {
    let limits = BatchLimits::default();
    let pool = BufferPool::new(limits.bytes, 4);
    let mut reader = Reader::new(file, 0, Evidence::default(), Arc::new(Framing::default()))?;
    let (mut lines, mut bytes) = (0, 0);
    loop {
        match reader.finish(&limits, &pool)? {
            Read::Batch(batch) => {
                lines += batch.len() as u64;
                bytes += batch.bytes();
            }
            Read::Working | Read::Waiting => {}
            Read::AtEnd { .. } | Read::Truncated { .. } => return Ok((lines, bytes)),
        }
    }
}

/// CPU time of this process in nanoseconds.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

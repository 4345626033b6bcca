//! What a call into a filter costs, in CPU time of this thread: nanoseconds a line, by lines a batch.
//!
//! ```text
//! cargo run --release -p tailmill-engine --example call_cost [MODULE.wasm[:JSON]]…
//! ```
//!
//! Without arguments the plainest guests of both lanes are measured: what is left is the host's own cost. Times depend on the
//! machine and on what else it does; compare figures of one run only.

#![allow(clippy::print_stdout)]

use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::time::Duration;
use tailmill_engine::{Engine, EngineOptions, Instance, Limits, Lines, Module, Origin, Surroundings};

const BATCHES: [usize; 4] = [1, 32, 1_024, 4_096];
const LINE_BYTES: usize = 120;
/// Lines a measurement; the best of so many counts.
const LINES: usize = 1 << 18;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::new(EngineOptions::default())?;
    let ticked = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(ticked.epoch_every());
            ticked.tick_epoch();
        }
    });
    let mut cases = Vec::new();
    for arg in std::env::args().skip(1) {
        let (path, config) = arg.split_once(':').unwrap_or((&arg, "{}"));
        cases.push((arg.clone(), std::fs::read(path)?, config.to_owned()));
    }
    if cases.is_empty() {
        for (name, text) in [
            ("batch, keep all", batch(KEEP_ALL)),
            ("batch, mask", batch(MASK)),
            ("batch, emit", batch(EMIT)),
            ("line, keep", line()),
        ] {
            cases.push((name.to_owned(), wat::parse_str(text)?, "{}".to_owned()));
        }
    }
    println!("ns a line (CPU), batches of {BATCHES:?}; ns a start");
    for (name, wasm, config) in &cases {
        measure(&engine.load(wasm)?, config, name)?;
    }
    Ok(())
}

fn measure(module: &Module, config: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let start = || module.start(config, &Limits::STANDARD, &Surroundings::default(), true);
    let mut instance = start()?;
    let costs = BATCHES.iter().map(|batch| Ok(cost(&mut instance, *batch)?));
    let costs: Vec<f64> = costs.collect::<Result<_, Box<dyn Error>>>()?;
    let begun = cpu_time();
    for _ in 0..100 {
        start()?;
    }
    let costs: String = costs.iter().map(|ns| format!("{ns:>10.1}")).collect();
    println!("{costs} {:>10}  {name}", (cpu_time() - begun).as_nanos() / 100);
    Ok(())
}

fn cost(instance: &mut Instance, batch: usize) -> Result<f64, tailmill_engine::Fault> {
    let mut data = Vec::new();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for i in 0..batch {
        starts.push(data.len() as u32);
        let word = if i % 4 == 0 { "error" } else { "info" };
        data.extend_from_slice(
            format!("2026-01-01T00:00:{:02}Z {word} request {i} /api/v1/orders ", i % 60).as_bytes(),
        );
        data.resize(starts[i] as usize + LINE_BYTES, b'x');
        ends.push(data.len() as u32);
        data.push(b'\n');
    }
    let lines = Lines { data: &data, starts: &starts, ends: &ends };
    let origin = Origin::default();
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = cpu_time();
        for call in 0..LINES / batch {
            std::hint::black_box(instance.run((call * batch) as u64, lines, &origin)?);
        }
        best = best.min(cpu_time() - begun);
    }
    Ok(best.as_nanos() as f64 / (LINES / batch * batch) as f64)
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

const KEEP_ALL: &str = "(i32.const 1024)";
/// Keeps every other line: the answer at 2048 says where the mask is and how long.
const MASK: &str =
    "(i32.store8 offset=8 (i32.const 2048) (i32.const 2)) (i32.store offset=12 (i32.const 2048) (i32.const 4096))
    (i32.store offset=16 (i32.const 2048) (i32.shr_u (i32.add (local.get 6) (i32.const 31)) (i32.const 5)))
    (memory.fill (i32.const 4096) (i32.const 0x55) (i32.const 1024)) (i32.const 2048)";
/// Emits every line as it came. Sources are counted up from 8192 on.
const EMIT: &str = "(local.set $i (i32.const 0))
    (i32.store8 offset=8 (i32.const 2048) (i32.const 3))
    (i32.store offset=12 (i32.const 2048) (local.get 1)) (i32.store offset=16 (i32.const 2048) (local.get 2))
    (i32.store offset=20 (i32.const 2048) (local.get 3)) (i32.store offset=24 (i32.const 2048) (local.get 4))
    (i32.store offset=28 (i32.const 2048) (local.get 5)) (i32.store offset=32 (i32.const 2048) (local.get 6))
    (i32.store offset=36 (i32.const 2048) (i32.const 8192))
    (i32.store offset=40 (i32.const 2048) (i32.shl (local.get 6) (i32.const 1)))
    (loop $next
      (i64.store offset=8192 (i32.shl (local.get $i) (i32.const 1)) (local.get 0))
      (local.set 0 (i64.add (local.get 0) (i64.const 1)))
      (local.set $i (i32.add (local.get $i) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $i) (local.get 6))))
    (i32.const 2048)";

fn batch(run: &str) -> String {
    format!(
        "(module (memory (export \"memory\") 18) (global $heap (mut i32) (i32.const 65536))
           (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (global.get $heap)
             (global.set $heap (i32.and (i32.add (i32.add (global.get $heap) (local.get 3)) (i32.const 7)) (i32.const -8))))
           (func (export \"tailmill:filter/batch@1.0.0#start\") (param i32 i32) (result i32)
             (i32.store8 (i32.const 516) (i32.const 1)) (i32.const 512))
           (func (export \"tailmill:filter/batch@1.0.0#run\") (param i64 i32 i32 i32 i32 i32 i32) (result i32)
             (local $i i32) (global.set $heap (i32.const 65536)) {run}))"
    )
}

fn line() -> String {
    "(module (memory (export \"memory\") 18)
       (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
       (func (export \"tailmill:filter/line@1.0.0#start\") (param i32 i32) (result i32) (i32.const 1024))
       (func (export \"tailmill:filter/line@1.0.0#run\") (param i32 i32) (result i32) (i32.const 1024)))"
        .to_owned()
}

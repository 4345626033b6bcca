//! How far a guest gets beyond each limit before it is stopped.
//!
//! ```text
//! cargo build --release --workspace --bins --examples && target/release/examples/overshoot
//! ```
//!
//! For each limit: what was set, what was reached, and the difference in percent; of what varies the worst of some rounds. On a
//! busy machine times on the clock are larger; those on the CPU are not, or hardly.

#![allow(clippy::print_stdout)]

#[path = "../tests/engine/guests.rs"]
#[allow(dead_code, clippy::expect_used)]
mod guests;

use guests::{Answer, Guest, List, Output, emits, exported, u32s, u64s};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tailmill_engine::{
    CacheOptions, CompileLimits, Engine, EngineOptions, Fault, Instance, Limits, Lines, LoadError, Origin, STACK_BYTES,
    Surroundings,
};

type Any<T> = Result<T, Box<dyn Error>>;

const ROUNDS: usize = 20;
const LIMITS: Limits = Limits::STANDARD;
const FOREVER: &str = "(loop $next (br $next)) unreachable";

fn main() -> Any<()> {
    let engine = ticking(EngineOptions::default())?;
    println!("{:<44}{:>14}{:>14}{:>10}", "limit", "set", "reached", "beyond");
    time(&engine)?;
    space(&engine)?;
    stack(&engine)?;
    answers(&engine)?;
    compiling()
}

fn ticking(options: EngineOptions) -> Any<Engine> {
    let engine = Engine::new(options)?;
    let clock = engine.clone();
    std::thread::spawn(move || clock.run_clock(&AtomicBool::new(false)));
    Ok(engine)
}

fn say(limit: &str, unit: &str, set: f64, reached: f64) {
    let beyond = (reached / set - 1.0) * 100.0;
    println!("{limit:<44}{:>14}{:>14}{:>9.1}%", format!("{set:.0} {unit}"), format!("{reached:.1} {unit}"), beyond);
}

fn start(engine: &Engine, guest: &Guest) -> Any<Instance> {
    Ok(engine.load(&guest.wasm())?.start("{}", &LIMITS, &Surroundings::default(), true)?)
}

fn run(instance: &mut Instance, lines: usize) -> Result<tailmill_engine::Answer, Fault> {
    let (starts, ends): (Vec<u32>, Vec<u32>) = (0..lines as u32).map(|i| (i * 2, i * 2 + 1)).unzip();
    let data = "a\n".repeat(lines);
    instance.run(0, Lines { data: data.as_bytes(), starts: &starts, ends: &ends }, &Origin::default())
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The worst round: milliseconds of this thread's CPU, and on the clock.
fn worst(mut round: impl FnMut() -> Any<()>) -> Any<(f64, f64)> {
    let (mut cpu_ms, mut wall_ms) = (0f64, 0f64);
    for _ in 0..ROUNDS {
        let (cpu, wall) = (seconds(ClockId::ThreadCPUTime), Instant::now());
        round()?;
        cpu_ms = cpu_ms.max((seconds(ClockId::ThreadCPUTime) - cpu) * 1e3);
        wall_ms = wall_ms.max(wall.elapsed().as_secs_f64() * 1e3);
    }
    Ok((cpu_ms, wall_ms))
}

fn time(engine: &Engine) -> Any<()> {
    let limit_ms = LIMITS.call_time.as_secs_f64() * 1e3;
    let bulk = "(loop $next (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x1000000)) (br $next)) unreachable";
    let guests = [
        ("a call, of a loop", guests::batch().run(FOREVER)),
        ("a call, of fills of 16 MiB", guests::batch().memory("256").run(bulk)),
        ("a batch in the line world, of a loop", guests::line().run(FOREVER)),
    ];
    for (name, guest) in guests {
        let module = engine.load(&guest.wasm())?;
        let (cpu, wall) = worst(|| {
            let mut instance = module.start("{}", &LIMITS, &Surroundings::default(), true)?;
            run(&mut instance, 3).err().ok_or("no fault")?;
            Ok(())
        })?;
        say(&format!("{name}: CPU"), "ms", limit_ms, cpu);
        say(&format!("{name}: clock"), "ms", limit_ms, wall);
    }
    let module = engine.load(&guests::batch().start(FOREVER).wasm())?;
    let (cpu, wall) = worst(|| {
        module.start("{}", &LIMITS, &Surroundings::default(), true).err().ok_or("no fault")?;
        Ok(())
    })?;
    say("a start, of a loop: CPU", "ms", limit_ms * 5.0, cpu);
    say("a start, of a loop: clock", "ms", limit_ms * 5.0, wall);
    Ok(())
}

fn resident_bytes() -> Any<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split(' ').nth(1).ok_or("statm")?.parse::<f64>()? * 4096.0)
}

fn space(engine: &Engine) -> Any<()> {
    const MIB: f64 = 1_048_576.0;
    let bomb = "(loop $next
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
        (memory.fill (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 0x10000)) (i32.const 1) (i32.const 0x10000))
        (br $next)) unreachable";
    let mut instance = start(engine, &guests::batch().run(bomb))?;
    let before = resident_bytes()?;
    run(&mut instance, 1).err().ok_or("no fault")?;
    let limit = LIMITS.memory_bytes as f64 / MIB;
    say("memory, of the instance", "MiB", limit, instance.memory_bytes() as f64 / MIB);
    say("memory, of the process beside what it had", "MiB", limit, (resident_bytes()? - before) / MIB);
    // Says how many elements it has, by a counter, before each more.
    let grow = "(i32.store8 (i32.const 700) (i32.const 65)) (loop $next
        (if (i32.eq (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable))
        (call $count (i32.const 700) (i32.const 1) (i64.const 1))
        (br $next)) unreachable";
    let import = "(import \"tailmill:filter/host@1.0.0\" \"count\" (func $count (param i32 i32 i64)))";
    let mut instance = start(engine, &guests::batch().imports(import).more("(table $t 0 funcref)").run(grow))?;
    run(&mut instance, 1).err().ok_or("no fault")?;
    let elements: u64 = instance.take_notes().counters.iter().map(|(_, n)| n).sum();
    say("table elements", "", LIMITS.table_elements as f64, elements as f64);
    Ok(())
}

/// On a thread whose stack nobody used before: what of it is resident afterwards.
fn stack(engine: &Engine) -> Any<()> {
    let deep = "(func $deep (result i32) (i32.add (i32.const 1) (call $deep)))";
    let module = engine.load(&guests::batch().run("(call $deep)").more(deep).wasm())?;
    let used = std::thread::Builder::new().stack_size(8 << 20).spawn(move || -> Option<f64> {
        let mut instance = module.start("{}", &LIMITS, &Surroundings::default(), true).ok()?;
        run(&mut instance, 1).err()?;
        let here = &raw const instance as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let mut lines = maps.lines();
        lines.find(|line| {
            let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
            let hex = |text| usize::from_str_radix(text, 16).ok();
            bounds.and_then(|(low, high)| Some(hex(low)? <= here && here < hex(high)?)).unwrap_or(false)
        })?;
        let resident = lines.find(|line| line.starts_with("Rss:"))?;
        resident.split_whitespace().nth(1)?.parse().ok()
    })?;
    let used = used.join().map_err(|_| "the thread")?.ok_or("no stack was found")?;
    say("stack, the host's part of it included", "KiB", STACK_BYTES as f64 / 1024.0, used);
    Ok(())
}

/// The largest that is let through, by trying.
fn largest(low: usize, high: usize, is_in: impl Fn(usize) -> Any<bool>) -> Any<f64> {
    let (mut low, mut high) = (low, high);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if is_in(middle)? { low = middle } else { high = middle }
    }
    Ok(low as f64)
}

fn answers(engine: &Engine) -> Any<()> {
    const MIB: f64 = 1_048_576.0;
    // Its place and its source count too.
    let answering = |bytes: usize| -> Any<Option<String>> {
        let data = List::Claim(0, bytes as u32 - 16);
        let output = Output { data, starts: u32s(&[0]), ends: u32s(&[1]), source: u64s(&[0]), ..Output::default() };
        let mut instance = start(engine, &guests::batch().memory("800").answers(&emits(output)))?;
        Ok(run(&mut instance, 1).err().map(|fault| fault.message))
    };
    let (limit, top) = (LIMITS.output_bytes, LIMITS.output_bytes * 2);
    let taken = largest(1_000, top, |bytes| Ok(answering(bytes)?.is_none()))?;
    let copied = largest(1_000, top, |bytes| Ok(answering(bytes)?.is_none_or(|why| why.contains("bytes of answer"))))?;
    say("answer that is taken", "MiB", limit as f64 / MIB, taken / MIB);
    say("answer that is copied before it is refused", "MiB", limit as f64 / MIB, copied / MIB);
    let saving = |bytes: usize| -> Any<bool> {
        let mut guest = guests::batch().memory("40");
        let mut saved = [0; 12];
        saved[8..].copy_from_slice(&(bytes as u32).to_le_bytes());
        let place = guest.image.place(&saved);
        let guest = guest
            .more(&exported("state", "save", "(result i32)", &format!("(i32.const {place})")))
            .more(&exported("state", "load", "(param i32 i32) (result i32)", "(i32.const 0)"));
        Ok(start(engine, &guest)?.save().is_ok())
    };
    let taken = largest(1_000, LIMITS.state_bytes * 2, saving)?;
    say("saved state", "KiB", LIMITS.state_bytes as f64 / 1024.0, taken / 1024.0);
    let holding = |lines: usize| -> Any<bool> {
        let answer = Answer { held: Some(0), ..Answer::default() };
        Ok(run(&mut start(engine, &guests::batch().memory("64").answers(&answer))?, lines).is_ok())
    };
    let held = largest(1_000, LIMITS.held_lines * 2, holding)?;
    say("held lines", "", LIMITS.held_lines as f64, held);
    Ok(())
}

/// All locals change inside of all loops: within every bound, and a minute is not enough.
fn bomb() -> Guest {
    const LOCALS: usize = 1_000;
    const LOOPS: usize = 400;
    let changes: String = (0..LOCALS)
        .map(|i| format!("(local.set {i} (i64.add (local.get {i}) (local.get {})))", (i + 1) % LOCALS))
        .collect();
    let body = format!("{}{changes}{}", "(loop ".repeat(LOOPS), "(br_if 0 (i64.eqz (local.get 5))))".repeat(LOOPS));
    guests::batch().more(&format!("(func (local {}) {body})", "i64 ".repeat(LOCALS)).repeat(20))
}

fn compiling() -> Any<()> {
    let compiler = std::env::current_exe()?.ancestors().nth(2).ok_or("no directory")?.join("tailmill-compile");
    let wasm = bomb().wasm();
    let with = |limits: CompileLimits| stopped(&compiler, &wasm, limits);
    let cpu = with(CompileLimits { cpu: Duration::from_secs(5), ..CompileLimits::STANDARD })?;
    say("compiling: CPU", "ms", 5_000.0, cpu.cpu_ms);
    let memory = with(CompileLimits { memory_bytes: 128 << 20, ..CompileLimits::STANDARD })?;
    say("compiling: address space", "MiB", 128.0, memory.peak_kib / 1024.0);
    let wall = with(CompileLimits { wall: Duration::from_secs(2), ..CompileLimits::STANDARD })?;
    say("compiling: clock", "ms", 2_000.0, wall.wall_ms);
    Ok(())
}

/// What a compile child had used when it was stopped.
struct Used {
    cpu_ms: f64,
    wall_ms: f64,
    peak_kib: f64,
}

fn stopped(compiler: &Path, wasm: &[u8], limits: CompileLimits) -> Any<Used> {
    let dir = tempfile::tempdir()?;
    let cache = CacheOptions { dir: dir.path().join("cache"), compiler: compiler.to_owned(), limits };
    let engine = Engine::new(EngineOptions { cache: Some(cache), ..EngineOptions::default() })?;
    let (peak, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watch = (peak.clone(), done.clone(), std::process::id());
    let watching = std::thread::spawn(move || {
        let (peak, done, parent) = watch;
        while !done.load(Ordering::Relaxed) {
            peak.fetch_max(peak_of_children_kib(parent).unwrap_or(0), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let (cpu, begun) = (cpu_of_children_ms()?, Instant::now());
    let refused = engine.load(wasm).err().ok_or("it was compiled")?;
    let wall_ms = begun.elapsed().as_secs_f64() * 1e3;
    done.store(true, Ordering::Relaxed);
    watching.join().map_err(|_| "the watch")?;
    if !matches!(refused, LoadError::CompileLimits { .. }) {
        return Err(refused.into());
    }
    Ok(Used { cpu_ms: cpu_of_children_ms()? - cpu, wall_ms, peak_kib: peak.load(Ordering::Relaxed) as f64 })
}

/// Of those that ended and were waited for.
fn cpu_of_children_ms() -> Any<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().ok_or("stat")?.split_whitespace().collect();
    let ticks: f64 = fields.get(13..15).ok_or("stat")?.iter().filter_map(|n| n.parse::<f64>().ok()).sum();
    Ok(ticks * 10.0)
}

fn peak_of_children_kib(parent: u32) -> Option<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).ok()?.flatten();
    let children: String = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .collect::<Vec<_>>()
        .join(" ");
    let peak = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmPeak:"))?.to_owned();
        // Before it is our compiler it is a copy of this process.
        status.starts_with("Name:\ttailmill-compil").then(|| line.split_whitespace().nth(1)?.parse().ok())?
    };
    children.split_whitespace().filter_map(peak).max()
}

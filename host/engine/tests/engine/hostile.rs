//! Guests that mean harm. Beside each of them a good guest goes on as if nothing had happened. Those of the corpus
//! (`tests/hostile`) are run a second time by a child process that is a host without the one limit that stops them: a case
//! that does no harm there is no case.

use crate::corpus::{self, At, Case, Harm, Stops};
use crate::guests::{self, Answer, Column, Guest, Image, List, Outcome, Output, bytes, emits, two_lines, u32s, u64s};
use crate::support::{LIMITS, engine, origin, run, shown, start, surroundings, ticking};
use rustix::process::{Resource, Rlimit};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio, exit};
use std::time::Duration;
use tailmill_engine::{Bounds, CacheOptions, CompileLimits, Engine, EngineOptions, Fault, FaultKind, Instance, Limits};

/// How a host ended with a guest: where, and what is said about it.
type End = (At, Option<FaultKind>, String);

/// How far a guest gets: through `load`, `start`, two batches of lines, a tick, a flush, a save and a load. `None`: to the end.
fn lead_through(engine: &Engine, wasm: &[u8], limits: &Limits, lines: usize) -> Option<End> {
    let said = |at| move |fault: Fault| (at, Some(fault.kind), fault.message);
    let module = match engine.load(wasm) {
        Ok(module) => module,
        Err(refused) => return Some((At::Load, None, refused.to_string())),
    };
    let starting = || {
        let mut instance = module.start("{}", limits, &surroundings(), false).map_err(said(At::Start))?;
        let ticks = instance.every_ms().map_err(said(At::Asked))?.is_some();
        Ok((instance, ticks))
    };
    let going = || {
        let (mut instance, ticks) = starting()?;
        let lines = vec!["line"; lines];
        for batch in 0..2 {
            run(&mut instance, 10 + batch * lines.len() as u64, &lines).map_err(said(At::Run))?;
        }
        if ticks {
            instance.tick(&origin()).map_err(said(At::Later))?;
        }
        instance.flush(&origin()).map_err(said(At::Later))?;
        if let Some(state) = instance.save().map_err(said(At::Later))? {
            instance.load_state(&state, 14, None).map_err(said(At::Later))?;
        }
        Ok(())
    };
    going().err()
}

struct Beside {
    good: Instance,
    seen: u64,
}

impl Beside {
    fn new() -> Beside {
        Beside { good: start(&guests::obedient_batch(true, &[], false).wasm()), seen: 0 }
    }

    fn check(&mut self, name: &str, guest: &Guest, kind: FaultKind) {
        let (_, found, message) = lead_through(engine(), &guest.wasm(), &LIMITS, 2).expect(name);
        assert_eq!(found, Some(kind), "{name}: {message}");
        assert!(message.len() <= 4096, "{name}");
        self.look_after_the_good_one(name);
    }

    fn look_after_the_good_one(&mut self, name: &str) {
        let answer = run(&mut self.good, self.seen, &["k", "d", "k"]).expect("an answer");
        assert_eq!(shown(&answer.outcome), "keep 0 2", "beside {name}");
        self.seen += 3;
    }
}

/// What the fault is called that a limit ends in. `None`: the module is refused.
fn kind_of(stops: Stops) -> Option<FaultKind> {
    match stops {
        Stops::Time => Some(FaultKind::Timeout),
        Stops::Memory | Stops::Tables => Some(FaultKind::Memory),
        Stops::Stack => Some(FaultKind::Trap),
        Stops::Output | Stops::Held | Stops::Checks => Some(FaultKind::BrokenAnswer),
        _ => None,
    }
}

/// An engine that compiles in a child, which may use this much.
fn compiling(limits: CompileLimits) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let compiler = PathBuf::from(env!("CARGO_BIN_EXE_tailmill-compile"));
    let cache = CacheOptions { dir: dir.path().join("cache"), compiler, limits };
    (ticking(EngineOptions { cache: Some(cache), ..EngineOptions::default() }), dir)
}

/// With all limits: the host says what is wrong with it, and goes on. What is not so here.
fn with_the_limit(case: &Case, beside: &mut Beside) -> Option<String> {
    let compiled = match case.stops {
        Stops::CompileTime => Some(CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::STANDARD }),
        Stops::CompileMemory => Some(CompileLimits { memory_bytes: 96 << 20, ..CompileLimits::STANDARD }),
        _ => None,
    }
    .map(compiling);
    let engine = compiled.as_ref().map_or(engine(), |(engine, _)| engine);
    let found = lead_through(engine, &case.wasm(), &LIMITS, case.lines);
    beside.look_after_the_good_one(case.name);
    let is_so = match &found {
        None => case.at == At::Denied,
        Some((at, kind, message)) => {
            (*at, *kind) == (case.at, kind_of(case.stops)) && message.contains(case.says) && message.len() <= 4096
        }
    };
    (!is_so).then(|| format!("a module that {}: {found:?}", case.name))
}

/// Names the case that a child process is about.
const WITHOUT: &str = "TAILMILL_TEST_WITHOUT";
const HANGS: i32 = 70;
const EATS: i32 = 71;
const STICKS: i32 = 72;
const PANICS: i32 = 101;

/// What came of it in a child process that is a host without the limit. `None`: no harm.
fn harm_without_the_limit(case: &Case) -> Option<Harm> {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["hostile::a_host_without_the_limit", "--exact", "--test-threads=1"]).env(WITHOUT, case.name);
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("a child");
    harm_of(status)
}

fn harm_of(status: ExitStatus) -> Option<Harm> {
    match (status.code(), status.signal()) {
        (Some(HANGS), _) => Some(Harm::Hangs),
        (Some(EATS), _) => Some(Harm::Eats),
        (Some(STICKS), _) => Some(Harm::Sticks),
        (Some(PANICS), _) => Some(Harm::Panics),
        (_, Some(_)) => Some(Harm::Crashes),
        _ => None,
    }
}

/// Is one only when it is asked to be, by [`harm_without_the_limit`].
#[test]
fn a_host_without_the_limit() {
    let Ok(name) = std::env::var(WITHOUT) else { return };
    let case = corpus::all().into_iter().find(|case| case.name == name).expect("a case of the corpus");
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let wasm = case.wasm();
    watch(case.harm(), if case.at == At::Load { 2.0 } else { 0.5 });
    let (mut limits, mut bounds) = (Limits { call_time: Duration::from_secs(2), ..LIMITS }, Bounds::STANDARD);
    match case.stops {
        Stops::Time => limits.call_time = Duration::from_secs(1_000_000),
        Stops::Memory => limits.memory_bytes = usize::MAX,
        Stops::Tables => limits.table_elements = usize::MAX,
        Stops::Output => limits.output_bytes = usize::MAX,
        Stops::Held => limits.held_lines = usize::MAX,
        Stops::Stack => bounds.stack_bytes = 2 << 20, // all that a test's thread has
        Stops::Functions => bounds.functions = usize::MAX,
        Stops::BodyBytes => bounds.body_bytes = usize::MAX,
        Stops::LoopNesting => bounds.loop_nesting = usize::MAX,
        Stops::Locals => bounds.locals = usize::MAX,
        Stops::Checks => return believe(case.lie.as_ref().expect("an answer")),
        // In this process, without any limit.
        Stops::CompileTime | Stops::CompileMemory | Stops::Always => {}
    }
    let engine = ticking(EngineOptions { bounds, ..EngineOptions::default() });
    let end = lead_through(&engine, &wasm, &limits, case.lines);
    if case.stops == Stops::Held && end.is_none() {
        stand_still(&engine, &wasm, &limits);
    }
    println!("{end:?}");
}

/// Ends the process when it does harm.
fn watch(harm: &'static [Harm], cpu_s_max: f64) {
    const BYTES: u64 = 256 << 20;
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
    };
    let cpu = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let (bytes_before, cpu_before) = (resident(), cpu());
    std::thread::spawn(move || {
        loop {
            if harm.contains(&Harm::Eats) && resident() > bytes_before + BYTES {
                exit(EATS);
            }
            if harm.contains(&Harm::Hangs) && cpu() > cpu_before + cpu_s_max {
                exit(HANGS);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
}

/// Whether the mark ever moves.
fn stand_still(engine: &Engine, wasm: &[u8], limits: &Limits) {
    let module = engine.load(wasm).expect("a module");
    let mut instance = module.start("{}", limits, &surroundings(), false).expect("a start");
    for batch in 0..100 {
        let answer = run(&mut instance, 10 + batch * 1_000, &["line"; 1_000]).expect("an answer");
        if answer.oldest_held != Some(10) {
            return;
        }
    }
    exit(STICKS);
}

/// What a host does with an answer that nobody checked: it looks for each line, and for what belongs to it, where the answer
/// says. With the engine's own types, as the agent reads them.
fn believe(answer: &Answer) {
    let offsets = [4_096u64, 4_101];
    let offset = |source: u64| offsets[source.wrapping_sub(10) as usize];
    let topics = surroundings().topics;
    black_box(answer.held.map(offset));
    let Outcome::Emit(claimed) = &answer.outcome else { return };
    let output = unchecked(claimed);
    for i in 0..output.len() {
        black_box((output.line(i), offset(output.sources[i])));
        black_box((!output.topics.is_empty()).then(|| &topics[usize::from(output.topics[i])]));
        black_box(output.keys.as_ref().and_then(|keys| keys.get(i)));
        output.headers.iter().for_each(|header| assert!(black_box(header.values.get(i)).is_some()));
    }
}

fn unchecked(claimed: &Output) -> tailmill_engine::Output {
    fn numbers<const N: usize, T>(list: &List, from: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw(list).as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
    }
    fn raw(list: &List) -> &[u8] {
        match list {
            List::Bytes(bytes) => bytes,
            List::Claim(..) => panic!("bytes that nobody has"),
        }
    }
    let column = |column: &Column| {
        let mut before = 0;
        let ends = numbers(&column.ends, u32::from_le_bytes);
        let spans = ends.into_iter().map(|end| Some((std::mem::replace(&mut before, end), end))).collect();
        tailmill_engine::Column { spans, data: raw(&column.data).to_vec() }
    };
    let header = |(name, values): &(List, Column)| tailmill_engine::Header {
        name: String::from_utf8_lossy(raw(name)).into_owned(),
        values: column(values),
    };
    tailmill_engine::Output {
        data: raw(&claimed.data).to_vec(),
        starts: numbers(&claimed.starts, u32::from_le_bytes),
        ends: numbers(&claimed.ends, u32::from_le_bytes),
        sources: numbers(&claimed.source, u64::from_le_bytes),
        keys: claimed.keys.as_ref().map(column),
        topics: numbers(&claimed.topics, u16::from_le_bytes),
        timestamps_ms: numbers(&claimed.timestamps, i64::from_le_bytes),
        headers: claimed.headers.iter().map(header).collect(),
    }
}

fn check(is_in: impl Fn(&Case) -> bool) {
    let mut beside = Beside::new();
    let mut wrong = Vec::new();
    for case in corpus::all().iter().filter(|case| is_in(case)) {
        wrong.extend(with_the_limit(case, &mut beside));
        if case.stops == Stops::Always {
            continue;
        }
        let harm = harm_without_the_limit(case);
        if !harm.is_some_and(|harm| case.harm().contains(&harm)) {
            wrong.push(format!("a module that {}, without the limit: {harm:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn loops_in_run_are_stopped_by_time_and_by_nothing_else() {
    check(|case| case.stops == Stops::Time && case.at == At::Run);
}

#[test]
fn loops_elsewhere_are_stopped_by_time_and_by_nothing_else() {
    check(|case| case.stops == Stops::Time && case.at != At::Run);
}

#[test]
fn greed_is_stopped_by_its_limit_and_by_nothing_else() {
    check(|case| matches!(case.stops, Stops::Memory | Stops::Tables | Stops::Output | Stops::Held));
}

#[test]
fn recursion_is_stopped_by_the_stack_and_lies_by_the_checks() {
    check(|case| matches!(case.stops, Stops::Stack | Stops::Checks));
}

#[test]
fn compile_bombs_are_stopped_by_bounds_and_by_the_limits_of_the_child() {
    use Stops::{BodyBytes, CompileMemory, CompileTime, Functions, Locals, LoopNesting};
    check(|case| matches!(case.stops, Functions | BodyBytes | LoopNesting | Locals | CompileTime | CompileMemory));
}

#[test]
fn what_no_host_would_run_is_refused_or_gets_nothing() {
    check(|case| case.stops == Stops::Always);
}

#[test]
fn the_corpus_is_as_large_as_it_says() {
    let all = corpus::all();
    let names: std::collections::BTreeSet<_> = all.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), all.len(), "names are unique");
    let counted = all.iter().filter(|case| !case.harm().is_empty()).count();
    assert!(counted >= 71, "{counted} hostile cases");
}

#[test]
fn crashes() {
    let mut beside = Beside::new();
    let traps = [
        ("unreachable", "unreachable"),
        ("division by zero", "(i32.div_u (i32.const 1) (local.get $i))"),
        ("overflow", "(i32.div_s (i32.const -2147483648) (i32.const -1))"),
        ("float to int", "(i32.trunc_f64_s (f64.const nan))"),
        ("load out of bounds", "(i32.load (i32.const -4))"),
        ("copy out of bounds", "(memory.copy (i32.const 0) (i32.const 1) (i32.const 131072)) (i32.const 0)"),
        ("call of nothing", "(call_indirect $none (result i32) (i32.const 0))"),
        ("deep recursion", "(call $deep)"),
    ];
    for (name, body) in traps {
        let more = "(table $none 1 funcref) (func $deep (result i32) (i32.add (i32.const 1) (call $deep)))";
        beside.check(name, &guests::batch().more(more).run(body), FaultKind::Trap);
        beside.check(name, &guests::line().more(more).run(body), FaultKind::Trap);
        beside.check(name, &guests::batch().more(more).start(body), FaultKind::Trap);
    }
    beside.check(
        "a start section that traps",
        &guests::batch().more("(func $begin unreachable) (start $begin)"),
        FaultKind::Trap,
    );
}

#[test]
fn lies() {
    let mut beside = Beside::new();
    let broken = FaultKind::BrokenAnswer;
    // The allocator: memory that is not there, or not aligned.
    for place in ["-1", "-16", "131072", "0x7fffffff"] {
        let guest = guests::batch().on_realloc(&format!("(return (i32.const {place}))"));
        let (_, kind, message) = lead_through(engine(), &guest.wasm(), &LIMITS, 2).expect(place);
        assert!(matches!(kind, Some(FaultKind::Trap | FaultKind::BrokenAnswer)), "{message}");
        beside.look_after_the_good_one(place);
    }
    // The place of the answer.
    for place in [-1i32, -8, 131_072, 131_064, 1025] {
        beside.check("an answer that is nowhere", &guests::batch().run(&format!("(i32.const {place})")), broken);
        beside.check(
            "an answer to a line that is nowhere",
            &guests::line().run(&format!("(i32.const {})", place | 1)),
            broken,
        );
        beside.check("traits that are nowhere", &guests::batch().start(&format!("(i32.const {})", place | 1)), broken);
    }
    // The same megabyte, a thousand times: what is lifted would be a gigabyte.
    let megabyte = List::Claim(0, 1 << 20);
    let headers =
        vec![(bytes(b"n"), Column { data: megabyte.clone(), ends: u32s(&[0, 0]), ..Column::default() }); 1_000];
    beside.check(
        "headers that share a megabyte",
        &guests::batch().memory("32").answers(&emits(Output { headers, ..two_lines() })),
        broken,
    );
    let shared = |image: &mut Image| {
        let pair: Vec<u8> = [0u32, 1 << 20].iter().flat_map(|n| n.to_le_bytes()).collect();
        let list = image.place(&pair.repeat(1_000));
        let mut traits = [0; 20];
        traits[8..12].copy_from_slice(&list.to_le_bytes());
        traits[12..16].copy_from_slice(&1_000u32.to_le_bytes());
        image.place(&traits)
    };
    let mut guest = guests::batch().memory("32");
    let traits = shared(&mut guest.image);
    beside.check("needles that share a megabyte", &guest.start(&format!("(i32.const {traits})")), broken);
    // A message of 4 MiB, in a refusal.
    let refusal = Answer { fault: Some((Some(10), List::Claim(0, 1 << 21))), ..Answer::default() };
    beside.check("a long refusal", &guests::batch().memory("40").answers(&refusal), FaultKind::Refused);
    let list = |outcome| Answer { outcome, ..Answer::default() };
    beside.check("a mask of 4 GiB", &guests::batch().answers(&list(Outcome::Keep(List::Claim(0, u32::MAX)))), broken);
    beside.check(
        "holds the future",
        &guests::batch().answers(&Answer { held: Some(u64::MAX), ..Answer::default() }),
        broken,
    );
    let future = Output { source: u64s(&[10, u64::MAX]), ..two_lines() };
    beside.check("lines from the future", &guests::batch().answers(&emits(future)), broken);
}

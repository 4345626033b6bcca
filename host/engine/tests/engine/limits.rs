//! Each limit in a pair: obeyed, and violated.

use crate::guests::{self, Answer, Column, Guest, Output, bytes, emits, exported, keeps, two_lines, u32s};
use crate::support::{LIMITS, engine, expect_fault, expect_start_fault, run, start, start_with};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tailmill_engine::{BODY_BYTES_MAX, FUNCTIONS_MAX, LOCALS_MAX, LOOP_NESTING_MAX, MODULE_BYTES_MAX, NESTING_MAX};
use tailmill_engine::{EngineOptions, FaultKind, Instance, Limits, LoadError};

/// Both lanes, with this before the plainest answer.
fn both(before: &str, more: &str) -> [Guest; 2] {
    [guests::batch(), guests::line()].map(|guest| {
        let run = format!("{before} {}", guest.run);
        guest.run(&run).more(more)
    })
}

fn runs(guest: &Guest) -> Result<(), tailmill_engine::Fault> {
    run_one(&mut start(&guest.wasm()))
}

fn run_one(instance: &mut Instance) -> Result<(), tailmill_engine::Fault> {
    run(instance, 0, &["a"]).map(|_| ())
}

#[track_caller]
fn obeyed(before: &str, more: &str) {
    both(before, more).iter().for_each(|guest| runs(guest).expect("an answer"));
}

#[track_caller]
fn violated(before: &str, more: &str, kind: FaultKind, why: &str) {
    both(before, more).iter().for_each(|guest| expect_fault(runs(guest), kind, why));
}

#[test]
fn time() {
    let spin =
        "(loop $next (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $next (i32.lt_u (local.get $i)";
    obeyed(&format!("{spin} (i32.const 100000))))"), "");
    violated("(loop $next (br $next))", "", FaultKind::Timeout, "longer");
}

/// Runs `body` on one CPU that it shares with so many threads that never rest.
fn on_a_busy_cpu<T>(busy: usize, body: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let mut cpu = CpuSet::new();
    cpu.set(sched_getcpu());
    std::thread::scope(|threads| {
        for _ in 0..busy {
            threads.spawn(|| {
                sched_setaffinity(None, &cpu).expect("a CPU");
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let all = sched_getaffinity(None).expect("the CPUs");
        sched_setaffinity(None, &cpu).expect("a CPU");
        let result = body();
        stop.store(true, Ordering::Relaxed);
        sched_setaffinity(None, &all).expect("the CPUs");
        result
    })
}

#[test]
fn time_on_a_busy_machine_is_time_of_the_cpu() {
    let spin = "(loop $next (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 50000000))))";
    let run = format!("{spin} {}", guests::batch().run);
    let wasm = guests::batch().run(&run).wasm();
    let limited = |call_time| start_with(&wasm, &Limits { call_time, ..LIMITS }).expect("a start");
    let mut alone = limited(Duration::from_secs(60));
    let before = thread_cpu_time();
    run_one(&mut alone).expect("an answer");
    let takes = thread_cpu_time() - before;
    // A twelfth of what it may take; on the clock twice as much as it may take, and a tenth of where the clock ends it.
    on_a_busy_cpu(23, || run_one(&mut limited(12 * takes))).expect("an answer");
    let endless = guests::batch().run("(loop $next (br $next)) unreachable").wasm();
    expect_fault(on_a_busy_cpu(3, || run_one(&mut start(&endless))), FaultKind::Timeout, "longer");
}

fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time")
}

#[test]
fn time_of_a_start() {
    for guest in [guests::batch(), guests::line()] {
        let wasm = guest.start("(loop $next (br $next)) unreachable").wasm();
        expect_start_fault(start_with(&wasm, &LIMITS), FaultKind::Timeout, "during start");
    }
}

#[test]
fn memory_that_is_asked_for() {
    // 4 MiB are 64 pages; a guest begins with 2.
    let grow = |pages| format!("(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))");
    obeyed(&grow(62), "");
    violated(&grow(63), "", FaultKind::Memory, "wanted 4160 KiB of memory and may have 4096");
}

#[test]
fn memory_from_the_beginning() {
    for guest in [guests::batch(), guests::line()] {
        let guest = guest.memory("64");
        runs(&guest).expect("an answer");
        let wasm = guest.memory("65").wasm();
        expect_start_fault(start_with(&wasm, &LIMITS), FaultKind::Memory, "wanted 4160 KiB of memory");
    }
}

#[test]
fn a_guest_that_bears_a_refusal_goes_on() {
    obeyed("(drop (memory.grow (i32.const 1000)))", "");
}

#[test]
fn memory_is_counted() {
    let mut instance = start(&both("(drop (memory.grow (i32.const 10)))", "")[0].wasm());
    assert_eq!(instance.memory_bytes(), 2 << 16);
    run(&mut instance, 0, &["a"]).expect("an answer");
    assert_eq!(instance.memory_bytes(), 12 << 16);
}

#[test]
fn table_elements() {
    let grow =
        |n| format!("(if (i32.eq (table.grow (ref.null func) (i32.const {n})) (i32.const -1)) (then unreachable))");
    let table = "(table 10 funcref)";
    obeyed(&grow(900), table);
    violated(&grow(1_000), table, FaultKind::Memory, "table elements and may have 1000");
    for guest in both("", "(table 900 funcref)") {
        runs(&guest).expect("an answer");
    }
    for guest in both("", "(table 1001 funcref)") {
        expect_start_fault(start_with(&guest.wasm(), &LIMITS), FaultKind::Memory, "table elements");
    }
}

#[test]
fn stack() {
    let deep = "(func $deep (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
          (else (i32.const 0))))";
    obeyed("(drop (call $deep (i32.const 1000)))", deep);
    violated("(drop (call $deep (i32.const -1)))", deep, FaultKind::Trap, "stack");
}

/// Starts with this many bytes in an answer of one line.
fn answering(len: usize) -> Instance {
    let positions = 4 + 4 + 8;
    let output = Output {
        data: guests::List::Claim(0, len as u32 - positions),
        starts: u32s(&[0]),
        ends: u32s(&[1]),
        source: guests::u64s(&[0]),
        ..Output::default()
    };
    start(&guests::batch().memory("40").answers(&emits(output)).wasm())
}

#[test]
fn bytes_of_an_answer() {
    run(&mut answering(LIMITS.output_bytes), 0, &["a"]).expect("an answer");
    let over = run(&mut answering(LIMITS.output_bytes + 1), 0, &["a"]);
    expect_fault(over, FaultKind::BrokenAnswer, "1048577 bytes of answer, and 1048576 are allowed");
    // Far over the limit the bytes are not even taken out of the guest.
    let far_over = run(&mut answering(LIMITS.output_bytes / 2 * 5), 0, &["a"]);
    expect_fault(far_over, FaultKind::BrokenAnswer, "too much data");
}

#[test]
fn bytes_of_new_lines_in_the_line_lane() {
    let mut guest = guests::line();
    // 512 KiB each.
    let mut answer = [0; 16];
    answer[4] = 2;
    answer[12..].copy_from_slice(&(512u32 << 10).to_le_bytes());
    let place = guest.image.place(&answer);
    let wasm = guest.memory("40").run(&format!("(i32.const {place})")).wasm();
    run(&mut start(&wasm), 0, &["a"]).expect("an answer");
    let fault = run(&mut start(&wasm), 0, &["a", "b"]).expect_err("a fault");
    assert_eq!((fault.kind, fault.line), (FaultKind::BrokenAnswer, Some(1)));
}

#[test]
fn headers() {
    let with = |n| {
        let header = (bytes(b"h"), Column { ends: u32s(&[0, 0]), ..Column::default() });
        let wasm = guests::batch().answers(&emits(Output { headers: vec![header; n], ..two_lines() })).wasm();
        run(&mut start(&wasm), 10, &["a", "b"])
    };
    with(64).expect("an answer");
    expect_fault(with(65), FaultKind::BrokenAnswer, "65 headers");
}

#[test]
fn lines_held_back() {
    let holds = |lines: u64| {
        let answer = Answer { held: Some(0), ..keeps(&vec![0; lines.div_ceil(8) as usize]) };
        run(&mut start(&guests::batch().answers(&answer).wasm()), 0, &vec!["a"; lines as usize])
    };
    holds(100).expect("an answer");
    expect_fault(holds(101), FaultKind::BrokenAnswer, "it holds 101 lines back and may hold 100");
}

#[test]
fn bytes_of_a_state() {
    let saves = |len: usize| {
        let mut guest = guests::batch();
        let mut answer = [0; 12];
        answer[8..].copy_from_slice(&(len as u32).to_le_bytes());
        let place = guest.image.place(&answer);
        let guest = guest
            .more(&exported("state", "save", "(result i32)", &format!("(i32.const {place})")))
            .more(&exported("state", "load", "(param i32 i32) (result i32)", "(i32.const 0)"));
        start(&guest.wasm()).save()
    };
    assert_eq!(saves(LIMITS.state_bytes).expect("a state").map(|state| state.len()), Some(4096));
    expect_fault(saves(LIMITS.state_bytes + 1), FaultKind::BrokenAnswer, "a state of 4097 bytes, and 4096 are allowed");
}

#[test]
fn needles() {
    let declares = |needles: &[&str]| start_with(&guests::batch().traits(true, needles, false).wasm(), &LIMITS);
    declares(&["n"; 1_024]).expect("a start");
    expect_start_fault(declares(&["n"; 1_025]), FaultKind::BrokenAnswer, "1025 needles");
    let long = "n".repeat(1 << 14);
    declares(&[long.as_str(); 4]).expect("a start");
    expect_start_fault(
        declares(&[long.as_str(), &long, &long, &long, "n"]),
        FaultKind::BrokenAnswer,
        "5 needles of 65537 bytes",
    );
}

#[test]
fn a_limit_of_one_instance_is_not_that_of_another() {
    let wasm = both("(if (i32.eq (memory.grow (i32.const 62)) (i32.const -1)) (then unreachable))", "")[0].wasm();
    let small = Limits { memory_bytes: 1 << 20, ..LIMITS };
    let mut small = start_with(&wasm, &small).expect("a start");
    let mut large = start(&wasm);
    expect_fault(run(&mut small, 0, &["a"]), FaultKind::Memory, "may have 1024");
    run(&mut large, 0, &["a"]).expect("an answer");
}

/// What is wrong with a module of this text; it is no filter in any case.
fn refusal(text: &str) -> LoadError {
    engine().load(&wat::parse_str(text).expect("text of a module")).err().expect("a refusal")
}

#[track_caller]
fn static_limit(within: &str, beyond: &str, what: &str, max: usize) {
    assert!(matches!(refusal(within), LoadError::WrongWorld { .. }), "{what}");
    assert_eq!(refusal(beyond), LoadError::TooBig { what: what_of(what), found: max + 1, max });
}

fn what_of(what: &str) -> &'static str {
    let all = [
        "number of functions",
        "number of locals of a function",
        "nesting of blocks in a function",
        "nesting of loops in a function",
        "size of a function in bytes",
        "size in bytes",
    ];
    all.into_iter().find(|known| *known == what).expect("a known limit")
}

#[test]
fn functions_of_a_module() {
    let with = |n: usize| format!("(module {})", "(func)".repeat(n));
    static_limit(&with(FUNCTIONS_MAX), &with(FUNCTIONS_MAX + 1), "number of functions", FUNCTIONS_MAX);
}

#[test]
fn functions_are_counted_over_all_modules_of_a_component() {
    let half = format!("(core module {})", "(func)".repeat(FUNCTIONS_MAX / 2));
    let text = format!("(component {half} {half} (core module (func)))");
    assert!(matches!(refusal(&text), LoadError::TooBig { what: "number of functions", .. }));
}

#[test]
fn locals_of_a_function() {
    let with = |n: usize| format!("(module (func (local {})))", "i32 ".repeat(n));
    static_limit(&with(LOCALS_MAX), &with(LOCALS_MAX + 1), "number of locals of a function", LOCALS_MAX);
}

#[test]
fn nesting_of_a_function() {
    let with = |block: &str, n: usize| format!("(module (func {} {}))", block.repeat(n), "end ".repeat(n));
    let loops = |n| with("loop ", n);
    let (max, what) = (LOOP_NESTING_MAX, "nesting of loops in a function");
    static_limit(&loops(max), &loops(max + 1), what, max);
    let blocks = |n| with("block ", n);
    let (max, what) = (NESTING_MAX, "nesting of blocks in a function");
    static_limit(&blocks(max), &blocks(max + 1), what, max);
    // Loops side by side are not nested.
    static_limit(&format!("(module (func {}))", "loop end ".repeat(max)), &blocks(max + 1), what, max);
}

#[test]
fn bytes_of_a_function() {
    // A count of locals, an opcode each, an end.
    let with = |n: usize| format!("(module (func {}))", "nop ".repeat(n - 2));
    static_limit(&with(BODY_BYTES_MAX), &with(BODY_BYTES_MAX + 1), "size of a function in bytes", BODY_BYTES_MAX);
}

#[test]
fn bytes_of_a_module() {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.resize(MODULE_BYTES_MAX + 1, 0);
    let refused = engine().load(&wasm).err().expect("a refusal");
    assert_eq!(
        refused,
        LoadError::TooBig { what: "size in bytes", found: MODULE_BYTES_MAX + 1, max: MODULE_BYTES_MAX }
    );
}

#[test]
fn parts_of_a_component() {
    let with = |n: usize| format!("(component {})", "(core module)".repeat(n));
    // The component itself is a part.
    assert!(matches!(refusal(&with(499)), LoadError::WrongWorld { .. }));
    let what = "number of modules and components inside";
    assert_eq!(refusal(&with(500)), LoadError::TooBig { what, found: 501, max: 500 });
}

#[test]
fn number_of_tables_and_of_memories() {
    let with = |what: &str, n: usize| start_with(&guests::batch().more(&what.repeat(n)).wasm(), &LIMITS);
    // A guest has one memory of its own.
    with("(memory 0)", 15).expect("a start");
    expect_start_fault(with("(memory 0)", 16), FaultKind::Memory, "resource limit exceeded: memory count too high");
    with("(table 1 funcref)", 63).expect("a start");
    expect_start_fault(
        with("(table 1 funcref)", 90),
        FaultKind::Memory,
        "resource limit exceeded: table count too high",
    );
}

/// A component around a filter, with so many instances of an empty module beside it.
fn with_instances(count: usize) -> Vec<u8> {
    use wasm_encoder::{
        Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentInstanceSection,
        ComponentSectionId, InstanceSection, Module, ModuleArg, ModuleSection, RawSection,
    };
    let filter = tailmill_engine::wrap(&guests::line().wasm()).expect("a component");
    let name = "tailmill:filter/line@1.0.0";
    let mut instances = InstanceSection::new();
    for _ in 0..count {
        instances.instantiate(0, std::iter::empty::<(&str, ModuleArg)>());
    }
    let mut filters = ComponentInstanceSection::new();
    filters.instantiate(0, std::iter::empty::<(&str, ComponentExportKind, u32)>());
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::InstanceExport { instance: 0, kind: ComponentExportKind::Instance, name });
    let mut exports = ComponentExportSection::new();
    exports.export(name, ComponentExportKind::Instance, 1, None);
    let mut component = Component::new();
    component.section(&ModuleSection(&Module::new())).section(&instances);
    component.section(&RawSection { id: ComponentSectionId::Component.into(), data: &filter });
    component.section(&filters).section(&aliases).section(&exports);
    component.finish()
}

#[test]
fn instances_of_a_component() {
    run(&mut start(&with_instances(150)), 0, &["a"]).expect("an answer");
    let many = start_with(&with_instances(250), &LIMITS);
    expect_start_fault(many, FaultKind::Memory, "resource limit exceeded: instance count too high");
}

#[test]
fn instances_of_an_engine() {
    let engine = crate::support::ticking(EngineOptions { instances_max: 3, ..EngineOptions::default() });
    let module = engine.load(&guests::line().wasm()).expect("it loads");
    let start = || module.start("{}", &LIMITS, &crate::support::surroundings(), true);
    let mut three: Vec<Instance> = (0..3).map(|_| start().expect("there is room")).collect();
    expect_start_fault(start(), FaultKind::Memory, "3 instances of filters live already");
    assert_eq!(engine.instances(), 3, "one that was refused is not counted");
    three.pop();
    three.push(start().expect("there is room again"));
    drop(three);
    assert_eq!(engine.instances(), 0);
}

/// What one call says by these bodies; the memory from 1024 on is zeros, one `A` a byte from 2048 on.
fn heard(body: &str) -> tailmill_engine::HostNotes {
    let guest = guests::batch()
        .imports("(import \"tailmill:filter/host@1.0.0\" \"log\" (func $log (param i32 i32 i32)))")
        .imports("(import \"tailmill:filter/host@1.0.0\" \"count\" (func $count (param i32 i32 i64)))");
    let body = format!("(memory.fill (i32.const 2048) (i32.const 65) (i32.const 8192)) {body} {}", guest.run);
    let mut instance = start(&guest.run(&body).wasm());
    run(&mut instance, 0, &["a"]).expect("an answer");
    instance.take_notes()
}

#[test]
fn lines_and_bytes_that_are_logged() {
    let log = |len: usize, times: usize| {
        heard(&format!("(call $log (i32.const 1) (i32.const 2048) (i32.const {len}))").repeat(times))
    };
    for (len, obeyed) in [(1, 100), (4_096, 16)] {
        let (within, beyond) = (log(len, obeyed), log(len, obeyed + 1));
        assert_eq!((within.logs.len(), within.suppressed), (obeyed, 0), "{len} bytes");
        assert_eq!((beyond.logs.len(), beyond.suppressed), (obeyed, 1), "{len} bytes");
    }
}

#[test]
fn names_of_counters() {
    let count = |len: usize| heard(&format!("(call $count (i32.const 2048) (i32.const {len}) (i64.const 1))"));
    for len in [1, 64] {
        assert_eq!((count(len).counters, count(len).suppressed), (vec![("A".repeat(len), 1)], 0));
    }
    for len in [0, 65] {
        assert_eq!((count(len).counters, count(len).suppressed), (vec![], 1), "{len}");
    }
}

#[test]
fn log_lines_and_counters() {
    let mut text = String::new();
    for i in 0..40 {
        write!(
            text,
            "(i32.store8 (i32.const 700) (i32.const {})) (call $count (i32.const 700) (i32.const 1) (i64.const 3))",
            65 + i
        )
        .expect("a string grows");
    }
    text.push_str(
        "(loop $next (call $log (i32.const 9) (i32.const 1024) (i32.const 8))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $next (i32.lt_u (local.get $i) (i32.const 150))))",
    );
    let guest = guests::batch()
        .imports("(import \"tailmill:filter/host@1.0.0\" \"log\" (func $log (param i32 i32 i32)))")
        .imports("(import \"tailmill:filter/host@1.0.0\" \"count\" (func $count (param i32 i32 i64)))");
    let run_body = format!("{text} {}", guest.run);
    let mut instance = start(&guest.run(&run_body).wasm());
    run(&mut instance, 0, &["a"]).expect("an answer");
    let notes = instance.take_notes();
    assert_eq!(notes.logs.len(), 100);
    assert_eq!(notes.logs[0].0, 3, "the level is bounded");
    // From A on: five of those 40 names are no good names, and 32 fit.
    assert_eq!(notes.counters.len(), 32);
    assert_eq!(notes.suppressed, 50 + 8);
    assert!(instance.take_notes().is_empty());
}

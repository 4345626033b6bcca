//! The same chain over the real engine: two small guests in WebAssembly text.

use super::bench::{Bench, End};
use super::fake::{Shared, entry};
use crate::filter::{ArmedChain, Armory};
use crate::model::{FilterPlan, HeldPlan, ModuleFile, OnError};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tailmill_engine::{Digest, Engine, EngineOptions, FaultKind, Limits};

/// Line world. By a line's first byte: `d` drops, `u` replaces by `new`, `x` traps, `e` refuses, `l` never ends; else keeps.
/// A configuration with more than two bytes is refused.
const JUDGE: &str = r#"(module
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $new i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $new)))
    (local.get $at))
  (func (export "tailmill:filter/line@1.0.0#start") (param i32) (param $n i32) (result i32)
    (if (i32.gt_u (local.get $n) (i32.const 2)) (then (return (i32.const 64))))
    (i32.const 0))
  (func (export "tailmill:filter/line@1.0.0#run") (param $p i32) (param $n i32) (result i32) (local $c i32)
    (global.set $heap (i32.const 1024))
    (if (local.get $n) (then (local.set $c (i32.load8_u (local.get $p)))))
    (if (i32.eq (local.get $c) (i32.const 0x78)) (then unreachable))
    (if (i32.eq (local.get $c) (i32.const 0x6c)) (then (loop $ever (br $ever))))
    (if (i32.eq (local.get $c) (i32.const 0x64)) (then (return (i32.const 32))))
    (if (i32.eq (local.get $c) (i32.const 0x65)) (then (return (i32.const 64))))
    (if (i32.eq (local.get $c) (i32.const 0x75)) (then (return (i32.const 96))))
    (i32.const 0))
  ;; ok(drop), err("why"), ok(replace("new"))
  (data (i32.const 32) "\00\00\00\00\01\00\00\00")
  (data (i32.const 64) "\01\00\00\00\80\00\00\00\03\00\00\00")
  (data (i32.const 96) "\00\00\00\00\02\00\00\00\84\00\00\00\03\00\00\00")
  (data (i32.const 128) "why\00new"))"#;

/// Batch world with state. Every other call holds all its lines, the calls between answer with one line `joined` that came
/// from the first held one. A call whose first byte is `x` traps.
const PAIRS: &str = r#"(module
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $new i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $new)))
    (local.get $at))
  (func (export "tailmill:filter/batch@1.0.0#start") (param i32 i32) (result i32) (i32.const 0))
  (func (export "tailmill:filter/batch@1.0.0#run")
    (param $first i64) (param $data i32) (param i32 i32 i32 i32 i32) (result i32)
    (global.set $heap (i32.const 4096))
    (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 0x78)) (then unreachable))
    (if (result i32) (i64.eqz (i64.load (i32.const 520)))
      (then
        (i64.store (i32.const 512) (local.get $first))
        (i64.store (i32.const 520) (i64.const 1))
        (i64.store (i32.const 232) (local.get $first))
        (i32.const 128))
      (else
        (i64.store (i32.const 520) (i64.const 0))
        (i64.store (i32.const 448) (i64.load (i32.const 512)))
        (i32.const 256))))
  (func (export "tailmill:filter/state@1.0.0#save") (result i32) (i32.const 64))
  (func (export "tailmill:filter/state@1.0.0#load") (param $p i32) (param i32) (result i32)
    (i64.store (i32.const 512) (i64.load (local.get $p)))
    (i64.store (i32.const 520) (i64.load offset=8 (local.get $p)))
    (i32.const 0))
  ;; save: ok(the 16 bytes at 512)
  (data (i32.const 64) "\00\00\00\00\00\02\00\00\10\00\00\00")
  ;; ok(drop-all, some(number at 232))
  (data (i32.const 136) "\01") (data (i32.const 224) "\01")
  ;; ok(emit(data at 432, starts at 440, ends at 444, source at 448))
  (data (i32.const 264) "\03\00\00\00\b0\01\00\00\06\00\00\00\b8\01\00\00\04\00\00\00\bc\01\00\00\04\00\00\00\c0\01\00\00\08\00\00\00")
  (data (i32.const 432) "joined\00\00\00\00\00\00\06\00\00\00"))"#;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let options = EngineOptions::default();
    let every = options.epoch_every;
    let engine = Engine::new(options).expect("an engine");
    let ticked = engine.clone();
    // What the agent's epoch thread does, until the process ends.
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(every);
            ticked.tick_epoch();
        }
    });
    engine
});

static ARMORY: LazyLock<Armory> = LazyLock::new(|| Armory::new(ENGINE.clone(), "node".into()));

fn filter(name: &str, text: &str, on_error: OnError, stateless: bool) -> FilterPlan {
    let bytes: Arc<[u8]> = wat::parse_str(text).expect("good text").into();
    FilterPlan {
        name: name.into(),
        module: Arc::new(ModuleFile { digest: Digest::of(&bytes), source: format!("{name}.wasm"), bytes }),
        with: "{}".into(),
        limits: Limits { call_time: Duration::from_millis(50), ..Limits::STANDARD },
        held: HeldPlan::STANDARD,
        on_error,
        breaker: None,
        stateless,
    }
}

fn judge(on_error: OnError) -> FilterPlan {
    filter("judge", JUDGE, on_error, true)
}

fn pairs(on_error: OnError) -> FilterPlan {
    filter("pairs", PAIRS, on_error, false)
}

fn arm(filters: &[FilterPlan]) -> Arc<ArmedChain> {
    let entry = Arc::new(entry(vec!["main".into()], filters.to_vec()));
    ARMORY.arm(&entry).expect("they load and start")
}

fn bench(filters: &[FilterPlan]) -> Bench {
    Bench::with(arm(filters), Shared::default())
}

#[test]
fn a_guest_judges_and_rewrites_lines() {
    for stateless in [true, false] {
        let mut bench = bench(&[FilterPlan { stateless, ..judge(OnError::Block) }]);
        assert_eq!(bench.feed(&["keep", "drop", "up", "", "also"]), End::Done);
        assert_eq!(bench.texts(), ["keep", "new", "", "also"]);
        assert_eq!(bench.out.iter().map(|seen| seen.source).collect::<Vec<_>>(), [0, 10, 13, 14]);
    }
}

#[test]
fn a_trap_an_endless_loop_and_a_refusal_cost_only_the_guilty_lines() {
    for stateless in [true, false] {
        let mut bench = bench(&[FilterPlan { stateless, ..judge(OnError::Drop) }]);
        assert_eq!(bench.feed(&["a", "x1", "b", "c", "l2", "d", "e3", "u"]), End::Done);
        assert_eq!(bench.texts(), ["a", "b", "c", "new"]);
        assert_eq!((bench.dropped.lines, bench.filtered.lines), (3, 1));
        let ledger = &bench.ledger.filters[0];
        for kind in [FaultKind::Trap, FaultKind::Timeout, FaultKind::Refused] {
            assert!(ledger.faults_of(kind) > 0, "{kind}");
        }
        assert_eq!(ledger.recycles, ledger.faults_total());
    }
}

#[test]
fn a_blocked_line_waits_for_a_policy_that_lets_it_go() {
    let mut bench = bench(&[judge(OnError::Block)]);
    assert_eq!(bench.feed(&["a", "x", "b"]), End::Blocked { line: 2, stage: 0 });
    let dead = arm(&[judge(OnError::DeadLetter)]);
    bench.chain.swap(dead, &mut bench.shared, &mut bench.ledger).expect("it starts");
    assert_eq!(bench.drive(), End::Done);
    assert_eq!((bench.texts(), bench.dead.clone()), (vec!["a", "b"], vec!["x".to_owned()]));
}

#[test]
fn a_line_of_one_batch_is_joined_with_a_line_of_the_next() {
    let mut bench = bench(&[judge(OnError::Block), pairs(OnError::Drop)]);
    assert_eq!(bench.feed(&["drop", "a", "b"]), End::Done);
    assert_eq!((bench.chain.oldest_held(), bench.chain.pending().lines), (Some(5), 2));
    bench.feed(&["c"]);
    assert_eq!((bench.texts(), bench.out[0].source), (vec!["joined"], 5));
    assert_eq!((bench.chain.oldest_held(), bench.filtered.lines), (None, 3));
}

#[test]
fn what_is_held_survives_a_trap_a_restart_and_a_new_module() {
    let mut bench = bench(&[pairs(OnError::Drop)]);
    bench.feed(&["a"]);
    bench.feed(&["x"]);
    assert_eq!((bench.dropped.lines, bench.chain.oldest_held()), (1, Some(0)));
    let mut bench = bench.restarted();
    assert_eq!(bench.chain.oldest_held(), Some(0));
    let newer = filter("pairs", &PAIRS.replace("(module", "(module $newer"), OnError::Drop, false);
    let newer = arm(&[newer]);
    assert!(newer.digests().ne(bench.chain.armed().digests()));
    bench.chain.swap(newer, &mut bench.shared, &mut bench.ledger).expect("it takes the state");
    bench.feed(&["b"]);
    assert_eq!((bench.texts(), bench.out[0].source), (vec!["joined"], 0));
}

#[test]
fn a_filter_that_holds_at_the_end_and_cannot_let_go_has_its_lines_shipped_as_they_came() {
    let mut bench = bench(&[pairs(OnError::Block), judge(OnError::Block)]);
    bench.feed(&["a", "up"]);
    assert_eq!(bench.flush(), End::Done);
    assert_eq!(bench.texts(), ["a", "new"]);
    assert!(bench.chain.pending().is_zero() && bench.chain.oldest_held().is_none());
}

#[test]
fn what_does_not_load_or_start_is_a_problem_that_names_the_filter() {
    let refused = |broken: FilterPlan| {
        let plan = Arc::new(entry(vec!["main".into()], vec![judge(OnError::Block), broken.clone()]));
        let problem = ARMORY.arm(&plan).expect_err("it is refused");
        assert_eq!(problem.key, "filters[1]");
        assert!(problem.reason.contains(&*broken.name), "{}", problem.reason);
        assert!(ARMORY.check(&broken, &plan.topics).is_err());
        problem.reason
    };
    let not_wasm: Arc<[u8]> = Arc::from(&b"#!/bin/sh"[..]);
    let file = ModuleFile { digest: Digest::of(&not_wasm), source: "script.wasm".into(), bytes: not_wasm };
    let why = refused(FilterPlan { name: "script".into(), module: Arc::new(file), ..judge(OnError::Block) });
    assert!(why.contains("script.wasm"), "{why}");
    let why = refused(FilterPlan { with: "{\"a\":1}".into(), name: "picky".into(), ..judge(OnError::Block) });
    assert!(why.contains("why"), "the guest's own words: {why}");
}

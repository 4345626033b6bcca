//! What the workbench asks of an engine: counts that are the same each time, a clock that is moved by hand, a look at a
//! module without loading it.

use crate::guests::{self, obedient_batch};
use crate::support::{LIMITS, origin, run, surroundings, ticking};
use tailmill_engine::{Counted, Engine, EngineOptions, GuestClock, LoadError, Size, World, inspect};

fn counting() -> Engine {
    ticking(EngineOptions { counts: true, ..EngineOptions::default() })
}

/// Two batches of lines through an obedient guest.
fn work(engine: &Engine, lines: &[&str]) -> Counted {
    let wasm = obedient_batch(true, &["z"], false).wasm();
    let module = engine.load(&wasm).expect("a module that loads");
    let mut instance = module.start("{}", &LIMITS, &surroundings(), true).expect("a guest that starts");
    let before = engine.counted();
    run(&mut instance, 0, lines).expect("an answer");
    run(&mut instance, 100, lines).expect("an answer");
    let after = engine.counted();
    Counted {
        instructions: after.instructions - before.instructions,
        skipped_lines: after.skipped_lines - before.skipped_lines,
    }
}

#[test]
fn the_same_work_is_the_same_count_and_more_work_is_more() {
    let (one, two) = (counting(), counting());
    let lines = ["kz", "dz", "k", "kz"];
    let found = work(&one, &lines);
    assert_eq!(found, work(&two, &lines));
    assert_eq!(found, work(&one, &lines));
    assert!(found.instructions > 20 && found.skipped_lines == 2, "{found:?}");
    assert!(work(&one, &["kz"; 50]).instructions > found.instructions);
    // None of these enters wasm.
    assert_eq!(work(&one, &["k", "d"]), Counted { instructions: 0, skipped_lines: 4 });
    let plain = ticking(EngineOptions::default());
    assert_eq!(work(&plain, &lines), Counted::default());
}

#[test]
fn a_trap_counts_what_was_executed_before_it() {
    let engine = counting();
    let wasm = guests::batch().run("(nop) (nop) (nop) unreachable").wasm();
    let module = engine.load(&wasm).expect("a module that loads");
    let mut instance = module.start("{}", &LIMITS, &surroundings(), true).expect("a guest that starts");
    let before = engine.counted().instructions;
    run(&mut instance, 0, &["a"]).expect_err("a fault");
    assert!(engine.counted().instructions > before);
}

#[test]
fn a_guest_is_told_the_time_that_the_owner_says() {
    let clock = GuestClock::at_ns(5);
    let engine = ticking(EngineOptions { guest_clock: Some(clock.clone()), ..EngineOptions::default() });
    let imports = r#"
        (import "tailmill:filter/host@1.0.0" "count" (func $count (param i32 i32 i64)))
        (import "tailmill:filter/host@1.0.0" "now" (func $now (result i64)))"#;
    let guest = guests::batch().imports(imports).more("(data (i32.const 512) \"abc\")");
    let body = format!("(call $count (i32.const 512) (i32.const 3) (call $now)) {}", guest.run);
    let module = engine.load(&guest.run(&body).wasm()).expect("a module that loads");
    let mut instance = module.start("{}", &LIMITS, &surroundings(), true).expect("a guest that starts");
    for now in [5, 70] {
        clock.set_ns(now);
        instance.run(0, crate::support::Text::of(["a"]).lines(), &origin()).expect("an answer");
        assert_eq!(instance.take_notes().counters, [("abc".to_owned(), now)]);
    }
}

#[test]
fn a_module_is_looked_at_whether_it_is_a_filter_or_not() {
    let text = |fields: &str| wat::parse_str(format!("(module {fields})")).expect("good text");
    let found = inspect(&guests::line().wasm()).expect("a module");
    assert_eq!((found.world, found.contract.as_deref()), (Some(World::Line), Some("1.0.0")));
    let wrapped = tailmill_engine::wrap(&guests::line().wasm()).expect("a component");
    let found = inspect(&wrapped).expect("a component");
    assert!(found.is_component && found.world == Some(World::Line), "{found:?}");
    let found = inspect(&text("(memory 1 3) (table 5 funcref) (func) (func (export \"x\"))")).expect("a module");
    assert_eq!((found.world, found.contract, found.functions), (None, None, 2));
    assert_eq!(found.memories, [Size { min: 1, max: Some(3) }]);
    assert_eq!(found.tables, [Size { min: 5, max: None }]);
    assert!(matches!(inspect(b"text"), Err(LoadError::NotWasm { .. })));
}

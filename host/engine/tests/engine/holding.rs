//! Lines held back over calls, ticks, the end of a file and a new instance.

use crate::guests::{self, Guest, Image, Output, bytes, exported, u32s, u64s};
use crate::support::{expect_fault, load, origin, run, shown, start};
use tailmill_engine::{FaultKind, Instance, Outcome, Released};

/// Holds from the first line on when that line begins with `h`, and lets go of all when it begins with `c`. A tick or a flush
/// releases one line, `t` or `f`, that came from the oldest held line, and says that nothing is held any more. `every`: how
/// often it wants to tick. `source` is added to the source of what it releases.
fn holder(stateless: bool, every: u32, source: i64) -> Guest {
    let mut guest = guests::batch().traits(stateless, &[], false);
    let answer = guest.image.answer(&guests::Answer::default());
    let nothing = guest.image.released(None, None);
    let place = |image: &mut Image, text: &[u8]| {
        let output =
            Output { data: bytes(text), starts: u32s(&[0]), ends: u32s(&[1]), source: u64s(&[0]), ..Output::default() };
        image.released(Some(&output), None)
    };
    let (tick, flush) = (place(&mut guest.image, b"t"), place(&mut guest.image, b"f"));
    let saved = guest.image.place(&[0; 16]);
    let release = |at: u32| {
        format!(
            "(if (i64.eq (global.get $held) (i64.const -1)) (then (return (i32.const {nothing}))))
             (i64.store (i32.load (i32.const {at_source})) (i64.add (global.get $held) (i64.const {source})))
             (global.set $held (i64.const -1))
             (i32.const {at})",
            at_source = at + 36,
        )
    };
    guest
        .run(&format!(
            "(local.set $x (i32.load8_u (i32.add (local.get $data) (i32.load (local.get $starts)))))
             (if (i32.and (i32.eq (local.get $x) (i32.const 104)) (i64.eq (global.get $held) (i64.const -1)))
               (then (global.set $held (local.get $first))))
             (if (i32.eq (local.get $x) (i32.const 99)) (then (global.set $held (i64.const -1))))
             (if (i32.eq (local.get $x) (i32.const 119)) (then (global.set $held (i64.sub (global.get $held) (i64.const 1)))))
             (i32.store8 offset=96 (i32.const {answer}) (i64.ne (global.get $held) (i64.const -1)))
             (i64.store offset=104 (i32.const {answer}) (global.get $held))
             (i32.const {answer})"
        ))
        .more("(global $held (mut i64) (i64.const -1))")
        .more(&exported("ticks", "every-ms", "(result i32)", &format!("(i32.const {every})")))
        .more(&exported("ticks", "tick", "(result i32)", &release(tick)))
        .more(&exported("finish", "flush", "(result i32)", &release(flush)))
        .more(&exported(
            "state",
            "save",
            "(result i32)",
            &format!(
                "(i32.store offset=4 (i32.const {saved}) (i32.const 512)) (i32.store offset=8 (i32.const {saved}) (i32.const 8))
                 (i64.store (i32.const 512) (global.get $held)) (i32.const {saved})"
            ),
        ))
        .more(&exported(
            "state",
            "load",
            "(param i32 i32) (result i32)",
            "(global.set $held (i64.load (local.get 0))) (i32.const 600)",
        ))
}

fn held(instance: &mut Instance, first: u64, lines: &[&str]) -> Option<u64> {
    let answer = run(instance, first, lines).expect("an answer");
    assert_eq!(answer.outcome, Outcome::KeepAll);
    answer.oldest_held
}

fn text(released: Released) -> String {
    released.output.map_or("nothing".to_owned(), |output| shown(&Outcome::Emit(output)))
}

#[test]
fn a_line_stays_held_over_batches_until_it_is_let_go() {
    let mut instance = start(&holder(false, 0, 0).wasm());
    assert_eq!(held(&mut instance, 10, &["h", "-"]), Some(10));
    assert_eq!(held(&mut instance, 12, &["-"]), Some(10));
    assert_eq!(held(&mut instance, 13, &["c"]), None);
    assert_eq!(held(&mut instance, 14, &["h"]), Some(14));
}

#[test]
fn an_empty_batch_changes_nothing() {
    let mut instance = start(&holder(false, 0, 0).wasm());
    held(&mut instance, 10, &["h"]);
    assert_eq!(held(&mut instance, 11, &[]), Some(10));
    assert_eq!(text(instance.tick(&origin()).expect("a tick")), "10:t");
}

#[test]
fn a_tick_and_a_flush_release_what_is_held() {
    let mut instance = start(&holder(false, 250, 0).wasm());
    assert_eq!(instance.every_ms(), Ok(Some(250)));
    held(&mut instance, 10, &["h"]);
    assert_eq!(text(instance.tick(&origin()).expect("a tick")), "10:t");
    assert_eq!(text(instance.tick(&origin()).expect("a tick")), "nothing");
    held(&mut instance, 11, &["h"]);
    assert_eq!(text(instance.flush(&origin()).expect("a flush")), "11:f");
}

#[test]
fn a_tick_cannot_name_a_line_that_is_not_held() {
    for (source, why) in [(-1, "a source is 9, not in 10..=11"), (2, "a source is 12, not in 10..=11")] {
        let mut instance = start(&holder(false, 250, source).wasm());
        held(&mut instance, 10, &["h", "-"]);
        expect_fault(instance.tick(&origin()), FaultKind::BrokenAnswer, why);
    }
}

#[test]
fn a_line_that_was_let_go_cannot_be_held_again() {
    let mut instance = start(&holder(false, 0, 0).wasm());
    held(&mut instance, 10, &["h"]);
    // `w` walks back by one.
    expect_fault(run(&mut instance, 11, &["w"]), FaultKind::BrokenAnswer, "the oldest held line is 9, not in 10..=11");
}

#[test]
fn state_goes_over_to_a_new_instance() {
    let module = load(&holder(false, 0, 0).wasm());
    assert!(module.has_state() && module.has_ticks() && module.has_finish());
    let mut old = start(&holder(false, 0, 0).wasm());
    held(&mut old, 10, &["h", "-"]);
    let saved = old.save().expect("a save").expect("a state");
    assert_eq!(saved, 10u64.to_le_bytes());

    let mut new = start(&holder(false, 0, 0).wasm());
    new.load_state(&saved, 12, Some(10)).expect("a load");
    assert_eq!(held(&mut new, 12, &["-"]), Some(10));
    assert_eq!(text(new.tick(&origin()).expect("a tick")), "10:t");

    let mut forgetful = start(&holder(false, 0, 0).wasm());
    forgetful.load_state(&saved, 12, None).expect("a load");
    expect_fault(forgetful.tick(&origin()), FaultKind::BrokenAnswer, "a source is 10, not in 11..=11");
}

#[test]
fn nothing_can_be_released_before_the_first_line() {
    let mut instance = start(&holder(false, 0, 0).wasm());
    instance.load_state(&7u64.to_le_bytes(), 0, None).expect("a load");
    expect_fault(instance.tick(&origin()), FaultKind::BrokenAnswer, "it was given no line yet");
}

#[test]
fn a_stateless_filter_never_ticks_flushes_or_saves() {
    let mut instance = start(&holder(true, 250, 0).wasm());
    assert_eq!(instance.every_ms(), Ok(None));
    assert_eq!(instance.tick(&origin()), Ok(Released::default()));
    assert_eq!(instance.flush(&origin()), Ok(Released::default()));
    assert_eq!(instance.save(), Ok(None));
}

#[test]
fn a_filter_without_the_optional_interfaces_says_so() {
    for guest in [guests::batch(), guests::line()] {
        let module = load(&guest.wasm());
        assert!(!module.has_state() && !module.has_ticks() && !module.has_finish());
        let mut instance = start(&guest.wasm());
        assert_eq!(instance.every_ms(), Ok(None));
        assert_eq!(instance.tick(&origin()), Ok(Released::default()));
        assert_eq!(instance.flush(&origin()), Ok(Released::default()));
        assert_eq!(instance.save(), Ok(None));
        expect_fault(instance.load_state(b"x", 1, None), FaultKind::Refused, "no state interface");
    }
}

#[test]
fn every_zero_milliseconds_means_never() {
    assert_eq!(start(&holder(false, 0, 0).wasm()).every_ms(), Ok(None));
}

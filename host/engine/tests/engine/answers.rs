//! What comes out of both lanes, against an oracle.

use crate::guests::{self, Column, Output, bytes, emits, keeps, obedient_batch, obedient_line, two_lines, u16s, u32s};
use crate::support::{LIMITS, Text, expect_fault, load, mask_of, origin, run, shown, start, start_with, surroundings};
use proptest::prelude::*;
use tailmill_engine::{FaultKind, Instance, Outcome};

fn both() -> [Instance; 2] {
    [start(&obedient_batch(false, &[], false).wasm()), start(&obedient_line().wasm())]
}

/// Both lanes say the same.
#[track_caller]
fn check(lines: &[&str], wanted: &str) {
    for (lane, mut instance) in ["batch", "line"].into_iter().zip(both()) {
        let answer = run(&mut instance, 100, lines).expect("an answer");
        assert_eq!(shown(&answer.outcome), wanted, "{lane}");
        assert_eq!(answer.oldest_held, None, "{lane}");
    }
}

#[test]
fn every_outcome_of_both_lanes_has_its_plainest_form() {
    check(&["k", "k"], "keep all");
    check(&["d", "d", "d"], "drop all");
    check(&["d", "k", "d", "k"], "keep 1 3");
    check(&["k", "rest", "d", ""], "100:k 101:est 103:");
    check(&["r"], "100:");
    check(&[""], "keep all");
    check(&[], "keep all");
}

#[test]
fn a_line_that_is_refused_is_named_by_both_lanes() {
    for mut instance in both() {
        let fault = run(&mut instance, 100, &["k", "k", "x", "k"]).expect_err("a fault");
        assert_eq!((fault.kind, fault.line, fault.message.as_str()), (FaultKind::Refused, Some(102), "I cannot"));
    }
}

#[test]
fn a_trap_is_contained_and_a_new_instance_works() {
    for wasm in [obedient_batch(false, &[], false).wasm(), obedient_line().wasm()] {
        let module = load(&wasm);
        let start = || module.start("{}", &LIMITS, &surroundings(), true).expect("a start");
        let mut instance = start();
        expect_fault(run(&mut instance, 0, &["k", "t"]), FaultKind::Trap, "unreachable");
        expect_fault(run(&mut instance, 2, &["k"]), FaultKind::Trap, "must be replaced");
        expect_fault(instance.save(), FaultKind::Trap, "must be replaced");
        assert_eq!(shown(&run(&mut start(), 0, &["d", "k"]).expect("an answer").outcome), "keep 1");
    }
}

#[test]
fn a_guest_cannot_blame_a_line_that_it_was_not_given() {
    for (line, seen) in [(Some(9), None), (Some(10), Some(10)), (Some(12), None), (Some(u64::MAX), None), (None, None)]
    {
        let answer = guests::Answer { fault: Some((line, bytes(b"no"))), ..Default::default() };
        let mut instance = start(&guests::batch().answers(&answer).wasm());
        assert_eq!(run(&mut instance, 10, &["a", "b"]).expect_err("a fault").line, seen, "{line:?}");
    }
}

#[test]
fn a_message_that_is_long_or_no_text_is_cut_and_mended() {
    let answer = guests::Answer { fault: Some((None, bytes(&[0xff; 5_000]))), ..Default::default() };
    let mut instance = start(&guests::batch().answers(&answer).wasm());
    let fault = run(&mut instance, 0, &["a"]).expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.message.starts_with('\u{fffd}') && fault.message.len() <= 4096);
}

#[test]
fn bits_behind_the_last_line_mean_nothing() {
    let mut instance = start(&guests::batch().answers(&keeps(&[0xff])).wasm());
    assert_eq!(run(&mut instance, 0, &["a", "b"]).expect("an answer").outcome, Outcome::KeepAll);
    let mut instance = start(&guests::batch().answers(&keeps(&[0b1111_1101])).wasm());
    let answer = run(&mut instance, 0, &["a", "b", "c"]).expect("an answer");
    assert_eq!(answer.outcome, Outcome::Keep(mask_of(&[true, false, true])));
}

#[test]
fn keys_topics_timestamps_and_headers_arrive() {
    let output = Output {
        keys: Some(Column { present: bytes(&[0b10]), data: bytes(b"key"), ends: u32s(&[0, 3]) }),
        topics: u16s(&[1, 0]),
        timestamps: guests::u64s(&[5, i64::MIN as u64]),
        headers: vec![(bytes(b"who"), Column { data: bytes(b"youI"), ends: u32s(&[3, 4]), ..Column::default() })],
        ..two_lines()
    };
    let mut instance = start(&guests::batch().answers(&emits(output)).wasm());
    let Outcome::Emit(output) = run(&mut instance, 10, &["x", "y"]).expect("an answer").outcome else { panic!() };
    let lines = [output.line(0), output.line(1)];
    assert_eq!(lines, [b"ab".as_slice(), b"c"]);
    assert_eq!(output.sources, [10, 11]);
    let keys = output.keys.as_ref().expect("keys");
    assert_eq!([keys.get(0), keys.get(1)], [None, Some(b"key".as_slice())]);
    assert_eq!((output.topics, output.timestamps_ms), (vec![1, 0], vec![5, i64::MIN]));
    assert_eq!(output.headers[0].name, "who");
    let values = &output.headers[0].values;
    assert_eq!([values.get(0), values.get(1)], [Some(b"you".as_slice()), Some(b"I".as_slice())]);
}

#[test]
fn a_chunk_is_answered_wherever_its_lines_lie_in_it() {
    for lead in [0, 1, 1024, 1025, 70_000] {
        let text = Text::behind(lead, ["k", "rest", "d", "kk"]);
        for mut instance in both() {
            let answer = instance.run(5, text.lines(), &origin()).expect("an answer");
            assert_eq!(shown(&answer.outcome), "5:k 6:est 8:kk", "{lead}");
        }
    }
}

/// What an obedient guest says, worked out here.
fn oracle(first: u64, lines: &[String]) -> String {
    let kept = || lines.iter().enumerate().filter(|(_, line)| !line.starts_with('d'));
    if lines.iter().any(|line| line.starts_with('r')) {
        let line =
            |(i, line): (usize, &String)| format!("{}:{}", first + i as u64, line.strip_prefix('r').unwrap_or(line));
        return kept().map(line).collect::<Vec<_>>().join(" ");
    }
    match kept().count() {
        0 => "drop all".to_owned(),
        n if n == lines.len() => "keep all".to_owned(),
        _ => format!("keep{}", kept().map(|(i, _)| format!(" {i}")).collect::<String>()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_lanes_agree_with_the_oracle(
        lines in prop::collection::vec(prop_oneof![8 => "[dk][a-z]{0,5}", 1 => Just(String::new())], 1..300),
        replaced in prop::option::of((any::<prop::sample::Index>(), "r[a-z]{0,5}")),
        first in 0..u64::MAX - 1_000,
        lead in 0usize..3_000,
    ) {
        thread_local! {
            static BOTH: std::cell::RefCell<[Instance; 2]> = std::cell::RefCell::new(both());
        }
        let mut lines = lines;
        if let Some((at, line)) = replaced {
            let at = at.index(lines.len());
            lines[at] = line;
        }
        let text = Text::behind(lead, &lines);
        let wanted = oracle(first, &lines);
        BOTH.with_borrow_mut(|both| {
            for instance in both {
                let answer = instance.run(first, text.lines(), &origin()).expect("an answer");
                assert_eq!(shown(&answer.outcome), wanted);
            }
        });
    }

    #[test]
    fn a_random_mask_keeps_what_its_bits_say(bits in prop::collection::vec(any::<bool>(), 1..200), excess in any::<u8>()) {
        let mut packed = vec![0; bits.len().div_ceil(8)];
        bits.iter().enumerate().for_each(|(i, bit)| packed[i / 8] |= u8::from(*bit) << (i % 8));
        if !bits.len().is_multiple_of(8) {
            *packed.last_mut().expect("a byte") |= excess << (bits.len() % 8);
        }
        // The guest answers the mask that is its first line.
        let mut guest = guests::batch();
        let answer = guest.image.answer(&keeps(&[]));
        let guest = guest.run(&format!(
            "(i32.store offset=12 (i32.const {answer}) (i32.add (local.get $data) (i32.load (local.get $starts))))
             (i32.store offset=16 (i32.const {answer}) (i32.sub (i32.load (local.get $ends)) (i32.load (local.get $starts))))
             (i32.const {answer})"
        ));
        thread_local! {
            static INSTANCE: std::cell::RefCell<Option<Instance>> = const { std::cell::RefCell::new(None) };
        }
        let mut lines = vec![packed];
        lines.resize(bits.len(), Vec::new());
        let text = Text::of(&lines);
        let answer = INSTANCE.with_borrow_mut(|instance| {
            let instance = instance.get_or_insert_with(|| start_with(&guest.wasm(), &LIMITS).expect("a start"));
            instance.run(0, text.lines(), &origin()).expect("an answer")
        });
        let wanted = match bits.iter().filter(|bit| **bit).count() {
            0 => Outcome::DropAll,
            n if n == bits.len() => Outcome::KeepAll,
            _ => Outcome::Keep(mask_of(&bits)),
        };
        prop_assert_eq!(answer.outcome, wanted);
    }
}

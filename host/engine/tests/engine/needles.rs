//! Lines without a needle never enter wasm, and nothing else changes.

use crate::guests::{self, obedient_batch};
use crate::support::{LIMITS, Text, load, origin, run, shown, start, surroundings};
use proptest::prelude::*;
use tailmill_engine::{FaultKind, Instance, Lines, Outcome};

fn check(needles: &[&str], keep_skipped: bool, lines: &[&str], wanted: &str) {
    let mut instance = start(&obedient_batch(true, needles, keep_skipped).wasm());
    assert_eq!(shown(&run(&mut instance, 100, lines).expect("an answer").outcome), wanted);
}

#[test]
fn only_lines_with_a_needle_are_judged() {
    check(&["z"], false, &["k", "kz", "dz", "d"], "keep 1");
    check(&["z"], true, &["k", "kz", "dz", "d"], "keep 0 1 3");
    check(&["z", "yy"], false, &["yy", "y", "k", "z"], "keep 0 3");
}

#[test]
fn the_outcome_is_the_plainest_one_of_the_whole_batch() {
    check(&["z"], true, &["d", "kz"], "keep all");
    check(&["z"], true, &["k", "dz"], "keep 0");
    check(&["z"], false, &["k", "dz"], "drop all");
    check(&["z"], false, &["kz", "z"], "keep all");
    check(&["z"], true, &["dz", "dz"], "drop all");
}

#[test]
fn new_lines_keep_their_sources_and_skipped_ones_their_place() {
    check(&["z"], false, &["k", "rz", "k", "kz", "dz"], "101:z 103:kz");
    check(&["z"], true, &["k", "rz", "k", "kz", "dz", "d"], "100:k 101:z 102:k 103:kz 105:d");
}

#[test]
fn a_refused_line_is_named_by_its_number_in_the_whole_batch() {
    let mut instance = start(&obedient_batch(true, &["z"], false).wasm());
    let fault = run(&mut instance, 100, &["k", "kz", "k", "xz"]).expect_err("a fault");
    assert_eq!((fault.kind, fault.line), (FaultKind::Refused, Some(103)));
}

#[test]
fn a_batch_without_a_needle_does_not_enter_wasm() {
    for (keep_skipped, wanted) in [(false, Outcome::DropAll), (true, Outcome::KeepAll)] {
        let wasm = guests::batch().traits(true, &["z"], keep_skipped).run("unreachable").wasm();
        let mut instance = start(&wasm);
        assert_eq!(run(&mut instance, 0, &["a", "b"]).expect("an answer").outcome, wanted);
        run(&mut instance, 2, &["z"]).expect_err("a fault");
    }
}

#[test]
fn a_match_across_two_lines_is_none() {
    check(&["a\nb"], false, &["a", "b"], "drop all");
    check(&["a\nb", "b"], false, &["a", "b"], "keep 1");
    check(&["\n"], true, &["d", "d"], "keep all");
}

#[test]
fn an_empty_needle_is_in_every_line() {
    check(&["z", ""], false, &["k", "d"], "keep 0");
}

#[test]
fn a_stateful_filter_sees_every_line() {
    let mut instance = start(&obedient_batch(false, &["z"], false).wasm());
    assert_eq!(shown(&run(&mut instance, 0, &["k", "d"]).expect("an answer").outcome), "keep 0");
}

#[test]
fn columns_of_merged_lines_fit_their_lines() {
    use guests::{Column, Output, bytes, emits, u16s, u32s, u64s};
    let output = Output {
        data: bytes(b"new"),
        starts: u32s(&[0]),
        ends: u32s(&[3]),
        source: u64s(&[100]),
        keys: Some(Column { data: bytes(b"key"), ends: u32s(&[3]), ..Column::default() }),
        topics: u16s(&[1]),
        timestamps: u64s(&[9]),
        headers: vec![(bytes(b"h"), Column { data: bytes(b"v"), ends: u32s(&[1]), ..Column::default() })],
        ..Output::default()
    };
    let mut instance = start(&guests::batch().traits(true, &["z"], true).answers(&emits(output)).wasm());
    let Outcome::Emit(output) = run(&mut instance, 100, &["a", "z", "b"]).expect("an answer").outcome else { panic!() };
    assert_eq!(shown(&Outcome::Emit(output.clone())), "100:a 101:new 102:b");
    assert_eq!((output.topics, output.timestamps_ms), (vec![0, 1, 0], vec![i64::MIN, 9, i64::MIN]));
    let keys = output.keys.expect("keys");
    assert_eq!([keys.get(0), keys.get(1), keys.get(2)], [None, Some(b"key".as_slice()), None]);
    let values = &output.headers[0].values;
    assert_eq!([values.get(0), values.get(1), values.get(2)], [None, Some(b"v".as_slice()), None]);
}

/// Lines and sources that go on.
fn going_on(outcome: &Outcome, first: u64, lines: Lines<'_>) -> Vec<(u64, Vec<u8>)> {
    let old = |i: usize| (first + i as u64, lines.line(i).to_vec());
    match outcome {
        Outcome::KeepAll => (0..lines.len()).map(old).collect(),
        Outcome::DropAll => Vec::new(),
        Outcome::Keep(mask) => mask.ones().map(old).collect(),
        Outcome::Emit(output) => (0..output.len()).map(|i| (output.sources[i], output.line(i).to_vec())).collect(),
    }
}

fn wanted(needles: &[String], keep_skipped: bool, first: u64, lines: &[String]) -> Vec<(u64, Vec<u8>)> {
    let judge = |line: &String| {
        let seen = needles.iter().any(|needle| line.contains(needle.as_str()));
        match line.as_bytes().first() {
            _ if !seen => keep_skipped.then(|| line.clone()),
            Some(b'd') => None,
            Some(b'r') => Some(line[1..].to_owned()),
            _ => Some(line.clone()),
        }
    };
    let judged = lines.iter().enumerate().map(|(i, line)| (first + i as u64, judge(line)));
    judged.filter_map(|(source, line)| Some((source, line?.into_bytes()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn one_search_over_the_chunk_is_as_good_as_one_a_line(
        needles in prop::collection::vec("[abk\n]{1,3}", 1..5),
        keep_skipped: bool,
        batches in prop::collection::vec((prop::collection::vec("[abkdr]{0,6}", 1..80), 0usize..2_000), 1..8),
    ) {
        let texts: Vec<&str> = needles.iter().map(String::as_str).collect();
        let module = load(&obedient_batch(true, &texts, keep_skipped).wasm());
        let mut instance: Instance = module.start("{}", &LIMITS, &surroundings(), true).expect("a start");
        let mut first = 1_000;
        for (lines, lead) in &batches {
            let text = Text::behind(*lead, lines);
            let answer = instance.run(first, text.lines(), &origin()).expect("an answer");
            prop_assert_eq!(going_on(&answer.outcome, first, text.lines()), wanted(&needles, keep_skipped, first, lines));
            first += lines.len() as u64;
        }
    }
}

//! Every way in which an answer can fail to add up. All of them answer the lines 10 and 11 of an entry with two topics.

use crate::guests::{self, Answer, Column, List, Outcome, Output, bytes, emits, keeps, two_lines, u16s, u32s, u64s};
use crate::support::{expect_fault, run, start};
use tailmill_engine::FaultKind;

#[track_caller]
fn check(answer: &Answer, why: &str) {
    let mut instance = start(&guests::batch().answers(answer).wasm());
    expect_fault(run(&mut instance, 10, &["one", "two"]), FaultKind::BrokenAnswer, why);
}

#[track_caller]
fn check_output(change: impl FnOnce(&mut Output), why: &str) {
    let mut output = two_lines();
    change(&mut output);
    check(&emits(output), why);
}

#[track_caller]
fn check_column(column: Column, why: &str) {
    check_output(|output| output.keys = Some(column.clone()), why);
    check_output(|output| output.headers = vec![(bytes(b"name"), column)], why);
}

#[test]
fn the_answer_that_the_others_are_changed_from_is_a_good_one() {
    let mut instance = start(&guests::batch().answers(&emits(two_lines())).wasm());
    run(&mut instance, 10, &["one", "two"]).expect("an answer");
}

#[test]
fn a_mask_of_another_length() {
    check(&keeps(&[]), "the mask has 0 bytes in place of 1");
    check(&keeps(&[1, 0]), "the mask has 2 bytes in place of 1");
    check(
        &Answer { outcome: Outcome::Keep(List::Claim(1024, 60_000)), ..Answer::default() },
        "60000 bytes in place of 1",
    );
}

#[test]
fn lists_that_lie() {
    let claims = [(0xffff_fff0, 100), (0, u32::MAX), (131_072, 1), (u32::MAX, u32::MAX)];
    for (at, len) in claims {
        let claim = List::Claim(at, len);
        check(&Answer { outcome: Outcome::Keep(claim.clone()), ..Answer::default() }, "out of bounds");
        check_output(|output| output.data = claim.clone(), "out of bounds");
        check_output(|output| output.source = claim.clone(), "out of bounds");
        check_output(|output| output.headers_claim = Some((at & !7, len)), "out of bounds");
        check_column(Column { data: claim, ..Column::default() }, "out of bounds");
    }
    check_output(|output| output.headers_claim = Some((1025, 1)), "aligned");
}

#[test]
fn tags_that_mean_nothing() {
    check(&Answer { outcome: Outcome::Tag(4), ..Answer::default() }, "");
    check(&Answer { outcome: Outcome::Tag(255), ..Answer::default() }, "");
}

#[test]
fn lines_out_of_order() {
    check_output(|output| output.starts = u32s(&[0, 1]), "line 1 is 1..4 and the one before ends at 2");
    check_output(|output| output.ends = u32s(&[2, 2]), "line 1 is 3..2");
    check_output(|output| (output.starts, output.ends) = (u32s(&[3, 0]), u32s(&[4, 2])), "line 1 is 0..2");
    check_output(|output| output.starts = u32s(&[3, 3]), "line 0 is 3..2");
}

#[test]
fn lines_outside_of_their_data() {
    check_output(|output| output.ends = u32s(&[2, 5]), "the last line ends at 5 of 4 bytes");
    check_output(|output| output.ends = u32s(&[2, u32::MAX]), "of 4 bytes");
    check_output(|output| output.data = bytes(b""), "the last line ends at 4 of 0 bytes");
}

#[test]
fn columns_of_another_length() {
    check_output(|output| output.starts = u32s(&[0]), "starts has 4 bytes in place of 8");
    check_output(|output| output.starts = u32s(&[0, 3, 4]), "starts has 12 bytes in place of 8");
    check_output(|output| output.ends = bytes(&[2, 0, 0, 0, 4, 0, 0]), "in place of 4");
    check_output(|output| output.source = u64s(&[10]), "source has 8 bytes in place of 16");
    check_output(|output| output.source = bytes(&[]), "source has 0 bytes in place of 16");
    check_output(|output| output.topics = u16s(&[0]), "topics has 2 bytes in place of 4");
    check_output(|output| output.timestamps = u64s(&[1, 2, 3]), "timestamps-ms has 24 bytes in place of 16");
}

#[test]
fn sources_that_were_not_given() {
    check_output(|output| output.source = u64s(&[9, 10]), "a source is 9, not in 10..=11");
    check_output(|output| output.source = u64s(&[10, 12]), "a source is 12, not in 10..=11");
    check_output(|output| output.source = u64s(&[10, u64::MAX]), "not in 10..=11");
}

#[test]
fn topics_that_the_entry_does_not_allow() {
    check_output(|output| output.topics = u16s(&[0, 2]), "topic 2 is not one of the 2");
    check_output(|output| output.topics = u16s(&[u16::MAX, 0]), "topic 65535");
}

#[test]
fn values_that_do_not_fit_their_column() {
    let data = || bytes(b"abc");
    check_column(
        Column { present: bytes(&[3, 0]), data: data(), ends: u32s(&[1, 2]) },
        "present has 2 bytes in place of 1",
    );
    check_column(Column { data: data(), ends: u32s(&[1]), ..Column::default() }, "ends has 4 bytes in place of 8");
    check_column(Column { data: data(), ends: u32s(&[2, 1]), ..Column::default() }, "value 1 ends at 1");
    check_column(Column { data: data(), ends: u32s(&[2, 4]), ..Column::default() }, "ends at 4 of 3 bytes");
    check_column(Column { present: bytes(&[0b01]), data: data(), ends: u32s(&[1, 2]) }, "value 1 ends at 2");
}

#[test]
fn headers_without_a_usable_name() {
    let header = |name: &[u8]| vec![(bytes(name), Column { ends: u32s(&[0, 0]), ..Column::default() })];
    check_output(|output| output.headers = header(b""), "a header's name has 0 bytes");
    check_output(|output| output.headers = header(&[b'n'; 257]), "a header's name has 257 bytes");
    check_output(|output| output.headers = header(&[0xff]), "");
}

#[test]
fn held_lines_that_were_not_given() {
    let held = |held| Answer { held: Some(held), ..Answer::default() };
    check(&held(9), "the oldest held line is 9, not in 10..=11");
    check(&held(12), "the oldest held line is 12, not in 10..=11");
    check(&held(u64::MAX), "not in 10..=11");
}

#[test]
fn a_stateless_filter_that_holds() {
    let answer = Answer { held: Some(10), ..Answer::default() };
    let mut instance = start(&guests::batch().traits(true, &[], false).answers(&answer).wasm());
    expect_fault(run(&mut instance, 10, &["one"]), FaultKind::BrokenAnswer, "stateless and holds");
}

//! The reader against a naive splitter, at every buffer boundary: one expectation, many buffer sizes, batch limits and
//! ways in which the file grew.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Bench, expected, joined, plain, regex};
use proptest::prelude::*;
use tailmill_tail::{BatchLimits, Framing, MultilineRule, TooLong};

/// Reads `content`, appended in pieces of `piece` bytes, under every small limit; the result must not depend on it.
fn check(content: &[u8], framing: &Framing, piece: usize) {
    for bytes in (1..=content.len() + 2).chain([1000]) {
        for lines in [1, 2, 3, 1000] {
            let mut bench = Bench::new(framing, BatchLimits { bytes, lines }, bytes);
            for part in content.chunks(piece.max(1)) {
                bench.append(part);
                bench.read_to_end(false);
            }
            let what = format!("{:?} as {framing:?}, batches of {bytes} bytes, {lines} lines", bytes_of(content));
            assert_eq!(bench.outcome(), expected(content, framing, false), "{what}, open");
            bench.read_to_end(true);
            assert_eq!(bench.outcome(), expected(content, framing, true), "{what}, finished");
        }
    }
}

fn bytes_of(content: &[u8]) -> String {
    content.escape_ascii().to_string()
}

const CASES: [&[u8]; 18] = [
    b"",
    b"\n",
    b"\n\n\n",
    b"a",
    b"a\n",
    b"a\nb",
    b"a\nbc\ndef\n",
    b"\r\n",
    b"\r",
    b"a\r\nb\r\n",
    b"a\rb\r\r\nc\r",
    b"\0\0\n\0",
    b"\xff\xfe\nz\n",
    b"abcdefghij\nk\n",
    b"a\nabcdefghijkl\nabcdefghijkl\nb\n",
    b"abcdefghijkl",
    b"abcdefgh\r\nabcdefghi\r\nabcdefg\r",
    b"ab\n  c\n  d\nab\nab\n  c\n\n  d\nab",
];

#[test]
fn lines_are_the_same_at_every_buffer_boundary() {
    for content in CASES {
        for piece in [1, 2, 3, 1000] {
            check(content, &plain(1000, TooLong::Cut), piece);
        }
    }
}

#[test]
fn too_long_lines_are_cut_or_skipped_the_same_at_every_buffer_boundary() {
    for content in CASES {
        for max in [1, 2, 8] {
            for too_long in [TooLong::Cut, TooLong::Skip] {
                check(content, &plain(max, too_long), 1000);
                check(content, &plain(max, too_long), 3);
            }
        }
    }
}

#[test]
fn joined_lines_are_the_same_at_every_buffer_boundary() {
    for content in CASES {
        for rule in
            [MultilineRule::Start(regex("^a")), MultilineRule::End(regex("d$")), MultilineRule::Continue(regex(r"^\s"))]
        {
            for (joined_max, line_max, too_long) in
                [(1000, 1000, TooLong::Cut), (9, 1000, TooLong::Cut), (9, 4, TooLong::Skip), (3, 9, TooLong::Cut)]
            {
                check(content, &joined(rule.clone(), joined_max, line_max, too_long), 1000);
                check(content, &joined(rule.clone(), joined_max, line_max, too_long), 4);
            }
        }
    }
}

/// What happens to a file and its reader.
#[derive(Clone, Debug)]
enum Action {
    Append(Vec<u8>),
    Read,
    ReadToEnd,
    /// Back to the start of one of the batches so far.
    Rewind(usize),
    /// Closed while idle and opened again.
    Reopen,
    Limits(BatchLimits),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let text = prop::collection::vec(prop::sample::select(b"aab \r\n\n\0\xff".to_vec()), 0..40);
    let long = (1..300_usize).prop_map(|len| vec![b'x'; len]);
    let limits = (1..200_usize, 1..8_usize).prop_map(|(bytes, lines)| BatchLimits { bytes, lines });
    let action = prop_oneof![
        6 => text.prop_map(Action::Append),
        1 => long.prop_map(Action::Append),
        4 => Just(Action::Read),
        2 => Just(Action::ReadToEnd),
        2 => any::<usize>().prop_map(Action::Rewind),
        1 => Just(Action::Reopen),
        1 => limits.prop_map(Action::Limits),
    ];
    prop::collection::vec(action, 0..40)
}

fn framings() -> impl Strategy<Value = Framing> {
    let too_long = || prop::sample::select(vec![TooLong::Cut, TooLong::Skip]);
    let rule = prop::sample::select(vec![
        MultilineRule::Start(regex("^a")),
        MultilineRule::End(regex("b$")),
        MultilineRule::Continue(regex(r"^\s")),
    ]);
    prop_oneof![
        (1..60_usize, too_long()).prop_map(|(max, too_long)| plain(max, too_long)),
        (rule, 1..80_usize, 1..60_usize, too_long()).prop_map(|(rule, all, max, too)| joined(rule, all, max, too)),
    ]
}

proptest! {
    #![proptest_config(common::scripts(2000))]

    #[test]
    fn no_byte_is_lost_or_comes_twice_whatever_happens(framing in framings(), script in actions()) {
        let mut bench = Bench::new(&framing, BatchLimits { bytes: 64, lines: 4 }, 64);
        for action in script {
            match action {
                Action::Append(bytes) => bench.append(&bytes),
                Action::Read => drop(bench.step(false)),
                Action::ReadToEnd => bench.read_to_end(false),
                Action::Rewind(to) if !bench.batches.is_empty() => bench.rewind_to_batch(to % bench.batches.len()),
                Action::Rewind(_) => {}
                Action::Reopen => {
                    bench.reader.close();
                    bench.reader.reopen(bench.file()).unwrap();
                }
                Action::Limits(limits) => bench.limits = limits,
            }
        }
        // The limits changed on the way; what the last batches may hold is checked with the last ones.
        bench.read_to_end(false);
        prop_assert_eq!(bench.outcome(), expected(&bench.content, &framing, false));
        bench.read_to_end(true);
        prop_assert_eq!(bench.outcome(), expected(&bench.content, &framing, true));
    }
}

//! The reader against a naive splitter, at every buffer boundary: one expectation, many buffer sizes, batch limits and
//! ways in which the file grew.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Bench, expected, joined, plain, regex};
use proptest::prelude::*;
use tailmill_tail::{BatchLimits, Delimiter, Framing, MultilineRule, Packing, TextEncoding, TooLong};

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

/// The labels of all encodings of the WHATWG standard that text can be read from line by line.
const ENCODINGS: [&str; 37] = [
    "utf-8",
    "ibm866",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "iso-8859-8-i",
    "iso-8859-10",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-15",
    "iso-8859-16",
    "koi8-r",
    "koi8-u",
    "macintosh",
    "windows-874",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "x-mac-cyrillic",
    "gbk",
    "gb18030",
    "big5",
    "euc-jp",
    "shift_jis",
    "euc-kr",
    "utf-16be",
    "utf-16le",
];

#[test]
fn every_encoding_is_decoded_the_same_at_every_buffer_boundary() {
    for label in ENCODINGS {
        let encoding = TextEncoding::for_label(label).unwrap();
        let named = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
        let text = "a\u{e9}\u{436}\r\n\u{6f22}\u{3042}\u{ac00}\n\n\u{20ac}z";
        let bytes: Vec<u8> = match label {
            "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "utf-16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            // What it has no form of is left out.
            _ => text
                .chars()
                .flat_map(|c| Some(named.encode(&c.to_string())).filter(|e| !e.2).map_or(vec![], |e| e.0.to_vec()))
                .collect(),
        };
        let malformed = [&bytes[..bytes.len() - 1], b"\x81\n\xff\xd8\n\0\n", &bytes[..3]].concat();
        for (content, max, too_long) in [
            (&bytes, 1000, TooLong::Cut),
            (&malformed, 1000, TooLong::Cut),
            (&bytes, 4, TooLong::Cut),
            (&bytes, 4, TooLong::Skip),
        ] {
            let framing = Framing { encoding: Some(encoding), ..plain(max, too_long) };
            for at_once in 1..=content.len() + 2 {
                let mut bench = Bench::new(&framing, BatchLimits { bytes: at_once, lines: 1000 }, at_once);
                for byte in content.chunks(1) {
                    bench.append(byte);
                    bench.read_to_end(false);
                }
                let what = format!("{:?} as {label}, {at_once} bytes at once", bytes_of(content));
                assert_eq!(bench.outcome(), expected(content, &framing, false), "{what}, open");
                bench.read_to_end(true);
                assert_eq!(bench.outcome(), expected(content, &framing, true), "{what}, finished");
            }
        }
    }
}

/// What happens to a file and its reader.
#[derive(Clone, Debug)]
enum Action {
    Append(Vec<u8>),
    /// Only so many bytes of it are on the disk by now: of a compressed file this is some of its content.
    AppendInPart(Vec<u8>, usize),
    Read,
    ReadToEnd,
    /// Back to the start of one of the batches so far.
    Rewind(usize),
    /// Closed while idle and opened again.
    Reopen,
    /// Another process goes on behind a line of a batch.
    Restart(usize, usize),
    /// The time of a join is over.
    TimeOut,
    Limits(BatchLimits),
}

/// Bytes that mean something to every framing here, and long runs without.
fn actions() -> impl Strategy<Value = Vec<Action>> {
    let text = prop::collection::vec(prop::sample::select(b"aab \r\n\n\0\xff".to_vec()), 0..40);
    let wide = prop::collection::vec(
        prop::sample::select(b"aab \n\n\0\0\0\0\r\xd8\xdc\x81\x30\x40\xfe\xff\xef\xbb\xbf".to_vec()),
        0..40,
    );
    let utf16 = prop::collection::vec(
        prop::sample::select(vec![
            *b"a\0",
            *b"b\0",
            *b"\n\0",
            *b"\r\0",
            *b" \0",
            *b"\0\n",
            *b"\0\xd8",
            *b"\0\xdc",
            *b"\xac\x20",
        ]),
        0..30,
    );
    let part = prop::collection::vec(prop::sample::select(b"ab \n".to_vec()), 0..200);
    let marked = prop::sample::select(vec![b"\xff\xfe".to_vec(), b"\xfe\xff".to_vec(), b"\xef\xbb\xbf".to_vec()]);
    let long = (1..300_usize).prop_map(|len| vec![b'x'; len]);
    let limits = (1..200_usize, 1..8_usize).prop_map(|(bytes, lines)| BatchLimits { bytes, lines });
    let action = prop_oneof![
        6 => text.prop_map(Action::Append),
        3 => wide.prop_map(Action::Append),
        4 => utf16.prop_map(|units| Action::Append(units.concat())),
        1 => marked.prop_map(Action::Append),
        2 => (part, 1..60_usize).prop_map(|(bytes, written)| Action::AppendInPart(bytes, written)),
        1 => long.prop_map(Action::Append),
        4 => Just(Action::Read),
        2 => Just(Action::ReadToEnd),
        2 => any::<usize>().prop_map(Action::Rewind),
        2 => any::<(usize, usize)>().prop_map(|(batch, line)| Action::Restart(batch, line)),
        1 => Just(Action::TimeOut),
        1 => Just(Action::Reopen),
        1 => limits.prop_map(Action::Limits),
    ];
    prop::collection::vec(action, 0..40)
}

fn formats() -> impl Strategy<Value = (Delimiter, Option<TextEncoding>)> {
    let delimiter = |bytes: &[u8]| Delimiter::of_bytes(bytes).unwrap();
    let delimiters = prop::sample::select(vec![
        delimiter(b"\0"),
        delimiter(b"aa"),
        delimiter(b" \n"),
        delimiter(b"\n"),
        delimiter(b"aab"),
    ]);
    let labels = ["utf-16le", "utf-16be", "windows-1252", "utf-8", "shift_jis", "gb18030", "euc-jp"];
    let encodings = prop::sample::select(labels.to_vec()).prop_map(|label| TextEncoding::for_label(label).unwrap());
    prop_oneof![
        3 => Just((Delimiter::Newline, None)),
        2 => delimiters.clone().prop_map(|delimiter| (delimiter, None)),
        3 => encodings.clone().prop_map(|encoding| (Delimiter::Newline, Some(encoding))),
        1 => (delimiters, encodings)
            .prop_filter("has no form in it", |(delimiter, encoding)| encoding.check_delimiter(delimiter).is_ok())
            .prop_map(|(delimiter, encoding)| (delimiter, Some(encoding))),
    ]
}

fn framings() -> impl Strategy<Value = Framing> {
    let too_long = || prop::sample::select(vec![TooLong::Cut, TooLong::Skip]);
    let rule = prop::sample::select(vec![
        MultilineRule::Start(regex("^a")),
        MultilineRule::End(regex("b$")),
        MultilineRule::Continue(regex(r"^\s")),
    ]);
    let rules = prop_oneof![
        (1..60_usize, too_long()).prop_map(|(max, too_long)| plain(max, too_long)),
        (rule, 1..80_usize, 1..60_usize, too_long()).prop_map(|(rule, all, max, too)| joined(rule, all, max, too)),
    ];
    (rules, formats()).prop_map(|(rules, (delimiter, encoding))| Framing { delimiter, encoding, ..rules })
}

fn play(bench: &mut Bench, script: Vec<Action>) {
    for action in script {
        match action {
            Action::Append(bytes) => bench.append(&bytes),
            Action::AppendInPart(bytes, written) => bench.append_in_part(&bytes, written),
            Action::Read => drop(bench.step(false)),
            Action::ReadToEnd => bench.read_to_end(false),
            Action::Rewind(to) if !bench.batches.is_empty() => bench.rewind_to_batch(to % bench.batches.len()),
            Action::Rewind(_) => {}
            Action::Reopen => {
                bench.reader.close();
                bench.reader.reopen(bench.file()).unwrap();
            }
            Action::Restart(batch, line) if !bench.batches.is_empty() => {
                let batch = batch % bench.batches.len();
                bench.restart_from_mark(batch, line % bench.batches[batch].len().max(1));
            }
            Action::Restart(..) => {}
            Action::TimeOut => bench.let_the_join_time_out(),
            Action::Limits(limits) => bench.limits = limits,
        }
    }
    bench.write_rest();
}

fn check_script(framing: &Framing, packing: Option<Packing>, script: Vec<Action>) -> Result<(), TestCaseError> {
    let mut bench = Bench::packed(framing, BatchLimits { bytes: 64, lines: 4 }, 64, packing);
    play(&mut bench, script);
    // The limits changed on the way; what the last batches may hold is checked with the last ones.
    bench.read_to_end(false);
    prop_assert_eq!(bench.outcome(), bench.expected(false));
    bench.read_to_end(true);
    prop_assert_eq!(bench.outcome(), bench.expected(true));
    prop_assert_eq!(bench.reader.take_problem(), None);
    bench.check_line_numbers();
    Ok(())
}

proptest! {
    #![proptest_config(common::scripts(2000))]

    #[test]
    fn no_byte_is_lost_or_comes_twice_whatever_happens(framing in framings(), script in actions()) {
        check_script(&framing, None, script)?;
    }

    #[test]
    fn nor_in_a_compressed_file_that_is_still_being_written(
        framing in framings(),
        packing in prop::sample::select(vec![Packing::Gzip, Packing::Zstd]),
        script in actions(),
    ) {
        check_script(&framing, Some(packing), script)?;
    }
}

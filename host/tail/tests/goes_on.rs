//! A record of several lines that is open at the end of a file and goes on in the one that came after it.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Bench, expected, joined, regex, scripts};
use proptest::prelude::*;
use tailmill_tail::reader::{Continuation, Part};
use tailmill_tail::{Batch, BatchLimits, Delimiter, Framing, MultilineRule, TextEncoding, TooLong};

fn bench(framing: &Framing, content: &[u8]) -> Bench {
    let mut bench = Bench::new(framing, BatchLimits { bytes: 64, lines: 3 }, 64);
    bench.append(content);
    bench.read_to_end(false);
    bench
}

fn start_rule() -> Framing {
    joined(MultilineRule::Start(regex("^start")), 40, 30, TooLong::Cut)
}

fn text_of(batch: &Batch) -> String {
    String::from_utf8(batch.chunk[batch.starts[0] as usize..batch.ends[0] as usize].to_vec()).unwrap()
}

/// What the newer file begins with, where the record that is open at the end of the older one goes on.
#[track_caller]
fn check(framing: &Framing, older: &str, newer: &str, wanted: &Continuation) {
    let mut older = bench(framing, older.as_bytes());
    let mut after = Bench::new(framing, BatchLimits::default(), 64);
    after.append(newer.as_bytes());
    let pool = older.pool.clone();
    let found = match older.reader.open_record(&pool).unwrap() {
        Some(record) => after.reader.continuation_of(&record, &pool).unwrap(),
        None => Continuation::None,
    };
    assert_eq!(found, *wanted, "{newer:?}");
}

fn part(text: &str, bytes: u64) -> Part {
    Part { bytes, text: text.into() }
}

#[test]
fn a_file_goes_on_with_the_record_before_it_as_far_as_its_rule_says() {
    use Continuation::{None, Open, Whole};
    let start = start_rule();
    check(&start, "start a\nmore\n", "and more\nlast\nstart b\n", &Whole(part("and more\nlast", 14)));
    check(&start, "start a\n", "more\r\nhal", &Open(part("more", 6)));
    check(&start, "start a\n", "start b\nmore\n", &None);
    check(&start, "start a\n", "no whole line", &Open(part("", 0)));
    check(&start, "start a\n", "", &None);
    check(&start, "start a\nhalf a li", "ne\nstart b\n", &None);
    check(&start, "", "more\n", &None);
    // 40 bytes are the longest record: what would pass that begins another.
    let ten = "0123456789\n";
    check(&start, "start a\n", &ten.repeat(4), &Whole(part(ten.repeat(3).trim_end(), 33)));
    check(&start, "start a\n", "0123456789012345678901234567890123456789\n", &None);
    // The same of one whose end is not in sight.
    check(&start, "start a\n", &format!("more\n{}", ten.repeat(1_000).replace('\n', "-")), &Whole(part("more", 5)));
    check(&start, "start a\n", &ten.repeat(1_000).replace('\n', "-"), &None);
    let end = joined(MultilineRule::End(regex(";$")), 40, 30, TooLong::Cut);
    check(&end, "a;\nb\n", "c\nd;\ne\n", &Whole(part("c\nd;", 5)));
    check(&end, "a;\n", "c\nd;\ne\n", &None);
    let more = joined(MultilineRule::Continue(regex("^ ")), 40, 30, TooLong::Cut);
    check(&more, "a\n b\n", " c\nd\n", &Whole(part(" c", 3)));
    check(&more, "a\n b\n", " c\n", &Open(part(" c", 3)));
    check(&Framing::default(), "a\nb\n", "c\n", &None);
}

#[test]
fn what_changed_in_between_is_not_passed_over() {
    let framing = start_rule();
    let mut older = bench(&framing, b"start a\n");
    let mut newer = Bench::new(&framing, BatchLimits::default(), 64);
    let pool = older.pool.clone();
    newer.append(b"more\nstart b\n");
    assert!(!newer.reader.pass(&part("other", 6), &pool).unwrap());
    assert!(!newer.reader.pass(&part("mere", 5), &pool).unwrap());
    let record = older.reader.open_record(&pool).unwrap().unwrap();
    older.append(b"late\n");
    assert!(older.reader.finish_with(&record, b"more", &pool).unwrap().is_none(), "it has grown");
    let record = older.reader.open_record(&pool).unwrap().unwrap();
    let batch = older.reader.finish_with(&record, b"more", &pool).unwrap().unwrap();
    assert_eq!((&*text_of(&batch), batch.end_offset, batch.first_line), ("start a\nlate\nmore", 13, Some(1)));
    assert!(newer.reader.pass(&part("more", 5), &pool).unwrap());
    newer.read_to_end(true);
    assert_eq!(newer.batches[0].first_line, Some(2));
    assert!(!newer.reader.pass(&part("more", 5), &pool).unwrap(), "something of it was handed out");
    // The evidence of each is of its own bytes alone: both go on after a restart.
    let (at, evidence) = (newer.reader.position(), newer.reader.evidence());
    assert_eq!(evidence.check(&newer.file()).unwrap(), tailmill_tail::evidence::Verdict::Same);
    assert_eq!((at, evidence.at), (13, 13));
}

/// As the agent does it: the texts of all lines of both files.
fn both(framing: &Framing, older: &[u8], newer: &[u8], terminator: &[u8]) -> Vec<Vec<u8>> {
    let mut older = bench(framing, older);
    let mut after = Bench::new(framing, BatchLimits { bytes: 64, lines: 3 }, 64);
    after.append(newer);
    let pool = older.pool.clone();
    let mut shared = None;
    if let Some(record) = older.reader.open_record(&pool).unwrap() {
        let mut found = after.reader.continuation_of(&record, &pool).unwrap();
        if let Continuation::Open(part) = &found
            && part.bytes < newer.len() as u64
        {
            after.append(terminator); // of the line that is being written
            found = after.reader.continuation_of(&record, &pool).unwrap();
        }
        if let Continuation::Open(part) | Continuation::Whole(part) = found {
            let batch = older.reader.finish_with(&record, &part.text, &pool).unwrap().unwrap();
            shared = Some(text_of(&batch).into_bytes());
            assert!(after.reader.pass(&part, &pool).unwrap());
        }
    }
    let texts = |bench: &mut Bench| -> Vec<Vec<u8>> {
        let limits = bench.limits;
        let pool = bench.pool.clone();
        while let tailmill_tail::Read::Batch(batch) = bench.reader.finish(&limits, &pool).unwrap() {
            bench.batches.push(batch);
        }
        let lines = bench.batches.iter().flat_map(|batch| {
            let places = batch.starts.iter().zip(&batch.ends);
            places.map(|(&start, &end)| batch.chunk[start as usize..end as usize].to_vec())
        });
        lines.collect()
    };
    [texts(&mut older), shared.into_iter().collect(), texts(&mut after)].concat()
}

fn any_line() -> impl Strategy<Value = String> {
    prop_oneof!["start [ab]{0,4}", "[ab]{0,6}", "[ab]{0,3};", " [ab]{0,4}", "[ab]{35,45}", Just("gr\u{fc}n".to_owned())]
}

proptest! {
    #![proptest_config(scripts(600))]

    #[test]
    fn a_record_cut_by_a_rotation_is_the_record_that_an_uncut_file_holds(
        older in prop::collection::vec(any_line(), 1..8),
        newer in prop::collection::vec(any_line(), 0..8),
        half in any::<bool>(),
        rule in 0..3,
        form in 0..3,
    ) {
        let rule = match rule {
            0 => MultilineRule::Start(regex("^start")),
            1 => MultilineRule::End(regex(";$")),
            _ => MultilineRule::Continue(regex("^ ")),
        };
        let mut framing = joined(rule, 40, 30, TooLong::Cut);
        let terminator = if form == 1 { "|" } else { "\n" };
        if form == 1 {
            framing.delimiter = Delimiter::of_bytes(b"|").unwrap();
        }
        let utf_16 = form == 2;
        if utf_16 {
            framing.encoding = Some(TextEncoding::for_label("utf-16le").unwrap());
        }
        let bytes = |text: &str| match utf_16 {
            true => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            false => text.as_bytes().to_vec(),
        };
        let whole = |lines: &[String]| lines.iter().map(|line| format!("{line}{terminator}")).collect::<String>();
        let (older, mut newer) = (whole(&older), whole(&newer));
        if half {
            newer.truncate(newer.len().saturating_sub(1));
        }
        let all = expected(&bytes(&format!("{older}{newer}")), &framing, true);
        let wanted: Vec<Vec<u8>> = all.lines.into_iter().map(|(text, _)| text).collect();
        // Where the file has a byte order mark of its own, it is no part of the record.
        let mark = if utf_16 && !newer.is_empty() { "\u{feff}" } else { "" };
        let found = both(&framing, &bytes(&older), &bytes(&format!("{mark}{newer}")), &bytes(terminator));
        prop_assert_eq!(found, wanted);
    }
}

//! What a reader does when its file is not simply growing: truncated, rewritten, another one, endless.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Bench, joined, plain, regex};
use tailmill_tail::{BatchLimits, BufferPool, Evidence, Framing, MultilineRule, Read, ReadError, Reader, TooLong};

fn pool() -> BufferPool {
    BufferPool::new(256 * 1024, 4)
}

fn open(path: &Path) -> Reader {
    Reader::new(File::open(path).unwrap(), 0, Evidence::default(), Arc::new(Framing::default())).unwrap()
}

/// Reads to the end; how many lines came.
fn drain(reader: &mut Reader) -> usize {
    let mut lines = 0;
    loop {
        match reader.read(&BatchLimits::default(), &pool()).unwrap() {
            Read::Batch(batch) => lines += batch.len(),
            Read::Working | Read::Waiting => {}
            Read::AtEnd { .. } => return lines,
            Read::Truncated { .. } => panic!("truncated, which nobody did"),
        }
    }
}

fn is_truncated(reader: &mut Reader) -> bool {
    matches!(reader.read(&BatchLimits::default(), &pool()).unwrap(), Read::Truncated { .. })
}

/// What is left of `before` is replaced by `after` in the same file.
fn check_replaced(before: &[u8], after: &[u8], closed_meanwhile: bool) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, before).unwrap();
    let mut reader = open(&path);
    drain(&mut reader);
    if closed_meanwhile {
        reader.close();
    }
    std::fs::write(&path, after).unwrap();
    if closed_meanwhile && reader.reopen(File::open(&path).unwrap()).is_err() {
        return true;
    }
    is_truncated(&mut reader)
}

#[test]
fn a_file_that_was_truncated_is_another_generation_also_when_it_has_grown_past_the_old_position() {
    let long = b"what stood there before\n".repeat(1000);
    let other = b"something else entirely\n".repeat(1000);
    let longer = b"something else entirely\n".repeat(2000);
    for closed in [false, true] {
        assert!(check_replaced(&long, b"", closed), "empty");
        assert!(check_replaced(&long, b"new\n", closed), "shorter");
        assert!(check_replaced(&long, &other, closed), "of the same size");
        assert!(check_replaced(&long, &longer, closed), "longer");
        assert!(!check_replaced(&long, &[&long[..], b"more\n"].concat(), closed), "grown");
        assert!(!check_replaced(b"a\n", b"a\nb\n", closed), "small and grown");
        assert!(check_replaced(b"a\n", b"b\nb\n", closed), "small and replaced");
    }
}

#[test]
fn a_partial_line_that_was_seen_and_is_another_one_now_makes_a_new_file() {
    assert!(check_replaced(b"no newline yet", b"new\n", false));
}

#[test]
fn a_reader_refuses_a_file_that_is_not_the_one_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("log"), dir.path().join("other"));
    std::fs::write(&path, b"one\ntwo\n").unwrap();
    std::fs::write(&other, b"uno\ndue\ntre\n").unwrap();
    let mut reader = open(&path);
    drain(&mut reader);
    let (from, evidence) = (reader.position(), reader.evidence());
    let framing = Arc::new(Framing::default());
    let again = Reader::new(File::open(&other).unwrap(), from, evidence, framing.clone());
    assert!(matches!(again, Err(ReadError::OtherContent)));
    reader.close();
    assert!(matches!(reader.read(&BatchLimits::default(), &pool()), Err(ReadError::Closed)));
    assert!(matches!(reader.reopen(File::open(&other).unwrap()), Err(ReadError::OtherContent)));
    assert!(!reader.is_open());
    reader.reopen(File::open(&path).unwrap()).unwrap();
    assert_eq!(drain(&mut reader), 0);
    std::fs::write(&path, b"one\n").unwrap();
    let again = Reader::new(File::open(&path).unwrap(), from, evidence, framing);
    assert!(matches!(again, Err(ReadError::TooShort { size: 4, wanted: 8 })));
}

#[test]
fn a_reader_goes_on_where_another_one_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    std::fs::write(&path, line.repeat(5000)).unwrap();
    let mut first = open(&path);
    let Read::Batch(batch) = first.read(&BatchLimits::default(), &pool()).unwrap() else { panic!("no batch") };
    // A mark inside a batch: the evidence is of its start.
    let mark = batch.line_ends[7];
    let file = File::open(&path).unwrap();
    let mut second = Reader::new(file, mark, batch.evidence, Arc::new(Framing::default())).unwrap();
    assert_eq!(drain(&mut second), 5000 - 8);
    drain(&mut first);
    assert_eq!(first.evidence(), second.evidence());
}

#[test]
fn a_file_begun_at_its_end_gives_only_what_comes_later_and_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for size in [100, 3_000_000] {
        std::fs::write(&path, b"0123456789 old\n".repeat(size / 15)).unwrap();
        let from = std::fs::metadata(&path).unwrap().len();
        let file = File::open(&path).unwrap();
        let mut reader = Reader::new(file, from, Evidence::default(), Arc::new(Framing::default())).unwrap();
        assert_eq!(drain(&mut reader), 0);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"new\n").unwrap();
        assert_eq!(drain(&mut reader), 1);
        let evidence = reader.evidence();
        reader.rewind(from, Evidence { ..evidence }).unwrap_err();
        std::fs::write(&path, b"0123456789 odd\n".repeat(size / 15 + 10)).unwrap();
        assert!(is_truncated(&mut reader));
    }
}

#[test]
fn an_endless_line_is_passed_over_in_bounded_memory_and_only_when_its_end_is_seen() {
    for (too_long, lines) in [(TooLong::Cut, 1), (TooLong::Skip, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = File::create(&path).unwrap();
        // A sparse hole: NUL bytes that take no room on the disk.
        let end: u64 = 40 * 1024 * 1024;
        file.set_len(end).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        let framing = Arc::new(plain(1000, too_long));
        let mut reader = Reader::new(File::open(&path).unwrap(), 0, Evidence::default(), framing).unwrap();
        let mut turns = 0;
        let waiting = loop {
            match reader.read(&BatchLimits::default(), &pool()).unwrap() {
                Read::Working | Read::Waiting => turns += 1,
                Read::AtEnd { partial_bytes } => break partial_bytes,
                other => panic!("{other:?} before the end of the line was seen"),
            }
        };
        assert!(turns >= 4, "a turn of others came in between: {turns}");
        assert_eq!((waiting, reader.position()), (end, 0));
        file.write_all_at(b"\nnext\n", end).unwrap();
        let Read::Batch(batch) = reader.read(&BatchLimits::default(), &pool()).unwrap() else { panic!("no batch") };
        assert_eq!((batch.len(), batch.end_offset), (lines, end + 1));
        assert!(batch.chunk.pinned_bytes() <= 256 * 1024);
        if lines == 1 {
            assert_eq!((batch.line(0).len(), &batch.line(0)[..5], batch.cut_lines), (1000, &b"begin"[..], 1));
        } else {
            assert_eq!((batch.skipped_lines, batch.skipped_bytes), (1, end + 1));
        }
        assert_eq!(drain(&mut reader), 1);
        let whole = reader.evidence();
        assert_eq!(whole.check_all(&File::open(&path).unwrap()).unwrap(), tailmill_tail::evidence::Verdict::Same);
    }
}

#[test]
fn a_join_waits_for_its_timeout_which_begins_again_when_more_comes() {
    let framing = joined(MultilineRule::Start(regex("^start")), 1000, 1000, TooLong::Cut);
    let hour = Duration::from_secs(3600);
    let mut bench = Bench::new(&framing, BatchLimits::default(), 4096);
    bench.append(b"start\n a\n");
    bench.read_to_end(false);
    let due = bench.reader.join_due().expect("a join waits");
    let soon = due - Duration::from_secs(1);
    let at = |bench: &mut Bench, now: Instant| bench.reader.read_due(&bench.limits, &bench.pool, now).unwrap();
    assert!(matches!(at(&mut bench, soon), Read::AtEnd { partial_bytes: 9 }));
    bench.append(b" b\n");
    assert!(matches!(at(&mut bench, due + hour), Read::AtEnd { partial_bytes: 12 }), "grown: it waits again");
    let due = bench.reader.join_due().expect("it still waits");
    let Read::Batch(batch) = at(&mut bench, due) else { panic!("due, and not complete") };
    assert_eq!((batch.len(), batch.line(0), batch.end_offset), (1, &b"start\n a\n b"[..], 12));
    assert_eq!(bench.reader.join_due(), None);
}

#[test]
fn a_partial_line_never_times_out() {
    let framing = joined(MultilineRule::Start(regex("^start")), 1000, 1000, TooLong::Cut);
    let mut bench = Bench::new(&framing, BatchLimits::default(), 4096);
    bench.append(b"start of a line");
    bench.read_to_end(false);
    assert_eq!(bench.reader.join_due(), None);
}

#[test]
fn a_few_bytes_do_not_pin_a_large_buffer() {
    let mut bench = Bench::new(&Framing::default(), BatchLimits::default(), 256 * 1024);
    bench.append(b"one small line\n");
    bench.read_to_end(false);
    assert!(bench.batches[0].chunk.pinned_bytes() < 1024);
}

#[test]
fn several_batches_share_one_buffer_when_lines_are_short() {
    let mut bench = Bench::new(&Framing::default(), BatchLimits { bytes: 4096, lines: 100 }, 4096);
    bench.append(&b"0123456\n".repeat(512));
    bench.read_to_end(false);
    let at = |i: usize| bench.batches[i].chunk.as_ptr();
    assert_eq!(bench.batches.len(), 6);
    assert!((1..6).all(|i| at(i) == at(0)));
}

#[test]
fn framing_may_change_between_two_batches() {
    let mut bench = Bench::new(&Framing::default(), BatchLimits { bytes: 4096, lines: 1 }, 4096);
    bench.append(b"aaaa\nbbbb\ncccc\n");
    assert!(bench.step(false));
    bench.reader.set_framing(Arc::new(plain(2, TooLong::Cut)));
    bench.read_to_end(false);
    let lines: Vec<_> = bench.outcome().lines.into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [&b"aaaa"[..], b"bb", b"cc"]);
}

#[test]
fn a_sparse_file_takes_what_its_blocks_take_and_not_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"the only line\n", 0).unwrap();
    file.set_len(64 << 20).unwrap();
    file.sync_all().unwrap();
    let mut reader = open(&path);
    assert_eq!(reader.size().unwrap(), 64 << 20);
    assert!(reader.disk_bytes().unwrap() <= 1 << 20, "{} bytes", reader.disk_bytes().unwrap());
    reader.close();
    assert!(reader.disk_bytes().is_err());
}

#[test]
fn a_closed_reader_is_parked_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "one\ntwo\nhalf").unwrap();
    let mut reader = open(&path);
    assert!(reader.park().is_none(), "it is open");
    assert_eq!(drain(&mut reader), 2);
    reader.close();
    let (position, evidence) = (reader.position(), reader.evidence());
    let mut woken = reader.park().expect("it is closed").wake();
    assert_eq!((woken.position(), woken.evidence(), woken.is_open()), (position, evidence, false));
    std::fs::write(&path, "one\ntwo\nhalf a line\nfour\n").unwrap();
    woken.reopen(File::open(&path).unwrap()).unwrap();
    let Read::Batch(batch) = woken.read(&BatchLimits::default(), &pool()).unwrap() else { panic!("lines") };
    assert_eq!((batch.first_line, batch.line(0), batch.len()), (Some(3), &b"half a line"[..], 2));
    // And it still knows what stood before.
    woken.close();
    let mut woken = woken.park().expect("closed again").wake();
    std::fs::write(&path, "another\nfile of more bytes than before\n").unwrap();
    let refused = woken.reopen(File::open(&path).unwrap());
    assert!(refused.is_err() || is_truncated(&mut woken));
}

/// The numbers of the lines that are read from `from` on, where they are known.
fn numbers(reader: &mut Reader) -> Vec<Option<u64>> {
    let mut numbers = Vec::new();
    let limits = BatchLimits { bytes: 64, lines: 3 };
    while let Read::Batch(batch) = reader.read(&limits, &pool()).unwrap() {
        let joined =
            |i: usize| (0..i).map(|i| batch.physicals.get(i).map_or(1, |count| u64::from(*count))).sum::<u64>();
        numbers.extend((0..batch.len()).map(|i| batch.first_line.map(|first| first + joined(i))));
    }
    numbers
}

#[test]
fn line_numbers_go_on_over_a_restart_from_any_mark() {
    let lines: Vec<String> = (1..=40).map(|i| format!("line {i} {}\n", "x".repeat(i % 7))).collect();
    let check = |framing: Framing, encode: fn(&str) -> Vec<u8>| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let encoded: Vec<Vec<u8>> = lines.iter().map(|line| encode(line)).collect();
        std::fs::write(&path, encoded.concat()).unwrap();
        let again = |from, evidence| {
            Reader::new(File::open(&path).unwrap(), from, evidence, Arc::new(framing.clone())).unwrap()
        };
        assert_eq!(numbers(&mut again(0, Evidence::default())), (1..=40).map(Some).collect::<Vec<_>>());
        let mut first = again(0, Evidence::default());
        let Read::Batch(batch) = first.read(&BatchLimits { bytes: 400, lines: 5 }, &pool()).unwrap() else { panic!() };
        let boundary = first.evidence();
        assert_eq!((batch.len(), boundary.line), (5, Some(6)));
        let mut from = boundary.at;
        for line in 6..=40 {
            let expected: Vec<_> = (line..=40).map(Some).collect();
            assert_eq!(numbers(&mut again(from, boundary)), expected, "from line {line} on");
            from += encoded[line as usize - 1].len() as u64;
        }
        let unknown = numbers(&mut again(boundary.at, Evidence { line: None, ..boundary }));
        assert_eq!(unknown, vec![None; 35], "begun in the middle");
    };
    check(Framing::default(), |line| line.as_bytes().to_vec());
    let utf16 = tailmill_tail::TextEncoding::for_label("utf-16le").unwrap();
    check(Framing { encoding: Some(utf16), ..Framing::default() }, |line| {
        line.encode_utf16().flat_map(u16::to_le_bytes).collect()
    });
    let delimiter = tailmill_tail::Delimiter::Bytes(Arc::from(&b"\r\n;"[..]));
    check(Framing { delimiter, ..Framing::default() }, |line| line.replace('\n', "\r\n;").into_bytes());
}

#[test]
fn a_joined_line_has_the_number_of_its_first_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "# one\n  a\n  b\n# two\n# three\n  c\n# four\n").unwrap();
    let multiline = tailmill_tail::Multiline {
        rule: MultilineRule::Start(regex("^#")),
        timeout: Duration::from_secs(3600),
        bytes_max: 1000,
    };
    let framing = Framing { multiline: Some(multiline), ..Framing::default() };
    let mut reader = Reader::new(File::open(&path).unwrap(), 0, Evidence::default(), Arc::new(framing)).unwrap();
    assert_eq!(numbers(&mut reader), [Some(1), Some(4), Some(5)]);
}

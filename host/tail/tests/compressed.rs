//! What a reader does with compressed files that are not as they should be, or large.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use common::{Bench, pack};
use tailmill_tail::{
    BatchLimits, BufferPool, Evidence, Framing, PackedProblem, Packing, Read, ReadError, Reader, TooLong, Unpackers,
};

const BOTH: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

fn framing() -> Framing {
    Framing { compressed: true, ..Framing::default() }
}

fn open(path: &Path) -> Reader {
    Reader::new(File::open(path).unwrap(), 0, Evidence::default(), Arc::new(framing())).unwrap()
}

/// Reads what there is: the lines, the turns that were needed beside, and what waits. `Err`: truncated.
fn drain(reader: &mut Reader, finish: bool) -> Result<(Vec<Vec<u8>>, usize, u64), u64> {
    let pool = BufferPool::new(256 * 1024, 4);
    let (mut lines, mut turns) = (vec![], 0);
    loop {
        let read = match finish {
            true => reader.finish(&BatchLimits::default(), &pool),
            false => reader.read(&BatchLimits::default(), &pool),
        };
        match read.unwrap() {
            Read::Batch(batch) => lines.extend((0..batch.len()).map(|i| batch.line(i).to_vec())),
            Read::Working | Read::Waiting => turns += 1,
            Read::AtEnd { partial_bytes } => return Ok((lines, turns, partial_bytes)),
            Read::Truncated { size } => return Err(size),
        }
    }
}

/// Lines that do not compress well.
fn noise(lines: usize) -> Vec<u8> {
    (0..lines as u32).flat_map(|i| format!("{:x} {i}\n", i.wrapping_mul(2_654_435_761)).into_bytes()).collect()
}

fn is_beginning(lines: &[Vec<u8>], content: &[u8]) -> bool {
    content.starts_with(&lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<u8>>())
}

#[test]
fn a_file_that_is_cut_off_waits_and_is_reported_once_when_it_is_finished() {
    for packing in BOTH {
        let content = noise(100_000);
        let packed = pack(&content, Some(packing));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.gz");
        std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
        let mut reader = open(&path);
        let (lines, ..) = drain(&mut reader, false).unwrap();
        assert!(lines.len() > 10_000 && is_beginning(&lines, &content), "{packing:?}: {}", lines.len());
        assert_eq!(reader.take_problem(), None, "it may still be written");
        let (rest, ..) = drain(&mut reader, true).unwrap();
        assert!(rest.len() <= 1);
        assert!(matches!(reader.take_problem(), Some(PackedProblem::CutOff { .. })), "{packing:?}");
        drain(&mut reader, true).unwrap();
        assert_eq!(reader.take_problem(), None, "once");
    }
}

#[test]
fn what_is_damaged_gives_everything_before_the_damage_and_is_reported_once() {
    for packing in BOTH {
        let content = noise(100_000);
        let mut packed = pack(&content, Some(packing));
        let middle = packed.len() / 2;
        packed[middle..].fill(0xff);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.gz");
        std::fs::write(&path, &packed).unwrap();
        let mut reader = open(&path);
        let (lines, ..) = drain(&mut reader, false).unwrap();
        let Some(PackedProblem::Damaged { at, .. }) = reader.take_problem() else { panic!("{packing:?}: no problem") };
        // There are no sums on the way: what is wrong is seen a block late, perhaps.
        let sound = &lines[..lines.len() / 4 * 3];
        assert!(sound.len() > 10_000 && is_beginning(sound, &content), "{packing:?}");
        assert!(at >= reader.position());
        drain(&mut reader, true).unwrap();
        assert_eq!(reader.take_problem(), None, "once");
    }
}

#[test]
fn a_wrong_checksum_and_what_stands_behind_the_last_member_are_damage() {
    let sound = pack(b"one\n", Some(Packing::Gzip));
    let mut wrong = sound.clone();
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    for (packed, problem) in [
        (wrong, true),
        ([&sound[..], b"garbage"].concat(), true),
        ([&sound[..], &[0; 512]].concat(), false),
        ([&sound[..], &sound].concat(), false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.gz");
        std::fs::write(&path, &packed).unwrap();
        let mut reader = open(&path);
        let (lines, ..) = drain(&mut reader, true).unwrap();
        assert_eq!(lines[0], b"one");
        assert_eq!(reader.take_problem().is_some(), problem);
    }
}

#[test]
fn a_bomb_is_read_in_bounded_memory_and_in_turns() {
    for packing in BOTH {
        let bomb = pack(&vec![b'x'; 100 << 20], Some(packing));
        assert!(bomb.len() < 1 << 20);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.gz");
        std::fs::write(&path, [&bomb[..], &pack(b"\nnext\n", Some(packing))].concat()).unwrap();
        let framing = Arc::new(Framing { line_bytes_max: 1000, too_long: TooLong::Cut, ..framing() });
        let mut reader = Reader::new(File::open(&path).unwrap(), 0, Evidence::default(), framing).unwrap();
        let before = peak_bytes();
        let (lines, turns, _) = drain(&mut reader, false).unwrap();
        assert_eq!((lines.len(), lines[0].len(), &lines[1][..]), (2, 1000, &b"next"[..]));
        assert!(turns >= 10, "{turns} turns");
        assert!(peak_bytes() - before < 32 << 20, "{} bytes more", peak_bytes() - before);
    }
}

/// Most memory that this process ever had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn after_a_restart_the_content_is_passed_over_in_turns_and_compared() {
    for packing in BOTH {
        let content = noise(2_000_000);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.gz");
        std::fs::write(&path, pack(&content, Some(packing))).unwrap();
        let mut first = open(&path);
        let (lines, ..) = drain(&mut first, false).unwrap();
        assert_eq!(lines.len(), 2_000_000);
        let (from, evidence) = (first.position(), first.evidence());
        assert_eq!(from, content.len() as u64);
        let size = std::fs::metadata(&path).unwrap().len();
        assert_eq!(evidence.packed_bytes, Some(size), "all of it holds what was read");

        let again =
            |from, evidence| Reader::new(File::open(&path).unwrap(), from, evidence, Arc::new(framing())).unwrap();
        assert_eq!(drain(&mut again(from, evidence), false), Ok((vec![], 0, 0)), "nothing is unpacked for nothing");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&pack(b"more\n", Some(packing))).unwrap();
        let (lines, turns, _) = drain(&mut again(from, evidence), false).unwrap();
        assert_eq!(lines, [b"more"]);
        assert!(turns >= 3, "{turns} turns");
        let other = Evidence { rest_hash: evidence.rest_hash ^ 1, ..evidence };
        assert!(drain(&mut again(from, other), false).is_err(), "another content");
    }
}

#[test]
fn a_file_is_unpacked_by_what_it_holds_and_not_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.gz");
    std::fs::write(&path, b"plain\n").unwrap();
    let mut reader = open(&path);
    assert_eq!(drain(&mut reader, false).unwrap().0, [b"plain"]);
    assert_eq!(reader.evidence().packed_bytes, None);
    let known = reader.evidence();
    std::fs::write(&path, pack(b"packed\n", Some(Packing::Gzip))).unwrap();
    assert!(drain(&mut reader, false).is_err(), "it is another file now");
    let taken_up = Reader::new(File::open(&path).unwrap(), 6, known, Arc::new(framing()));
    assert!(matches!(taken_up, Err(ReadError::OtherContent)));
}

#[test]
fn a_compressed_file_that_is_replaced_in_place_is_another_generation() {
    for packing in BOTH {
        let mut bench = Bench::packed(&Framing::default(), BatchLimits::default(), 4096, Some(packing));
        bench.append(&noise(1000));
        bench.read_to_end(false);
        let size = bench.file().metadata().unwrap().len();
        let other = pack(&noise(3000)[5000..], Some(packing));
        assert!(other.len() as u64 > size);
        bench.replace(&other);
        let pool = BufferPool::new(4096, 1);
        assert!(matches!(bench.reader.read(&BatchLimits::default(), &pool).unwrap(), Read::Truncated { .. }));
    }
}

/// Reads one batch of a few lines. None: it has to wait, or is at its end.
fn some_lines(reader: &mut Reader, pool: &BufferPool) -> Option<Vec<Vec<u8>>> {
    let limits = BatchLimits { bytes: 16 * 1024, lines: 100 };
    loop {
        match reader.read(&limits, pool).unwrap() {
            Read::Batch(batch) => return Some((0..batch.len()).map(|i| batch.line(i).to_vec()).collect()),
            Read::Working => {}
            Read::Waiting | Read::AtEnd { .. } => return None,
            Read::Truncated { .. } => panic!("truncated, which nobody did"),
        }
    }
}

#[test]
fn so_many_zstd_files_hold_windows_at_once_and_the_others_wait_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..4).map(|i| noise(50_000 + i)).collect();
    let mut readers = Vec::new();
    for (i, content) in contents.iter().enumerate() {
        let path = dir.path().join(format!("{i}.zst"));
        std::fs::write(&path, pack(content, Some(Packing::Zstd))).unwrap();
        readers.push(open(&path));
    }
    let unpackers = Unpackers::new(2);
    let pool = BufferPool::new(16 * 1024, 4).with_unpackers(unpackers.clone());
    let mut lines: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 4];
    let mut went = [false; 4];
    for (i, reader) in readers.iter_mut().enumerate() {
        let some = some_lines(reader, &pool);
        went[i] = some.is_some();
        lines[i].extend(some.into_iter().flatten());
    }
    assert_eq!(went, [true, true, false, false]);
    assert_eq!((unpackers.room(), readers[0].is_unpacking(), readers[2].is_unpacking()), (0, true, false));
    // One that cannot go on lets go; the next one has room as soon as its turn has come.
    readers[0].stop_unpacking();
    unpackers.let_in(false);
    assert!(some_lines(&mut readers[2], &pool).is_none());
    unpackers.let_in(true);
    lines[2].extend(some_lines(&mut readers[2], &pool).expect("there is room"));
    assert!(some_lines(&mut readers[0], &pool).is_none(), "nobody has two");
    // Each in its turn comes to its end, the first one again from its beginning: no line is missing or repeated.
    for i in [1, 2, 3, 0] {
        while let Some(some) = some_lines(&mut readers[i], &pool) {
            lines[i].extend(some);
        }
        assert!(!readers[i].is_unpacking());
        let content: Vec<u8> = lines[i].iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
        assert!(content == contents[i], "file {i}");
    }
    assert_eq!(unpackers.room(), 2);
}

#[test]
fn gzip_files_need_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.gz");
    std::fs::write(&path, pack(&noise(1000), Some(Packing::Gzip))).unwrap();
    let pool = BufferPool::new(16 * 1024, 4).with_unpackers(Unpackers::new(0));
    let mut reader = open(&path);
    assert_eq!(some_lines(&mut reader, &pool).expect("lines").len(), 100);
}

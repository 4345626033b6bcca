//! The store over restarts, damage and repair.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use super::super::records::{ResumePoint, StageSnapshot, sample};
use super::super::repair::{Repaired, repair};
use super::*;
use tailmill_engine::Digest;
use tailmill_tail::FileId;

fn with_state(entry: &str, file: u128, offset: u64) -> StreamRecord {
    let stage = StageSnapshot {
        name: "join".into(),
        digest: Digest::of(b"join"),
        state: (0..100_000u32).map(|i| (i * 7) as u8).collect(),
        next_seq: 12,
        oldest_held: Some(offset - 1),
    };
    StreamRecord { resume: ResumePoint::Snapshot { offset, stages: vec![stage] }, ..sample(entry, file, offset) }
}

fn records(records: &[StreamRecord]) -> Changes<'_> {
    Changes { records, ..Changes::default() }
}

/// A directory whose store was written over several commits and closed.
fn written() -> (tempfile::TempDir, Vec<StreamRecord>) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let seen = ["a".to_owned(), "b".to_owned()];
    for round in 1..20 {
        let all: Vec<StreamRecord> = (0..30).map(|file| sample("a", file, round * 100)).collect();
        store.commit(records(&all)).unwrap();
    }
    let last = [with_state("b", 1, 500)];
    store.commit(Changes { records: &last, entries_seen: &seen, ..Changes::default() }).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.len(), 31);
    (dir, loaded)
}

fn flip(path: &Path, at: u64, with: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= with;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (sample("a", 1, 10), with_state("b", u128::MAX, 20));
    {
        let mut store = Store::open(dir.path()).unwrap();
        assert!(store.load().unwrap().is_empty());
        let seen = ["b".to_owned()];
        store
            .commit(Changes { records: &[first.clone(), second.clone()], entries_seen: &seen, ..Changes::default() })
            .unwrap();
    }
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load().unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.entries_seen().unwrap(), ["b"]);
    let gone = [first.key()];
    let moved = sample("b", u128::MAX, 30);
    store.commit(Changes { records: std::slice::from_ref(&moved), removed: &gone, ..Changes::default() }).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap(), [moved]);
}

#[test]
fn a_kill_between_commits_costs_nothing_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    for offset in 1..10 {
        store.commit(records(&[sample("a", 1, offset)])).unwrap();
        // The file as a kill at this moment would leave it: not closed.
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join(STORE_FILE), copy.path().join(STORE_FILE)).unwrap();
        assert_eq!(Store::open(copy.path()).unwrap().load().unwrap(), [sample("a", 1, offset)]);
    }
}

#[test]
fn a_second_agent_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let message = Store::open(dir.path()).unwrap_err().to_string();
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    assert!(matches!(repair(dir.path()), Err(StoreError::Locked { .. })), "repair waits for the agent too");
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_newer_format_is_left_alone() {
    let (dir, _) = written();
    let path = dir.path().join(STORE_FILE);
    {
        let db = Database::open(&path).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(META_VERSION, FORMAT_VERSION + 1).unwrap();
        transaction.commit().unwrap();
    }
    for message in [Store::open(dir.path()).unwrap_err().to_string(), repair(dir.path()).unwrap_err().to_string()] {
        assert!(message.contains("format version 2") && message.contains("newer tailmill"), "{message}");
    }
}

#[test]
fn a_damaged_store_is_refused_and_says_what_to_run() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("not a store at all", |path| std::fs::write(path, b"hello").unwrap()),
        ("emptied", |path| std::fs::write(path, b"").unwrap()),
        ("cut in half", |path| {
            let length = std::fs::metadata(path).unwrap().len();
            OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        }),
        ("its header overwritten", |path| {
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&[0xa5; 512]).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let (dir, _) = written();
        let path = dir.path().join(STORE_FILE);
        damage(&path);
        let before = std::fs::read(&path).unwrap();
        let message = Store::open(dir.path()).expect_err(what).to_string();
        assert!(message.contains("tailmill state repair"), "{what}: {message}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{what}: nothing was changed");
    }
}

#[test]
fn a_flipped_byte_anywhere_is_refused_or_leads_to_nothing_newer_than_was_written() {
    let (dir, good) = written();
    let path = dir.path().join(STORE_FILE);
    let sound = std::fs::read(&path).unwrap();
    let mut refused = 0;
    // The header, and samples of the pages.
    let places = (0..320).step_by(3).chain((320..sound.len() as u64).step_by(sound.len() / 60));
    for at in places {
        std::fs::write(&path, &sound).unwrap();
        flip(&path, at, 0x41);
        match Store::open(dir.path()).and_then(|store| store.load()) {
            Err(StoreError::Damaged { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
            Ok(loaded) => {
                // redb fell back to its last commit but one.
                let newest =
                    |record: &StreamRecord| good.iter().any(|good| good.resume.offset() >= record.resume.offset());
                assert!(loaded.iter().all(newest), "byte {at}");
                assert!(loaded.len() >= 30, "byte {at}: {} records", loaded.len());
            }
        }
    }
    assert!(refused > 10, "only {refused} were refused");
}

#[test]
fn repair_sets_the_damaged_store_aside_and_saves_what_can_be_read() {
    let (dir, good) = written();
    let path = dir.path().join(STORE_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let repaired = repair(dir.path()).unwrap();
    let aside = dir.path().join("tailmill.redb.damaged-1");
    assert_eq!(repaired, Repaired { aside: Some(aside.clone()), streams: 31, entries: 2 });
    assert_eq!(std::fs::read(aside).unwrap(), bytes, "the damaged file is kept as it was");
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load().unwrap(), good, "the newest version of each record");
    assert_eq!(store.entries_seen().unwrap(), ["a", "b"]);
}

#[test]
fn repair_never_overwrites_what_an_earlier_one_set_aside() {
    let (dir, _) = written();
    for number in 1..=2 {
        std::fs::write(dir.path().join(STORE_FILE), format!("damage {number}")).unwrap();
        let aside = repair(dir.path()).unwrap().aside.unwrap();
        assert_eq!(std::fs::read_to_string(aside).unwrap(), format!("damage {number}"));
    }
    assert!(Store::open(dir.path()).unwrap().load().unwrap().is_empty());
}

#[test]
fn repair_of_a_sound_store_changes_nothing() {
    let (dir, good) = written();
    assert_eq!(repair(dir.path()).unwrap(), Repaired { aside: None, streams: 31, entries: 2 });
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap(), good);
}

#[test]
fn after_a_failed_write_the_store_is_opened_again_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(records(&[sample("a", 1, 1)])).unwrap();
    // What an I/O error leaves behind: the database is gone, and its file cannot be opened for a while.
    store.db = None;
    let (path, away) = (dir.path().join(STORE_FILE), dir.path().join("away"));
    std::fs::rename(&path, &away).unwrap();
    assert!(matches!(store.commit(records(&[sample("a", 1, 2)])), Err(StoreError::Io { .. })));
    std::fs::rename(&away, &path).unwrap();
    store.commit(records(&[sample("a", 1, 3)])).unwrap();
    assert_eq!(store.load().unwrap(), [sample("a", 1, 3)]);
    assert_eq!(store.load().unwrap()[0].file, FileId(1));
}

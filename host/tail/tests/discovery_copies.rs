//! What is a copy and what is not: copies that match the pattern, compressed ones, generations that nobody saw. In
//! doubt lines come twice, and none is missing.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use common::world::{World, strings};

const LONG: Duration = Duration::from_secs(100_000);

/// Lines that tell one content from another, enough of them to prove it.
fn distinct(from: usize, count: usize) -> String {
    (from..from + count).map(|i| format!("{i:06} a line that is like no other\n")).collect()
}

/// A world that holds back what may be a copy for `LONG`.
fn holding(pattern: &str) -> World {
    let mut w = World::new(&[pattern]);
    w.copy_hold = LONG;
    w.restart();
    w
}

fn truncate(w: &World, name: &str) {
    fs::File::create(w.path(name)).unwrap();
}

#[test]
fn a_copytruncate_copy_that_matches_the_pattern_is_not_read_again() {
    // Seen at any moment: before it holds a byte, half-way, whole, after the truncation, and after the new lines.
    for moment in 0..6 {
        let mut w = holding("app.log*");
        w.append("app.log", &distinct(0, 200));
        w.expect(&["A opened app.log", "e seen"]);
        w.read('A');
        let content = fs::read(w.path("app.log")).unwrap();
        let look = |w: &mut World, now: usize| {
            if now == moment {
                let said = w.scan();
                assert!(said.is_empty() || said == ["A shrank"], "{moment}: {said:?}");
            }
        };
        fs::write(w.path("app.log.1"), "").unwrap();
        look(&mut w, 0);
        fs::write(w.path("app.log.1"), &content[..1000]).unwrap();
        look(&mut w, 1);
        fs::write(w.path("app.log.1"), &content).unwrap();
        look(&mut w, 2);
        truncate(&w, "app.log");
        look(&mut w, 3);
        w.append("app.log", &distinct(1000, 10));
        look(&mut w, 4);
        w.scan();
        w.read('A');
        w.expect(&["A shipped already as app.log.1", "B opened app.log"]);
        w.read('B');
        w.expect(&[]);
        assert_eq!(w.delivered.len(), 210, "{moment}");
    }
}

#[test]
fn the_unread_rest_of_a_truncated_file_is_read_from_a_copy_that_matches_the_pattern_too() {
    let mut w = holding("app.log*");
    w.append("app.log", &distinct(0, 200));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.append("app.log", "unread\n");
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    truncate(&w, "app.log");
    w.append("app.log", "new\n");
    w.expect(&["A shrank"]);
    w.read('A');
    w.expect(&["A opened again app.log.1 from 7200", "A leaves", "B opened app.log after A"]);
    assert_eq!((w.finish('A'), w.read('B')), (strings(&["unread"]), strings(&["new"])));
    w.expect(&[]);
}

#[test]
fn a_copytruncate_faster_than_a_look_with_more_lines_than_before_is_seen() {
    let mut w = holding("app.log*");
    w.append("app.log", &distinct(0, 100));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    truncate(&w, "app.log");
    w.append("app.log", &distinct(500, 300));
    w.expect(&["A grew"]);
    w.read('A');
    w.expect(&["A shipped already as app.log.1", "B opened app.log"]);
    w.read('B');
    assert_eq!(w.delivered.len(), 400);
}

#[test]
fn a_file_truncated_and_grown_past_its_old_size_with_the_same_first_lines_is_a_new_one() {
    let mut w = World::new(&["app.log"]);
    let banner = "the same banner in every file\n".repeat(100);
    w.append("app.log", &format!("{banner}{}", distinct(0, 50)));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    fs::write(w.path("app.log"), format!("{banner}{}", distinct(500, 100))).unwrap();
    w.expect(&["A grew"]);
    assert_eq!(w.read('A'), [""; 0]);
    w.expect(&["A forgotten", "B opened app.log"]);
    assert_eq!(w.read('B').len(), 200);
}

#[test]
fn a_copy_of_a_file_that_goes_on_growing_is_a_file_of_its_own_after_a_while() {
    let mut w = holding("*.log");
    w.append("a.log", &distinct(0, 100));
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    fs::copy(w.path("a.log"), w.path("b.log")).unwrap();
    w.append("a.log", &distinct(100, 1));
    w.expect(&["A grew"]);
    w.ahead = LONG * 2;
    w.expect(&["B opened b.log"]);
    assert_eq!((w.read('A').len(), w.read('B').len()), (1, 100));
    // From then on it is known.
    w.append("b.log", "its own line\n");
    w.expect(&["B grew"]);
}

#[test]
fn a_new_file_with_other_content_is_not_held_back() {
    let mut w = holding("*.log");
    let banner = "the same banner in every file, longer than what is kept of its beginning\n";
    w.append("a.log", &format!("{banner}one\n"));
    w.expect(&["A opened a.log", "e seen"]);
    w.append("b.log", &format!("{banner}two\n"));
    w.append("c.log", "");
    w.expect(&["B opened b.log", "C opened c.log"]);
}

#[test]
fn a_held_file_that_is_deleted_meanwhile_is_read_nevertheless() {
    let mut w = holding("*.log");
    w.append("a.log", &distinct(0, 100));
    w.expect(&["A opened a.log", "e seen"]);
    fs::copy(w.path("a.log"), w.path("b.log")).unwrap();
    w.expect(&[]);
    fs::remove_file(w.path("b.log")).unwrap();
    w.expect(&[]);
    w.ahead = LONG * 2;
    w.expect(&["B opened b.log"]);
    w.expect(&["B leaves, gone"]);
    assert_eq!(w.finish('B').len(), 100);
}

#[test]
fn tiny_copies_and_copies_of_heartbeats_come_twice_rather_than_not() {
    for content in ["two\nlines\n".to_owned(), "heartbeat ok\n".repeat(1000)] {
        let mut w = holding("app.log*");
        w.append("app.log", &content);
        w.expect(&["A opened app.log", "e seen"]);
        w.read('A');
        fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
        truncate(&w, "app.log");
        w.expect(&["A shrank"]);
        w.read('A');
        let said = w.scan();
        assert!(said.iter().any(|one| one.contains("opened app.log.1")), "{said:?}");
    }
}

#[test]
fn a_file_that_was_truncated_before_a_line_of_it_was_read_is_read_from_its_copy() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "one\ntwo\n");
    w.expect(&["A opened app.log", "e seen"]);
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    truncate(&w, "app.log");
    w.append("app.log", "new\n");
    w.expect(&["A shrank"]);
    w.expect(&["A opened again app.log.1", "A leaves", "B opened app.log after A"]);
    assert_eq!((w.finish('A'), w.read('B')), (strings(&["one", "two"]), strings(&["new"])));
}

#[test]
fn what_was_seen_and_is_nowhere_any_more_is_counted() {
    for (read, lost) in [(false, 8), (true, 4)] {
        let mut w = World::new(&["app.log"]);
        w.append("app.log", "one\n");
        w.expect(&["A opened app.log", "e seen"]);
        if read {
            w.read('A');
        }
        w.append("app.log", "two\n");
        w.expect(&["A grew"]);
        truncate(&w, "app.log");
        w.scan();
        if read {
            w.read('A');
        }
        let said = w.scan();
        assert_eq!(w.lost_bytes, lost, "{said:?}");
    }
}

#[test]
fn what_is_gone_after_a_stop_is_counted() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.append("app.log", "unread\n");
    w.stop();
    fs::remove_file(w.path("app.log")).unwrap();
    w.start();
    w.expect(&["A lost 7 bytes behind 4", "A settled at 4", "e seen"]);
}

#[test]
fn a_generation_that_came_and_went_between_two_looks_is_read_in_its_turn() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    for generation in ["two\n", "three\n"] {
        if w.path("app.log.1").exists() {
            w.rename("app.log.1", "app.log.2");
        }
        w.rename("app.log", "app.log.1");
        w.append("app.log", generation);
    }
    w.append("app.log.note", "no rotation made this\n");
    w.expect(&[
        "A moved to app.log.2",
        "A leaves",
        "B opened app.log.1 after A",
        "B leaves",
        "C opened app.log after B",
    ]);
    assert_eq!(
        (w.finish('A'), w.finish('B'), w.read('C')),
        (strings(&["one"]), strings(&["two"]), strings(&["three"]))
    );
    w.expect(&[]);
}

#[test]
fn an_old_rotated_file_that_no_pattern_means_is_left_alone_at_the_next_rotation() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log.1", "from before anybody watched\n");
    let born = |name: &str| fs::metadata(w.path(name)).unwrap().created().unwrap();
    // The clock that stamps files has ticks: until the next one they were born at the same time.
    while !w.path("app.log").exists() || born("app.log") == born("app.log.1") {
        let _ = fs::remove_file(w.path("app.log"));
        w.append("app.log", "one\n");
    }
    w.expect(&["A opened app.log", "e seen"]);
    w.rename("app.log.1", "app.log.2");
    w.rename("app.log", "app.log.1");
    w.append("app.log", "two\n");
    w.expect(&["A moved to app.log.1", "A leaves", "B opened app.log after A"]);
}

#[test]
fn the_archive_of_a_finished_file_is_known_by_its_content() {
    for (kind, original_stays) in [("gz", false), ("zst", false), ("gz", true)] {
        let mut w = World::new(&["app.log", "app.log.1*"]);
        w.append("app.log", &distinct(0, 300));
        w.expect(&["A opened app.log", "e seen"]);
        w.rename("app.log", "app.log.1");
        w.expect(&["A moved to app.log.1", "A leaves"]);
        w.finish('A');
        let archive = format!("app.log.1.{kind}");
        w.pack("app.log.1", &archive);
        if original_stays {
            let said = w.scan();
            assert!(
                said.iter().any(|one| one.starts_with(&format!("problem {archive}: it looks compressed"))),
                "{said:?}"
            );
            fs::remove_file(w.path("app.log.1")).unwrap();
            let said = w.scan();
            assert!(said.contains(&format!("A shipped already as {archive}")), "{said:?}");
            continue;
        }
        fs::remove_file(w.path("app.log.1")).unwrap();
        w.expect(&[&format!("A shipped already as {archive}")]);
        w.expect(&[]);
        w.restart();
        w.expect(&[&format!("A shipped already as {archive}"), "e seen"]);
    }
}

#[test]
fn an_archive_that_is_made_while_its_file_is_read_waits_for_its_end() {
    let mut w = holding("app.log*");
    w.append("app.log", &distinct(0, 300));
    w.expect(&["A opened app.log", "e seen"]);
    w.rename("app.log", "app.log.1");
    w.pack("app.log.1", "app.log.1.gz");
    fs::remove_file(w.path("app.log.1")).unwrap();
    w.expect(&["A leaves, gone"]);
    w.expect(&[]);
    assert_eq!(w.finish('A').len(), 300);
    w.expect(&["A shipped already as app.log.1.gz"]);
}

#[test]
fn an_archive_made_while_stopped_of_a_file_that_was_read_to_its_end_is_known() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &distinct(0, 300));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.stop();
    w.pack("app.log", "app.log.1.gz");
    fs::remove_file(w.path("app.log")).unwrap();
    w.append("app.log", "new\n");
    w.start();
    w.expect(&["A shipped already as app.log.1.gz", "B opened app.log", "e seen"]);
}

#[test]
fn the_unread_rest_of_a_file_that_was_compressed_meanwhile_is_read_from_its_archive() {
    for kind in ["gz", "zst"] {
        let mut w = World::new(&["app.log"]);
        w.append("app.log", &distinct(0, 300));
        w.expect(&["A opened app.log", "e seen"]);
        w.read('A');
        w.stop();
        w.append("app.log", "unread\nlast");
        let archive = format!("app.log.1.{kind}");
        w.pack("app.log", &archive);
        fs::remove_file(w.path("app.log")).unwrap();
        w.append("app.log", "new\n");
        w.start();
        w.expect(&[&format!("A opened again {archive} from 10800"), "A leaves", "B opened app.log after A", "e seen"]);
        assert_eq!((w.finish('A'), w.read('B')), (strings(&["unread", "last"]), strings(&["new"])));
        w.expect(&[]);
        w.restart();
        w.expect(&["B opened again app.log from 4", "e seen"]);
    }
}

#[test]
fn a_finished_file_whose_birth_is_not_known_does_not_claim_an_archive_that_has_its_inode_now() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &distinct(0, 100));
    w.expect(&["A opened app.log", "e seen"]);
    w.rename("app.log", "app.log.2");
    w.append("app.log", &distinct(100, 100));
    w.expect(&["A moved to app.log.2", "A leaves", "B opened app.log after A"]);
    w.finish('A');
    w.read('B');
    w.stop();
    w.append("app.log", "unread\n");
    w.pack("app.log", "app.log.1.gz");
    fs::write(w.path("app.log"), "").unwrap();
    fs::remove_file(w.path("app.log.2")).unwrap();
    let archive = fs::metadata(w.path("app.log.1.gz")).unwrap().ino();
    let finished = w.known_mut().iter_mut().find(|known| known.finished).unwrap();
    (finished.place.inode, finished.place.born_ns) = (archive, None);
    w.start();
    w.expect(&["B opened again app.log.1.gz from 3600", "B leaves", "C opened app.log after B", "e seen"]);
}

#[test]
fn what_was_written_between_a_copy_and_the_truncation_is_counted() {
    let mut w = World::new(&["*.log"]);
    w.append("app.log", &distinct(0, 100));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.append("app.log", &distinct(100, 1000));
    w.expect(&["A grew"]);
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    let between = distinct(1100, 50);
    w.append("app.log", &between);
    w.expect(&["A grew"]);
    truncate(&w, "app.log");
    w.append("app.log", &distinct(1150, 10));
    w.expect(&["A shrank"]);
    w.read('A');
    let said = w.scan();
    assert_eq!(w.lost_bytes, between.len() as u64, "{said:?}");
    assert_eq!(w.read('A').len(), 1000, "{said:?}");
}

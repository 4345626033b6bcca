//! Files that nobody read, or not to their ends, when something happened to them: their lines come, wherever they lie.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;
use std::time::Duration;

use common::world::{World, strings};

/// Lines that tell one content from another, enough of them to prove it.
fn distinct(from: usize, count: usize) -> String {
    (from..from + count).map(|i| format!("{i:06} a line that is like no other\n")).collect()
}

/// `logs` leads to the first of two directories, or `app.log` in it to a file there; a line was read, and one was not.
fn linked(pattern: &str) -> World {
    let mut w = World::new(&[pattern]);
    for dir in ["one", "two"] {
        fs::create_dir(w.path(dir)).unwrap();
        w.append(&format!("{dir}/app.log"), &format!("{dir}\n"));
    }
    flip(&w, pattern, "one");
    w.expect(&[&format!("A opened {pattern}"), "e seen"]);
    w.read('A');
    w.append("one/app.log", "unread\n");
    w
}

fn flip(w: &World, pattern: &str, dir: &str) {
    match pattern {
        "logs/app.log" => w.link(dir, "logs"),
        _ => w.link(&format!("{dir}/app.log"), pattern),
    }
}

#[test]
fn a_link_that_flips_to_another_directory_leaves_its_old_target_to_be_read_also_while_stopped() {
    for pattern in ["current", "logs/app.log"] {
        for (stopped, rotated) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut w = linked(pattern);
            if stopped {
                w.stop();
            }
            let mut old = "one/app.log";
            if rotated {
                w.rename("one/app.log", "one/app.log.1");
                w.append("one/app.log", "of a generation that nobody saw\n");
                old = "one/app.log.1";
            }
            flip(&w, pattern, "two");
            if stopped {
                w.start();
            }
            let said = w.scan();
            let followed = match stopped {
                false => format!("A moved to {old}"),
                true => format!("A opened again {old} from 4"),
            };
            assert_eq!(said[0], followed, "{said:?}");
            w.read_all();
            w.scan();
            w.read_all();
            w.delivered.sort();
            assert_eq!(w.delivered, ["one", "two", "unread"], "{pattern} {stopped} {rotated}");
            assert_eq!(w.lost_bytes, 0);
        }
    }
}

#[test]
fn a_file_of_which_nothing_was_shipped_is_found_in_the_archive_that_was_made_of_it_while_stopped() {
    for (lines, kind, found) in [
        (3, "gz", "B opened app.log.1.gz"),
        (100, "gz", "A opened again app.log.1.gz"),
        (100, "zst", "A opened again app.log.1.zst"),
    ] {
        let mut w = World::new(&["app.log"]);
        w.append("app.log", &distinct(0, lines));
        w.expect(&["A opened app.log", "e seen"]);
        w.stop();
        w.append("app.log", "and more\n");
        let archive = format!("app.log.1.{kind}");
        w.pack("app.log", &archive);
        fs::remove_file(w.path("app.log")).unwrap();
        w.append("app.log", "new\n");
        w.start();
        let said = w.scan();
        assert!(said.contains(&found.to_owned()), "{said:?}");
        w.read_all();
        w.delivered.sort();
        assert_eq!(w.delivered.len(), lines + 2, "{said:?}");
        assert_eq!((&w.delivered[lines..], w.lost_bytes), (&strings(&["and more", "new"])[..], 0));
    }
}

#[test]
fn a_file_that_was_empty_when_it_was_opened_is_known_by_what_was_seen_of_it_later() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "");
    w.expect(&["A opened app.log", "e seen"]);
    w.append("app.log", "a line that has no end ye");
    w.expect(&["A grew"]);
    assert_eq!(w.read('A'), [""; 0]);
    w.stop();
    w.append("app.log", "t\n");
    w.pack("app.log", "app.log.1.gz");
    fs::remove_file(w.path("app.log")).unwrap();
    w.append("app.log", "new\n");
    w.start();
    w.scan();
    w.read_all();
    w.delivered.sort();
    assert_eq!(w.delivered, ["a line that has no end yet", "new"]);
}

#[test]
fn a_file_of_which_nothing_was_read_is_found_in_its_copy_when_it_has_outgrown_its_old_size_between_two_looks() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &distinct(0, 3));
    w.expect(&["A opened app.log", "e seen"]);
    w.append("app.log", "and more\n");
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    fs::write(w.path("app.log"), distinct(100, 10)).unwrap();
    // The shard is quicker than the next look.
    assert_eq!(w.read('A'), [""; 0]);
    w.expect(&["A opened again app.log.1", "A leaves", "B opened app.log after A"]);
    assert_eq!((w.finish('A').len(), w.read('B').len()), (4, 10));
}

#[test]
fn what_was_written_to_a_truncated_file_is_read_although_that_was_deleted_before_anybody_read_it() {
    for looked in [false, true] {
        let mut w = World::new(&["app.log"]);
        w.append("app.log", "one\n");
        w.expect(&["A opened app.log", "e seen"]);
        w.read('A');
        fs::write(w.path("app.log"), "2\n").unwrap();
        if looked {
            w.expect(&["A shrank"]);
        }
        fs::remove_file(w.path("app.log")).unwrap();
        w.append("app.log", "three\n");
        for _ in 0..3 {
            w.scan();
            w.read_all();
        }
        w.delivered.sort();
        assert_eq!(w.delivered, ["2", "one", "three"], "{looked}");
        assert_eq!(w.lost_bytes, 0);
    }
}

#[test]
fn an_empty_generation_that_nobody_saw_is_known_after_a_crash_when_it_is_written_late() {
    let mut w = World::new(&["app.log"]);
    w.copy_hold = Duration::from_secs(100_000);
    w.restart();
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    fs::File::create(w.path("app.log")).unwrap();
    w.rename("app.log", "app.log.2");
    w.append("app.log", "");
    w.rename("app.log", "app.log.1");
    w.append("app.log", "three\n");
    let said = w.scan();
    assert!(said.contains(&"A shrank".to_owned()), "{said:?}");
    w.crash();
    w.append("app.log.1", "late\n");
    w.start();
    for _ in 0..3 {
        w.scan();
        w.read_all();
    }
    w.delivered.sort();
    assert_eq!(w.delivered, strings(&["late", "one", "three"]));
}

#[test]
fn a_generation_that_nobody_saw_and_that_holds_what_a_finished_one_held_is_read_on_when_it_is_written() {
    // A head of more than 1 KiB that all generations have, and nothing else yet.
    let head: String = (0..60).map(|i| format!("# line {i} of a head that all files have\n")).collect();
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &head);
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.rename("app.log", "away");
    w.append("app.log", &head);
    w.expect(&["A moved to away", "A leaves", "B opened app.log after A"]);
    w.read_all();
    w.expect(&[]);
    w.rename("app.log", "app.log-20240001");
    w.append("app.log", &head);
    w.stop();
    fs::remove_file(w.path("away")).unwrap();
    w.rename("app.log", "app.log-20240002");
    w.append("app.log", &format!("{head}of the third\n"));
    w.start();
    let said = w.scan();
    assert!(said.contains(&"A shipped already as app.log-20240002".to_owned()), "{said:?}");
    w.read_all();
    w.append("app.log-20240002", "of the second\n");
    w.scan();
    w.read_all();
    w.scan();
    w.read_all();
    let came = |line: &str| w.delivered.iter().filter(|one| *one == line).count();
    assert_eq!((came("of the second"), came("of the third")), (1, 1));
}

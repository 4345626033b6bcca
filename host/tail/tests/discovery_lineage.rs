//! Files that had one path one after the other: generations that nobody saw, copies of what nobody read, and writers that
//! go on in a file that was finished.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;
use std::time::Duration;

use common::world::{World, strings};

/// Lines that tell one content from another, enough of them to prove it.
fn distinct(from: usize, count: usize) -> String {
    (from..from + count).map(|i| format!("{i:06} a line that is like no other\n")).collect()
}

/// `app.log.1` becomes `.2`, `app.log` becomes `.1`, and a new `app.log` says this.
fn rotate(w: &World, new: &str) {
    for (from, to) in [("app.log.2", "app.log.3"), ("app.log.1", "app.log.2"), ("app.log", "app.log.1")] {
        if w.path(from).exists() {
            w.rename(from, to);
        }
    }
    w.append("app.log", new);
}

fn copy_truncate(w: &World, new: &str) {
    if w.path("app.log.1").exists() {
        w.rename("app.log.1", "app.log.2");
    }
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    fs::write(w.path("app.log"), new).unwrap();
}

/// A world whose `app.log` holds one line, which was read.
fn world(pattern: &str) -> World {
    let mut w = World::new(&[pattern]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w
}

#[test]
fn after_a_restart_a_rotated_file_goes_before_the_one_in_its_place_whatever_their_times_are() {
    // Written in one tick of the clock; or the old one last, by a writer that had not opened the new one yet.
    for old_is_later_by in [Duration::ZERO, Duration::from_secs(1)] {
        let mut w = world("app.log*");
        w.append("app.log", "more\n");
        w.rename("app.log", "app.log.1");
        w.append("app.log", "two\n");
        w.expect(&["A moved to app.log.1", "A leaves", "A grew", "B opened app.log after A"]);
        w.stop();
        let at = std::time::SystemTime::now();
        for (name, time) in [("app.log.1", at + old_is_later_by), ("app.log", at)] {
            fs::File::options().append(true).open(w.path(name)).unwrap().set_modified(time).unwrap();
        }
        w.start();
        w.expect(&["A opened again app.log.1 from 4", "A leaves", "B opened again app.log after A", "e seen"]);
    }
}

#[test]
fn generations_that_nobody_saw_are_read_in_their_turn_also_when_the_pattern_matches_their_names() {
    for pattern in ["app.log", "app.log*", "app*"] {
        let mut w = world(pattern);
        w.append("app.log", "more\n");
        w.stop();
        for text in ["two\n", "three\n", "four\n"] {
            rotate(&w, text);
        }
        w.start();
        w.expect(&[
            "A opened again app.log.3 from 4",
            "A leaves",
            "B opened app.log.2 after A",
            "B leaves",
            "C opened app.log.1 after B",
            "C leaves",
            "D opened app.log after C",
            "e seen",
        ]);
        let homes: Vec<_> = w.streams.values().map(|stream| stream.opened.home.clone()).collect();
        assert!(homes.iter().all(|home| **home == *w.path("app.log")), "one lineage, one partition: {homes:?}");
        w.read_all();
        w.expect(&[]);
        // What is known of them is enough for a life without doubts.
        w.restart();
        w.expect(&["D opened again app.log from 5", "e seen"]);
        assert_eq!(w.delivered.len(), 5);
    }
}

#[test]
fn generations_that_came_and_went_between_two_looks_are_read_in_their_turn_also_when_the_pattern_matches() {
    let mut w = world("app.log*");
    rotate(&w, "two\n");
    rotate(&w, "three\n");
    w.expect(&[
        "A moved to app.log.2",
        "A leaves",
        "B opened app.log.1 after A",
        "B leaves",
        "C opened app.log after B",
    ]);
    rotate(&w, "four\n");
    w.read_all();
    let said = w.scan();
    assert!(said.contains(&"D opened app.log after C".to_owned()), "{said:?}");
    w.read_all();
    w.delivered.sort();
    assert_eq!(w.delivered, ["four", "one", "three", "two"]);
}

#[test]
fn a_log_of_its_own_that_appears_beside_a_rotated_one_is_no_generation_of_it() {
    // Logs that have nothing to do with each other come in the order of their times, whatever they are called. (Times
    // that differ: where they are equal those of birth decide, which a test cannot set.)
    for own_is_later in [false, true] {
        let mut w = world("*.log*");
        rotate(&w, "two\n");
        w.append("app-2.log", "of another worker\n");
        let (at, second) = (std::time::SystemTime::now(), Duration::from_secs(1));
        for (name, time) in [("app.log", at), ("app-2.log", if own_is_later { at + second } else { at - second })] {
            fs::File::options().append(true).open(w.path(name)).unwrap().set_modified(time).unwrap();
        }
        w.expect(match own_is_later {
            false => &["A moved to app.log.1", "A leaves", "B opened app-2.log", "C opened app.log after A"],
            true => &["A moved to app.log.1", "A leaves", "B opened app.log after A", "C opened app-2.log"],
        });
    }
}

#[test]
fn copies_of_a_file_of_which_nothing_was_shipped_are_read_when_it_was_truncated_while_stopped() {
    for (pattern, copies) in [("app.log", 1), ("app.log", 2), ("app.log*", 2)] {
        let mut w = World::new(&[pattern]);
        w.append("app.log", &distinct(0, 3));
        w.expect(&["A opened app.log", "e seen"]);
        w.stop();
        w.append("app.log", "and more\n");
        for copy in 0..copies {
            copy_truncate(&w, &distinct(100 * (copy + 1), 3));
        }
        w.start();
        let said = w.scan();
        let opened: Vec<&String> = said.iter().filter(|one| one.contains("opened")).collect();
        let expected = (1..=copies).rev().map(|copy| format!("app.log.{copy}")).chain(["app.log".to_owned()]);
        assert!(
            opened.iter().zip(expected).all(|(one, name)| one.split(' ').any(|word| word == name)),
            "{pattern}: {said:?}"
        );
        let keys: Vec<char> = opened.iter().map(|one| one.chars().next().unwrap()).collect();
        let lines: Vec<String> = keys.into_iter().flat_map(|name| w.read(name)).collect();
        let written: String =
            distinct(0, 3) + "and more\n" + &(1..=copies).map(|copy| distinct(100 * copy, 3)).collect::<String>();
        assert_eq!(lines, written.lines().collect::<Vec<_>>(), "{pattern}");
        w.read_all();
        w.expect(&[]);
    }
}

#[test]
fn a_copy_of_a_file_of_which_nothing_was_shipped_is_not_read_when_that_one_still_begins_with_it() {
    // Equal lines prove nothing: in doubt they come twice.
    for (content, in_doubt) in [(distinct(0, 3_000), false), ("heartbeat\n".repeat(10_000), true)] {
        let mut w = World::new(&["app.log"]);
        w.append("app.log", &content);
        w.expect(&["A opened app.log", "e seen"]);
        w.stop();
        fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
        w.append("app.log", "more\n");
        w.start();
        let opened = if in_doubt { "B opened app.log.1" } else { "A opened again app.log" };
        assert_eq!(w.scan()[0], opened);
    }
}

#[test]
fn a_rotated_and_finished_file_that_is_written_again_is_read_on_whether_or_not_a_pattern_matches_it() {
    for pattern in ["app.log", "app.log*"] {
        let mut w = world(pattern);
        rotate(&w, "");
        w.expect(&["A moved to app.log.1", "A leaves", "B opened app.log after A"]);
        w.finish('A');
        w.expect(&[]);
        w.append("app.log.1", "late\n");
        let said = w.scan();
        assert_eq!(said[0], "A opened again app.log.1 from 4");
        assert_eq!(w.read('A'), ["late"]);
        w.read_all();
        if pattern == "app.log" {
            // It left its place long ago, and is finished as soon as it is quiet.
            assert_eq!(said[1..], ["A leaves"]);
        } else {
            w.close('A');
        }
        w.append("app.log.1", "later\n");
        w.rename("app.log.1", "app.log.2");
        assert_eq!(w.scan()[0], "A opened again app.log.2 from 9");
        w.read_all();
        assert_eq!(w.delivered, ["one", "late", "later"]);
    }
}

#[test]
fn a_rotated_and_finished_file_that_is_written_while_stopped_is_read_on() {
    let mut w = world("app.log");
    rotate(&w, "");
    w.scan();
    w.finish('A');
    w.stop();
    w.append("app.log.1", "late\n");
    w.start();
    let said = w.scan();
    assert!(said.contains(&"A opened again app.log.1 from 4".to_owned()), "{said:?}");
    assert_eq!(w.finish('A'), ["late"]);
    // However long it was stopped. A day after it was finished every writer was told.
    let day = i64::try_from(Duration::from_secs(24 * 3600).as_millis()).unwrap();
    w.stop();
    w.known_mut().iter_mut().for_each(|known| known.updated_ms -= day);
    w.append("app.log.1", "later\n");
    w.start();
    let said = w.scan();
    assert!(said.contains(&"A opened again app.log.1 from 9".to_owned()), "{said:?}");
    w.finish('A');
    w.stop();
    w.known_mut().iter_mut().for_each(|known| known.updated_ms -= day);
    w.start();
    w.expect(&["B opened again app.log", "e seen"]);
    w.append("app.log.1", "much later\n");
    w.expect(&[]);
}

#[test]
fn kernel_events_tell_of_a_finished_file_that_is_written_again() {
    let mut w = World::with(&["app.log"], &[], tailmill_tail::StartAt::Beginning, true);
    w.append("app.log", "one\n");
    w.wait_for("A opened app.log");
    w.read('A');
    rotate(&w, "");
    w.wait_for("B opened app.log after A");
    w.finish('A');
    w.append("app.log.1", "late\n");
    w.wait_for("A opened again app.log.1 from 4");
    assert_eq!(w.finish('A'), ["late"]);
    // What lies there by now is another file.
    w.rename("app.log.1", "elsewhere");
    w.append("app.log.1", "of nobody's\n");
    w.append("app.log", "two\n");
    w.wait_for("B grew");
    assert_eq!(w.scan(), strings(&[]));
}

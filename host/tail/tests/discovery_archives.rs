//! Archives of generations that nobody saw, or that were written to when nobody looked any more.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;
use std::time::{Duration, SystemTime};

use common::world::{World, strings};

/// More than what proves nothing.
fn lines(of: char) -> String {
    (0..60).map(|i| format!("line {i} of generation {of}, and some more\n")).collect()
}

/// Where files that may be copies are held back.
fn world() -> World {
    let mut w = World::new(&["a.log"]);
    w.copy_hold = Duration::from_secs(5);
    w.restart();
    w
}

/// `name` to `name.gz`.
fn pack(w: &World, name: &str) {
    w.pack(name, &format!("{name}.gz"));
    fs::remove_file(w.path(name)).unwrap();
}

#[test]
fn generations_that_came_and_were_compressed_while_stopped_are_read_in_their_order() {
    let mut w = world();
    w.append("a.log", &lines('1'));
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.stop();
    w.append("a.log", "late\n");
    w.rename("a.log", "a.log.3");
    pack(&w, "a.log.3");
    w.append("a.log", "two\n");
    w.rename("a.log", "a.log.2");
    pack(&w, "a.log.2");
    w.append("a.log", "three\n");
    w.rename("a.log", "a.log.1");
    w.append("a.log", "four\n");
    w.start();
    w.expect(&[
        "A opened again a.log.3.gz from 2330",
        "A leaves",
        "B opened a.log.2.gz after A",
        "B leaves",
        "C opened a.log.1 after B",
        "C leaves",
        "D opened a.log after C",
        "e seen",
    ]);
    let came = ['A', 'B', 'C'].map(|name| w.finish(name));
    assert_eq!(came, [strings(&["late"]), strings(&["two"]), strings(&["three"])]);
}

#[test]
fn an_archive_goes_first_also_when_its_writer_went_on_after_the_next_file_was_born() {
    let mut w = world();
    w.append("a.log", &lines('1'));
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.stop();
    w.rename("a.log", "a.log.3");
    w.append("a.log", "two\n");
    w.rename("a.log", "a.log.2");
    w.append("a.log", "three\n");
    for (name, seconds) in [("a.log.2", 10), ("a.log", 20)] {
        let file = fs::File::options().append(true).open(w.path(name)).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    }
    pack(&w, "a.log.2");
    w.rename("a.log", "a.log.1");
    w.start();
    let said = w.scan();
    let opened: Vec<&String> = said.iter().filter(|one| one.contains("opened")).collect();
    assert_eq!(opened, ["A opened again a.log.3 from 2330", "B opened a.log.2.gz after A", "C opened a.log.1 after B"]);
}

#[test]
fn of_two_generations_compressed_between_two_looks_the_one_that_was_read_does_not_come_again() {
    let mut w = world();
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.rename("a.log", "a.log.2");
    pack(&w, "a.log.2");
    w.append("a.log", "two\n");
    w.rename("a.log", "a.log.1");
    pack(&w, "a.log.1");
    w.append("a.log", "three\n");
    w.scan();
    w.finish('A');
    w.scan();
    w.read_all();
    w.delivered.sort(); // whose turn it is, is for the shard to say
    assert_eq!(w.delivered, strings(&["one", "three", "two"]));
}

#[test]
fn a_short_log_that_is_rotated_and_compressed_at_once_does_not_come_twice() {
    let mut w = world();
    for generation in 0..4 {
        w.append("a.log", "beat\n");
        w.scan();
        w.read_all();
        w.rename("a.log", &format!("a.log.{generation}"));
        pack(&w, &format!("a.log.{generation}"));
    }
    w.scan();
    w.read_all();
    w.scan();
    assert_eq!(w.delivered, ["beat"; 4]);
}

#[test]
fn an_archive_that_is_being_made_waits_until_its_original_is_gone() {
    let mut w = world();
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.rename("a.log", "a.log.2");
    w.append("a.log", "two\n");
    w.rename("a.log", "a.log.1");
    w.pack("a.log.1", "a.log.1.gz");
    w.append("a.log", "three\n");
    w.expect(&["A moved to a.log.2", "A leaves", "B opened a.log.1 after A", "B leaves", "C opened a.log after B"]);
    fs::remove_file(w.path("a.log.1")).unwrap();
    w.expect(&["B leaves, gone"]);
    let came = [w.finish('A'), w.finish('B'), w.read('C')];
    w.expect(&[]);
    assert_eq!(came, [strings(&["one"]), strings(&["two"]), strings(&["three"])]);
}

#[test]
fn what_was_written_to_a_finished_file_before_it_was_compressed_while_stopped_is_read() {
    let mut w = world();
    w.append("a.log", &lines('1'));
    w.expect(&["A opened a.log", "e seen"]);
    w.rename("a.log", "a.log.1");
    w.expect(&["A moved to a.log.1", "A leaves"]);
    w.finish('A');
    w.stop();
    w.append("a.log.1", "late\n");
    pack(&w, "a.log.1");
    w.start();
    w.expect(&["A opened again a.log.1.gz from 2330", "A leaves", "e seen"]);
    assert_eq!(w.finish('A'), ["late"]);
    w.restart();
    w.expect(&["e seen"]);
}

#[test]
fn what_was_written_to_a_closed_idle_file_before_it_was_compressed_is_read() {
    let mut w = world();
    w.append("a.log", &lines('1'));
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.idle('A');
    w.append("a.log", "late\n");
    w.rename("a.log", "a.log.1");
    pack(&w, "a.log.1");
    w.expect(&["A leaves, gone"]);
    w.finish('A');
    w.expect(&["A opened again a.log.1.gz from 2330", "A leaves"]);
    assert_eq!(w.finish('A'), ["late"]);
}

#[test]
fn what_is_nowhere_is_counted_once_and_not_again_at_the_next_start() {
    let mut w = world();
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.stop();
    fs::remove_file(w.path("a.log")).unwrap();
    w.start();
    w.expect(&["A lost 4 bytes behind 0", "A settled at 0", "e seen"]);
    w.restart();
    w.expect(&["e seen"]);
    assert_eq!(w.lost_bytes, 4);
}

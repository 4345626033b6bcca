//! What kernel events tell without a scan, and how a wait ends. Each test waits for what it wants to hear.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;

use common::world::World;
use tailmill_tail::{FileEvent, StartAt};

#[test]
fn hints_tell_of_everything_without_a_scan() {
    let mut w = World::with(&["**/*.log"], &[], StartAt::Beginning, true);
    w.wait_for("e seen");
    w.append("a.log", "one\n");
    w.wait_for("A opened a.log");
    w.append("a.log", "two\n");
    w.wait_for("A grew");
    w.rename("a.log", "a.old");
    w.wait_for("A leaves");
    w.append("a.old", "late\n");
    w.wait_for("A grew");
    fs::create_dir(w.path("sub")).unwrap();
    w.append("sub/b.log", "one\n");
    w.wait_for("B opened sub/b.log");
    w.append("sub/b.log", "two\n");
    w.wait_for("B grew");
    fs::remove_file(w.path("sub/b.log")).unwrap();
    w.wait_for("B leaves, gone");
    fs::remove_dir(w.path("sub")).unwrap();
    fs::create_dir(w.path("sub")).unwrap();
    w.append("sub/c.log", "one\n");
    w.wait_for("C opened sub/c.log");
}

#[test]
fn hints_tell_of_a_file_behind_a_link_into_another_directory() {
    let mut w = World::with(&["logs/current"], &[], StartAt::Beginning, true);
    fs::create_dir(w.path("logs")).unwrap();
    fs::create_dir(w.path("data")).unwrap();
    w.append("data/app.1", "one\n");
    w.link("../data/app.1", "logs/current");
    w.wait_for("A opened logs/current");
    w.append("data/app.1", "two\n");
    w.wait_for("A grew");
    w.append("data/app.2", "three\n");
    w.link("../data/app.2", "logs/current");
    w.wait_for("B opened logs/current after A");
    w.append("data/app.2", "four\n");
    w.wait_for("B grew");
}

#[test]
fn hints_tell_of_a_directory_that_was_not_there_at_the_start() {
    let mut w = World::with(&["not/yet/*.log"], &[], StartAt::Beginning, true);
    w.wait_for("e seen");
    fs::create_dir_all(w.path("not/yet")).unwrap();
    w.append("not/yet/a.log", "one\n");
    w.wait_for("A opened not/yet/a.log");
}

#[test]
fn a_wake_ends_a_wait_also_when_it_came_before() {
    let mut w = World::new(&["*.log"]);
    w.expect(&["e seen"]);
    let far = std::time::Instant::now() + std::time::Duration::from_secs(3600);
    let waker = w.discovery.waker();
    waker.wake();
    assert!(w.discovery.wait(far).is_empty());
    let thread = std::thread::spawn(move || waker.wake());
    assert!(w.discovery.wait(far).is_empty());
    thread.join().unwrap();
}

#[test]
fn many_files_are_opened_in_portions() {
    let mut w = World::new(&["*.log"]);
    for i in 0..600 {
        w.append(&format!("{i}.log"), "");
    }
    // However many portions the look takes (their time is bounded): what it found is opened in these.
    let mut portions = Vec::new();
    while portions.iter().sum::<usize>() < 601 {
        portions.push(w.discovery.wait(std::time::Instant::now()).len());
    }
    portions.retain(|events| *events > 0);
    assert_eq!(portions, [256, 256, 89], "and the word that the entry was seen");
}

#[test]
fn a_large_directory_is_looked_at_in_portions_and_hints_do_not_wait_for_its_end() {
    let mut w = World::with(&["small/*.log", "large/*.log"], &[], StartAt::Beginning, true);
    fs::create_dir(w.path("small")).unwrap();
    fs::create_dir(w.path("large")).unwrap();
    w.append("small/a.log", "one\n");
    w.wait_for("A opened small/a.log");
    for i in 0..20_000 {
        fs::File::create(w.path(&format!("large/{i}"))).unwrap(); // the pattern does not mean them, but has to look
    }
    w.discovery.scan_soon();
    let now = std::time::Instant::now();
    assert!(w.discovery.wait(now).is_empty());
    assert!(w.discovery.is_scanning(), "twenty thousand names in one portion");
    w.append("small/a.log", "two\n");
    w.wait_for("A grew");
}

/// Names in one directory.
const NAMES: usize = 100_000;

#[test]
fn while_a_hundred_thousand_files_are_discovered_another_one_is_heard_of_all_the_time() {
    let mut w = World::with(&["small/*.log", "large/*"], &[], StartAt::Beginning, true);
    fs::create_dir(w.path("small")).unwrap();
    // In memory, where that can be had: to make the files would take longer than to find them.
    let large = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    w.link(large.path().to_str().unwrap(), "large");
    w.append("small/a.log", "");
    w.wait_for("A opened small/a.log");
    for i in 0..NAMES {
        fs::File::create(large.path().join(i.to_string())).unwrap();
    }
    w.discovery.scan_soon();
    let far = std::time::Instant::now() + std::time::Duration::from_secs(3600);
    let key = w.key('A');
    // Nothing depends on how long anything takes: it is written, and what comes before it was heard of is counted.
    let (mut opened, mut heard_while_scanning, mut heard_while_opening) = (0, 0, 0);
    while opened < NAMES {
        w.append("small/a.log", "one more\n");
        let before = opened;
        loop {
            let events = w.discovery.wait(far);
            opened += events.iter().filter(|event| matches!(event, FileEvent::Opened(_))).count();
            if events.iter().any(|event| matches!(event, FileEvent::Grew(of) if *of == key)) {
                heard_while_scanning += usize::from(w.discovery.is_scanning());
                heard_while_opening += usize::from(opened > 0 && opened < NAMES);
                break;
            }
            assert!(
                opened - before <= 4 * 256,
                "{} files were opened, and nothing was heard of another",
                opened - before
            );
        }
    }
    assert_eq!(opened, NAMES, "each once");
    assert!(heard_while_scanning > 5, "{heard_while_scanning} times between the portions of the look");
    assert!(heard_while_opening > NAMES / 1024, "{heard_while_opening} times between the files");
}

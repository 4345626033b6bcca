//! What is kept open, what is kept in mind, and for how long.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;
use std::time::{Duration, SystemTime};

use common::world::{World, strings};
use tailmill_tail::{StartAt, StreamReport};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_file_closed_as_idle_is_opened_again_when_it_grows_and_only_then() {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.idle('A');
    w.expect(&[]);
    w.append("a.log", "two\n");
    w.expect(&["A grew", "A reopened"]);
    assert_eq!(w.read('A'), ["two"]);
    // It grew after the last look and before it was closed, or after: the next look tells.
    w.append("a.log", "three\n");
    assert_eq!(w.read('A'), ["three"]);
    w.idle('A');
    w.expect(&["A grew", "A reopened"]);
    assert_eq!(w.read('A'), [""; 0]);
    // Discovery had said that it grew, and the shard closed it before it heard.
    w.idle('A');
    w.append("a.log", "four\n");
    w.expect(&["A grew", "A reopened"]);
    w.idle('A');
    w.expect(&["A reopened"]);
    assert_eq!(w.read('A'), ["four"]);
}

#[test]
fn a_file_closed_as_idle_is_followed_through_its_rotation() {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.idle('A');
    w.append("a.log", "late\n");
    w.rename("a.log", "a.log.1");
    w.append("a.log", "new\n");
    w.expect(&["A moved to a.log.1", "A leaves", "A grew", "A reopened", "B opened a.log after A"]);
    assert_eq!((w.finish('A'), w.read('B')), (strings(&["late"]), strings(&["new"])));
}

#[test]
fn a_file_closed_as_idle_and_truncated_is_a_new_one() {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.idle('A');
    fs::write(w.path("a.log"), "new\n").unwrap(); // exactly as long: only its time tells, also in one tick of the clock
    let later = SystemTime::now() + HOUR;
    fs::File::options().append(true).open(w.path("a.log")).unwrap().set_modified(later).unwrap();
    w.expect(&["A grew", "A shrank", "A reopened in vain"]);
    w.expect(&["A forgotten", "B opened a.log"]);
    assert_eq!(w.read('B'), ["new"]);
}

#[test]
fn what_was_appended_to_a_closed_file_and_deleted_with_it_is_counted() {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.idle('A');
    fs::remove_file(w.path("a.log")).unwrap();
    w.expect(&["A leaves, gone"]);
    assert_eq!(w.lost_bytes, 0, "nothing of it was unread");
}

#[test]
fn a_file_that_nobody_wrote_for_long_is_left_alone_until_it_is_written() {
    let mut w = World::new(&["*.log"]);
    w.specs[0].ignore_older = Some(HOUR);
    w.restart();
    let old = SystemTime::now() - 2 * HOUR;
    for name in ["a.log", "b.log"] {
        w.append(name, "one\n");
        fs::File::options().append(true).open(w.path(name)).unwrap().set_modified(old).unwrap();
    }
    w.append("c.log", "fresh\n");
    w.expect(&["A opened c.log", "e seen"]);
    w.append("b.log", "two\n");
    w.expect(&["B opened b.log"]);
    assert_eq!(w.read('B'), ["one", "two"]);
    // What has a mark is read on, however old it is.
    w.stop();
    w.append("b.log", "three\n");
    fs::File::options().append(true).open(w.path("b.log")).unwrap().set_modified(old).unwrap();
    w.start();
    let said = w.scan();
    assert!(said.contains(&"B opened again b.log from 8".to_owned()), "{said:?}");
}

#[test]
fn files_to_be_begun_at_their_ends_get_a_mark_however_old_they_are() {
    let mut w = World::with(&["*.log"], &[], StartAt::End, false);
    w.specs[0].ignore_older = Some(HOUR);
    w.restart();
    w.append("a.log", "one\n");
    let old = SystemTime::now() - 2 * HOUR;
    fs::File::options().append(true).open(w.path("a.log")).unwrap().set_modified(old).unwrap();
    w.expect(&["A opened a.log from 4", "e seen"]);
}

#[test]
fn what_is_known_of_a_vanished_file_is_kept_for_a_while_and_of_one_that_is_there_for_good() {
    for (vanishes, long, kept) in [(true, false, true), (true, true, false), (false, true, true)] {
        let mut w = World::new(&["a.log"]);
        w.append("a.log", "one\n");
        w.expect(&["A opened a.log", "e seen"]);
        w.rename("a.log", "a.old");
        w.expect(&["A moved to a.old", "A leaves"]);
        w.finish('A');
        w.stop();
        if vanishes {
            w.rename("a.old", "../elsewhere");
        }
        if long {
            w.known_mut().iter_mut().for_each(|known| known.updated_ms -= 2 * 24 * 3_600_000);
        }
        w.start();
        let expected: &[&str] = if kept { &["e seen"] } else { &["e seen", "A forgotten"] };
        w.expect(expected);
        assert_eq!(w.known_mut().len(), usize::from(kept));
    }
}

#[test]
fn a_file_system_that_is_mounted_late_finds_its_marks_again() {
    let mut w = World::new(&["mount/a.log"]);
    fs::create_dir(w.path("mount")).unwrap();
    w.append("mount/a.log", "one\n");
    w.expect(&["A opened mount/a.log", "e seen"]);
    w.read('A');
    w.stop();
    w.append("mount/a.log", "two\n");
    w.rename("mount", "not-mounted-yet");
    fs::create_dir(w.path("mount")).unwrap();
    w.start();
    w.expect(&["A not found again, read up to 4", "e seen"]);
    fs::remove_dir(w.path("mount")).unwrap();
    w.rename("not-mounted-yet", "mount");
    w.expect(&["A opened again mount/a.log from 4"]);
    assert_eq!(w.read('A'), ["two"]);
}

#[test]
fn an_entry_removed_and_added_again_resumes_where_it_was_also_over_a_restart() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    let spec = w.specs[0].clone();
    w.set_specs(vec![]);
    w.expect(&["A dropped"]);
    w.close('A');
    w.restart();
    w.expect(&[]);
    w.append("a.log", "two\n");
    w.set_specs(vec![spec]);
    w.expect(&["A opened again a.log from 4", "e seen"]);
    assert_eq!(w.read('A'), ["two"]);
}

#[test]
fn deleted_files_that_are_still_unread_are_given_up_when_they_take_too_much() {
    let mut w = World::new(&["*.log"]);
    let pin = |w: &mut World, name: &str, bytes: u64| {
        w.append(name, "unread\n");
        w.scan();
        fs::remove_file(w.path(name)).unwrap();
        let said = w.scan();
        let letter = said[0].chars().next().unwrap();
        let key = w.key(letter);
        w.discovery.report(StreamReport::Pinned { key, bytes, unread: 7 });
    };
    pin(&mut w, "a.log", 700);
    pin(&mut w, "b.log", 200);
    w.expect(&["deleted files that are still unread take 900 bytes of the disk: at 1000 the oldest is given up"]);
    pin(&mut w, "c.log", 200);
    w.expect(&["A to be given up"]);
    w.expect(&["A lost 7 bytes behind 0", "A forgotten"]);
    assert_eq!(w.lost_bytes, 7);
    w.expect(&[]);
}

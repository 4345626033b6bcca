//! What happens to files, and what discovery says about it. Scans are called for, so nothing depends on time.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;

use common::world::{World, strings};
use tailmill_tail::StreamReport;

/// Lines that tell one content from another, enough of them to prove it.
fn distinct(from: usize, count: usize) -> String {
    (from..from + count).map(|i| format!("{i:06} a line that is like no other\n")).collect()
}

#[test]
fn a_file_appears_grows_and_is_reported_once_each() {
    let mut w = World::new(&["*.log"]);
    w.expect(&["e seen"]);
    w.append("a.log", "one\n");
    w.append("other", "not meant\n");
    w.expect(&["A opened a.log"]);
    w.expect(&[]);
    w.append("a.log", "two\n");
    w.expect(&["A grew"]);
    assert_eq!(w.read('A'), ["one", "two"]);
}

#[test]
fn rename_and_create_drains_the_old_file_before_the_new_one() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.append("app.log", "two\nlast without newline");
    w.rename("app.log", "app.log.1");
    w.append("app.log", "three\n");
    w.expect(&["A moved to app.log.1", "A leaves", "A grew", "B opened app.log after A"]);
    w.append("app.log.1", ", late");
    w.expect(&["A grew"]);
    assert_eq!(w.read('A'), ["one", "two"]);
    assert_eq!(w.finish('A'), ["last without newline, late"]);
    assert_eq!(w.read('B'), ["three"]);
    w.expect(&[]);
}

#[test]
fn a_chain_of_rotated_files_is_followed_also_when_the_pattern_means_them_all() {
    let mut w = World::new(&["app.log*"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.rename("app.log", "app.log.1");
    w.append("app.log", "two\n");
    w.expect(&["A moved to app.log.1", "A leaves", "B opened app.log after A"]);
    w.rename("app.log.1", "app.log.2");
    w.rename("app.log", "app.log.1");
    w.append("app.log", "three\n");
    w.expect(&["B moved to app.log.1", "B leaves", "A moved to app.log.2", "C opened app.log after B"]);
    assert_eq!((w.finish('A'), w.finish('B')), (vec!["one".to_owned()], vec!["two".to_owned()]));
    w.expect(&[]);
    w.expect(&[]);
}

#[test]
fn a_finished_file_is_opened_again_only_when_it_grows_and_then_where_it_is() {
    let mut w = World::new(&["app.log*"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.rename("app.log", "app.log.1");
    w.expect(&["A moved to app.log.1", "A leaves"]);
    w.finish('A');
    w.expect(&[]);
    w.append("app.log.1", "more\n");
    w.expect(&["A opened again app.log.1 from 4"]);
    assert_eq!(w.read('A'), ["more"]);
    w.expect(&[]);
}

#[test]
fn a_deleted_file_is_gone_and_read_to_its_end_nevertheless() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.append("a.log", "two\n");
    fs::remove_file(w.path("a.log")).unwrap();
    w.expect(&["A leaves, gone"]);
    w.expect(&[]);
    assert_eq!(w.finish('A'), ["one", "two"]);
    w.append("a.log", "three\n");
    w.expect(&["B opened a.log"]);
    assert_eq!(w.read('B'), ["three"]);
}

#[test]
fn a_file_that_comes_back_to_its_place_is_not_leaving_any_more() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.rename("a.log", "elsewhere");
    w.expect(&["A moved to elsewhere", "A leaves"]);
    w.rename("elsewhere", "a.log");
    w.expect(&["A moved to a.log", "A is back"]);
}

#[test]
fn a_renamed_file_that_is_deleted_later_is_said_to_be_gone() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.rename("a.log", "old");
    w.expect(&["A moved to old", "A leaves"]);
    fs::remove_file(w.path("old")).unwrap();
    w.expect(&["A leaves, gone"]);
}

#[test]
fn copytruncate_is_a_new_file_and_the_unread_rest_is_read_from_the_copy() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &distinct(0, 100));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    let read = fs::metadata(w.path("app.log")).unwrap().len();
    w.append("app.log", "unread\n");
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    fs::File::create(w.path("app.log")).unwrap();
    w.append("app.log", "new\n");
    w.expect(&["A shrank"]);
    assert_eq!(w.read('A'), [""; 0]);
    w.expect(&[&format!("A opened again app.log.1 from {read}"), "A leaves", "B opened app.log after A"]);
    assert_eq!((w.finish('A'), w.read('B')), (vec!["unread".to_owned()], vec!["new".to_owned()]));
    w.expect(&[]);
}

#[test]
fn of_two_generations_of_heartbeats_in_one_place_the_unfinished_one_goes_on() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &"heartbeat ok\n".repeat(1000));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    fs::write(w.path("app.log"), "heartbeat ok\n".repeat(100)).unwrap();
    w.expect(&["A shrank"]);
    w.read('A');
    w.expect(&["A forgotten", "B opened app.log"]);
    w.read('B');
    w.stop();
    w.known_mut().iter_mut().filter(|known| known.offset == 13_000).for_each(|known| known.finished = true);
    w.append("app.log", &"heartbeat ok\n".repeat(2000));
    w.start();
    w.expect(&["B opened again app.log from 1300", "e seen"]);
    assert_eq!(w.read('B').len(), 2000);
}

#[test]
fn a_truncated_file_goes_on_in_its_copy_although_its_shard_calls_it_finished() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    let known = w.known_of(&w.key('A'), true);
    w.append("app.log", "unread");
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    fs::write(w.path("app.log"), "new\n").unwrap();
    w.discovery.report(StreamReport::Truncated { known, file: None });
    w.expect(&["A opened again app.log.1 from 4", "A leaves", "B opened app.log after A"]);
}

#[test]
fn copytruncate_with_nothing_unread_is_simply_a_new_file() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &distinct(0, 100));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    fs::write(w.path("app.log"), "new\n").unwrap();
    w.expect(&["A shrank"]);
    w.read('A');
    w.expect(&["A shipped already as app.log.1", "B opened app.log"]);
    assert_eq!(w.read('B'), ["new"]);
}

#[test]
fn heartbeats_that_are_truncated_and_grow_past_the_old_place_come_again_rather_than_not() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &"heartbeat ok\n".repeat(1000));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.stop();
    fs::remove_file(w.path("app.log")).unwrap();
    fs::write(w.path("keep-the-inode-busy"), "").unwrap();
    fs::write(w.path("app.log"), "heartbeat ok\n".repeat(2000)).unwrap();
    w.start();
    w.expect(&["A not found again, read up to 13000", "B opened app.log", "e seen"]);
    assert_eq!(w.read('B').len(), 2000);
}

#[test]
fn a_restart_goes_on_where_each_file_was_left() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.append("b.log", "");
    w.scan();
    w.read('A');
    w.read('B');
    w.stop();
    w.append("a.log", "two\n");
    w.append("b.log", "first\n");
    w.start();
    let said = w.scan();
    assert!(said.contains(&"A opened again a.log from 4".to_owned()), "{said:?}");
    assert!(said.contains(&"B opened again b.log".to_owned()), "{said:?}");
    assert_eq!((w.read('A'), w.read('B')), (vec!["two".to_owned()], vec!["first".to_owned()]));
}

#[test]
fn a_file_renamed_while_stopped_is_found_under_a_name_that_no_pattern_means() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.stop();
    w.append("app.log", "unread\nlast");
    w.rename("app.log", "app.log-20240101");
    w.append("app.log", "new\n");
    w.start();
    w.expect(&["A opened again app.log-20240101 from 4", "A leaves", "B opened app.log after A", "e seen"]);
    assert_eq!((w.finish('A'), w.read('B')), (strings(&["unread", "last"]), strings(&["new"])));
}

#[test]
fn several_rotations_while_stopped_are_told_apart() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", "one\n");
    w.expect(&["A opened app.log", "e seen"]);
    w.append("app.log", "two\n");
    w.stop();
    w.rename("app.log", "app.log.2");
    w.append("app.log", "came and went while stopped\n");
    w.rename("app.log", "app.log.1");
    w.append("app.log", "three\n");
    w.start();
    w.expect(&[
        "A opened again app.log.2",
        "A leaves",
        "B opened app.log.1 after A",
        "B leaves",
        "C opened app.log after B",
        "e seen",
    ]);
}

#[test]
fn a_copy_made_while_stopped_holds_the_unread_rest_when_the_original_was_truncated() {
    let mut w = World::new(&["app.log"]);
    w.append("app.log", &distinct(0, 100));
    w.expect(&["A opened app.log", "e seen"]);
    w.read('A');
    w.stop();
    w.append("app.log", "unread\n");
    fs::copy(w.path("app.log"), w.path("app.log.1")).unwrap();
    fs::write(w.path("app.log"), "new\n").unwrap();
    w.start();
    w.expect(&["A opened again app.log.1 from 3600", "A leaves", "B opened app.log after A", "e seen"]);
    assert_eq!((w.finish('A'), w.read('B')), (strings(&["unread"]), strings(&["new"])));
}

#[test]
fn a_file_restored_under_another_inode_goes_on_where_it_was() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", &distinct(0, 100));
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.stop();
    fs::copy(w.path("a.log"), w.path("b")).unwrap();
    w.rename("b", "a.log");
    w.append("a.log", "more\n");
    w.start();
    w.expect(&["A opened again a.log from 3600", "e seen"]);
    assert_eq!(w.read('A'), ["more"]);
}

#[test]
fn a_copy_of_a_file_that_is_still_there_is_another_file() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", &distinct(0, 100));
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.stop();
    fs::copy(w.path("a.log"), w.path("copy.log")).unwrap();
    w.append("a.log", "more\n");
    w.start();
    w.expect(&["A opened again a.log from 3600", "B opened copy.log", "e seen"]);
}

#[test]
fn a_copy_of_a_finished_file_is_shipped_already_only_when_the_original_is_gone_and_nothing_is_new_in_it() {
    for (original_stays, more, repeated) in [(false, false, false), (true, false, true), (false, true, true)] {
        let mut w = World::new(&["*.log", "a.log.1"]);
        w.append("a.log", &distinct(0, 100));
        w.expect(&["A opened a.log", "e seen"]);
        w.rename("a.log", "a.log.1");
        w.expect(&["A moved to a.log.1", "A leaves"]);
        w.finish('A');
        w.stop();
        fs::copy(w.path("a.log.1"), w.path("copy.log")).unwrap();
        if more {
            w.append("copy.log", "more\n");
        }
        if !original_stays {
            fs::remove_file(w.path("a.log.1")).unwrap();
        }
        w.start();
        let said = w.scan();
        assert_eq!(said.contains(&"B opened copy.log".to_owned()), repeated, "{original_stays} {more}: {said:?}");
    }
}

#[test]
fn an_inode_used_again_by_a_file_with_other_content_is_a_new_file() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\ntwo\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.stop();
    // The same place, as far as the disk tells, and as long as before.
    fs::write(w.path("a.log"), "uno\ndue\ntre\n").unwrap();
    w.start();
    w.expect(&["A forgotten", "B opened a.log", "e seen"]);
    assert_eq!(w.read('B'), ["uno", "due", "tre"]);
}

#[test]
fn a_place_without_birth_time_that_belongs_to_something_else_now_is_not_shipped_under_a_foreign_name() {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", "");
    w.expect(&["A opened a.log", "e seen"]);
    w.stop();
    w.rename("a.log", "something-else");
    w.append("something-else", "secret\n");
    w.known_mut()[0].place.born_ns = None;
    w.start();
    w.expect(&["e seen"]);
}

#[test]
fn the_device_number_may_change_over_a_reboot() {
    for born in [true, false] {
        let mut w = World::new(&["a.log"]);
        w.append("a.log", &distinct(0, 100));
        w.expect(&["A opened a.log", "e seen"]);
        w.read('A');
        w.stop();
        w.append("a.log", "more\n");
        let place = &mut w.known_mut()[0].place;
        place.device += 1;
        place.born_ns = place.born_ns.filter(|_| born);
        w.start();
        w.expect(&["A opened again a.log from 3600", "e seen"]);
    }
}

#[test]
fn without_birth_times_and_on_another_device_a_few_bytes_prove_nothing() {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", "banner\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.stop();
    let place = &mut w.known_mut()[0].place;
    (place.device, place.born_ns) = (place.device + 1, None);
    w.start();
    w.expect(&["A forgotten", "B opened a.log", "e seen"]);
}

#[test]
fn a_link_that_flips_leaves_its_old_target_and_opens_the_new_one() {
    let mut w = World::new(&["current"]);
    w.append("app.1.log", "one\n");
    w.append("app.2.log", "two\n");
    w.link("app.1.log", "current");
    w.expect(&["A opened current", "e seen"]);
    w.append("app.1.log", "late\n");
    w.link("app.2.log", "current");
    w.expect(&["A moved to app.1.log", "A leaves", "A grew", "B opened current after A"]);
    assert_eq!((w.finish('A'), w.read('B')), (strings(&["one", "late"]), strings(&["two"])));
    w.link("app.1.log", "current");
    w.expect(&["B moved to app.2.log", "B leaves", "A opened again current from 9 after B"]);
}

#[test]
fn names_that_lead_to_one_file_are_one_stream() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    fs::hard_link(w.path("a.log"), w.path("b.log")).unwrap();
    w.link("a.log", "0.log");
    w.expect(&["A opened a.log", "e seen"]);
    fs::remove_file(w.path("a.log")).unwrap();
    fs::remove_file(w.path("0.log")).unwrap();
    w.expect(&["A moved to b.log", "A leaves"]);
}

/// What may stand in the place of a file that was read before a stop, and what it is taken for.
fn after_a_stop(before: &str, change: impl FnOnce(&mut World), then: &str, expected: &[&str]) {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", before);
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    w.stop();
    fs::write(w.path("a.log"), then).unwrap(); // the same inode, born at the same time
    change(&mut w);
    w.start();
    w.expect(expected);
}

#[test]
fn same_place_and_same_content_is_the_same_file_and_any_difference_makes_another() {
    let beats = |count: usize| "heartbeat ok\n".repeat(count);
    let nothing = |_: &mut World| {};
    let unborn = |w: &mut World| w.known_mut()[0].place.born_ns = None;
    let other_device = |w: &mut World| w.known_mut()[0].place.device += 1;
    let long = distinct(0, 3000);
    let (same, new) = (["A opened again a.log from 4", "e seen"], ["A forgotten", "B opened a.log", "e seen"]);
    // Tiny files: every byte counts.
    after_a_stop("one\n", nothing, "one\ntwo\n", &same);
    after_a_stop("one\n", nothing, "uno\ntwo\n", &new);
    after_a_stop("one\n", nothing, "one", &new);
    after_a_stop("one\n", nothing, "", &new);
    after_a_stop("one\n", other_device, "one\ntwo\n", &same);
    // A few bytes in a place whose birth nobody knows, on another device: in doubt it is new.
    after_a_stop("one\n", |w| (unborn(w), other_device(w)).1, "one\ntwo\n", &new);
    // The first bytes are equal, what was read last is not.
    let banner = beats(200);
    after_a_stop(&format!("{banner}one\n"), nothing, &format!("{banner}two\nthree\n"), &new);
    // Shorter, longer, equally long.
    after_a_stop(&long, nothing, &distinct(1, 2999), &new);
    after_a_stop(&long, nothing, &distinct(1, 3000), &new);
    after_a_stop(&long, nothing, &distinct(1, 4000), &new);
    after_a_stop(&long, nothing, &format!("{long}more\n"), &["A opened again a.log from 108000", "e seen"]);
    after_a_stop(&long, unborn, &format!("{long}more\n"), &["A opened again a.log from 108000", "e seen"]);
    // A million equal heartbeats that go on, and fewer of them than were read.
    let million = ["A opened again a.log from 13000000", "e seen"];
    after_a_stop(&beats(1_000_000), nothing, &beats(1_000_001), &million);
    after_a_stop(&beats(1_000_000), nothing, &beats(999_999), &new);
    // Equal lines prove nothing where the birth is not known and the device changed.
    after_a_stop(&beats(1_000_000), |w| (unborn(w), other_device(w)).1, &beats(1_000_001), &new);
}

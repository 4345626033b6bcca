//! Which files an entry means, what stands in the way, and entries that come, go and change.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;

use common::world::{World, strings};
use tailmill_tail::{StartAt, StreamReport};

#[test]
fn two_entries_over_one_file_have_separate_streams() {
    let mut w = World::new(&["*.log"]);
    let specs = vec![w.specs[0].clone(), w.spec("other", &["a*"], &[], StartAt::Beginning)];
    w.set_specs(specs);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen", "B opened a.log for other", "other seen"]);
}

#[test]
fn an_entry_that_goes_drops_its_streams_and_comes_back_where_they_were() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    let spec = w.specs[0].clone();
    w.set_specs(vec![]);
    w.expect(&["A dropped"]);
    w.append("a.log", "two\n");
    // Back before its stream was closed: nothing is opened twice.
    w.set_specs(vec![spec]);
    w.expect(&[]);
    w.close('A');
    w.expect(&["A opened again a.log from 4"]);
    assert_eq!(w.read('A'), ["two"]);
}

#[test]
fn an_entry_whose_streams_were_closed_while_it_was_away_goes_on_where_they_were() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    let spec = w.specs[0].clone();
    w.set_specs(vec![]);
    w.expect(&["A dropped"]);
    w.close('A');
    w.expect(&[]);
    w.set_specs(vec![spec]);
    w.expect(&["A opened again a.log from 4", "e seen"]);
}

#[test]
fn a_file_that_was_rotated_while_its_entry_was_away_is_searched_for() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "one\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    let spec = w.specs[0].clone();
    w.set_specs(vec![]);
    w.expect(&["A dropped"]);
    w.close('A');
    w.append("a.log", "two\n");
    w.rename("a.log", "a.log.1");
    w.append("a.log", "three\n");
    w.set_specs(vec![spec]);
    w.expect(&["A opened again a.log.1 from 4", "A leaves", "B opened a.log after A", "e seen"]);
}

#[test]
fn a_changed_pattern_drops_only_what_it_means_no_more() {
    let mut w = World::new(&["*.log"]);
    w.append("a.log", "");
    w.append("b.log", "");
    w.scan();
    let spec = w.spec("e", &["a.*", "c.*"], &[], StartAt::Beginning);
    w.append("c.log", "");
    w.set_specs(vec![spec]);
    let said = w.scan();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].ends_with("dropped") && said[1] == "C opened c.log", "{said:?}");
}

#[test]
fn start_at_the_end_counts_only_for_files_that_were_there_when_the_entry_was_first_seen() {
    let mut w = World::with(&["*.log"], &[], StartAt::End, false);
    w.append("a.log", "old\n");
    w.expect(&["A opened a.log from 4", "e seen"]);
    w.append("b.log", "new\n");
    w.expect(&["B opened b.log"]);
    w.append("a.log", "more\n");
    w.expect(&["A grew"]);
    assert_eq!((w.read('A'), w.read('B')), (strings(&["more"]), strings(&["new"])));
    w.stop();
    w.append("c.log", "while stopped\n");
    w.start();
    let said = w.scan();
    assert!(said.contains(&"C opened c.log".to_owned()), "{said:?}");
}

#[test]
fn what_cannot_be_read_is_reported_once_skipped_and_picked_up_when_it_heals() {
    let mut w = World::new(&["f.log", "d.log", "l.log", "x*"]);
    rustix::fs::mkfifoat(rustix::fs::CWD, w.path("f.log"), rustix::fs::Mode::RUSR).unwrap();
    fs::create_dir(w.path("d.log")).unwrap();
    fs::create_dir(w.path("x-is-a-directory-among-files")).unwrap();
    w.link("nowhere", "l.log");
    w.expect(&[
        "problem d.log: it is a directory, not a file: name the files in it, as in `/*.log`",
        "problem f.log: it is not a regular file (a FIFO, a socket or a device)",
        "problem l.log: it is a link to something that does not exist",
        "e seen",
    ]);
    w.expect(&[]);
    w.append("nowhere", "now it is\n");
    w.expect(&["healed l.log", "A opened l.log"]);
    fs::remove_file(w.path("f.log")).unwrap();
    w.expect(&["healed f.log"]);
    fs::remove_dir(w.path("d.log")).unwrap();
    w.append("d.log", "a file now\n");
    w.expect(&["healed d.log", "B opened d.log"]);
}

#[test]
fn a_link_inside_that_leads_outside_is_refused() {
    let mut w = World::new(&["in/*"]);
    w.allow("in/**");
    fs::create_dir(w.path("in")).unwrap();
    w.append("in/a.log", "one\n");
    w.append("secret", "must not travel\n");
    w.link("../secret", "in/b.log");
    fs::hard_link(w.path("in/a.log"), w.path("in/c.log")).unwrap();
    w.expect(&["A opened in/a.log", "problem in/b.log: outside", "e seen"]);
    w.expect(&[]);
    w.link("a.log", "in/b.log");
    w.expect(&["healed in/b.log"]);
}

#[test]
fn excludes_are_on_the_name_or_on_the_whole_path() {
    let mut w = World::with(&["**/*"], &["*.gz", "**/skip/**"], StartAt::Beginning, false);
    for dir in ["a", "a/skip", "a/b"] {
        fs::create_dir(w.path(dir)).unwrap();
    }
    for file in ["x.gz", "a/y", "a/skip/z", "a/b/v"] {
        w.append(file, "");
    }
    let mut said = w.scan();
    said.sort();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].ends_with("opened a/y") || said[0].ends_with("opened a/b/v"), "{said:?}");
}

#[test]
fn two_stars_see_directories_that_appear_and_do_not_follow_links_in_circles() {
    let mut w = World::new(&["**/*.log"]);
    w.append("top.log", "");
    w.expect(&["A opened top.log", "e seen"]);
    fs::create_dir_all(w.path("x/y/z")).unwrap();
    w.link("../..", "x/y/circle");
    w.append("x/y/z/deep.log", "");
    w.expect(&["B opened x/y/z/deep.log"]);
    w.rename("x", "w");
    w.expect(&["B moved to w/y/z/deep.log", "B leaves"]);
}

#[test]
fn links_to_directories_are_followed_where_a_pattern_names_the_level() {
    let mut w = World::new(&["logs/*/app.log", "link/**/b.log"]);
    fs::create_dir_all(w.path("real/sub")).unwrap();
    fs::create_dir(w.path("logs")).unwrap();
    w.append("real/app.log", "");
    w.append("real/sub/b.log", "");
    w.link("../real", "logs/one");
    w.link("real", "link");
    let mut said = w.scan();
    said.sort_by_key(|sentence| sentence[2..].to_owned());
    assert_eq!(
        said.iter().map(|s| &s[2..]).collect::<Vec<_>>(),
        ["opened link/sub/b.log", "opened logs/one/app.log", "seen"]
    );
}

#[test]
fn names_that_are_no_text_are_ordinary() {
    use std::os::unix::ffi::OsStrExt;
    let mut w = World::new(&["*.log"]);
    let name = w.dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe bad\n.log"));
    fs::write(&name, "one\n").unwrap();
    let said = w.scan();
    assert_eq!((said.len(), said[0].starts_with("A opened")), (2, true), "{said:?}");
    assert_eq!(w.read('A'), ["one"]);
}

#[test]
fn a_truncated_stream_of_an_entry_that_went_is_not_taken_up_again() {
    let mut w = World::new(&["a.log"]);
    w.append("a.log", "one\ntwo\n");
    w.expect(&["A opened a.log", "e seen"]);
    w.read('A');
    let known = w.known_of(&w.key('A'), false);
    let spec = w.specs[0].clone();
    w.set_specs(vec![]);
    fs::write(w.path("a.log"), "").unwrap();
    w.discovery.report(StreamReport::Truncated { known, file: None });
    w.set_specs(vec![spec]);
    w.expect(&["A dropped", "B opened a.log", "e seen"]);
}

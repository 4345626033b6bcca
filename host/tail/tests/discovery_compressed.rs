//! Compressed files, meant or not.
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::fs;

use common::pack;
use common::world::World;
use tailmill_tail::{Packing, StartAt};

fn world(pattern: &str, compressed: bool) -> World {
    let mut world = World::new(&[pattern]);
    let mut spec = world.spec("e", &[pattern], &[], StartAt::Beginning);
    spec.compressed = compressed;
    world.set_specs(vec![spec]);
    world
}

fn write(world: &World, name: &str, content: &str, packing: Packing) {
    fs::write(world.path(name), pack(content.as_bytes(), Some(packing))).unwrap();
}

#[test]
fn a_compressed_file_that_was_not_meant_is_reported_once_and_never_shipped() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut world = world("*", false);
        world.append("app.log", "one\n");
        write(&world, "old", "two\n", packing);
        let problem = "problem old: it looks compressed: set \"compressed\": true, or exclude it";
        let said = world.scan();
        assert!(said.contains(&problem.to_owned()), "{said:?}");
        assert_eq!(world.scan(), [""; 0], "once");
        world.read_all();
        assert_eq!(world.delivered, ["one"]);
        fs::remove_file(world.path("old")).unwrap();
        assert_eq!(world.scan(), ["healed old"]);
    }
}

#[test]
fn a_damaged_file_is_closed_as_idle_and_stays_closed() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut world = world("*", true);
        let damaged = [&pack(b"one\n", Some(packing))[..], &pack(b"two\n", Some(packing))[..], b"no member"].concat();
        fs::write(world.path("a"), damaged).unwrap();
        world.scan();
        world.read_all();
        assert_eq!(world.delivered, ["one", "two"]);
        world.idle('A');
        assert_eq!(world.scan(), [""; 0], "{packing:?}: opened again, and nobody wrote it");
    }
}

#[test]
fn a_compressed_file_that_was_meant_is_read_and_resumed_after_a_restart() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut world = world("*", true);
        let lines: Vec<String> = (0..5000).map(|i| format!("line {i}")).collect();
        write(&world, "a.1", &(lines.join("\n") + "\n"), packing);
        world.append("plain", "plain\n");
        world.scan();
        world.read_all();
        world.delivered.sort();
        let mut expected = [lines, vec!["plain".to_owned()]].concat();
        expected.sort();
        assert_eq!(world.delivered, expected);

        world.stop();
        let more = pack(b"more\n", Some(packing));
        let before = fs::read(world.path("a.1")).unwrap();
        fs::write(world.path("a.1"), [before, more].concat()).unwrap();
        world.start();
        world.scan();
        world.read_all();
        assert_eq!(world.delivered[expected.len()..], ["more"], "{packing:?}");

        // Closed as idle: how much there is on the disk counts, not how much it unpacks to.
        world.idle('A');
        assert_eq!(world.scan(), [""; 0], "{packing:?}: opened again, and nobody wrote it");
        let cut_off = pack(b"and more\n", Some(packing));
        let before = fs::read(world.path("a.1")).unwrap();
        fs::write(world.path("a.1"), [&before, &cut_off[..cut_off.len() - 1]].concat()).unwrap();
        world.scan();
        world.read_all();
        world.idle('A');
        assert_eq!(world.scan(), [""; 0], "{packing:?}: ends inside a member");
        fs::write(world.path("a.1"), [&before[..], &cut_off].concat()).unwrap();
        assert!(world.scan().contains(&"A reopened".to_owned()));
        world.read_all();
        assert_eq!(world.delivered[expected.len() + 1..], ["and more"], "{packing:?}");

        // Renamed, and finished under its new name: nothing comes again, and nothing keeps it busy.
        world.rename("a.1", "a.2");
        for _ in 0..3 {
            world.scan();
            world.read_all();
        }
        assert_eq!(world.scan(), [""; 0]);
        world.stop();
        world.start();
        world.scan();
        world.read_all();
        assert_eq!(world.delivered.len(), expected.len() + 2);
    }
}

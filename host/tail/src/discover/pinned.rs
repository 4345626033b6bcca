//! Deleted files that are still unread: as long as they are open, their bytes stay on the disk.
//!
//! In: what shards say of such files. Out: a warning when they take most of what they may, and which to give up when
//! they take more: the one that was deleted first. It closes nothing by itself.

use std::collections::HashMap;

use super::{FileEvent, Notice, StreamKey};

/// At this share of the limit (in percent) people are warned; below the other one the next warning is worth a word.
const WARN_PERCENT: u128 = 80;
const CALM_PERCENT: u128 = 60;

/// See the module.
#[derive(Debug)]
pub(super) struct Pinned {
    bytes_max: u64,
    files: HashMap<StreamKey, Pin>,
    /// Counts files.
    count: u64,
    warned: bool,
}

#[derive(Debug)]
struct Pin {
    bytes: u64,
    unread: u64,
    /// The smaller, the earlier it was deleted.
    number: u64,
    given_up: bool,
}

impl Pinned {
    pub(super) fn new(bytes_max: u64) -> Pinned {
        Pinned { bytes_max, files: HashMap::new(), count: 0, warned: false }
    }

    /// A deleted file takes `bytes` of the disk, of which `unread` were not read.
    pub(super) fn set(&mut self, key: StreamKey, bytes: u64, unread: u64, events: &mut Vec<FileEvent>) {
        self.count += 1;
        let number = self.count;
        let pin = self.files.entry(key).or_insert(Pin { bytes, unread, number, given_up: false });
        (pin.bytes, pin.unread) = (bytes, unread);
        self.keep_within(events);
    }

    pub(super) fn remove(&mut self, key: &StreamKey) {
        if self.files.remove(key).is_some() && self.percent() < CALM_PERCENT {
            self.warned = false;
        }
    }

    fn total(&self) -> u64 {
        // What is given up is on its way out; what is read to its end is about to be.
        let held = self.files.values().filter(|pin| !pin.given_up && pin.unread > 0);
        held.fold(0, |sum, pin| sum.saturating_add(pin.bytes))
    }

    fn percent(&self) -> u128 {
        u128::from(self.total()) * 100 / u128::from(self.bytes_max.max(1))
    }

    fn keep_within(&mut self, events: &mut Vec<FileEvent>) {
        if self.percent() >= WARN_PERCENT && !std::mem::replace(&mut self.warned, true) {
            let (bytes, bytes_max) = (self.total(), self.bytes_max);
            events.push(FileEvent::Notice(Notice::PinnedNearLimit { bytes, bytes_max }));
        }
        while self.total() > self.bytes_max {
            let held = self.files.iter_mut().filter(|(_, pin)| !pin.given_up && pin.unread > 0);
            let Some((key, pin)) = held.min_by_key(|(_, pin)| pin.number) else { return };
            pin.given_up = true;
            events.push(FileEvent::GiveUp { key: key.clone(), unread: pin.unread });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::FileId;

    fn key(file: u128) -> StreamKey {
        StreamKey { entry: "e".into(), file: FileId(file) }
    }

    fn told(events: &mut Vec<FileEvent>) -> Vec<String> {
        let tell = |event: FileEvent| match event {
            FileEvent::GiveUp { key, unread } => format!("give up {}, {unread} unread", key.file.0),
            FileEvent::Notice(Notice::PinnedNearLimit { bytes, bytes_max }) => format!("warn {bytes} of {bytes_max}"),
            other => panic!("{other:?}"),
        };
        events.drain(..).map(tell).collect()
    }

    #[test]
    fn a_warning_comes_before_and_the_file_that_was_deleted_first_is_given_up() {
        let mut pinned = Pinned::new(100);
        let mut events = Vec::new();
        pinned.set(key(1), 40, 30, &mut events);
        assert_eq!(told(&mut events), [""; 0]);
        pinned.set(key(2), 40, 40, &mut events);
        assert_eq!(told(&mut events), ["warn 80 of 100"]);
        pinned.set(key(1), 40, 20, &mut events);
        pinned.set(key(3), 20, 20, &mut events);
        assert_eq!(told(&mut events), [""; 0]);
        pinned.set(key(4), 1, 1, &mut events);
        assert_eq!(told(&mut events), ["give up 1, 20 unread"]);
        pinned.set(key(4), 1, 1, &mut events);
        assert_eq!(told(&mut events), [""; 0], "once");
        pinned.set(key(5), 200, 150, &mut events);
        assert_eq!(
            told(&mut events),
            ["give up 2, 40 unread", "give up 3, 20 unread", "give up 4, 1 unread", "give up 5, 150 unread"]
        );
    }

    #[test]
    fn a_file_read_to_its_end_counts_no_more_and_the_next_warning_comes_after_a_calm() {
        let mut pinned = Pinned::new(100);
        let mut events = Vec::new();
        pinned.set(key(1), 90, 90, &mut events);
        pinned.set(key(1), 90, 0, &mut events);
        pinned.set(key(2), 90, 1, &mut events);
        assert_eq!(told(&mut events), ["warn 90 of 100"]);
        pinned.remove(&key(1));
        pinned.remove(&key(2));
        pinned.set(key(3), 90, 1, &mut events);
        assert_eq!(told(&mut events), ["warn 90 of 100"]);
    }
}

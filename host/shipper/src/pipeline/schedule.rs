//! Whose turn it is: a queue of streams that have work, and timers for those that wait for a moment.
//!
//! Files that were rotated away or deleted go first: the disk may not keep them for long, and their successors wait for
//! them. They get most turns, not all: a program that goes on writing into one of them must not hold the others up.

use super::streams::StreamIx;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Instant;

/// So many turns in a row go to files that leave while others have work, too.
const LEAVING_TURNS: u32 = 3;

/// Ready streams in order, waiting ones by time or until something is acknowledged.
#[derive(Default)]
pub(super) struct Schedule {
    ready: VecDeque<StreamIx>,
    /// Ready ones whose files leave.
    ready_leaving: VecDeque<StreamIx>,
    leaving: HashSet<StreamIx>,
    /// Turns in a row that those had.
    in_a_row: u32,
    queued: HashSet<StreamIx>,
    timers: BTreeSet<(Instant, StreamIx)>,
    starved: Vec<StreamIx>,
    /// Those in `starved`.
    hungry: HashSet<StreamIx>,
    /// Those that wait for leave to unpack, in the order in which they asked.
    unpacking: VecDeque<StreamIx>,
}

impl Schedule {
    /// The stream has work: it gets a turn when those before it had theirs.
    pub(super) fn ready(&mut self, stream: StreamIx) {
        if self.queued.insert(stream) {
            match self.leaving.contains(&stream) {
                true => self.ready_leaving.push_back(stream),
                false => self.ready.push_back(stream),
            }
        }
    }

    /// The stream's file leaves its place, or came back: it goes before others, or not any more.
    pub(super) fn set_leaving(&mut self, stream: StreamIx, leaves: bool) {
        let changed = if leaves { self.leaving.insert(stream) } else { self.leaving.remove(&stream) };
        if changed && self.queued.remove(&stream) {
            self.ready.retain(|other| *other != stream);
            self.ready_leaving.retain(|other| *other != stream);
            self.ready(stream);
        }
    }

    /// The stream gets a turn at `when`, if it has none before.
    pub(super) fn at(&mut self, when: Instant, stream: StreamIx) {
        self.timers.insert((when, stream));
    }

    /// The stream waits until anything in flight is settled.
    pub(super) fn starved(&mut self, stream: StreamIx) {
        if self.hungry.insert(stream) {
            self.starved.push(stream);
        }
    }

    /// Something was settled: whoever waited for room is ready.
    pub(super) fn feed_starved(&mut self) {
        self.hungry.clear();
        for stream in std::mem::take(&mut self.starved) {
            self.ready(stream);
        }
    }

    /// The stream waits for leave to unpack; one that does already keeps its place.
    pub(super) fn wait_to_unpack(&mut self, stream: StreamIx) {
        if !self.unpacking.contains(&stream) {
            self.unpacking.push_back(stream);
        }
    }

    /// It does not wait for that any more.
    pub(super) fn leave_unpack_queue(&mut self, stream: StreamIx) {
        self.unpacking.retain(|other| *other != stream);
    }

    /// Whether the stream may have one of `room` leaves: not as long as those before it want them all.
    pub(super) fn may_unpack(&self, stream: StreamIx, room: usize) -> bool {
        let place = self.unpacking.iter().position(|other| *other == stream);
        place.unwrap_or(self.unpacking.len()) < room
    }

    /// There is room for so many: whoever waited longest is ready.
    pub(super) fn feed_unpacking(&mut self, room: usize) {
        let next: Vec<StreamIx> = self.unpacking.iter().take(room).copied().collect();
        next.into_iter().for_each(|stream| self.ready(stream));
    }

    /// Whether anybody waits for leave to unpack.
    pub(super) fn has_unpack_queue(&self) -> bool {
        !self.unpacking.is_empty()
    }

    /// Moves the streams whose moment has come to the ready ones.
    pub(super) fn ring(&mut self, now: Instant) {
        while let Some(&(when, stream)) = self.timers.first() {
            if when > now {
                break;
            }
            self.timers.pop_first();
            self.ready(stream);
        }
    }

    /// The next stream to get a turn.
    pub(super) fn next(&mut self) -> Option<StreamIx> {
        let first = self.in_a_row < LEAVING_TURNS || self.ready.is_empty();
        let leaving = if first { self.ready_leaving.pop_front() } else { None };
        let stream = match leaving {
            Some(stream) => {
                self.in_a_row += 1;
                stream
            }
            None => {
                self.in_a_row = 0;
                self.ready.pop_front()?
            }
        };
        self.queued.remove(&stream);
        Some(stream)
    }

    /// Whether some stream has work now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.ready_leaving.is_empty()
    }

    /// When the next timer rings.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(when, _)| *when)
    }

    /// The stream is gone.
    pub(super) fn forget(&mut self, stream: StreamIx) {
        self.leave_unpack_queue(stream);
        if self.queued.remove(&stream) {
            self.ready.retain(|other| *other != stream);
            self.ready_leaving.retain(|other| *other != stream);
        }
        self.leaving.remove(&stream);
        self.timers.retain(|(_, other)| *other != stream);
        if self.hungry.remove(&stream) {
            self.starved.retain(|other| *other != stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn two_thousand_busy_streams_get_their_turns_one_after_the_other() {
        const STREAMS: u64 = 2_000;
        let mut schedule = Schedule::default();
        (0..STREAMS).for_each(|stream| schedule.ready(stream));
        let now = Instant::now();
        let mut turns = vec![0_u32; STREAMS as usize];
        for turn in 0..10 * STREAMS {
            schedule.ring(now + Duration::from_millis(turn));
            let stream = schedule.next().expect("all have work");
            turns[stream as usize] += 1;
            // Each in its own way has more to do: at once, told of growth several times, after a report, after a time.
            match stream % 4 {
                0 => schedule.ready(stream),
                1 => (0..3).for_each(|_| schedule.ready(stream)),
                2 => {
                    schedule.starved(stream);
                    schedule.feed_starved();
                }
                _ => schedule.at(now, stream),
            }
            let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
            assert!(most - least <= 1, "stream {stream} had a turn more before all others had theirs");
        }
        assert_eq!(turns, vec![10; STREAMS as usize]);
    }

    #[test]
    fn files_that_leave_go_first_and_leave_a_turn_in_four_to_the_others() {
        let mut schedule = Schedule::default();
        (0..6).for_each(|stream| schedule.ready(stream));
        schedule.set_leaving(4, true);
        schedule.set_leaving(5, true);
        schedule.set_leaving(3, true);
        schedule.set_leaving(3, false);
        let mut turns = String::new();
        while turns.len() < 12 {
            let stream = schedule.next().expect("all have work");
            turns += &stream.to_string();
            schedule.ready(stream);
        }
        assert_eq!(turns, "454054514542");
        schedule.forget(4);
        schedule.forget(5);
        let rest: Vec<_> = std::iter::from_fn(|| schedule.next()).collect();
        assert_eq!((rest, schedule.has_ready()), (vec![3, 0, 1, 2], false));
    }

    #[test]
    fn those_who_wait_to_unpack_go_in_the_order_in_which_they_asked() {
        let mut schedule = Schedule::default();
        [7, 8, 9, 7].into_iter().for_each(|stream| schedule.wait_to_unpack(stream));
        let may = |schedule: &Schedule, room| [7, 8, 9, 1].map(|stream| schedule.may_unpack(stream, room));
        assert_eq!(may(&schedule, 0), [false; 4]);
        assert_eq!(may(&schedule, 1), [true, false, false, false]);
        assert_eq!(may(&schedule, 3), [true, true, true, false]);
        assert_eq!(may(&schedule, 4), [true; 4]);
        schedule.feed_unpacking(2);
        assert_eq!([schedule.next(), schedule.next(), schedule.next()], [Some(7), Some(8), None]);
        schedule.leave_unpack_queue(7);
        assert_eq!(may(&schedule, 1), [false, true, false, false]);
        schedule.forget(8);
        schedule.forget(9);
        assert!(!schedule.has_unpack_queue() && schedule.may_unpack(1, 1));
    }
}

//! The lane: a second thread of a shard, for chains whose calls are dear, so that they hold up nobody else.
//!
//! In: trips, each a chain with one errand. Out: the same chain with what came of it. Entries take turns, and the
//! streams of an entry among themselves; a trip is one slice. The thread begins with the first trip and ends when there
//! was none for long. The lane never touches a stream, and the shard never waits for the lane but when it stops.
//!
//! A chain with a batch in it pins that batch, so only a few streams of an entry may have one on the lane; the others do
//! not read until one of these is done.

use super::errand::{Came, Errand};
use super::streams::StreamIx;
use crate::filter::{Chain, SharedInstances};
use crate::model::EntryName;
use crate::observe::EntryLedger;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Streams of one entry that have a batch on the lane.
const PLACES: usize = 4;

/// A slice aims at this much time, as a turn does.
const SLICE: Duration = Duration::from_millis(10);

/// A lane that was not used for so long ends; its instances go with it, and its breakers: they rest less than this.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// How a shard starts the thread: whoever made the shard runs the worker on a thread of its own.
pub type StartLane = Box<dyn Fn(LaneWorker) -> Result<(), String> + Send>;

/// A chain on its way to the lane.
pub(super) struct Trip {
    pub stream: StreamIx,
    pub chain: Box<Chain>,
    pub errand: Errand,
}

/// A chain on its way back.
pub(super) struct Return {
    pub stream: StreamIx,
    pub chain: Box<Chain>,
    pub came: Came,
    /// To be added to the entry's.
    pub ledger: EntryLedger,
    pub longest_call: Duration,
}

/// From the lane.
pub(super) enum FromLane {
    Return(Box<Return>),
    /// Its thread panicked, and the chains that were on it are gone.
    Died,
}

/// The shard's end.
pub(super) struct Lane {
    start: StartLane,
    trips: Option<Sender<Trip>>,
    returns: (Sender<FromLane>, Receiver<FromLane>),
    away: usize,
    used_at: Instant,
    entries: BTreeMap<EntryName, Places>,
    /// It could not be started (that was said), or the shard ends.
    is_broken: bool,
}

/// Who of an entry may have a batch on the lane.
#[derive(Default)]
struct Places {
    taken: usize,
    /// In the order in which they asked.
    waiting: VecDeque<StreamIx>,
}

impl Lane {
    pub(super) fn new(start: StartLane) -> Lane {
        let (entries, now) = (BTreeMap::new(), Instant::now());
        Lane { start, trips: None, returns: unbounded(), away: 0, used_at: now, entries, is_broken: false }
    }

    /// What comes from the lane.
    pub(super) fn returns(&self) -> &Receiver<FromLane> {
        &self.returns.1
    }

    /// Chains that are away.
    pub(super) fn away(&self) -> usize {
        self.away
    }

    /// Whether there is a thread to send a chain to; starts it.
    pub(super) fn is_up(&mut self) -> bool {
        if self.trips.is_none() && !self.is_broken {
            let (trips, to_do) = unbounded();
            match (self.start)(LaneWorker::new(to_do, self.returns.0.clone())) {
                Ok(()) => self.trips = Some(trips),
                Err(error) => {
                    self.is_broken = true;
                    tracing::error!("dear filters will hold up their shard: while starting its lane: {error}");
                }
            }
        }
        self.trips.is_some()
    }

    /// Sends a chain away. It must be up.
    pub(super) fn send(&mut self, trip: Trip) {
        self.used_at = Instant::now();
        self.away += 1;
        // A lane that is gone has said so.
        if let Some(trips) = &self.trips {
            let _ = trips.send(trip);
        }
    }

    /// A chain is back.
    pub(super) fn came_back(&mut self) {
        self.away -= 1;
        self.used_at = Instant::now();
    }

    /// Lets go of a thread that nobody used for long, and of its instances.
    pub(super) fn close_if_idle(&mut self, now: Instant) {
        if self.away == 0 && now.saturating_duration_since(self.used_at) >= IDLE_MAX {
            self.trips = None;
        }
    }

    /// The shard ends: nothing is sent away any more.
    pub(super) fn close(&mut self) {
        self.trips = None;
        self.is_broken = true;
    }

    /// Whether the stream may have another batch on the lane: not as long as those before it want all the places. One that
    /// `has` a place passes it on to those who wait.
    pub(super) fn may_enter(&self, entry: &EntryName, stream: StreamIx, has: bool) -> bool {
        self.entries.get(entry).is_none_or(|places| {
            if has {
                return places.waiting.is_empty();
            }
            let before = places.waiting.iter().position(|other| *other == stream).unwrap_or(places.waiting.len());
            places.taken + before < PLACES
        })
    }

    /// The stream waits for a place; one that does already keeps its own in the queue.
    pub(super) fn wait(&mut self, entry: &EntryName, stream: StreamIx) {
        let places = self.entries.entry(entry.clone()).or_default();
        if !places.waiting.contains(&stream) {
            places.waiting.push_back(stream);
        }
    }

    /// It does not wait any more. True: it did.
    pub(super) fn leave_queue(&mut self, entry: &EntryName, stream: StreamIx) -> bool {
        let Some(places) = self.entries.get_mut(entry) else { return false };
        let before = places.waiting.len();
        places.waiting.retain(|other| *other != stream);
        let did = places.waiting.len() < before;
        self.tidy(entry);
        did
    }

    /// A stream of the entry has a batch on the lane.
    pub(super) fn take_place(&mut self, entry: &EntryName) {
        self.entries.entry(entry.clone()).or_default().taken += 1;
    }

    /// It has none any more.
    pub(super) fn give_place_back(&mut self, entry: &EntryName) {
        if let Some(places) = self.entries.get_mut(entry) {
            places.taken = places.taken.saturating_sub(1);
        }
        self.tidy(entry);
    }

    /// Whose turn it is to enter.
    pub(super) fn next(&self, entry: &EntryName) -> Vec<StreamIx> {
        self.entries.get(entry).map_or_else(Vec::new, |places| {
            places.waiting.iter().take(PLACES.saturating_sub(places.taken)).copied().collect()
        })
    }

    /// Whether anybody has a place or waits for one.
    pub(super) fn is_in_use(&self) -> bool {
        !self.entries.is_empty()
    }

    fn tidy(&mut self, entry: &EntryName) {
        if self.entries.get(entry).is_some_and(|places| places.taken == 0 && places.waiting.is_empty()) {
            self.entries.remove(entry);
        }
    }
}

/// The lane's own end: what its thread runs.
pub struct LaneWorker {
    trips: Receiver<Trip>,
    returns: Sender<FromLane>,
    queue: Queue,
    shared: SharedInstances,
    /// When each entry was here last.
    seen: BTreeMap<EntryName, Instant>,
}

impl LaneWorker {
    fn new(trips: Receiver<Trip>, returns: Sender<FromLane>) -> LaneWorker {
        let (queue, shared) = (Queue::default(), SharedInstances::new());
        LaneWorker { trips, returns, queue, shared, seen: BTreeMap::new() }
    }

    /// Works until its shard lets go of it.
    pub fn run(mut self) {
        let alarm = Alarm(self.returns.clone());
        loop {
            if self.queue.is_empty() {
                match self.trips.recv() {
                    Ok(trip) => self.queue.push(trip),
                    Err(_) => break,
                }
            }
            if !self.work_once() {
                break;
            }
        }
        drop(alarm);
    }

    /// One trip of those that wait. False: nobody wants to know any more.
    pub(super) fn work_once(&mut self) -> bool {
        while let Ok(trip) = self.trips.try_recv() {
            self.queue.push(trip);
        }
        let Some(Trip { stream, mut chain, errand }) = self.queue.pop() else { return true };
        let now = Instant::now();
        self.forget_unseen(&chain, now);
        let (mut ledger, until) = (EntryLedger::default(), now + SLICE);
        let (came, longest_call) = errand.run(&mut chain, &mut self.shared, &mut ledger, until);
        let back = Return { stream, chain, came, ledger, longest_call };
        self.returns.send(FromLane::Return(Box::new(back))).is_ok()
    }
}

impl LaneWorker {
    /// Lets go of the instances of entries that were not here for long: they are dear no more, or gone.
    fn forget_unseen(&mut self, chain: &Chain, now: Instant) {
        self.seen.insert(chain.armed().entry.name.clone(), now);
        for (entry, _) in self.seen.extract_if(.., |_, seen| now.saturating_duration_since(*seen) >= IDLE_MAX) {
            self.shared.forget(&entry);
        }
    }
}

/// Tells the shard when the thread ends in the middle of its work.
struct Alarm(Sender<FromLane>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.send(FromLane::Died);
        }
    }
}

/// Trips that wait: entries take turns, whatever the number of their streams.
#[derive(Default)]
struct Queue {
    entries: VecDeque<(EntryName, VecDeque<Trip>)>,
}

impl Queue {
    fn push(&mut self, trip: Trip) {
        let entry = &trip.chain.armed().entry.name;
        match self.entries.iter_mut().find(|(name, _)| name == entry) {
            Some((_, trips)) => trips.push_back(trip),
            None => self.entries.push_back((entry.clone(), VecDeque::from([trip]))),
        }
    }

    fn pop(&mut self) -> Option<Trip> {
        let (name, mut trips) = self.entries.pop_front()?;
        let trip = trips.pop_front();
        if !trips.is_empty() {
            self.entries.push_back((name, trips));
        }
        trip
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{ArmedChain, StreamFacts};
    use crate::model::EntryPlan;
    use std::sync::Arc;

    fn trip(entry: &str, stream: StreamIx) -> Trip {
        let plan = EntryPlan { name: entry.into(), ..EntryPlan::sample(vec!["topic".into()]) };
        let facts = StreamFacts { stream_id: stream, path: Arc::default(), inode: 1, generation: "1".into() };
        let chain = Box::new(Chain::new(ArmedChain::without_filters(plan), facts));
        Trip { stream, chain, errand: Errand::Step }
    }

    #[test]
    fn entries_take_turns_and_so_do_the_streams_of_each() {
        let mut queue = Queue::default();
        for (entry, stream) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6)] {
            queue.push(trip(entry, stream));
        }
        let mut next = || queue.pop().map(|trip| trip.stream);
        assert_eq!([next(), next(), next()], [Some(1), Some(4), Some(5)]);
        queue.push(trip("b", 4));
        let order: Vec<StreamIx> = std::iter::from_fn(|| queue.pop().map(|trip| trip.stream)).collect();
        assert_eq!(order, [2, 6, 4, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn places_go_to_those_who_waited_longest_and_who_has_one_passes_it_on() {
        let mut lane = Lane::new(Box::new(|_| Err("not in this test".to_owned())));
        let entry: EntryName = "a".into();
        let may = |lane: &Lane, stream| lane.may_enter(&entry, stream, false);
        (0..PLACES).for_each(|_| lane.take_place(&entry));
        assert!(!may(&lane, 1) && lane.may_enter(&entry, 9, true), "nobody waits: who has a place goes on");
        [1, 2, 1].into_iter().for_each(|stream| lane.wait(&entry, stream));
        assert!(!lane.may_enter(&entry, 9, true), "who has a place passes it on");
        assert!(lane.may_enter(&"b".into(), 3, false), "another entry has places of its own");
        lane.give_place_back(&entry);
        assert_eq!(lane.next(&entry), [1]);
        assert_eq!([1, 2, 3].map(|stream| may(&lane, stream)), [true, false, false]);
        assert!(lane.leave_queue(&entry, 1) && !lane.leave_queue(&entry, 1));
        assert_eq!(lane.next(&entry), [2]);
        lane.leave_queue(&entry, 2);
        (1..PLACES).for_each(|_| lane.give_place_back(&entry));
        assert!(!lane.is_in_use());
        assert!(!lane.is_up(), "a lane that cannot be started is not waited for");
    }
}

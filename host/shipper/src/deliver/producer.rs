//! A producer: one a (shard, cluster), on the shard's thread.
//!
//! In: parcels. Out: reports. Records of one partition go out in the order in which their parcels came: what librdkafka
//! does not take because its queue is full waits in a backlog, and nothing goes past it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;

use super::ffi::{Event, ItemHeader, Native, Slot, TopicId};
use super::headers;
use super::parcel::{Parcel, Report};
use super::partition::{Dice, Target};
use super::refusal::{Refusal, RefusalKind};
use super::run::{Records, Run, runs};
use super::settings;
use super::topics::{TopicDirectory, TopicState};
use super::trouble::Trouble;
use crate::model::ClusterPlan;

/// What librdkafka and we keep for each record beside its value and key, in bytes: `rd_kafka_msg_t` with malloc's share,
/// and its two ends in the set.
pub const RECORD_OVERHEAD_BYTES: usize = 192;

/// Between two purges while reports are collected: what was in flight at the first may be queued again.
const PURGE_EVERY: Duration = Duration::from_millis(50);
/// With nothing on its way, room for so many parcels is kept.
const ROOM_KEPT: usize = 1024;

/// A parcel on its way.
struct InFlight {
    parcel: Parcel,
    /// Records that are not reported.
    left: u32,
    acked: u32,
    failed: Vec<(u32, Refusal)>,
    pinned_bytes: usize,
    /// Number of each record among those of its line; empty unless a header asks for it.
    numbers: Vec<u32>,
}

/// One producer.
pub struct Producer {
    native: Native,
    directory: TopicDirectory,
    topics: HashMap<Arc<str>, TopicId>,
    /// By slot.
    in_flight: Vec<Option<InFlight>>,
    parcels: usize,
    /// What librdkafka's queue had no room for, in order.
    backlog: VecDeque<Run>,
    ready: Vec<Report>,
    pinned_bytes: usize,
    round_robin: u32,
    dice: Dice,
    trouble: Trouble,
    not_taken: Vec<(u32, Code)>,
}

impl Producer {
    /// A producer for a cluster. Nothing is connected yet; a cluster that cannot be reached shows in [`Producer::health`].
    pub fn new(cluster: &ClusterPlan, client_id: &str, topics: TopicDirectory) -> Result<Producer, String> {
        let native = Native::new(&settings::producer(cluster, client_id))
            .map_err(|error| format!("while making a producer for cluster {}: {error}", cluster.name))?;
        Ok(Producer {
            native,
            directory: topics,
            topics: HashMap::new(),
            in_flight: Vec::new(),
            parcels: 0,
            backlog: VecDeque::new(),
            ready: Vec::new(),
            pinned_bytes: 0,
            round_robin: 0,
            dice: Dice::new(),
            trouble: Trouble::default(),
            not_taken: Vec::new(),
        })
    }

    /// Sends a parcel. Whatever becomes of it comes in its report.
    pub fn send(&mut self, parcel: Parcel) {
        let records = parcel.set.len() as u32;
        let pinned_bytes = parcel.set.buffer.pinned_bytes() + records as usize * RECORD_OVERHEAD_BYTES;
        let slot = self.native.pin(parcel.set.buffer.clone());
        let wants_numbers = parcel.headers.iter().any(|header| matches!(header, headers::HeaderSource::Id { .. }));
        let numbers =
            if wants_numbers { headers::numbers(&parcel.set.sources, parcel.first_number) } else { Vec::new() };
        let runs = runs(slot, &parcel);
        if self.in_flight.len() <= slot.place() {
            self.in_flight.resize_with(slot.place() + 1, || None);
        }
        self.in_flight[slot.place()] =
            Some(InFlight { parcel, left: records, acked: 0, failed: Vec::new(), pinned_bytes, numbers });
        self.parcels += 1;
        self.pinned_bytes += pinned_bytes;
        if records == 0 {
            self.finish(slot);
        }
        for run in runs {
            if !self.backlog.is_empty() {
                self.backlog.push_back(run);
            } else if let Some(rest) = self.produce(run) {
                self.backlog.push_back(rest);
            }
        }
    }

    /// Takes what librdkafka has to say, waiting up to `timeout` (whole milliseconds) for the first of it. Appends a report
    /// for each parcel that is through.
    pub fn poll(&mut self, timeout: Duration, out: &mut Vec<Report>) {
        let mut wait = if self.ready.is_empty() { timeout } else { Duration::ZERO };
        while self.hear(wait) {
            wait = Duration::ZERO;
        }
        while let Some(run) = self.backlog.pop_front() {
            if let Some(rest) = self.produce(run) {
                self.backlog.push_front(rest);
                break;
            }
        }
        out.append(&mut self.ready);
        self.ready.shrink_to(ROOM_KEPT);
    }

    /// Parcels that are not reported.
    pub fn parcels(&self) -> usize {
        self.parcels
    }

    /// Memory that parcels hold: their buffers, and [`RECORD_OVERHEAD_BYTES`] for each record.
    pub fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// What is wrong with the cluster as this producer sees it; `None`: nothing is known to be. Holds no secrets.
    pub fn health(&self) -> Option<String> {
        self.trouble.message(self.directory.answered_at())
    }

    /// Why this producer is of no more use, if it is: drop it, make a new one and go back to the marks.
    pub fn is_fatal(&self) -> Option<String> {
        self.native.fatal_error()
    }

    /// Gives up everything that is on its way and reports it: acknowledged, or failed as purged (it may have been written).
    /// What librdkafka has not given back at the deadline counts as purged too; its memory stays until the producer goes.
    pub fn purge_and_drain(&mut self, deadline: Instant, out: &mut Vec<Report>) {
        for run in std::mem::take(&mut self.backlog) {
            run.records.each(|index| self.settle(run.slot, index, Some(Refusal::purged())));
        }
        while self.parcels > 0 {
            self.native.purge();
            self.hear(PURGE_EVERY);
            while self.hear(Duration::ZERO) {}
            if Instant::now() >= deadline {
                break;
            }
        }
        for in_flight in self.in_flight.iter_mut().filter_map(Option::take) {
            self.ready.push(in_flight.given_up());
        }
        self.parcels = 0;
        out.append(&mut self.ready);
    }

    /// One event. False: there was none.
    fn hear(&mut self, wait: Duration) -> bool {
        let Producer { native, in_flight, trouble, directory, .. } = self;
        let mut through = Vec::new();
        let came = native.poll(wait, |event| match event {
            Event::Delivered { slot, index, error } => {
                let Some(Some(parcel)) = in_flight.get_mut(slot.place()) else { return };
                match error {
                    None => parcel.acked += 1,
                    Some(code) => parcel.failed.push((index, refusal(code, parcel.topic_of(index), directory))),
                }
                parcel.left -= 1;
                if parcel.left == 0 {
                    through.push(slot);
                }
            }
            Event::Trouble { code, message } => trouble.heard(code, &message),
            Event::Log { level, facility, message } => log(level, &facility, &message),
        });
        for slot in through {
            if self.finish(slot) {
                self.trouble.acknowledged();
            }
        }
        came
    }

    /// A record's end without librdkafka.
    fn settle(&mut self, slot: Slot, index: u32, refusal: Option<Refusal>) {
        let Some(Some(parcel)) = self.in_flight.get_mut(slot.place()) else { return };
        parcel.failed.extend(refusal.map(|refusal| (index, refusal)));
        parcel.left -= 1;
        if parcel.left == 0 {
            self.finish(slot);
        }
    }

    /// The parcel's last record is reported. True when any of its records was acknowledged.
    fn finish(&mut self, slot: Slot) -> bool {
        let Some(mut parcel) = self.in_flight.get_mut(slot.place()).and_then(Option::take) else { return false };
        let unpinned = self.native.unpin(slot);
        debug_assert!(unpinned, "a parcel is through while librdkafka has records of it");
        self.parcels -= 1;
        if self.parcels == 0 && self.in_flight.len() > ROOM_KEPT {
            self.in_flight = Vec::new();
        }
        self.pinned_bytes -= parcel.pinned_bytes;
        parcel.failed.sort_by_key(|(index, _)| *index);
        let acked = parcel.acked > 0;
        self.ready.push(parcel.report());
        acked
    }

    /// Hands a run to librdkafka. Returns what its queue had no room for.
    fn produce(&mut self, run: Run) -> Option<Run> {
        let Run { slot, topic, records } = run;
        let (name, id, mut target) = match self.aim(slot, topic) {
            Ok(aimed) => aimed,
            Err(refusal) => {
                records.each(|index| self.settle(slot, index, Some(refusal.clone())));
                return None;
            }
        };
        let Producer { native, in_flight, not_taken, .. } = self;
        let in_flight = in_flight.get(slot.place())?.as_ref()?;
        not_taken.clear();
        if in_flight.is_plain() {
            let one = target.single();
            let parcel = &in_flight.parcel;
            match &records {
                Records::All(range) if one.is_some() && parcel.has_no_keys() => {
                    let items = range.clone().map(|index| parcel.item_without_key(index, 0));
                    native.produce_batch(slot, id, one, items, not_taken);
                }
                _ => {
                    let items = records.iter().map(|index| parcel.item(index, &mut target));
                    native.produce_batch(slot, id, one, items, not_taken);
                }
            }
        } else {
            produce_each(native, in_flight, slot, id, &records, &mut target, not_taken);
        }
        self.round_robin = target.round_robin;
        self.sort_out(slot, topic, &name)
    }

    /// What was not taken: failed, or for the backlog.
    fn sort_out(&mut self, slot: Slot, topic: usize, name: &str) -> Option<Run> {
        let mut waiting = Vec::new();
        for (index, code) in std::mem::take(&mut self.not_taken) {
            match code {
                Code::QueueFull => waiting.push(index),
                _ => {
                    let refusal = refusal(code, name, &self.directory);
                    self.settle(slot, index, Some(refusal));
                }
            }
        }
        (!waiting.is_empty()).then_some(Run { slot, topic, records: Records::These(waiting) })
    }

    /// Where records of this parcel for its `topic`-th topic go.
    fn aim(&mut self, slot: Slot, topic: usize) -> Result<(Arc<str>, TopicId, Target), Refusal> {
        let in_flight = self.in_flight.get(slot.place()).and_then(Option::as_ref);
        let Some(parcel) = in_flight.map(|in_flight| &in_flight.parcel) else { return Err(Refusal::purged()) };
        let Some(name) = parcel.topics.get(topic).cloned() else {
            return Err(Refusal::invalid(format!("the record names topic {topic} of {}", parcel.topics.len())));
        };
        let partitions = match self.directory.partitions(&name) {
            TopicState::Ready(partitions) => partitions,
            TopicState::Unknown | TopicState::Missing => return Err(Refusal::no_topic(&name)),
        };
        let chance = (self.dice.roll() % partitions.max(1) as u32) as i32;
        let target = Target::of(&parcel.partition, topic, &name, partitions, chance, self.round_robin)?;
        let id = match self.topics.get(&name) {
            Some(id) => *id,
            None => {
                let id = self.native.topic(&name).map_err(Refusal::invalid)?;
                self.topics.insert(name.clone(), id);
                id
            }
        };
        Ok((name, id, target))
    }
}

/// One record after the other, the slower way: with headers and timestamps.
fn produce_each(
    native: &mut Native,
    in_flight: &InFlight,
    slot: Slot,
    topic: TopicId,
    records: &Records,
    target: &mut Target,
    not_taken: &mut Vec<(u32, Code)>,
) {
    let parcel = &in_flight.parcel;
    let own: Vec<_> = parcel.headers.iter().map(|header| (header, header.name())).collect();
    let extras = parcel.set.extras.as_deref();
    let guests: Vec<_> = extras
        .map_or(&[][..], |extras| &extras.headers)
        .iter()
        .map(|header| (header, headers::c_name(&header.name)))
        .collect();
    let (mut values, mut spans) = (Vec::new(), Vec::new());
    let mut full = false;
    for index in records.iter() {
        if full {
            not_taken.push((index, Code::QueueFull));
            continue;
        }
        let i = index as usize;
        values.clear();
        spans.clear();
        for (header, _) in &own {
            let start = values.len();
            header.write(parcel.set.sources[i], in_flight.numbers.get(i).copied().unwrap_or(0), &mut values);
            spans.push(start..values.len());
        }
        let own = own.iter().zip(&spans).map(|((_, name), span)| ItemHeader { name, value: &values[span.clone()] });
        let guests = guests.iter().filter_map(|(header, name)| Some(ItemHeader { name, value: header.values.get(i)? }));
        let all: Vec<ItemHeader<'_>> = own.chain(guests).collect();
        let timestamp_ms = extras.and_then(|extras| extras.timestamp_ms(i)).or(parcel.timestamp_ms);
        let item = parcel.item(index, target);
        if let Err(code) = native.produce_one(slot, topic, item, timestamp_ms, &all) {
            full = code == Code::QueueFull;
            not_taken.push((index, code));
        }
    }
}

impl InFlight {
    /// Whether its records can go as a batch.
    fn is_plain(&self) -> bool {
        let extras = self.parcel.set.extras.as_deref();
        self.parcel.headers.is_empty()
            && self.parcel.timestamp_ms.is_none()
            && extras.is_none_or(|extras| extras.headers.is_empty() && extras.timestamps_ms.is_empty())
    }

    fn topic_of(&self, index: u32) -> &str {
        let topics = self.parcel.set.extras.as_deref().map(|extras| &extras.topics);
        let topic = topics.and_then(|topics| topics.get(index as usize)).copied().unwrap_or(0);
        self.parcel.topics.get(usize::from(topic)).map_or("", |name| name)
    }

    fn report(self) -> Report {
        Report { tag: self.parcel.tag, set: self.parcel.set, acked: self.acked, failed: self.failed }
    }

    /// Not all of it was reported, and nobody waits for the rest.
    fn given_up(mut self) -> Report {
        // Which of the others were acknowledged is not known, so none counts as acknowledged.
        let known: HashMap<u32, Refusal> = self.failed.drain(..).collect();
        let records = self.parcel.set.len() as u32;
        self.acked = 0;
        self.failed =
            (0..records).map(|index| (index, known.get(&index).cloned().unwrap_or_else(Refusal::purged))).collect();
        self.report()
    }
}

/// A failed record; one that says its topic changed makes the directory look again.
fn refusal(code: Code, topic: &str, directory: &TopicDirectory) -> Refusal {
    let refusal = Refusal::of(code);
    if refusal.kind == RefusalKind::Unknown {
        directory.doubt(topic);
    }
    refusal
}

/// librdkafka's own words. It repeats itself while a broker is down; what a person must know is in the health.
fn log(level: i32, facility: &str, message: &str) {
    match level {
        ..=3 => tracing::warn!(target: "librdkafka", facility, "{message}"),
        4..=6 => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;

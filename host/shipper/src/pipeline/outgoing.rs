//! From an answer of the chain to parcels of the producer.

use super::account;
use super::parcels::ParcelNote;
use super::services::Services;
use super::stream::Stream;
use crate::checkpoint::Ticket;
use crate::deliver::{self, HeaderSource, Parcel, PartitionChoice, TopicState};
use crate::filter::{Answered, DeadLetter};
use crate::model::{EntryPlan, Extras, Format, HeaderKind, KeySource, Partitioning, RecordSet};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tailmill_engine::{Column, Header};
use tailmill_tail::Chunk;

/// Records that want to go, and how.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub set: RecordSet,
    /// Number of its first record among those of its line.
    pub first_number: u32,
    pub ticket: Ticket,
    pub way: Way,
}

/// How records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// With the stream's other records.
    Normal,
    /// One record, nothing else of the stream under way: a refusal is a verdict.
    Alone,
    /// To the dead-letter topic, as it is, headers and all.
    DeadLetter,
}

impl Stream {
    /// Books what the chain answered and sends its records.
    pub(super) fn take(&mut self, answered: Answered, services: &mut Services) {
        account::answered(self, &answered, services);
        let records: usize = answered.records.iter().map(RecordSet::len).sum::<usize>() + answered.dead_letters.len();
        if records == 0 {
            self.dirty = true;
            return;
        }
        let floor = answered.floor.unwrap_or_else(|| self.position());
        let evidence = self.progress.evidence_for(floor);
        let ticket = self.progress.issue(floor, evidence, records as u32, answered.carries);
        for mut set in answered.records {
            if let Some(numbers) = &self.line_numbers {
                numbers.put_into(&mut set);
            }
            let set = match self.armed.entry.format {
                Format::Raw => set,
                Format::Json => deliver::json_envelope(&set, &services.settings.node, &self.path, services.now_ms()),
            };
            let first_number = self.number(&set);
            self.unsent.push_back(Outgoing { set, first_number, ticket, way: Way::Normal });
        }
        if let Some(numbers) = &mut self.line_numbers {
            numbers.forget_before(self.chain.oldest_held());
        }
        for letter in answered.dead_letters {
            let set = filter_dead_letter(&self.armed.entry, &self.path, letter);
            self.unsent.push_back(Outgoing { set, first_number: 0, ticket, way: Way::DeadLetter });
        }
        self.send_unsent(services);
    }

    /// The number of the set's first record among those of its line, which may have had some in an answer before (of a tick,
    /// say): the `id` header must not name two records alike.
    fn number(&mut self, set: &RecordSet) -> u32 {
        let (Some(first), Some(last)) = (set.sources.first(), set.sources.last()) else { return 0 };
        let number = self.numbered.filter(|(source, _)| source == first).map_or(0, |(_, next)| next);
        let run = set.sources.iter().rev().take_while(|source| *source == last).count();
        let from = if run == set.len() { number } else { 0 };
        self.numbered = Some((*last, from + run as u32));
        number
    }

    /// Sends in order until something has to wait for its topic. True when nothing is left.
    pub(super) fn send_unsent(&mut self, services: &mut Services) -> bool {
        while let Some(outgoing) = self.unsent.pop_front() {
            if let Err(outgoing) = self.send(outgoing, services) {
                self.unsent.push_front(*outgoing);
                return false;
            }
        }
        true
    }

    /// Sends one set, or gives it back when its topic is not there.
    pub(super) fn send(&mut self, outgoing: Outgoing, services: &mut Services) -> Result<(), Box<Outgoing>> {
        let entry = self.armed.entry.clone();
        let topics = match (outgoing.way, &entry.dead_letter_topic) {
            (Way::DeadLetter, Some(topic)) => vec![topic.clone()],
            _ => entry.topics.clone(),
        };
        let Some(partition) = self.partition_for(&entry, &topics, &outgoing, services) else {
            return Err(Box::new(outgoing));
        };
        let dead_letter = outgoing.way == Way::DeadLetter;
        let charged = outgoing.set.buffer.pinned_bytes() + outgoing.set.len() * super::budget::RECORD_OVERHEAD_BYTES;
        services.budget.charge(&entry.name, self.topic(), charged);
        let tag = services.parcels.add(ParcelNote {
            stream: self.ix,
            incarnation: self.incarnation,
            ticket: outgoing.ticket,
            entry: entry.name.clone(),
            topic: self.topic().clone(),
            cluster: entry.cluster.clone(),
            charged,
            records: outgoing.set.len() as u32,
            first_number: outgoing.first_number,
            alone: outgoing.way != Way::Normal,
            dead_letter,
        });
        self.outstanding += 1;
        let headers = if dead_letter { Vec::new() } else { self.headers(&entry, services) };
        let parcel = Parcel {
            set: outgoing.set,
            topics,
            partition,
            key: self.key_for(&entry, services),
            headers,
            first_number: outgoing.first_number,
            timestamp_ms: None,
            tag,
        };
        if let Ok(producer) = services.producer(&entry.cluster) {
            producer.send(parcel);
        }
        Ok(())
    }

    /// The partition, or `None` while a topic that a record goes to is unknown.
    fn partition_for(
        &mut self,
        entry: &EntryPlan,
        topics: &[Arc<str>],
        outgoing: &Outgoing,
        services: &mut Services,
    ) -> Option<PartitionChoice> {
        let used = used_topics(&outgoing.set, topics.len());
        if let Err(error) = services.producer(&entry.cluster) {
            let now_ms = services.now_ms();
            services.ledger(&entry.name).error(now_ms, format!("while making a producer: {error}"));
            return None;
        }
        let directory = services.topics(&entry.cluster)?;
        let mut counts = vec![0; topics.len()];
        for index in used {
            match directory.partitions(&topics[index]) {
                TopicState::Ready(count) => counts[index] = count,
                TopicState::Unknown | TopicState::Missing => return None,
            }
        }
        let keyed = outgoing.set.extras.as_ref().is_some_and(|extras| extras.keys.is_some());
        Some(match entry.partition {
            _ if outgoing.way == Way::DeadLetter => PartitionChoice::Random,
            // A key that a filter sets decides unless `partition` was given; `stream` is also the default.
            Partitioning::Stream if keyed => PartitionChoice::Key,
            Partitioning::Stream => PartitionChoice::PerTopic(self.stream_partitions(entry, topics, &counts)),
            Partitioning::Key => PartitionChoice::Key,
            Partitioning::RoundRobin => PartitionChoice::RoundRobin,
            Partitioning::Random => PartitionChoice::Random,
            Partitioning::Number(number) => PartitionChoice::Number(number),
        })
    }

    /// The stream's number in each topic. The one of the entry's own topic is kept with the mark, so that it stays when
    /// partitions are added.
    fn stream_partitions(&mut self, entry: &EntryPlan, topics: &[Arc<str>], counts: &[i32]) -> Vec<i32> {
        let choose = |count: i32| {
            if count > 0 { deliver::stream_partition(&entry.name, &self.home, count) } else { 0 }
        };
        let mut numbers: Vec<i32> = counts.iter().map(|count| choose(*count)).collect();
        if counts[0] > 0 {
            match &self.partition {
                Some((topic, number)) if **topic == *topics[0] && *number < counts[0] => numbers[0] = *number,
                _ => self.partition = Some((topics[0].to_string(), numbers[0])),
            }
        }
        numbers
    }

    fn key_for(&self, entry: &EntryPlan, services: &Services) -> Option<Arc<[u8]>> {
        Some(match entry.key.as_ref()? {
            KeySource::Node => services.settings.node.as_bytes().into(),
            KeySource::Path => self.path.as_os_str().as_bytes().into(),
            KeySource::Stream => {
                let mut key = entry.name.as_bytes().to_vec();
                key.push(b':');
                key.extend_from_slice(self.home.as_os_str().as_bytes());
                key.into()
            }
            KeySource::Fixed(text) => text.as_bytes().into(),
        })
    }

    fn headers(&self, entry: &EntryPlan, services: &Services) -> Vec<HeaderSource> {
        let header = |kind: &HeaderKind| {
            Some(match kind {
                HeaderKind::Id => HeaderSource::Id {
                    prefix: format!("{}/{}/{}", services.settings.node, entry.name, self.key.file).into(),
                },
                HeaderKind::Node => HeaderSource::fixed("node", services.settings.node.as_bytes()),
                HeaderKind::Path => HeaderSource::fixed("path", self.path.as_os_str().as_bytes()),
                HeaderKind::Offset => HeaderSource::Offset,
                HeaderKind::Entry => HeaderSource::fixed("entry", entry.name.as_bytes()),
                HeaderKind::Inode => HeaderSource::fixed("inode", self.place.inode.to_string().as_bytes()),
                HeaderKind::Generation => HeaderSource::fixed("generation", self.key.file.to_string().as_bytes()),
                // Each record has its own: it goes with the set.
                HeaderKind::Line => return None,
            })
        };
        entry.headers.iter().filter_map(header).collect()
    }
}

/// Indices of the topics that records of this set go to.
fn used_topics(set: &RecordSet, count: usize) -> Vec<usize> {
    match &set.extras {
        Some(extras) if !extras.topics.is_empty() => {
            (0..count).filter(|index| extras.topics.contains(&(*index as u16))).collect()
        }
        _ => vec![0],
    }
}

/// A line that a filter failed on, as a record with headers that say why.
fn filter_dead_letter(entry: &EntryPlan, path: &std::path::Path, letter: DeadLetter) -> RecordSet {
    let facts = [
        ("tailmill.entry", entry.name.as_bytes().to_vec()),
        ("tailmill.file", path.as_os_str().as_bytes().to_vec()),
        ("tailmill.offset", letter.source.to_string().into_bytes()),
        ("tailmill.filter", letter.filter.as_bytes().to_vec()),
        ("tailmill.module", letter.digest.to_string().into_bytes()),
        ("tailmill.kind", letter.kind.name().as_bytes().to_vec()),
        ("tailmill.message", letter.message.into_bytes()),
    ];
    dead_letter(letter.line, letter.source, facts)
}

/// One record with headers.
pub(super) fn dead_letter<const N: usize>(value: Vec<u8>, source: u64, facts: [(&str, Vec<u8>); N]) -> RecordSet {
    let headers = facts.into_iter().map(|(name, value)| Header {
        name: name.to_owned(),
        values: Column { spans: vec![Some((0, value.len() as u32))], data: value },
    });
    RecordSet {
        starts: vec![0],
        ends: vec![value.len() as u32],
        buffer: Chunk::new(value),
        sources: vec![source],
        extras: Some(Box::new(Extras { headers: headers.collect(), ..Extras::default() })),
    }
}

//! What arrived: a topic read from its beginning, as any consumer would see it.

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

use crate::kafka::Kafka;
use crate::wait::{self, PATIENCE};

/// A record as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; a tombstone is told from an empty value.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The value; empty for a tombstone.
    pub fn bytes(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..])
    }
}

/// A consumer of all partitions of one topic and what it has read so far.
pub struct Tap {
    topic: String,
    consumer: BaseConsumer,
    partitions: i32,
    records: Vec<Record>,
}

impl Tap {
    /// From the beginning of the topic.
    pub fn open(kafka: &Kafka, topic: &str) -> Tap {
        let mut config = kafka.client();
        config.set("group.id", "tailmill-tests").set("enable.auto.commit", "false").set("fetch.wait.max.ms", "50");
        let consumer: BaseConsumer = config.create().expect("a consumer can be made");
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
        let partitions = metadata.topics()[0].partitions().len() as i32;
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset that makes sense");
        }
        consumer.assign(&all).expect("partitions can be assigned");
        Tap { topic: topic.to_owned(), consumer, partitions, records: Vec::new() }
    }

    /// What has been read so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The values of all records that are there now, as text.
    pub fn texts(&mut self) -> Vec<String> {
        self.to_end();
        self.records.iter().map(|record| String::from_utf8_lossy(record.bytes()).into_owned()).collect()
    }

    /// Reads until `enough` says so of all records read so far. `explain` adds to the report of a failure.
    pub fn until(
        &mut self,
        what: &str,
        explain: impl Fn() -> String,
        mut enough: impl FnMut(&[Record]) -> bool,
    ) -> &[Record] {
        let deadline = Instant::now() + PATIENCE;
        while !enough(&self.records) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                panic!(
                    "waited {} s in vain until {what}: {} has {} records\n{}",
                    PATIENCE.as_secs(),
                    self.topic,
                    self.records.len(),
                    explain()
                );
            }
            self.pump(left.min(Duration::from_millis(500)));
        }
        &self.records
    }

    /// Reads to where the topic ends now.
    pub fn to_end(&mut self) -> &[Record] {
        for partition in 0..self.partitions {
            // A broker that has just started may not lead the partition yet.
            let watermarks = || self.consumer.fetch_watermarks(&self.topic, partition, PATIENCE).ok();
            let (low, high) = wait::until("the broker answers", String::new, watermarks);
            let topic = self.topic.clone();
            self.until(&format!("{topic}[{partition}] is read to {high}"), String::new, |records| {
                low == high
                    || records.iter().rev().any(|record| record.partition == partition && record.offset + 1 >= high)
            });
        }
        &self.records
    }

    /// One poll, then what lies ready without waiting: conditions are looked at once a burst, not once a record.
    fn pump(&mut self, timeout: Duration) {
        let mut next = self.consumer.poll(timeout);
        let mut burst = 0;
        while let Some(result) = next {
            // Errors are a broker that is down: the client connects again by itself.
            if let Ok(message) = result {
                self.records.push(owned(&message));
            }
            burst += 1;
            next = if burst < 10_000 { self.consumer.poll(Duration::ZERO) } else { None };
        }
    }
}

fn owned(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
        };
        headers.iter().map(pair).collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

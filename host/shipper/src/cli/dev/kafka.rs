//! A Kafka of our own: librdkafka's mock cluster in this process, and a consumer that reads all of it.
//!
//! The mock keeps 5 MiB or 100,000 batches a partition, in memory, and drops the oldest beyond: the consumer fetches far
//! ahead into its own queue, and what it missed nevertheless is counted, never passed over in silence.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};

/// As topics that are made by themselves have.
const PARTITIONS: i32 = 4;

/// Read ahead at most, in KiB.
const AHEAD_KIB: &str = "262144";

pub(super) struct Kafka {
    // Dropped in this order: the consumer must not outlive the brokers that it asks.
    consumer: BaseConsumer,
    cluster: MockCluster<'static, DefaultProducerContext>,
    next: HashMap<(String, i32), i64>,
    seen: u64,
    missed: u64,
}

impl Kafka {
    /// An empty cluster with these topics.
    pub(super) fn start(topics: &[String]) -> KafkaResult<Kafka> {
        let cluster = MockCluster::new(1)?;
        let mut all = TopicPartitionList::new();
        for topic in topics {
            cluster.create_topic(topic, PARTITIONS, 1)?;
            for partition in 0..PARTITIONS {
                all.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        config.set("group.id", "tailmill-dev").set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "20");
        config.set("queued.min.messages", "10000000").set("queued.max.messages.kbytes", AHEAD_KIB);
        let consumer: BaseConsumer = config.create()?;
        consumer.assign(&all)?;
        Ok(Kafka { consumer, cluster, next: HashMap::new(), seen: 0, missed: 0 })
    }

    /// host:port of the brokers.
    pub(super) fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The next record, waiting for it at most so long.
    pub(super) fn next(&mut self, wait: Duration) -> Option<BorrowedMessage<'_>> {
        let message = match self.consumer.poll(wait)? {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "while consuming from the mock Kafka");
                return None;
            }
        };
        let place = (message.topic().to_owned(), message.partition());
        let expected = self.next.insert(place, message.offset() + 1).unwrap_or(0);
        self.missed += u64::try_from(message.offset() - expected).unwrap_or(0);
        self.seen += 1;
        Some(message)
    }

    /// Records that were handed out or are known to be missed.
    pub(super) fn seen(&self) -> u64 {
        self.seen + self.missed
    }

    /// Records that the mock dropped before they were read.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    #[test]
    fn what_is_produced_comes_out_in_the_order_of_its_partition() {
        let mut kafka = Kafka::start(&["a".to_owned(), "b".to_owned()]).unwrap();
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
        for i in 0..1000 {
            let (topic, partition, value) = (if i % 2 == 0 { "a" } else { "b" }, i % 4, i.to_string());
            producer.send(BaseRecord::<(), _>::to(topic).partition(partition).payload(&value)).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let mut by_partition: HashMap<i32, Vec<i32>> = HashMap::new();
        while kafka.seen() < 1000 {
            let Some(message) = kafka.next(Duration::from_secs(30)) else { continue };
            let value = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
            by_partition.entry(value % 4).or_default().push(value);
        }
        for (partition, values) in by_partition {
            assert_eq!(values, (0..1000).filter(|i| i % 4 == partition).collect::<Vec<_>>());
        }
        assert_eq!(kafka.missed(), 0);
    }
}

//! The producer against librdkafka's mock cluster, in this process.

use std::collections::BTreeMap;
use std::ops::Range;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tailmill_engine::{Column, Header};
use tailmill_tail::Chunk;

use super::*;
use crate::deliver::partition::key_partition;
use crate::deliver::{HeaderSource, PartitionChoice};
use crate::model::{Delivery, Extras, HOSTS_TIME, RecordSet};

/// Not a time that a test asserts: where a hang ends.
const HANG: Duration = Duration::from_secs(60);

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A mock cluster of one broker with these topics.
fn cluster(topics: &[(&str, i32)]) -> Mock {
    let mock = MockCluster::new(1).unwrap();
    for (name, partitions) in topics {
        mock.create_topic(name, *partitions, 1).unwrap();
    }
    mock
}

fn plan(brokers: String, properties: &[(&str, &str)]) -> ClusterPlan {
    ClusterPlan {
        name: "default".into(),
        brokers: vec![brokers],
        delivery: Delivery::AtLeastOnce,
        properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    }
}

fn producer(mock: &Mock, topics: &[(&str, i32)], properties: &[(&str, &str)]) -> Producer {
    Producer::new(&plan(mock.bootstrap_servers(), properties), "test", TopicDirectory::fixed(topics)).unwrap()
}

/// Values as lines of one buffer.
fn set<V: AsRef<[u8]>>(values: &[V]) -> RecordSet {
    let (mut buffer, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut sources = Vec::new();
    for value in values {
        sources.push(buffer.len() as u64);
        starts.push(buffer.len() as u32);
        buffer.extend_from_slice(value.as_ref());
        ends.push(buffer.len() as u32);
        buffer.push(b'\n');
    }
    RecordSet { buffer: Chunk::new(buffer), starts, ends, sources, extras: None }
}

fn parcel(set: RecordSet, tag: u64) -> Parcel {
    Parcel {
        set,
        topics: vec!["logs".into()],
        partition: PartitionChoice::Number(0),
        key: None,
        headers: Vec::new(),
        first_number: 0,
        timestamp_ms: None,
        tag,
    }
}

fn column(values: &[Option<&str>]) -> Column {
    let mut column = Column::default();
    for value in values {
        column.spans.push(value.map(|value| {
            let start = column.data.len() as u32;
            column.data.extend_from_slice(value.as_bytes());
            (start, column.data.len() as u32)
        }));
    }
    column
}

fn with_extras(mut set: RecordSet, extras: Extras) -> RecordSet {
    set.extras = Some(Box::new(extras));
    set
}

/// Polls until nothing is on its way.
fn drain(producer: &mut Producer) -> Vec<Report> {
    let mut reports = Vec::new();
    let hang = Instant::now() + HANG;
    while producer.parcels() > 0 || reports.is_empty() {
        producer.poll(Duration::from_millis(20), &mut reports);
        assert!(Instant::now() < hang, "{} parcels are never reported", producer.parcels());
    }
    reports
}

#[derive(Debug, PartialEq)]
struct Read {
    partition: i32,
    key: Option<String>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    timestamp_ms: Option<i64>,
}

/// The first `count` records of a topic, each partition's in order.
fn read(mock: &Mock, topic: &str, partitions: i32, count: usize) -> Vec<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("group.id", "test")
        .set("check.crcs", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut records, hang) = (Vec::new(), Instant::now() + HANG);
    while records.len() < count {
        assert!(Instant::now() < hang, "only {} of {count} records are there", records.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        records.push(Read {
            partition: message.partition(),
            key: message.key().map(text),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map_or(Vec::new(), |headers| {
                headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap_or(b"?")))).collect()
            }),
            timestamp_ms: message.timestamp().to_millis(),
        });
    }
    records
}

fn values(records: &[Read]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.clone().expect("no tombstone")).unwrap()).collect()
}

fn numbered(range: Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

#[test]
fn records_arrive_in_order_whichever_way_they_take() {
    let (mock, topics) = (cluster(&[("logs", 1)]), [("logs", 1)]);
    let mut producer = producer(&mock, &topics, &[]);
    for tag in 0..40 {
        let set = set(&numbered(tag * 50..(tag + 1) * 50));
        let mut parcel = parcel(set, tag as u64);
        match tag % 4 {
            1 => parcel.headers = vec![HeaderSource::Offset],
            2 => parcel.key = Some(b"k".as_slice().into()),
            3 => parcel.timestamp_ms = Some(5),
            _ => {}
        }
        producer.send(parcel);
    }
    let reports = drain(&mut producer);
    assert_eq!(reports.iter().map(|report| u64::from(report.acked)).sum::<u64>(), 2000);
    assert!(reports.iter().all(|report| report.failed.is_empty() && report.set.len() == 50));
    let mut tags: Vec<u64> = reports.iter().map(|report| report.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..40).collect::<Vec<_>>(), "one report a parcel");
    assert_eq!(producer.pinned_bytes(), 0);
    assert_eq!(values(&read(&mock, "logs", 1, 2000)), numbered(0..2000));
    assert_eq!(producer.health(), None);
}

#[test]
fn an_empty_line_is_an_empty_value_and_no_tombstone() {
    let mock = cluster(&[("logs", 1)]);
    let mut producer = producer(&mock, &[("logs", 1)], &[]);
    producer.send(parcel(set(&["", "a", ""]), 1));
    producer.send(Parcel { headers: vec![HeaderSource::Offset], ..parcel(set(&[""]), 2) });
    producer.send(parcel(RecordSet { buffer: Chunk::new(Vec::new()), ..set(&[""]) }, 3));
    producer.send(parcel(set::<&str>(&[]), 4));
    let reports = drain(&mut producer);
    assert_eq!(reports.len(), 4, "also a parcel without records is reported");
    assert_eq!(values(&read(&mock, "logs", 1, 5)), ["", "a", "", "", ""]);
}

#[test]
fn keys_headers_topics_and_timestamps_that_a_filter_set_travel() {
    let topics = [("logs", 1), ("errors", 1)];
    let mock = cluster(&topics);
    let mut producer = producer(&mock, &topics, &[]);
    let extras = Extras {
        keys: Some(column(&[None, Some("k1"), Some("")])),
        topics: vec![0, 1, 0],
        timestamps_ms: vec![1000, 2000, HOSTS_TIME],
        headers: vec![Header { name: "level".into(), values: column(&[Some("warn"), None, Some("")]) }],
    };
    let headers = vec![HeaderSource::Id { prefix: "n/e/f".into() }, HeaderSource::fixed("node", b"n")];
    let mut set = with_extras(set(&["a", "b", "c"]), extras);
    set.sources = vec![7, 9, 9];
    let topics = vec!["logs".into(), "errors".into()];
    let key = Some(b"default".as_slice().into());
    producer.send(Parcel { topics, headers, key, timestamp_ms: Some(4000), ..parcel(set, 1) });
    assert_eq!(drain(&mut producer)[0].acked, 3);
    let record = |key: &str, value: &str, timestamp_ms, headers: &[(&str, &str)]| Read {
        partition: 0,
        key: Some(key.into()),
        value: Some(value.into()),
        headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        timestamp_ms: Some(timestamp_ms),
    };
    assert_eq!(
        read(&mock, "logs", 1, 2),
        [
            record("default", "a", 1000, &[("id", "n/e/f/7/0"), ("node", "n"), ("level", "warn")]),
            record("", "c", 4000, &[("id", "n/e/f/9/1"), ("node", "n"), ("level", "")]),
        ]
    );
    assert_eq!(read(&mock, "errors", 1, 1), [record("k1", "b", 2000, &[("id", "n/e/f/9/0"), ("node", "n")])]);
}

#[test]
fn what_the_local_queue_has_no_room_for_keeps_its_place() {
    for headers in [vec![], vec![HeaderSource::Offset]] {
        let mock = cluster(&[("logs", 2)]);
        let mut producer = producer(&mock, &[("logs", 2)], &[("queue.buffering.max.messages", "7")]);
        for tag in 0..30 {
            let set = set(&numbered(tag * 20..(tag + 1) * 20));
            producer.send(Parcel { headers: headers.clone(), ..parcel(set, tag as u64) });
        }
        assert!(!producer.backlog.is_empty(), "the queue was never full");
        let reports = drain(&mut producer);
        assert_eq!(reports.iter().map(|report| report.acked).sum::<u32>(), 600);
        assert_eq!(values(&read(&mock, "logs", 1, 600)), numbered(0..600));
    }
}

#[test]
fn a_small_record_does_not_slip_past_a_large_one_that_waits_for_room() {
    let mock = cluster(&[("logs", 1)]);
    let mut producer = producer(&mock, &[("logs", 1)], &[("queue.buffering.max.kbytes", "2")]);
    let lines: Vec<String> = (0..12).map(|i| format!("{i:02}").repeat([300, 900, 50][i % 3])).collect();
    for (tag, line) in (0..).zip(&lines) {
        producer.send(parcel(set(&[line]), tag));
    }
    assert_eq!(drain(&mut producer).iter().map(|report| report.acked).sum::<u32>(), 12);
    let came: Vec<String> = values(&read(&mock, "logs", 1, 12)).iter().map(|line| line[..2].to_owned()).collect();
    assert_eq!(came, lines.iter().map(|line| line[..2].to_owned()).collect::<Vec<_>>());
}

#[test]
fn a_broker_that_is_down_is_a_pause() {
    let mock = cluster(&[("logs", 1)]);
    let mut producer = producer(&mock, &[("logs", 1)], &[("reconnect.backoff.max.ms", "200")]);
    producer.send(parcel(set(&numbered(0..10)), 0));
    drain(&mut producer);
    mock.broker_down(-1).unwrap();
    producer.send(parcel(set(&numbered(10..20)), 1));
    let (mut reports, hang) = (Vec::new(), Instant::now() + HANG);
    while producer.health().is_none() {
        producer.poll(Duration::from_millis(20), &mut reports);
        assert!(Instant::now() < hang, "the outage never shows");
    }
    assert!(reports.is_empty(), "nothing fails because a broker is down: {reports:?}");
    assert!(producer.pinned_bytes() > 10 * RECORD_OVERHEAD_BYTES);
    producer.send(parcel(set(&numbered(20..30)), 2));
    mock.broker_up(-1).unwrap();
    assert_eq!(drain(&mut producer).iter().map(|report| report.acked).sum::<u32>(), 20);
    assert_eq!(producer.health(), None, "an acknowledgement heals");
    assert_eq!(values(&read(&mock, "logs", 1, 30)), numbered(0..30));
}

#[test]
fn a_refused_request_fails_its_records_and_only_those() {
    let mock = cluster(&[("logs", 1)]);
    let mut producer = producer(&mock, &[("logs", 1)], &[]);
    producer.send(parcel(set(&["before"]), 0));
    drain(&mut producer);
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    producer.send(parcel(set(&["x", "y"]), 1));
    let reports = drain(&mut producer);
    assert_eq!((reports[0].tag, reports[0].acked), (1, 0));
    let failed: Vec<(u32, RefusalKind, bool)> =
        reports[0].failed.iter().map(|(index, why)| (*index, why.kind, why.for_good)).collect();
    assert_eq!(failed, [(0, RefusalKind::TooLarge, true), (1, RefusalKind::TooLarge, true)]);
    assert_eq!(producer.is_fatal(), None);
    producer.send(parcel(set(&["after"]), 2));
    assert_eq!(drain(&mut producer)[0].acked, 1);
    assert_eq!(values(&read(&mock, "logs", 1, 2)), ["before", "after"]);
}

#[test]
fn a_record_too_large_for_the_client_fails_among_good_ones() {
    for headers in [vec![], vec![HeaderSource::Offset]] {
        let mock = cluster(&[("logs", 1)]);
        let mut producer = producer(&mock, &[("logs", 1)], &[("message.max.bytes", "1000")]);
        let large = "L".repeat(2000);
        let set = set(&["a", &large, "b", &large, "c"]);
        producer.send(Parcel { headers, ..parcel(set, 0) });
        let reports = drain(&mut producer);
        let failed: Vec<(u32, RefusalKind)> = reports[0].failed.iter().map(|(index, why)| (*index, why.kind)).collect();
        assert_eq!((reports[0].acked, failed), (3, vec![(1, RefusalKind::TooLarge), (3, RefusalKind::TooLarge)]));
        assert_eq!(values(&read(&mock, "logs", 1, 3)), ["a", "b", "c"]);
    }
}

#[test]
fn a_partition_or_topic_that_is_not_there_fails_at_once_and_may_come_again() {
    let mock = cluster(&[("logs", 2)]);
    let mut producer = producer(&mock, &[("logs", 2)], &[]);
    for (topics, partition, index) in [
        (vec!["logs"], PartitionChoice::Number(2), None),
        (vec!["logs"], PartitionChoice::Number(-1), None),
        (vec!["logs"], PartitionChoice::PerTopic(vec![]), None),
        (vec!["other"], PartitionChoice::Random, None),
        (vec!["logs"], PartitionChoice::Random, Some(1)),
        (vec!["nul\0byte"], PartitionChoice::Random, None),
    ] {
        let mut set = set(&["a", "b"]);
        if let Some(index) = index {
            set = with_extras(set, Extras { topics: vec![0, index], ..Extras::default() });
        }
        let bad = if index.is_some() { 1 } else { 2 };
        let topics = topics.into_iter().map(Arc::from).collect();
        producer.send(Parcel { topics, partition: partition.clone(), ..parcel(set, 9) });
        let reports = drain(&mut producer);
        assert_eq!((reports.len(), reports[0].failed.len()), (1, bad), "{partition:?}");
        assert_eq!(reports[0].failed[0].1.for_good, index.is_some(), "{:?}", reports[0].failed);
    }
    assert_eq!(producer.pinned_bytes(), 0);
}

#[test]
fn partitions_follow_the_choice() {
    let check = |choice: PartitionChoice, keys: Option<Column>, spread: &[usize]| {
        let mock = cluster(&[("logs", 3)]);
        let mut producer = producer(&mock, &[("logs", 3)], &[]);
        let set = with_extras(set(&numbered(0..6)), Extras { keys, ..Extras::default() });
        producer.send(Parcel { partition: choice.clone(), ..parcel(set, 0) });
        assert_eq!(drain(&mut producer)[0].acked, 6);
        let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
        for record in read(&mock, "logs", 3, 6) {
            *counts.entry(record.partition).or_default() += 1;
            if let (PartitionChoice::Key, Some(key)) = (&choice, &record.key) {
                assert_eq!(record.partition, key_partition(key.as_bytes(), 3));
            }
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable();
        assert_eq!(counts, spread, "{choice:?}");
    };
    check(PartitionChoice::RoundRobin, None, &[2, 2, 2]);
    check(PartitionChoice::Random, None, &[6]);
    check(PartitionChoice::PerTopic(vec![2]), None, &[6]);
    check(PartitionChoice::Key, None, &[6]);
    // murmur2 of a, b, c, d, e and f: 1, 2, 1, 2, 2, 0 of 3 (worked out apart from this code).
    let all = column(&[Some("a"), Some("b"), Some("c"), Some("d"), Some("e"), Some("f")]);
    check(PartitionChoice::Key, Some(all), &[1, 2, 3]);
}

#[test]
fn at_the_stop_deadline_every_parcel_is_reported_as_not_acknowledged() {
    let mock = cluster(&[("logs", 1)]);
    let mut producer = producer(&mock, &[("logs", 1)], &[("queue.buffering.max.messages", "25")]);
    mock.broker_down(-1).unwrap();
    for tag in 0..3 {
        producer.send(parcel(set(&numbered(0..10)), tag));
    }
    let mut reports = Vec::new();
    producer.purge_and_drain(Instant::now() + HANG, &mut reports);
    assert_eq!(reports.len(), 3);
    for report in &reports {
        assert_eq!((report.acked, report.failed.len()), (0, 10));
        assert!(report.failed.iter().all(|(_, why)| why.kind == RefusalKind::Purged && !why.for_good));
    }
    assert_eq!((producer.parcels(), producer.pinned_bytes()), (0, 0));
}

#[test]
fn a_deadline_that_has_passed_still_reports_every_parcel() {
    let mock = cluster(&[("logs", 1)]);
    let mut producer = producer(&mock, &[("logs", 1)], &[]);
    mock.broker_down(-1).unwrap();
    producer.send(parcel(set(&numbered(0..10)), 5));
    let mut reports = Vec::new();
    producer.purge_and_drain(Instant::now(), &mut reports);
    assert_eq!((reports.len(), reports[0].tag, reports[0].failed.len(), reports[0].acked), (1, 5, 10, 0));
}

#[test]
fn a_producer_that_failed_for_good_says_so_and_can_be_dropped_with_records_on_their_way() {
    let mock = cluster(&[("logs", 1)]);
    let mut first = producer(&mock, &[("logs", 1)], &[]);
    assert_eq!(first.is_fatal(), None);
    mock.broker_down(-1).unwrap();
    first.send(parcel(set(&numbered(0..100)), 0));
    first.native.fail_for_good();
    let why = first.is_fatal().expect("fatal");
    assert!(why.contains("made up by a test"), "{why}");
    drop(first);
    mock.broker_up(-1).unwrap();
    let mut second = producer(&mock, &[("logs", 1)], &[]);
    second.send(parcel(set(&["new"]), 1));
    let reports = drain(&mut second);
    assert_eq!((reports.len(), reports[0].tag, reports[0].acked), (1, 1, 1), "no report of the old one comes here");
}

#[test]
fn a_wrong_property_is_an_error_that_names_it() {
    let error =
        Producer::new(&plan("127.0.0.1:1".into(), &[("linger.ms", "soon")]), "test", TopicDirectory::fixed(&[]));
    let Err(message) = error else { panic!("linger.ms = soon was taken") };
    assert!(message.contains("linger.ms") && message.contains("cluster default"), "{message}");
}

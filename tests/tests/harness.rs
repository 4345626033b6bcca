//! The harness's own promises, without the agent: a broker that was stopped, killed or frozen goes on with its data,
//! and so does an etcd.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tailmill_tests::etcd::Etcd;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::{Content, Expected};
use tailmill_tests::topic::Tap;
use tailmill_tests::wait::PATIENCE;
use tailmill_tests::{lines, scratch};

fn produce(kafka: &Kafka, topic: &str, numbers: std::ops::Range<u64>) {
    let mut config = kafka.client();
    config.set("enable.idempotence", "true");
    let producer: BaseProducer = config.create().expect("the broker is there");
    for number in numbers {
        let line = lines::line(Style::Json, 1, number);
        producer.send(BaseRecord::<(), [u8]>::to(topic).partition(0).payload(&line)).expect("the broker is there");
    }
    producer.flush(PATIENCE).expect("the broker is there");
}

#[test]
fn a_broker_keeps_its_records_over_a_stop_a_kill_and_a_freeze() {
    let kafka = Kafka::start();
    let topic = kafka.topic("harness", 1);
    let mut tap = Tap::open(&kafka, &topic);
    produce(&kafka, &topic, 0..100);
    kafka.stop();
    kafka.start_again();
    produce(&kafka, &topic, 100..200);
    kafka.kill();
    kafka.start_again();
    kafka.freeze();
    kafka.thaw();
    produce(&kafka, &topic, 200..300);
    let dir = scratch::dir("harness");
    let mut log = LogFile::create(dir.path().join("log"), Style::Json, 1);
    log.write(300);
    let expected = Expected::all([&log]);
    expected.arrives(&mut tap, Content::Same, || kafka.report()).assert_once(|| kafka.report());
}

#[test]
fn an_etcd_keeps_its_keys_over_a_kill() {
    let etcd = Etcd::start();
    etcd.put("/a", "1");
    etcd.put("/b", "2");
    etcd.delete("/b");
    etcd.kill();
    etcd.start_again();
    assert_eq!((etcd.get("/a"), etcd.get("/b")), (Some(b"1".to_vec()), None));
}

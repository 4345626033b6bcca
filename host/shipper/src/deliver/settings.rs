//! A cluster's plan as librdkafka's configuration. What the promises need is the default; what an operator wrote comes over
//! it (what would break a promise was refused when the settings were read).

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::model::ClusterPlan;

/// For the promises (at least once, in order, no outage too long) and for speed.
const PRODUCER: [(&str, &str); 8] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // 0: for ever. An outage of a day is a pause.
    ("message.timeout.ms", "0"),
    ("linger.ms", "5"),
    ("batch.num.messages", "10000"),
    // Our own bounds on what is in flight lie far below these.
    ("queue.buffering.max.messages", "10000000"),
    ("queue.buffering.max.kbytes", "2097151"),
    // A topic is made by somebody who decided its partitions and its retention.
    ("allow.auto.create.topics", "false"),
];

/// Properties that make no sense for a client that only asks for metadata.
const NOT_FOR_METADATA: [&str; 5] =
    ["enable.idempotence", "acks", "request.required.acks", "transactional.id", "debug"];

/// For a producer of records.
pub(super) fn producer(cluster: &ClusterPlan, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in PRODUCER {
        config.set(name, value);
    }
    config.set("client.id", client_id).set_log_level(RDKafkaLogLevel::Info);
    for (name, value) in &cluster.properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", cluster.brokers.join(","));
    config
}

/// For the client of the metadata thread.
pub(super) fn metadata(cluster: &ClusterPlan) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "tailmill-topics").set("allow.auto.create.topics", "false");
    for (name, value) in cluster.properties.iter().filter(|(name, _)| !NOT_FOR_METADATA.contains(&name.as_str())) {
        config.set(name, value);
    }
    config.set("bootstrap.servers", cluster.brokers.join(","));
    config
}

//! Which librdkafka properties a cluster may set, and which are ours because a promise hangs on them.
//!
//! In: names and values as written. Out: a reason, or nothing. librdkafka itself judges values; secrets are never in a
//! reason.

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

/// What every producer gets, whatever is written: nothing is lost, nothing is reordered, nothing times out.
pub const FIXED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // An outage of a day is a pause: records wait, they do not expire.
    ("message.timeout.ms", "0"),
    ("delivery.report.only.error", "false"),
];

/// Properties whose values are never shown, and which are written as `NAME_file` or set by a variable.
pub const SECRETS: &[&str] =
    &["sasl.password", "sasl.oauthbearer.client.secret", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password"];

const NEEDED: &str = "is fixed, since nothing may be lost or change its order";
const MEMORY: &str = "is set by the agent: use `agent.inflight_bytes_max`";
const ONCE: &str = "belongs to exactly-once delivery, which is not in this version";
const REPORTS: &str = "is fixed, since every record's report moves a mark";
const CONSUMER: &str = "belongs to consumers; the agent only produces";
const CODE: &str = "is set by the agent: it points at program code";

/// Property, and why it cannot be set.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "is set by `brokers`"),
    ("metadata.broker.list", "is set by `brokers`"),
    ("acks", NEEDED),
    ("request.required.acks", NEEDED),
    ("enable.idempotence", NEEDED),
    ("enable.gapless.guarantee", NEEDED),
    ("message.timeout.ms", NEEDED),
    ("delivery.timeout.ms", NEEDED),
    ("max.in.flight", NEEDED),
    ("max.in.flight.requests.per.connection", NEEDED),
    ("message.send.max.retries", NEEDED),
    ("retries", NEEDED),
    ("queuing.strategy", NEEDED),
    ("queue.buffering.max.messages", MEMORY),
    ("queue.buffering.max.kbytes", MEMORY),
    ("delivery.report.only.error", REPORTS),
    ("produce.offset.report", REPORTS),
    ("enabled_events", REPORTS),
    ("transactional.id", ONCE),
    ("transaction.timeout.ms", ONCE),
    ("partitioner", "is set by `partition` in the entry"),
    ("msg_order_cmp", CODE),
    ("opaque", CODE),
    ("interceptors", CODE),
    ("default_topic_conf", CODE),
    ("ssl_engine_callback_data", CODE),
    ("plugin.library.paths", "would load native code into the agent"),
    ("test.mock.num.brokers", "is for tests: use `tailmill dev`"),
    ("test.mock.broker.rtt", "is for tests: use `tailmill dev`"),
    ("group.id", CONSUMER),
    ("group.instance.id", CONSUMER),
    ("group.protocol", CONSUMER),
    ("group.protocol.type", CONSUMER),
    ("group.remote.assignor", CONSUMER),
    ("partition.assignment.strategy", CONSUMER),
    ("session.timeout.ms", CONSUMER),
    ("heartbeat.interval.ms", CONSUMER),
    ("coordinator.query.interval.ms", CONSUMER),
    ("max.poll.interval.ms", CONSUMER),
    ("enable.auto.commit", CONSUMER),
    ("auto.commit.enable", CONSUMER),
    ("auto.commit.interval.ms", CONSUMER),
    ("enable.auto.offset.store", CONSUMER),
    ("auto.offset.reset", CONSUMER),
    ("offset.store.path", CONSUMER),
    ("offset.store.sync.interval.ms", CONSUMER),
    ("offset.store.method", CONSUMER),
    ("queued.min.messages", CONSUMER),
    ("queued.max.messages.kbytes", CONSUMER),
    ("fetch.wait.max.ms", CONSUMER),
    ("fetch.queue.backoff.ms", CONSUMER),
    ("fetch.message.max.bytes", CONSUMER),
    ("max.partition.fetch.bytes", CONSUMER),
    ("fetch.max.bytes", CONSUMER),
    ("fetch.min.bytes", CONSUMER),
    ("fetch.error.backoff.ms", CONSUMER),
    ("isolation.level", CONSUMER),
    ("enable.partition.eof", CONSUMER),
    ("check.crcs", CONSUMER),
    ("consume.callback.max.messages", CONSUMER),
];

/// Why this property cannot be set here, if so.
pub fn refusal(name: &str) -> Option<String> {
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some(format!("`{name}` {reason}"));
    }
    name.ends_with("_cb").then(|| format!("`{name}` {CODE}"))
}

/// What librdkafka says against this value, if anything.
pub fn bad_value(name: &str, value: &str) -> Option<String> {
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => None,
        Err(_) if is_secret(name) => Some(format!("`{name}`: librdkafka does not take this value")),
        Err(KafkaError::ClientConfig(_, reason, _, _)) => {
            let reason = reason.trim_end_matches('.');
            Some(if reason.starts_with("No such configuration property") {
                format!("`{name}` is not a property that librdkafka knows")
            } else {
                format!("librdkafka does not take this: {reason}")
            })
        }
        Err(error) => Some(format!("librdkafka does not take this: {error}")),
    }
}

/// Whether values of this property must not be shown.
pub fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// What librdkafka says against these properties together (a missing certificate, a mechanism without a user), by making
/// a producer that is dropped at once. It may begin to connect, and sends nothing.
pub fn check_together(properties: &std::collections::BTreeMap<String, String>, brokers: &[String]) -> Option<String> {
    let mut config = ClientConfig::new();
    // The reason comes back as a value; librdkafka need not write it to stderr too.
    config.set("log_level", "0").set("bootstrap.servers", brokers.join(","));
    for (name, value) in FIXED.iter().map(|(name, value)| (*name, *value)) {
        config.set(name, value);
    }
    for (name, value) in properties {
        config.set(name, value);
    }
    match config.create::<rdkafka::producer::BaseProducer>() {
        Ok(_) => None,
        Err(KafkaError::ClientCreation(reason)) => Some(reason),
        Err(KafkaError::ClientConfig(_, reason, name, _)) => Some(format!("{name}: {reason}")),
        Err(error) => Some(error.to_string()),
    }
}

/// Largest record that this cluster's producer takes: librdkafka's default is 1,000,000 bytes.
pub fn message_bytes_max(properties: &std::collections::BTreeMap<String, String>) -> u64 {
    let written = properties.get("message.max.bytes").and_then(|value| value.parse().ok());
    written.unwrap_or(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_a_promise_needs_are_refused_with_the_reason() {
        for (name, reason) in [
            ("acks", "`acks` is fixed, since nothing may be lost or change its order"),
            ("bootstrap.servers", "`bootstrap.servers` is set by `brokers`"),
            ("dr_msg_cb", "`dr_msg_cb` is set by the agent: it points at program code"),
            ("group.id", "`group.id` belongs to consumers; the agent only produces"),
        ] {
            assert_eq!(refusal(name).as_deref(), Some(reason));
        }
        for name in ["compression.type", "linger.ms", "batch.size", "message.max.bytes", "client.id", "sasl.mechanism"]
        {
            assert_eq!(refusal(name), None, "{name}");
        }
    }

    #[test]
    fn every_fixed_property_is_refused_and_one_that_librdkafka_knows() {
        for (name, value) in FIXED {
            assert!(refusal(name).is_some(), "{name}");
            assert_eq!(bad_value(name, value), None, "{name}");
        }
    }

    #[test]
    fn librdkafka_judges_names_and_values() {
        assert_eq!(bad_value("linger.ms", "5"), None);
        assert_eq!(bad_value("lingr.ms", "5").unwrap(), "`lingr.ms` is not a property that librdkafka knows");
        let reason = bad_value("compression.type", "zip").unwrap();
        assert!(reason.contains("zip"), "{reason}");
        assert!(bad_value("linger.ms", "soon").is_some());
    }

    #[test]
    fn what_librdkafka_refuses_only_together_is_found_too() {
        let brokers = ["127.0.0.1:1".to_owned()];
        let missing = [("security.protocol", "ssl"), ("ssl.ca.location", "/nonexistent/ca.pem")];
        let properties = missing.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert!(check_together(&properties, &brokers).is_some());
        assert_eq!(check_together(&Default::default(), &brokers), None);
    }
}

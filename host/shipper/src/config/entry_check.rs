//! An entry against this agent: is it for this node, and does it stay within what the agent allows?

use std::time::Duration;

use super::entry::RawEntry;
use super::fields::did_you_mean;
use super::settings::Settings;
use crate::model::{Problem, kafka_properties};

/// Room that key, headers and the envelope take in a record beside the line.
const RECORD_OVERHEAD_BYTES: u64 = 8 << 10;

/// Whether the entry's `nodes` and `labels` mean this node.
pub(super) fn applies(entry: &RawEntry, settings: &Settings) -> bool {
    entry.nodes.as_ref().is_none_or(|nodes| nodes.is_match(&*settings.node))
        && entry.labels.iter().all(|(name, value)| settings.labels.get(name) == Some(value))
}

/// Everything that this agent cannot or may not do for the entry. Modules are looked at later.
pub(super) fn check(entry: &RawEntry, settings: &Settings, source: &str, prefix: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |key: &str, reason: String| {
        problems.push(Problem { source: source.to_owned(), key: dotted_path(prefix, key), reason });
    };
    let dead = entry.dead_letter_topic.iter().map(|topic| ("dead_letter_topic".to_owned(), topic));
    let topics = entry.topics.iter().enumerate();
    let topics =
        topics.map(|(i, topic)| (if i == 0 { "topic".to_owned() } else { format!("topics[{}]", i - 1) }, topic));
    for (key, topic) in topics.chain(dead) {
        if !settings.entries.allow_topics.is_match(&**topic) {
            let allowed = settings.entries.allow_topics_written.join(", ");
            add(&key, format!("topic `{topic}` is not allowed here: entries.allow_topics has {allowed}"));
        }
    }
    match settings.clusters.get(&entry.cluster) {
        None => {
            let hint = did_you_mean(&entry.cluster, settings.clusters.keys().map(|name| &**name));
            add("cluster", format!("there is no cluster `{}` in the settings{hint}", entry.cluster));
        }
        Some(cluster) => {
            let max = kafka_properties::message_bytes_max(&cluster.properties);
            for (key, bytes) in longest_lines(entry) {
                if bytes + RECORD_OVERHEAD_BYTES > max {
                    add(
                        key,
                        format!(
                            "{bytes} bytes and what goes with them do not fit into a record of cluster `{}` ({max} bytes): lower it, or raise `message.max.bytes` here and on the brokers",
                            entry.cluster
                        ),
                    );
                }
            }
        }
    }
    let limits = &settings.limits;
    for (key, bytes) in longest_lines(entry) {
        if bytes > limits.inflight_topic_bytes_max as u64 {
            add(
                key,
                format!("{bytes} is more than agent.inflight_topic_bytes_max ({})", limits.inflight_topic_bytes_max),
            );
        }
    }
    if entry.filters.len() > limits.chain_filters_max {
        add(
            "filters",
            format!(
                "{} filters are more than agent.chain_filters_max ({})",
                entry.filters.len(),
                limits.chain_filters_max
            ),
        );
    }
    for (i, filter) in entry.filters.iter().enumerate() {
        let (ms, asked) = (|time: Duration| usize::try_from(time.as_millis()).unwrap_or(usize::MAX), &filter.limits);
        let ceilings = [
            ("timeout_ms", ms(asked.call_time), ms(limits.filter_timeout_max), 0),
            ("memory_mib", asked.memory_bytes, limits.filter_memory_bytes_max, 20),
            ("output_mib", asked.output_bytes, limits.filter_output_bytes_max, 20),
            ("held_mib", filter.held.bytes, limits.filter_held_bytes_max, 20),
            ("state_kib", asked.state_bytes, limits.filter_state_bytes_max, 10),
            ("table_elements", asked.table_elements, limits.filter_table_elements_max, 0),
        ];
        for (key, asked, max, shift) in ceilings.into_iter().filter(|(_, asked, max, _)| asked > max) {
            add(
                &format!("filters[{i}].{key}"),
                format!("{} is more than agent.filter_{key}_max ({})", asked >> shift, max >> shift),
            );
        }
    }
    problems
}

/// The keys that bound a record's value, with their bytes.
fn longest_lines(entry: &RawEntry) -> Vec<(&'static str, u64)> {
    let framing = &entry.framing;
    match &framing.multiline {
        Some(multiline) if multiline.bytes_max > framing.line_bytes_max => {
            vec![("multiline.max_bytes", multiline.bytes_max as u64)]
        }
        _ => vec![("line_max_bytes", framing.line_bytes_max as u64)],
    }
}

/// `prefix` is empty or an index (`[2]`); `key` is dotted already.
pub(super) fn dotted_path(prefix: &str, key: &str) -> String {
    match (prefix.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (false, true) => prefix.to_owned(),
        (false, false) => format!("{prefix}.{key}"),
    }
}

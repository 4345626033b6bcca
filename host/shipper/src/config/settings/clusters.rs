//! `[kafka]` and `[clusters.NAME]` to cluster plans.
//!
//! Properties go to librdkafka as written, except those that the promises need (see `model::kafka_properties`). A secret
//! property is named with `_file` behind it, or comes from a variable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::super::fields::{At, Fields};
use super::super::tree::{Layer, Value};
use super::layers::base_of;
use crate::model::{ClusterPlan, Delivery, kafka_properties};

/// The `[kafka]` table's name among the clusters.
const DEFAULT: &str = "default";

/// All clusters that are written, at least one. With what is wrong left out, so that a check of entries can go on.
pub(super) fn read(fields: &mut Fields<'_>, dir: &Path) -> BTreeMap<Arc<str>, ClusterPlan> {
    let mut clusters = BTreeMap::new();
    let others = fields.get("clusters").and_then(|at| at.pairs()).unwrap_or_default();
    let default = if others.is_empty() {
        fields.need("kafka", "write `[kafka]` with `brokers = [\"host:9092\"]`")
    } else {
        fields.get("kafka")
    };
    let mut add = |name: &str, at: &At<'_>| {
        let mut plan = ClusterPlan {
            name: name.into(),
            brokers: Vec::new(),
            delivery: Delivery::default(),
            properties: BTreeMap::new(),
        };
        if let Some(fields) = at.fields() {
            cluster(&mut plan, fields, dir);
        }
        clusters.insert(plan.name.clone(), plan);
    };
    if let Some(at) = &default {
        add(DEFAULT, at);
    }
    for (name, at) in others {
        if name == DEFAULT {
            at.problem("`default` is the name of the `[kafka]` table: write it there");
        } else if !super::super::entry::is_name(name) {
            at.problem("a cluster's name has letters, digits, `.`, `_` and `-`, begins with a letter or digit and has at most 100");
        } else {
            add(name, &at);
        }
    }
    clusters
}

fn cluster(plan: &mut ClusterPlan, mut fields: Fields<'_>, dir: &Path) {
    if let Some(at) = fields.need("brokers", "for example [\"kafka-1:9092\"]") {
        let texts = at.text_or_texts();
        if texts.as_ref().is_some_and(Vec::is_empty) {
            at.problem("is empty: name at least one broker as host:port");
        }
        plan.brokers = texts.iter().flatten().filter_map(|(at, text)| broker(at, text)).collect();
    }
    plan.delivery = fields.get("delivery").and_then(|at| delivery(&at)).unwrap_or_default();
    plan.properties = fields.get("properties").map(|at| properties(&at, dir)).unwrap_or_default();
    fields.finish(&[]);
}

fn broker(at: &At<'_>, text: &str) -> Option<String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let port = bare.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    match port {
        Some((host, Ok(1..))) if !host.is_empty() && !text.contains(',') => Some(text.to_owned()),
        _ => {
            at.problem(format!("`{text}` is not a broker: write host:port, one in each string"));
            None
        }
    }
}

fn delivery(at: &At<'_>) -> Option<Delivery> {
    let exactly_once = at.word(&[("at-least-once", false), ("exactly-once", true)])?;
    if exactly_once {
        at.problem(
            "exactly-once is not in this version: use \"at-least-once\", and the `id` header to drop duplicates",
        );
        return None;
    }
    Some(Delivery::AtLeastOnce)
}

fn properties(at: &At<'_>, dir: &Path) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (name, at) in at.pairs().unwrap_or_default() {
        let from_file = name.strip_suffix("_file").filter(|name| kafka_properties::is_secret(name));
        let value = match from_file {
            Some(_) => at.some_text().and_then(|file| read_secret(&at, &base_of(&at.tree.place, dir).join(file))),
            None => property(name, &at),
        };
        if let Some(value) = value {
            properties.insert(from_file.unwrap_or(name).to_owned(), value);
        }
    }
    properties
}

fn property(name: &str, at: &At<'_>) -> Option<String> {
    if kafka_properties::is_secret(name) && at.tree.place.layer != Layer::Environment {
        at.problem(format!(
            "a secret does not belong here: write \"{name}_file\" with the path of a file that holds it, or set {}",
            format!("TAILMILL_KAFKA_{name}").to_ascii_uppercase().replace('.', "_")
        ));
        return None;
    }
    let value = match &at.tree.value {
        Value::Text(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => {
            at.problem(format!("expected a string, a number, true or false; found {}", other.kind()));
            return None;
        }
    };
    match kafka_properties::refusal(name).or_else(|| kafka_properties::bad_value(name, &value)) {
        Some(reason) => {
            at.problem(reason);
            None
        }
        None => Some(value),
    }
}

/// The content of a file that holds one secret, without the end of its line.
fn read_secret(at: &At<'_>, file: &Path) -> Option<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => {
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            if text.is_empty() {
                at.problem(format!("{} is empty", file.display()));
            }
            Some(text)
        }
        Err(error) => {
            at.problem(format!("while reading {}: {error}", file.display()));
            None
        }
    }
}

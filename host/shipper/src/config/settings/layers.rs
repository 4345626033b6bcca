//! What stands above the file: `TAILMILL_*` variables, then flags.
//!
//! A variable is named after its key: `entries.allow_paths` is `TAILMILL_ENTRIES_ALLOW_PATHS`. Lists are separated by
//! commas, maps are `name=value` separated by commas. For `[clusters.NAME]` the name stands in capitals, with `_` for
//! every other character.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::fields::{Problems, did_you_mean};
use super::super::tree::{Layer, Place, Tree, Value};
use crate::model::{Problem, kafka_properties};

/// What a text from outside the file is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Strings, separated by commas.
    List,
    /// `name=value`, separated by commas.
    Map,
}

/// Every key of the settings with a fixed name, and what its variable holds.
pub const KEYS: &[(&str, Kind)] = &[
    ("node", Kind::Text),
    ("labels", Kind::Map),
    ("state_dir", Kind::Text),
    ("kafka.brokers", Kind::List),
    ("kafka.delivery", Kind::Text),
    ("kafka.properties", Kind::Map),
    ("etcd.endpoints", Kind::List),
    ("etcd.prefix", Kind::Text),
    ("etcd.user", Kind::Text),
    ("etcd.password", Kind::Text),
    ("etcd.password_file", Kind::Text),
    ("etcd.ca", Kind::Text),
    ("etcd.cert", Kind::Text),
    ("etcd.key", Kind::Text),
    ("etcd.entries_key", Kind::Text),
    ("etcd.entries_key_by", Kind::Text),
    ("entries.dir", Kind::Text),
    ("entries.allow_paths", Kind::List),
    ("entries.allow_topics", Kind::List),
    ("modules.dir", Kind::Text),
    ("modules.trusted_keys", Kind::List),
    ("modules.fetch_spread_ms", Kind::Number),
    ("admin.listen", Kind::Text),
    ("admin.file_metrics", Kind::Flag),
    ("log.format", Kind::Text),
    ("log.level", Kind::Text),
    ("agent.shards", Kind::Number),
    ("agent.batch_bytes", Kind::Number),
    ("agent.batch_lines", Kind::Number),
    ("agent.inflight_bytes_max", Kind::Number),
    ("agent.inflight_topic_bytes_max", Kind::Number),
    ("agent.scan_every_ms", Kind::Number),
    ("agent.pinned_bytes_max", Kind::Number),
    ("agent.forget_after_ms", Kind::Number),
    ("agent.checkpoint_every_ms", Kind::Number),
    ("agent.stop_deadline_ms", Kind::Number),
    ("agent.filter_timeout_ms_max", Kind::Number),
    ("agent.filter_memory_mib_max", Kind::Number),
    ("agent.filter_output_mib_max", Kind::Number),
    ("agent.filter_held_mib_max", Kind::Number),
    ("agent.filter_state_kib_max", Kind::Number),
    ("agent.filter_table_elements_max", Kind::Number),
    ("agent.chain_filters_max", Kind::Number),
];

/// Variables that are ours without being a setting: the file itself, and what other tools of the project read.
const OTHERS: &[&str] = &["TAILMILL_CONFIG", "TAILMILL_FILTERS"];

/// Kubernetes sets these for a service called `tailmill`; Cargo-like tools of the tests use the last.
const FOREIGN_PREFIXES: &[&str] = &["TAILMILL_PORT", "TAILMILL_SERVICE_", "TAILMILL_TEST_"];

/// Variables and flags.
#[derive(Clone, Default)]
pub struct Overrides {
    environment: BTreeMap<String, String>,
    flags: Vec<(String, String, String)>,
}

impl std::fmt::Debug for Overrides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.environment.keys().chain(self.flags.iter().map(|(flag, _, _)| flag)).collect();
        write!(f, "Overrides({names:?})")
    }
}

impl Overrides {
    /// The `TAILMILL_*` variables of this process.
    pub fn from_environment() -> Overrides {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.to_string_lossy().into_owned());
            name.starts_with("TAILMILL_").then_some((name, value))
        });
        Overrides { environment: ours.collect(), flags: Vec::new() }
    }

    /// As if this variable were set (tests).
    pub fn with_variable(mut self, name: &str, value: &str) -> Overrides {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A flag as the user knows it (`--node`), the key it sets (one of [`KEYS`]), and the value as it would stand in the
    /// variable.
    pub fn with_flag(mut self, flag: &str, key: &str, value: &str) -> Overrides {
        self.flags.push((flag.to_owned(), key.to_owned(), value.to_owned()));
        self
    }

    /// Puts everything into the tree. Gives warnings for variables that set nothing.
    pub(super) fn apply(&self, tree: &mut Tree, problems: &Problems) -> Vec<Problem> {
        let names = variables(&cluster_names(tree));
        let mut warnings = Vec::new();
        for (name, value) in &self.environment {
            let place = Place { source: name.as_str().into(), line: 0, layer: Layer::Environment };
            if let Some((_, path, kind)) = names.iter().find(|(known, _, _)| known == name) {
                put(tree, path, outside(value, *kind, &place, problems), &place);
            } else if !OTHERS.contains(&name.as_str()) && !FOREIGN_PREFIXES.iter().any(|p| name.starts_with(p)) {
                let hint = did_you_mean(name, names.iter().map(|(known, _, _)| known.as_str()));
                let reason = format!("this variable sets nothing{hint}");
                warnings.push(Problem { source: name.clone(), key: String::new(), reason });
            }
        }
        for (flag, key, value) in &self.flags {
            let place = Place { source: flag.as_str().into(), line: 0, layer: Layer::Flag };
            match KEYS.iter().find(|(known, _)| known == key) {
                Some((_, kind)) => {
                    let path: Vec<String> = key.split('.').map(str::to_owned).collect();
                    put(tree, &path, outside(value, *kind, &place, problems), &place);
                }
                None => {
                    let hint = did_you_mean(key, KEYS.iter().map(|(known, _)| *known));
                    problems.add(&place, key, format!("unknown key `{key}`{hint}"));
                }
            }
        }
        warnings
    }
}

/// Relative paths from outside the file are meant from where the command runs.
pub(super) fn base_of<'a>(place: &Place, file_dir: &'a Path) -> &'a Path {
    if place.layer == Layer::Written { file_dir } else { Path::new("") }
}

fn cluster_names(tree: &Tree) -> Vec<String> {
    let below = |tree: &Tree, key: &str| match &tree.value {
        Value::Table(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, tree)| tree.clone()),
        _ => None,
    };
    match below(tree, "clusters").map(|clusters| clusters.value) {
        Some(Value::Table(pairs)) => pairs.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

/// Every variable there is: name, path in the tree, kind.
fn variables(clusters: &[String]) -> Vec<(String, Vec<String>, Kind)> {
    let mut all: Vec<_> = KEYS
        .iter()
        .map(|(key, kind)| {
            (format!("TAILMILL_{}", capitals(key)), key.split('.').map(str::to_owned).collect::<Vec<_>>(), *kind)
        })
        .collect();
    let mut add_secrets = |variable: String, path: Vec<String>| {
        for property in kafka_properties::SECRETS.iter().chain(&["sasl.username"]) {
            let below = ["properties".to_owned(), (*property).to_owned()];
            all.push((format!("{variable}_{}", capitals(property)), [&path[..], &below[..]].concat(), Kind::Text));
        }
    };
    add_secrets("TAILMILL_KAFKA".to_owned(), vec!["kafka".to_owned()]);
    for name in clusters {
        add_secrets(format!("TAILMILL_CLUSTERS_{}", capitals(name)), vec!["clusters".to_owned(), name.clone()]);
    }
    for name in clusters {
        for (key, kind) in [("brokers", Kind::List), ("delivery", Kind::Text), ("properties", Kind::Map)] {
            let variable = format!("TAILMILL_CLUSTERS_{}_{}", capitals(name), capitals(key));
            all.push((variable, vec!["clusters".to_owned(), name.clone(), key.to_owned()], kind));
        }
    }
    all
}

fn capitals(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// What a text outside the file means. What does not fit stays a text, and the reader names the type it wants.
fn outside(text: &str, kind: Kind, place: &Place, problems: &Problems) -> Value {
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let tree = |value| Tree { value, place: place.clone() };
    match kind {
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Number => text.trim().parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Integer),
        Kind::Flag => text.trim().parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Bool),
        Kind::List => Value::List(parts().map(|part| tree(Value::Text(part.to_owned()))).collect()),
        Kind::Map => {
            let mut pairs = Vec::new();
            for part in parts() {
                match part.split_once('=') {
                    Some((name, value)) => {
                        pairs.push((name.trim().to_owned(), tree(Value::Text(value.trim().to_owned()))));
                    }
                    None => problems.add(place, "", "expected name=value, separated by commas"),
                }
            }
            Value::Table(pairs)
        }
    }
}

/// Sets the value at `path`, making tables on the way. Maps are merged, name by name; everything else is replaced.
fn put(tree: &mut Tree, path: &[String], value: Value, place: &Place) {
    let Value::Table(pairs) = &mut tree.value else { return };
    let [key, rest @ ..] = path else { return };
    let at = pairs.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
        pairs.push((key.clone(), Tree { value: Value::Table(Vec::new()), place: place.clone() }));
        pairs.len() - 1
    });
    let below = &mut pairs[at].1;
    if !rest.is_empty() {
        return put(below, rest, value, place);
    }
    match (&mut below.value, value) {
        (Value::Table(_), Value::Table(new)) => {
            for (name, tree) in new {
                put(below, &[name], tree.value, place);
            }
        }
        (_, value) => *below = Tree { value, place: place.clone() },
    }
}

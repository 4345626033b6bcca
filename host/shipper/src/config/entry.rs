//! One entry's JSON to a [`RawEntry`]: checked as far as the JSON alone can be.
//!
//! The smallest is `{"path": "/var/log/app.log", "topic": "app"}`. Every key has a default that loses nothing. What
//! depends on this agent (clusters, ceilings, allowed topics, modules) is looked at in `entry_check` and `build`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};
use tailmill_tail::discover::StartAt;
use tailmill_tail::{Framing, PathPatterns};

pub use super::entry_filter::RawFilter;
use super::entry_filter::filter;
use super::fields::{At, Fields, Problems};
use super::tree::{self, Tree, Value};
use crate::model::{Format, HeaderKind, KeySource, OnError, OnRefused, Partitioning, Problem};

/// How long a file that is gone or renamed must be quiet: longer than a writer needs to reopen after a rotation.
const FINISH_AFTER: Duration = Duration::from_secs(5);
/// How long a file must be quiet before it is closed: longer than most writers pause, so that few are opened again.
pub const CLOSE_IDLE: Duration = Duration::from_secs(60);
/// As Kafka has it.
const TOPIC_BYTES_MAX: usize = 249;

/// What an entry says.
#[derive(Clone, Debug)]
pub struct RawEntry {
    /// `path`.
    pub paths: Vec<String>,
    /// `path` and `exclude`, compiled. None only beside a problem.
    pub patterns: Option<Arc<PathPatterns>>,
    /// `topic`, then `topics`.
    pub topics: Vec<Arc<str>>,
    /// `cluster`.
    pub cluster: Arc<str>,
    /// `nodes`; none: all nodes.
    pub nodes: Option<GlobSet>,
    /// `labels`, all of which the node must have.
    pub labels: BTreeMap<String, String>,
    /// `start`.
    pub start: StartAt,
    /// `line_max_bytes`, `line_too_long`, `multiline`, `delimiter`, `encoding`, `compressed`.
    pub framing: Framing,
    /// `finish_after_ms`.
    pub finish_after: Duration,
    /// `close_idle_ms`; 0: never.
    pub close_idle: Option<Duration>,
    /// `ignore_older_ms`.
    pub ignore_older: Option<Duration>,
    /// `filters`.
    pub filters: Vec<RawFilter>,
    /// `on_refused`.
    pub on_refused: OnRefused,
    /// `dead_letter_topic`.
    pub dead_letter_topic: Option<Arc<str>>,
    /// `format`.
    pub format: Format,
    /// `partition`.
    pub partition: Partitioning,
    /// `key`.
    pub key: Option<KeySource>,
    /// `headers`.
    pub headers: Vec<HeaderKind>,
}

/// Checks one entry's JSON. `source` names it in problems.
pub fn parse_entry(source: &str, json: &[u8]) -> Result<RawEntry, Vec<Problem>> {
    let tree = tree::from_json(source, json).map_err(|problem| vec![problem])?;
    let (entry, problems) = read_entry(&tree, "");
    if problems.is_empty() { Ok(entry) } else { Err(problems) }
}

/// Whether this can be the name of an entry, a cluster or a module.
pub(crate) fn is_name(text: &str) -> bool {
    let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= 100
        && text.bytes().all(ordinary)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// What could be read, and every problem. `key` is where in its source the entry stands (`[2]` in the array key).
pub(super) fn read_entry(tree: &Tree, key: &str) -> (RawEntry, Vec<Problem>) {
    let problems = Problems::default();
    let at = At { tree, key: key.to_owned(), problems: &problems };
    let entry = read(&at);
    (entry, problems.take())
}

fn read(at: &At<'_>) -> RawEntry {
    let mut entry = RawEntry {
        paths: Vec::new(),
        patterns: None,
        topics: Vec::new(),
        cluster: "default".into(),
        nodes: None,
        labels: BTreeMap::new(),
        start: StartAt::Beginning,
        framing: Framing::default(),
        finish_after: FINISH_AFTER,
        close_idle: Some(CLOSE_IDLE),
        ignore_older: None,
        filters: Vec::new(),
        on_refused: OnRefused::default(),
        dead_letter_topic: None,
        format: Format::default(),
        partition: Partitioning::default(),
        key: None,
        headers: Vec::new(),
    };
    let Some(mut fields) = at.fields() else { return entry };
    files(&mut entry, &mut fields);
    framing::read(&mut entry.framing, &mut fields);
    if entry.framing.compressed && entry.start == StartAt::End {
        at.problem("`compressed` does not go with `start` \"end\": where a compressed file ends is known only when all of it was unpacked");
    }
    selection(&mut entry, &mut fields);
    let filters = fields.get("filters").and_then(|at| at.list()).unwrap_or_default();
    entry.filters = filters.iter().filter_map(filter).collect();
    destination(&mut entry, &mut fields);
    fields.refuse("on_error", "belongs to each filter: write it inside `filters`");
    fields.finish(&["on_error"]);
    entry
}

fn files(entry: &mut RawEntry, fields: &mut Fields<'_>) {
    let path = fields.need("path", "which files, for example \"/var/log/app.log\" or [\"/var/log/*.log\"]");
    let paths = path.as_ref().and_then(At::text_or_texts).unwrap_or_default();
    if let Some(at) = path.filter(|at| matches!(&at.tree.value, Value::List(items) if items.is_empty())) {
        at.problem("is empty: name at least one file");
    }
    let exclude = fields.get("exclude").and_then(|at| at.text_or_texts()).unwrap_or_default();
    // One pattern at a time, so that each problem names its own key.
    let mut sound = !paths.is_empty();
    for (patterns, excluding) in [(&paths, false), (&exclude, true)] {
        for (at, text) in patterns {
            let one = [(*text).to_owned()];
            let result = if excluding { PathPatterns::new(&[], &one) } else { PathPatterns::new(&one, &[]) };
            for error in result.err().into_iter().flatten() {
                sound = false;
                at.problem(error.to_string());
            }
        }
    }
    let owned = |texts: &[(At<'_>, &str)]| texts.iter().map(|(_, text)| (*text).to_owned()).collect::<Vec<String>>();
    entry.paths = owned(&paths);
    if sound {
        entry.patterns = PathPatterns::new(&entry.paths, &owned(&exclude)).ok().map(Arc::new);
    }
    let starts = [("beginning", StartAt::Beginning), ("end", StartAt::End)];
    if let Some(start) = fields.get("start").and_then(|at| at.word(&starts)) {
        entry.start = start;
    }
    if let Some(ms) = fields.get("finish_after_ms").and_then(|at| at.number(0..=86_400_000)) {
        entry.finish_after = Duration::from_millis(ms);
    }
    if let Some(ms) = fields.get("close_idle_ms").and_then(|at| at.number(0..=365 * 86_400_000)) {
        entry.close_idle = (ms > 0).then(|| Duration::from_millis(ms));
    }
    if let Some(ms) = fields.get("ignore_older_ms").and_then(|at| at.number(1..=10_000 * 86_400_000)) {
        entry.ignore_older = Some(Duration::from_millis(ms));
    }
}

fn selection(entry: &mut RawEntry, fields: &mut Fields<'_>) {
    entry.nodes = fields.get("nodes").and_then(|at| {
        let mut set = GlobSetBuilder::new();
        for (at, text) in at.text_or_texts()? {
            match Glob::new(text) {
                Ok(glob) => drop(set.add(glob)),
                Err(error) => at.problem(format!("glob `{text}`: {}", error.kind())),
            }
        }
        set.build().ok()
    });
    let labels = fields.get("labels").and_then(|at| at.pairs()).unwrap_or_default();
    entry.labels = labels.iter().filter_map(|(name, at)| Some(((*name).to_owned(), at.text()?.to_owned()))).collect();
}

fn destination(entry: &mut RawEntry, fields: &mut Fields<'_>) {
    let own = fields.need("topic", "where the lines go").and_then(|at| topic(&at));
    let more = fields.get("topics").and_then(|at| at.texts()).unwrap_or_default();
    let own_is_sound = own.is_some();
    entry.topics.extend(own);
    for (at, text) in &more {
        let known = entry.topics.iter().any(|known| **known == **text);
        if known {
            at.problem(format!("`{text}` is listed twice"));
        } else if let Some(topic) = topic(at).filter(|_| own_is_sound) {
            entry.topics.push(topic);
        }
    }
    if let Some(cluster) = fields.get("cluster").and_then(|at| at.some_text()) {
        entry.cluster = cluster.into();
    }
    let policies = [("block", OnRefused::Block), ("drop", OnRefused::Drop), ("dead-letter", OnRefused::DeadLetter)];
    entry.on_refused = fields.get("on_refused").and_then(|at| at.word(&policies)).unwrap_or_default();
    let letters =
        entry.on_refused == OnRefused::DeadLetter || entry.filters.iter().any(|f| f.on_error == OnError::DeadLetter);
    let dead = if letters {
        fields.need("dead_letter_topic", "a policy says `dead-letter`")
    } else {
        fields.get("dead_letter_topic")
    };
    entry.dead_letter_topic = dead.and_then(|at| {
        let topic = topic(&at)?;
        if entry.topics.first() == Some(&topic) {
            at.problem("is the entry's own topic: dead letters need another");
        }
        Some(topic)
    });
    entry.format = fields
        .get("format")
        .and_then(|at| at.word(&[("raw", Format::Raw), ("json", Format::Json)]))
        .unwrap_or_default();
    entry.key = fields.get("key").and_then(|at| key(&at));
    if let Some(at) = fields.get("partition") {
        entry.partition = partition(&at).unwrap_or_default();
        if entry.partition == Partitioning::Key && entry.key.is_none() && entry.filters.is_empty() {
            at.problem("`key` needs `key`, or a filter that sets one");
        }
    }
    entry.headers = fields.get("headers").map(|at| headers(&at)).unwrap_or_default();
}

fn topic(at: &At<'_>) -> Option<Arc<str>> {
    let text = at.some_text()?;
    let ordinary = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !ordinary || text.len() > TOPIC_BYTES_MAX || matches!(text, "." | "..") {
        at.problem(format!("`{text}` is not a topic: letters, digits, `.`, `_` and `-`, at most {TOPIC_BYTES_MAX}"));
        return None;
    }
    Some(text.into())
}

fn partition(at: &At<'_>) -> Option<Partitioning> {
    if let Value::Integer(_) = at.tree.value {
        let number = at.number(0..=i32::MAX as u64)?;
        return i32::try_from(number).ok().map(Partitioning::Number);
    }
    if !matches!(at.tree.value, Value::Text(_)) {
        at.problem(format!("expected a string or a whole number, found {}", at.tree.value.kind()));
        return None;
    }
    at.word(&[
        ("stream", Partitioning::Stream),
        ("key", Partitioning::Key),
        ("round-robin", Partitioning::RoundRobin),
        ("random", Partitioning::Random),
    ])
}

fn key(at: &At<'_>) -> Option<KeySource> {
    if let Value::Table(_) = at.tree.value {
        let mut fields = at.fields()?;
        let fixed = fields.need("fixed", "the text of the key").and_then(|at| at.text());
        fields.finish(&[]);
        return fixed.map(|text| KeySource::Fixed(text.to_owned()));
    }
    let word = at.word(&[("node", 0), ("path", 1), ("stream", 2)])?;
    Some([KeySource::Node, KeySource::Path, KeySource::Stream][word].clone())
}

fn headers(at: &At<'_>) -> Vec<HeaderKind> {
    let kinds = [
        HeaderKind::Id,
        HeaderKind::Node,
        HeaderKind::Path,
        HeaderKind::Offset,
        HeaderKind::Entry,
        HeaderKind::Inode,
        HeaderKind::Generation,
        HeaderKind::Line,
    ];
    let words = ["id", "node", "path", "offset", "entry", "inode", "generation", "line"];
    let words: Vec<(&'static str, usize)> = words.into_iter().zip(0..).collect();
    let mut headers = Vec::new();
    for (at, text) in at.texts().unwrap_or_default() {
        let Some(kind) = at.word(&words).map(|i: usize| kinds[i].clone()) else { continue };
        if headers.contains(&kind) {
            at.problem(format!("`{text}` is listed twice"));
        } else {
            headers.push(kind);
        }
    }
    headers
}

mod framing; // bytes to lines

#[cfg(test)]
mod tests;

//! What came of a line: a record, or a fault. As text for the eye, as bytes for `NAME.expected`, as JSON for
//! `NAME.expected.jsonl`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tailmill_engine::FaultKind;

use crate::model::RecordSet;
use crate::observe::text::safe;

/// One record that left the filter. `line`: the number, from 0, of the oldest input line it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: usize,
    pub(super) value: Vec<u8>,
    pub(super) key: Option<Vec<u8>>,
    /// Index into the topics.
    pub(super) topic: u16,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

/// A line that the filter failed on.
#[derive(Clone, Debug)]
pub(super) struct LineFault {
    pub(super) line: usize,
    pub(super) value: Vec<u8>,
    pub(super) kind: FaultKind,
    pub(super) message: String,
}

impl Record {
    /// Record `i` of a set. `line`: where it came from.
    pub(super) fn of(set: &RecordSet, i: usize, line: usize) -> Record {
        let extras = set.extras.as_deref();
        let headers = extras.map_or(&[][..], |extras| &extras.headers);
        let headers = headers.iter().filter_map(|header| Some((header.name.clone(), header.values.get(i)?.to_vec())));
        Record {
            line,
            value: set.value(i).to_vec(),
            key: extras.and_then(|extras| extras.keys.as_ref()?.get(i)).map(<[u8]>::to_vec),
            topic: extras.and_then(|extras| extras.topics.get(i).copied()).unwrap_or(0),
            timestamp_ms: extras.and_then(|extras| extras.timestamp_ms(i)),
            headers: headers.collect(),
        }
    }

    /// Whether there is nothing but the value.
    pub(super) fn is_bare(&self) -> bool {
        self.key.is_none() && self.topic == 0 && self.timestamp_ms.is_none() && self.headers.is_empty()
    }

    /// The value, and behind it what else was set.
    pub(super) fn text(&self, topics: &[String]) -> String {
        let mut more = Vec::new();
        more.extend(self.key.as_ref().map(|key| format!("key={}", shown(key))));
        if self.topic != 0 {
            more.push(format!("topic={}", topic(topics, self.topic)));
        }
        more.extend(self.timestamp_ms.map(|ms| format!("timestamp_ms={ms}")));
        more.extend(self.headers.iter().map(|(name, value)| format!("{}={}", safe(name), shown(value))));
        let value = shown(&self.value);
        if more.is_empty() { value } else { format!("{value}  [{}]", more.join(" ")) }
    }

    /// One line of `NAME.expected.jsonl`.
    pub(super) fn json(&self, topics: &[String]) -> Value {
        let mut all = BTreeMap::new();
        put(&mut all, "value", &self.value);
        if let Some(key) = &self.key {
            put(&mut all, "key", key);
        }
        if self.topic != 0 {
            all.insert("topic".to_owned(), json!(topic(topics, self.topic)));
        }
        if let Some(ms) = self.timestamp_ms {
            all.insert("timestamp_ms".to_owned(), json!(ms));
        }
        if !self.headers.is_empty() {
            let mut headers = BTreeMap::new();
            self.headers.iter().for_each(|(name, value)| put(&mut headers, name, value));
            all.insert("headers".to_owned(), json!(headers));
        }
        json!(all)
    }
}

impl LineFault {
    /// For the eye.
    pub(super) fn text(&self) -> String {
        format!("{}  [{}: {}]", shown(&self.value), self.kind, safe(&self.message))
    }

    /// One line of `NAME.expected.jsonl`. Messages are for people: they may change.
    pub(super) fn json(&self) -> Value {
        let mut all = BTreeMap::from([("fault".to_owned(), json!(self.kind.name()))]);
        put(&mut all, "value", &self.value);
        json!(all)
    }
}

fn topic(topics: &[String], index: u16) -> &str {
    topics.get(usize::from(index)).map_or("?", String::as_str)
}

/// Text as a string, anything else in hex under another name.
fn put(all: &mut BTreeMap<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => all.insert(name.to_owned(), json!(text)),
        Err(_) => all.insert(format!("{name}_hex"), json!(hex::encode(bytes))),
    };
}

/// Bytes for the eye: what is different looks different, and nothing reaches the terminal that it would obey.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&safe(chunk.valid()));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_shows_all_that_was_set() {
        let bare =
            Record { line: 0, value: b"v\xff\n".to_vec(), key: None, topic: 0, timestamp_ms: None, headers: vec![] };
        assert_eq!((bare.text(&[]), bare.is_bare()), ("v\\xff\\n".to_owned(), true));
        assert_eq!(bare.json(&[]).to_string(), r#"{"value_hex":"76ff0a"}"#);
        let full = Record {
            value: b"v".to_vec(),
            key: Some(b"k".to_vec()),
            topic: 1,
            timestamp_ms: Some(-5),
            headers: vec![("h".to_owned(), b"x".to_vec())],
            ..bare
        };
        let topics = ["a".to_owned(), "b".to_owned()];
        assert_eq!((full.text(&topics), full.is_bare()), ("v  [key=k topic=b timestamp_ms=-5 h=x]".to_owned(), false));
        let json = r#"{"headers":{"h":"x"},"key":"k","timestamp_ms":-5,"topic":"b","value":"v"}"#;
        assert_eq!(full.json(&topics).to_string(), json);
    }
}

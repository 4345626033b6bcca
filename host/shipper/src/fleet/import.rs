//! Classic LogAgent settings to entries. Pure.
//!
//! In: the JSON array of a classic key, or an ini file. Out: entries with names of their own. What an entry cannot say is
//! given back as a note for a person.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Entries by name, and what a person should know.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Imported {
    pub(crate) entries: BTreeMap<String, Value>,
    pub(crate) notes: Vec<String>,
}

/// Keys of ini files that name a log file.
const PATH_KEYS: [&str; 7] = ["path", "filename", "file_name", "file", "logfile", "log_path", "logfile_path"];
/// Keys that name a topic.
const TOPIC_KEYS: [&str; 3] = ["topic", "kafka_topic", "log_topic"];

impl Imported {
    /// From a classic array.
    pub(crate) fn from_array(json: &[u8], nodes: &[String]) -> Result<Imported, String> {
        let items: Vec<Map<String, Value>> =
            serde_json::from_slice(json).map_err(|error| format!("is not an array of entries: {error}"))?;
        let mut imported = Imported::default();
        for (i, item) in items.into_iter().enumerate() {
            let path = match item.get("path") {
                Some(Value::String(path)) => path.clone(),
                Some(Value::Array(paths)) => paths.first().and_then(Value::as_str).unwrap_or_default().to_owned(),
                _ => return Err(format!("item {i} has no `path`")),
            };
            imported.add(&path, item, nodes);
        }
        Ok(imported)
    }

    /// From an ini file.
    pub(crate) fn from_ini(text: &str, nodes: &[String]) -> Result<Imported, String> {
        let (mut imported, mut paths, mut topic) = (Imported::default(), Vec::new(), None);
        for (section, key, value) in ini(text)? {
            match (section.as_str(), key.as_str()) {
                ("kafka", "address" | "addr" | "brokers") => {
                    imported.notes.push(format!("settings: [kafka] brokers = [\"{}\"]", value.replace(',', "\", \"")));
                }
                ("etcd", "address" | "addr" | "endpoints") => {
                    let urls: Vec<String> = value.split(',').map(|one| format!("\"http://{}\"", one.trim())).collect();
                    imported.notes.push(format!("settings: [etcd] endpoints = [{}]", urls.join(", ")));
                }
                ("etcd", "collect_log_key" | "collect_key" | "key") => imported.notes.push(format!(
                    "settings: [etcd] entries_key = \"{value}\" keeps the array key; `tailmill entry import --array KEY` turns it into entries"
                )),
                (_, key) if TOPIC_KEYS.contains(&key) => topic = Some(value),
                (_, key) if PATH_KEYS.contains(&key) => paths.push(value),
                (section, key) => imported.notes.push(format!("[{section}] {key} has no meaning here")),
            }
        }
        if !paths.is_empty() && topic.is_none() {
            return Err("names log files and no topic: a key `topic` was looked for".to_owned());
        }
        for path in paths {
            let item = Map::from_iter([("path".to_owned(), json!(path)), ("topic".to_owned(), json!(topic))]);
            imported.add(&path, item, nodes);
        }
        Ok(imported)
    }

    fn add(&mut self, path: &str, mut item: Map<String, Value>, nodes: &[String]) {
        if !nodes.is_empty() {
            item.insert("nodes".to_owned(), json!(nodes));
        }
        let bare = name(path);
        let free = |name: &String| !self.entries.contains_key(name);
        let numbered = (2..).map(|n| format!("{bare}-{n}"));
        let name = std::iter::once(bare.clone()).chain(numbered).find(free).unwrap_or(bare);
        self.entries.insert(name, Value::Object(item));
    }
}

/// `nginx-access` for `/var/log/nginx/access.log`.
fn name(path: &str) -> String {
    let stem = path.strip_suffix(".log").unwrap_or(path);
    let parts: Vec<&str> = stem.split('/').filter(|part| !part.is_empty()).collect();
    let last = parts[parts.len().saturating_sub(2)..].join("-");
    let ordinary = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let text: String = last.chars().map(ordinary).take(80).collect();
    let text = text.trim_start_matches(['.', '_', '-']);
    if text.is_empty() { "imported".to_owned() } else { text.to_owned() }
}

/// Section, key, value; keys in small letters.
fn ini(text: &str) -> Result<Vec<(String, String, String)>, String> {
    let (mut section, mut found) = (String::new(), Vec::new());
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_ascii_lowercase();
            continue;
        }
        let pair = line
            .split_once(['=', ':'])
            .ok_or_else(|| format!("line {} is neither [section] nor key = value", i + 1))?;
        let value = pair.1.trim().trim_matches(['"', '\'']);
        found.push((section.clone(), pair.0.trim().to_ascii_lowercase(), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classic_array_becomes_entries_that_say_the_same() {
        let array =
            br#"[{"path":"/var/log/nginx/access.log","topic":"web"},{"path":"/d/*.log","topic":"b","start":"end"},
            {"path":"/x/nginx/access.log","topic":"c"}]"#;
        let imported = Imported::from_array(array, &["web-*".to_owned()]).unwrap();
        let expected: BTreeMap<String, Value> = [
            ("nginx-access", json!({"path":"/var/log/nginx/access.log","topic":"web","nodes":["web-*"]})),
            ("d-_", json!({"path":"/d/*.log","topic":"b","start":"end","nodes":["web-*"]})),
            ("nginx-access-2", json!({"path":"/x/nginx/access.log","topic":"c","nodes":["web-*"]})),
        ]
        .map(|(name, entry)| (name.to_owned(), entry))
        .into();
        assert_eq!(imported, Imported { entries: expected, notes: vec![] });
        for (bad, said) in
            [("{}", "not an array"), (r#"[{"topic":"x"}]"#, "item 0 has no `path`"), ("[", "not an array")]
        {
            assert!(Imported::from_array(bad.as_bytes(), &[]).unwrap_err().contains(said), "{bad}");
        }
    }

    #[test]
    fn an_ini_file_becomes_an_entry_and_notes_about_the_settings() {
        let ini = "; classic\n[kafka]\naddress=10.0.0.1:9092,10.0.0.2:9092\ntopic = web_log\nchan_max_size=100000\n\
            [etcd]\naddress=10.0.0.3:2379\ncollect_log_key=collect_log_%s_conf\n[taillog]\nfilename=\"/logs/my.log\"\n";
        let imported = Imported::from_ini(ini, &[]).unwrap();
        assert_eq!(imported.entries, [("logs-my".to_owned(), json!({"path":"/logs/my.log","topic":"web_log"}))].into());
        assert_eq!(imported.notes[0], r#"settings: [kafka] brokers = ["10.0.0.1:9092", "10.0.0.2:9092"]"#);
        assert_eq!(imported.notes[1], "[kafka] chan_max_size has no meaning here");
        assert!(imported.notes[3].contains("--array"), "{:?}", imported.notes);
        assert!(Imported::from_ini("[taillog]\npath=/a", &[]).unwrap_err().contains("no topic"));
        assert!(Imported::from_ini("nonsense", &[]).unwrap_err().contains("line 1"));
    }
}

//! Text → JSON: the named groups of a pattern become fields.

use tailmill_filters_shared::{Captures, Pattern};

use crate::config::{Config, Type};
use crate::object::Object;

/// Patterns, tried in their order.
pub(crate) struct TextPattern {
    patterns: Vec<(Captures, Vec<Group>)>,
}

/// A named group.
struct Group {
    /// Its number in the pattern.
    at: usize,
    name: String,
    becomes: Type,
}

impl TextPattern {
    pub(crate) fn new(config: &Config) -> Result<Option<TextPattern>, String> {
        let mut patterns = Vec::new();
        for (key, text) in config.regex.clone().named("regex") {
            let captures = Captures::new(&Pattern::new(&key, &text, false)?)?;
            let groups = groups(&captures, config);
            if groups.is_empty() {
                return Err(format!(
                    "`{key}`: no named group in `{text}`: write (?<name>…) around what becomes a field"
                ));
            }
            patterns.push((captures, groups));
        }
        let is_group = |name: &String| {
            patterns.iter().any(|(_, groups): &(_, Vec<Group>)| groups.iter().any(|group| group.name == *name))
        };
        if let Some(name) = config.types.keys().find(|name| !is_group(name)) {
            return Err(format!("`types.{name}`: no pattern in `regex` has a group of this name"));
        }
        Ok((!patterns.is_empty()).then_some(TextPattern { patterns }))
    }

    /// The line as an object, if a pattern matches.
    pub(crate) fn object(&mut self, line: &[u8]) -> Option<Object<'static>> {
        self.patterns.iter_mut().find_map(|(captures, groups)| {
            if !captures.search(line, 0) {
                return None;
            }
            let mut object = Object::default();
            for group in groups {
                if let Some(span) = captures.group(group.at) {
                    object.set(&group.name, &group.json(&line[span]));
                }
            }
            Some(object)
        })
    }
}

fn groups(captures: &Captures, config: &Config) -> Vec<Group> {
    let named = captures.names().into_iter();
    let group = |(at, name)| Group { at, becomes: config.types.get(&name).copied().unwrap_or(Type::String), name };
    named.map(group).collect()
}

impl Group {
    /// The value as JSON; what is not of the wanted type stays a string.
    fn json(&self, value: &[u8]) -> String {
        match (self.becomes, value) {
            (Type::Boolean, b"true" | b"false") => String::from_utf8_lossy(value).into_owned(),
            (Type::Number, _) => number(value).unwrap_or_else(|| quoted(value)),
            _ => quoted(value),
        }
    }
}

/// A number as it was written, if JSON allows that: digits are never changed.
fn number(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let is_number = matches!(value.first(), Some(b'-' | b'0'..=b'9'));
    (is_number && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() && !text.ends_with(char::is_whitespace))
        .then(|| text.to_string())
}

/// Text as a JSON string; bytes that are no UTF-8 become U+FFFD, since JSON has no other way.
pub(crate) fn quoted(text: &[u8]) -> String {
    // Text can always be written.
    serde_json::to_string(&String::from_utf8_lossy(text)).unwrap_or_default()
}

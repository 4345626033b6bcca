//! What a person wrote, as a tree that remembers where each value stands.
//!
//! In: TOML or JSON text. Out: one [`Tree`] for both, with source and line (JSON values have no line, but JSON that does not
//! parse is told with line and column). It keeps what serde would hide: keys written twice, and every syntax error of a
//! TOML file rather than the first.

use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use toml::de::{DeTable, DeValue};

use crate::model::Problem;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// File, etcd key, variable or flag.
    pub(crate) source: Arc<str>,
    /// From 1; 0: not known.
    pub(crate) line: usize,
    pub(crate) layer: Layer,
}

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// A file or an etcd key.
    Written,
    /// A `TAILMILL_*` variable.
    Environment,
    /// A flag of the command line.
    Flag,
}

impl Place {
    pub(crate) fn written(source: &str) -> Place {
        Place { source: source.into(), line: 0, layer: Layer::Written }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.source),
            line => write!(f, "{}:{line}", self.source),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What TOML and JSON can both say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    /// In the order written; a key may stand twice.
    Table(Vec<(String, Tree)>),
    /// A TOML date or time: nothing here takes one.
    Date,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Value {
    /// With its article, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a fraction",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "an object",
            Value::Date => "a date",
        }
    }
}

impl Tree {
    /// The value as JSON: the same for everything that means the same, whatever its white space.
    pub(crate) fn to_json(&self) -> String {
        self.json_value().to_string()
    }

    fn json_value(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Date => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Integer(number) => i64::try_from(*number)
                .map(Json::from)
                .or_else(|_| u64::try_from(*number).map(Json::from))
                .unwrap_or(Json::Null),
            Value::Float(number) => Json::from(*number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Tree::json_value).collect()),
            Value::Table(pairs) => {
                Json::Object(pairs.iter().map(|(key, tree)| (key.clone(), tree.json_value())).collect())
            }
        }
    }
}

/// JSON text to a tree, or the one problem that it does not parse.
pub(crate) fn from_json(source: &str, json: &[u8]) -> Result<Tree, Problem> {
    let value: JsonValue = serde_json::from_slice(json).map_err(|error| Problem {
        source: source.to_owned(),
        key: String::new(),
        reason: format!("is not JSON: {error}"),
    })?;
    Ok(placed(value.0, &Place::written(source)))
}

/// The JSON side knows no places: all get that of the document.
fn placed(value: Value, place: &Place) -> Tree {
    let value = match value {
        Value::List(items) => Value::List(items.into_iter().map(|item| placed(item.value, place)).collect()),
        Value::Table(pairs) => {
            Value::Table(pairs.into_iter().map(|(key, tree)| (key, placed(tree.value, place))).collect())
        }
        plain => plain,
    };
    Tree { value, place: place.clone() }
}

/// TOML text to a tree of what could be read, and every syntax error.
pub(crate) fn from_toml(source: &str, text: &str) -> (Tree, Vec<Problem>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let lines = Lines { text, source: source.into() };
    let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let mut errors = errors;
    errors.sort_by_key(place);
    let problem = |error: &toml::de::Error| Problem {
        source: lines.place(place(error)).to_string(),
        key: String::new(),
        reason: format!("is not TOML: {}", error.message()),
    };
    let problems = errors.iter().map(problem).collect();
    let mut root = lines.place(0);
    root.line = 0;
    (Tree { value: lines.table(document.get_ref()), place: root }, problems)
}

struct Lines<'a> {
    text: &'a str,
    source: Arc<str>,
}

impl Lines<'_> {
    fn place(&self, at: usize) -> Place {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Place { source: self.source.clone(), line, layer: Layer::Written }
    }

    fn table(&self, table: &DeTable<'_>) -> Value {
        let mut pairs: Vec<(usize, (String, Tree))> = table
            .iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                (key.span().start, (key.get_ref().to_string(), Tree { value: self.value(value.get_ref()), place }))
            })
            .collect();
        pairs.sort_by_key(|(at, _)| *at);
        Value::Table(pairs.into_iter().map(|(_, pair)| pair).collect())
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| Tree { value: self.value(item.get_ref()), place: self.place(item.span().start) })
                    .collect(),
            ),
            DeValue::Table(table) => self.table(table),
        }
    }
}

/// Reads JSON without losing keys that are written twice.
struct JsonValue(Value);

impl<'de> serde::Deserialize<'de> for JsonValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(JsonValue)
    }
}

struct JsonVisitor;

/// A value whose place is not known yet.
fn unplaced(value: Value) -> Tree {
    Tree { value, place: Place::written("") }
}

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(JsonValue(item)) = items.next_element()? {
            list.push(unplaced(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some((key, JsonValue(value))) = pairs.next_entry::<String, JsonValue>()? {
            table.push((key, unplaced(value)));
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_values_know_their_line_and_every_syntax_error_is_told() {
        let (tree, problems) = from_toml("a.toml", "x = 1\n\n[t]\ny = [1,\n \"two\"]\n");
        assert!(problems.is_empty());
        let Value::Table(pairs) = &tree.value else { panic!("not a table") };
        assert_eq!(pairs[0].1.place.to_string(), "a.toml:1");
        let Value::Table(inner) = &pairs[1].1.value else { panic!("not a table") };
        let Value::List(items) = &inner[0].1.value else { panic!("not a list") };
        assert_eq!(items[1].place.to_string(), "a.toml:5");

        let (_, problems) = from_toml("a.toml", "x = \ny = 2\nz = [1\n");
        assert!(problems.len() >= 2, "{problems:?}");
        assert_eq!(problems[0].source, "a.toml:1");
    }

    #[test]
    fn json_keeps_keys_that_are_written_twice() {
        let tree = from_json("e", br#"{"a": 1, "a": null}"#).unwrap();
        let Value::Table(pairs) = tree.value else { panic!("not a table") };
        assert_eq!(pairs.len(), 2);
    }

    #[test]
    fn json_that_means_the_same_is_written_the_same() {
        let one = from_json("e", br#"{"a":[1, 18446744073709551615 ,-2.5,true,null,"x"]}"#).unwrap();
        assert_eq!(one.to_json(), r#"{"a":[1,18446744073709551615,-2.5,true,null,"x"]}"#);
    }
}

//! A JSON object as a list of fields whose values are text: cut at the top level, and deeper only where a path leads.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tailmill_filter::LineWriter;

/// The fields of an object, in their order. A key may come twice: JSON allows it, and so do we.
#[derive(Debug, Default)]
pub(crate) struct Object<'a> {
    fields: Vec<(Cow<'a, str>, Value<'a>)>,
}

/// A value.
#[derive(Debug)]
enum Value<'a> {
    /// As it was written.
    Text(Cow<'a, str>),
    /// An object that a path led into.
    Object(Object<'a>),
}

impl<'a> Object<'a> {
    /// Cuts a line into its fields. All of it is checked to be JSON; the error says why it is no JSON object.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Object<'a>, String> {
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err("not a JSON object: it does not begin with {".into());
        }
        let text = std::str::from_utf8(line).map_err(|_| "not a JSON object: it is no UTF-8")?;
        Object::from_text(text).map_err(|error| format!("not a JSON object: {error}"))
    }

    fn from_text(text: &'a str) -> Result<Object<'a>, serde_json::Error> {
        let fields: Fields<&'a RawValue, Key<'a>> = serde_json::from_str(text)?;
        let fields = fields.0.into_iter().map(|(key, value)| (key.0, Value::Text(Cow::Borrowed(value.get()))));
        Ok(Object { fields: fields.collect() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.fields.iter().position(|(name, _)| name == key)
    }

    /// The object in a field, if there is one.
    fn inner(&mut self, key: &str) -> Option<&mut Object<'a>> {
        let at = self.position(key)?;
        let value = &mut self.fields[at].1;
        if let Value::Text(text) = value {
            if !text.starts_with('{') {
                return None;
            }
            *value = Value::Object(match text {
                Cow::Borrowed(text) => Object::from_text(text).ok()?,
                Cow::Owned(text) => Object::from_text(text).ok()?.into_owned(),
            });
        }
        match value {
            Value::Object(object) => Some(object),
            Value::Text(_) => None,
        }
    }

    /// The object in a field, made where there is none.
    fn inner_or_new(&mut self, key: &str) -> &mut Object<'a> {
        if self.inner(key).is_none() {
            self.replace(key, Value::Object(Object::default()));
        }
        // Either it was there or it was just put there.
        self.inner(key).expect("an object was just put into this field")
    }

    fn replace(&mut self, key: &str, value: Value<'a>) {
        match self.position(key) {
            Some(at) => self.fields[at].1 = value,
            None => self.fields.push((Cow::Owned(key.to_string()), value)),
        }
    }

    /// Puts JSON text into a field.
    pub(crate) fn set(&mut self, key: &str, json: &str) {
        self.replace(key, Value::Text(Cow::Owned(json.to_string())));
    }

    pub(crate) fn has(&mut self, path: &[String]) -> bool {
        match path {
            [] => false,
            [key] => self.position(key).is_some(),
            [key, rest @ ..] => self.inner(key).is_some_and(|inner| inner.has(rest)),
        }
    }

    /// Puts JSON text at a path, making objects on the way.
    pub(crate) fn set_at(&mut self, path: &[String], json: &str) {
        match path {
            [] => {}
            [key] => self.set(key, json),
            [key, rest @ ..] => self.inner_or_new(key).set_at(rest, json),
        }
    }

    /// Takes a field out. An object that is empty then stays.
    pub(crate) fn remove(&mut self, path: &[String]) -> bool {
        match path {
            [] => false,
            [key] => {
                let before = self.fields.len();
                self.fields.retain(|(name, _)| name != key);
                self.fields.len() < before
            }
            [key, rest @ ..] => self.inner(key).is_some_and(|inner| inner.remove(rest)),
        }
    }

    /// Gives a field a new path. In the same object it stays in its place.
    pub(crate) fn rename(&mut self, from: &[String], to: &[String]) -> bool {
        let (Some((old, above)), Some((new, wanted))) = (from.split_last(), to.split_last()) else { return false };
        if !self.has(from) {
            return false;
        }
        if above != wanted {
            let value = self.take(from);
            self.put(to, value);
            return true;
        }
        let Some(object) = self.at(above) else { return false };
        if old != new {
            object.fields.retain(|(name, _)| name != new);
        }
        for (name, _) in object.fields.iter_mut().filter(|(name, _)| name == old) {
            *name = Cow::Owned(new.clone());
        }
        true
    }

    fn at(&mut self, path: &[String]) -> Option<&mut Object<'a>> {
        match path {
            [] => Some(self),
            [key, rest @ ..] => self.inner(key)?.at(rest),
        }
    }

    fn take(&mut self, path: &[String]) -> Option<Value<'a>> {
        let (key, above) = path.split_last()?;
        let object = self.at(above)?;
        let at = object.position(key)?;
        Some(object.fields.remove(at).1)
    }

    fn put(&mut self, path: &[String], value: Option<Value<'a>>) {
        match (path, value) {
            ([key], Some(value)) => self.replace(key, value),
            ([key, rest @ ..], value) => self.inner_or_new(key).put(rest, value),
            _ => {}
        }
    }

    /// Keeps only what `wanted` says: for each field `None` to drop it, `Some(None)` to keep all of it, or what to keep
    /// inside. True if anything was dropped.
    pub(crate) fn retain(&mut self, wanted: &Keeps) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(name, _)| wanted.0.iter().any(|(key, _)| key == name));
        let mut changed = self.fields.len() < before;
        for (key, inside) in &wanted.0 {
            let Some(inside) = inside else { continue };
            match self.inner(key) {
                Some(inner) => {
                    changed |= inner.retain(inside);
                    if inner.is_empty() {
                        changed |= self.remove(std::slice::from_ref(key));
                    }
                }
                // A path leads into this field, but it is no object: it has nothing of what is wanted.
                None => changed |= self.remove(std::slice::from_ref(key)),
            }
        }
        changed
    }

    fn into_owned<'b>(self) -> Object<'b> {
        let owned = |value| match value {
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Object(object) => Value::Object(object.into_owned()),
        };
        Object { fields: self.fields.into_iter().map(|(k, v)| (Cow::Owned(k.into_owned()), owned(v))).collect() }
    }

    /// Writes the object without spaces of its own; values that were not touched keep theirs.
    pub(crate) fn write(&self, out: &mut LineWriter<'_>) {
        out.push(b'{');
        for (at, (key, value)) in self.fields.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            // Writing a string to memory cannot fail.
            let _ = serde_json::to_writer(&mut *out, key.as_ref());
            out.push(b':');
            match value {
                Value::Text(text) => out.extend(text.as_bytes()),
                Value::Object(object) => object.write(out),
            }
        }
        out.push(b'}');
    }
}

/// A tree of fields to keep: `None` below a key keeps all of it.
#[derive(Debug, Default)]
pub(crate) struct Keeps(pub(crate) Vec<(String, Option<Keeps>)>);

/// The fields of a JSON object in their order. (A map of serde would sort or hash them.)
#[derive(Debug)]
pub(crate) struct Fields<T, K = String>(pub(crate) Vec<(K, T)>);

impl<T, K> Default for Fields<T, K> {
    fn default() -> Self {
        Fields(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, K: Deserialize<'de>> Deserialize<'de> for Fields<T, K> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Collect<T, K>(PhantomData<(T, K)>);
        impl<'de, T: Deserialize<'de>, K: Deserialize<'de>> Visitor<'de> for Collect<T, K> {
            type Value = Fields<T, K>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        input.deserialize_map(Collect(PhantomData))
    }
}

/// A key that is borrowed from the line where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

//! Typed looks into a [`Tree`]. Every problem is kept, the reader goes on, and a key nobody asked for is an error.
//!
//! A look gives `None` for what is not there and for what is wrong; the difference is in the problems.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use super::tree::{Place, Tree, Value};
use crate::model::Problem;

/// Keys at this similarity are offered as what was meant. From strsim's Jaro-Winkler; `brokrs`/`brokers` is 0.97.
const SIMILAR: f64 = 0.8;

/// All problems of one document, in the order found.
#[derive(Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(crate) fn add(&self, place: &Place, key: &str, reason: impl Into<String>) {
        self.0.borrow_mut().push(Problem { source: place.to_string(), key: key.to_owned(), reason: reason.into() });
    }

    pub(crate) fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(crate) fn take(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// The one of `known` that was probably meant.
pub(crate) fn meant<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|key| (strsim::jaro_winkler(written, key), key))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// `; did you mean `x`?` or nothing.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    meant(written, known).map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}

/// One value, with the full name of its key.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) key: String,
    pub(crate) problems: &'a Problems,
}

impl<'a> At<'a> {
    /// The whole document.
    pub(crate) fn root(tree: &'a Tree, problems: &'a Problems) -> At<'a> {
        At { tree, key: String::new(), problems }
    }

    pub(crate) fn problem(&self, reason: impl Into<String>) {
        self.problems.add(&self.tree.place, &self.key, reason);
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        self.problem(format!("expected {wanted}, found {}", self.tree.value.kind()));
        None
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.tree.value {
            Value::Text(text) => Some(text),
            _ => self.wrong_type("a string"),
        }
    }

    /// A string that is not empty.
    pub(crate) fn some_text(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.problem("is empty");
            return None;
        }
        Some(text)
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        match &self.tree.value {
            Value::Bool(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Value::Integer(number) = self.tree.value else { return self.wrong_type("a whole number") };
        match u64::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                self.problem(format!("{number} is out of range: from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// As [`At::number`], for sizes in memory.
    pub(crate) fn size(&self, range: RangeInclusive<u64>) -> Option<usize> {
        self.number(range).and_then(|number| usize::try_from(number).ok())
    }

    /// One of these words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let list: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let hint = did_you_mean(text, words.iter().map(|(word, _)| *word));
        self.problem(format!("`{text}` is not one of {}{hint}", list.join(", ")));
        None
    }

    pub(crate) fn list(&self) -> Option<Vec<At<'a>>> {
        match &self.tree.value {
            Value::List(items) => Some(self.items(items)),
            _ => self.wrong_type("a list"),
        }
    }

    /// A list of strings. An item of another type is a problem of its own.
    pub(crate) fn texts(&self) -> Option<Vec<(At<'a>, &'a str)>> {
        match &self.tree.value {
            Value::List(items) => {
                let items = self.items(items);
                let texts: Vec<_> = items.iter().filter_map(|at| Some((at.clone(), at.some_text()?))).collect();
                (texts.len() == items.len()).then_some(texts)
            }
            _ => self.wrong_type("a list of strings"),
        }
    }

    /// One string, or a list of them.
    pub(crate) fn text_or_texts(&self) -> Option<Vec<(At<'a>, &'a str)>> {
        match &self.tree.value {
            Value::Text(_) => Some(vec![(self.clone(), self.some_text()?)]),
            Value::List(_) => self.texts(),
            _ => self.wrong_type("a string or a list of strings"),
        }
    }

    fn items(&self, items: &'a [Tree]) -> Vec<At<'a>> {
        let at = |(i, tree)| At { tree, key: format!("{}[{i}]", self.key), problems: self.problems };
        items.iter().enumerate().map(at).collect()
    }

    /// The pairs of a table whose keys are names that people chose.
    pub(crate) fn pairs(&self) -> Option<Vec<(&'a str, At<'a>)>> {
        let Value::Table(pairs) = &self.tree.value else { return self.wrong_type("an object") };
        self.twice(pairs);
        let pairs = pairs
            .iter()
            .map(|(key, tree)| (key.as_str(), At { tree, key: dotted(&self.key, key), problems: self.problems }));
        Some(pairs.collect())
    }

    /// A table whose keys are ours.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        let Value::Table(pairs) = &self.tree.value else { return self.wrong_type("an object") };
        self.twice(pairs);
        Some(Fields { at: self.clone(), pairs, asked: Vec::new() })
    }

    fn twice(&self, pairs: &[(String, Tree)]) {
        for (i, (key, tree)) in pairs.iter().enumerate() {
            if pairs[..i].iter().any(|(earlier, _)| earlier == key) {
                self.problems.add(&tree.place, &dotted(&self.key, key), "is written twice");
            }
        }
    }
}

/// A table whose keys are ours: ask for each, then [`Fields::finish`].
pub(crate) struct Fields<'a> {
    at: At<'a>,
    pairs: &'a [(String, Tree)],
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The value of a key. `null` is as good as not written.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<At<'a>> {
        self.asked.push(key);
        let (_, tree) = self.pairs.iter().rev().find(|(name, _)| name == key)?;
        if tree.value == Value::Null {
            return None;
        }
        Some(At { tree, key: dotted(&self.at.key, key), problems: self.at.problems })
    }

    /// A key that must be there.
    pub(crate) fn need(&mut self, key: &'static str, why: &str) -> Option<At<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.at.problems.add(&self.at.tree.place, &dotted(&self.at.key, key), format!("is missing: {why}"));
        }
        found
    }

    /// A key that people write, and that does not belong here.
    pub(crate) fn refuse(&mut self, key: &'static str, reason: &str) {
        if let Some((_, tree)) = self.pairs.iter().find(|(name, _)| name == key) {
            self.at.problems.add(&tree.place, &dotted(&self.at.key, key), reason);
        }
    }

    /// A table of ours below.
    pub(crate) fn below(&mut self, key: &'static str) -> Option<Fields<'a>> {
        self.get(key)?.fields()
    }

    /// Everything that nobody asked for is a problem.
    pub(crate) fn finish(self, refused: &[&str]) {
        for (key, tree) in self.pairs {
            if self.asked.contains(&key.as_str()) || refused.contains(&key.as_str()) {
                continue;
            }
            let hint = did_you_mean(key, self.asked.iter().copied());
            let reason = format!("unknown key `{key}`{hint}");
            self.at.problems.add(&tree.place, &dotted(&self.at.key, key), reason);
        }
    }
}

/// `a.b`; a key that is not a plain word is quoted as TOML has it.
pub(crate) fn dotted(prefix: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let key = if plain { key.to_owned() } else { format!("\"{key}\"") };
    if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
}

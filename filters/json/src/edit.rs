//! What is done to an object: keep, drop, rename, add, set, in this order.

use crate::config::Config;
use crate::object::{Keeps, Object};

/// The edits of one entry.
pub(crate) struct Edits {
    keep: Option<Keeps>,
    drop: Vec<Vec<String>>,
    rename: Vec<(Vec<String>, Vec<String>)>,
    /// Path, JSON text.
    add: Vec<(Vec<String>, String)>,
    set: Vec<(Vec<String>, String)>,
}

impl Edits {
    pub(crate) fn new(config: Config) -> Result<Edits, String> {
        let paths = |list: Vec<(String, String)>| -> Result<Vec<Vec<String>>, String> {
            list.into_iter().map(|(name, text)| path(&name, &text)).collect()
        };
        let values = |key: &str, fields: Vec<(String, Box<serde_json::value::RawValue>)>| {
            let one = |(text, value): (String, Box<serde_json::value::RawValue>)| {
                Ok((path(&format!("{key}.{text}"), &text)?, value.get().to_string()))
            };
            fields.into_iter().map(one).collect::<Result<Vec<_>, String>>()
        };
        let keep = paths(config.keep.named("keep"))?;
        let renamed = |(from, to): (String, String)| {
            let key = format!("rename.{from}");
            Ok((path(&key, &from)?, path(&key, &to)?))
        };
        Ok(Edits {
            keep: (!keep.is_empty()).then(|| tree(&keep)),
            drop: paths(config.drop.named("drop"))?,
            rename: config.rename.0.into_iter().map(renamed).collect::<Result<_, String>>()?,
            add: values("add", config.add.0)?,
            set: values("set", config.set.0)?,
        })
    }

    /// True if anything changed.
    pub(crate) fn apply(&self, object: &mut Object<'_>) -> bool {
        let mut changed = self.keep.as_ref().is_some_and(|keep| object.retain(keep));
        for path in &self.drop {
            changed |= object.remove(path);
        }
        for (from, to) in &self.rename {
            changed |= object.rename(from, to);
        }
        for (path, value) in &self.add {
            if !object.has(path) {
                object.set_at(path, value);
                changed = true;
            }
        }
        for (path, value) in &self.set {
            object.set_at(path, value);
            changed = true;
        }
        changed
    }
}

/// `a.b` is field b in the object in field a; `a\.b` is the field called a.b.
fn path(key: &str, text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let last = parts.len() - 1;
        match letter {
            '.' => parts.push(String::new()),
            '\\' => match letters.next() {
                Some(escaped @ ('.' | '\\')) => parts[last].push(escaped),
                _ => return Err(format!("`{key}`: in the path `{text}` a backslash goes before a dot or a backslash")),
            },
            other => parts[last].push(other),
        }
    }
    if parts.iter().any(String::is_empty) {
        return Err(format!("`{key}`: the path `{text}` has an empty part (a dot in a name is written `\\\\.`)"));
    }
    Ok(parts)
}

fn tree(paths: &[Vec<String>]) -> Keeps {
    let mut keeps = Keeps::default();
    for path in paths {
        insert(&mut keeps, path);
    }
    keeps
}

fn insert(keeps: &mut Keeps, path: &[String]) {
    let [key, rest @ ..] = path else { return };
    let at = keeps.0.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
        keeps.0.push((key.clone(), Some(Keeps::default())));
        keeps.0.len() - 1
    });
    let inside = &mut keeps.0[at].1;
    match inside {
        // The whole field, whatever else was said of its inside.
        _ if rest.is_empty() => *inside = None,
        Some(inside) => insert(inside, rest),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    fn check(text: &str, wanted: &[&str]) {
        assert_eq!(path("drop", text), Ok(wanted.iter().map(ToString::to_string).collect()));
    }

    #[test]
    fn a_dot_leads_into_an_object_and_an_escaped_one_is_part_of_the_name() {
        check("a", &["a"]);
        check("a.b.c", &["a", "b", "c"]);
        check(r"a\.b.c\\", &["a.b", "c\\"]);
        assert!(path("drop", "a..b").is_err() && path("drop", "").is_err() && path("drop", r"a\b").is_err());
    }
}

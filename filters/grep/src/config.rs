//! What an entry may say to grep, and what of it makes no sense.

use serde::Deserialize;
use tailmill_filters_shared::{OneOrMany, Pattern};

/// The `with` object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    include: OneOrMany<String>,
    #[serde(default)]
    include_regex: OneOrMany<String>,
    #[serde(default)]
    exclude: OneOrMany<String>,
    #[serde(default)]
    exclude_regex: OneOrMany<String>,
    #[serde(default)]
    ignore_case: bool,
}

/// What is included, or what is excluded.
pub(crate) struct Side {
    pub(crate) literals: Vec<String>,
    patterns: Vec<Pattern>,
    pub(crate) ignore_case: bool,
}

impl Config {
    /// The included and the excluded side.
    pub(crate) fn sides(self) -> Result<(Side, Side), String> {
        let include = side("include", self.include, self.include_regex, self.ignore_case)?;
        let exclude = side("exclude", self.exclude, self.exclude_regex, self.ignore_case)?;
        if include.is_empty() && exclude.is_empty() {
            return Err("nothing to look for: say `include`, `include_regex`, `exclude` or `exclude_regex`".into());
        }
        Ok((include, exclude))
    }
}

fn side(key: &str, literals: OneOrMany<String>, regexes: OneOrMany<String>, ignore_case: bool) -> Result<Side, String> {
    let mut side = Side { literals: Vec::new(), patterns: Vec::new(), ignore_case };
    for (name, literal) in literals.named(key) {
        if literal.is_empty() {
            return Err(format!("`{name}`: an empty text is in every line"));
        }
        side.literals.push(literal);
    }
    for (name, text) in regexes.named(&format!("{key}_regex")) {
        side.patterns.push(Pattern::new(&name, &text, ignore_case)?);
    }
    Ok(side)
}

impl Side {
    pub(crate) fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.patterns.is_empty()
    }

    /// Whether plain searches decide. Unless case is ignored the host can do them.
    pub(crate) fn literals_alone(&self) -> bool {
        !self.literals.is_empty() && self.patterns.is_empty()
    }

    /// Byte strings of which a line that has anything of this side holds at least one, if that can be said.
    pub(crate) fn needles(&self) -> Option<Vec<Vec<u8>>> {
        if self.ignore_case && !self.literals.is_empty() {
            return None;
        }
        let mut needles: Vec<Vec<u8>> = self.literals.iter().map(|literal| literal.clone().into_bytes()).collect();
        for pattern in &self.patterns {
            needles.extend(pattern.needles()?);
        }
        Some(needles)
    }

    /// Everything as patterns.
    pub(crate) fn all(&self) -> Result<Vec<Pattern>, String> {
        let literals = self.literals.iter().map(|text| Pattern::literal("include or exclude", text, self.ignore_case));
        literals.chain(self.patterns.iter().cloned().map(Ok)).collect()
    }
}

//! What an entry may say to redact, and what of it makes no sense.

use serde::Deserialize;
use tailmill_filters_shared::{OneOrMany, Pattern};

use crate::replace::Replacer;

/// The `with` object.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    detect: Option<OneOrMany<Detector>>,
    patterns: OneOrMany<Custom>,
    replacement: Option<String>,
    hash_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Detector {
    Email,
    Card,
    Token,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Custom {
    name: String,
    regex: String,
    #[serde(default)]
    ignore_case: bool,
}

/// Which detectors are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Detect {
    pub(crate) email: bool,
    pub(crate) card: bool,
    pub(crate) token: bool,
}

/// What runs.
pub(crate) struct Settings {
    pub(crate) detect: Detect,
    pub(crate) patterns: Vec<(String, Pattern)>,
    pub(crate) replacer: Replacer,
}

impl Config {
    pub(crate) fn settings(self) -> Result<Settings, String> {
        let detect = match self.detect {
            None => Detect { email: true, card: true, token: true },
            Some(list) => {
                let list: Vec<Detector> = list.named("detect").into_iter().map(|(_, detector)| detector).collect();
                let on = |detector| list.contains(&detector);
                Detect { email: on(Detector::Email), card: on(Detector::Card), token: on(Detector::Token) }
            }
        };
        let patterns = self.patterns.named("patterns").into_iter().map(|(key, custom)| custom.pattern(&key));
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        if detect == Detect::default() && patterns.is_empty() {
            return Err("nothing to look for: `detect` is empty and there are no `patterns`".into());
        }
        let replacer = Replacer::new(self.replacement.as_deref(), self.hash_key.as_deref())?;
        Ok(Settings { detect, patterns, replacer })
    }
}

impl Custom {
    fn pattern(self, key: &str) -> Result<(String, Pattern), String> {
        if self.name.is_empty() {
            return Err(format!("`{key}.name`: must not be empty: it is what is written in place of what is found"));
        }
        let pattern = Pattern::new(&format!("{key}.regex"), &self.regex, self.ignore_case)?;
        if pattern.matches_nothing_at_all() {
            return Err(format!(
                "`{key}.regex`: the pattern `{}` matches an empty text too: then it is everywhere",
                self.regex
            ));
        }
        Ok((self.name, pattern))
    }
}

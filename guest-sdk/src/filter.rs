//! The trait behind `#[filter]`: a filter with a start, a life and, if it wants, a memory.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Ctx, Traits, Verdict};

/// A filter. Put `#[filter]` on the `impl`: it looks at which of the optional methods are there and makes a module that
/// offers just those.
///
/// ```
/// use tailmill_filter::prelude::*;
///
/// /// Keeps every n-th line.
/// struct EveryNth {
///     n: u64,
///     seen: u64,
/// }
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Config {
///     n: u64,
/// }
///
/// #[filter(state = seen)]
/// impl Filter for EveryNth {
///     type Config = Config;
///
///     fn start(config: Config) -> Result<Self, String> {
///         if config.n == 0 {
///             return Err("`n`: must be at least 1".into());
///         }
///         Ok(EveryNth { n: config.n, seen: 0 })
///     }
///
///     fn line(&mut self, _line: &[u8], _ctx: &mut Ctx) -> Result<Verdict, String> {
///         self.seen += 1;
///         Ok(if self.seen % self.n == 0 { Verdict::Keep } else { Verdict::Drop })
///     }
/// }
///
/// assert_eq!(tailmill_filter::testing::texts::<EveryNth>(r#"{"n": 2}"#, ["a", "b", "c", "d"]), ["b", "d"]);
/// ```
pub trait Filter: Sized {
    /// The entry's `with` object. [`NoConfig`] for a filter without any.
    type Config: DeserializeOwned;

    /// A new instance. An error says which key is wrong and what to do: an operator reads it.
    fn start(config: Self::Config) -> Result<Self, String>;

    /// What the host may take for granted. Asked once, after [`start`](Filter::start).
    fn traits(&self) -> Traits {
        Traits::stateful()
    }

    /// Judges one line, given without its terminator. An error is a fault on this line.
    fn line(&mut self, line: &[u8], ctx: &mut Ctx) -> Result<Verdict, String>;

    /// How often [`tick`](Filter::tick) is wanted, in milliseconds; 0: never. Asked once.
    fn every_ms(&self) -> u32 {
        1_000
    }

    /// Time has passed: emit what waited long enough.
    fn tick(&mut self, _ctx: &mut Ctx) -> Result<(), String> {
        Ok(())
    }

    /// The file is finished: emit what is still held. Not called just because the agent stops.
    fn flush(&mut self, _ctx: &mut Ctx) -> Result<(), String> {
        Ok(())
    }

    /// What a new instance needs to go on from here. `#[filter(state = FIELD)]` writes this and `load`.
    fn save(&self) -> Result<Vec<u8>, String> {
        Err("this filter has no state to save".into())
    }

    /// Goes on from what an instance of this filter saved, maybe an older version of it.
    fn load(&mut self, _saved: &[u8]) -> Result<(), String> {
        Err("this filter has no state to load".into())
    }
}

/// The config of a filter that has none: `{}`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Reads a config and says which key is wrong.
pub(crate) fn parse_config<C: DeserializeOwned>(json: &[u8]) -> Result<C, String> {
    let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let config = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let message = without_position(&error.inner().to_string());
        // serde names an unknown or missing field itself; its path then is the object around it.
        if [".", "?"].contains(&path.as_str()) || message.contains(&format!("`{path}`")) {
            message
        } else {
            format!("`{path}`: {message}")
        }
    })?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(config)
}

/// The host hands the config over in a form of its own, so a line and a column in it help nobody.
fn without_position(message: &str) -> String {
    message.rfind(" at line ").map_or(message, |cut| &message[..cut]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        word: String,
        #[serde(default)]
        limits: Vec<Limit>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Limit {
        per: u32,
    }

    fn check(json: &str, wanted: &str) {
        let error = parse_config::<Config>(json.as_bytes()).expect_err(json);
        assert_eq!(error, wanted, "for {json}");
    }

    #[test]
    fn a_config_error_names_the_key() {
        check(r#"{"word": 3}"#, "`word`: invalid type: integer `3`, expected a string");
        check(
            r#"{"word": "a", "limits": [{"per": "x"}]}"#,
            r#"`limits[0].per`: invalid type: string "x", expected u32"#,
        );
        check("{}", "missing field `word`");
        check(r#"{"word": "a", "wrod": 1}"#, "unknown field `wrod`, expected `word` or `limits`");
        check("", "missing field `word`");
        check("{", "EOF while parsing an object");
        check(r#"{"word": "a"} x"#, "trailing characters at line 1 column 15");
    }
}

//! What an entry may say to json, and what of it makes no sense.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tailmill_filters_shared::OneOrMany;

use crate::object::Fields;

/// The `with` object.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) keep: OneOrMany<String>,
    pub(crate) drop: OneOrMany<String>,
    pub(crate) rename: Fields<String>,
    pub(crate) add: Fields<Box<RawValue>>,
    pub(crate) set: Fields<Box<RawValue>>,
    pub(crate) regex: OneOrMany<String>,
    pub(crate) types: BTreeMap<String, Type>,
    not_json: Option<Policy>,
    wrap_key: Option<String>,
}

/// What becomes of a line that is no JSON object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It goes on as it is.
    #[default]
    Keep,
    /// It goes no further.
    Drop,
    /// It becomes an object with the line as text in one field.
    Wrap,
    /// It is a fault: the entry's `on_error` decides.
    Error,
}

/// What a group of the pattern becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Type {
    /// A string, as without any type.
    String,
    /// A whole or decimal number.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// A policy with what it needs.
pub(crate) enum NotJson {
    Keep,
    Drop,
    Wrap(String),
    Error,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), String> {
        let wraps = self.not_json == Some(Policy::Wrap);
        if self.wrap_key.is_some() && !wraps {
            return Err("`wrap_key`: means nothing without `\"not_json\": \"wrap\"`".into());
        }
        if self.wrap_key.as_deref() == Some("") {
            return Err("`wrap_key`: must not be empty".into());
        }
        Ok(())
    }

    pub(crate) fn not_json(&self) -> NotJson {
        match self.not_json.unwrap_or_default() {
            Policy::Keep => NotJson::Keep,
            Policy::Drop => NotJson::Drop,
            Policy::Wrap => NotJson::Wrap(self.wrap_key.clone().unwrap_or_else(|| "message".into())),
            Policy::Error => NotJson::Error,
        }
    }
}

//! The keys of an entry that say how bytes become lines.

use std::time::Duration;

use regex::bytes::Regex;
use tailmill_tail::{Delimiter, Framing, Multiline, MultilineRule, TextEncoding, TooLong};

use crate::config::fields::{At, Fields};

/// How long a record of several lines waits for more: far longer than one write takes.
const MULTILINE_TIMEOUT: Duration = Duration::from_secs(1);
/// Lines longer than this do not fit into what the agent may hold.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What the entry says; what it does not say stays as it is.
pub(super) fn read(framing: &mut Framing, fields: &mut Fields<'_>) {
    if let Some(bytes) = fields.get("line_max_bytes").and_then(|at| at.size(16..=LINE_BYTES_MAX)) {
        framing.line_bytes_max = bytes;
    }
    if let Some(rule) =
        fields.get("line_too_long").and_then(|at| at.word(&[("cut", TooLong::Cut), ("skip", TooLong::Skip)]))
    {
        framing.too_long = rule;
    }
    if let Some(found) = fields.get("encoding").and_then(|at| encoding(&at)) {
        framing.encoding = Some(found);
    }
    if let Some(found) = fields.get("delimiter").and_then(|at| delimiter(&at, framing.encoding)) {
        framing.delimiter = found;
    }
    if let Some(compressed) = fields.get("compressed").and_then(|at| at.flag()) {
        framing.compressed = compressed;
    }
    framing.multiline = fields.get("multiline").and_then(|at| multiline(&at, framing.line_bytes_max));
}

fn encoding(at: &At<'_>) -> Option<TextEncoding> {
    let found = TextEncoding::for_label(at.some_text()?);
    found.map_err(|error| at.problem(error.to_string())).ok()
}

fn delimiter(at: &At<'_>, encoding: Option<TextEncoding>) -> Option<Delimiter> {
    let found = Delimiter::of_bytes(at.text()?.as_bytes()).map_err(|error| at.problem(error.to_string())).ok()?;
    match encoding.map_or(Ok(()), |encoding| encoding.check_delimiter(&found)) {
        Ok(()) => Some(found),
        Err(error) => {
            at.problem(error.to_string());
            None
        }
    }
}

type MakeRule = fn(Regex) -> MultilineRule;

fn multiline(at: &At<'_>, line_bytes_max: usize) -> Option<Multiline> {
    let mut fields = at.fields()?;
    let kinds: [(&'static str, MakeRule); 3] =
        [("start", MultilineRule::Start), ("end", MultilineRule::End), ("continue", MultilineRule::Continue)];
    let written: Vec<_> = kinds.iter().filter_map(|(key, rule)| Some((fields.get(key)?, rule))).collect();
    if written.len() != 1 {
        at.problem("needs exactly one of `start`, `end` and `continue`");
    }
    let timeout = fields.get("timeout_ms").and_then(|at| at.number(10..=3_600_000));
    let timeout = timeout.map_or(MULTILINE_TIMEOUT, Duration::from_millis);
    let bytes_max = fields.get("max_bytes").and_then(|at| at.size(16..=LINE_BYTES_MAX)).unwrap_or(line_bytes_max);
    fields.finish(&[]);
    let rules: Vec<_> = written.iter().filter_map(|(at, rule)| Some(rule(regex(at)?))).collect();
    let [rule] = <[MultilineRule; 1]>::try_from(rules).ok()?;
    Some(Multiline { rule, timeout, bytes_max })
}

fn regex(at: &At<'_>) -> Option<Regex> {
    let text = at.some_text()?;
    match Regex::new(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            // The crate draws the place over several lines; its last one says what is wrong.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            at.problem(format!("regex `{text}`: {reason}"));
            None
        }
    }
}

//! One filter of an entry's chain: `{"use": NAME, "with": {…}, …}`.

use std::sync::Arc;
use std::time::Duration;

use tailmill_engine::{Digest, Limits};

use super::entry::is_name;
use super::fields::{At, Fields};
use super::tree::Value;
use crate::model::{BreakerPlan, BreakerThen, HeldPlan, OnError};

/// One place in the chain, its module not yet looked up.
#[derive(Clone, Debug)]
pub struct RawFilter {
    /// `use`: `name`, `name@version` or `sha256:…`.
    pub wanted: String,
    /// For people: the name without version, or the short digest.
    pub name: Arc<str>,
    /// `with`, as JSON.
    pub with: Arc<str>,
    /// `timeout_ms`, `memory_mib`, `table_elements`, `output_mib`, `held_lines_max`, `state_kib`.
    pub limits: Limits,
    /// `held_mib`, `held_ms_max`.
    pub held: HeldPlan,
    /// `on_error`.
    pub on_error: OnError,
    /// `breaker`.
    pub breaker: Option<BreakerPlan>,
    /// `stateless`.
    pub stateless: bool,
}

pub(super) fn filter(at: &At<'_>) -> Option<RawFilter> {
    let mut fields = at.fields()?;
    let named = fields.need("use", "the module, as name, name@version or sha256:…").and_then(|at| wanted(&at));
    let with = fields.get("with").and_then(|at| match at.tree.value {
        Value::Table(_) => Some(at.tree.to_json()),
        _ => {
            at.problem(format!("expected an object, found {}", at.tree.value.kind()));
            None
        }
    });
    let (limits, held) = limits(&mut fields);
    let policies = [
        ("block", OnError::Block),
        ("pass", OnError::Pass),
        ("drop", OnError::Drop),
        ("dead-letter", OnError::DeadLetter),
    ];
    let on_error = fields.get("on_error").and_then(|at| at.word(&policies)).unwrap_or_default();
    let breaker = match fields.get("breaker") {
        Some(at) => breaker(&at, on_error),
        None => BreakerPlan::standard(on_error),
    };
    let stateless = fields.get("stateless").and_then(|at| at.flag()).unwrap_or(false);
    fields.finish(&[]);
    let (wanted, name) = named?;
    let with = with.as_deref().unwrap_or("{}").into();
    Some(RawFilter { wanted, name, with, limits, held, on_error, breaker, stateless })
}

/// What an instance may use, and what it may hold.
fn limits(fields: &mut Fields<'_>) -> (Limits, HeldPlan) {
    let (mut limits, mut held) = (Limits::STANDARD, HeldPlan::STANDARD);
    if let Some(ms) = fields.get("timeout_ms").and_then(|at| at.number(1..=600_000)) {
        limits.call_time = Duration::from_millis(ms);
    }
    let mut size = |key, range, unit: usize, value: &mut usize| {
        if let Some(size) = fields.get(key).and_then(|at| at.size(range)) {
            *value = size * unit;
        }
    };
    size("memory_mib", 1..=4095, 1 << 20, &mut limits.memory_bytes);
    size("table_elements", 1..=10_000_000, 1, &mut limits.table_elements);
    size("output_mib", 1..=1024, 1 << 20, &mut limits.output_bytes);
    size("state_kib", 1..=16 << 10, 1 << 10, &mut limits.state_bytes);
    size("held_lines_max", 0..=1 << 24, 1, &mut limits.held_lines);
    size("held_mib", 1..=1024, 1 << 20, &mut held.bytes);
    if let Some(ms) = fields.get("held_ms_max").and_then(|at| at.number(1..=30 * 86_400_000)) {
        held.time = Duration::from_millis(ms);
    }
    (limits, held)
}

/// `false`, or an object of which every key may be left out.
fn breaker(at: &At<'_>, on_error: OnError) -> Option<BreakerPlan> {
    if at.tree.value == Value::Bool(false) {
        return None;
    }
    let Some(standard) = BreakerPlan::standard(on_error) else {
        at.problem("has no meaning with on_error `block`: the first line that the filter fails on stops the file");
        return None;
    };
    let mut fields = match at.tree.value {
        Value::Table(_) => at.fields()?,
        _ => {
            at.problem(format!("expected false or an object, found {}", at.tree.value.kind()));
            return None;
        }
    };
    let mut number = |key, range, default: u64| fields.get(key).and_then(|at| at.number(range)).unwrap_or(default);
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let faults = number("faults", 1..=1_000_000, standard.faults.into());
    let percent = number("percent", 0..=100, standard.percent.into());
    let within = number("within_ms", 1..=3_600_000, ms(standard.within));
    let rest = number("rest_ms", 1..=3_600_000, ms(standard.rest));
    let words = [("hold", BreakerThen::Hold), ("bypass", BreakerThen::Bypass)];
    let then = fields.get("then").and_then(|at| at.word(&words)).unwrap_or(standard.then);
    fields.finish(&[]);
    Some(BreakerPlan {
        faults: u32::try_from(faults).unwrap_or(u32::MAX),
        within: Duration::from_millis(within),
        percent: u32::try_from(percent).unwrap_or(100),
        rest: Duration::from_millis(rest),
        then,
    })
}

/// `use` as written, and the name in it.
fn wanted(at: &At<'_>) -> Option<(String, Arc<str>)> {
    let text = at.some_text()?;
    if text.starts_with("sha256:") {
        return match text.parse::<Digest>() {
            Ok(digest) => Some((digest.to_string(), format!("sha256:{}", digest.short()).into())),
            Err(error) => {
                at.problem(error.to_string());
                None
            }
        };
    }
    let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
    if !is_name(name) || version.is_some_and(|version| !is_name(version)) {
        at.problem(format!(
            "`{text}` names no module: write name, name@version or sha256:… (without `.wasm` and directories)"
        ));
        return None;
    }
    Some((text.to_owned(), name.into()))
}

//! Entries in etcd: written by compare-and-swap, with a history of their own.
//!
//! ```text
//! PREFIXentries/NAME            the entry, as agents read it
//! PREFIXhistory/NAME/NUMBER     what was written, by whom; kept over etcd's compaction, the newest HISTORY_MAX of them
//! ```
//! Both are written in one transaction. Whether an entry is sound is asked before; here is only made sure that nobody else
//! changed it since it was looked at.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::modules::json;
use super::{Desk, FleetError, Guard, Write};
use crate::config::entry::is_name;
use crate::observe::now_ms;

/// Versions of an entry that are kept.
const HISTORY_MAX: u64 = 100;
/// Races that are lost before it is given up.
const ROUNDS: usize = 10;

/// An entry as it is now.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// etcd's revision of its last change: what `put --expect` compares.
    pub(crate) revision: i64,
    pub(crate) text: String,
}

/// One version of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// From 1, for each name.
    pub(crate) number: u64,
    pub(crate) at_ms: i64,
    pub(crate) by: String,
    /// `put`, `rm`, `rollback` or `import`.
    pub(crate) action: String,
    /// None: removed.
    pub(crate) entry: Option<Value>,
}

/// A change to be made.
pub(crate) struct Change<'a> {
    pub(crate) name: &'a str,
    pub(crate) action: &'a str,
    /// None: remove it.
    pub(crate) text: Option<&'a str>,
    /// The revision that it must have; 0: it must not be there.
    pub(crate) expect: Option<i64>,
    pub(crate) by: &'a str,
}

/// All entries.
pub(crate) async fn list(desk: &mut Desk) -> Result<Vec<Entry>, FleetError> {
    let listed = desk.folder("entries/").await?;
    let prefix = format!("{}entries/", desk.prefix());
    let entry = |pair: &etcd_client::KeyValue| Entry {
        name: String::from_utf8_lossy(pair.key()).strip_prefix(&prefix).unwrap_or_default().to_owned(),
        revision: pair.mod_revision(),
        text: String::from_utf8_lossy(pair.value()).into_owned(),
    };
    Ok(listed.pairs.iter().map(entry).collect())
}

/// One entry; None: it is not there.
pub(crate) async fn get(desk: &mut Desk, name: &str) -> Result<Option<Entry>, FleetError> {
    let key = format!("{}entries/{name}", desk.prefix());
    let listed = desk.get(&key).await?;
    Ok(listed.one().map(|pair| Entry {
        name: name.to_owned(),
        revision: pair.mod_revision(),
        text: String::from_utf8_lossy(pair.value()).into_owned(),
    }))
}

/// What was written under this name, the oldest first.
pub(crate) async fn history(desk: &mut Desk, name: &str) -> Result<Vec<Version>, FleetError> {
    let listed = desk.folder(&format!("history/{name}/")).await?;
    Ok(listed.pairs.iter().filter_map(|pair| serde_json::from_slice(pair.value()).ok()).collect())
}

/// Makes a change. Gives the number of the new version.
pub(crate) async fn change(desk: &mut Desk, change: &Change<'_>) -> Result<u64, FleetError> {
    changes(desk, &[change], &[], &[]).await.map(|numbers| numbers[0])
}

/// Makes all changes or none, together with these writes and guards of the caller.
pub(crate) async fn changes(
    desk: &mut Desk,
    changes: &[&Change<'_>],
    guards: &[Guard],
    writes: &[Write],
) -> Result<Vec<u64>, FleetError> {
    let prefix = desk.prefix().to_owned();
    for _ in 0..ROUNDS {
        let (mut all_guards, mut all_writes, mut numbers) = (guards.to_vec(), Vec::new(), Vec::new());
        for change in changes {
            let name = change.name;
            if !is_name(name) {
                let rule = "letters, digits, `.`, `_` and `-`, at most 100, a letter or digit first";
                return Err(FleetError::refused(format!("`{name}` cannot be an entry's name: {rule}")));
            }
            let now = get(desk, name).await?;
            let revision = now.as_ref().map_or(0, |entry| entry.revision);
            unchanged(change, now.as_ref())?;
            let past = history(desk, name).await?;
            let number = past.last().map_or(0, |version| version.number) + 1;
            let key = format!("{prefix}entries/{name}");
            let own = |number: u64| format!("{prefix}history/{name}/{number:08}");
            let entry = change.text.map(serde_json::from_str).transpose();
            let entry = entry.map_err(|error| FleetError::refused(format!("{name}: is not JSON: {error}")))?;
            let version =
                Version { number, at_ms: now_ms(), by: change.by.to_owned(), action: change.action.to_owned(), entry };
            all_guards.extend([Guard::Key(key.clone(), revision), Guard::Key(own(number), 0)]);
            // History first: its number, time and author make it nobody else's.
            all_writes.push(Write::Put(own(number), json(&version)?));
            all_writes.push(match change.text {
                Some(text) => Write::Put(key, text.as_bytes().to_vec()),
                None => Write::Delete(key),
            });
            let old = past.iter().map(|version| version.number).filter(|old| old + HISTORY_MAX <= number);
            all_writes.extend(old.take(10).map(|old| Write::Delete(own(old))));
            numbers.push(number);
        }
        all_writes.extend(writes.iter().cloned());
        if desk.commit(&all_guards, &all_writes).await? {
            return Ok(numbers);
        }
    }
    Err(FleetError::Crowded)
}

/// Refuses what was not meant for the entry as it is.
fn unchanged(change: &Change<'_>, now: Option<&Entry>) -> Result<(), FleetError> {
    let name = change.name;
    match (change.expect, now) {
        (Some(0), Some(_)) => Err(FleetError::refused(format!("{name} is there already"))),
        (Some(expected), None) if expected != 0 => Err(FleetError::refused(format!("{name} is not there any more"))),
        (Some(expected), Some(now)) if now.revision != expected => Err(FleetError::refused(format!(
            "{name} was changed meanwhile: it is at revision {}, not {expected}; `tailmill entry diff {name}` shows how",
            now.revision
        ))),
        (None, None) if change.text.is_none() => {
            Err(FleetError::refused(format!("there is no entry `{name}` in etcd")))
        }
        _ => Ok(()),
    }
}

//! Releases of modules: pushed, listed, put in force, taken back, removed.
//!
//! A push writes missing blobs first; one transaction then writes the release, puts it in force (or on trial) and notes the
//! step. Interrupted anywhere it leaves what was in force, and blobs that the next push uses or `gc` removes.

use std::collections::{BTreeMap, BTreeSet};

use tailmill_engine::Digest;

use super::gc::gc_key;
use super::{Desk, FleetError, Guard, Write};
use crate::config::depot::{
    CHUNKS_MAX, Canary, Chunk, FORMAT, InForce, MODULE_BYTES_MAX, Release, SecretKey, Share, Step, Thresholds,
    blob_key, module_key, pack, release_key, split, unpack,
};
use crate::config::{RawEntry, parse_entry};
use crate::observe::now_ms;

/// Races that are lost before it is given up.
const ROUNDS: usize = 10;

/// A module to be pushed.
pub(crate) struct Push<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) signer: Option<&'a SecretKey>,
    /// Some nodes only.
    pub(crate) trial: Option<Trial>,
    /// For people.
    pub(crate) by: &'a str,
}

/// Who tries a release first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trial {
    pub(crate) share: Share,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) thresholds: Thresholds,
}

/// What a push came to.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Pushed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) chunks: usize,
    /// Chunks that were there already.
    pub(crate) chunks_there: usize,
    pub(crate) bytes_sent: u64,
    pub(crate) on_trial: bool,
    pub(crate) signed: bool,
}

/// Every release that lies in etcd.
#[derive(Debug, Default)]
pub(crate) struct Library {
    pub(crate) revision: i64,
    /// By name, with the revision that it was changed at.
    pub(crate) in_force: BTreeMap<String, (InForce, i64)>,
    /// By name and number.
    pub(crate) releases: BTreeMap<(String, u64), Release>,
    /// Keys that make no sense, and why.
    pub(crate) odd: Vec<(String, String)>,
}

/// Entries that use modules.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) revision: i64,
    /// Key of the entry (with the place in an array), and what it says.
    pub(crate) entries: Vec<(String, RawEntry)>,
}

impl Uses {
    /// Keys of entries by what they use.
    pub(super) fn by_use(&self) -> BTreeMap<String, Vec<String>> {
        let mut by_use: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, entry) in &self.entries {
            for filter in &entry.filters {
                by_use.entry(filter.wanted.clone()).or_default().push(key.clone());
            }
        }
        by_use
    }
}

impl Library {
    /// `NAME`, `NAME@VERSION` or `sha256:…`.
    pub(crate) fn find(&self, wanted: &str) -> Option<&Release> {
        if let Ok(digest) = wanted.parse::<Digest>() {
            return self.releases.values().find(|release| release.digest == digest);
        }
        match wanted.split_once('@') {
            Some((name, version)) => self.of(name).find(|release| release.version == version),
            None => self.in_force.get(wanted).map(|(record, _)| &record.release),
        }
    }

    /// All releases of a module, the oldest first.
    pub(crate) fn of(&self, name: &str) -> impl Iterator<Item = &Release> {
        self.releases.range((name.to_owned(), 0)..=(name.to_owned(), u64::MAX)).map(|(_, release)| release)
    }
}

/// A value that nobody else writes, so that a writer recognises its own.
pub(super) fn nonce() -> Vec<u8> {
    format!("{}-{}-{}", now_ms(), std::process::id(), crate::config::etcd::random()).into_bytes()
}

/// Reads everything about releases.
pub(crate) async fn library(desk: &mut Desk) -> Result<Library, FleetError> {
    let in_force = desk.folder("modules/").await?;
    let releases = desk.folder("releases/").await?;
    let mut library = Library { revision: in_force.revision.min(releases.revision), ..Library::default() };
    let prefix = desk.prefix().to_owned();
    for pair in &in_force.pairs {
        let key = String::from_utf8_lossy(pair.key()).into_owned();
        let name = key.strip_prefix(&format!("{prefix}modules/")).unwrap_or_default().to_owned();
        match InForce::parse(&name, pair.value()) {
            Ok(record) => drop(library.in_force.insert(name, (record, pair.mod_revision()))),
            Err(why) => library.odd.push((key, why)),
        }
    }
    for pair in &releases.pairs {
        let key = String::from_utf8_lossy(pair.key()).into_owned();
        let path = key.strip_prefix(&format!("{prefix}releases/")).unwrap_or_default();
        let name = path.split_once('/').map_or(path, |(name, _)| name);
        match Release::parse(name, pair.value()) {
            Ok(release) => drop(library.releases.insert((name.to_owned(), release.number), release)),
            Err(why) => library.odd.push((key, why)),
        }
    }
    Ok(library)
}

/// Reads which entries use which modules: those under the prefix and, as far as the settings name one, array keys.
pub(crate) async fn uses(desk: &mut Desk) -> Result<Uses, FleetError> {
    let listed = desk.folder("entries/").await?;
    let mut uses = Uses { revision: listed.revision, entries: Vec::new() };
    let mut add = |key: String, json: &[u8]| {
        if let Ok(entry) = parse_entry(&key, json) {
            uses.entries.push((key, entry));
        }
    };
    for pair in &listed.pairs {
        add(String::from_utf8_lossy(pair.key()).into_owned(), pair.value());
    }
    for (key, items) in arrays(desk).await? {
        for (i, item) in items.iter().enumerate() {
            add(format!("{key}[{i}]"), item.to_string().as_bytes());
        }
    }
    Ok(uses)
}

/// The array keys of all hosts, with their items.
pub(super) async fn arrays(desk: &mut Desk) -> Result<Vec<(String, Vec<serde_json::Value>)>, FleetError> {
    let Some(pattern) = desk.array_key().map(str::to_owned) else { return Ok(Vec::new()) };
    let (before, behind) = pattern.split_once("%s").unwrap_or((&pattern, ""));
    let listed = desk.read(before, Some(etcd_client::GetOptions::new().with_prefix())).await?;
    let pairs = listed.pairs.iter().map(|pair| (String::from_utf8_lossy(pair.key()).into_owned(), pair.value()));
    let ours = pairs.filter(|(key, _)| key.ends_with(behind));
    Ok(ours.filter_map(|(key, json)| Some((key, serde_json::from_slice(json).ok()?))).collect())
}

/// Pushes a module. `sent` hears how many of its chunks are done.
pub(crate) async fn push(
    desk: &mut Desk,
    push: &Push<'_>,
    sent: &mut dyn FnMut(usize, usize),
) -> Result<Pushed, FleetError> {
    check_names(push)?;
    let pieces: Vec<(Chunk, &[u8])> = split(push.bytes)
        .into_iter()
        .map(|piece| (Chunk { digest: Digest::of(piece), size: piece.len() as u64 }, piece))
        .collect();
    if push.bytes.len() as u64 > MODULE_BYTES_MAX || pieces.len() > CHUNKS_MAX {
        return Err(FleetError::refused(format!("it has more than {MODULE_BYTES_MAX} bytes: no agent takes it")));
    }
    let prefix = desk.prefix().to_owned();
    for _ in 0..ROUNDS {
        let swept = desk.get(&gc_key(&prefix)).await?.one().map_or(0, etcd_client::KeyValue::mod_revision);
        let library = library(desk).await?;
        let last_step = steps(desk, push.name).await?.last().map_or(0, |step| step.number);
        let decided = decide(&library, push, last_step, pieces.iter().map(|(chunk, _)| *chunk).collect())?;
        let (chunks_there, bytes_sent) = send(desk, &pieces, sent).await?;
        let release = decided.record.canary.as_ref().map_or(&decided.record.release, |canary| &canary.release);
        let pushed = Pushed {
            name: release.name.clone(),
            version: release.version.clone(),
            number: release.number,
            digest: release.digest,
            size: release.size,
            chunks: pieces.len(),
            chunks_there,
            bytes_sent,
            on_trial: decided.record.canary.is_some(),
            signed: release.signature.is_some(),
        };
        let mut guards = vec![Guard::Key(gc_key(&prefix), swept)];
        guards.push(Guard::Prefix(format!("{prefix}releases/{}/", push.name), library.revision));
        if desk.commit_record(&decided.record, decided.seen, &decided.step, guards, Some(release)).await? {
            return Ok(pushed);
        }
    }
    Err(FleetError::Crowded)
}

fn check_names(push: &Push<'_>) -> Result<(), FleetError> {
    for (what, text) in [("name", push.name), ("version", push.version)] {
        if !crate::config::entry::is_name(text) {
            let rule = "letters, digits, `.`, `_` and `-`, at most 100, a letter or digit first";
            return Err(FleetError::refused(format!("`{text}` cannot be a module's {what}: {rule}")));
        }
    }
    Ok(())
}

/// What will be in force.
struct Decided {
    record: InForce,
    /// Revision of the record that it replaces.
    seen: i64,
    step: Step,
}

fn decide(library: &Library, push: &Push<'_>, last_step: u64, chunks: Vec<Chunk>) -> Result<Decided, FleetError> {
    let digest = Digest::of(push.bytes);
    let known = library.of(push.name).find(|release| release.version == push.version);
    if let Some(known) = known.filter(|known| known.digest != digest) {
        return Err(FleetError::refused(format!(
            "{} {} was pushed before with other content ({}): choose another version",
            push.name,
            push.version,
            known.digest.short()
        )));
    }
    let number = known.map_or_else(|| library.of(push.name).map(|r| r.number).max().unwrap_or(0) + 1, |r| r.number);
    let release = Release {
        format: FORMAT,
        name: push.name.to_owned(),
        version: push.version.to_owned(),
        number,
        digest,
        size: push.bytes.len() as u64,
        chunks,
        signature: match push.signer {
            Some(key) => Some(key.sign(push.name, push.version, &digest)),
            None => known.and_then(|known| known.signature.clone()),
        },
        pushed_ms: known.map_or_else(now_ms, |known| known.pushed_ms),
        pushed_by: known.map_or_else(|| push.by.to_owned(), |known| known.pushed_by.clone()),
    };
    let old = library.in_force.get(push.name);
    let seen = old.map_or(0, |(_, revision)| *revision);
    let step = last_step.max(old.map_or(0, |(record, _)| record.step)) + 1;
    let (record, action, share) = match (&push.trial, old) {
        (Some(_), None) => {
            return Err(FleetError::refused(format!(
                "no release of {} is in force that a canary could be compared with: push it without --canary first",
                push.name
            )));
        }
        (Some(trial), Some((before, _))) => {
            let canary = Canary {
                release,
                share: trial.share,
                labels: trial.labels.clone(),
                since_ms: now_ms(),
                thresholds: trial.thresholds.clone(),
            };
            (InForce { step, canary: Some(canary), ..before.clone() }, "canary", trial.share)
        }
        (None, _) => {
            let before = old.map(|(record, _)| record);
            let previous = before.and_then(|before| {
                if before.release.number == release.number { before.previous } else { Some(before.release.number) }
            });
            (InForce { format: FORMAT, step, release, previous, canary: None }, "push", Share::WHOLE)
        }
    };
    let step = noted(&record, action, share, push.version, digest, push.by, "");
    Ok(Decided { record, seen, step })
}

/// The step that this record is the outcome of.
pub(super) fn noted(
    record: &InForce,
    action: &str,
    share: Share,
    version: &str,
    digest: Digest,
    by: &str,
    reason: &str,
) -> Step {
    Step {
        number: record.step,
        at_ms: now_ms(),
        by: by.to_owned(),
        action: action.to_owned(),
        version: version.to_owned(),
        digest,
        share,
        reason: reason.to_owned(),
    }
}

/// Writes the chunks that are not there, or are damaged. Gives how many were there, and the bytes that were sent.
async fn send(
    desk: &mut Desk,
    pieces: &[(Chunk, &[u8])],
    sent: &mut dyn FnMut(usize, usize),
) -> Result<(usize, u64), FleetError> {
    let prefix = desk.prefix().to_owned();
    let there: BTreeSet<String> = desk.keys("blobs/").await?.into_iter().collect();
    let (mut chunks_there, mut bytes_sent) = (0, 0);
    for (i, (chunk, piece)) in pieces.iter().enumerate() {
        sent(i, pieces.len());
        let key = blob_key(&prefix, chunk);
        if there.contains(&key) && desk.get(&key).await?.one().is_some_and(|pair| unpack(pair.value(), chunk).is_ok()) {
            chunks_there += 1;
            continue;
        }
        let stored = pack(piece).map_err(|error| FleetError::Etcd(format!("while compressing: {error}")))?;
        bytes_sent += stored.len() as u64;
        desk.put(&key, stored).await?;
    }
    sent(pieces.len(), pieces.len());
    Ok((chunks_there, bytes_sent))
}

impl Desk {
    /// Writes a record with its step, and a new release with it. False: something changed meanwhile.
    pub(super) async fn commit_record(
        &mut self,
        record: &InForce,
        seen: i64,
        step: &Step,
        mut guards: Vec<Guard>,
        release: Option<&Release>,
    ) -> Result<bool, FleetError> {
        let (prefix, name) = (self.prefix().to_owned(), record.release.name.clone());
        guards.push(Guard::Key(module_key(&prefix, &name), seen));
        // The step first: its number, time and author make it nobody else's.
        let mut writes = vec![Write::Put(step_key(&prefix, &name, step.number), json(step)?)];
        writes.push(Write::Put(module_key(&prefix, &name), json(record)?));
        if let Some(release) = release {
            writes.push(Write::Put(release_key(&prefix, &name, release.number), json(release)?));
        }
        self.commit(&guards, &writes).await
    }
}

/// Key of a step.
pub(super) fn step_key(prefix: &str, name: &str, number: u64) -> String {
    format!("{prefix}steps/{name}/{number:08}")
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, FleetError> {
    serde_json::to_vec(value).map_err(|error| FleetError::Etcd(format!("while writing a record: {error}")))
}

/// The bytes of a release, each chunk checked.
pub(crate) async fn fetch(desk: &mut Desk, release: &Release) -> Result<Vec<u8>, FleetError> {
    let mut bytes = Vec::new();
    for (i, chunk) in release.chunks.iter().enumerate() {
        let place = format!("chunk {} of {} of {} {}", i + 1, release.chunks.len(), release.name, release.version);
        let key = blob_key(desk.prefix(), chunk);
        let listed = desk.get(&key).await?;
        let stored =
            listed.one().ok_or_else(|| FleetError::refused(format!("{place} is not in etcd: push it again")))?;
        let plain = unpack(stored.value(), chunk);
        bytes.extend(plain.map_err(|why| FleetError::refused(format!("{place} is damaged, push it again: {why}")))?);
    }
    if Digest::of(&bytes) != release.digest {
        let (name, version) = (&release.name, &release.version);
        return Err(FleetError::refused(format!("the chunks of {name} {version} are not what its digest says")));
    }
    Ok(bytes)
}

/// Puts an older release in force, and ends a trial. `to`: its version; else the one before.
pub(crate) async fn rollback(desk: &mut Desk, name: &str, to: Option<&str>, by: &str) -> Result<Release, FleetError> {
    for _ in 0..ROUNDS {
        let library = library(desk).await?;
        let Some((before, seen)) = library.in_force.get(name) else {
            return Err(FleetError::refused(format!("there is no module `{name}` in etcd")));
        };
        let wanted = match to {
            Some(version) => library.of(name).find(|release| release.version == version),
            None => library.of(name).find(|release| Some(release.number) == before.previous),
        };
        let wanted = wanted.cloned().ok_or_else(|| {
            let versions: Vec<&str> = library.of(name).map(|release| release.version.as_str()).collect();
            let what = to.map_or("there is none before it".to_owned(), |to| format!("there is no version {to}"));
            FleetError::refused(format!("{name} {}: {what}; there are {}", before.release.version, versions.join(", ")))
        })?;
        let previous =
            if wanted.number == before.release.number { before.previous } else { Some(before.release.number) };
        let record = InForce { format: FORMAT, step: before.step + 1, release: wanted.clone(), previous, canary: None };
        let reason = format!("from {}", before.release.version);
        let step = noted(&record, "rollback", Share::WHOLE, &wanted.version, wanted.digest, by, &reason);
        let guards = vec![Guard::Prefix(format!("{}releases/{name}/", desk.prefix()), library.revision)];
        if desk.commit_record(&record, *seen, &step, guards, None).await? {
            return Ok(wanted);
        }
    }
    Err(FleetError::Crowded)
}

/// Removes a module with all of its releases. Refused while an entry uses it, unless forced.
pub(crate) async fn remove(desk: &mut Desk, name: &str, force: bool, by: &str) -> Result<usize, FleetError> {
    for _ in 0..ROUNDS {
        let library = library(desk).await?;
        let uses = uses(desk).await?;
        let Some((record, seen)) = library.in_force.get(name) else {
            return Err(FleetError::refused(format!("there is no module `{name}` in etcd")));
        };
        let digests: BTreeSet<String> = library.of(name).map(|release| release.digest.to_string()).collect();
        let by_use = uses.by_use();
        let mine = |used: &str| {
            used == name || used.strip_prefix(name).is_some_and(|rest| rest.starts_with('@')) || digests.contains(used)
        };
        let users: BTreeSet<&str> =
            by_use.iter().filter(|(used, _)| mine(used)).flat_map(|(_, keys)| keys).map(String::as_str).collect();
        if !users.is_empty() && !force {
            let users: Vec<&str> = users.into_iter().collect();
            return Err(FleetError::refused(format!(
                "{} uses {name}: change or remove it first; --force leaves it with its last good form",
                users.join(", ")
            )));
        }
        let prefix = desk.prefix().to_owned();
        let mut guards = vec![Guard::Key(module_key(&prefix, name), *seen)];
        if !force {
            guards.push(Guard::Prefix(format!("{prefix}entries/"), uses.revision));
        }
        let removed = InForce { step: record.step + 1, ..record.clone() };
        let release = &record.release;
        let step = noted(&removed, "remove", Share::default(), &release.version, release.digest, by, "");
        let writes = [
            Write::Put(step_key(&prefix, name, step.number), json(&step)?),
            Write::Delete(module_key(&prefix, name)),
            Write::DeletePrefix(format!("{prefix}releases/{name}/")),
        ];
        if desk.commit(&guards, &writes).await? {
            return Ok(library.of(name).count());
        }
    }
    Err(FleetError::Crowded)
}

/// What was done to a module's releases, the oldest first.
pub(crate) async fn steps(desk: &mut Desk, name: &str) -> Result<Vec<Step>, FleetError> {
    let listed = desk.folder(&format!("steps/{name}/")).await?;
    Ok(listed.pairs.iter().filter_map(|pair| serde_json::from_slice(pair.value()).ok()).collect())
}

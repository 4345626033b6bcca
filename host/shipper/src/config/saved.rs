//! The last good plan on disk: what an agent starts from when etcd is down or an entry is bad.
//!
//! ```text
//! state_dir/plan/plan.json             format, revision, and each entry in force: name, origin, JSON, digests of its chain
//! state_dir/plan/modules/HEX.wasm      the modules of these chains, by content
//! ```
//! Modules are written first, plan.json last (to a new file, synced, renamed), unused modules removed after that: a crash
//! anywhere leaves the old plan or the new one. It holds no secret: entries have none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tailmill_engine::Digest;

use super::build::{Built, restore_entry};
use super::settings::Settings;
use crate::model::{EntryPlan, ModuleFile, Origin, Plan, Problem};

/// Raised when a reader of this version could not understand what a later one writes.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct SavedPlan {
    format: u32,
    revision: u64,
    etcd_was_read: bool,
    entries: Vec<SavedEntry>,
}

#[derive(Serialize, Deserialize)]
struct SavedEntry {
    name: String,
    origin: SavedOrigin,
    json: String,
    modules: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SavedOrigin {
    File(PathBuf),
    EtcdKey(String),
    ArrayItem { key: String, index: usize },
    CommandLine,
}

/// A plan that was saved, and what of it could not be taken up again.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// None: nothing was saved.
    pub(super) built: Option<Built>,
    pub(super) problems: Vec<Problem>,
}

/// Where the last good plan lies.
pub(super) fn plan_dir(settings: &Settings) -> PathBuf {
    settings.state_dir.join("plan")
}

/// Whether there is one.
pub fn has_last_good_plan(settings: &Settings) -> bool {
    plan_dir(settings).join("plan.json").exists()
}

/// Writes what is in force.
pub(super) fn save(dir: &Path, built: &Built) -> io::Result<()> {
    let modules = dir.join("modules");
    fs::create_dir_all(&modules)?;
    let mut used = BTreeSet::new();
    for module in built.plan.entries.values().flat_map(|entry| &entry.filters).map(|filter| &filter.module) {
        let path = modules.join(file_name(&module.digest));
        if used.insert(module.digest)
            && fs::metadata(&path).map_or(true, |known| known.len() != module.bytes.len() as u64)
        {
            replace(&path, &module.bytes)?;
        }
    }
    let entries = built.plan.entries.values().filter_map(|entry| saved_entry(entry, built)).collect();
    let plan = SavedPlan { format: FORMAT, revision: built.plan.revision, etcd_was_read: built.etcd_was_read, entries };
    replace(&dir.join("plan.json"), &serde_json::to_vec_pretty(&plan)?)?;
    let keep: BTreeSet<String> = used.iter().map(file_name).collect();
    for item in fs::read_dir(&modules)? {
        let item = item?;
        if item.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

fn saved_entry(entry: &EntryPlan, built: &Built) -> Option<SavedEntry> {
    let origin = match &entry.origin {
        Origin::File(path) => SavedOrigin::File(path.clone()),
        Origin::EtcdKey(key) => SavedOrigin::EtcdKey(key.clone()),
        Origin::ArrayItem { key, index } => SavedOrigin::ArrayItem { key: key.clone(), index: *index },
        Origin::CommandLine => SavedOrigin::CommandLine,
    };
    Some(SavedEntry {
        name: entry.name.to_string(),
        origin,
        json: built.written.get(&entry.name)?.to_string(),
        modules: entry.filters.iter().map(|filter| filter.module.digest).collect(),
    })
}

/// Reads what was in force, checked against the settings of today.
pub(super) fn restore(dir: &Path, settings: &Settings) -> Restored {
    let path = dir.join("plan.json");
    let problem =
        |key: &str, reason: String| Problem { source: path.display().to_string(), key: key.to_owned(), reason };
    let saved: SavedPlan = match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Restored::default(),
        Err(error) => {
            let problems = vec![problem("", format!("while reading the last good plan: {error}"))];
            return Restored { built: None, problems };
        }
        Ok(Err(error)) => {
            let problems = vec![problem("", format!("the last good plan is damaged and not used: {error}"))];
            return Restored { built: None, problems };
        }
        Ok(Ok(saved)) => saved,
    };
    if saved.format != FORMAT {
        let reason =
            format!("the last good plan has format {}, this version reads {FORMAT}: it is not used", saved.format);
        return Restored { built: None, problems: vec![problem("", reason)] };
    }
    let mut plan = Plan { revision: saved.revision, ..Plan::default() };
    let mut built = Built { etcd_was_read: saved.etcd_was_read, ..Built::default() };
    let mut problems = Vec::new();
    for entry in saved.entries {
        match take_up(dir, settings, &entry) {
            Ok(None) => {}
            Ok(Some(restored)) => {
                built.written.insert(restored.name.clone(), entry.json.into());
                plan.entries.insert(restored.name.clone(), Arc::new(restored));
            }
            Err(reasons) => {
                let reason = format!("its last good form cannot be used any more: {}", reasons.join("; "));
                problems.push(problem(&entry.name, reason));
            }
        }
    }
    built.plan = Arc::new(plan);
    Restored { built: Some(built), problems }
}

fn take_up(dir: &Path, settings: &Settings, entry: &SavedEntry) -> Result<Option<EntryPlan>, Vec<String>> {
    let chain: Result<Vec<_>, _> = entry.modules.iter().map(|digest| module(dir, digest)).collect();
    let chain = chain.map_err(|reason| vec![reason])?;
    let origin = match &entry.origin {
        SavedOrigin::File(path) => Origin::File(path.clone()),
        SavedOrigin::EtcdKey(key) => Origin::EtcdKey(key.clone()),
        SavedOrigin::ArrayItem { key, index } => Origin::ArrayItem { key: key.clone(), index: *index },
        SavedOrigin::CommandLine => Origin::CommandLine,
    };
    restore_entry(settings, &entry.name, origin, &entry.json, &chain)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn module(dir: &Path, digest: &Digest) -> Result<Arc<ModuleFile>, String> {
    let path = dir.join("modules").join(file_name(digest));
    let bytes = fs::read(&path).map_err(|error| format!("while reading {}: {error}", path.display()))?;
    if Digest::of(&bytes) != *digest {
        return Err(format!("{} is damaged", path.display()));
    }
    Ok(Arc::new(ModuleFile { digest: *digest, source: path.display().to_string(), bytes: bytes.into() }))
}

fn file_name(digest: &Digest) -> String {
    format!("{}.wasm", hex::encode(digest.0))
}

/// Puts `bytes` at `path` so that a crash leaves the old content or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;

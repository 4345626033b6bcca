//! Modules by name.
//!
//! In: `*.wasm` files of the modules directory, and those that were in force before. Out: the bytes that an entry's `use`
//! means. It never judges a module: that is [`ModuleCheck`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use tailmill_engine::Digest;

use crate::model::{FilterPlan, ModuleFile};

/// Judges a filter: loads its module and starts it once with its config. `app` gives one that has an engine.
pub trait ModuleCheck: Send + Sync {
    /// What is wrong with it, in a sentence, if anything. May take seconds (compiling).
    fn check(&self, filter: &FilterPlan, topics: &[Arc<str>]) -> Result<(), String>;
}

/// Takes every module (tests, and commands that do not care).
pub struct NoModuleCheck;

impl ModuleCheck for NoModuleCheck {
    fn check(&self, _: &FilterPlan, _: &[Arc<str>]) -> Result<(), String> {
        Ok(())
    }
}

/// Modules that entries may use.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// By file name without `.wasm`: `NAME` or `NAME@VERSION`. An error is why the file cannot be used.
    named: BTreeMap<String, Result<Arc<ModuleFile>, String>>,
    /// Everything known, by content.
    by_digest: BTreeMap<Digest, Arc<ModuleFile>>,
    /// The directory, for messages.
    place: Option<String>,
}

impl Modules {
    /// No module yet; `place` is where they are looked for.
    pub fn new(place: Option<String>) -> Modules {
        Modules { place, ..Modules::default() }
    }

    /// A file, or why it cannot be used. `name` is `NAME` or `NAME@VERSION`.
    pub fn add(&mut self, name: &str, module: Result<Arc<ModuleFile>, String>) {
        if let Ok(module) = &module {
            self.by_digest.insert(module.digest, module.clone());
        }
        self.named.insert(name.to_owned(), module);
    }

    /// A module that is known by its content only.
    pub fn keep(&mut self, module: Arc<ModuleFile>) {
        self.by_digest.entry(module.digest).or_insert(module);
    }

    /// By content.
    pub fn by_digest(&self, digest: &Digest) -> Option<&Arc<ModuleFile>> {
        self.by_digest.get(digest)
    }

    /// What an entry's `use` means: `name`, `name@version` or `sha256:…`. An error says what to do.
    pub fn resolve(&self, wanted: &str) -> Result<Arc<ModuleFile>, String> {
        let Some(place) = &self.place else {
            return self.digest(wanted).ok_or_else(|| {
                format!("there is no module `{wanted}`: set `modules.dir` to the directory that holds {wanted}.wasm")
            });
        };
        if wanted.starts_with("sha256:") {
            return self.digest(wanted).ok_or_else(|| format!("no module in {place} has this digest"));
        }
        match self.named.get(wanted) {
            Some(Ok(module)) => Ok(module.clone()),
            Some(Err(reason)) => Err(reason.clone()),
            None => {
                let hint = super::fields::did_you_mean(wanted, self.named.keys().map(String::as_str));
                Err(format!("there is no {wanted}.wasm in {place}{hint}"))
            }
        }
    }

    fn digest(&self, wanted: &str) -> Option<Arc<ModuleFile>> {
        self.by_digest.get(&wanted.parse().ok()?).cloned()
    }
}

//! Modules by name.
//!
//! In: `*.wasm` files of the modules directory, and releases from etcd where the directory has none of that name. Out: the bytes that an entry's `use`
//! means. It never judges a module: that is [`ModuleCheck`]'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

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

/// Remembers verdicts, so that a module that takes a minute to be refused does not take it with every change.
pub(super) struct Remembering {
    inner: Arc<dyn ModuleCheck>,
    known: Mutex<HashMap<Question, (Verdict, bool)>>,
}

type Verdict = Result<(), String>;
/// Everything that a verdict hangs on.
type Question = (Digest, Arc<str>, String, bool, Vec<Arc<str>>);

impl Remembering {
    pub(super) fn new(inner: Arc<dyn ModuleCheck>) -> Remembering {
        Remembering { inner, known: Mutex::default() }
    }

    /// What was refused may have been refused because the machine was short of something.
    pub(super) fn forget_refusals(&self) {
        self.known().retain(|_, (verdict, _)| verdict.is_ok());
    }

    /// Forgets what nobody asked for since the last call.
    pub(super) fn forget_unused(&self) {
        self.known().retain(|_, (_, used)| std::mem::take(used));
    }

    /// Verdicts are inserted whole: a panic of another thread leaves nothing half done.
    fn known(&self) -> MutexGuard<'_, HashMap<Question, (Verdict, bool)>> {
        self.known.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl ModuleCheck for Remembering {
    fn check(&self, filter: &FilterPlan, topics: &[Arc<str>]) -> Verdict {
        let limits = format!("{:?}", filter.limits);
        let question = (filter.module.digest, filter.with.clone(), limits, filter.stateless, topics.to_vec());
        if let Some((verdict, used)) = self.known().get_mut(&question) {
            *used = true;
            return verdict.clone();
        }
        let verdict = self.inner.check(filter, topics);
        self.known().insert(question, (verdict.clone(), true));
        verdict
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
    /// Whether releases in etcd were looked at, for messages.
    with_etcd: bool,
}

impl PartialEq for Modules {
    /// The same names with the same content.
    fn eq(&self, other: &Self) -> bool {
        let content = |modules: &Modules| -> Vec<_> {
            let digest =
                |module: &Result<Arc<ModuleFile>, String>| module.as_ref().map(|m| m.digest).map_err(Clone::clone);
            modules.named.iter().map(|(name, module)| (name.clone(), digest(module))).collect()
        };
        self.place == other.place && content(self) == content(other)
    }
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

    /// Releases in etcd were looked at, too.
    pub(super) fn with_etcd(&mut self) {
        self.with_etcd = true;
    }

    /// Whether there is something of this name (or digest), good or bad.
    pub(super) fn has(&self, wanted: &str) -> bool {
        self.named.contains_key(wanted) || self.digest(wanted).is_some()
    }

    /// What an entry's `use` means: `name`, `name@version` or `sha256:…`. An error says what to do.
    pub fn resolve(&self, wanted: &str) -> Result<Arc<ModuleFile>, String> {
        if let Some(module) = self.named.get(wanted) {
            return module.clone();
        }
        if let Some(module) = self.digest(wanted) {
            return Ok(module);
        }
        let hint = super::fields::did_you_mean(wanted, self.named.keys().map(String::as_str));
        let is_digest = wanted.starts_with("sha256:");
        Err(match (&self.place, self.with_etcd) {
            (Some(place), true) if is_digest => format!("no module in {place} or in etcd has this digest"),
            (Some(place), false) if is_digest => format!("no module in {place} has this digest"),
            (None, true) if is_digest => "no module in etcd has this digest".to_owned(),
            (Some(place), true) => {
                format!("there is no {wanted}.wasm in {place} and no module `{wanted}` in etcd{hint}")
            }
            (Some(place), false) => format!("there is no {wanted}.wasm in {place}{hint}"),
            (None, true) => {
                format!("there is no module `{wanted}` in etcd: `tailmill module push` puts one there{hint}")
            }
            (None, false) => {
                format!("there is no module `{wanted}`: set `modules.dir` to the directory that holds {wanted}.wasm")
            }
        })
    }

    fn digest(&self, wanted: &str) -> Option<Arc<ModuleFile>> {
        self.by_digest.get(&wanted.parse().ok()?).cloned()
    }
}

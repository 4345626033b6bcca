//! Modules, loaded once per digest for all shards, and chains that are ready to run.
//!
//! In: entries with module bytes. Out: armed chains, or a problem that names the filter. A chain is armed only when
//! each of its filters started once with its configuration, so what a shard gets can be expected to start again.

use super::dear::{Dearness, thread_cpu_time};
use super::guest::{ModuleStarter, Starter};
use crate::model::{EntryPlan, FilterPlan, ModuleFile, Origin as Written, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tailmill_engine::{Digest, Engine, Module, Surroundings, Traits};

/// Loads modules and arms chains. Shared by all threads.
pub struct Armory {
    engine: Engine,
    node: Arc<str>,
    loaded: Mutex<BTreeMap<Digest, Module>>,
}

/// An entry whose filters are loaded and were seen to start.
pub struct ArmedChain {
    /// The entry.
    pub entry: Arc<EntryPlan>,
    pub(super) stages: Vec<ArmedStage>,
    /// Whether its calls would hold up a shard.
    pub dearness: Dearness,
}

/// One filter of an armed chain.
#[derive(Clone)]
pub(super) struct ArmedStage {
    pub plan: FilterPlan,
    pub starter: Arc<dyn Starter>,
    /// What it said of itself when it was armed.
    pub traits: Arc<Traits>,
    /// One instance may serve all streams of the entry on a shard.
    pub stateless: bool,
    pub has_ticks: bool,
    pub has_finish: bool,
    pub has_state: bool,
    /// Of the instance that was started to see that it does.
    pub start_took: Duration,
}

impl Armory {
    /// `node`: what guests are told where they run.
    pub fn new(engine: Engine, node: Arc<str>) -> Self {
        Armory { engine, node, loaded: Mutex::new(BTreeMap::new()) }
    }

    /// Loads and starts every filter of an entry. The problem names the first filter that does not work.
    pub fn arm(&self, entry: &Arc<EntryPlan>) -> Result<Arc<ArmedChain>, Problem> {
        let arm = |(place, filter)| {
            self.arm_filter(filter, &entry.topics).map_err(|reason| Problem {
                source: written(&entry.origin),
                key: format!("filters[{place}]"),
                reason: format!("filter {}: {reason}", filter.name),
            })
        };
        let stages: Vec<ArmedStage> = entry.filters.iter().enumerate().map(arm).collect::<Result<_, _>>()?;
        let longest_start = stages.iter().map(|stage| stage.start_took).max().unwrap_or_default();
        Ok(Arc::new(ArmedChain { entry: entry.clone(), stages, dearness: Dearness::starting_in(longest_start) }))
    }

    /// Whether a filter loads and starts with its configuration; otherwise why not.
    pub fn check(&self, filter: &FilterPlan, topics: &[Arc<str>]) -> Result<(), String> {
        self.arm_filter(filter, topics).map(|_| ())
    }

    /// The loaded module, for commands that look into it.
    pub fn module(&self, file: &ModuleFile) -> Result<Module, String> {
        if let Some(module) = self.lock().get(&file.digest) {
            return Ok(module.clone());
        }
        // Not under the lock: compiling takes seconds. Two that race load twice, and the compile cache helps the second.
        let module = self.engine.load(&file.bytes).map_err(|e| format!("while loading {}: {e}", file.source))?;
        self.lock().insert(file.digest, module.clone());
        Ok(module)
    }

    /// Forgets modules that no entry in force uses.
    pub fn retain(&self, in_use: &BTreeSet<Digest>) {
        self.lock().retain(|digest, _| in_use.contains(digest));
    }

    fn arm_filter(&self, filter: &FilterPlan, topics: &[Arc<str>]) -> Result<ArmedStage, String> {
        let module = self.module(&filter.module)?;
        let starter = ModuleStarter {
            module: module.clone(),
            with: filter.with.clone(),
            limits: filter.limits.clone(),
            surroundings: Surroundings { node: self.node.clone(), topics: topics.to_vec() },
            line_world_stateless: filter.stateless,
        };
        let begun = thread_cpu_time();
        let instance = starter.start_instance().map_err(|fault| format!("while starting: {fault}"))?;
        let start_took = thread_cpu_time().saturating_sub(begun);
        let traits = Arc::new(instance.traits().clone());
        let stateless = traits.stateless;
        Ok(ArmedStage {
            plan: filter.clone(),
            starter: Arc::new(starter),
            traits,
            stateless,
            has_ticks: module.has_ticks() && !stateless,
            has_finish: module.has_finish() && !stateless,
            has_state: module.has_state() && !stateless,
            start_took,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Module>> {
        self.loaded.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl ArmedChain {
    /// The chain of an entry without filters.
    #[cfg(test)]
    pub(crate) fn without_filters(entry: EntryPlan) -> Arc<ArmedChain> {
        let dearness = Dearness::starting_in(Duration::ZERO);
        Arc::new(ArmedChain { entry: Arc::new(entry), stages: Vec::new(), dearness })
    }

    /// Whether an instance at `place` of `self` may go on serving place `other_place` of `other`.
    pub(super) fn same_stage(&self, place: usize, other: &ArmedChain, other_place: usize) -> bool {
        self.stages[place].plan.same_as(&other.stages[other_place].plan) && self.entry.topics == other.entry.topics
    }

    /// What the filter at `place` said of itself. For commands that look into it.
    pub fn traits(&self, place: usize) -> &Traits {
        &self.stages[place].traits
    }

    /// Digests of the modules, in the order of the chain.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.stages.iter().map(|stage| stage.plan.module.digest)
    }
}

impl std::fmt::Debug for ArmedChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ArmedChain({}, {} filters)", self.entry.name, self.stages.len())
    }
}

fn written(origin: &Written) -> String {
    match origin {
        Written::File(path) => path.display().to_string(),
        Written::EtcdKey(key) => key.clone(),
        Written::ArrayItem { key, index } => format!("{key}[{index}]"),
        Written::CommandLine => "command line".to_string(),
    }
}

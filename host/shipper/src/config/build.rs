//! Everything that was found, to a plan. Pure: no clock, no disk, no network; modules are judged by who is asked to.
//!
//! Rules, each a test: a bad entry keeps its last good form; two that claim one name change nothing; an entry that is gone
//! disappears; a source that cannot be read now keeps what it gave before; the revision rises only when an entry changed;
//! an entry that did not change keeps its very `Arc`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::classic;
use super::entry::{RawEntry, RawFilter, is_name, read_entry};
use super::entry_check::{applies, check, dotted_path};
use super::modules::{ModuleCheck, Modules};
use super::settings::Settings;
use super::tree::{self, Tree};
use crate::model::{EntryName, EntryPlan, FilterPlan, ModuleFile, Origin, Plan, Problem};

/// One entry as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEntry {
    /// The file or key.
    pub origin: Origin,
    /// What it is called there.
    pub name: String,
    /// Its text.
    pub json: Arc<[u8]>,
}

/// The array key as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundArray {
    /// The key.
    pub key: String,
    /// Its text.
    pub json: Arc<[u8]>,
}

/// What etcd holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundEtcd {
    /// Keys of one entry each.
    pub entries: Vec<FoundEntry>,
    /// The array key, if it is there.
    pub array: Option<FoundArray>,
    /// What is in force of each module, by name.
    pub modules: BTreeMap<String, Arc<[u8]>>,
    /// Every release, by `NAME/NUMBER`.
    pub releases: BTreeMap<String, Arc<[u8]>>,
}

/// Everything that a plan is made of. None: the source cannot be read now, and what it gave before stays in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The entries directory; empty when there is none in the settings.
    pub files: Option<Vec<FoundEntry>>,
    /// etcd; empty when there is none in the settings.
    pub etcd: Option<FoundEtcd>,
    /// Modules by name.
    pub modules: Modules,
    /// What is wrong with the sources themselves.
    pub problems: Vec<Problem>,
}

/// A plan, and the text each of its entries was made of.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The JSON of each entry in force.
    pub written: BTreeMap<EntryName, Arc<str>>,
    /// Whether etcd was ever read: without that, this is not all there is to do.
    pub etcd_was_read: bool,
}

/// One claim to a name.
struct Claim {
    name: String,
    origin: Origin,
    source: String,
    /// Where in the source it stands.
    key: String,
    tree: Result<Tree, Problem>,
}

/// Makes the plan. `previous` is what is in force.
pub fn build_plan(settings: &Settings, found: &Found, previous: &Built, checks: &dyn ModuleCheck) -> Built {
    let mut builder = Builder {
        settings,
        modules: &found.modules,
        previous,
        checks,
        entries: BTreeMap::new(),
        written: BTreeMap::new(),
        problems: found.problems.clone(),
    };
    let mut claims = builder.claims(found);
    claims.retain(|claim| builder.is_ours(claim));
    let mut by_name: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        by_name.entry(claim.name.clone()).or_default().push(claim);
    }
    for (name, claims) in by_name {
        builder.settle(&name, claims);
    }
    let etcd_was_read = previous.etcd_was_read || (settings.etcd.is_some() && found.etcd.is_some());
    Built { etcd_was_read, ..builder.finish() }
}

/// One entry that does not come from a watched source (`tailmill dev`, tests, a saved plan).
pub fn build_entry(
    settings: &Settings,
    name: &str,
    origin: Origin,
    json: &[u8],
    modules: &Modules,
) -> Result<EntryPlan, Vec<Problem>> {
    let source = origin.to_string();
    let tree = tree::from_json(&source, json).map_err(|problem| vec![problem])?;
    let (raw, mut problems) = read_entry(&tree, "");
    problems.extend(check(&raw, settings, &source, ""));
    resolve(name.into(), origin, &raw, modules, &source, "", problems)
}

/// Modules that entries for this node use, as they are written there.
pub(super) fn uses(settings: &Settings, files: &[FoundEntry], etcd: &FoundEtcd) -> BTreeSet<String> {
    let entries = files.iter().chain(&etcd.entries).filter_map(|entry| tree::from_json("", &entry.json).ok());
    let array = etcd.array.as_ref().and_then(|array| classic::items("", &array.json).ok()).unwrap_or_default();
    let raw = entries.chain(array.into_iter().map(|item| item.tree)).map(|tree| read_entry(&tree, "").0);
    let ours = raw.filter(|entry| applies(entry, settings));
    ours.flat_map(|entry| entry.filters).map(|filter| filter.wanted).collect()
}

struct Builder<'a> {
    settings: &'a Settings,
    modules: &'a Modules,
    previous: &'a Built,
    checks: &'a dyn ModuleCheck,
    entries: BTreeMap<EntryName, Arc<EntryPlan>>,
    written: BTreeMap<EntryName, Arc<str>>,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    /// Every claim that was found. Entries whose source cannot be read now are kept at once.
    fn claims(&mut self, found: &Found) -> Vec<Claim> {
        let mut claims = Vec::new();
        let etcd_entries = found.etcd.as_ref().map(|etcd| &etcd.entries);
        for entry in found.files.iter().chain(etcd_entries).flatten() {
            self.claim(entry, &mut claims);
        }
        if let Some(array) = found.etcd.as_ref().and_then(|etcd| etcd.array.as_ref()) {
            self.claim_items(array, &mut claims);
        }
        if found.files.is_none() {
            self.keep_where(|origin| matches!(origin, Origin::File(_)));
        }
        if found.etcd.is_none() {
            self.keep_where(|origin| matches!(origin, Origin::EtcdKey(_) | Origin::ArrayItem { .. }));
        }
        claims
    }

    fn claim(&mut self, entry: &FoundEntry, claims: &mut Vec<Claim>) {
        let source = entry.origin.to_string();
        if !is_name(&entry.name) {
            let reason = format!(
                "`{}` cannot be an entry's name: letters, digits, `.`, `_` and `-`, at most 100, a letter or digit first",
                entry.name
            );
            return self.problems.push(Problem { source, key: String::new(), reason });
        }
        let tree = tree::from_json(&source, &entry.json);
        claims.push(Claim { name: entry.name.clone(), origin: entry.origin.clone(), source, key: String::new(), tree });
    }

    fn claim_items(&mut self, array: &FoundArray, claims: &mut Vec<Claim>) {
        let source = format!("etcd {}", array.key);
        let of_array = |origin: &Origin| matches!(origin, Origin::ArrayItem { key, .. } if *key == array.key);
        let items = match classic::items(&source, &array.json) {
            Ok(items) => items,
            Err(problem) => {
                self.problems.push(problem);
                return self.keep_where(of_array);
            }
        };
        let mut nameless = false;
        for item in items {
            let key = format!("[{}]", item.index);
            match item.name {
                Some(name) => {
                    let origin = Origin::ArrayItem { key: array.key.clone(), index: item.index };
                    claims.push(Claim { name, origin, source: source.clone(), key, tree: Ok(item.tree) });
                }
                None => {
                    nameless = true;
                    self.problems.extend(read_entry(&item.tree, &key).1);
                }
            }
        }
        if nameless {
            // Nobody can tell which entry that item was: none of this array is taken out of force.
            let named: BTreeSet<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
            let previous = self.previous;
            let left = previous.plan.entries.values().filter(|e| of_array(&e.origin) && !named.contains(&*e.name));
            left.for_each(|entry| self.keep(&entry.name));
        }
    }

    /// Whether this node is meant. What cannot be read is ours to report.
    fn is_ours(&self, claim: &Claim) -> bool {
        claim.tree.as_ref().map_or(true, |tree| applies(&read_entry(tree, "").0, self.settings))
    }

    /// Decides what is in force under this name.
    fn settle(&mut self, name: &str, claims: Vec<Claim>) {
        let kept_from = self.entries.get(name).map(|kept| kept.origin.to_string());
        if claims.len() + usize::from(kept_from.is_some()) > 1 {
            let places = claims.iter().map(|claim| spelled(&claim.source, &claim.key)).chain(kept_from);
            let places: BTreeSet<String> = places.collect();
            let listed: Vec<&str> = places.iter().map(String::as_str).collect();
            let what = if name.contains('@') { "the same path".to_owned() } else { format!("the name `{name}`") };
            let reason = format!("{} claim {what}: remove all but one; what was in force stays", listed.join(" and "));
            self.problems.push(Problem { source: claims[0].source.clone(), key: claims[0].key.clone(), reason });
            return self.keep(name);
        }
        for claim in claims {
            match self.entry(&claim) {
                Ok((plan, json)) => {
                    let plan = self.same_as_before(plan);
                    self.written.insert(plan.name.clone(), json);
                    self.entries.insert(plan.name.clone(), plan);
                }
                Err(problems) => {
                    self.problems.extend(problems);
                    self.keep(name);
                }
            }
        }
    }

    fn entry(&self, claim: &Claim) -> Result<(EntryPlan, Arc<str>), Vec<Problem>> {
        let tree = claim.tree.as_ref().map_err(|problem| vec![problem.clone()])?;
        let (raw, mut problems) = read_entry(tree, &claim.key);
        problems.extend(check(&raw, self.settings, &claim.source, &claim.key));
        let name: EntryName = claim.name.as_str().into();
        let plan = resolve(name, claim.origin.clone(), &raw, self.modules, &claim.source, &claim.key, problems)?;
        let problems = self.judge(&plan, &claim.source, &claim.key);
        if problems.is_empty() { Ok((plan, tree.to_json().into())) } else { Err(problems) }
    }

    /// Starts every filter that is not already in force with the same topics.
    fn judge(&self, plan: &EntryPlan, source: &str, prefix: &str) -> Vec<Problem> {
        let before = self.previous.plan.entries.get(&plan.name).filter(|before| before.topics == plan.topics);
        let mut problems = Vec::new();
        for (i, filter) in plan.filters.iter().enumerate() {
            if before.is_some_and(|before| before.filters.iter().any(|old| old.same_as(filter))) {
                continue;
            }
            if let Err(reason) = self.checks.check(filter, &plan.topics) {
                let key = dotted_path(prefix, &format!("filters[{i}]"));
                problems.push(Problem { source: source.to_owned(), key, reason });
            }
        }
        problems
    }

    fn same_as_before(&self, plan: EntryPlan) -> Arc<EntryPlan> {
        match self.previous.plan.entries.get(&plan.name) {
            Some(before) if before.same_as(&plan) => before.clone(),
            _ => Arc::new(plan),
        }
    }

    fn keep(&mut self, name: &str) {
        if let Some((name, entry)) = self.previous.plan.entries.get_key_value(name) {
            self.entries.insert(name.clone(), entry.clone());
            self.written.extend(self.previous.written.get(name).map(|json| (name.clone(), json.clone())));
        }
    }

    fn keep_where(&mut self, origin: impl Fn(&Origin) -> bool) {
        let previous = self.previous;
        previous.plan.entries.values().filter(|e| origin(&e.origin)).for_each(|entry| self.keep(&entry.name));
    }

    fn finish(mut self) -> Built {
        self.problems.sort();
        self.problems.dedup();
        let before = &self.previous.plan;
        let changed = before.entries.len() != self.entries.len()
            || !before.entries.values().zip(self.entries.values()).all(|(old, new)| Arc::ptr_eq(old, new));
        let revision = before.revision + u64::from(changed);
        let plan = Plan { revision, entries: self.entries, problems: self.problems };
        Built { plan: Arc::new(plan), written: self.written, etcd_was_read: false }
    }
}

fn spelled(source: &str, key: &str) -> String {
    format!("{source}{key}")
}

/// The entry with its modules looked up, or `problems` and every module that is not there.
fn resolve(
    name: EntryName,
    origin: Origin,
    raw: &RawEntry,
    modules: &Modules,
    source: &str,
    prefix: &str,
    mut problems: Vec<Problem>,
) -> Result<EntryPlan, Vec<Problem>> {
    let mut filters = Vec::new();
    for (i, filter) in raw.filters.iter().enumerate() {
        match modules.resolve(&filter.wanted) {
            Ok(module) => filters.push(filter_plan(filter, module)),
            Err(reason) => {
                let key = dotted_path(prefix, &format!("filters[{i}].use"));
                problems.push(Problem { source: source.to_owned(), key, reason });
            }
        }
    }
    match (&raw.patterns, problems.is_empty()) {
        (Some(patterns), true) => Ok(EntryPlan {
            name,
            origin,
            patterns: patterns.clone(),
            start: raw.start,
            framing: Arc::new(raw.framing.clone()),
            finish_after: raw.finish_after,
            close_idle: raw.close_idle,
            ignore_older: raw.ignore_older,
            topics: raw.topics.clone(),
            cluster: raw.cluster.clone(),
            filters,
            on_refused: raw.on_refused,
            dead_letter_topic: raw.dead_letter_topic.clone(),
            format: raw.format,
            partition: raw.partition,
            key: raw.key.clone(),
            headers: raw.headers.clone(),
        }),
        _ => Err(problems),
    }
}

/// The filter with its module.
pub(crate) fn filter_plan(raw: &RawFilter, module: Arc<ModuleFile>) -> FilterPlan {
    FilterPlan {
        name: raw.name.clone(),
        module,
        with: raw.with.clone(),
        limits: raw.limits.clone(),
        held: raw.held,
        on_error: raw.on_error,
        breaker: raw.breaker,
        stateless: raw.stateless,
    }
}

/// As [`build_entry`], with the modules that were in force, in the order of the chain, whatever `use` says now. None: the
/// entry is not for this node any more.
pub(super) fn restore_entry(
    settings: &Settings,
    name: &str,
    origin: Origin,
    json: &str,
    chain: &[Arc<ModuleFile>],
) -> Result<Option<EntryPlan>, Vec<Problem>> {
    let source = origin.to_string();
    let tree = tree::from_json(&source, json.as_bytes()).map_err(|problem| vec![problem])?;
    let (raw, mut problems) = read_entry(&tree, "");
    if !applies(&raw, settings) {
        return Ok(None);
    }
    problems.extend(check(&raw, settings, &source, ""));
    if chain.len() != raw.filters.len() {
        let reason = "the saved chain and its modules do not fit together".to_owned();
        problems.push(Problem { source: source.clone(), key: "filters".to_owned(), reason });
    }
    let bare = RawEntry { filters: Vec::new(), ..raw.clone() };
    let mut plan = resolve(name.into(), origin, &bare, &Modules::default(), &source, "", problems)?;
    plan.filters = raw.filters.iter().zip(chain).map(|(raw, module)| filter_plan(raw, module.clone())).collect();
    Ok(Some(plan))
}

#[cfg(test)]
mod tests;

//! What a `use` means on this node, of all that lies in etcd. Pure.
//!
//! `NAME` is the release in force, or its canary where this node is one; `NAME@VERSION` and `sha256:…` are any release that was
//! pushed. What is not signed as the settings want it is refused here, before anything of it is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailmill_engine::Digest;

use super::super::modules::Modules;
use super::super::settings::Settings;
use super::{Fetched, InForce, ModuleCache, Release, signing};
use crate::model::Problem;

/// How a problem ends that goes away by itself.
pub(crate) const FETCHING: &str = "is being fetched";

type Raw = BTreeMap<String, Arc<[u8]>>;
type Offer = Result<Arc<Release>, String>;

/// Everything on offer.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Offers {
    /// `NAME` and `NAME@VERSION`.
    named: BTreeMap<String, Offer>,
    by_digest: BTreeMap<Digest, Offer>,
    /// Records that make no sense.
    pub(in super::super) problems: Vec<Problem>,
}

impl Offers {
    /// `modules`: by name; `releases`: by `NAME/NUMBER`.
    pub(in super::super) fn new(modules: &Raw, releases: &Raw, settings: &Settings) -> Offers {
        let mut offers = Offers::default();
        let prefix = settings.etcd.as_ref().map_or("", |etcd| etcd.prefix.as_str());
        let trusted = &settings.modules.trusted_keys;
        let judged = |release: Release| -> Offer {
            let refused = |why| format!("module `{}` {} in etcd is refused: {why}", release.name, release.version);
            signing::verify(&release, trusted).map_err(refused)?;
            Ok(Arc::new(release))
        };
        for (key, json) in releases {
            let name = key.split_once('/').map_or(key.as_str(), |(name, _)| name);
            match Release::parse(name, json) {
                Ok(release) => offers.add_release(release, &judged),
                Err(reason) => offers.problem(&format!("{prefix}releases/{key}"), reason),
            }
        }
        for (name, json) in modules {
            let offer = match InForce::parse(name, json) {
                Ok(record) => {
                    let release = record.for_node(&settings.node, &settings.labels).clone();
                    let digest = release.digest;
                    let offer = judged(release);
                    offers.by_digest(digest, &offer);
                    offer
                }
                Err(reason) => {
                    offers.problem(&format!("{prefix}modules/{name}"), reason.clone());
                    Err(format!("module `{name}` in etcd {reason}"))
                }
            };
            offers.named.insert(name.clone(), offer);
        }
        offers
    }

    fn add_release(&mut self, release: Release, judged: &impl Fn(Release) -> Offer) {
        let (name, digest) = (format!("{}@{}", release.name, release.version), release.digest);
        let offer = judged(release);
        self.by_digest(digest, &offer);
        self.named.insert(name, offer);
    }

    /// The same content may be there under several names: one that is signed is enough.
    fn by_digest(&mut self, digest: Digest, offer: &Offer) {
        let known = self.by_digest.entry(digest).or_insert_with(|| offer.clone());
        if known.is_err() {
            known.clone_from(offer);
        }
    }

    fn problem(&mut self, key: &str, reason: String) {
        self.problems.push(Problem { source: format!("etcd {key}"), key: String::new(), reason });
    }

    fn find(&self, wanted: &str) -> Option<&Offer> {
        match wanted.parse::<Digest>() {
            Ok(digest) => self.by_digest.get(&digest),
            Err(_) => self.named.get(wanted),
        }
    }

    /// Puts what is used and not in the directory into `modules`, as far as it is here. Gives what has to be fetched.
    pub(in super::super) fn add_to(
        &self,
        modules: &mut Modules,
        uses: &BTreeSet<String>,
        cache: &mut ModuleCache,
        fetched: &Fetched,
    ) -> Vec<Arc<Release>> {
        let (mut missing, mut wanted) = (Vec::new(), BTreeSet::new());
        for used in uses {
            if modules.has(used) {
                continue;
            }
            let release = match self.find(used) {
                None => continue,
                Some(Err(reason)) => {
                    modules.add(used, Err(reason.clone()));
                    continue;
                }
                Some(Ok(release)) => release,
            };
            wanted.insert(release.digest);
            let source = format!("module {} {} of etcd", release.name, release.version);
            let module = cache.get(&release.digest, &source).ok_or_else(|| {
                missing.push(release.clone());
                let trouble = fetched.troubles.get(&release.digest).map_or(FETCHING, String::as_str);
                format!("module `{}` {} ({}) {trouble}", release.name, release.version, release.digest.short())
            });
            modules.add(used, module);
        }
        cache.retain(&wanted);
        missing
    }

    /// Every release that may be fetched: what is here of them holds chunks of others.
    pub(in super::super) fn all(&self) -> Vec<Arc<Release>> {
        self.by_digest.values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::release::sample;
    use super::super::{Canary, FORMAT, SecretKey, Share, Thresholds};
    use super::*;
    use crate::config::Overrides;
    use std::path::Path;

    fn settings(more: &str) -> Settings {
        let text = format!(
            "node = \"web-01\"\n[kafka]\nbrokers = [\"a:1\"]\n[etcd]\nendpoints = [\"http://a:1\"]\n[modules]\n{more}"
        );
        Settings::from_text(Path::new("/t.toml"), &text, &Overrides::default()).unwrap()
    }

    fn raw<T: serde::Serialize>(pairs: &[(&str, &T)]) -> Raw {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), serde_json::to_vec(value).unwrap().into())).collect()
    }

    fn in_force(release: Release, canary: Option<(Release, u32)>) -> InForce {
        let canary = canary.map(|(release, share)| Canary {
            release,
            share: Share(share),
            labels: BTreeMap::new(),
            since_ms: 0,
            thresholds: Thresholds::default(),
        });
        InForce { format: FORMAT, step: 1, release, previous: None, canary }
    }

    /// What `used` comes to with an empty cache: the version that has to be fetched, or why nothing.
    fn check(offers: &Offers, used: &str, expected: Result<&str, &str>) {
        let home = tempfile::tempdir().unwrap();
        let mut modules = Modules::new(None);
        let uses = [used.to_owned()].into();
        let missing = offers.add_to(&mut modules, &uses, &mut ModuleCache::new(home.path()), &Fetched::default());
        let said = modules.resolve(used).map(|_| ()).unwrap_err();
        match expected {
            Ok(version) => {
                assert_eq!(missing.iter().map(|one| one.version.as_str()).collect::<Vec<_>>(), [version], "{used}");
                assert!(said.ends_with(FETCHING), "{said}");
            }
            Err(expected) => {
                assert!(missing.is_empty(), "{used}");
                assert!(said.contains(expected), "{said}");
            }
        }
    }

    #[test]
    fn a_name_is_what_is_in_force_here_and_older_ones_are_had_by_version_and_digest() {
        let (one, two) = (sample("grep", "1", b"one"), sample("grep", "2", b"two"));
        let releases = raw(&[("grep/00000001", &one), ("grep/00000002", &two)]);
        let offers = |share| {
            let record = in_force(one.clone(), Some((two.clone(), share)));
            Offers::new(&raw(&[("grep", &record)]), &releases, &settings(""))
        };
        check(&offers(0), "grep", Ok("1"));
        check(&offers(10_000), "grep", Ok("2"));
        check(&offers(0), "grep@2", Ok("2"));
        check(&offers(0), &two.digest.to_string(), Ok("2"));
        check(&offers(0), "grep@3", Err("there is no module"));
    }

    #[test]
    fn what_is_not_signed_as_the_settings_want_it_is_not_even_fetched() {
        let key = SecretKey::of(&[1; 32]).unwrap();
        let settings = settings(&format!("trusted_keys = [\"{}\"]", key.public()));
        let mut good = sample("grep", "1", b"one");
        good.signature = Some(key.sign("grep", "1", &good.digest));
        let replayed = Release { name: "json".to_owned(), ..good.clone() };
        let plain = sample("plain", "1", b"plain");
        let modules = raw(&[
            ("grep", &in_force(good.clone(), None)),
            ("json", &in_force(replayed, None)),
            ("plain", &in_force(plain.clone(), None)),
        ]);
        let offers = Offers::new(&modules, &Raw::new(), &settings);
        check(&offers, "grep", Ok("1"));
        check(&offers, "json", Err("another name"));
        check(&offers, "plain", Err("not signed"));
        check(&offers, &plain.digest.to_string(), Err("not signed"));
        check(&offers, &good.digest.to_string(), Ok("1"));
    }

    #[test]
    fn records_that_make_no_sense_are_problems_of_their_keys_and_of_nobody_else() {
        let good = sample("good", "1", b"one");
        let mut modules = raw(&[("good", &in_force(good, None))]);
        modules.insert("bad".to_owned(), Arc::from(&b"{"[..]));
        let mut releases = Raw::new();
        releases.insert("odd".to_owned(), Arc::from(&b"7"[..]));
        let offers = Offers::new(&modules, &releases, &settings(""));
        let sources: Vec<&str> = offers.problems.iter().map(|problem| problem.source.as_str()).collect();
        assert_eq!(sources, ["etcd /tailmill/releases/odd", "etcd /tailmill/modules/bad"]);
        check(&offers, "good", Ok("1"));
        check(&offers, "bad", Err("not a record of ours"));
    }
}

//! The records of modules in etcd, and what of them makes sense. Pure.
//!
//! A reader takes what it does not know for a later version's and leaves it; a format that is higher than its own it refuses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tailmill_engine::Digest;

use super::super::entry::is_name;
use super::{CHUNK_BYTES_MAX, Signature};

/// Raised when a reader of this version could not understand what a later one writes.
pub(crate) const FORMAT: u32 = 1;
/// As for a file in the modules directory. Python filters have some 20 MB.
pub(crate) const MODULE_BYTES_MAX: u64 = 128 << 20;
/// Of the least size each.
pub(crate) const CHUNKS_MAX: usize = 1024;
/// The whole of [`Share`].
const WHOLE: u32 = 10_000;

/// One piece of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Of its plain bytes.
    pub(crate) digest: Digest,
    /// Plain.
    pub(crate) size: u64,
}

/// One version of a module. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) version: String,
    /// From 1, for each name.
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// In order; their sizes add up to `size`.
    pub(crate) chunks: Vec<Chunk>,
    /// Over digest, name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<Signature>,
    pub(crate) pushed_ms: i64,
    /// For people.
    pub(crate) pushed_by: String,
}

/// What is in force under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InForce {
    pub(crate) format: u32,
    /// Number of the last [`Step`].
    pub(crate) step: u64,
    pub(crate) release: Release,
    /// Number of the release that was in force before, for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<u64>,
    /// What some nodes run instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canary: Option<Canary>,
}

/// A release on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Canary {
    pub(crate) release: Release,
    /// Nodes by hash.
    pub(crate) share: Share,
    /// Beside these, nodes that have all of these labels; empty: none.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) since_ms: i64,
    #[serde(default)]
    pub(crate) thresholds: Thresholds,
}

/// A part of all nodes, in ten-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Share(pub(crate) u32);

/// When a canary is taken back by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Thresholds {
    /// More faults in a thousand lines than the others have, at most.
    pub(crate) faults_per_1000: f64,
    /// Larger share of lines dropped than by the others, at most: 0.1 is ten lines in a hundred.
    pub(crate) dropped_more: f64,
    /// Times the time for a line that the others take, at most.
    pub(crate) slower_times: f64,
    /// Lines that all canary nodes together must have filtered before they are judged.
    pub(crate) lines_min: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { faults_per_1000: 1.0, dropped_more: 0.1, slower_times: 3.0, lines_min: 1_000 }
    }
}

/// One thing that was done to a module's releases; they are numbered for each name and never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) number: u64,
    pub(crate) at_ms: i64,
    pub(crate) by: String,
    /// `push`, `canary`, `promote`, `abort` or `rollback`.
    pub(crate) action: String,
    /// Of the release that it is about.
    pub(crate) version: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) share: Share,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

impl Share {
    /// Everybody.
    pub(crate) const WHOLE: Share = Share(WHOLE);

    /// Whether it is everybody.
    pub(crate) fn is_whole(self) -> bool {
        self.0 >= WHOLE
    }

    /// `5%`, `0.5%`, `100%`.
    pub(crate) fn parse(text: &str) -> Result<Share, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
        let sound = number.filter(|number| *number > 0.0 && *number <= 100.0);
        let sound = sound.ok_or_else(|| format!("`{text}` is no share of the nodes: write for example 5%"))?;
        // At most 10,000, and never nothing for something.
        Ok(Share(((sound * 100.0).round() as u32).max(1)))
    }

    fn holds(self, module: &str, node: &str) -> bool {
        let key = format!("{module}\0{node}");
        let place = xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % u64::from(WHOLE);
        place < u64::from(self.0)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

/// Whether this node tries the canary. A node that is in a share is in every larger one; which nodes are in it differs from
/// module to module, so that not always the same ones try what is new.
pub(crate) fn is_canary(module: &str, canary: &Canary, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let labelled = !canary.labels.is_empty()
        && canary.labels.iter().all(|(name, value)| labels.get(name).is_some_and(|own| own == value));
    labelled || canary.share.holds(module, node)
}

/// A record as it was written, refused when it is of a later format.
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_slice(json).map_err(|error| format!("is not a record of ours: {error}"))?;
    if head.format != FORMAT {
        return Err(format!("has format {}, this version reads {FORMAT}: update tailmill here", head.format));
    }
    serde_json::from_slice(json).map_err(|error| format!("is not a record of ours: {error}"))
}

impl Release {
    /// A release that can be fetched without harm, of this module.
    pub(crate) fn parse(name: &str, json: &[u8]) -> Result<Release, String> {
        let release: Release = read(json)?;
        release.check(name)?;
        Ok(release)
    }

    fn check(&self, name: &str) -> Result<(), String> {
        if self.name != name {
            return Err(format!("is a release of `{}`", self.name));
        }
        if !is_name(&self.version) {
            return Err("its version is none: letters, digits, `.`, `_` and `-`".to_owned());
        }
        if self.size > MODULE_BYTES_MAX {
            return Err(format!("has {} bytes; at most {MODULE_BYTES_MAX} are taken", self.size));
        }
        if self.chunks.len() > CHUNKS_MAX || self.chunks.iter().any(|chunk| chunk.size > CHUNK_BYTES_MAX as u64) {
            return Err("has too many chunks, or too large ones".to_owned());
        }
        // No overflow: 1,024 of at most a MiB.
        let whole: u64 = self.chunks.iter().map(|chunk| chunk.size).sum();
        if whole != self.size {
            return Err(format!("its chunks have {whole} bytes, not the {} that it says", self.size));
        }
        Ok(())
    }
}

impl InForce {
    /// What is in force under this name.
    pub(crate) fn parse(name: &str, json: &[u8]) -> Result<InForce, String> {
        let record: InForce = read(json)?;
        record.release.check(name)?;
        if let Some(canary) = &record.canary {
            canary.release.check(name).map_err(|reason| format!("its canary {reason}"))?;
        }
        Ok(record)
    }

    /// What this node runs.
    pub(crate) fn for_node(&self, node: &str, labels: &BTreeMap<String, String>) -> &Release {
        match &self.canary {
            Some(canary) if is_canary(&self.release.name, canary, node, labels) => &canary.release,
            _ => &self.release,
        }
    }
}

#[cfg(test)]
pub(super) fn sample(name: &str, version: &str, content: &[u8]) -> Release {
    let chunks = vec![Chunk { digest: Digest::of(content), size: content.len() as u64 }];
    Release {
        format: FORMAT,
        name: name.to_owned(),
        version: version.to_owned(),
        number: 1,
        digest: Digest::of(content),
        size: content.len() as u64,
        chunks,
        signature: None,
        pushed_ms: 1,
        pushed_by: "test".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_would_do_harm_is_refused_before_it_is_fetched() {
        let good = sample("grep", "1.0", b"wasm");
        let check = |change: &dyn Fn(&mut Release), expected: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let said = Release::parse("grep", &serde_json::to_vec(&bad).unwrap()).unwrap_err();
            assert!(said.contains(expected), "{said}");
        };
        assert_eq!(Release::parse("grep", &serde_json::to_vec(&good).unwrap()), Ok(good.clone()));
        check(&|release| release.format = 2, "update tailmill");
        check(&|release| release.name = "other".to_owned(), "a release of `other`");
        check(&|release| release.version = "../x".to_owned(), "version");
        check(&|release| release.size = u64::MAX, "at most");
        check(&|release| release.size = 3, "not the 3 that it says");
        check(&|release| release.chunks[0].size = u64::MAX, "too large");
        check(&|release| release.chunks = vec![release.chunks[0]; 2000], "too many");
        assert!(Release::parse("grep", b"{").unwrap_err().contains("not a record of ours"));
        assert!(Release::parse("grep", br#"{"format":1}"#).unwrap_err().contains("not a record of ours"));
    }

    #[test]
    fn shares_grow_without_leaving_anybody_out_and_differ_between_modules() {
        let nodes: Vec<String> = (0..10_000).map(|i| format!("web-{i}")).collect();
        let those = |module: &str, percent: &str| -> Vec<&String> {
            let share = Share::parse(percent).unwrap();
            nodes.iter().filter(|node| share.holds(module, node)).collect()
        };
        let (five, quarter) = (those("grep", "5%"), those("grep", "25"));
        assert!((400..600).contains(&five.len()) && (2_300..2_700).contains(&quarter.len()));
        assert!(five.iter().all(|node| quarter.contains(node)));
        assert!(those("json", "5%").iter().filter(|node| five.contains(node)).count() < 100);
        assert_eq!(those("grep", "100%").len(), 10_000);
        // Which nodes try a module must not change with a version of tailmill.
        assert!(Share(10_000).holds("grep", "web-01") && !Share(0).holds("grep", "web-01"));
        for bad in ["0%", "101%", "five", "", "-1"] {
            assert!(Share::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Share::parse("0.001%").unwrap(), Share(1));
        assert_eq!(Share::parse("12.5%").unwrap().to_string(), "12.5%");
    }

    #[test]
    fn labels_choose_nodes_beside_the_share() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let canary = Canary {
            release: sample("grep", "2", b"two"),
            share: Share(0),
            labels: labels(&[("zone", "a")]),
            since_ms: 0,
            thresholds: Thresholds::default(),
        };
        let record = InForce {
            format: FORMAT,
            step: 1,
            release: sample("grep", "1", b"one"),
            previous: None,
            canary: Some(canary),
        };
        for (own, version) in [(labels(&[("zone", "a"), ("role", "web")]), "2"), (labels(&[("zone", "b")]), "1")] {
            assert_eq!(record.for_node("web-01", &own).version, version);
        }
        assert_eq!(record.for_node("web-01", &BTreeMap::new()).version, "1", "no label, no canary");
    }
}

//! Blobs that no release refers to.
//!
//! A push writes its blobs before its release, so there is a time when nothing refers to them. Who removes blobs moves the
//! key `gc` in the same transaction, and a push whose `gc` key moved begins again; who removes makes sure that no release
//! came meanwhile. So neither can hurt the other, whoever is first.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{self, Library};
use super::{Desk, FleetError, Guard, Write};
use crate::config::depot::{Release, blob_key, release_key};

/// etcd takes 128 operations in a transaction.
const DELETES_MAX: usize = 100;
/// Races that are lost before it is given up.
const ROUNDS: usize = 10;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Removed {
    pub(crate) releases: Vec<String>,
    pub(crate) blobs: usize,
    pub(crate) blobs_kept: usize,
}

/// Key that moves with every removal.
pub(super) fn gc_key(prefix: &str) -> String {
    format!("{prefix}gc")
}

/// Removes all but the newest `keep` releases of each module, where given, and every blob without a release. What is in force,
/// on trial, to be rolled back to, or named by an entry stays.
pub(crate) async fn collect(desk: &mut Desk, keep: Option<usize>) -> Result<Removed, FleetError> {
    for _ in 0..ROUNDS {
        let library = modules::library(desk).await?;
        let uses = modules::uses(desk).await?;
        let old = keep.map(|keep| old_releases(&library, &uses.by_use(), keep)).unwrap_or_default();
        let prefix = desk.prefix().to_owned();
        let stay = library.releases.values().filter(|release| !old.contains(&(release.name.clone(), release.number)));
        let stay = stay.chain(library.in_force.values().flat_map(|(record, _)| {
            std::iter::once(&record.release).chain(record.canary.as_ref().map(|canary| &canary.release))
        }));
        let referred: BTreeSet<String> =
            stay.flat_map(|release: &Release| release.chunks.iter().map(|chunk| blob_key(&prefix, chunk))).collect();
        let blobs = desk.keys("blobs/").await?;
        let unused: Vec<&String> = blobs.iter().filter(|key| !referred.contains(*key)).collect();
        let mut writes: Vec<Write> =
            old.iter().map(|(name, number)| Write::Delete(release_key(&prefix, name, *number))).collect();
        writes.extend(unused.iter().map(|key| Write::Delete((*key).clone())));
        if sweep(desk, &library, uses.revision, &writes).await? {
            return Ok(Removed {
                releases: old.iter().map(|(name, number)| format!("{name}/{number}")).collect(),
                blobs: unused.len(),
                blobs_kept: blobs.len() - unused.len(),
            });
        }
    }
    Err(FleetError::Crowded)
}

/// False: a release or an entry came meanwhile.
async fn sweep(desk: &mut Desk, library: &Library, entries: i64, writes: &[Write]) -> Result<bool, FleetError> {
    let prefix = desk.prefix().to_owned();
    let guards = [
        Guard::Prefix(format!("{prefix}modules/"), library.revision),
        Guard::Prefix(format!("{prefix}releases/"), library.revision),
        Guard::Prefix(format!("{prefix}entries/"), entries),
    ];
    for part in writes.chunks(DELETES_MAX) {
        let moved = Write::Put(gc_key(&prefix), modules::nonce());
        let all: Vec<Write> = std::iter::once(moved).chain(part.iter().cloned()).collect();
        if !desk.commit(&guards, &all).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn old_releases(library: &Library, uses: &BTreeMap<String, Vec<String>>, keep: usize) -> BTreeSet<(String, u64)> {
    let mut old = BTreeSet::new();
    for (name, (record, _)) in &library.in_force {
        let own = library.releases.values().filter(|release| release.name == *name);
        let mut numbers: Vec<&Release> = own.collect();
        numbers.sort_by_key(|release| std::cmp::Reverse(release.number));
        let canary = record.canary.as_ref().map(|canary| canary.release.number);
        let stays = |release: &Release| {
            release.number == record.release.number
                || Some(release.number) == record.previous
                || Some(release.number) == canary
                || uses.contains_key(&format!("{name}@{}", release.version))
                || uses.contains_key(&release.digest.to_string())
        };
        let gone = numbers.into_iter().skip(keep).filter(|release| !stays(release));
        old.extend(gone.map(|release| (release.name.clone(), release.number)));
    }
    old
}

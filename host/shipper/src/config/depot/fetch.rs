//! Fetches missing modules, one after the other, each chunk checked before the next is asked for.
//!
//! In: what is wanted. Out: files in the module cache, and troubles by digest. Chunks that another module on this machine
//! holds are taken from there. What fails is tried again as long as it is wanted, later each time. Agents that hear of a release
//! together do not ask for it together.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use tailmill_engine::Digest;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::super::etcd::{self, backoff, random};
use super::super::settings::EtcdSettings;
use super::{Chunk, Release, blob_key, cache, unpack};

/// What the rest of the room wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Wanted {
    /// To be fetched.
    pub(in super::super) missing: Vec<Arc<Release>>,
    /// What may be here already.
    pub(in super::super) known: Vec<Arc<Release>>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Fetched {
    /// Rises with every module that was fetched.
    pub(in super::super) count: u64,
    /// Why a wanted module is not here; it is tried again.
    pub(in super::super) troubles: BTreeMap<Digest, String>,
}

/// Works until `stop`.
pub(in super::super) async fn fetch(
    settings: &EtcdSettings,
    spread: Duration,
    dir: PathBuf,
    mut wanted: watch::Receiver<Wanted>,
    told: &watch::Sender<Fetched>,
    mut stop: watch::Receiver<bool>,
) {
    let work = async {
        let mut attempt = 0;
        loop {
            let now = wanted.borrow_and_update().clone();
            if now.missing.is_empty() {
                attempt = 0;
                told.send_if_modified(|told| !std::mem::take(&mut told.troubles).is_empty());
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let wait = if attempt == 0 { share(spread) } else { backoff(attempt, random()) };
            tokio::time::sleep(wait).await;
            let failed = round(settings, &dir, &now, told).await;
            if !failed && wanted.changed().await.is_err() {
                return;
            }
            attempt = if failed { attempt + 1 } else { 0 };
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = work => {}
    }
}

/// A part of the time, at random.
fn share(spread: Duration) -> Duration {
    spread * u32::try_from(random() % 1000).unwrap_or(0) / 1000
}

/// Tries each once. True: something failed.
async fn round(settings: &EtcdSettings, dir: &Path, wanted: &Wanted, told: &watch::Sender<Fetched>) -> bool {
    let mut client = match etcd::connect(settings).await {
        Ok(client) => client,
        Err(reason) => {
            let reasons = wanted.missing.iter().map(|release| (release.digest, cannot(&reason)));
            tell(told, |now| now.troubles = reasons.collect());
            return true;
        }
    };
    let mut failed = false;
    for release in &wanted.missing {
        match one(&mut client, settings, dir, release, &wanted.known).await {
            Ok(()) => tell(told, |now| {
                now.count += 1;
                now.troubles.remove(&release.digest);
            }),
            Err(reason) => {
                failed = true;
                tell(told, |now| drop(now.troubles.insert(release.digest, cannot(&reason))));
            }
        }
    }
    failed
}

fn cannot(reason: &str) -> String {
    format!("cannot be fetched: {reason}")
}

fn tell(told: &watch::Sender<Fetched>, change: impl FnOnce(&mut Fetched)) {
    told.send_if_modified(|now| {
        let before = now.clone();
        change(now);
        *now != before
    });
}

async fn one(
    client: &mut Client,
    settings: &EtcdSettings,
    dir: &Path,
    release: &Arc<Release>,
    known: &[Arc<Release>],
) -> Result<(), String> {
    let (place, wanted, bases) = (dir.to_owned(), release.clone(), known.to_vec());
    let here = spawn_blocking(move || chunks_here(&place, &wanted, &bases)).await.unwrap_or_default();
    let mut bytes = Vec::new();
    for (i, chunk) in release.chunks.iter().enumerate() {
        let place = || format!("chunk {} of {}", i + 1, release.chunks.len());
        match here.get(&chunk.digest) {
            Some(plain) => bytes.extend_from_slice(plain),
            None => bytes.extend(blob(client, settings, chunk).await.map_err(|why| format!("{} {why}", place()))?),
        }
    }
    let (dir, digest) = (dir.to_owned(), release.digest);
    let kept = spawn_blocking(move || {
        if Digest::of(&bytes) != digest {
            return Err("its chunks together are something else than its digest says".to_owned());
        }
        cache::keep(&dir, &digest, &bytes).map_err(|error| format!("while keeping it: {error}"))
    });
    kept.await.map_err(|error| error.to_string())?
}

async fn blob(client: &mut Client, settings: &EtcdSettings, chunk: &Chunk) -> Result<Vec<u8>, String> {
    let key = blob_key(&settings.prefix, chunk);
    let answer = etcd::within("asking for it", client.get(key, None)).await?;
    let Some(pair) = answer.kvs().first() else {
        return Err("is not in etcd: push the module again".to_owned());
    };
    unpack(pair.value(), chunk).map_err(|error| format!("is damaged in etcd, push the module again: {error}"))
}

/// Chunks of this release that other modules on this machine hold.
fn chunks_here(dir: &Path, release: &Release, known: &[Arc<Release>]) -> HashMap<Digest, Vec<u8>> {
    let mut found = HashMap::new();
    for base in known {
        let shared = |chunk: &Chunk| release.chunks.contains(chunk);
        if !base.chunks.iter().any(|chunk| shared(chunk) && !found.contains_key(&chunk.digest)) {
            continue;
        }
        // Its digest was checked, and its release's chunks add up to its size; what they hold is checked here.
        let Some(bytes) = cache::read(dir, &base.digest) else { continue };
        let mut rest = bytes.as_slice();
        for chunk in &base.chunks {
            let size = usize::try_from(chunk.size).unwrap_or(usize::MAX);
            let Some((plain, behind)) = rest.split_at_checked(size) else { break };
            if shared(chunk) && Digest::of(plain) == chunk.digest {
                found.insert(chunk.digest, plain.to_vec());
            }
            rest = behind;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::release::sample;
    use super::*;

    #[test]
    fn what_another_module_here_holds_is_not_asked_for_again() {
        let home = tempfile::tempdir().unwrap();
        let chunk = |bytes: &[u8]| Chunk { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let made = |version: &str, parts: [&[u8]; 2]| {
            let mut release = sample("m", version, &parts.concat());
            release.chunks = parts.iter().map(|part| chunk(part)).collect();
            Arc::new(release)
        };
        let (old, new) = (made("1", [b"same", b"old"]), made("2", [b"new!", b"same"]));
        cache::keep(home.path(), &old.digest, b"sameold").unwrap();
        let known = [old.clone(), new.clone()];
        let here = chunks_here(home.path(), &new, &known);
        assert_eq!(here.into_iter().collect::<Vec<_>>(), [(Digest::of(b"same"), b"same".to_vec())]);
        // A release that lies about its chunks gives nothing.
        let lying = made("1", [b"sam", b"eold"]);
        let mut lying = Release::clone(&lying);
        lying.chunks[0].digest = Digest::of(b"same");
        assert!(chunks_here(home.path(), &new, &[Arc::new(lying)]).is_empty());
    }
}

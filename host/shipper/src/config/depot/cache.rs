//! Modules on this machine, by content: `state_dir/modules/HEX.wasm`.
//!
//! A file is written whole or not at all, and read again only as what its name says. What nobody wants any more goes when
//! there are more than a handful: a rollback needs no etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tailmill_engine::Digest;

use crate::model::ModuleFile;

/// Modules that are kept although nothing uses them.
const SPARE_MAX: usize = 8;

/// Files, and those in use in memory.
#[derive(Debug)]
pub(in super::super) struct ModuleCache {
    dir: PathBuf,
    loaded: BTreeMap<Digest, Arc<ModuleFile>>,
}

impl ModuleCache {
    pub(in super::super) fn new(state_dir: &Path) -> ModuleCache {
        ModuleCache { dir: state_dir.join("modules"), loaded: BTreeMap::new() }
    }

    pub(in super::super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// None: it is not here, or damaged.
    pub(in super::super) fn get(&mut self, digest: &Digest, source: &str) -> Option<Arc<ModuleFile>> {
        if let Some(known) = self.loaded.get(digest) {
            return Some(known.clone());
        }
        let bytes = read(&self.dir, digest)?;
        let module = Arc::new(ModuleFile { digest: *digest, source: source.to_owned(), bytes: bytes.into() });
        self.loaded.insert(*digest, module.clone());
        Some(module)
    }

    /// Lets go of what is not wanted any more.
    pub(in super::super) fn retain(&mut self, wanted: &BTreeSet<Digest>) {
        let before = self.loaded.len();
        self.loaded.retain(|digest, _| wanted.contains(digest));
        if self.loaded.len() != before {
            // What cannot be removed now can be removed later.
            let _ = remove_spare(&self.dir, wanted);
        }
    }
}

/// The module with this digest, if it is there and what it should be.
pub(super) fn read(dir: &Path, digest: &Digest) -> Option<Vec<u8>> {
    let bytes = std::fs::read(dir.join(file_name(digest))).ok()?;
    (Digest::of(&bytes) == *digest).then_some(bytes)
}

/// Keeps a module whose digest was checked.
pub(super) fn keep(dir: &Path, digest: &Digest, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut part = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    part.write_all(bytes)?;
    part.as_file().sync_all()?;
    part.persist(dir.join(file_name(digest))).map_err(|error| error.error)?;
    Ok(())
}

fn file_name(digest: &Digest) -> String {
    format!("{}.wasm", hex::encode(digest.0))
}

fn remove_spare(dir: &Path, wanted: &BTreeSet<Digest>) -> std::io::Result<()> {
    let keep: BTreeSet<String> = wanted.iter().map(file_name).collect();
    let mut spare: Vec<(SystemTime, PathBuf)> = Vec::new();
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        if item.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
            spare.push((item.metadata()?.modified()?, item.path()));
        }
    }
    spare.sort();
    let too_many = spare.len().saturating_sub(SPARE_MAX);
    spare.iter().take(too_many).try_for_each(|(_, path)| std::fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_back_only_as_what_its_name_says() {
        let home = tempfile::tempdir().unwrap();
        let mut cache = ModuleCache::new(home.path());
        let digest = Digest::of(b"wasm");
        assert!(cache.get(&digest, "etcd").is_none());
        keep(cache.dir(), &digest, b"wasm").unwrap();
        assert_eq!(&*cache.get(&digest, "etcd").unwrap().bytes, b"wasm");
        cache.retain(&BTreeSet::new());
        std::fs::write(cache.dir().join(file_name(&digest)), b"evil").unwrap();
        assert!(cache.get(&digest, "etcd").is_none(), "damaged on the disk");
    }

    #[test]
    fn what_nobody_wants_goes_when_there_is_a_lot_of_it() {
        let home = tempfile::tempdir().unwrap();
        let mut cache = ModuleCache::new(home.path());
        let digests: Vec<Digest> = (0..20_u8).map(|i| Digest::of(&[i])).collect();
        for (i, digest) in (0..20_u8).zip(&digests) {
            keep(cache.dir(), digest, &[i]).unwrap();
            cache.get(digest, "etcd").unwrap();
        }
        let wanted: BTreeSet<Digest> = digests[..2].iter().copied().collect();
        cache.retain(&wanted);
        assert_eq!(std::fs::read_dir(cache.dir()).unwrap().count(), 2 + SPARE_MAX);
        assert!(wanted.iter().all(|digest| cache.get(digest, "etcd").is_some()));
    }
}

//! Compiled modules on disk, by digest of the module and by engine. A file is only believed when we wrote it (owner, mode)
//! and nothing happened to it since (checksum); otherwise the module is compiled again.
//!
//! ```text
//! <dir, 0700>/<module digest, 64 hex>-<engine, 16 hex>.aot :=
//!     "TMAOT1\n\0"  xxh3-128 of payload (16, LE)  module digest (32)  payload: what wasmtime serialized
//! ```

use crate::digest::Digest;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const MAGIC: &[u8; 8] = b"TMAOT1\n\0";
const HEAD_BYTES: usize = 8 + 16 + 32;

/// A private directory of compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// Names the engine: its version, its settings, this machine's instruction set.
    engine: String,
}

impl Cache {
    /// Makes the directory when it is missing, and throws out what other engines and dead writers left in it.
    pub(crate) fn open(dir: &Path, engine: &wasmtime::Engine) -> Result<Cache, String> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| format!("while making it: {error}"))?;
        let is = fs::symlink_metadata(dir).map_err(|error| format!("while looking at it: {error}"))?;
        if !is.is_dir() {
            return Err("it is not a directory".to_owned());
        }
        if is.uid() != rustix::process::geteuid().as_raw() {
            return Err("it belongs to another user, who could put native code into it".to_owned());
        }
        if is.mode() & 0o077 != 0 {
            fs::set_permissions(dir, Permissions::from_mode(0o700))
                .map_err(|error| format!("while making it private: {error}"))?;
        }
        let cache = Cache { dir: dir.to_owned(), engine: name_of(engine) };
        cache.sweep();
        Ok(cache)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{}.aot", hex::encode(digest.0), self.engine))
    }

    /// What was stored for this module. `None`: nothing that can be believed.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut bytes = read_ours(&self.path(digest)).ok()?;
        if bytes.len() < HEAD_BYTES {
            return None;
        }
        let payload = bytes.split_off(HEAD_BYTES);
        (bytes == head(digest, &payload)).then_some(payload)
    }

    /// Stores it under its final name in one step, so that a reader never sees half a file.
    pub(crate) fn put(&self, digest: &Digest, payload: &[u8]) -> io::Result<()> {
        static TURN: AtomicU64 = AtomicU64::new(0);
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let half = self.dir.join(format!(".{}-{turn}.half", std::process::id()));
        let written = write_private(&half, &[&head(digest, payload), payload])
            .and_then(|()| fs::rename(&half, self.path(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&half);
        }
        written
    }

    /// Leftovers are of no use to anyone. A failure here costs disk space only.
    fn sweep(&self) {
        let ours = format!("-{}.aot", self.engine);
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let foreign = name.ends_with(".aot") && !name.ends_with(&ours);
            if foreign || (name.starts_with('.') && name.ends_with(".half")) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn head(digest: &Digest, payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&xxh3_128(payload).to_le_bytes());
    head.extend_from_slice(&digest.0);
    head
}

fn read_ours(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let is = file.metadata()?;
    if !is.is_file() || is.uid() != rustix::process::geteuid().as_raw() || is.mode() & 0o022 != 0 {
        return Err(io::Error::other("not a file that only we can write"));
    }
    let mut bytes = Vec::with_capacity(is.len() as usize);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_private(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    parts.iter().try_for_each(|part| file.write_all(part))
}

/// 16 hex digits that differ when compiled code would not fit.
fn name_of(engine: &wasmtime::Engine) -> String {
    struct Into128(Xxh3);
    impl Hasher for Into128 {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            self.0.digest()
        }
    }
    let mut hasher = Into128(Xxh3::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    // What the wrapper adds is compiled in too.
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.write(include_str!("preview1.wat").as_bytes());
    hasher.write(crate::wit::TEXT.as_bytes());
    format!("{:016x}", hasher.finish())
}

//! Modules as they lie in etcd, and what of them this node may use.
//!
//! ```text
//! PREFIXmodules/NAME           in force: the release, and the canary beside it       JSON, release.rs
//! PREFIXreleases/NAME/NUMBER   every release that was pushed                         JSON, release.rs
//! PREFIXblobs/HEX              one chunk of a module, zstd, by the sha256 of its plain bytes
//! PREFIXgc                     moved by whoever removes blobs: a push under way begins again
//! ```
//! Everything that is read here was written by others: sizes are bounded before anything is unpacked, digests and signatures
//! are checked before anything is used. This room must never judge what a module does: that is the engine's.

mod cache; // modules on this machine, by content
mod chunks; // bytes to chunks, a chunk to what is stored
mod fetch; // missing modules, one at a time
mod offers; // what a `use` means on this node
mod release; // the records
mod signing; // who said so

pub(super) use cache::ModuleCache;
pub(crate) use chunks::{CHUNK_BYTES_MAX, pack, split, unpack};
pub(super) use fetch::{Fetched, Wanted, fetch};
pub(crate) use offers::FETCHING;
pub(super) use offers::Offers;
pub(crate) use release::{
    CHUNKS_MAX, Canary, Chunk, FORMAT, InForce, MODULE_BYTES_MAX, Release, Share, Step, Thresholds, is_canary,
};
pub use signing::PublicKey;
pub(crate) use signing::{SecretKey, Signature};

/// Key of what is in force.
pub(crate) fn module_key(prefix: &str, name: &str) -> String {
    format!("{prefix}modules/{name}")
}

/// Key of a release. Numbers are padded so that keys sort as numbers do.
pub(crate) fn release_key(prefix: &str, name: &str, number: u64) -> String {
    format!("{prefix}releases/{name}/{number:08}")
}

/// Key of a chunk.
pub(crate) fn blob_key(prefix: &str, chunk: &Chunk) -> String {
    format!("{prefix}blobs/{}", hex::encode(chunk.digest.0))
}

//! What makes a file the same file: a surrogate id, where it lies on the disk, and what stands in it.

use serde::{Deserialize, Serialize};

/// A file's surrogate id: made once when the file is first seen, kept in the store, never derived from path or inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u128);

/// Where a file lies on the disk. The device is a hint (it changes over a reboot on LVM, btrfs, NFS and overlay).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileKey {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Birth time in nanoseconds since the Unix epoch, where the file system tells.
    pub born_ns: Option<i64>,
}

/// What a file's content looked like up to an offset: enough to recognise it under another name or inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The offset up to which the bytes were seen.
    pub at: u64,
    /// Length of the prefix fingerprint in bytes: min(`at`, 1024). It grows with the file.
    pub prefix_len: u32,
    /// xxh3-128 of the first `prefix_len` bytes.
    pub prefix_hash: u128,
    /// Length of the window before `at`: min(`at`, 1024).
    pub window_len: u32,
    /// xxh3-128 of the `window_len` bytes before `at`.
    pub window_hash: u128,
    /// Number of whole 64 KiB blocks folded into `blocks_hash`: `at` / 65536.
    pub blocks: u64,
    /// Running hash of these blocks: h(0) = 0, h(k+1) = xxh3-128(h(k) as 16 little-endian bytes || block k).
    pub blocks_hash: u128,
    /// xxh3-128 of the bytes behind the last whole block, up to `at`.
    pub rest_hash: u128,
}

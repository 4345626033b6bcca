//! What makes a file the same file: a surrogate id, where it lies on the disk, and what stands in it.
//!
//! Hashes and ids are written as 32 hex digits: a JSON number of that size would lose digits.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    /// Length of the prefix fingerprint in bytes: min(`at`, 1024). It grows with the file. With `at` 0: of so many bytes
    /// that were seen and not read.
    pub prefix_len: u32,
    /// xxh3-128 of the first `prefix_len` bytes.
    #[serde(with = "hex128")]
    pub prefix_hash: u128,
    /// Length of the window before `at`: min(`at`, 1024).
    pub window_len: u32,
    /// xxh3-128 of the `window_len` bytes before `at`.
    #[serde(with = "hex128")]
    pub window_hash: u128,
    /// Where the running hash begins: 0, or for a file that was begun at its end the block of that place.
    #[serde(default)]
    pub chain_from: u64,
    /// Number of whole 64 KiB blocks behind `chain_from` folded into `blocks_hash`.
    pub blocks: u64,
    /// Running hash of these blocks: h(0) = 0, h(k+1) = xxh3-128(h(k) as 16 little-endian bytes || block k).
    #[serde(with = "hex128")]
    pub blocks_hash: u128,
    /// xxh3-128(`blocks_hash` as 16 little-endian bytes || the bytes behind the last whole block, up to `at`): it
    /// depends on every byte from `chain_from` to `at`.
    #[serde(with = "hex128")]
    pub rest_hash: u128,
    /// For a compressed file, whose content all of this is of: so many bytes of the file hold no content behind `at` (0
    /// where that is not known). None: the file is not compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed_bytes: Option<u64>,
    /// Number of the physical line that begins at `at`, the first of a file being 1. None: not known. It is no evidence,
    /// and compared with nothing; it is here because it belongs to the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// Not 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file id is 32 hex digits, not `{0}`")]
pub struct BadFileId(String);

impl FileId {
    /// A new id that no other file has: 128 random bits from the kernel.
    pub fn random() -> std::io::Result<FileId> {
        let mut bytes = [0_u8; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Ok(FileId(u128::from_le_bytes(bytes)))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for FileId {
    type Err = BadFileId;
    fn from_str(text: &str) -> Result<Self, BadFileId> {
        parse_hex128(text).map(FileId).ok_or_else(|| BadFileId(text.to_owned()))
    }
}

impl Serialize for FileId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FileKey {
    /// The place of the file that `metadata` was asked of.
    pub fn of(metadata: &Metadata) -> FileKey {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        FileKey {
            device: metadata.dev(),
            inode: metadata.ino(),
            born_ns: born.and_then(|age| i64::try_from(age.as_nanos()).ok()),
        }
    }

    /// Whether both may be the same file although the device number changed (a reboot): same inode, same birth.
    /// Without birth times this never holds; content has to tell.
    pub fn same_but_device(&self, other: &FileKey) -> bool {
        self.inode == other.inode && self.born_ns.is_some() && self.born_ns == other.born_ns
    }
}

/// Exactly 32 hex digits, as they are written.
fn parse_hex128(text: &str) -> Option<u128> {
    let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Serde for a 128-bit hash as 32 hex digits.
mod hex128 {
    use super::{Deserialize, Deserializer, Serializer, parse_hex128};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_hex128(&text).ok_or_else(|| serde::de::Error::custom("a hash is 32 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_id_is_written_as_32_hex_digits_and_read_back() {
        for (id, text) in [
            (0, "00000000000000000000000000000000"),
            (0xab, "000000000000000000000000000000ab"),
            (u128::MAX, "ffffffffffffffffffffffffffffffff"),
        ] {
            assert_eq!(FileId(id).to_string(), text);
            assert_eq!(text.parse(), Ok(FileId(id)));
        }
    }

    #[test]
    fn what_is_not_32_hex_digits_is_no_file_id() {
        for text in ["", "ab", "+0000000000000000000000000000000", "g0000000000000000000000000000000"] {
            assert!(text.parse::<FileId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn two_random_ids_differ() {
        assert_ne!(FileId::random().unwrap(), FileId::random().unwrap());
    }

    #[test]
    fn the_device_number_alone_does_not_make_another_file_but_the_birth_time_does() {
        let key = FileKey { device: 1, inode: 7, born_ns: Some(5) };
        assert!(key.same_but_device(&FileKey { device: 2, ..key }));
        assert!(!key.same_but_device(&FileKey { born_ns: Some(6), ..key }));
        assert!(!key.same_but_device(&FileKey { inode: 8, ..key }));
        let unborn = FileKey { born_ns: None, ..key };
        assert!(!unborn.same_but_device(&unborn));
    }
}

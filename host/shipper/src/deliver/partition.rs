//! Which partition a record goes to.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::parcel::PartitionChoice;
use super::refusal::Refusal;

/// The partition of a stream: the same for a file and its rotated successors, since `home` is where it was first seen.
/// `partitions` is at least 1.
pub fn stream_partition(entry: &str, home: &Path, partitions: i32) -> i32 {
    let mut hasher = Xxh3::new();
    hasher.update(entry.as_bytes());
    hasher.update(&[0]);
    hasher.update(home.as_os_str().as_bytes());
    // The remainder is below `partitions`.
    (hasher.digest() % partitions.max(1) as u64) as i32
}

/// The partition of a key, as the Java client's default partitioner chooses it. `partitions` is at least 1.
pub(super) fn key_partition(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1)
}

/// How the records of a run find their partitions.
pub(super) struct Target {
    way: Way,
    partitions: i32,
    /// Of the last record; the next one takes the next.
    pub(super) round_robin: u32,
}

enum Way {
    Single(i32),
    /// By key; records without one go to this partition.
    Key(i32),
    RoundRobin,
}

impl Target {
    /// `chance`: a partition picked at random.
    pub(super) fn of(
        choice: &PartitionChoice,
        topic: usize,
        name: &str,
        partitions: i32,
        chance: i32,
        round_robin: u32,
    ) -> Result<Target, Refusal> {
        let number = match choice {
            PartitionChoice::PerTopic(numbers) => numbers.get(topic).copied().unwrap_or(-1),
            PartitionChoice::Number(number) => *number,
            PartitionChoice::Key | PartitionChoice::RoundRobin | PartitionChoice::Random => chance,
        };
        // librdkafka would take it, and fail it much later or leak it.
        if !(0..partitions).contains(&number) {
            return Err(Refusal::no_partition(name, number, partitions));
        }
        let way = match choice {
            PartitionChoice::Key => Way::Key(number),
            PartitionChoice::RoundRobin => Way::RoundRobin,
            _ => Way::Single(number),
        };
        Ok(Target { way, partitions, round_robin })
    }

    pub(super) fn single(&self) -> Option<i32> {
        match self.way {
            Way::Single(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn choose(&mut self, key: Option<&[u8]>) -> i32 {
        match (&self.way, key) {
            (Way::Single(number), _) | (Way::Key(number), None) => *number,
            (Way::Key(_), Some(key)) => key_partition(key, self.partitions),
            (Way::RoundRobin, _) => {
                self.round_robin = self.round_robin.wrapping_add(1);
                (self.round_robin % self.partitions as u32) as i32
            }
        }
    }
}

/// murmur2 with the seed and the constants of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// A cheap source of numbers that need not be good, only spread (splitmix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new() -> Dice {
        use std::hash::{BuildHasher, Hasher};
        Dice(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    pub(super) fn roll(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_the_java_client() {
        // The vectors of the Java client's own UtilsTest.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!(key_partition(b"foobar", 7), (-790_332_482_i32 & 0x7fff_ffff) % 7);
    }

    #[test]
    fn a_streams_number_depends_on_entry_and_home_and_lies_in_range() {
        let of = |entry: &str, home: &str, partitions| stream_partition(entry, Path::new(home), partitions);
        assert_eq!(of("web", "/var/log/a", 12), of("web", "/var/log/a", 12));
        let spread: std::collections::BTreeSet<i32> =
            (0..200).map(|file| of("web", &format!("/var/log/{file}"), 12)).collect();
        assert_eq!(spread.into_iter().collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
        assert_eq!(of("web", "/var/log/a", 1), 0);
        let differs = (0..50).any(|file| of("a", &format!("b/{file}"), 1000) != of("ab", &format!("/{file}"), 1000));
        assert!(differs, "entry and path must not run together");
    }
}

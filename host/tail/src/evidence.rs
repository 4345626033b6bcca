//! Evidence of a file's content: computed while its bytes are handed out, and compared with a file on the disk.
//!
//! ```text
//!  0        1024                                            blocks * 64 KiB       at
//!  |-prefix--|  ...  |-- block --|-- block --| ...  |-- block --|----- rest ------|
//!                    ^ chain_from: 0, unless the file was begun at its end    |-window-|
//! ```
//!
//! One hash pass over every byte: the rest is hashed behind the hash of the blocks before it, so that `rest_hash` is a
//! running hash of everything, and reading can go on from it after at most one block was read again.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::identity::Evidence;
use crate::reader::ReadError;

/// Bytes of one block of the running hash.
pub const BLOCK_BYTES: u64 = 64 * 1024;
/// Bytes of the prefix fingerprint and of the window.
pub const FINGERPRINT_BYTES: usize = 1024;
/// A file without evidence that is begun farther in than this (at its end) is not read up to there; its running hash
/// begins at the block of that place.
const UNREAD_BYTES_MAX: u64 = 1024 * 1024;

/// What comparing a file with evidence came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The file holds what the evidence says (as far as was looked).
    Same,
    /// It holds something else.
    Different,
    /// It is too short to hold it.
    Shorter {
        /// Its size.
        size: u64,
    },
}

impl Evidence {
    /// So many of the first bytes are known: those that were read, or of a file of which nothing was read those that were
    /// seen.
    pub(crate) fn proven(&self) -> u64 {
        self.at.max(u64::from(self.prefix_len))
    }

    /// Before anything was read: the file begins with these bytes. More of them prove more.
    pub(crate) fn note_beginning(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(FINGERPRINT_BYTES)];
        if self.at == 0 && bytes.len() > self.prefix_len as usize {
            (self.prefix_len, self.prefix_hash) = (bytes.len() as u32, xxh3_128(bytes)); // at most 1024
        }
    }

    /// Compares prefix and window: two short reads. Without any byte seen, every file fits. Of a compressed file only the
    /// prefix: its window is far from cheap.
    pub fn check(&self, file: &File) -> io::Result<Verdict> {
        if self.packed_bytes.is_some() {
            return crate::unpack::check(file, self, false);
        }
        if self.proven() == 0 {
            return Ok(Verdict::Same);
        }
        let size = file.metadata()?.len();
        if size < self.proven() {
            return Ok(Verdict::Shorter { size });
        }
        let (prefix_len, window_len) = (self.prefix_len as usize, self.window_len as usize);
        if prefix_len > FINGERPRINT_BYTES || window_len > FINGERPRINT_BYTES || self.window_len as u64 > self.at {
            return Ok(Verdict::Different); // damaged: nothing of ours
        }
        let mut buffer = [0_u8; FINGERPRINT_BYTES];
        for (len, at, hash) in
            [(prefix_len, 0, self.prefix_hash), (window_len, self.at - u64::from(self.window_len), self.window_hash)]
        {
            if !read_full(file, &mut buffer[..len], at)? {
                return Ok(Verdict::Shorter { size: file.metadata()?.len() });
            }
            if len > 0 && xxh3_128(&buffer[..len]) != hash {
                return Ok(Verdict::Different);
            }
        }
        Ok(Verdict::Same)
    }

    /// Compares every byte that the evidence is of (from `chain_from` on): reads the file up to `at`.
    pub fn check_all(&self, file: &File) -> io::Result<Verdict> {
        if self.packed_bytes.is_some() {
            return crate::unpack::check(file, self, true);
        }
        let quick = self.check(file)?;
        if quick != Verdict::Same || self.at == 0 {
            return Ok(quick);
        }
        let mut running = Running::begin(self.chain_from);
        if !running.feed_file(file, self.at)? {
            return Ok(Verdict::Shorter { size: file.metadata()?.len() });
        }
        Ok(if running.agrees_with(self) { Verdict::Same } else { Verdict::Different })
    }
}

/// Evidence that grows with the bytes that are fed to it.
#[derive(Clone)]
pub(crate) struct Running {
    at: u64,
    prefix_len: u32,
    prefix_hash: u128,
    /// The last min(`at`, 1024) bytes before `at`.
    window: Vec<u8>,
    chain: Chain,
}

#[derive(Clone)]
struct Chain {
    from: u64,
    blocks: u64,
    blocks_hash: u128,
    /// Fed with `blocks_hash` and the bytes behind the last whole block.
    state: Xxh3,
    /// Bytes behind the last whole block; less than `BLOCK_BYTES`.
    rest_bytes: u64,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?})", self.evidence())
    }
}

impl Running {
    /// Nothing seen yet, at `from`.
    pub(crate) fn begin(from: u64) -> Running {
        let chain = Chain { from, blocks: 0, blocks_hash: 0, state: seeded(0), rest_bytes: 0 };
        Running { at: from, prefix_len: 0, prefix_hash: 0, window: Vec::new(), chain }
    }

    /// Takes up `evidence` in `file` and goes on to `from`. The file is refused unless it holds what the evidence says:
    /// prefix, window, and every byte behind the last whole block.
    pub(crate) fn resume(file: &File, evidence: &Evidence, from: u64) -> Result<Running, ReadError> {
        if evidence.at > from {
            return Err(ReadError::EvidenceAhead { at: evidence.at, wanted: from });
        }
        match evidence.check(file)? {
            Verdict::Same => {}
            Verdict::Different => return Err(ReadError::OtherContent),
            Verdict::Shorter { size } => return Err(ReadError::TooShort { size, wanted: from }),
        }
        let mut running = if evidence.at > 0 {
            let whole_blocks = evidence.blocks.checked_mul(BLOCK_BYTES);
            let rest_from = whole_blocks.and_then(|bytes| bytes.checked_add(evidence.chain_from));
            let Some(rest_from) = rest_from.filter(|&rest_from| rest_from <= evidence.at) else {
                return Err(ReadError::OtherContent); // damaged: nothing of ours
            };
            let mut running = Running::begin(rest_from);
            running.chain = Chain {
                from: evidence.chain_from,
                blocks: evidence.blocks,
                blocks_hash: evidence.blocks_hash,
                state: seeded(evidence.blocks_hash),
                rest_bytes: 0,
            };
            running
        } else {
            Running::begin(if from > UNREAD_BYTES_MAX { from - from % BLOCK_BYTES } else { 0 })
        };
        if evidence.at > 0 {
            if !running.feed_file(file, evidence.at)? {
                return Err(ReadError::TooShort { size: file.metadata()?.len(), wanted: from });
            }
            if running.chain.state.digest128() != evidence.rest_hash || running.chain.blocks != evidence.blocks {
                return Err(ReadError::OtherContent);
            }
        }
        if !running.feed_file(file, from)? || !running.look_back(file)? {
            return Err(ReadError::TooShort { size: file.metadata()?.len(), wanted: from });
        }
        if running.at == 0 {
            (running.prefix_len, running.prefix_hash) = (evidence.prefix_len, evidence.prefix_hash);
        }
        Ok(running)
    }

    /// Whether the running hash is that of `evidence`, all of whose bytes were fed.
    pub(crate) fn agrees_with(&self, evidence: &Evidence) -> bool {
        let chain = &self.chain;
        evidence.at == 0
            || (chain.blocks == evidence.blocks
                && chain.blocks_hash == evidence.blocks_hash
                && chain.state.digest128() == evidence.rest_hash)
    }

    /// Offset behind the last byte fed.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The last min(`at`, 1024) bytes.
    pub(crate) fn window(&self) -> &[u8] {
        &self.window
    }

    /// As [`Evidence::note_beginning`].
    pub(crate) fn note_beginning(&mut self, bytes: &[u8]) {
        if self.at == 0 {
            let mut evidence = self.evidence();
            evidence.note_beginning(bytes);
            (self.prefix_len, self.prefix_hash) = (evidence.prefix_len, evidence.prefix_hash);
        }
    }

    /// Evidence at `at`.
    pub(crate) fn evidence(&self) -> Evidence {
        if self.at == 0 {
            let prefix_hash = if self.prefix_len > 0 { self.prefix_hash } else { 0 };
            return Evidence { prefix_len: self.prefix_len, prefix_hash, ..Evidence::default() };
        }
        Evidence {
            at: self.at,
            prefix_len: self.prefix_len,
            prefix_hash: self.prefix_hash,
            window_len: self.window.len() as u32, // at most 1024
            window_hash: xxh3_128(&self.window),
            chain_from: self.chain.from,
            blocks: self.chain.blocks,
            blocks_hash: self.chain.blocks_hash,
            rest_hash: self.chain.state.digest128(),
            packed_bytes: None,
            line: None,
        }
    }

    /// Takes in the bytes that lie behind `at`.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.at < FINGERPRINT_BYTES as u64 {
            self.grow_prefix(bytes);
        }
        if bytes.len() >= FINGERPRINT_BYTES {
            self.window.clear();
            self.window.extend_from_slice(&bytes[bytes.len() - FINGERPRINT_BYTES..]);
        } else {
            let surplus = (self.window.len() + bytes.len()).saturating_sub(FINGERPRINT_BYTES);
            self.window.drain(..surplus);
            self.window.extend_from_slice(bytes);
        }
        self.chain.feed(bytes);
        self.at += bytes.len() as u64;
    }

    /// As long as fewer than 1024 bytes were seen, the window is all of them.
    fn grow_prefix(&mut self, bytes: &[u8]) {
        let missing = FINGERPRINT_BYTES - self.window.len();
        let mut prefix = self.window.clone();
        prefix.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        self.prefix_len = prefix.len() as u32; // at most 1024
        self.prefix_hash = xxh3_128(&prefix);
    }

    /// Feeds the file's bytes up to `to`; false when it ends before.
    fn feed_file(&mut self, file: &File, to: u64) -> io::Result<bool> {
        let mut buffer = vec![0_u8; (to - self.at).min(BLOCK_BYTES) as usize]; // at most 64 KiB
        while self.at < to {
            let part = (to - self.at).min(buffer.len() as u64) as usize; // at most 64 KiB
            if !read_full(file, &mut buffer[..part], self.at)? {
                return Ok(false);
            }
            self.feed(&buffer[..part]);
        }
        Ok(true)
    }

    /// Prefix and window from the file, where feeding did not begin at its start; false when it is too short.
    fn look_back(&mut self, file: &File) -> io::Result<bool> {
        let len = self.at.min(FINGERPRINT_BYTES as u64) as usize; // at most 1024
        self.window.resize(len, 0);
        if !read_full(file, &mut self.window, 0)? {
            return Ok(false);
        }
        self.prefix_len = len as u32;
        self.prefix_hash = xxh3_128(&self.window);
        read_full(file, &mut self.window, self.at - len as u64)
    }
}

impl Chain {
    fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let room = (BLOCK_BYTES - self.rest_bytes) as usize; // at most 64 KiB
            if bytes.len() < room {
                self.state.update(bytes);
                self.rest_bytes += bytes.len() as u64;
                return;
            }
            let (block_end, behind) = bytes.split_at(room);
            self.state.update(block_end);
            self.blocks += 1;
            self.blocks_hash = self.state.digest128();
            self.state = seeded(self.blocks_hash);
            self.rest_bytes = 0;
            bytes = behind;
        }
    }
}

/// A hash state that was fed with the hash of the blocks before.
fn seeded(blocks_hash: u128) -> Xxh3 {
    let mut state = Xxh3::new();
    state.update(&blocks_hash.to_le_bytes());
    state
}

/// Fills `buffer` from `at`; false when the file ends before.
pub(crate) fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    fn evidence_of(content: &[u8]) -> Evidence {
        let mut running = Running::begin(0);
        running.feed(content);
        running.evidence()
    }

    const SIZES: [usize; 11] = [1, 2, 1023, 1024, 1025, 65_535, 65_536, 65_537, 131_072, 200_000, 400_001];

    #[test]
    fn evidence_does_not_depend_on_the_pieces_it_was_fed_in() {
        for size in SIZES {
            let content = noise(size);
            for piece in [1, 7, 1000, 1024, 65_536, 100_000] {
                let mut running = Running::begin(0);
                content.chunks(piece).for_each(|bytes| running.feed(bytes));
                assert_eq!(running.evidence(), evidence_of(&content), "{size} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn evidence_resumed_at_any_place_comes_to_the_same_as_without_a_break() {
        for size in SIZES {
            let content = noise(size);
            let file = file_of(&content);
            for at in [0, 1, size / 3, size / 2, size - 1, size] {
                for from in [at, (at + size) / 2, size] {
                    let resumed = Running::resume(&file, &evidence_of(&content[..at]), from as u64).unwrap();
                    assert_eq!(resumed.evidence(), evidence_of(&content[..from]), "{size}: {at} -> {from}");
                    assert_eq!(resumed.window(), &content[from - from.min(1024)..from]);
                }
            }
        }
    }

    #[test]
    fn a_file_that_went_on_growing_is_the_same() {
        for size in SIZES {
            let mut content = noise(size);
            let evidence = evidence_of(&content);
            content.extend_from_slice(b"more");
            let file = file_of(&content);
            assert_eq!(evidence.check(&file).unwrap(), Verdict::Same);
            assert_eq!(evidence.check_all(&file).unwrap(), Verdict::Same);
        }
    }

    #[test]
    fn a_file_that_differs_in_one_byte_is_another_where_that_byte_is_looked_at() {
        let content = noise(200_000);
        let evidence = evidence_of(&content);
        for (at, quick, resumed) in [
            (0, false, false),
            (1023, false, false),
            (199_999, false, false),
            (198_977, false, false),
            (196_608, true, false),
            (100_000, true, true),
        ] {
            let mut other = content.clone();
            other[at] ^= 1;
            let file = file_of(&other);
            assert_eq!(evidence.check(&file).unwrap() == Verdict::Same, quick, "byte {at}");
            assert_eq!(Running::resume(&file, &evidence, 200_000).is_ok(), resumed, "byte {at}");
            assert_eq!(evidence.check_all(&file).unwrap(), Verdict::Different, "byte {at}");
        }
    }

    #[test]
    fn a_shorter_file_is_told_from_a_different_one() {
        let evidence = evidence_of(&noise(5000));
        let file = file_of(&noise(4999));
        assert_eq!(evidence.check(&file).unwrap(), Verdict::Shorter { size: 4999 });
        assert!(matches!(Running::resume(&file, &evidence, 5000), Err(ReadError::TooShort { size: 4999, .. })));
    }

    #[test]
    fn a_million_equal_heartbeats_and_a_few_more_differ_in_the_running_hash() {
        let short = b"heartbeat ok\n".repeat(100_000);
        let long = b"heartbeat ok\n".repeat(100_001);
        assert_ne!(evidence_of(&short).rest_hash, evidence_of(&long).rest_hash);
        assert_eq!(evidence_of(&short).check_all(&file_of(&long)).unwrap(), Verdict::Same);
        assert!(matches!(evidence_of(&long).check_all(&file_of(&short)).unwrap(), Verdict::Shorter { .. }));
    }

    #[test]
    fn a_file_begun_at_its_end_is_not_read_up_to_there() {
        let content = noise(3_000_000);
        let file = file_of(&content);
        let running = Running::resume(&file, &Evidence::default(), 3_000_000).unwrap();
        let evidence = running.evidence();
        assert_eq!(evidence.chain_from, 3_000_000 - 3_000_000 % BLOCK_BYTES);
        assert_eq!(evidence.check_all(&file).unwrap(), Verdict::Same);
        let again = Running::resume(&file, &evidence, 3_000_000).unwrap();
        assert_eq!(again.evidence(), evidence);
    }

    #[test]
    fn evidence_is_written_as_json_without_losing_a_digit() {
        let evidence = evidence_of(&noise(70_000));
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    }

    #[test]
    fn evidence_that_was_damaged_is_refused_without_a_panic() {
        let content = noise(200_000);
        let file = file_of(&content);
        let good = evidence_of(&content);
        for bad in [
            Evidence { blocks: u64::MAX, ..good },
            Evidence { blocks: good.blocks + 1, ..good },
            Evidence { chain_from: u64::MAX, ..good },
            Evidence { window_len: u32::MAX, ..good },
            Evidence { prefix_len: 4096, ..good },
            Evidence { blocks_hash: 1, ..good },
        ] {
            assert!(matches!(Running::resume(&file, &bad, 200_000), Err(ReadError::OtherContent)), "{bad:?}");
        }
    }
}

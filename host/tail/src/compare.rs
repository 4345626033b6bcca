//! Comparing a whole file with evidence, a bounded number of bytes at a time.
//!
//! In: a file (plain, or compressed: then its content counts) and what is known of another. Out: whether everything
//! that was read of the other stands at its beginning, and whether it ends right there. A copy may be huge: `step` reads
//! no more than it is allowed to, and goes on where it was.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_128;

use crate::evidence::{FINGERPRINT_BYTES, Running, Verdict};
use crate::identity::Evidence;
use crate::packed::{Content, Packing};

/// Bytes read in one go.
const PART_BYTES: usize = 64 * 1024;
/// So many bytes before the end of the evidence tell whether it repeats itself.
const TAIL_BYTES: usize = 4 * FINGERPRINT_BYTES;

/// What it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// There is more to compare.
    Working,
    /// Something else stands in it, or not enough.
    Different,
    /// Everything that was read of the other stands at its beginning.
    Same {
        /// The bytes repeat themselves: another file may be full of the same.
        monotonous: bool,
        /// Nothing stands behind what was read.
        ends: bool,
    },
}

/// One file compared with what is known of another.
pub(crate) struct Comparison {
    evidence: Evidence,
    /// The first bytes that were seen, perhaps none.
    beginning: Vec<u8>,
    /// Up to where the other was read. Invariant: not before `evidence.at`.
    offset: u64,
    source: Source,
    begun: bool,
    /// Next byte of the content.
    at: u64,
    chain: Running,
    /// The first bytes of a compressed file's content.
    prefix: Vec<u8>,
    /// The last bytes before `at`.
    tail: Vec<u8>,
}

enum Source {
    Plain(File),
    Packed(Content),
}

impl std::fmt::Debug for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Comparison(at {} of {})", self.at, self.evidence.at)
    }
}

impl Comparison {
    /// Nothing read yet. `packing`: how the file is compressed.
    pub(crate) fn new(
        file: File,
        packing: Option<Packing>,
        evidence: &Evidence,
        offset: u64,
        beginning: &[u8],
    ) -> io::Result<Comparison> {
        let source = match packing {
            Some(packing) => Source::Packed(packing.unpack(file)?),
            None => Source::Plain(file),
        };
        let at = if packing.is_some() { 0 } else { evidence.chain_from };
        Ok(Comparison {
            evidence: *evidence,
            beginning: beginning.to_vec(),
            offset: offset.max(evidence.at),
            source,
            begun: false,
            at,
            chain: Running::begin(evidence.chain_from),
            prefix: Vec::new(),
            tail: Vec::new(),
        })
    }

    /// Compares about `budget` bytes more, and takes them off it.
    pub(crate) fn step(&mut self, budget: &mut u64) -> io::Result<Compared> {
        if !std::mem::replace(&mut self.begun, true) && !self.begins_alike()? {
            return Ok(Compared::Different);
        }
        let mut buffer = vec![0; PART_BYTES];
        while self.at < self.last() {
            if *budget == 0 {
                return Ok(Compared::Working);
            }
            let got = self.read(&mut buffer)?;
            if got == 0 {
                return Ok(Compared::Different);
            }
            *budget = budget.saturating_sub(got as u64);
            if !self.take(&buffer[..got]) {
                return Ok(Compared::Different);
            }
        }
        self.conclude()
    }

    /// Behind this nothing has to be read.
    fn last(&self) -> u64 {
        match self.source {
            Source::Plain(_) => self.evidence.at,
            Source::Packed(_) => self.offset.max(self.beginning.len() as u64).max(self.evidence.proven()),
        }
    }

    /// What can be said of a plain file at once.
    fn begins_alike(&mut self) -> io::Result<bool> {
        let Source::Plain(file) = &self.source else { return Ok(true) };
        if file.metadata()?.len() < self.offset || self.evidence.check(file)? != Verdict::Same {
            return Ok(false);
        }
        let mut beginning = vec![0; self.beginning.len()];
        Ok(crate::evidence::read_full(file, &mut beginning, 0)? && beginning == self.beginning)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A part ends where what it counts for changes.
        let stops = [self.evidence.chain_from, self.evidence.at, self.evidence.proven(), self.last()];
        let stop = stops.into_iter().filter(|stop| *stop > self.at).min().unwrap_or(self.at);
        let part = (stop - self.at).min(buffer.len() as u64) as usize; // at most 64 KiB
        let buffer = &mut buffer[..part];
        loop {
            let got = match &mut self.source {
                Source::Plain(file) => file.read_at(buffer, self.at),
                Source::Packed(content) => content.read(buffer),
            };
            match got {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Takes in content; false: it is different already.
    fn take(&mut self, bytes: &[u8]) -> bool {
        if self.at >= self.evidence.chain_from && self.at < self.evidence.at {
            self.chain.feed(bytes);
        }
        if self.at < self.evidence.proven() {
            let surplus = (self.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES);
            self.tail.drain(..surplus.min(self.tail.len()));
            self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        }
        self.at += bytes.len() as u64;
        if matches!(self.source, Source::Plain(_)) || self.prefix.len() >= FINGERPRINT_BYTES {
            return true;
        }
        self.prefix.extend_from_slice(&bytes[..bytes.len().min(FINGERPRINT_BYTES - self.prefix.len())]);
        let known = (self.evidence.prefix_len as usize).min(FINGERPRINT_BYTES);
        let shared = self.prefix.len().min(self.beginning.len());
        self.prefix[..shared] == self.beginning[..shared]
            && (known == 0 || self.prefix.len() < known || xxh3_128(&self.prefix[..known]) == self.evidence.prefix_hash)
    }

    fn conclude(&mut self) -> io::Result<Compared> {
        if !self.chain.agrees_with(&self.evidence) {
            return Ok(Compared::Different);
        }
        let (ends, monotonous) = match &mut self.source {
            Source::Plain(file) => {
                let proven = self.evidence.proven();
                let mut tail = vec![0; proven.min(TAIL_BYTES as u64) as usize]; // at most 4 KiB
                let from = proven - tail.len() as u64;
                file.read_exact_at(&mut tail, from)?;
                (file.metadata()?.len() == self.offset, is_monotonous(&tail))
            }
            Source::Packed(content) => {
                // Without this a file that is still being compressed would count as all of it.
                let ends = content.read(&mut [0])? == 0;
                let window = (self.evidence.window_len as usize).min(self.tail.len());
                if self.evidence.at > 0 && xxh3_128(&self.tail[self.tail.len() - window..]) != self.evidence.window_hash
                {
                    return Ok(Compared::Different);
                }
                (ends, is_monotonous(&self.tail))
            }
        };
        Ok(Compared::Same { monotonous, ends })
    }
}

/// Whether the bytes repeat themselves: equal heartbeats prove nothing, another file may be full of them too. A period
/// of up to half of the bytes counts.
pub(crate) fn is_monotonous(bytes: &[u8]) -> bool {
    let len = bytes.len();
    (1..=len / 2).any(|period| bytes[period..] == bytes[..len - period])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn numbered(lines: usize) -> Vec<u8> {
        (0..lines).flat_map(|i| format!("line {i}\n").into_bytes()).collect()
    }

    fn evidence(content: &[u8], from: u64, at: u64) -> Evidence {
        Running::resume(&file(content), &Evidence::default(), from)
            .map(|mut running| {
                running.feed(&content[from as usize..at as usize]);
                running.evidence()
            })
            .unwrap()
    }

    /// The same whatever the budget of a step, and for the plain and the compressed file.
    fn check(content: &[u8], evidence: &Evidence, offset: u64, beginning: &[u8], expected: Compared) {
        let packed = zstd::encode_all(content, 1).unwrap();
        for (bytes, packing) in [(content, None), (&packed, Some(Packing::Zstd))] {
            for step in [1, 100_000, u64::MAX] {
                let mut comparison = Comparison::new(file(bytes), packing, evidence, offset, beginning).unwrap();
                let outcome = loop {
                    match comparison.step(&mut { step }).unwrap() {
                        Compared::Working => {}
                        other => break other,
                    }
                };
                assert_eq!(outcome, expected, "{packing:?}, {step} bytes a step");
            }
        }
    }

    #[test]
    fn a_copy_is_the_same_up_to_the_offset_and_tells_whether_it_ends_there() {
        let content = numbered(100_000);
        let all = content.len() as u64;
        for at in [1, 500, 1024, 65_536, 200_001, all] {
            let known = evidence(&content, 0, at);
            let ends = at == all;
            let monotonous = is_monotonous(&content[(at as usize).saturating_sub(4096)..at as usize]);
            check(&content, &known, at, b"line", Compared::Same { monotonous, ends });
            check(&content, &known, all, b"", Compared::Same { monotonous, ends: true });
            check(&content, &known, all + 1, b"", Compared::Different);
            check(&content[..at as usize - 1], &known, at, b"", Compared::Different);
        }
        let nothing = Evidence::default();
        check(&content, &nothing, 0, b"line 0\n", Compared::Same { monotonous: false, ends: false });
        check(&content, &nothing, 0, b"line 1\n", Compared::Different);
    }

    #[test]
    fn one_byte_anywhere_makes_it_different() {
        let content = numbered(100_000);
        let at = 900_000;
        let known = evidence(&content, 0, at);
        for changed in [0, 1023, 1024, 65_536, 500_000, at as usize - 1] {
            let mut other = content.clone();
            other[changed] ^= 1;
            check(&other, &known, at, b"", Compared::Different);
        }
        let mut other = content.clone();
        other[at as usize] ^= 1;
        check(&other, &known, at, b"", Compared::Same { monotonous: false, ends: false });
    }

    #[test]
    fn a_file_that_was_begun_at_its_end_is_compared_from_there() {
        let content = numbered(300_000);
        let (from, at) = (2_000_000, 3_000_000);
        let known = evidence(&content, from, at);
        assert!(known.chain_from > 1_000_000);
        check(&content, &known, at, b"line", Compared::Same { monotonous: false, ends: false });
        let mut other = content;
        other[2_500_000] ^= 1;
        check(&other, &known, at, b"", Compared::Different);
    }

    #[test]
    fn equal_lines_are_monotonous_and_lines_with_a_number_are_not() {
        assert!(is_monotonous(&b"heartbeat ok\n".repeat(1000)));
        assert!(is_monotonous(&b"one\ntwo\n".repeat(200)));
        assert!(is_monotonous(&[0; 5000]));
        assert!(!is_monotonous(&numbered(500)));
    }
}

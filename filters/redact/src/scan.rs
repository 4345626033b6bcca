//! One pass over a line that finds the pairs of bytes by which secrets give themselves away: the end of a key and `=`, the
//! `AK` of `AKIA`, whatever stands before an `@`.
//!
//! Each kind of pair is a bit. Two tables of 16 (low and high half of a byte) say for which kinds a byte may come first, two
//! more for which it may come second; a pair whose bits have something in common is a hit. 16 bytes at a time where there
//! is SIMD. Halves are looked up apart, so there are false hits: whoever gets one looks closer.

/// Kinds of pairs, one bit each.
pub(crate) const KEYED: u8 = 1;
pub(crate) const JWT: u8 = 1 << 1;
pub(crate) const AWS_KEY: u8 = 1 << 2;
pub(crate) const AWS_SESSION: u8 = 1 << 3;
pub(crate) const PREFIXED: u8 = 1 << 4;
pub(crate) const SLACK: u8 = 1 << 5;
pub(crate) const SCHEME: u8 = 1 << 6;
pub(crate) const AT: u8 = 1 << 7;

/// Kind, first bytes, second bytes.
const PAIRS: [(u8, &[u8], &[u8]); 7] = [
    // The last letters of the keys, and what may stand between a key and what follows it.
    (KEYED, b"delntyDELNTY\"' \\", b"=:"),
    (JWT, b"y", b"J"),
    (AWS_KEY, b"A", b"K"),
    (AWS_SESSION, b"S", b"I"),
    (PREFIXED, b"pousrte", b"_"),
    (SLACK, b"x", b"o"),
    (SCHEME, b"B", b"ea"),
];

/// For which kinds a low and a high half of a byte may come first or second.
struct Halves {
    low: [u8; 16],
    high: [u8; 16],
}

const FIRST: Halves = {
    let mut halves = Halves { low: [AT; 16], high: [AT; 16] };
    let mut at = 0;
    while at < PAIRS.len() {
        halves = halves.with(PAIRS[at].0, PAIRS[at].1);
        at += 1;
    }
    halves
};

const SECOND: Halves = {
    let mut halves = Halves { low: [0; 16], high: [0; 16] }.with(AT, b"@");
    let mut at = 0;
    while at < PAIRS.len() {
        halves = halves.with(PAIRS[at].0, PAIRS[at].2);
        at += 1;
    }
    halves
};

impl Halves {
    const fn with(mut self, kind: u8, bytes: &[u8]) -> Halves {
        let mut at = 0;
        while at < bytes.len() {
            self.low[(bytes[at] & 15) as usize] |= kind;
            self.high[(bytes[at] >> 4) as usize] |= kind;
            at += 1;
        }
        self
    }

    #[inline]
    fn kinds(&self, byte: u8) -> u8 {
        self.low[usize::from(byte & 15)] & self.high[usize::from(byte >> 4)]
    }
}

/// Calls `each` for every hit, left to right: the place of the second byte, and the kinds.
#[inline]
pub(crate) fn pairs(line: &[u8], mut each: impl FnMut(usize, u8)) {
    let mut hit = |at: usize| each(at + 1, FIRST.kinds(line[at]) & SECOND.kinds(line[at + 1]));
    let mut at = 0;
    // A block is 16 pairs, so 17 bytes.
    while let Some(block) = line.get(at..at + 17) {
        let mut hits = block_hits(block);
        while hits != 0 {
            hit(at + hits.trailing_zeros() as usize);
            hits &= hits - 1;
        }
        at += 16;
    }
    for at in at..line.len().saturating_sub(1) {
        if FIRST.kinds(line[at]) & SECOND.kinds(line[at + 1]) != 0 {
            hit(at);
        }
    }
}

/// One bit for each of 16 pairs.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline]
fn block_hits(block: &[u8]) -> u32 {
    use core::arch::wasm32::{i8x16_bitmask, i8x16_ne, i8x16_splat, u8x16_shr, u8x16_swizzle, v128, v128_and};
    use tailmill_filters_shared::vector;

    let kinds = |bytes: v128, halves: &Halves| {
        let low = u8x16_swizzle(vector(&halves.low), v128_and(bytes, i8x16_splat(15)));
        let high = u8x16_swizzle(vector(&halves.high), u8x16_shr(bytes, 4));
        v128_and(low, high)
    };
    let common = v128_and(kinds(vector(&block[..16]), &FIRST), kinds(vector(&block[1..17]), &SECOND));
    u32::from(i8x16_bitmask(i8x16_ne(common, i8x16_splat(0))))
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline]
fn block_hits(block: &[u8]) -> u32 {
    let hit = |at: usize| u32::from(FIRST.kinds(block[at]) & SECOND.kinds(block[at + 1]) != 0) << at;
    (0..16).map(hit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_found_wherever_it_stands() {
        for (kind, firsts, seconds) in PAIRS.into_iter().chain([(AT, &b"a\xff@"[..], &b"@"[..])]) {
            for (first, second) in firsts.iter().flat_map(|first| seconds.iter().map(move |second| (*first, *second))) {
                for before in 0..40 {
                    let mut line = vec![b'0'; before + 2 + (before * 7) % 20];
                    (line[before], line[before + 1]) = (first, second);
                    let mut found = Vec::new();
                    pairs(&line, |at, kinds| found.push((at, kinds & kind)));
                    assert!(found.contains(&(before + 1, kind)), "{first} {second} at {before}");
                }
            }
        }
    }

    #[test]
    fn an_ordinary_line_has_few_hits() {
        let line = b"2024-01-15T10:22:33.123Z INFO  service[3]: GET /api/v1/items/17 200 12ms all is well path=/a/b";
        let mut hits = 0;
        pairs(line, |_, _| hits += 1);
        assert!(hits <= 1, "{hits} hits");
        pairs(b"", |_, _| panic!("no pair"));
        pairs(b"@", |_, _| panic!("no pair"));
    }
}

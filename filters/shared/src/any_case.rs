//! Looks for a text in any case (of ASCII letters, as patterns do): where its first and its last byte stand at the right
//! distance, the rest is compared. 16 places at a time where there is SIMD.

/// A text to look for.
pub struct AnyCase {
    text: Vec<u8>,
    first: Folded,
    last: Folded,
}

/// A byte, and the bit that may differ.
#[derive(Clone, Copy)]
struct Folded {
    byte: u8,
    case: u8,
}

/// Bytes of a text; no word is longer.
const TEXT_BYTES_MAX: usize = 64;

/// Places that are looked at together.
const BLOCK: usize = 16;

impl AnyCase {
    /// `None`: an empty text, or one so long that a line made for it would be compared again and again.
    pub fn new(text: &[u8]) -> Option<AnyCase> {
        (text.len() <= TEXT_BYTES_MAX).then_some(())?;
        Some(AnyCase { first: Folded::new(*text.first()?), last: Folded::new(*text.last()?), text: text.to_vec() })
    }

    /// Whether the line holds it.
    #[inline]
    pub fn is_in(&self, line: &[u8]) -> bool {
        let Some(last_start) = line.len().checked_sub(self.text.len()) else { return false };
        let starts = last_start + 1;
        if starts < BLOCK {
            return (0..starts).any(|at| self.is_at(line, at));
        }
        // The last block overlaps the one before.
        (0..starts.div_ceil(BLOCK)).any(|block| self.is_in_block(line, (block * BLOCK).min(starts - BLOCK)))
    }

    #[inline]
    fn is_in_block(&self, line: &[u8], from: usize) -> bool {
        let far = from + self.text.len() - 1;
        let mut hits = self.first.hits(&line[from..from + BLOCK]) & self.last.hits(&line[far..far + BLOCK]);
        while hits != 0 {
            if self.is_at(line, from + hits.trailing_zeros() as usize) {
                return true;
            }
            hits &= hits - 1;
        }
        false
    }

    fn is_at(&self, line: &[u8], at: usize) -> bool {
        line[at..at + self.text.len()].eq_ignore_ascii_case(&self.text)
    }
}

impl Folded {
    fn new(byte: u8) -> Folded {
        let case = if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
        Folded { byte: byte | case, case }
    }

    /// One bit for each byte of a block.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    #[inline]
    fn hits(self, block: &[u8]) -> u32 {
        use core::arch::wasm32::{u8x16_bitmask, u8x16_eq, u8x16_splat, v128_or};
        let folded = v128_or(vector(block), u8x16_splat(self.case));
        u32::from(u8x16_bitmask(u8x16_eq(folded, u8x16_splat(self.byte))))
    }

    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    #[inline]
    fn hits(self, block: &[u8]) -> u32 {
        block.iter().enumerate().map(|(at, byte)| u32::from(byte | self.case == self.byte) << at).sum()
    }
}

/// 16 bytes for SIMD; becomes one load. Of another number of bytes: zeros.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline]
pub fn vector(bytes: &[u8]) -> core::arch::wasm32::v128 {
    let b: &[u8; 16] = bytes.try_into().unwrap_or(&[0; 16]);
    core::arch::wasm32::u8x16(
        b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], line: &[u8], wanted: bool) {
        assert_eq!(AnyCase::new(text).expect("not empty").is_in(line), wanted, "{text:?} in {line:?}");
    }

    #[test]
    fn a_text_is_found_wherever_it_stands_and_nothing_else_is() {
        for text in [&b"e"[..], b"Er", b"ERROR: 7", b"a text of more than sixteen bytes"] {
            for (before, after) in (0..40).flat_map(|before| (0..40).map(move |after| (before, after))) {
                let mut line = [vec![b'-'; before], text.to_ascii_uppercase(), vec![b'-'; after]].concat();
                check(text, &line, true);
                check(text, &line.to_ascii_lowercase(), true);
                // One byte of it is missing.
                line.remove(before + text.len() / 2);
                check(text, &line, false);
            }
        }
    }

    #[test]
    fn only_letters_have_a_case() {
        check(b"a[b", b"A[B", true);
        check(b"a[b", b"A{B", false);
        check(b"[]", b"----------------{}", false);
        check(b"@", b"----------------`", false);
        check("\u{e4}".as_bytes(), "\u{c4}".as_bytes(), false);
        check(b"k", "\u{212a}".as_bytes(), false);
        check(b"long", b"lon", false);
        check(b"a", b"", false);
        assert!(AnyCase::new(b"").is_none() && AnyCase::new(&[b'a'; 65]).is_none());
    }
}

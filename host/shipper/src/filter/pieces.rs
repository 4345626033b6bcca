//! Cutting, masking and rewriting sets of lines. A set on its way through a chain is a [`RecordSet`] already.

use super::extras;
use crate::model::RecordSet;
use tailmill_engine::{Lines, Mask, Output};
use tailmill_tail::{Batch, Chunk, FileOffset};

/// The lines of a batch, and the offsets behind each line (for the count).
pub(super) fn from_batch(batch: Batch) -> (RecordSet, Vec<FileOffset>) {
    let mut sources = Vec::with_capacity(batch.line_ends.len());
    if !batch.is_empty() {
        sources.push(batch.first_offset);
        sources.extend_from_slice(&batch.line_ends[..batch.line_ends.len() - 1]);
    }
    let set = RecordSet { buffer: batch.chunk, starts: batch.starts, ends: batch.ends, sources, extras: None };
    (set, batch.line_ends)
}

/// The lines of a batch for a chain without filters: nothing is copied, not even the offsets.
pub(super) fn from_batch_whole(batch: Batch) -> RecordSet {
    let mut sources = batch.line_ends;
    if !sources.is_empty() {
        sources.rotate_right(1);
        sources[0] = batch.first_offset;
    }
    RecordSet { buffer: batch.chunk, starts: batch.starts, ends: batch.ends, sources, extras: None }
}

/// The lines as a filter gets them.
pub(super) fn lines(set: &RecordSet) -> Lines<'_> {
    Lines { data: &set.buffer, starts: &set.starts, ends: &set.ends }
}

/// Cuts a set in two: `set` keeps the lines before `at`, the rest is returned.
pub(super) fn split_off(set: &mut RecordSet, at: usize) -> RecordSet {
    RecordSet {
        buffer: set.buffer.clone(),
        starts: set.starts.split_off(at),
        ends: set.ends.split_off(at),
        sources: set.sources.split_off(at),
        extras: set.extras.as_mut().map(|extras| Box::new(extras::split_off(extras, at))),
    }
}

/// Keeps the lines with a 1.
pub(super) fn keep(set: &mut RecordSet, mask: &Mask) {
    compact(&mut set.starts, mask);
    compact(&mut set.ends, mask);
    compact(&mut set.sources, mask);
    if let Some(extras) = &mut set.extras {
        extras::keep(extras, mask);
    }
}

/// Keeps the items with a 1, walking the mask a word at a time.
pub(super) fn compact<T: Copy>(items: &mut Vec<T>, mask: &Mask) {
    let mut to = 0;
    for (w, &word) in mask.words.iter().enumerate() {
        let base = w * 64;
        if base >= items.len() {
            break;
        }
        if word == u64::MAX && base + 64 <= items.len() {
            items.copy_within(base..base + 64, to);
            to += 64;
            continue;
        }
        let mut bits = word;
        while bits != 0 {
            let i = base + bits.trailing_zeros() as usize;
            if i >= items.len() {
                break;
            }
            items[to] = items[i];
            to += 1;
            bits &= bits - 1;
        }
    }
    items.truncate(to);
}

/// Number of lines with a 1.
pub(super) fn count(mask: &Mask) -> u64 {
    mask.words.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// A mask of `len` lines that says the same for each.
pub(super) fn uniform(len: usize, keep: bool) -> Mask {
    let mut words = vec![if keep { u64::MAX } else { 0 }; len.div_ceil(64)];
    if keep && !len.is_multiple_of(64) {
        // The vector has a word for the rest: len is not a multiple of 64, so it is not 0.
        let last = words.len() - 1;
        words[last] = (1 << (len % 64)) - 1;
    }
    Mask { words, len }
}

/// Whether line `i` has a 1.
pub(super) fn is_set(mask: &Mask, i: usize) -> bool {
    mask.words.get(i / 64).is_some_and(|word| word & (1 << (i % 64)) != 0)
}

/// Gives line `i` a 1.
pub(super) fn set(mask: &mut Mask, i: usize) {
    if i < mask.len {
        mask.words[i / 64] |= 1 << (i % 64);
    }
}

/// New lines with the file offset of the oldest input line of each, and what they take over from there.
pub(super) fn emitted(
    mut output: Output,
    offset: impl Fn(u64) -> FileOffset,
    inherit: Option<extras::Inherit<'_>>,
) -> RecordSet {
    let sources = output.sources.iter().map(|&seq| offset(seq)).collect();
    let extras = extras::of_output(&mut output, inherit);
    RecordSet { buffer: Chunk::new(output.data), starts: output.starts, ends: output.ends, sources, extras }
}

/// Copies the lines out into a buffer of their own, so that the shared one can be let go.
pub(super) fn copy_out(set: &mut RecordSet) {
    let mut bytes = Vec::with_capacity(usize::try_from(set.value_bytes()).unwrap_or(0));
    for i in 0..set.len() {
        // Fits: the new buffer is no longer than the old one, whose positions are u32 as well.
        let start = bytes.len() as u32;
        bytes.extend_from_slice(set.value(i));
        (set.starts[i], set.ends[i]) = (start, bytes.len() as u32);
    }
    set.buffer = Chunk::new(bytes);
}

/// Whether so little of the buffer is in use that copying it out is the lesser evil.
pub(super) fn is_sparse(set: &RecordSet) -> bool {
    set.value_bytes().saturating_mul(4) < set.buffer.pinned_bytes() as u64
}

/// Memory of a set beside its buffer.
pub(super) fn columns_bytes(set: &RecordSet) -> usize {
    set.len() * 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask_of(bits: &[bool]) -> Mask {
        let mut mask = uniform(bits.len(), false);
        for (i, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
            set(&mut mask, i);
        }
        mask
    }

    /// Every length around the word size, several patterns: the walk over words keeps what a walk over bits keeps.
    #[test]
    fn compacting_by_words_keeps_the_same_as_compacting_by_bits() {
        for len in [0usize, 1, 2, 63, 64, 65, 127, 128, 129, 200] {
            for step in [1, 2, 3, 7, 64, 1000] {
                let bits: Vec<bool> = (0..len).map(|i| i % step == 0).collect();
                let mut items: Vec<u32> = (0..len as u32).collect();
                compact(&mut items, &mask_of(&bits));
                let expected: Vec<u32> = (0..len).filter(|i| bits[*i]).map(|i| i as u32).collect();
                assert_eq!(items, expected, "{len} lines, every {step}");
                assert_eq!(count(&mask_of(&bits)), expected.len() as u64);
            }
        }
    }

    #[test]
    fn a_uniform_mask_has_no_bits_behind_the_last_line() {
        for len in [0usize, 1, 63, 64, 65, 130] {
            assert_eq!(count(&uniform(len, true)), len as u64);
            assert_eq!(count(&uniform(len, false)), 0);
        }
    }

    #[test]
    fn copying_out_leaves_the_values_as_they_were() {
        let buffer = Chunk::new(b"xxxx--ab---cd-".to_vec());
        let mut set =
            RecordSet { buffer, starts: vec![6, 9, 11], ends: vec![8, 9, 13], sources: vec![1, 2, 3], extras: None };
        copy_out(&mut set);
        assert_eq!((set.value(0), set.value(1), set.value(2)), (&b"ab"[..], &b""[..], &b"cd"[..]));
        assert_eq!(set.buffer.len(), 4);
    }
}

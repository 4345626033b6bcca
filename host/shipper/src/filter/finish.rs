//! The end of a chain: pieces become as few record sets as possible, and none pins much more than it holds.

use super::pieces;
use crate::model::RecordSet;

/// Joins neighbours over the same buffer (a batch that was cut to find a guilty line) and copies the lines out of a
/// buffer of which they fill less than a quarter, so that the buffer is let go before Kafka has answered.
pub(super) fn sets(pieces: Vec<RecordSet>) -> Vec<RecordSet> {
    let mut sets: Vec<RecordSet> = Vec::with_capacity(pieces.len().min(8));
    for piece in pieces {
        match sets.last_mut() {
            Some(last) if is_continued(last, &piece) => {
                last.starts.extend_from_slice(&piece.starts);
                last.ends.extend_from_slice(&piece.ends);
                last.sources.extend_from_slice(&piece.sources);
            }
            _ if piece.is_empty() => {}
            _ => sets.push(piece),
        }
    }
    for set in &mut sets {
        if pieces::is_sparse(set) {
            pieces::copy_out(set);
        }
    }
    sets
}

fn is_continued(last: &RecordSet, next: &RecordSet) -> bool {
    last.extras.is_none() && next.extras.is_none() && std::ptr::eq(last.buffer.as_ptr(), next.buffer.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailmill_tail::Chunk;

    fn set(buffer: &Chunk, spans: &[(u32, u32)]) -> RecordSet {
        RecordSet {
            buffer: buffer.clone(),
            starts: spans.iter().map(|span| span.0).collect(),
            ends: spans.iter().map(|span| span.1).collect(),
            sources: spans.iter().map(|span| u64::from(span.0)).collect(),
            extras: None,
        }
    }

    #[test]
    fn neighbours_over_one_buffer_become_one_set() {
        let (a, b) = (Chunk::new(vec![b'a'; 8]), Chunk::new(vec![b'b'; 8]));
        let sets = sets(vec![set(&a, &[(0, 4)]), set(&a, &[(4, 8)]), set(&b, &[(0, 8)]), set(&a, &[(0, 8)])]);
        assert_eq!(sets.iter().map(RecordSet::len).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(sets[0].sources, [0, 4]);
        assert!(std::ptr::eq(sets[0].buffer.as_ptr(), a.as_ptr()), "nothing was copied");
    }

    #[test]
    fn a_buffer_is_let_go_when_less_than_a_quarter_of_it_is_in_use() {
        let buffer = Chunk::new((0..100).collect());
        for (bytes, copied) in [(24, true), (25, false), (100, false)] {
            let done = sets(vec![set(&buffer, &[(0, bytes)])]);
            assert_eq!(!std::ptr::eq(done[0].buffer.as_ptr(), buffer.as_ptr()), copied, "{bytes} bytes in use");
            assert_eq!(done[0].value(0), &buffer[..bytes as usize]);
        }
    }
}

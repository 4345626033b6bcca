//! A module's bytes to chunks, and a chunk to what is stored of it. Pure.
//!
//! Boundaries follow the content (a rolling hash), so that two builds of one program share most of their chunks although
//! something grew in the middle. Where they lie binds nobody: a release lists its chunks.

use tailmill_engine::Digest;

use super::Chunk;

/// etcd takes requests of 1.5 MiB; zstd adds a few bytes to what cannot be compressed.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Smaller ones would cost more requests than they save.
const CHUNK_BYTES_MIN: usize = 128 << 10;
/// A boundary every 512 KiB behind the least size, in the mean.
const BOUNDARY_MASK: u64 = ((1 << 19) - 1) << 40;
/// Level 9 takes twice the time for 2 % less.
const ZSTD_LEVEL: i32 = 6;

/// Why what is stored is not the chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTheChunk {
    /// It does not unpack into the size that the release says.
    #[error("it does not unpack into {expected} bytes")]
    Size { expected: u64 },
    /// It holds something else.
    #[error("it unpacks into something else than its digest says")]
    Content,
}

/// Cuts; never empty pieces, none larger than [`CHUNK_BYTES_MAX`].
pub(crate) fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let gears: Vec<u64> = (0..256).map(gear).collect();
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(first_cut(rest, &gears));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

fn first_cut(bytes: &[u8], gears: &[u64]) -> usize {
    let end = bytes.len().min(CHUNK_BYTES_MAX);
    let mut hash = 0_u64;
    // The hash forgets what is 64 bytes back: it needs no look at what lies before that.
    for (at, byte) in bytes.iter().enumerate().take(end).skip(CHUNK_BYTES_MIN.saturating_sub(64)) {
        hash = (hash << 1).wrapping_add(gears[usize::from(*byte)]);
        if at + 1 >= CHUNK_BYTES_MIN && hash & BOUNDARY_MASK == 0 {
            return at + 1;
        }
    }
    end
}

/// splitmix64: numbers without any pattern, the same everywhere.
fn gear(byte: u64) -> u64 {
    let mut z = (byte + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is stored of a chunk.
pub(crate) fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL)
}

/// The chunk again. Never unpacks more than the release says, which is at most [`CHUNK_BYTES_MAX`].
pub(crate) fn unpack(stored: &[u8], chunk: &Chunk) -> Result<Vec<u8>, NotTheChunk> {
    let size = NotTheChunk::Size { expected: chunk.size };
    let room = usize::try_from(chunk.size).ok().filter(|size| *size <= CHUNK_BYTES_MAX).ok_or(size.clone())?;
    let bytes = zstd::bulk::decompress(stored, room).map_err(|_| size.clone())?;
    if bytes.len() != room {
        return Err(size);
    }
    if Digest::of(&bytes) != chunk.digest { Err(NotTheChunk::Content) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without any pattern.
    fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        (0..bytes as u64).map(|i| gear(i ^ (seed << 40)).to_le_bytes()[0]).collect()
    }

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    #[test]
    fn pieces_are_bounded_and_put_together_they_are_the_whole() {
        for size in [0, 1, CHUNK_BYTES_MIN, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 5_000_000] {
            for bytes in [noise(size, 1), vec![0; size]] {
                let pieces = split(&bytes);
                assert_eq!(pieces.concat(), bytes);
                assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= CHUNK_BYTES_MAX));
            }
        }
    }

    #[test]
    fn two_builds_that_differ_in_the_middle_share_most_of_their_pieces() {
        let before = noise(8_000_000, 1);
        let mut after = before.clone();
        after.splice(4_000_000..4_000_000, noise(1_234, 2));
        let (before, after) = (split(&before), split(&after));
        let shared = after.iter().filter(|piece| before.contains(piece)).count();
        assert!(shared + 3 >= after.len() && after.len() > 10, "{shared} of {}", after.len());
    }

    #[test]
    fn a_chunk_comes_out_as_it_went_in_also_when_it_cannot_be_compressed() {
        for bytes in [noise(CHUNK_BYTES_MAX, 3), vec![7; CHUNK_BYTES_MAX], vec![1]] {
            let stored = pack(&bytes).unwrap();
            assert!(stored.len() < 1_500_000);
            assert_eq!(unpack(&stored, &chunk(&bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn bombs_lies_and_garbage_are_refused_before_they_take_room() {
        let bytes = vec![0; 100_000];
        let stored = pack(&bytes).unwrap();
        let check = |stored: &[u8], chunk: Chunk, expected: NotTheChunk| {
            assert_eq!(unpack(stored, &chunk), Err(expected));
        };
        let sized = |size| Chunk { digest: Digest::of(&bytes), size };
        check(&stored, sized(99_999), NotTheChunk::Size { expected: 99_999 });
        check(&stored, sized(100_001), NotTheChunk::Size { expected: 100_001 });
        check(&stored, sized(u64::MAX), NotTheChunk::Size { expected: u64::MAX });
        check(b"no zstd", sized(100_000), NotTheChunk::Size { expected: 100_000 });
        check(&pack(&[1; 100_000]).unwrap(), sized(100_000), NotTheChunk::Content);
        // 1 GiB of zeros in some 33 KB.
        let bomb = pack(&vec![0; 1 << 30]).unwrap();
        check(&bomb, sized(CHUNK_BYTES_MAX as u64), NotTheChunk::Size { expected: CHUNK_BYTES_MAX as u64 });
    }
}

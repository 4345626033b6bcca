//! One open file generation: batches of whole lines, from a position on.
//!
//! In: an open file, where to begin and the evidence that belongs there. Out: batches, and at each of them the evidence
//! of the file up to it. Every look begins at the position: a partial line is read again rather than kept, so an idle
//! file holds no buffer, and what is handed out is always what the file holds now. It never writes, never waits.
//!
//! ```text
//!   handed out               | not handed out yet
//!   ------------- window ----+-- whole lines --+-- partial line ...
//!                 compared   position          (read again next time)
//!                 at each look
//! ```

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use memchr::memchr;
use rustix::buffer::spare_capacity;

use crate::batch::{Batch, BufferPool, Chunk, FileOffset};
use crate::evidence::{FINGERPRINT_BYTES, Running, Verdict, read_full};
use crate::framing::{Framing, TooLong};
use crate::identity::Evidence;
use crate::split::{Behind, Caps, Lines, is_too_long_already, join, split};

/// No buffer is larger, so that places in it fit 32 bits. Far above every limit that makes sense.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// Bytes of an overlong line that one call looks at before it lets others have their turn.
const OVERLONG_TURN_BYTES: u64 = 8 * 1024 * 1024;

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
    framing: Arc<Framing>,
    /// Offset of the first byte that was not handed out.
    position: FileOffset,
    ground: Ground,
    /// The rest of a buffer that held more lines than a batch may. Invariant: begins at `position`.
    pending: Option<Pending>,
    /// A line at `position` that is longer than its limit, looked through in search of its end.
    overlong: Option<Box<Running>>,
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

#[derive(Debug)]
struct Pending {
    chunk: Chunk,
    /// Where `position` is in the chunk.
    next: usize,
    read_at_ms: i64,
}

impl Reader {
    /// Begins at `from`. `evidence` is of the file up to `from` or before (the default for a new file); the file has to
    /// hold what it says: prefix and window are compared here, the rest when the first byte is read (then a difference
    /// is `Read::Truncated`). A file begun far in without evidence (at its end) is not read up to there: its running
    /// hash begins at that place.
    pub fn new(file: File, from: FileOffset, evidence: Evidence, framing: Arc<Framing>) -> Result<Reader, ReadError> {
        let mut reader = Reader {
            file: None,
            framing,
            position: from,
            ground: Ground::Parked(evidence),
            pending: None,
            overlong: None,
            waiting: None,
            lines_hint: 0,
        };
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
        match &self.ground {
            Ground::Parked(evidence) => *evidence,
            Ground::Live(running) => running.evidence(),
        }
    }

    /// Size of the file now.
    pub fn size(&self) -> io::Result<u64> {
        match &self.file {
            Some(file) => Ok(file.metadata()?.len()),
            None => Err(io::Error::other("the file is closed")),
        }
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
            self.ground = Ground::Parked(evidence);
        }
        Ok(())
    }

    /// Closes the descriptor of an idle file; position and evidence are kept, and no memory beside them.
    pub fn close(&mut self) {
        self.forget_what_was_seen();
        self.ground = Ground::Parked(self.evidence());
        self.file = None;
    }

    /// Whether the file is open.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Goes on with a descriptor of the same file; refused (and still closed) when it is another one.
    pub fn reopen(&mut self, file: File) -> Result<(), ReadError> {
        let evidence = self.evidence();
        if evidence.at == 0 && self.position > 0 {
            // Nothing vouches for the bytes before the position: from now on they do themselves.
            self.ground = Ground::Live(Box::new(Running::resume(&file, &evidence, self.position)?));
        }
        match evidence.check(&file)? {
            Verdict::Same => self.file = Some(file),
            Verdict::Different => return Err(ReadError::OtherContent),
            Verdict::Shorter { size } => return Err(ReadError::TooShort { size, wanted: self.position }),
        }
        Ok(())
    }

    /// Takes effect with the next batch.
    pub fn set_framing(&mut self, framing: Arc<Framing>) {
        self.framing = framing;
        self.overlong = None; // its limit may be another now
        self.waiting = None;
    }

    fn forget_what_was_seen(&mut self) {
        self.pending = None;
        self.overlong = None;
        self.waiting = None;
    }

    fn look(
        &mut self,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
    ) -> Result<Read, ReadError> {
        let file = self.file.take().ok_or(ReadError::Closed)?;
        let found = self.look_in(&file, limits, pool, behind, due_at);
        self.file = Some(file);
        found
    }

    fn look_in(
        &mut self,
        file: &File,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
    ) -> Result<Read, ReadError> {
        if let Some(pending) = self.pending.take() {
            let lines = self.lines_in(&pending.chunk, pending.next, limits, Behind::Open);
            if !lines.is_empty() {
                return Ok(Read::Batch(self.hand_out(pending, lines)));
            }
        }
        if let Some(size) = self.lost_ground(file)? {
            return Ok(Read::Truncated { size });
        }
        if self.overlong.is_some() {
            return self.pass_over(file, limits, pool, behind);
        }
        self.read_lines(file, limits, pool, behind, due_at)
    }

    /// Makes sure that the file still holds what was handed out of it, as far as the window tells. Some: it does not;
    /// the size of what is there now. Also brings the ground to life when there is something to read.
    fn lost_ground(&mut self, file: &File) -> Result<Option<u64>, ReadError> {
        if let Ground::Parked(evidence) = &self.ground {
            let size = file.metadata()?.len();
            if size <= self.position {
                let gone = size < self.position || evidence.check(file)? != Verdict::Same;
                return Ok(gone.then_some(size));
            }
            match Running::resume(file, evidence, self.position) {
                Ok(running) => self.ground = Ground::Live(Box::new(running)),
                Err(ReadError::OtherContent | ReadError::TooShort { .. }) => return Ok(Some(size)),
                Err(other) => return Err(other),
            }
        }
        let Ground::Live(live) = &self.ground else { return Ok(None) };
        let running = self.overlong.as_ref().unwrap_or(live);
        let window = running.window();
        let mut now = [0_u8; FINGERPRINT_BYTES];
        let now = &mut now[..window.len()];
        if read_full(file, now, running.at() - window.len() as u64)? && now == window {
            return Ok(None);
        }
        Ok(Some(file.metadata()?.len()))
    }

    /// Reads at the position and hands out the lines that end in what was read.
    fn read_lines(
        &mut self,
        file: &File,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
    ) -> Result<Read, ReadError> {
        let read_at_ms = now_ms();
        let mut buffer = pool.take(limits.bytes.clamp(1, BUFFER_BYTES_MAX));
        let mut at_end = read_more(file, &mut buffer, self.position)? == 0;
        loop {
            let lines = self.lines_in(&buffer, 0, limits, Behind::Open);
            if !lines.is_empty() {
                self.waiting = None;
                let chunk = share(buffer, &lines, pool);
                return Ok(Read::Batch(self.hand_out(Pending { chunk, next: 0, read_at_ms }, lines)));
            }
            if self.begins_overlong(&buffer) {
                drop(pool.share(buffer));
                if let Ground::Live(running) = &self.ground {
                    self.overlong = Some(running.clone());
                }
                return self.pass_over(file, limits, pool, behind);
            }
            if at_end {
                return Ok(self.at_end(buffer, limits, pool, behind, due_at, read_at_ms));
            }
            if buffer.len() == buffer.capacity() {
                buffer = enlarge(buffer, self.largest_line_bytes(), pool);
            }
            at_end = read_more(file, &mut buffer, self.position)? == 0;
        }
    }

    /// No line ends before the end of the file.
    fn at_end(
        &mut self,
        buffer: Vec<u8>,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
        read_at_ms: i64,
    ) -> Read {
        let due = self.join_is_due(&buffer, due_at);
        let behind = if due && behind == Behind::Open { Behind::JoinDue } else { behind };
        let lines = match behind {
            Behind::Open => Lines::default(),
            _ => self.lines_in(&buffer, 0, limits, behind),
        };
        if lines.is_empty() {
            let partial_bytes = buffer.len() as u64;
            drop(pool.share(buffer)); // back to the pool
            return Read::AtEnd { partial_bytes };
        }
        self.waiting = None;
        let chunk = share(buffer, &lines, pool);
        Read::Batch(self.hand_out(Pending { chunk, next: 0, read_at_ms }, lines))
    }

    /// Keeps the time of a join that waits at the end of the file: it begins again whenever the file has grown.
    fn join_is_due(&mut self, buffer: &[u8], due_at: Option<Instant>) -> bool {
        let Some(multiline) = &self.framing.multiline else { return false };
        if memchr(b'\n', buffer).is_none() {
            self.waiting = None; // a partial line waits for its newline, not for the clock
            return false;
        }
        match self.waiting {
            Some((bytes, since)) if bytes == buffer.len() => {
                due_at.is_some_and(|now| now.saturating_duration_since(since) >= multiline.timeout)
            }
            _ => {
                self.waiting = Some((buffer.len(), Instant::now()));
                false
            }
        }
    }

    fn line_bytes_max(&self) -> usize {
        self.framing.physical_bytes_max().clamp(1, BUFFER_BYTES_MAX / 4)
    }

    /// A buffer of so many bytes holds every line that is not too long, terminator included; every join, too, and
    /// enough behind it to see that it is one.
    fn largest_line_bytes(&self) -> usize {
        let joined = self.framing.multiline.as_ref().map_or(0, |m| m.bytes_max.clamp(1, BUFFER_BYTES_MAX / 4) + 2);
        self.line_bytes_max() + 2 + joined
    }

    fn begins_overlong(&self, bytes: &[u8]) -> bool {
        let max = self.line_bytes_max();
        is_too_long_already(bytes.len(), max) && memchr(b'\n', &bytes[..max + 2]).is_none()
    }

    fn lines_in(&self, bytes: &[u8], next: usize, limits: &BatchLimits, behind: Behind) -> Lines {
        let caps = Caps {
            bytes: limits.bytes.max(1),
            lines: limits.lines.max(1),
            line_bytes: self.line_bytes_max(),
            too_long: self.framing.too_long,
            lines_hint: self.lines_hint,
        };
        let base = self.position - next as u64;
        match &self.framing.multiline {
            None => split(bytes, next, base, &caps, behind),
            Some(multiline) => {
                let joined_bytes = multiline.bytes_max.clamp(1, BUFFER_BYTES_MAX / 4);
                join(bytes, next, base, &caps, behind, &multiline.rule, joined_bytes)
            }
        }
    }

    /// Makes a batch of lines that begin at the position, and moves the position behind them.
    fn hand_out(&mut self, from: Pending, lines: Lines) -> Batch {
        let passed = &from.chunk[from.next..lines.upto];
        let evidence = match &mut self.ground {
            Ground::Parked(evidence) => *evidence,
            Ground::Live(running) => {
                let evidence = running.evidence();
                running.feed(passed);
                evidence
            }
        };
        let first_offset = self.position;
        self.position += passed.len() as u64;
        // A little more room than the last batch needed: the columns seldom grow while they are filled.
        self.lines_hint = lines.starts.len() + lines.starts.len() / 16 + 1;
        if lines.capped {
            self.pending = Some(Pending { chunk: from.chunk.clone(), next: lines.upto, read_at_ms: from.read_at_ms });
        }
        Batch {
            chunk: from.chunk,
            starts: lines.starts,
            ends: lines.ends,
            line_ends: lines.line_ends,
            first_offset,
            end_offset: self.position,
            evidence,
            skipped_lines: lines.skipped_lines,
            skipped_bytes: lines.skipped_bytes,
            cut_lines: lines.cut_lines,
            read_at_ms: from.read_at_ms,
        }
    }

    /// Looks for the end of the overlong line at the position, with bounded memory. Nothing of it is handed out before
    /// its end was seen, so no mark can come to lie inside it.
    fn pass_over(
        &mut self,
        file: &File,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
    ) -> Result<Read, ReadError> {
        let Some(mut running) = self.overlong.take() else { return Ok(Read::Working) };
        let turn_ends = running.at().saturating_add(OVERLONG_TURN_BYTES);
        let mut buffer = pool.take(limits.bytes.clamp(1, BUFFER_BYTES_MAX));
        let ended = loop {
            buffer.clear();
            if read_more(file, &mut buffer, running.at())? == 0 {
                break behind == Behind::Nothing;
            }
            if let Some(newline) = memchr(b'\n', &buffer) {
                running.feed(&buffer[..=newline]);
                break true;
            }
            running.feed(&buffer);
            if running.at() >= turn_ends {
                self.overlong = Some(running);
                return Ok(Read::Working);
            }
        };
        drop(pool.share(buffer));
        if !ended {
            let partial_bytes = running.at() - self.position;
            self.overlong = Some(running);
            return Ok(Read::AtEnd { partial_bytes });
        }
        self.hand_out_overlong(file, running, pool)
    }

    /// `running` is behind the overlong line's end: the line is cut or skipped.
    fn hand_out_overlong(&mut self, file: &File, running: Box<Running>, pool: &BufferPool) -> Result<Read, ReadError> {
        let cut = self.framing.too_long == TooLong::Cut;
        let kept_bytes = if cut { self.line_bytes_max() } else { 0 };
        let mut kept = pool.take(kept_bytes);
        kept.resize(kept_bytes, 0);
        if !read_full(file, &mut kept, self.position)? {
            return Ok(Read::Truncated { size: file.metadata()?.len() });
        }
        let (first_offset, end_offset) = (self.position, running.at());
        let evidence = self.evidence();
        self.position = end_offset;
        self.ground = Ground::Live(running);
        let lines = usize::from(cut);
        Ok(Read::Batch(Batch {
            chunk: pool.share(kept),
            starts: vec![0; lines],
            ends: vec![kept_bytes as u32; lines], // at most BUFFER_BYTES_MAX
            line_ends: vec![end_offset; lines],
            first_offset,
            end_offset,
            evidence,
            skipped_lines: u64::from(!cut),
            skipped_bytes: if cut { 0 } else { end_offset - first_offset },
            cut_lines: u64::from(cut),
            read_at_ms: now_ms(),
        }))
    }
}

/// Reads behind what `buffer` holds, whose first byte lies at `position`; 0 at the end of the file. The buffer must
/// have room.
fn read_more(file: &File, buffer: &mut Vec<u8>, position: FileOffset) -> io::Result<usize> {
    loop {
        let at = position + buffer.len() as u64;
        match rustix::io::pread(file, spare_capacity(buffer), at) {
            Ok(bytes) => return Ok(bytes),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A buffer for a line that is longer than a batch, with what was read of it already.
fn enlarge(small: Vec<u8>, bytes: usize, pool: &BufferPool) -> Vec<u8> {
    let mut large = Vec::with_capacity(bytes.max(small.len() + 1));
    large.extend_from_slice(&small);
    drop(pool.share(small)); // back to the pool
    large
}

/// Shares a buffer. A few bytes in a large one are copied out: what waits for its acknowledgement would pin all of it.
fn share(buffer: Vec<u8>, lines: &Lines, pool: &BufferPool) -> Chunk {
    let used = if lines.capped { buffer.len() } else { lines.upto };
    if used <= buffer.capacity() / 4 {
        let exact = buffer[..used].to_vec();
        drop(pool.share(buffer)); // back to the pool
        return Chunk::new(exact);
    }
    pool.share(buffer)
}

fn now_ms() -> i64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}

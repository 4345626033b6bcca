//! One look into the file: compare the window, read at the position, split, hand out.

use std::fs::File;
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use memchr::memchr;
use rustix::buffer::spare_capacity;

use super::{BUFFER_BYTES_MAX, BatchLimits, Ground, Pending, Read, ReadError, Reader};
use crate::batch::{Batch, BufferPool, Chunk, FileOffset};
use crate::evidence::{FINGERPRINT_BYTES, Running, Verdict, read_full};
use crate::split::{Behind, Caps, Lines, is_too_long_already, join, split};

impl Reader {
    pub(super) fn look(
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

    pub(super) fn line_bytes_max(&self) -> usize {
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
}

/// Reads behind what `buffer` holds, whose first byte lies at `position`; 0 at the end of the file. The buffer must
/// have room.
pub(super) fn read_more(file: &File, buffer: &mut Vec<u8>, position: FileOffset) -> io::Result<usize> {
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

pub(super) fn now_ms() -> i64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}

//! One look into the file: compare the window, read at the position, split, hand out.

use std::fs::File;
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::pending::{Pending, Raw};
use super::source::Source;
use super::{BUFFER_BYTES_MAX, BatchLimits, Ground, Read, ReadError, Reader};
use crate::batch::{Batch, BufferPool, Chunk};
use crate::encoding::{Decoded, DecodedLines, Decoder};
use crate::evidence::{FINGERPRINT_BYTES, Running, Verdict, read_full};
use crate::identity::Evidence;
use crate::physical::{DelimitedLines, NewlineLines, Physicals};
use crate::split::{Behind, Caps, Join, Lines, is_too_long_already, join, split};
use crate::terminator::Terminator;

/// Bytes looked at at once when lines are counted.
const COUNTED_BYTES: usize = 64 * 1024;
/// What a byte order mark has at most.
const HEAD_BYTES: usize = 3;

/// Bytes read, and their text where they are to be decoded.
pub(super) struct Found {
    pub(super) buffer: Vec<u8>,
    pub(super) decoded: Option<Decoded>,
}

impl Found {
    pub(super) fn shown(&self) -> Shown<'_> {
        match &self.decoded {
            None => Shown { text: &self.buffer, lines: None },
            Some(decoded) => Shown { text: &decoded.text, lines: Some(decoded.physicals()) },
        }
    }
}

/// The text that is split, and its physical lines where they are known already.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) text: &'a [u8],
    pub(super) lines: Option<DecodedLines<'a>>,
}

impl Reader {
    pub(super) fn look(
        &mut self,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
    ) -> Result<Read, ReadError> {
        let mut source = self.source.take().ok_or(ReadError::Closed)?;
        let found = self.look_in(&mut source, limits, pool, behind, due_at);
        if let Source::Packed(unpacker) = &mut source {
            unpacker.settle_leave();
        }
        if let (Source::Packed(unpacker), Ok(Read::AtEnd { partial_bytes })) = (&source, &found)
            && matches!(self.ground, Ground::Live(_))
        {
            self.note_packed_end(unpacker, *partial_bytes, behind);
        }
        self.source = Some(source);
        found
    }

    fn look_in(
        &mut self,
        source: &mut Source,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
    ) -> Result<Read, ReadError> {
        if let Some(pending) = self.pending.take() {
            let lines = self.lines_in(pending.shown(), pending.next, limits, Behind::Open);
            if !lines.is_empty() {
                return Ok(Read::Batch(self.hand_out(pending, lines)));
            }
        }
        if let Some(undecided) = self.tell_packing(source, behind)? {
            return Ok(undecided);
        }
        match source {
            Source::Plain(file) => {
                if let Some(size) = self.lost_ground(file)? {
                    return Ok(Read::Truncated { size });
                }
            }
            Source::Packed(unpacker) => {
                if !unpacker.is_admitted(pool.unpackers()) {
                    return Ok(Read::Waiting);
                }
                if let Some(instead) = self.lost_packed_ground(unpacker, behind)? {
                    return Ok(instead);
                }
            }
        }
        if self.overlong.is_some() {
            return self.pass_over(source, limits, pool, behind);
        }
        self.read_lines(source, limits, pool, behind, due_at)
    }

    /// Makes sure that the file still holds what was handed out of it, as far as the window tells. Some: it does not;
    /// the size of what is there now. Also brings the ground to life when there is something to read.
    pub(super) fn lost_ground(&mut self, file: &File) -> Result<Option<u64>, ReadError> {
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
        let as_before = match running.at() {
            0 => running.evidence().check(file)? == Verdict::Same,
            at => read_full(file, now, at - window.len() as u64)? && now == window,
        };
        if as_before {
            return Ok(None);
        }
        Ok(Some(file.metadata()?.len()))
    }

    /// Reads at the position and hands out the lines that end in what was read.
    fn read_lines(
        &mut self,
        source: &mut Source,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
    ) -> Result<Read, ReadError> {
        let read_at_ms = now_ms();
        let mut buffer = pool.take(limits.bytes.clamp(1, BUFFER_BYTES_MAX));
        let mut at_end = source.read_more(&mut buffer, self.position)? == 0;
        loop {
            self.learn_encoding(source, &buffer)?;
            self.count_lines_before(source, pool)?;
            let found = Found { decoded: self.decode(&buffer, false), buffer };
            let lines = self.lines_in(found.shown(), 0, limits, Behind::Open);
            if !lines.is_empty() {
                return Ok(self.hand_out_found(found, lines, pool, read_at_ms));
            }
            if self.begins_overlong(found.shown()) {
                if matches!(source, Source::Packed(_)) {
                    let head_bytes = self.largest_line_bytes().min(found.buffer.len());
                    self.overlong_head = found.buffer[..head_bytes].to_vec();
                }
                drop(pool.share(found.buffer));
                if let Ground::Live(running) = &self.ground {
                    self.overlong = Some(running.clone());
                }
                return self.pass_over(source, limits, pool, behind);
            }
            if at_end {
                return Ok(self.at_end(found, limits, pool, behind, due_at, read_at_ms));
            }
            buffer = found.buffer;
            if buffer.len() == buffer.capacity() {
                buffer = enlarge(buffer, self.largest_line_bytes(), pool);
            }
            at_end = source.read_more(&mut buffer, self.position)? == 0;
        }
    }

    /// No line ends before the end of the file.
    fn at_end(
        &mut self,
        mut found: Found,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
        due_at: Option<Instant>,
        read_at_ms: i64,
    ) -> Read {
        let due = self.join_is_due(&found, due_at);
        let behind = if due && behind == Behind::Open { Behind::JoinDue } else { behind };
        if behind == Behind::Nothing {
            found.decoded = self.decode(&found.buffer, true);
        }
        let lines = match behind {
            Behind::Open => Lines::default(),
            _ => self.lines_in(found.shown(), 0, limits, behind),
        };
        if lines.is_empty() {
            if let (0, Ground::Live(running)) = (self.position, &mut self.ground) {
                running.note_beginning(&found.buffer);
            }
            let partial_bytes = found.buffer.len() as u64;
            drop(pool.share(found.buffer)); // back to the pool
            return Read::AtEnd { partial_bytes };
        }
        self.hand_out_found(found, lines, pool, read_at_ms)
    }

    fn hand_out_found(&mut self, found: Found, lines: Lines, pool: &BufferPool, read_at_ms: i64) -> Read {
        self.waiting = None;
        let (text, raw) = match found.decoded {
            None => (found.buffer, None),
            Some(decoded) => {
                let rest_replaced = decoded.rest_replaced_within(self.line_bytes_max());
                let Decoded { text, lines, file_end, .. } = decoded;
                let raw = Raw { bytes: found.buffer, base: self.position, lines, rest_replaced, file_end };
                (text, Some(Box::new(raw)))
            }
        };
        let chunk = share(text, &lines, pool);
        Read::Batch(self.hand_out(Pending { chunk, next: 0, read_at_ms, raw }, lines))
    }

    /// Keeps the time of a join that waits at the end of the file: it begins again whenever the file has grown.
    fn join_is_due(&mut self, found: &Found, due_at: Option<Instant>) -> bool {
        let Some(multiline) = &self.framing.multiline else { return false };
        let buffer = &found.buffer;
        let whole = match &found.decoded {
            Some(decoded) => !decoded.lines.is_empty(),
            None => self.terminator.find(buffer, 0, self.position).is_some(),
        };
        if !whole {
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
        self.framing.physical_bytes_max().clamp(1, BUFFER_BYTES_MAX / 8)
    }

    /// A buffer of so many bytes holds every line that is not too long, terminator included; every join, too, and
    /// enough behind it to see that it is one.
    pub(super) fn largest_line_bytes(&self) -> usize {
        let terminator = self.framing.delimiter.longest();
        let joined =
            self.framing.multiline.as_ref().map_or(0, |m| m.bytes_max.clamp(1, BUFFER_BYTES_MAX / 8) + terminator);
        let text = self.line_bytes_max() + terminator + joined;
        if self.framing.encoding.is_some() { Decoder::raw_bytes_for(text) } else { text }
    }

    fn begins_overlong(&self, shown: Shown<'_>) -> bool {
        let (max, terminator) = (self.line_bytes_max(), self.framing.delimiter.longest());
        is_too_long_already(shown.text.len(), max, terminator)
            && match shown.lines {
                Some(lines) => lines.lines.first().is_none_or(|line| line.place.len() > max),
                None => self.terminator.find(&shown.text[..max + terminator], 0, self.position).is_none(),
            }
    }

    /// Learns from the beginning of the file how its text is to be decoded.
    pub(super) fn learn_encoding(&mut self, source: &mut Source, buffer: &[u8]) -> io::Result<()> {
        let Some(encoding) = self.framing.encoding.filter(|_| !self.head_seen) else { return Ok(()) };
        let mut head = [0; HEAD_BYTES];
        let bytes = match self.position {
            0 => buffer.len().min(HEAD_BYTES),
            _ => HEAD_BYTES,
        };
        match self.position {
            0 => head[..bytes].copy_from_slice(&buffer[..bytes]),
            _ => drop(self.read_head(source, &mut head)?),
        }
        let decoder = Decoder::new(encoding, &self.framing.delimiter, &head[..bytes]);
        self.terminator = decoder.terminator().clone();
        self.decoder = Some(decoder);
        self.head_seen = bytes == HEAD_BYTES; // fewer bytes may still become a byte order mark
        Ok(())
    }

    /// Counts lines from the last place whose number is known on to the position: once, after a start or a rewind, and
    /// never far. Not in a compressed file, where that would mean to unpack it again.
    fn count_lines_before(&mut self, source: &Source, pool: &BufferPool) -> io::Result<()> {
        let Some((mut at, mut line)) = self.line_before.take() else { return Ok(()) };
        let Source::Plain(file) = source else { return Ok(()) };
        let overlap = self.terminator.overlap();
        let mut buffer = pool.take(COUNTED_BYTES);
        while at < self.position {
            let part = (self.position - at).min(COUNTED_BYTES as u64) as usize; // at most that
            buffer.resize(part, 0);
            if !read_full(file, &mut buffer, at)? {
                return Ok(()); // truncated: found out by the next look
            }
            let mut next = 0;
            while let Some((_, behind)) = self.terminator.find(&buffer, next, at) {
                (next, line) = (behind, line + 1);
            }
            // The beginning of a terminator at the end is looked at again.
            let last = at + part as u64 == self.position;
            at += if last { part } else { next.max(part - overlap.min(part - 1)) } as u64;
        }
        drop(pool.share(buffer));
        self.next_line = Some(line);
        Ok(())
    }

    fn read_head(&self, source: &mut Source, head: &mut [u8]) -> io::Result<bool> {
        match source {
            Source::Plain(file) => read_full(file, head, 0),
            Source::Packed(unpacker) => unpacker.read_head(head),
        }
    }

    pub(super) fn decode(&self, bytes: &[u8], last: bool) -> Option<Decoded> {
        Some(self.decoder.as_ref()?.decode(bytes, self.position, last))
    }

    pub(super) fn lines_in(&self, shown: Shown<'_>, next: usize, limits: &BatchLimits, behind: Behind) -> Lines {
        match (shown.lines, &self.terminator) {
            (Some(lines), _) => self.lines_of(&lines, next, limits, behind),
            (None, Terminator::Newline) => {
                let base = self.position - next as u64;
                self.lines_of(&NewlineLines { bytes: shown.text, base }, next, limits, behind)
            }
            (None, terminator) => {
                let base = self.position - next as u64;
                self.lines_of(&DelimitedLines { bytes: shown.text, base, terminator }, next, limits, behind)
            }
        }
    }

    fn lines_of(&self, physicals: &impl Physicals, next: usize, limits: &BatchLimits, behind: Behind) -> Lines {
        let caps = Caps {
            bytes: limits.bytes.max(1),
            lines: limits.lines.max(1),
            line_bytes: self.line_bytes_max(),
            too_long: self.framing.too_long,
            lines_hint: self.lines_hint,
        };
        match &self.framing.multiline {
            None => split(physicals, next, self.position, &caps, behind),
            Some(multiline) => {
                let joined_bytes = multiline.bytes_max.clamp(1, BUFFER_BYTES_MAX / 8);
                let terminator_bytes = self.framing.delimiter.longest();
                let how = Join { rule: &multiline.rule, joined_bytes, terminator_bytes };
                join(physicals, next, self.position, &caps, behind, &how)
            }
        }
    }

    /// Makes a batch of lines that begin at the position, and moves the position behind them.
    fn hand_out(&mut self, from: Pending, lines: Lines) -> Batch {
        let (passed, replaced) = match &from.raw {
            None => (&from.chunk[from.next..lines.upto], 0),
            Some(raw) => {
                let (from, upto) = (self.position, lines.file_upto);
                (raw.between(from, upto), raw.replaced(from, upto, self.line_bytes_max()))
            }
        };
        let evidence = match &mut self.ground {
            Ground::Parked(evidence) => *evidence,
            Ground::Live(running) => {
                running.note_beginning(passed);
                let evidence = running.evidence();
                running.feed(passed);
                evidence
            }
        };
        let line = if evidence.at == self.position { self.next_line } else { evidence.line };
        let evidence = Evidence { packed_bytes: self.packed.map(|_| 0), line, ..evidence };
        let first_offset = self.position;
        self.position += passed.len() as u64;
        let first_line = self.next_line;
        self.next_line = first_line.map(|line| line + lines.physical_lines);
        // A little more room than the last batch needed: the columns seldom grow while they are filled.
        self.lines_hint = lines.starts.len() + lines.starts.len() / 16 + 1;
        if lines.capped {
            let (chunk, read_at_ms) = (from.chunk.clone(), from.read_at_ms);
            self.pending = Some(Pending { chunk, next: lines.upto, read_at_ms, raw: from.raw });
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
            replaced,
            first_line,
            physicals: lines.physicals,
            read_at_ms: from.read_at_ms,
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

//! The splitter: bytes to the places of lines in them.
//!
//! In: a buffer and where in it to begin. Out: start, end and file offset of each line, up to the caps of a batch. It
//! reads each byte once, allocates nothing per line, and knows no file.

use memchr::{memchr, memchr_iter};

use crate::batch::FileOffset;
use crate::framing::{MultilineRule, TooLong};

/// What ends a batch, and what a line may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    /// Bytes of a batch; a single longer line still fits.
    pub(crate) bytes: usize,
    /// Lines of a batch.
    pub(crate) lines: usize,
    /// Bytes of a physical line without its terminator.
    pub(crate) line_bytes: usize,
    /// What happens to a longer one.
    pub(crate) too_long: TooLong,
    /// How many lines to make room for.
    pub(crate) lines_hint: usize,
}

/// What is behind the last byte of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// More may come.
    Open,
    /// More may come, but not to the join that is open: it waited long enough.
    JoinDue,
    /// Nothing will ever come: what is left is the last line.
    Nothing,
}

/// Where lines lie in a buffer. The columns are those of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) starts: Vec<u32>,
    pub(crate) ends: Vec<u32>,
    pub(crate) line_ends: Vec<FileOffset>,
    pub(crate) cut_lines: u64,
    pub(crate) skipped_lines: u64,
    pub(crate) skipped_bytes: u64,
    /// Index behind the last byte that these lines (or skipped ones) stand for.
    pub(crate) upto: usize,
    /// A cap ended the batch: there are more whole lines behind `upto`, perhaps.
    pub(crate) capped: bool,
}

impl Lines {
    fn new(from: usize, hint: usize) -> Lines {
        Lines {
            starts: Vec::with_capacity(hint),
            ends: Vec::with_capacity(hint),
            line_ends: Vec::with_capacity(hint),
            upto: from,
            ..Lines::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.skipped_lines == 0
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize, next: usize, base: FileOffset) {
        self.starts.push(start as u32); // buffers are smaller than 4 GiB: BUFFER_BYTES_MAX
        self.ends.push(end as u32);
        self.line_ends.push(base + next as u64);
        self.upto = next;
    }
}

/// One physical line of a buffer.
#[derive(Clone, Copy)]
struct Physical {
    start: usize,
    end: usize,
    next: usize,
}

impl Physical {
    /// The line that begins at `start` and whose LF is at `newline`.
    #[inline]
    fn ended(bytes: &[u8], start: usize, newline: usize) -> Physical {
        let end = if newline > start && bytes[newline - 1] == b'\r' { newline - 1 } else { newline };
        Physical { start, end, next: newline + 1 }
    }

    #[inline]
    fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Splits `bytes[from..]` into physical lines. `base` is the file offset of `bytes[0]`.
pub(crate) fn split(bytes: &[u8], from: usize, base: FileOffset, caps: &Caps, behind: Behind) -> Lines {
    let mut lines = Lines::new(from, caps.lines_hint.min(caps.lines));
    let within = bytes.len().min(from.saturating_add(caps.bytes));
    let mut start = from;
    for newline in memchr_iter(b'\n', &bytes[from..within]) {
        let line = Physical::ended(bytes, start, from + newline);
        if line.len() > caps.line_bytes {
            match caps.too_long {
                TooLong::Cut => lines.cut_lines += 1,
                TooLong::Skip => {
                    skip_run(bytes, base, caps, &mut lines);
                    return lines;
                }
            }
        }
        lines.push(line.start, line.end.min(line.start + caps.line_bytes), line.next, base);
        start = line.next;
        if lines.starts.len() >= caps.lines {
            lines.capped = start < bytes.len();
            return lines;
        }
    }
    lines.capped = within < bytes.len();
    if lines.starts.is_empty() {
        first_line(bytes, from, base, caps, behind, &mut lines);
    }
    lines
}

/// Nothing ended within the batch's bytes: one line that is longer than a batch, or the last one of a finished file.
fn first_line(bytes: &[u8], from: usize, base: FileOffset, caps: &Caps, behind: Behind, lines: &mut Lines) {
    let line = match memchr(b'\n', &bytes[from..]) {
        Some(newline) => Physical::ended(bytes, from, from + newline),
        None if behind == Behind::Nothing && from < bytes.len() => {
            Physical { start: from, end: bytes.len(), next: bytes.len() }
        }
        None => {
            lines.capped = false;
            return;
        }
    };
    lines.capped = line.next < bytes.len();
    take_alone(line, base, caps, lines);
}

/// Adds a line that may be too long, behind everything else in the batch.
fn take_alone(line: Physical, base: FileOffset, caps: &Caps, lines: &mut Lines) {
    if line.len() <= caps.line_bytes {
        return lines.push(line.start, line.end, line.next, base);
    }
    match caps.too_long {
        TooLong::Cut => {
            lines.cut_lines += 1;
            lines.push(line.start, line.start + caps.line_bytes, line.next, base);
        }
        TooLong::Skip => {
            lines.skipped_lines += 1;
            lines.skipped_bytes += (line.next - line.start) as u64;
            lines.upto = line.next;
        }
    }
}

/// Passes over the too long lines at `upto`. They end the batch: a line behind them would count their bytes as its own.
fn skip_run(bytes: &[u8], base: FileOffset, caps: &Caps, lines: &mut Lines) {
    for newline in memchr_iter(b'\n', &bytes[lines.upto..]).map({
        let from = lines.upto;
        move |at| from + at
    }) {
        let line = Physical::ended(bytes, lines.upto, newline);
        if line.len() <= caps.line_bytes {
            break;
        }
        take_alone(line, base, caps, lines);
    }
    lines.capped = lines.upto < bytes.len();
}

/// Splits `bytes[from..]` into joined lines: physical ones put together by `rule`, at most `joined_bytes` long.
///
/// A join that is still open at the end of the buffer is left there, unless `behind` says that nothing more comes to
/// it, or what follows it is too long to be part of anything.
pub(crate) fn join(
    bytes: &[u8],
    from: usize,
    base: FileOffset,
    caps: &Caps,
    behind: Behind,
    rule: &MultilineRule,
    joined_bytes: usize,
) -> Lines {
    let mut joiner = Joiner { from, base, caps, rule, joined_bytes, open: None, lines: Lines::new(from, 0) };
    let mut start = from;
    for newline in memchr_iter(b'\n', &bytes[from..]) {
        let line = Physical::ended(bytes, start, from + newline);
        start = line.next;
        if joiner.take(bytes, line) {
            if joiner.lines.skipped_lines > 0 {
                skip_run(bytes, base, caps, &mut joiner.lines);
            }
            joiner.lines.capped = joiner.lines.upto < bytes.len();
            return joiner.lines;
        }
    }
    let tail = Physical { start, end: bytes.len(), next: bytes.len() };
    match behind {
        // The last line counts as ended; only when nothing before it was complete, so that the caps hold.
        Behind::Nothing if joiner.lines.is_empty() => {
            if tail.next > tail.start {
                joiner.take(bytes, tail);
            }
            if joiner.lines.is_empty() {
                joiner.close();
            }
        }
        Behind::JoinDue if joiner.lines.is_empty() => drop(joiner.close()),
        _ if is_too_long_already(tail.len(), caps.line_bytes) => drop(joiner.close()),
        _ => {}
    }
    joiner.lines.capped = false;
    joiner.lines
}

/// Whether `len` bytes without a newline are the beginning of a line that is too long whatever follows (its last byte
/// may be the CR of its terminator).
pub(crate) fn is_too_long_already(len: usize, line_bytes: usize) -> bool {
    len >= line_bytes.saturating_add(2)
}

/// Puts physical lines together.
struct Joiner<'a> {
    from: usize,
    base: FileOffset,
    caps: &'a Caps,
    rule: &'a MultilineRule,
    joined_bytes: usize,
    /// The join that was begun.
    open: Option<Physical>,
    lines: Lines,
}

impl Joiner<'_> {
    /// Takes in the next physical line. True: the batch is full, perhaps without this line (`upto` tells).
    fn take(&mut self, bytes: &[u8], line: Physical) -> bool {
        if self.has_no_room_for(line) {
            return true;
        }
        let too_long = line.len() > self.caps.line_bytes;
        let text = &bytes[line.start..line.end];
        let (begins, ends) = match self.rule {
            _ if too_long => (true, true),
            MultilineRule::Start(start) => (start.is_match(text), false),
            MultilineRule::End(end) => (false, end.is_match(text)),
            MultilineRule::Continue(more) => (!more.is_match(text), false),
        };
        let too_big = self.open.is_some_and(|open| line.end - open.start > self.joined_bytes);
        if (begins || too_big) && (self.close() || self.has_no_room_for(line)) {
            return true;
        }
        if too_long {
            take_alone(line, self.base, self.caps, &mut self.lines);
            return self.is_full();
        }
        let start = self.open.map_or(line.start, |open| open.start);
        self.open = Some(Physical { start, ..line });
        ends && self.close()
    }

    /// Ends the join that is open. True: the batch is full.
    fn close(&mut self) -> bool {
        if let Some(open) = self.open.take() {
            self.lines.push(open.start, open.end, open.next, self.base);
        }
        self.is_full()
    }

    /// One oversized line fits, but not behind others.
    fn has_no_room_for(&self, line: Physical) -> bool {
        line.next - self.from > self.caps.bytes && !self.lines.is_empty()
    }

    fn is_full(&self) -> bool {
        self.lines.starts.len() >= self.caps.lines || self.lines.skipped_lines > 0
    }
}

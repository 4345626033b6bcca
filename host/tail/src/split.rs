//! The splitter: physical lines to the places of lines in a text.
//!
//! In: a text, its physical lines and where to begin. Out: start, end and file offset of each line, up to the caps of a
//! batch. It reads each byte once, allocates nothing per line, and knows no file.

use crate::batch::FileOffset;
use crate::framing::{MultilineRule, TooLong};
use crate::physical::{Physical, Physicals};

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

/// What is behind the last byte of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// More may come.
    Open,
    /// More may come, but not to the join that is open: it waited long enough.
    JoinDue,
    /// Nothing will ever come: what is left is the last line.
    Nothing,
}

/// Where lines lie in a text. The columns are those of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) starts: Vec<u32>,
    pub(crate) ends: Vec<u32>,
    pub(crate) line_ends: Vec<FileOffset>,
    pub(crate) cut_lines: u64,
    pub(crate) skipped_lines: u64,
    pub(crate) skipped_bytes: u64,
    /// How many physical lines each was joined from; empty: one each.
    pub(crate) physicals: Vec<u32>,
    /// Physical lines that these lines stand for.
    pub(crate) physical_lines: u64,
    /// Index behind the last byte that these lines (or skipped ones) stand for.
    pub(crate) upto: usize,
    /// The same in the file.
    pub(crate) file_upto: FileOffset,
    /// A cap ended the batch: there are more whole lines behind `upto`, perhaps.
    pub(crate) capped: bool,
}

impl Lines {
    fn new(from: usize, position: FileOffset, hint: usize) -> Lines {
        Lines {
            starts: Vec::with_capacity(hint),
            ends: Vec::with_capacity(hint),
            line_ends: Vec::with_capacity(hint),
            upto: from,
            file_upto: position,
            ..Lines::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.skipped_bytes == 0
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize, next: usize, file_next: FileOffset) {
        self.starts.push(start as u32); // buffers are smaller than 4 GiB: BUFFER_BYTES_MAX
        self.ends.push(end as u32);
        self.line_ends.push(file_next);
        self.upto = next;
        self.file_upto = file_next;
    }

    fn skip(&mut self, next: usize, file_next: FileOffset) {
        self.skipped_bytes += file_next - self.file_upto;
        self.upto = next;
        self.file_upto = file_next;
    }
}

/// Splits the text from `from` on, which lies at `position` in the file, into its physical lines.
pub(crate) fn split(
    physicals: &impl Physicals,
    from: usize,
    position: FileOffset,
    caps: &Caps,
    behind: Behind,
) -> Lines {
    let text_bytes = physicals.text().len();
    let mut lines = Lines::new(from, position, caps.lines_hint.min(caps.lines));
    let within = text_bytes.min(from.saturating_add(caps.bytes));
    for line in physicals.lines(from, within) {
        let mut end = line.end;
        if line.len() > caps.line_bytes {
            match caps.too_long {
                TooLong::Cut => {
                    lines.cut_lines += 1;
                    end = physicals.cut(line.start, caps.line_bytes);
                }
                TooLong::Skip => {
                    skip_run(physicals, caps, &mut lines);
                    lines.physical_lines = lines.starts.len() as u64 + lines.skipped_lines;
                    return lines;
                }
            }
        }
        lines.push(line.start, end, line.next, line.file_next);
        if lines.starts.len() >= caps.lines {
            lines.capped = line.next < text_bytes;
            lines.physical_lines = lines.starts.len() as u64;
            return lines;
        }
    }
    lines.capped = within < text_bytes;
    if lines.starts.is_empty() {
        first_line(physicals, from, caps, behind, &mut lines);
    }
    lines.physical_lines = lines.starts.len() as u64 + lines.skipped_lines;
    lines
}

/// Nothing ended within the batch's bytes: one line that is longer than a batch, or the last one of a finished file.
fn first_line(physicals: &impl Physicals, from: usize, caps: &Caps, behind: Behind, lines: &mut Lines) {
    let text_bytes = physicals.text().len();
    let first = physicals.lines(from, text_bytes).next();
    let line = match first {
        Some(line) => line,
        None if behind == Behind::Nothing && from < text_bytes => physicals.last_line(from),
        None => {
            lines.capped = false;
            if behind == Behind::Nothing {
                lines.skip(text_bytes, physicals.file_end()); // bytes without text: a byte order mark
            }
            return;
        }
    };
    lines.capped = line.next < text_bytes;
    take_alone(physicals, line, caps, lines);
}

/// Adds a line that may be too long, behind everything else in the batch.
fn take_alone(physicals: &impl Physicals, line: Physical, caps: &Caps, lines: &mut Lines) {
    if line.len() <= caps.line_bytes {
        return lines.push(line.start, line.end, line.next, line.file_next);
    }
    match caps.too_long {
        TooLong::Cut => {
            lines.cut_lines += 1;
            lines.push(line.start, physicals.cut(line.start, caps.line_bytes), line.next, line.file_next);
        }
        TooLong::Skip => {
            lines.skipped_lines += 1;
            lines.skip(line.next, line.file_next);
        }
    }
}

/// Passes over the too long lines at `upto`. They end the batch: a line behind them would count their bytes as its own.
fn skip_run(physicals: &impl Physicals, caps: &Caps, lines: &mut Lines) {
    let text_bytes = physicals.text().len();
    for line in physicals.lines(lines.upto, text_bytes) {
        if line.len() <= caps.line_bytes {
            break;
        }
        take_alone(physicals, line, caps, lines);
    }
    lines.capped = lines.upto < text_bytes;
}

/// Splits the text from `from` on into joined lines: physical ones put together by `rule`, at most so long.
///
/// A join that is still open at the end of the text is left there, unless `behind` says that nothing more comes to
/// it, or what follows it is too long to be part of anything.
pub(crate) fn join(
    physicals: &impl Physicals,
    from: usize,
    position: FileOffset,
    caps: &Caps,
    behind: Behind,
    how: &Join<'_>,
) -> Lines {
    let text = physicals.text();
    let lines = Lines::new(from, position, 0);
    let mut joiner = Joiner { physicals, from, caps, how, open: None, lines };
    let mut start = from;
    for line in physicals.lines(from, text.len()) {
        start = line.next;
        if joiner.take(line) {
            let skipped_before = joiner.lines.skipped_lines;
            if skipped_before > 0 {
                skip_run(physicals, caps, &mut joiner.lines);
                joiner.lines.physical_lines += joiner.lines.skipped_lines - skipped_before;
            }
            joiner.lines.capped = joiner.lines.upto < text.len();
            return joiner.lines;
        }
    }
    let rest_bytes = text.len() - start;
    match behind {
        // The last line counts as ended; only when nothing before it was complete, so that the caps hold.
        Behind::Nothing if joiner.lines.is_empty() => {
            if rest_bytes > 0 {
                joiner.take(physicals.last_line(start));
            }
            if joiner.lines.is_empty() {
                joiner.close();
            }
            if joiner.lines.is_empty() {
                joiner.lines.skip(text.len(), physicals.file_end()); // bytes without text: a byte order mark
            }
        }
        Behind::JoinDue if joiner.lines.is_empty() => drop(joiner.close()),
        _ if is_too_long_already(rest_bytes, caps.line_bytes, how.terminator_bytes) => drop(joiner.close()),
        _ => {}
    }
    joiner.lines.capped = false;
    joiner.lines
}

/// Whether `len` bytes without a terminator are the beginning of a line that is too long whatever follows (its last bytes
/// may be the beginning of its terminator).
pub(crate) fn is_too_long_already(len: usize, line_bytes: usize, terminator_bytes: usize) -> bool {
    len >= line_bytes.saturating_add(terminator_bytes)
}

/// How physical lines are put together.
pub(crate) struct Join<'a> {
    pub(crate) rule: &'a MultilineRule,
    pub(crate) joined_bytes: usize,
    /// Bytes of the longest terminator.
    pub(crate) terminator_bytes: usize,
}

/// Puts physical lines together.
struct Joiner<'a, P> {
    physicals: &'a P,
    from: usize,
    caps: &'a Caps,
    how: &'a Join<'a>,
    /// The join that was begun, and how many lines it has.
    open: Option<(Physical, u64)>,
    lines: Lines,
}

impl<P: Physicals> Joiner<'_, P> {
    /// Takes in the next physical line. True: the batch is full, perhaps without this line (`upto` tells).
    fn take(&mut self, line: Physical) -> bool {
        if self.has_no_room_for(line) {
            return true;
        }
        let too_long = line.len() > self.caps.line_bytes;
        let (begins, ends) = match too_long {
            true => (true, true),
            false => self.how.rule.judge(&self.physicals.text()[line.start..line.end]),
        };
        let too_big = self.open.is_some_and(|(open, _)| line.end - open.start > self.how.joined_bytes);
        if (begins || too_big) && (self.close() || self.has_no_room_for(line)) {
            return true;
        }
        if too_long {
            take_alone(self.physicals, line, self.caps, &mut self.lines);
            self.lines.physicals.resize(self.lines.starts.len(), 1);
            self.lines.physical_lines += 1;
            return self.is_full();
        }
        let (start, lines) = self.open.map_or((line.start, 0), |(open, lines)| (open.start, lines));
        self.open = Some((Physical { start, ..line }, lines + 1));
        ends && self.close()
    }

    /// Ends the join that is open. True: the batch is full.
    fn close(&mut self) -> bool {
        if let Some((open, lines)) = self.open.take() {
            self.lines.push(open.start, open.end, open.next, open.file_next);
            self.lines.physicals.push(u32::try_from(lines).unwrap_or(u32::MAX));
            self.lines.physical_lines += lines;
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

//! From what a guest answered to the host's own types. The guest is not trusted: every length, order, index and sequence
//! number is checked here, and what does not add up is a [`FaultKind::BrokenAnswer`] that says what.
//!
//! Sequence numbers in an answer lie in a window: from the oldest line that the filter could know (the oldest it held before,
//! or the first of this call) to the last line it was given.

use crate::answer::{Column, Header, Mask, Outcome, Output, Released};
use crate::answer::{Fault, FaultKind};
use crate::limits::Limits;
use crate::wit;
use std::ops::RangeInclusive;

/// Headers of one answer.
const HEADERS_MAX: usize = 64;
/// Bytes of a header's name.
const HEADER_NAME_BYTES_MAX: usize = 256;

/// What an answer may refer to.
#[derive(Clone, Debug)]
pub(crate) struct Allowed<'a> {
    /// Sequence numbers it may name. Empty (start above end): none at all.
    pub(crate) window: RangeInclusive<u64>,
    /// Lines of this call.
    pub(crate) lines: usize,
    /// Topics there are.
    pub(crate) topics: usize,
    /// A stateless filter must not hold.
    pub(crate) may_hold: bool,
    pub(crate) limits: &'a Limits,
}

type Checked<T> = Result<T, String>;

pub(crate) fn broken(why: String) -> Fault {
    Fault { kind: FaultKind::BrokenAnswer, line: None, message: why }
}

pub(crate) fn outcome(answer: wit::Outcome, allowed: &Allowed<'_>) -> Result<Outcome, Fault> {
    match answer {
        wit::Outcome::KeepAll => Ok(Outcome::KeepAll),
        wit::Outcome::DropAll => Ok(Outcome::DropAll),
        wit::Outcome::Keep(bits) => mask(&bits, allowed.lines).map(kept),
        wit::Outcome::Emit(lines) => output(lines, allowed).map(Outcome::Emit),
    }
    .map_err(broken)
}

pub(crate) fn released(answer: wit::Released, allowed: &Allowed<'_>) -> Result<Released, Fault> {
    let oldest_held = held(answer.oldest_held, allowed)?;
    let output = answer.output.map(|lines| output(lines, allowed)).transpose().map_err(broken)?;
    Ok(Released { output: output.filter(|output| !output.is_empty()), oldest_held })
}

/// The oldest line that is still inside.
pub(crate) fn held(oldest: Option<u64>, allowed: &Allowed<'_>) -> Result<Option<u64>, Fault> {
    let Some(held) = oldest else { return Ok(None) };
    if !allowed.may_hold {
        return Err(broken("it says that it is stateless and holds a line".to_owned()));
    }
    in_window("the oldest held line", held, allowed).map_err(broken)?;
    let lines = allowed.window.end() - held + 1;
    if lines > allowed.limits.held_lines as u64 {
        return Err(broken(format!("it holds {lines} lines back and may hold {}", allowed.limits.held_lines)));
    }
    Ok(oldest)
}

/// The plainest form of a mask: it has at least one 1 and one 0.
pub(crate) fn kept(mask: Mask) -> Outcome {
    match mask.count() {
        0 => Outcome::DropAll,
        n if n == mask.len => Outcome::KeepAll,
        _ => Outcome::Keep(mask),
    }
}

/// Bits behind the last line are set to 0, whatever the guest put there.
fn mask(bits: &[u8], lines: usize) -> Checked<Mask> {
    exactly("the mask", bits.len(), lines.div_ceil(8))?;
    let mut words: Vec<u64> = Vec::with_capacity(lines.div_ceil(64));
    let (whole, rest) = bits.as_chunks::<8>();
    words.extend(whole.iter().map(|chunk| u64::from_le_bytes(*chunk)));
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words.push(u64::from_le_bytes(last));
    }
    if !lines.is_multiple_of(64)
        && let Some(last) = words.last_mut()
    {
        *last &= (1 << (lines % 64)) - 1;
    }
    Ok(Mask { words, len: lines })
}

fn output(answer: wit::Output, allowed: &Allowed<'_>) -> Checked<Output> {
    let bytes = size_of_output(&answer);
    if bytes > allowed.limits.output_bytes {
        return Err(format!("{bytes} bytes of answer, and {} are allowed", allowed.limits.output_bytes));
    }
    let (starts, ends) = spans(&answer.lines)?;
    let lines = starts.len();
    let sources = numbers("source", &answer.source, lines, u64::from_le_bytes)?;
    for &source in &sources {
        in_window("a source", source, allowed)?;
    }
    let topics = if answer.topics.is_empty() {
        Vec::new()
    } else {
        numbers("topics", &answer.topics, lines, u16::from_le_bytes)?
    };
    if let Some(topic) = topics.iter().find(|topic| usize::from(**topic) >= allowed.topics.max(1)) {
        return Err(format!("topic {topic} is not one of the {} that the entry allows", allowed.topics.max(1)));
    }
    let timestamps_ms = if answer.timestamps_ms.is_empty() {
        Vec::new()
    } else {
        numbers("timestamps-ms", &answer.timestamps_ms, lines, i64::from_le_bytes)?
    };
    Ok(Output {
        data: answer.lines.data,
        starts,
        ends,
        sources,
        keys: answer.keys.map(|keys| column("keys", keys, lines)).transpose()?,
        topics,
        timestamps_ms,
        headers: headers(answer.headers, lines)?,
    })
}

/// Everything counts, positions too: it is what the host has to hold.
fn size_of_output(answer: &wit::Output) -> usize {
    let of_column = |column: &wit::Column| column.present.len() + column.data.len() + column.ends.len();
    let of_lines = answer.lines.data.len() + answer.lines.starts.len() + answer.lines.ends.len();
    let of_headers: usize = answer.headers.iter().map(|header| header.name.len() + of_column(&header.values)).sum();
    of_lines
        + answer.source.len()
        + answer.keys.as_ref().map_or(0, of_column)
        + answer.topics.len()
        + answer.timestamps_ms.len()
        + of_headers
}

/// Starts and ends, rising and inside the data.
fn spans(lines: &wit::LinesOut) -> Checked<(Vec<u32>, Vec<u32>)> {
    let count = lines.ends.len() / 4;
    let starts = numbers("starts", &lines.starts, count, u32::from_le_bytes)?;
    let ends = numbers("ends", &lines.ends, count, u32::from_le_bytes)?;
    let mut before = 0;
    for (i, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
        if start < before || end < start {
            return Err(format!("line {i} is {start}..{end} and the one before ends at {before}"));
        }
        before = end;
    }
    if before as usize > lines.data.len() {
        return Err(format!("the last line ends at {before} of {} bytes", lines.data.len()));
    }
    Ok((starts, ends))
}

fn column(what: &str, column: wit::Column, lines: usize) -> Checked<Column> {
    if !column.present.is_empty() {
        exactly(&format!("{what}: present"), column.present.len(), lines.div_ceil(8))?;
    }
    let ends = numbers(&format!("{what}: ends"), &column.ends, lines, u32::from_le_bytes)?;
    let mut before = 0;
    let mut spans = Vec::with_capacity(lines);
    for (i, &end) in ends.iter().enumerate() {
        let present = column.present.is_empty() || column.present[i / 8] >> (i % 8) & 1 == 1;
        if end < before || (!present && end != before) {
            return Err(format!("{what}: value {i} ends at {end} and the one before at {before}"));
        }
        spans.push(present.then_some((before, end)));
        before = end;
    }
    if before as usize > column.data.len() {
        return Err(format!("{what}: the last value ends at {before} of {} bytes", column.data.len()));
    }
    Ok(Column { spans, data: column.data })
}

fn headers(headers: Vec<wit::Header>, lines: usize) -> Checked<Vec<Header>> {
    if headers.len() > HEADERS_MAX {
        return Err(format!("{} headers, and {HEADERS_MAX} are allowed", headers.len()));
    }
    let check = |header: wit::Header| {
        if header.name.is_empty() || header.name.len() > HEADER_NAME_BYTES_MAX {
            return Err(format!("a header's name has {} bytes", header.name.len()));
        }
        Ok(Header { values: column("a header", header.values, lines)?, name: header.name })
    };
    headers.into_iter().map(check).collect()
}

/// Unpacks a little-endian column of `count` numbers.
fn numbers<T, const N: usize>(what: &str, packed: &[u8], count: usize, from: impl Fn([u8; N]) -> T) -> Checked<Vec<T>> {
    exactly(what, packed.len(), count * N)?;
    let (chunks, _) = packed.as_chunks::<N>();
    Ok(chunks.iter().map(|chunk| from(*chunk)).collect())
}

fn exactly(what: &str, found: usize, wanted: usize) -> Checked<()> {
    if found == wanted { Ok(()) } else { Err(format!("{what} has {found} bytes in place of {wanted}")) }
}

fn in_window(what: &str, number: u64, allowed: &Allowed<'_>) -> Checked<()> {
    let (low, high) = (allowed.window.start(), allowed.window.end());
    match allowed.window.contains(&number) {
        true => Ok(()),
        false if low > high => Err(format!("{what} is {number}, and it was given no line yet")),
        false => Err(format!("{what} is {number}, not in {low}..={high}")),
    }
}

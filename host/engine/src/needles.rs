//! Lines with none of a filter's needles never enter wasm. One search runs over the whole chunk and the lines are found by
//! walking its matches: not a search a line.

use crate::answer::{Column, Lines, Mask, Outcome, Output};
use crate::check::kept;
use aho_corasick::{AhoCorasick, Input, MatchKind};
use memchr::memmem;

/// Byte strings that a filter may declare, and their bytes together.
pub(crate) const NEEDLES_MAX: usize = 1_024;
pub(crate) const NEEDLE_BYTES_MAX: usize = 64 << 10;

/// A search for several byte strings at once.
#[derive(Debug)]
pub(crate) enum Needles {
    One(Box<memmem::Finder<'static>>),
    Many(Box<AhoCorasick>),
}

impl Needles {
    /// `Ok(None)`: every line reaches the filter.
    pub(crate) fn new(needles: &[Vec<u8>]) -> Result<Option<Needles>, String> {
        if needles.iter().any(Vec::is_empty) {
            return Ok(None);
        }
        let bytes: usize = needles.iter().map(Vec::len).sum();
        if needles.len() > NEEDLES_MAX || bytes > NEEDLE_BYTES_MAX {
            return Err(format!(
                "{} needles of {bytes} bytes: {NEEDLES_MAX} of {NEEDLE_BYTES_MAX} are allowed",
                needles.len()
            ));
        }
        match needles {
            [] => Ok(None),
            [one] => Ok(Some(Needles::One(Box::new(memmem::Finder::new(one).into_owned())))),
            many => several(many).map(Some),
        }
    }

    /// The leftmost match at or behind `from`.
    fn find(&self, data: &[u8], from: usize) -> Option<(usize, usize)> {
        match self {
            Needles::One(finder) => {
                let at = from + finder.find(&data[from..])?;
                Some((at, at + finder.needle().len()))
            }
            Needles::Many(searcher) => {
                let found = searcher.find(Input::new(data).range(from..))?;
                Some((found.start(), found.end()))
            }
        }
    }

    /// Indices of the lines that hold a needle, rising, into `found`.
    pub(crate) fn lines(&self, lines: Lines<'_>, found: &mut Vec<u32>) {
        found.clear();
        let (Some(&begin), Some(&end)) = (lines.starts.first(), lines.ends.last()) else { return };
        let data = &lines.data[..end as usize];
        let (mut from, mut line) = (begin as usize, 0);
        while let Some((start, end)) = self.find(data, from) {
            while lines.ends[line] as usize <= start {
                line += 1;
            }
            // Across a terminator, or in one: not inside a line.
            if start < lines.starts[line] as usize || end > lines.ends[line] as usize {
                from = start + 1;
                continue;
            }
            found.push(line as u32);
            line += 1;
            match lines.starts.get(line) {
                Some(&next) => from = next as usize,
                None => return,
            }
        }
    }
}

/// Shortest first: of those that match at one place the shortest is found, and if that one leaves its line, all do.
fn several(needles: &[Vec<u8>]) -> Result<Needles, String> {
    let mut needles: Vec<&[u8]> = needles.iter().map(Vec::as_slice).collect();
    needles.sort_by_key(|needle| needle.len());
    match AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(needles) {
        Ok(searcher) => Ok(Needles::Many(Box::new(searcher))),
        Err(error) => Err(format!("its needles cannot be searched for: {error}")),
    }
}

/// Turns the outcome for the lines that were `given` (indices, rising) into one for all of them. `first`: sequence number of
/// the first of all; the filter called its i-th line `first + i`.
pub(crate) fn widen(outcome: Outcome, lines: Lines<'_>, given: &[u32], first: u64, keep_skipped: bool) -> Outcome {
    let all_given = |keep: bool| match (keep, keep_skipped) {
        (true, true) => Outcome::KeepAll,
        (false, false) => Outcome::DropAll,
        _ => kept(scatter(lines.len(), given.iter().copied(), keep, keep_skipped)),
    };
    match outcome {
        Outcome::KeepAll => all_given(true),
        Outcome::DropAll => all_given(false),
        Outcome::Keep(mask) => {
            let chosen = given.iter().enumerate().filter(|(i, _)| mask.get(*i) != keep_skipped).map(|(_, line)| *line);
            kept(scatter(lines.len(), chosen, !keep_skipped, keep_skipped))
        }
        Outcome::Emit(mut output) => {
            for source in &mut output.sources {
                *source = widen_number(*source, given, first);
            }
            Outcome::Emit(if keep_skipped { merge(output, lines, given, first) } else { output })
        }
    }
}

/// The sequence number of what the filter called `number`.
pub(crate) fn widen_number(number: u64, given: &[u32], first: u64) -> u64 {
    let i = number.saturating_sub(first) as usize;
    first + given.get(i).copied().map_or(0, u64::from)
}

/// A mask of `rest`, but `value` at the lines of `chosen`.
fn scatter(len: usize, chosen: impl Iterator<Item = u32>, value: bool, rest: bool) -> Mask {
    let mut mask = Mask { words: vec![if rest { u64::MAX } else { 0 }; len.div_ceil(64)], len };
    for line in chosen {
        let (word, bit) = (&mut mask.words[line as usize / 64], 1 << (line % 64));
        if value { *word |= bit } else { *word &= !bit }
    }
    if !len.is_multiple_of(64)
        && let Some(last) = mask.words.last_mut()
    {
        *last &= (1 << (len % 64)) - 1;
    }
    mask
}

/// Puts the skipped lines in between, each before the first new line that came from a later one.
fn merge(new: Output, lines: Lines<'_>, given: &[u32], first: u64) -> Output {
    let mut to = Merged::of(&new);
    let mut skipped = skipped_lines(lines.len(), given).peekable();
    for i in 0..new.len() {
        while let Some(line) = skipped.next_if(|line| first + (*line as u64) < new.sources[i]) {
            to.push_old(lines.line(line), first + line as u64);
        }
        to.push_new(&new, i);
    }
    skipped.for_each(|line| to.push_old(lines.line(line), first + line as u64));
    to.output
}

fn skipped_lines(len: usize, given: &[u32]) -> impl Iterator<Item = usize> + '_ {
    let mut given = given.iter().copied().peekable();
    (0..len).filter(move |line| given.next_if_eq(&(*line as u32)).is_none())
}

/// An output that grows by lines of another one and by old lines.
struct Merged {
    output: Output,
}

impl Merged {
    /// Empty, with the columns that `new` has.
    fn of(new: &Output) -> Merged {
        let headers =
            new.headers.iter().map(|header| crate::answer::Header { name: header.name.clone(), ..Default::default() });
        let output =
            Output { keys: new.keys.is_some().then(Column::default), headers: headers.collect(), ..Output::default() };
        Merged { output }
    }

    fn push_line(&mut self, line: &[u8], source: u64) {
        let output = &mut self.output;
        output.starts.push(output.data.len() as u32);
        output.data.extend_from_slice(line);
        output.ends.push(output.data.len() as u32);
        output.sources.push(source);
    }

    fn push_new(&mut self, new: &Output, i: usize) {
        // Columns that so far were defaults are filled up when the first value comes.
        let before = self.output.len();
        self.push_line(new.line(i), new.sources[i]);
        if let Some(&topic) = new.topics.get(i) {
            self.output.topics.resize(before, 0);
            self.output.topics.push(topic);
        }
        if let Some(&timestamp) = new.timestamps_ms.get(i) {
            self.output.timestamps_ms.resize(before, i64::MIN);
            self.output.timestamps_ms.push(timestamp);
        }
        if let (Some(to), Some(from)) = (&mut self.output.keys, &new.keys) {
            push_value(to, from.get(i));
        }
        for (to, from) in self.output.headers.iter_mut().zip(&new.headers) {
            push_value(&mut to.values, from.values.get(i));
        }
    }

    fn push_old(&mut self, line: &[u8], source: u64) {
        self.push_line(line, source);
        if !self.output.topics.is_empty() {
            self.output.topics.push(0);
        }
        if !self.output.timestamps_ms.is_empty() {
            self.output.timestamps_ms.push(i64::MIN);
        }
        if let Some(to) = &mut self.output.keys {
            push_value(to, None);
        }
        self.output.headers.iter_mut().for_each(|header| push_value(&mut header.values, None));
    }
}

fn push_value(to: &mut Column, value: Option<&[u8]>) {
    let start = to.data.len() as u32;
    to.data.extend_from_slice(value.unwrap_or_default());
    to.spans.push(value.map(|_| (start, to.data.len() as u32)));
}

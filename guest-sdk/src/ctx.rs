//! What a filter can do beside judging: emit lines, name keys and topics, hold lines, ask and tell the host.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::answer::{Lines, Outcome, Output};
use crate::held::{Held, Tracker};
use crate::host;
use crate::pack::{Mask, Rows};
use crate::verdict::Verdict;

/// The surroundings of one line (or of a tick, or of a flush).
pub struct Ctx<'a> {
    input: Lines<'a>,
    first: u64,
    at: usize,
    facts: &'a Facts,
    mask: Mask,
    rows: Option<Rows>,
    /// Nothing but bits so far, and nothing was asked for on this line: the fast lane.
    plain: bool,
    /// For the line being judged, should it be kept or replaced.
    extras: Extras,
    /// Rows of this call whose source nobody named.
    unsourced: Vec<usize>,
    problem: Option<String>,
}

/// What stays the same for the life of an instance.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) stateless: bool,
    pub(crate) held: Rc<Tracker>,
    pub(crate) topics: OnceCell<Vec<String>>,
}

#[derive(Default)]
struct Extras {
    any: bool,
    key: Option<Vec<u8>>,
    topic: Option<u16>,
    timestamp_ms: Option<i64>,
    headers: Vec<(String, Vec<u8>)>,
}

impl<'a> Ctx<'a> {
    pub(crate) fn new(first: u64, input: Lines<'a>, facts: &'a Facts) -> Ctx<'a> {
        Ctx {
            input,
            first,
            at: 0,
            facts,
            mask: Mask::new(input.len()),
            rows: None,
            plain: true,
            extras: Extras::default(),
            unsourced: Vec::new(),
            problem: None,
        }
    }

    /// Adds a line to what goes on, before the line being judged. Say [`Verdict::Emitted`] to have only what was emitted.
    ///
    /// ```
    /// use tailmill_filter::prelude::*;
    ///
    /// #[filter]
    /// fn words(line: &[u8], ctx: &mut Ctx) -> Verdict {
    ///     for word in line.split(|byte| *byte == b' ') {
    ///         ctx.emit(word).key(&word[..1]);
    ///     }
    ///     Verdict::Emitted
    /// }
    ///
    /// assert_eq!(tailmill_filter::testing::texts::<words>("{}", ["a b", "c"]), ["a", "b", "c"]);
    /// ```
    pub fn emit(&mut self, line: &[u8]) -> Record<'_, 'a> {
        self.emit_with(|out| out.extend(line))
    }

    /// As [`emit`](Ctx::emit), writing the line in place: no buffer of its own.
    pub fn emit_with(&mut self, write: impl FnOnce(&mut LineWriter<'_>)) -> Record<'_, 'a> {
        let source = self.default_source();
        let row = self.push(source, write);
        self.unsourced.push(row);
        Record { ctx: self, row }
    }

    /// As [`emit`](Ctx::emit), naming the held line that this one comes from. Needed only where several held lines are let go
    /// in one call: otherwise the oldest `Held` that is dropped in the call counts as the source.
    pub fn emit_from(&mut self, held: &Held, line: &[u8]) -> Record<'_, 'a> {
        let row = self.push(held.line(), |out| out.extend(line));
        Record { ctx: self, row }
    }

    /// Keeps the line back: it counts as inside the filter until the [`Held`] is dropped. Answer with [`Verdict::Hold`].
    pub fn hold(&mut self) -> Held {
        if self.facts.stateless {
            self.fail("a stateless filter cannot hold a line");
        } else if self.input.is_empty() {
            self.fail("there is no line to hold in a tick or a flush");
        }
        Held::new(&self.facts.held, self.line_number())
    }

    /// Record key of this line, should it be kept or replaced.
    pub fn set_key(&mut self, key: &[u8]) {
        self.extras().key = Some(key.to_vec());
    }

    /// Topic of this line, should it be kept or replaced: one of [`topics`](Ctx::topics); another name is a fault.
    pub fn set_topic(&mut self, topic: &str) {
        if let Some(index) = self.topic_index(topic) {
            self.extras().topic = Some(index);
        }
    }

    /// Record time of this line, should it be kept or replaced, in milliseconds since the Unix epoch.
    pub fn set_timestamp_ms(&mut self, at: i64) {
        self.extras().timestamp_ms = Some(at);
    }

    /// Adds a record header to this line, should it be kept or replaced.
    pub fn set_header(&mut self, name: &str, value: &[u8]) {
        self.extras().headers.push((name.to_string(), value.to_vec()));
    }

    /// The number of this line in its stream, at this place of the filter chain.
    pub fn line_number(&self) -> u64 {
        self.first + self.at as u64
    }

    /// Topics that a line may go to; the first is the entry's own.
    pub fn topics(&self) -> &'a [String] {
        self.facts.topics.get_or_init(host::topics)
    }

    /// Path of the file, as bytes.
    pub fn path(&self) -> Vec<u8> {
        host::path()
    }

    /// Name of the machine.
    pub fn node(&self) -> String {
        host::node()
    }

    /// The same number for the same stream, for the life of the agent's process.
    pub fn stream_id(&self) -> u64 {
        host::stream_id()
    }

    /// Where the first line of the batch starts in its file.
    pub fn first_offset(&self) -> u64 {
        host::first_offset()
    }

    /// Number of the line of the file, the first being 1, with which the batch that was read begins. It stays the same behind
    /// filters that drop, join or make lines, so the number of a line is this one plus its place only in a first filter, and
    /// only where the host neither joins nor skips lines: for numbers of single lines ask the entry for the header `line`.
    ///
    /// `None`: not known, as of a file that was begun at its end. As [`inode`](Ctx::inode) and
    /// [`generation`](Ctx::generation), since version 1.1 of the contract: an agent of 1.0 does not load a filter that asks.
    pub fn first_line(&self) -> Option<u64> {
        Some(host::first_line()).filter(|line| *line > 0)
    }

    /// Inode number of the file. `None`: not known. Since version 1.1 of the contract.
    pub fn inode(&self) -> Option<u64> {
        Some(host::inode()).filter(|inode| *inode > 0)
    }

    /// The id of the file: another one when it was truncated or replaced, the same when it was renamed, also after a restart of
    /// the agent. Empty: not known. Since version 1.1 of the contract.
    pub fn generation(&self) -> String {
        host::generation()
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now_ns(&self) -> u64 {
        host::now_ns()
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        (host::now_ns() / 1_000_000) as i64
    }

    fn extras(&mut self) -> &mut Extras {
        self.plain = false;
        self.extras.any = true;
        &mut self.extras
    }

    fn fail(&mut self, message: impl Into<String>) {
        self.plain = false;
        self.problem.get_or_insert(message.into());
    }

    fn topic_index(&mut self, topic: &str) -> Option<u16> {
        let topics = self.topics();
        let index = topics.iter().position(|known| known == topic);
        if index.is_none() {
            self.fail(format!("topic `{topic}` is not one of the entry's topics ({})", topics.join(", ")));
        }
        index.map(|index| index as u16)
    }

    /// The line itself; in a tick or a flush the oldest held line, else the last line that was seen.
    fn default_source(&self) -> u64 {
        if !self.input.is_empty() {
            return self.line_number();
        }
        self.facts.held.oldest().unwrap_or(self.first.saturating_sub(1))
    }

    fn push(&mut self, source: u64, write: impl FnOnce(&mut LineWriter<'_>)) -> usize {
        self.plain = false;
        let (input, first) = (self.input, self.first);
        self.rows().emit(source, &input, first, |data| write(&mut LineWriter { data }))
    }

    /// From now on this answer is rows: the lines that had only a bit so far become rows too.
    fn rows(&mut self) -> &mut Rows {
        self.rows.get_or_insert_with(|| {
            let mut rows = Rows::sized_for(&self.input);
            if self.mask.kept > 0 {
                (0..self.at).filter(|at| self.mask.keeps(*at)).for_each(|at| rows.keep(at, &self.input, self.first));
            }
            rows
        })
    }

    #[inline]
    pub(crate) fn begin(&mut self, at: usize) {
        self.at = at;
        if !self.facts.stateless {
            self.facts.held.forget_let_go();
        }
    }

    /// Takes the verdict on the current line into the answer.
    #[inline]
    pub(crate) fn settle(&mut self, verdict: Verdict) -> Result<(), String> {
        match verdict {
            Verdict::Keep if self.plain => self.mask.keep(self.at),
            Verdict::Drop if self.plain => {}
            verdict => return self.settle_slowly(verdict),
        }
        Ok(())
    }

    fn settle_slowly(&mut self, verdict: Verdict) -> Result<(), String> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let row = match verdict {
            Verdict::Keep => self.keep_slowly(),
            Verdict::Replace(line) => {
                let row = self.push(self.line_number(), |out| out.extend(&line));
                self.unsourced.push(row);
                Some(row)
            }
            Verdict::Hold if self.facts.held.oldest().is_none() => {
                return Err("the filter said it holds the line, but no `Held` of it lives".into());
            }
            Verdict::Drop | Verdict::Emitted | Verdict::Hold => None,
        };
        match row {
            Some(row) if self.extras.any => self.apply_extras(row),
            _ => self.extras = Extras::default(),
        }
        self.name_sources();
        self.plain = self.rows.is_none();
        Ok(())
    }

    /// The row of the kept line, if the answer is in rows.
    fn keep_slowly(&mut self) -> Option<usize> {
        if self.rows.is_none() && !self.extras.any {
            self.mask.keep(self.at);
            return None;
        }
        let (at, input, first) = (self.at, self.input, self.first);
        let rows = self.rows();
        rows.keep(at, &input, first);
        Some(rows.len() - 1)
    }

    fn apply_extras(&mut self, row: usize) {
        let extras = std::mem::take(&mut self.extras);
        let rows = self.rows();
        if let Some(key) = extras.key {
            rows.set_key(row, &key);
        }
        if let Some(topic) = extras.topic {
            rows.set_topic(row, topic);
        }
        if let Some(at) = extras.timestamp_ms {
            rows.set_timestamp_ms(row, at);
        }
        for (name, value) in extras.headers {
            rows.set_header(row, &name, &value);
        }
    }

    /// A row that was emitted in the call that let a held line go was made from that line.
    fn name_sources(&mut self) {
        let let_go = self.facts.held.take_let_go();
        let Some(rows) = &mut self.rows else { return };
        for row in self.unsourced.drain(..) {
            if let Some(source) = let_go.filter(|source| *source < self.first + self.at as u64) {
                rows.set_source(row, source);
            }
        }
    }

    pub(crate) fn finish(self) -> Outcome {
        let lines = self.input.len();
        match self.rows {
            Some(rows) if rows.len() == 0 => Outcome::DropAll,
            Some(rows) => Outcome::Emit(rows.finish(&self.input, self.first)),
            None if self.mask.kept == lines => Outcome::KeepAll,
            None if self.mask.kept == 0 => Outcome::DropAll,
            None => Outcome::Keep(self.mask.into_bytes(lines)),
        }
    }

    /// The end of a tick or a flush.
    pub(crate) fn finish_release(mut self) -> Result<Option<Output>, String> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        self.name_sources();
        Ok(self.rows.filter(|rows| rows.len() > 0).map(|rows| rows.finish(&self.input, self.first)))
    }
}

/// A line that was just emitted, for giving it a key, a topic, a time and headers.
pub struct Record<'c, 'a> {
    ctx: &'c mut Ctx<'a>,
    row: usize,
}

impl Record<'_, '_> {
    /// Record key.
    pub fn key(self, key: &[u8]) -> Self {
        self.ctx.rows().set_key(self.row, key);
        self
    }

    /// One of the entry's topics; another name is a fault.
    pub fn topic(self, topic: &str) -> Self {
        if let Some(index) = self.ctx.topic_index(topic) {
            self.ctx.rows().set_topic(self.row, index);
        }
        self
    }

    /// Record time in milliseconds since the Unix epoch.
    pub fn timestamp_ms(self, at: i64) -> Self {
        self.ctx.rows().set_timestamp_ms(self.row, at);
        self
    }

    /// Adds a record header.
    pub fn header(self, name: &str, value: &[u8]) -> Self {
        self.ctx.rows().set_header(self.row, name, value);
        self
    }
}

/// Writes one line of the output. Works with `write!` too ([`std::io::Write`]; it cannot fail).
pub struct LineWriter<'a> {
    data: &'a mut Vec<u8>,
}

impl LineWriter<'_> {
    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    /// Appends one byte.
    pub fn push(&mut self, byte: u8) {
        self.data.push(byte);
    }
}

impl std::io::Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

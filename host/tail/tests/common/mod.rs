//! What the tests of the reader share: a file that grows, a naive splitter to compare with, and a driver that checks
//! every batch on its way.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "test code, used in part by each test"
)]

pub mod world;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use tailmill_tail::evidence::Verdict;
use tailmill_tail::{
    Batch, BatchLimits, BufferPool, Delimiter, Evidence, Framing, Multiline, MultilineRule, Packing, Read, Reader,
    TooLong,
};

/// A line as it should come: its bytes, and the offset behind its terminator.
pub type Line = (Vec<u8>, u64);

/// What a file should come to.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub struct Expected {
    pub lines: Vec<Line>,
    pub skipped_lines: u64,
    pub skipped_bytes: u64,
    pub cut_lines: u64,
    pub replaced: u64,
    /// Bytes behind the last complete line.
    pub partial_bytes: u64,
}

/// One physical line of the naive splitter.
struct Physical {
    text: Vec<u8>,
    /// Its terminator, as text.
    terminator: Vec<u8>,
    /// Where it begins and ends in the file, terminator included.
    start: usize,
    next: usize,
    replaced: u64,
}

/// The naive splitter: slow, and simple enough to be believed. `breaks`: where a join timed out.
pub fn expected_with(content: &[u8], framing: &Framing, finished: bool, breaks: &BTreeSet<u64>) -> Expected {
    let (physical, rest) = physical_lines(content, framing, finished);
    let line_max = match &framing.multiline {
        Some(multiline) => framing.line_bytes_max.min(multiline.bytes_max),
        None => framing.line_bytes_max,
    };
    let terminator_max = match &framing.delimiter {
        Delimiter::Newline => 2,
        Delimiter::Bytes(bytes) => bytes.len(),
    };
    let mut out = Expected::default();
    // Lines of the join that is open.
    let mut open: Vec<Physical> = Vec::new();
    let close = |open: &mut Vec<Physical>, out: &mut Expected| {
        let Some(last) = open.last() else { return };
        let next = last.next as u64;
        let lines = std::mem::take(open);
        out.replaced += lines.iter().map(|line| line.replaced).sum::<u64>();
        let without_last = lines.len() - 1;
        let parts = lines.iter().enumerate().map(|(i, line)| match i < without_last {
            true => [&line.text[..], &line.terminator[..]].concat(),
            false => line.text.clone(),
        });
        out.lines.push((parts.collect::<Vec<_>>().concat(), next));
    };
    let mut upto = 0;
    for line in physical {
        let (next, too_long) = (line.next, line.text.len() > line_max);
        let (begins, ends) = joins(framing, &line.text);
        let before: usize = open.iter().map(|line| line.text.len() + line.terminator.len()).sum();
        let too_big = !open.is_empty()
            && framing.multiline.as_ref().is_some_and(|multiline| before + line.text.len() > multiline.bytes_max);
        if too_long || begins || too_big {
            close(&mut open, &mut out);
        }
        if too_long && framing.too_long == TooLong::Skip {
            out.skipped_lines += 1;
            out.skipped_bytes += (line.next - line.start) as u64;
        } else if too_long {
            out.cut_lines += 1;
            out.lines.push((cut(&line.text, line_max, framing.encoding.is_some()), next as u64));
        } else {
            open.push(line);
            if ends || breaks.contains(&(next as u64)) {
                close(&mut open, &mut out);
            }
        }
        upto = open.first().map_or(next, |line| line.start);
    }
    // What is too long already ends a join, although its own end was not seen.
    if !open.is_empty() && (finished || rest >= line_max + terminator_max) {
        upto = open.last().unwrap().next;
        close(&mut open, &mut out);
    }
    if finished && upto < content.len() {
        out.skipped_bytes += (content.len() - upto) as u64; // a byte order mark and nothing else
        upto = content.len();
    }
    out.partial_bytes = (content.len() - upto) as u64;
    out
}

pub fn expected(content: &[u8], framing: &Framing, finished: bool) -> Expected {
    expected_with(content, framing, finished, &BTreeSet::new())
}

fn cut(text: &[u8], max: usize, is_text: bool) -> Vec<u8> {
    let mut end = max;
    while is_text && std::str::from_utf8(&text[..end]).is_err() {
        end -= 1;
    }
    text[..end].to_vec()
}

/// Whether a line begins a join, and whether it ends one.
fn joins(framing: &Framing, line: &[u8]) -> (bool, bool) {
    match framing.multiline.as_ref().map(|multiline| &multiline.rule) {
        None => (true, true),
        Some(MultilineRule::Start(start)) => (start.is_match(line), false),
        Some(MultilineRule::End(end)) => (false, end.is_match(line)),
        Some(MultilineRule::Continue(more)) => (!more.is_match(line), false),
    }
}

/// The physical lines of a file, and how much text is behind the last of them.
fn physical_lines(content: &[u8], framing: &Framing, finished: bool) -> (Vec<Physical>, usize) {
    let named = framing.encoding.map(|encoding| encoding_rs::Encoding::for_label(encoding.name().as_bytes()).unwrap());
    let (encoding, mark) = match named {
        Some(named) => encoding_rs::Encoding::for_bom(content).map_or((Some(named), 0), |(e, len)| (Some(e), len)),
        None => (None, 0),
    };
    let little = encoding == Some(encoding_rs::UTF_16LE);
    let unit = if little || encoding == Some(encoding_rs::UTF_16BE) { 2 } else { 1 };
    let form = |text: &[u8]| -> Vec<u8> {
        match unit {
            1 => text.to_vec(),
            _ => text.iter().flat_map(|&byte| if little { [byte, 0] } else { [0, byte] }).collect(),
        }
    };
    let terminator = match &framing.delimiter {
        Delimiter::Newline => b"\n".to_vec(),
        Delimiter::Bytes(bytes) => bytes.to_vec(),
    };
    let (needle, cr) = (form(&terminator), form(b"\r"));
    let mut lines = Vec::new();
    let (mut start, mut text_start, mut at) = (0, mark, mark);
    while at + needle.len() <= content.len() {
        if !content[at..].starts_with(&needle) {
            at += unit;
            continue;
        }
        let mut bytes = &content[text_start..at];
        let mut ending = terminator.clone();
        if framing.delimiter == Delimiter::Newline
            && let Some(stripped) = bytes.strip_suffix(&cr[..])
        {
            bytes = stripped;
            ending = b"\r\n".to_vec();
        }
        let (text, replaced) = text_of(bytes, encoding, true);
        let next = at + needle.len();
        lines.push(Physical { text, terminator: ending, start, next, replaced });
        (start, text_start, at) = (next, next, next);
    }
    let (text, replaced) = text_of(&content[text_start.min(content.len())..], encoding, finished);
    let rest = text.len();
    if finished && rest > 0 {
        lines.push(Physical { text, terminator: vec![], start, next: content.len(), replaced });
    }
    (lines, rest)
}

/// Bytes as text. UTF-16 is decoded by the standard library, for a second opinion.
fn text_of(bytes: &[u8], encoding: Option<&'static encoding_rs::Encoding>, whole: bool) -> (Vec<u8>, u64) {
    let Some(encoding) = encoding else { return (bytes.to_vec(), 0) };
    let little = encoding == encoding_rs::UTF_16LE;
    if little || encoding == encoding_rs::UTF_16BE {
        let unit = |pair: &[u8]| match little {
            true => u16::from_le_bytes([pair[0], pair[1]]),
            false => u16::from_be_bytes([pair[0], pair[1]]),
        };
        let mut units: Vec<u16> = bytes.chunks_exact(2).map(unit).collect();
        let mut odd = bytes.len() % 2 == 1;
        if units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) && (!whole || odd) {
            units.pop(); // waits for its other half; half a unit behind it makes one malformed thing of both
            odd = whole;
        }
        let mut malformed = 0;
        let count = |found: Result<char, _>| found.unwrap_or_else(|_| (malformed += 1, '\u{fffd}').1);
        let mut text: String = char::decode_utf16(units).map(count).collect();
        let replaced = text.matches('\u{fffd}').count() as u64;
        if whole && odd {
            text.push('\u{fffd}');
        }
        let bad = malformed > 0 || (whole && odd);
        return (text.into_bytes(), if bad { replaced + u64::from(whole && odd) } else { 0 });
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = vec![0; bytes.len() * 3 + 16];
    let (_, _, written, errors) = decoder.decode_to_utf8(bytes, &mut text, whole);
    text.truncate(written);
    let replaced = if errors { String::from_utf8(text.clone()).unwrap().matches('\u{fffd}').count() } else { 0 };
    (text, replaced as u64)
}

/// Bytes as one member of a compressed file.
pub fn pack(bytes: &[u8], packing: Option<Packing>) -> Vec<u8> {
    match packing {
        None => bytes.to_vec(),
        Some(Packing::Gzip) => {
            let mut encoder =
                flate2::GzBuilder::new().filename("a name").write(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Some(Packing::Zstd) => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// So many random scripts, unless the environment asks for another number (a soak).
pub fn scripts(cases: u32) -> proptest::prelude::ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    proptest::prelude::ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..Default::default() }
}

/// A file, its reader, and what came out of it so far.
pub struct Bench {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    pub reader: Reader,
    pub limits: BatchLimits,
    pub pool: BufferPool,
    pub batches: Vec<Batch>,
    pub content: Vec<u8>,
    pub at_end_partial_bytes: u64,
    framing: Arc<Framing>,
    /// Where a join timed out.
    pub breaks: BTreeSet<u64>,
    packing: Option<Packing>,
    /// Content whose compressed form was not written yet, and that form.
    behind: usize,
    unwritten: Vec<u8>,
}

impl Bench {
    pub fn new(framing: &Framing, limits: BatchLimits, pool_bytes: usize) -> Bench {
        Self::packed(framing, limits, pool_bytes, None)
    }

    /// What is appended is written as a member of its own.
    pub fn packed(framing: &Framing, limits: BatchLimits, pool_bytes: usize, packing: Option<Packing>) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap();
        let framing = Arc::new(Framing { compressed: packing.is_some(), ..framing.clone() });
        let reader = Reader::new(File::open(&path).unwrap(), 0, Evidence::default(), framing.clone()).unwrap();
        let pool = BufferPool::new(pool_bytes, 4);
        let (batches, content, breaks) = (vec![], vec![], BTreeSet::new());
        Bench {
            _dir: dir,
            path,
            reader,
            limits,
            pool,
            batches,
            content,
            at_end_partial_bytes: 0,
            framing,
            breaks,
            packing,
            behind: 0,
            unwritten: vec![],
        }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.write_rest();
        self.append_in_part(bytes, usize::MAX);
        self.write_rest();
    }

    /// As `append`, but only so many bytes of what has to be written come to the disk now.
    pub fn append_in_part(&mut self, bytes: &[u8], written: usize) {
        self.write_rest();
        if bytes.is_empty() {
            return;
        }
        self.unwritten = pack(bytes, self.packing);
        self.content.extend_from_slice(bytes);
        self.behind = bytes.len();
        let now: Vec<u8> = self.unwritten.drain(..written.min(self.unwritten.len())).collect();
        self.write(&now);
        if self.unwritten.is_empty() {
            self.behind = 0;
        }
    }

    /// The rest of what was not written.
    pub fn write_rest(&mut self) {
        let rest = std::mem::take(&mut self.unwritten);
        self.write(&rest);
        self.behind = 0;
    }

    pub fn write(&mut self, bytes: &[u8]) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
    }

    /// Other bytes in the same file.
    pub fn replace(&mut self, bytes: &[u8]) {
        std::fs::write(&self.path, bytes).unwrap();
    }

    pub fn file(&self) -> File {
        File::open(&self.path).unwrap()
    }

    /// Takes one look. False: at the end.
    pub fn step(&mut self, finish: bool) -> bool {
        let before = self.reader.position();
        let read = match finish {
            true => self.reader.finish(&self.limits, &self.pool).unwrap(),
            false => self.reader.read(&self.limits, &self.pool).unwrap(),
        };
        match read {
            Read::Batch(batch) => {
                self.check(&batch, before);
                self.batches.push(batch);
                true
            }
            Read::Working | Read::Waiting => true,
            Read::AtEnd { partial_bytes } => {
                self.at_end_partial_bytes = partial_bytes;
                let seen = self.reader.position() + partial_bytes;
                let all = self.content.len() as u64;
                match self.packing {
                    None => assert_eq!(seen + self.unwritten.len() as u64, all),
                    // What was not written in whole may be seen in part; a file of few bytes is not told yet.
                    Some(_) => assert!(seen <= all || self.reader.position() == 0, "{seen} of {all}"),
                }
                assert!(seen + self.behind as u64 >= all, "{seen} of {all}, {} behind", self.behind);
                false
            }
            Read::Truncated { size } => panic!("truncated to {size}, which nobody did"),
        }
    }

    pub fn read_to_end(&mut self, finish: bool) {
        while self.step(finish) {}
    }

    /// Forgets what was handed out from batch `n` on, and rewinds the reader to its start.
    pub fn rewind_to_batch(&mut self, n: usize) {
        let batch = &self.batches[n];
        let from = batch.first_offset;
        self.reader.rewind(from, batch.evidence).unwrap();
        self.batches.truncate(n);
        self.breaks.retain(|at| *at <= from);
    }

    /// Another process goes on from a mark: behind line `i` of batch `n`.
    pub fn restart_from_mark(&mut self, n: usize, i: usize) {
        let batch = &mut self.batches[n];
        // What was cut or replaced is counted for the batch, not for its lines: then only a whole batch is settled.
        let part = batch.cut_lines + batch.replaced == 0 && i < batch.len();
        let mark = if part { batch.line_ends[i] } else { batch.end_offset };
        if part {
            for column in [&mut batch.starts, &mut batch.ends] {
                column.truncate(i + 1);
            }
            batch.line_ends.truncate(i + 1);
            (batch.end_offset, batch.skipped_lines, batch.skipped_bytes) = (mark, 0, 0);
        }
        let evidence = batch.evidence;
        self.batches.truncate(n + 1);
        self.breaks.retain(|at| *at <= mark);
        self.reader = Reader::new(self.file(), mark, evidence, self.framing.clone()).unwrap();
    }

    /// The time of a join that waits is over.
    pub fn let_the_join_time_out(&mut self) {
        self.read_to_end(false);
        let Some(due) = self.reader.join_due() else { return };
        let before = self.reader.position();
        let Read::Batch(batch) = self.reader.read_due(&self.limits, &self.pool, due).unwrap() else {
            panic!("due, and not complete")
        };
        assert_eq!(batch.len(), 1);
        self.check(&batch, before);
        self.breaks.insert(batch.end_offset);
        self.batches.push(batch);
        self.read_to_end(false);
    }

    /// What should have come out.
    pub fn expected(&self, finished: bool) -> Expected {
        expected_with(&self.content, &self.framing, finished, &self.breaks)
    }

    /// Every number of a line that a batch tells is right.
    pub fn check_line_numbers(&self) {
        let (physical, _) = physical_lines(&self.content, &self.framing, true);
        for batch in &self.batches {
            let before = physical.iter().filter(|line| line.next as u64 <= batch.first_offset).count();
            assert!(batch.first_line.is_none_or(|number| number == before as u64 + 1), "{:?}", batch.first_line);
        }
    }

    /// What came out, in the form of what is expected.
    pub fn outcome(&self) -> Expected {
        let mut out = Expected { partial_bytes: self.at_end_partial_bytes, ..Expected::default() };
        for batch in &self.batches {
            out.lines.extend((0..batch.len()).map(|i| (batch.line(i).to_vec(), batch.line_ends[i])));
            out.skipped_lines += batch.skipped_lines;
            out.skipped_bytes += batch.skipped_bytes;
            out.cut_lines += batch.cut_lines;
            out.replaced += batch.replaced;
        }
        out
    }

    /// The promises of a batch, whatever is in it.
    fn check(&self, batch: &Batch, before: u64) {
        assert_eq!(batch.first_offset, before, "a batch begins where the one before ended");
        assert_eq!(batch.end_offset, self.reader.position());
        assert!(batch.end_offset > batch.first_offset, "a batch stands for something");
        assert!(batch.len() <= self.limits.lines && batch.ends.len() == batch.len());
        assert!(batch.len() == batch.line_ends.len());
        let lines_bytes: u64 = (0..batch.len()).map(|i| batch.line_bytes(i)).sum();
        assert_eq!(lines_bytes + batch.skipped_bytes, batch.bytes(), "every byte is accounted for");
        let text_bytes = batch.ends.last().map_or(0, |end| end - batch.starts[0]) as usize;
        assert!(batch.len() <= 1 || text_bytes <= self.limits.bytes, "no batch is larger than the limit");
        assert!((0..batch.len()).all(|i| batch.line_offset(i) < batch.line_ends[i]));
        assert!(batch.evidence.at <= batch.first_offset);
        assert_eq!(batch.evidence.packed_bytes.is_some(), self.packing.is_some());
        assert_eq!(batch.evidence.check_all(&self.file()).unwrap(), Verdict::Same);
    }
}

pub fn plain(line_bytes_max: usize, too_long: TooLong) -> Framing {
    Framing { line_bytes_max, too_long, ..Framing::default() }
}

pub fn joined(rule: MultilineRule, bytes_max: usize, line_bytes_max: usize, too_long: TooLong) -> Framing {
    let timeout = std::time::Duration::from_secs(3600);
    let multiline = Some(Multiline { rule, timeout, bytes_max });
    Framing { line_bytes_max, too_long, multiline, ..Framing::default() }
}

pub fn regex(pattern: &str) -> regex::bytes::Regex {
    regex::bytes::Regex::new(pattern).unwrap()
}

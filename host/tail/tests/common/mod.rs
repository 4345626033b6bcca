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

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use tailmill_tail::evidence::Verdict;
use tailmill_tail::{
    Batch, BatchLimits, BufferPool, Evidence, Framing, Multiline, MultilineRule, Read, Reader, TooLong,
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
    /// Bytes behind the last complete line.
    pub partial_bytes: u64,
}

/// The naive splitter: slow, and simple enough to be believed.
pub fn expected(content: &[u8], framing: &Framing, finished: bool) -> Expected {
    let physical = physical_lines(content, finished);
    let line_max = match &framing.multiline {
        Some(multiline) => framing.line_bytes_max.min(multiline.bytes_max),
        None => framing.line_bytes_max,
    };
    let mut out = Expected::default();
    let mut open: Option<(usize, usize, usize)> = None;
    let mut upto = 0;
    for (start, end, next) in physical {
        let too_long = end - start > line_max;
        let (begins, ends) = joins(framing, &content[start..end]);
        let too_big = match (&framing.multiline, open) {
            (Some(multiline), Some(open)) => end - open.0 > multiline.bytes_max,
            _ => false,
        };
        if (too_long || begins || too_big)
            && let Some((s, e, n)) = open.take()
        {
            out.lines.push((content[s..e].to_vec(), n as u64));
            upto = n;
        }
        if too_long && framing.too_long == TooLong::Skip {
            out.skipped_lines += 1;
            out.skipped_bytes += (next - start) as u64;
            upto = next;
        } else if too_long {
            out.cut_lines += 1;
            out.lines.push((content[start..start + line_max].to_vec(), next as u64));
            upto = next;
        } else {
            open = Some((open.map_or(start, |o| o.0), end, next));
            if ends {
                let (s, e, n) = open.take().unwrap();
                out.lines.push((content[s..e].to_vec(), n as u64));
                upto = n;
            }
        }
    }
    // What is too long already ends a join, although its own end was not seen.
    let rest = content.len() - open.map_or(upto, |o| o.2);
    if let Some((s, e, n)) = open
        && (finished || rest >= line_max + 2)
    {
        out.lines.push((content[s..e].to_vec(), n as u64));
        upto = n;
    }
    out.partial_bytes = (content.len() - upto) as u64;
    out
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

fn physical_lines(content: &[u8], finished: bool) -> Vec<(usize, usize, usize)> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (i, &byte) in content.iter().enumerate() {
        if byte == b'\n' {
            let end = if i > start && content[i - 1] == b'\r' { i - 1 } else { i };
            lines.push((start, end, i + 1));
            start = i + 1;
        }
    }
    if finished && start < content.len() {
        lines.push((start, content.len(), content.len()));
    }
    lines
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
}

impl Bench {
    pub fn new(framing: &Framing, limits: BatchLimits, pool_bytes: usize) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap();
        let reader =
            Reader::new(File::open(&path).unwrap(), 0, Evidence::default(), Arc::new(framing.clone())).unwrap();
        let pool = BufferPool::new(pool_bytes, 4);
        Bench { _dir: dir, path, reader, limits, pool, batches: vec![], content: vec![], at_end_partial_bytes: 0 }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
        self.content.extend_from_slice(bytes);
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
            Read::Working => true,
            Read::AtEnd { partial_bytes } => {
                self.at_end_partial_bytes = partial_bytes;
                assert_eq!(self.reader.position() + partial_bytes, self.content.len() as u64);
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
        self.reader.rewind(batch.first_offset, batch.evidence).unwrap();
        self.batches.truncate(n);
    }

    /// What came out, in the form of what is expected.
    pub fn outcome(&self) -> Expected {
        let mut out = Expected { partial_bytes: self.at_end_partial_bytes, ..Expected::default() };
        for batch in &self.batches {
            out.lines.extend((0..batch.len()).map(|i| (batch.line(i).to_vec(), batch.line_ends[i])));
            out.skipped_lines += batch.skipped_lines;
            out.skipped_bytes += batch.skipped_bytes;
            out.cut_lines += batch.cut_lines;
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
        assert!(batch.len() <= 1 || lines_bytes <= self.limits.bytes as u64, "no batch is larger than the limit");
        assert!((0..batch.len()).all(|i| batch.line_offset(i) < batch.line_ends[i]));
        assert!(batch.evidence.at <= batch.first_offset);
        assert_eq!(batch.evidence.check_all(&self.file()).unwrap(), Verdict::Same);
    }
}

pub fn plain(line_bytes_max: usize, too_long: TooLong) -> Framing {
    Framing { line_bytes_max, too_long, multiline: None }
}

pub fn joined(rule: MultilineRule, bytes_max: usize, line_bytes_max: usize, too_long: TooLong) -> Framing {
    let timeout = std::time::Duration::from_secs(3600);
    Framing { line_bytes_max, too_long, multiline: Some(Multiline { rule, timeout, bytes_max }) }
}

pub fn regex(pattern: &str) -> regex::bytes::Regex {
    regex::bytes::Regex::new(pattern).unwrap()
}

//! Files to batches, by the agent's own reader and framing; and batches made by hand, cut where a caller likes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tailmill_tail::{Batch, BatchLimits, BufferPool, Chunk, Evidence, FileOffset, Framing, Read, Reader};

use super::Stop;

/// All lines are in memory at once.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The lines of a file, in batches as the agent cuts them.
pub(super) struct Text {
    pub(super) path: PathBuf,
    pub(super) batches: Vec<Batch>,
}

impl Text {
    /// Also the last line counts that has no newline: nobody will write on.
    pub(super) fn read(path: &Path) -> Result<Text, Stop> {
        let refused = |why: &str| Stop::Usage(format!("while reading {}: {why}", path.display()));
        let meta = std::fs::metadata(path).map_err(|error| refused(&error.to_string()))?;
        if meta.is_dir() {
            return Err(refused("it is a directory; name a file of lines (--cases DIR takes a directory of cases)"));
        }
        if !meta.is_file() {
            return Err(refused("it is no regular file; save the lines into one first"));
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(refused("it is larger than 1 GiB; take a part of it, as with `head -n 1000000`"));
        }
        let file = File::open(path).map_err(|error| refused(&error.to_string()))?;
        let batches = whole(file).with_context(|| format!("while reading {}", path.display()))?;
        Ok(Text { path: path.to_owned(), batches })
    }

    pub(super) fn lines(&self) -> Vec<&[u8]> {
        self.batches.iter().flat_map(|batch| (0..batch.len()).map(|i| batch.line(i))).collect()
    }
}

fn whole(file: File) -> anyhow::Result<Vec<Batch>> {
    let limits = BatchLimits::default();
    let pool = BufferPool::new(limits.bytes, 0);
    let mut reader = Reader::new(file, 0, Evidence::default(), Arc::new(Framing::default()))?;
    let mut batches = Vec::new();
    loop {
        match reader.finish(&limits, &pool)? {
            Read::Batch(batch) => batches.push(batch),
            Read::Working | Read::Waiting => {}
            Read::AtEnd { .. } => return Ok(batches),
            Read::Truncated { .. } => anyhow::bail!("it changed while it was read"),
        }
    }
}

/// What lies between two lines, beside the newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// Nothing, as in a file.
    Nothing,
    /// Other lines, as behind a filter that dropped them.
    Others,
}

/// What stands in the place of dropped lines: a filter that looks for newlines itself will take it for a line.
const OTHER: &[u8] = b"this line was dropped before\n\xff\n";

/// Batches that hold these lines.
pub(super) fn batches(groups: &[Vec<Vec<u8>>], between: Between) -> Vec<Batch> {
    let (mut at, mut line): (FileOffset, u64) = (0, 1);
    let groups = groups.iter().filter(|group| !group.is_empty());
    groups
        .map(|group| {
            let mut batch = batch(group, at, between);
            batch.first_line = Some(line);
            at = batch.end_offset;
            line += batch.len() as u64;
            batch
        })
        .collect()
}

fn batch(lines: &[Vec<u8>], first_offset: FileOffset, between: Between) -> Batch {
    let (mut bytes, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let (mut line_ends, mut at) = (Vec::new(), first_offset);
    for (i, line) in lines.iter().enumerate() {
        if between == Between::Others && i % 3 != 1 {
            bytes.extend_from_slice(OTHER);
        }
        starts.push(bytes.len() as u32);
        bytes.extend_from_slice(line);
        ends.push(bytes.len() as u32);
        bytes.push(b'\n');
        // Offsets are those of the lines alone, so that a filter that asks for them sees the same in every layout.
        at += line.len() as u64 + 1;
        line_ends.push(at);
    }
    if between == Between::Others {
        bytes.extend_from_slice(OTHER);
    }
    Batch {
        chunk: Chunk::new(bytes),
        starts,
        ends,
        line_ends,
        first_offset,
        end_offset: at,
        evidence: Evidence::default(),
        skipped_lines: 0,
        skipped_bytes: 0,
        cut_lines: 0,
        replaced: 0,
        first_line: None,
        physicals: Vec::new(),
        read_at_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_as_the_agent_cuts_it_and_ends_with_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let text: String = (0..5_000).map(|i| format!("line {i}\r\n")).collect();
        std::fs::write(&path, text + "\nlast").unwrap();
        let text = Text::read(&path).unwrap();
        let lines = text.lines();
        assert_eq!(
            (lines.len(), lines[7], lines[5_000], lines[5_001]),
            (5_002, &b"line 7"[..], &b""[..], &b"last"[..])
        );
        assert_eq!(text.batches[0].len(), BatchLimits::default().lines);
        assert!(matches!(Text::read(dir.path()), Err(Stop::Usage(_))));
        assert!(matches!(Text::read(&dir.path().join("none")), Err(Stop::Usage(_))));
    }

    #[test]
    fn batches_by_hand_hold_the_lines_whatever_lies_between() {
        let groups = [vec![b"a".to_vec(), vec![]], vec![], vec![b"c".to_vec()]];
        for between in [Between::Nothing, Between::Others] {
            let batches = batches(&groups, between);
            assert_eq!(batches.len(), 2);
            assert_eq!((batches[0].line(0), batches[0].line(1), batches[1].line(0)), (&b"a"[..], &b""[..], &b"c"[..]));
            assert_eq!((batches[1].first_offset, batches[1].end_offset), (3, 5));
        }
    }
}

//! The bench's log: four kinds of lines in turn, the same bytes every time.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use tailmill_tests::lines::{self, Style};

/// A file of lines and what is known of it.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) path: PathBuf,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

/// Styles change this often: as if several programs wrote in bursts.
const BURST: u64 = 500;
const STYLES: [Style; 4] = [Style::Access, Style::Json, Style::Syslog, Style::Java];

impl Data {
    pub(crate) fn generate(path: &Path, lines: u64) -> anyhow::Result<Data> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut bytes = 0;
        for number in 0..lines {
            let mut line = lines::line(STYLES[(number / BURST) as usize % STYLES.len()], 1, number);
            line.push(b'\n');
            bytes += line.len() as u64;
            out.write_all(&line)?;
        }
        out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        Ok(Data { path: path.to_owned(), lines, bytes })
    }

    /// How many lines do not hold this literal.
    pub(crate) fn without(&self, literal: &str) -> anyhow::Result<u64> {
        let text = std::fs::read(&self.path)?;
        let finder = memchr::memmem::Finder::new(literal);
        Ok(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && finder.find(line).is_none()).count()
            as u64)
    }
}

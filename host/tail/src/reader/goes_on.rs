//! A record of several lines that is open at the end of a finished file and goes on in the file that came after it: a
//! program was in the middle of it when its log was rotated.
//!
//! The older file hands the whole record out (`finish_with`), the newer one passes its part of it over (`pass`); in
//! between nothing of either is forgotten. Offsets and evidence of each file are of its own bytes alone.

use super::look::{Found, now_ms};
use super::source::Source;
use super::{BatchLimits, Ground, ReadError, Reader};
use crate::batch::{Batch, BufferPool, Chunk, FileOffset};
use crate::encoding::Decoded;
use crate::physical::{DelimitedLines, NewlineLines, Physical, Physicals};
use crate::split::Behind;
use crate::terminator::Terminator;

/// What a file begins with, seen from a record that is open at the end of the file before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// Another record, or nothing that can be told.
    None,
    /// Nothing but lines of this record so far, or not even one: wait, or take them when its time is over.
    Open(Part),
    /// The rest of the record.
    Whole(Part),
}

/// The beginning of a file that belongs to the record before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// So many bytes of the file, the last terminator included.
    pub bytes: FileOffset,
    /// Its text without the last terminator.
    pub text: Vec<u8>,
}

impl Reader {
    /// At the end of a finished file: the text of the record that is open there, its last terminator included. None: there
    /// is none, or it ends in the middle of a line.
    pub fn open_record(&mut self, pool: &BufferPool) -> Result<Option<Vec<u8>>, ReadError> {
        if self.framing.multiline.is_none() {
            return Ok(None);
        }
        self.with_source(|reader, source| {
            let Some(found) = reader.look_ahead(source, pool)? else { return Ok(None) };
            Ok(reader.is_open_record(&found).then(|| found.shown().text.to_vec()))
        })
    }

    /// Whether this file, of which nothing was handed out, begins with more of `record`.
    pub fn continuation_of(&mut self, record: &[u8], pool: &BufferPool) -> Result<Continuation, ReadError> {
        let Some(multiline) = self.framing.multiline.clone().filter(|_| self.position == 0) else {
            return Ok(Continuation::None);
        };
        self.with_source(|reader, source| {
            let Some(found) = reader.look_ahead(source, pool)? else { return Ok(Continuation::None) };
            let text = found.shown().text;
            let mut last: Option<Physical> = None;
            let part = |last: Option<Physical>| Part {
                bytes: last.map_or(0, |line| line.file_next),
                text: last.map_or_else(Vec::new, |line| text[..line.end].to_vec()),
            };
            for line in reader.physicals(&found) {
                let (begins, ends) = multiline.rule.judge(&text[line.start..line.end]);
                let too_long = line.len() > reader.line_bytes_max() || record.len() + line.end > multiline.bytes_max;
                if begins || too_long {
                    return Ok(if last.is_some() { Continuation::Whole(part(last)) } else { Continuation::None });
                }
                last = Some(line);
                if ends {
                    return Ok(Continuation::Whole(part(last)));
                }
            }
            // Whatever is longer than what was looked at is too long for the record.
            let is_all = found.buffer.len() < found.buffer.capacity();
            Ok(match last {
                Some(_) if !is_all => Continuation::Whole(part(last)),
                None if !is_all => Continuation::None,
                _ => Continuation::Open(part(last)),
            })
        })
    }

    /// As `finish` for the open `record` at the end: hands it out together with the text of its other part. None: the file
    /// does not end with it any more.
    pub fn finish_with(&mut self, record: &[u8], more: &[u8], pool: &BufferPool) -> Result<Option<Batch>, ReadError> {
        self.with_source(|reader, source| {
            let Some(found) = reader.look_ahead(source, pool)? else { return Ok(None) };
            let lines = reader.physicals(&found);
            if found.shown().text != record || !reader.is_open_record(&found) {
                return Ok(None);
            }
            let Ground::Live(running) = &mut reader.ground else { return Ok(None) };
            let (mut evidence, first_offset, first_line) = (running.evidence(), reader.position, reader.next_line);
            evidence.line = first_line;
            running.feed(&found.buffer);
            reader.position += found.buffer.len() as u64;
            reader.next_line = first_line.map(|line| line + lines.len() as u64);
            let (end_offset, line_bytes) = (reader.position, reader.line_bytes_max());
            reader.forget_what_was_seen();
            let replaced = found
                .decoded
                .as_ref()
                .map_or(0, |decoded| Decoded::replaced_between(&decoded.lines, first_offset, end_offset, line_bytes));
            let whole = [record, more].concat();
            Ok(Some(Batch {
                starts: vec![0],
                ends: vec![whole.len() as u32], // two parts of at most 128 MiB each
                chunk: Chunk::new(whole),
                line_ends: vec![end_offset],
                first_offset,
                end_offset,
                evidence,
                skipped_lines: 0,
                skipped_bytes: 0,
                cut_lines: 0,
                replaced,
                first_line,
                physicals: vec![lines.len() as u32], // at most 128 MiB of them
                read_at_ms: now_ms(),
            }))
        })
    }

    /// Passes over the beginning of this file, which was handed out with the record before it. False: it is not there (any
    /// more), and nothing was passed over.
    pub fn pass(&mut self, part: &Part, pool: &BufferPool) -> Result<bool, ReadError> {
        if self.position != 0 {
            return Ok(false);
        }
        self.with_source(|reader, source| {
            let Some(found) = reader.look_ahead(source, pool)? else { return Ok(false) };
            let lines = reader.physicals(&found);
            let Some(last) = lines.iter().position(|line| line.file_next == part.bytes) else { return Ok(false) };
            let same = found.shown().text[..lines[last].end] == part.text[..];
            let Ground::Live(running) = &mut reader.ground else { return Ok(false) };
            if same {
                running.feed(&found.buffer[..part.bytes as usize]); // of a line in the buffer
                reader.position = part.bytes;
                reader.next_line = reader.next_line.map(|line| line + last as u64 + 1);
                reader.forget_what_was_seen();
            }
            Ok(same)
        })
    }

    fn with_source<T>(
        &mut self,
        work: impl FnOnce(&mut Reader, &mut Source) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut source = self.source.take().ok_or(ReadError::Closed)?;
        let outcome = work(self, &mut source);
        self.source = Some(source);
        outcome
    }

    /// What lies behind the position, as far as the longest record goes and a little further. None: nothing, or not what
    /// was read of it, or it is compressed (what is written there is finished).
    fn look_ahead(&mut self, source: &mut Source, pool: &BufferPool) -> Result<Option<Found>, ReadError> {
        if self.tell_packing(source, Behind::Open)?.is_some() {
            return Ok(None);
        }
        match source {
            Source::Plain(file) if self.lost_ground(file)?.is_none() => {}
            _ => return Ok(None),
        }
        let mut buffer = pool.take(self.largest_line_bytes() + 1);
        while buffer.len() < buffer.capacity() && source.read_more(&mut buffer, self.position)? > 0 {}
        if buffer.is_empty() {
            return Ok(None);
        }
        self.learn_encoding(source, &buffer)?;
        Ok(Some(Found { decoded: self.decode(&buffer, false), buffer }))
    }

    /// Whether what was found are the whole lines of one record that is not at its end.
    fn is_open_record(&self, found: &Found) -> bool {
        let end = self.position + found.buffer.len() as u64;
        found.buffer.len() < found.buffer.capacity()
            && self.physicals(found).last().is_some_and(|line| line.file_next == end)
            && self.lines_in(found.shown(), 0, &BatchLimits::default(), Behind::Open).is_empty()
    }

    fn physicals(&self, found: &Found) -> Vec<Physical> {
        let (shown, base) = (found.shown(), self.position);
        match (shown.lines, &self.terminator) {
            (Some(lines), _) => lines.lines(0, shown.text.len()).collect(),
            (None, Terminator::Newline) => {
                NewlineLines { bytes: shown.text, base }.lines(0, shown.text.len()).collect()
            }
            (None, terminator) => {
                DelimitedLines { bytes: shown.text, base, terminator }.lines(0, shown.text.len()).collect()
            }
        }
    }
}

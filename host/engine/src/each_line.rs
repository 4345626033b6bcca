//! The simple lane: one call a line, put together to the same kind of answer as that of the fast lane.

use crate::answer::{Fault, Lines, Mask, Outcome, Output};
use crate::check::{broken, kept};
use crate::fault;
use crate::store::State;
use crate::wit::{Verdict, func};
use wasmtime::Store;

/// Positions and source of a line count against the bytes of an answer too.
const POSITION_BYTES: usize = 16;

/// Asks about each line. The time of the call was begun by the caller.
pub(crate) fn run(
    run: func::RunLine<'_>,
    store: &mut Store<State>,
    first: u64,
    lines: Lines<'_>,
    output_bytes: usize,
) -> Result<Outcome, Fault> {
    let mut answer = Answer::new(lines, first, output_bytes);
    for i in 0..lines.len() {
        let guilty = |fault: Fault| Fault { line: Some(first + i as u64), ..fault };
        let (verdict,) = run
            .call(&mut *store, (lines.line(i),))
            .map_err(|error| guilty(fault::of_error(&error, store.data_mut(), "run")))?;
        match verdict {
            Ok(Verdict::Keep) => answer.keep(i),
            Ok(Verdict::Drop) => {}
            Ok(Verdict::Replace(line)) => answer.replace(i, &line).map_err(|why| guilty(broken(why)))?,
            Err(message) => return Err(guilty(fault::refused(None, &message))),
        }
    }
    Ok(answer.finish())
}

/// Grows by a verdict at a time. A mask as long as no line is replaced, an output from then on.
struct Answer<'a> {
    lines: Lines<'a>,
    first: u64,
    kept: Mask,
    output: Option<Output>,
    /// Bytes that the guest may still replace.
    bytes_left: usize,
}

impl<'a> Answer<'a> {
    fn new(lines: Lines<'a>, first: u64, output_bytes: usize) -> Answer<'a> {
        let kept = Mask { words: vec![0; lines.len().div_ceil(64)], len: lines.len() };
        Answer { lines, first, kept, output: None, bytes_left: output_bytes }
    }

    fn keep(&mut self, i: usize) {
        match &mut self.output {
            None => self.kept.words[i / 64] |= 1 << (i % 64),
            Some(output) => push(output, self.lines.line(i), self.first + i as u64),
        }
    }

    fn replace(&mut self, i: usize, line: &[u8]) -> Result<(), String> {
        let bytes = line.len() + POSITION_BYTES;
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or("more bytes of new lines than are allowed")?;
        let (lines, first, kept) = (self.lines, self.first, &self.kept);
        let output = self.output.get_or_insert_with(|| {
            let mut output = Output::default();
            kept.ones().for_each(|i| push(&mut output, lines.line(i), first + i as u64));
            output
        });
        push(output, line, first + i as u64);
        Ok(())
    }

    fn finish(self) -> Outcome {
        match self.output {
            Some(output) => Outcome::Emit(output),
            None => kept(self.kept),
        }
    }
}

fn push(output: &mut Output, line: &[u8], source: u64) {
    output.starts.push(output.data.len() as u32);
    output.data.extend_from_slice(line);
    output.ends.push(output.data.len() as u32);
    output.sources.push(source);
}

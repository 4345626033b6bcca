//! Lines far longer than their limit: looked through in pieces, with bounded memory, and cut or skipped when their end
//! was seen.

use std::fs::File;

use memchr::memchr;

use super::look::{now_ms, read_more};
use super::{BUFFER_BYTES_MAX, BatchLimits, Ground, Read, ReadError, Reader};
use crate::batch::{Batch, BufferPool};
use crate::evidence::{Running, read_full};
use crate::framing::TooLong;
use crate::split::Behind;

/// Bytes of such a line that one call looks at before it lets others have their turn.
const OVERLONG_TURN_BYTES: u64 = 8 * 1024 * 1024;

impl Reader {
    /// Looks for the end of the overlong line at the position, with bounded memory. Nothing of it is handed out before
    /// its end was seen, so no mark can come to lie inside it.
    pub(super) fn pass_over(
        &mut self,
        file: &File,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
    ) -> Result<Read, ReadError> {
        let Some(mut running) = self.overlong.take() else { return Ok(Read::Working) };
        let turn_ends = running.at().saturating_add(OVERLONG_TURN_BYTES);
        let mut buffer = pool.take(limits.bytes.clamp(1, BUFFER_BYTES_MAX));
        let ended = loop {
            buffer.clear();
            if read_more(file, &mut buffer, running.at())? == 0 {
                break behind == Behind::Nothing;
            }
            if let Some(newline) = memchr(b'\n', &buffer) {
                running.feed(&buffer[..=newline]);
                break true;
            }
            running.feed(&buffer);
            if running.at() >= turn_ends {
                self.overlong = Some(running);
                return Ok(Read::Working);
            }
        };
        drop(pool.share(buffer));
        if !ended {
            let partial_bytes = running.at() - self.position;
            self.overlong = Some(running);
            return Ok(Read::AtEnd { partial_bytes });
        }
        self.hand_out_overlong(file, running, pool)
    }

    /// `running` is behind the overlong line's end: the line is cut or skipped.
    fn hand_out_overlong(&mut self, file: &File, running: Box<Running>, pool: &BufferPool) -> Result<Read, ReadError> {
        let cut = self.framing.too_long == TooLong::Cut;
        let kept_bytes = if cut { self.line_bytes_max() } else { 0 };
        let mut kept = pool.take(kept_bytes);
        kept.resize(kept_bytes, 0);
        if !read_full(file, &mut kept, self.position)? {
            return Ok(Read::Truncated { size: file.metadata()?.len() });
        }
        let (first_offset, end_offset) = (self.position, running.at());
        let evidence = self.evidence();
        self.position = end_offset;
        self.ground = Ground::Live(running);
        let lines = usize::from(cut);
        Ok(Read::Batch(Batch {
            chunk: pool.share(kept),
            starts: vec![0; lines],
            ends: vec![kept_bytes as u32; lines], // at most BUFFER_BYTES_MAX
            line_ends: vec![end_offset; lines],
            first_offset,
            end_offset,
            evidence,
            skipped_lines: u64::from(!cut),
            skipped_bytes: if cut { 0 } else { end_offset - first_offset },
            cut_lines: u64::from(cut),
            read_at_ms: now_ms(),
        }))
    }
}

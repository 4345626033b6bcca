//! Lines far longer than their limit: looked through in pieces, with bounded memory, and cut or skipped when their end
//! was seen.

use super::look::now_ms;
use super::source::Source;
use super::{BUFFER_BYTES_MAX, BatchLimits, Ground, Read, ReadError, Reader};
use crate::batch::{Batch, BufferPool};
use crate::encoding::{Decoded, Decoder, cut_text};
use crate::evidence::Running;
use crate::framing::TooLong;
use crate::split::Behind;

/// Bytes of such a line that one call looks at before it lets others have their turn.
const OVERLONG_TURN_BYTES: u64 = 8 * 1024 * 1024;

impl Reader {
    /// Looks for the end of the overlong line at the position, with bounded memory. Nothing of it is handed out before
    /// its end was seen, so no mark can come to lie inside it.
    pub(super) fn pass_over(
        &mut self,
        source: &mut Source,
        limits: &BatchLimits,
        pool: &BufferPool,
        behind: Behind,
    ) -> Result<Read, ReadError> {
        let Some(mut running) = self.overlong.take() else { return Ok(Read::Working) };
        let turn_ends = running.at().saturating_add(OVERLONG_TURN_BYTES);
        // The beginning of a terminator at the end of a piece is looked at again with the next one.
        let overlap = self.terminator.overlap();
        let mut buffer = pool.take(limits.bytes.clamp(2 * overlap + 2, BUFFER_BYTES_MAX));
        let ended = loop {
            buffer.clear();
            if let Source::Packed(unpacker) = source {
                unpacker.forget(running.at());
            }
            source.read_more(&mut buffer, running.at())?;
            if let Some((_, next)) = self.terminator.find(&buffer, 0, running.at()) {
                running.feed(&buffer[..next]);
                break true;
            }
            if buffer.len() <= overlap {
                if behind == Behind::Nothing {
                    running.feed(&buffer);
                    break true;
                }
                break false;
            }
            running.feed(&buffer[..buffer.len() - overlap]);
            if running.at() >= turn_ends {
                self.overlong = Some(running);
                return Ok(Read::Working);
            }
        };
        let rest_bytes = buffer.len() as u64;
        drop(pool.share(buffer));
        if !ended {
            let partial_bytes = running.at() - self.position + rest_bytes;
            self.overlong = Some(running);
            return Ok(Read::AtEnd { partial_bytes });
        }
        self.hand_out_overlong(source, running, pool)
    }

    /// `running` is behind the overlong line's end: the line is cut or skipped.
    fn hand_out_overlong(
        &mut self,
        source: &mut Source,
        running: Box<Running>,
        pool: &BufferPool,
    ) -> Result<Read, ReadError> {
        let cut = self.framing.too_long == TooLong::Cut;
        let max = if cut { self.line_bytes_max() } else { 0 };
        let raw_bytes = match self.decoder {
            Some(_) => (running.at() - self.position).min(Decoder::raw_bytes_for(max) as u64) as usize, // fits: the least
            None => max,
        };
        let mut kept = pool.take(raw_bytes);
        kept.resize(raw_bytes, 0);
        if !self.overlong_head.is_empty() {
            kept = std::mem::take(&mut self.overlong_head);
            kept.truncate(raw_bytes);
        } else if !source.read_full(&mut kept, self.position)? {
            return Ok(Read::Truncated { size: source.disk_size()? });
        }
        self.learn_encoding(source, &kept)?;
        if let Some(Decoded { text, .. }) = self.decode(&kept, false).filter(|_| cut) {
            kept = text;
            kept.truncate(cut_text(&kept, 0, max));
        }
        let kept_bytes = kept.len();
        let (first_offset, end_offset) = (self.position, running.at());
        let evidence = self.evidence();
        self.position = end_offset;
        self.ground = Ground::Live(running);
        let first_line = self.next_line;
        self.next_line = first_line.map(|line| line + 1);
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
            replaced: 0,
            first_line,
            physicals: Vec::new(),
            read_at_ms: now_ms(),
        }))
    }
}

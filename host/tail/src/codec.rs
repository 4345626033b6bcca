//! The two ways of unpacking, a piece at a time: gzip (RFC 1952) and zstd (RFC 8878).
//!
//! In: compressed bytes as they come. Out: content, never more than there is room for in one step, so that a small file
//! that unpacks to terabytes costs time but no memory. Several members (frames) behind each other are one content. The
//! sums that the formats carry are checked.

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use crate::packed::Packing;

/// A gzip header with longer texts is none.
const HEADER_BYTES_MAX: usize = 128 * 1024;
/// Memory that a zstd frame may ask for is at most 2 to this: what the zstd tool itself accepts without being told.
const WINDOW_LOG_MAX: u32 = 27;

/// The compressed bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(String);

fn damage<T>(what: impl Into<String>) -> Result<T, Damage> {
    Err(Damage(what.into()))
}

/// What one step came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
}

/// An unpacker without a file.
pub(crate) enum Codec {
    Gzip(Gzip),
    Zstd { decoder: Box<Decoder<'static>>, inside: bool },
}

impl Codec {
    pub(crate) fn new(packing: Packing) -> std::io::Result<Codec> {
        Ok(match packing {
            Packing::Gzip => Codec::Gzip(Gzip::Header(Vec::new())),
            Packing::Zstd => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
                Codec::Zstd { decoder: Box::new(decoder), inside: false }
            }
        })
    }

    /// Consumes and produces something, or nothing: then it needs more of what it got too little of.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Damage> {
        match self {
            Codec::Gzip(gzip) => gzip.step(input, output),
            Codec::Zstd { decoder, inside } => {
                let status = match decoder.run_on_buffers(input, output) {
                    Ok(status) => status,
                    Err(error) => return damage(error.to_string()),
                };
                if status.remaining == 0 {
                    *inside = false;
                    decoder.reinit().map_err(|error| Damage(error.to_string()))?;
                } else if status.bytes_read > 0 {
                    *inside = true;
                }
                Ok(Step { consumed: status.bytes_read, produced: status.bytes_written })
            }
        }
    }

    /// Whether a member was begun and not ended.
    pub(crate) fn is_inside(&self) -> bool {
        match self {
            Codec::Gzip(Gzip::Header(seen)) => !seen.is_empty(),
            Codec::Gzip(_) => true,
            Codec::Zstd { inside, .. } => *inside,
        }
    }
}

/// Where in a gzip member we are.
pub(crate) enum Gzip {
    /// What was seen of the header.
    Header(Vec<u8>),
    Body(Box<Decompress>, Crc),
    /// What was seen of the trailer, and what should stand in it.
    Trailer(Vec<u8>, Crc),
}

impl Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Damage> {
        match self {
            Gzip::Header(seen) => {
                let padding = if seen.is_empty() { input.iter().take_while(|byte| **byte == 0).count() } else { 0 };
                if padding > 0 {
                    return Ok(Step { consumed: padding, produced: 0 });
                }
                let before = seen.len();
                seen.extend_from_slice(&input[..input.len().min(HEADER_BYTES_MAX)]);
                let Some(header_bytes) = header_bytes(seen)? else {
                    return Ok(Step { consumed: seen.len() - before, produced: 0 });
                };
                *self = Gzip::Body(Box::new(Decompress::new(false)), Crc::new());
                Ok(Step { consumed: header_bytes - before, produced: 0 })
            }
            Gzip::Body(body, crc) => {
                let (before_in, before_out) = (body.total_in(), body.total_out());
                let outcome = body.decompress(input, output, FlushDecompress::None);
                // Both are at most the lengths of the slices.
                let step = Step {
                    consumed: (body.total_in() - before_in) as usize,
                    produced: (body.total_out() - before_out) as usize,
                };
                crc.update(&output[..step.produced]);
                match outcome {
                    Ok(Status::StreamEnd) => *self = Gzip::Trailer(Vec::with_capacity(8), std::mem::take(crc)),
                    Ok(_) => {}
                    // What came before the damage first; then it is met again.
                    Err(_) if step.produced > 0 => {}
                    Err(error) => return damage(error.to_string()),
                }
                Ok(step)
            }
            Gzip::Trailer(seen, crc) => {
                let consumed = input.len().min(8 - seen.len());
                seen.extend_from_slice(&input[..consumed]);
                if seen.len() == 8 {
                    let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
                    if *seen != expected {
                        return damage("the checksum is wrong");
                    }
                    *self = Gzip::Header(Vec::new());
                }
                Ok(Step { consumed, produced: 0 })
            }
        }
    }
}

/// Length of the header at the beginning of `seen`; None: it goes on.
fn header_bytes(seen: &[u8]) -> Result<Option<usize>, Damage> {
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    if seen.iter().zip(MAGIC).any(|(byte, magic)| *byte != magic) {
        return damage("what stands behind the last member is no gzip member");
    }
    let Some(flags) = seen.get(3).copied() else { return Ok(None) };
    let mut end = 10;
    if flags & 0b100 != 0 {
        let Some(len) = seen.get(end..end + 2) else { return too_long(seen) };
        end += 2 + usize::from(u16::from_le_bytes([len[0], len[1]]));
    }
    for text in [0b1000, 0b1_0000] {
        if flags & text != 0 {
            let zero = seen.get(end..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
            let Some(zero) = zero else { return too_long(seen) };
            end += zero + 1;
        }
    }
    if flags & 0b10 != 0 {
        end += 2;
    }
    if seen.len() >= end { Ok(Some(end)) } else { too_long(seen) }
}

fn too_long(seen: &[u8]) -> Result<Option<usize>, Damage> {
    if seen.len() > HEADER_BYTES_MAX { damage("a gzip header without end") } else { Ok(None) }
}

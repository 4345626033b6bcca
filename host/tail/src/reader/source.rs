//! Where a reader's bytes come from: a file as it is, or the content of a compressed one.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::buffer::spare_capacity;

use super::{Ground, PackedProblem, Read, ReadError, Reader};
use crate::batch::FileOffset;
use crate::evidence::{Running, Verdict, read_full};
use crate::identity::Evidence;
use crate::packed::Packing;
use crate::split::Behind;
use crate::unpack::Unpacker;

/// Content that one call passes over on its way to the position before it lets others have their turn.
const PASS_TURN_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of it at once.
const PASS_BYTES: usize = 64 * 1024;

/// What st_blocks counts in, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// Where the bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    Plain(File),
    Packed(Box<Unpacker>),
}

impl Source {
    /// Reads behind what `buffer` holds, whose first byte lies at `position`; 0 at the end. The buffer must have room.
    pub(super) fn read_more(&mut self, buffer: &mut Vec<u8>, position: FileOffset) -> io::Result<usize> {
        let at = position + buffer.len() as u64;
        let file = match self {
            Source::Plain(file) => file,
            Source::Packed(unpacker) => return unpacker.read_more(buffer, at),
        };
        loop {
            match rustix::io::pread(&*file, spare_capacity(buffer), at) {
                Ok(bytes) => return Ok(bytes),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Fills `buffer` from `at`; false when the content ends before.
    pub(super) fn read_full(&mut self, buffer: &mut [u8], at: FileOffset) -> io::Result<bool> {
        match self {
            Source::Plain(file) => read_full(file, buffer, at),
            Source::Packed(unpacker) => {
                let mut content = Vec::with_capacity(buffer.len());
                while content.len() < buffer.len() {
                    let next = at + content.len() as u64;
                    if unpacker.read_more(&mut content, next)? == 0 {
                        return Ok(false);
                    }
                }
                buffer.copy_from_slice(&content[..buffer.len()]);
                Ok(true)
            }
        }
    }

    /// Allocated blocks of the file, in bytes.
    pub(super) fn disk_bytes(&self) -> io::Result<u64> {
        let metadata = match self {
            Source::Plain(file) => file.metadata()?,
            Source::Packed(unpacker) => unpacker.metadata()?,
        };
        Ok(metadata.blocks() * BLOCK_BYTES) // blocks of a file of at most 2^63 bytes
    }

    /// Size of the file on the disk.
    pub(super) fn disk_size(&self) -> io::Result<u64> {
        match self {
            Source::Plain(file) => Ok(file.metadata()?.len()),
            Source::Packed(unpacker) => unpacker.packed_size(),
        }
    }
}

/// Whether content hashed from its beginning is what `evidence` is of. A running hash that begins later (of a file begun at
/// its end, whose archive this is) can not be compared; then prefix and window tell.
fn is_same_content(found: &Evidence, evidence: &Evidence) -> bool {
    let same_window =
        (found.at, found.window_len, found.window_hash) == (evidence.at, evidence.window_len, evidence.window_hash);
    let same_prefix = found.prefix_hash == evidence.prefix_hash;
    let same_chain = (found.blocks, found.blocks_hash, found.rest_hash)
        == (evidence.blocks, evidence.blocks_hash, evidence.rest_hash);
    same_window && same_prefix && (same_chain || evidence.chain_from > 0)
}

impl Reader {
    /// Takes up the source for a file that holds what `evidence` says.
    pub(super) fn source_of(&self, file: File, evidence: &Evidence) -> Result<Source, ReadError> {
        match evidence.check(&file)? {
            Verdict::Same => {}
            Verdict::Different => return Err(ReadError::OtherContent),
            Verdict::Shorter { size } => return Err(ReadError::TooShort { size, wanted: self.position }),
        }
        match Packing::of(&file)? {
            Some(packing) if self.packed.is_some() || (self.framing.compressed && self.position == 0) => {
                Ok(Source::Packed(Box::new(Unpacker::new(file, packing))))
            }
            _ if self.packed.is_some() => Err(ReadError::OtherContent),
            _ => Ok(Source::Plain(file)),
        }
    }

    /// Before the first byte: is the file compressed? Some: that can not be told yet.
    pub(super) fn tell_packing(&mut self, source: &mut Source, behind: Behind) -> io::Result<Option<Read>> {
        let open = self.framing.compressed && self.position == 0 && self.packed.is_none() && !self.plain;
        let Source::Plain(file) = source else {
            self.packed.get_or_insert(0);
            return Ok(None);
        };
        if !open {
            return Ok(None);
        }
        if let Some(packing) = Packing::of(file)? {
            *source = Source::Packed(Box::new(Unpacker::new(file.try_clone()?, packing)));
            self.packed = Some(0);
            return Ok(None);
        }
        let size = file.metadata()?.len();
        let mut head = vec![0; size.min(4) as usize]; // at most 4
        if behind != Behind::Nothing && read_full(file, &mut head, 0)? && Packing::may_begin_with(&head) {
            return Ok(Some(Read::AtEnd { partial_bytes: size }));
        }
        self.plain = true;
        Ok(None)
    }

    /// As `lost_ground`, for a compressed file: whether what was taken in still stands there, and how to come to the
    /// position, from the beginning of the content on. Some: what this look comes to instead of lines.
    pub(super) fn lost_packed_ground(
        &mut self,
        unpacker: &mut Unpacker,
        behind: Behind,
    ) -> Result<Option<Read>, ReadError> {
        let size = unpacker.packed_size()?;
        if size < unpacker.packed_at() || !unpacker.stands()? {
            return Ok(Some(Read::Truncated { size }));
        }
        let Ground::Parked(evidence) = self.ground else {
            if self.overlong.is_none() {
                unpacker.forget(self.position);
            }
            return Ok(None);
        };
        // Closed when everything was read, and not changed since: nothing has to be unpacked to know that.
        let whole = evidence.at == self.position && evidence.packed_bytes == Some(size) && size > 0;
        if whole && behind == Behind::Open {
            return Ok(Some(Read::AtEnd { partial_bytes: 0 }));
        }
        let mut running = self.passing.take().unwrap_or_else(|| Box::new(Running::begin(0)));
        let turn_ends = running.at().saturating_add(PASS_TURN_BYTES);
        loop {
            let compared = running.at() == evidence.at && evidence.at > 0;
            if compared && !is_same_content(&running.evidence(), &evidence) {
                return Ok(Some(Read::Truncated { size }));
            }
            if running.at() >= self.position {
                break;
            }
            if running.at() >= turn_ends {
                self.passing = Some(running);
                return Ok(Some(Read::Working));
            }
            let stop = if running.at() < evidence.at { evidence.at } else { self.position };
            let part = (stop - running.at()).min(PASS_BYTES as u64) as usize; // at most 64 KiB
            let mut buffer = Vec::with_capacity(part);
            if unpacker.read_more(&mut buffer, running.at())? == 0 {
                return Ok(Some(Read::Truncated { size }));
            }
            running.feed(&buffer[..buffer.len().min(part)]);
            unpacker.forget(running.at());
        }
        self.ground = Ground::Live(running);
        Ok(None)
    }

    /// At the end of what a compressed file gives: what a person should know of it.
    pub(super) fn note_packed_end(&mut self, unpacker: &Unpacker, partial_bytes: u64, behind: Behind) {
        let all = partial_bytes == 0 && unpacker.damage().is_none() && !unpacker.is_cut_off();
        self.packed = Some(if all { unpacker.packed_at() } else { 0 });
        if self.told_problem {
            return;
        }
        self.problem = match unpacker.damage() {
            Some(damage) => Some(PackedProblem::Damaged { at: unpacker.end(), reason: damage.to_string() }),
            None if behind == Behind::Nothing && unpacker.is_cut_off() => {
                Some(PackedProblem::CutOff { at: unpacker.end() })
            }
            None => None,
        };
        self.told_problem = self.problem.is_some();
    }
}

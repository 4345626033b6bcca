//! The content of a compressed file as if it were a file that grows.
//!
//! In: an open file, gzip or zstd. Out: its content at any offset, cheaply forwards, from the beginning again backwards.
//! What was given and not forgotten is kept, so that a partial line can be read again. A file that is still being written
//! gives what can be unpacked of it; what is damaged gives everything before the damage. It never holds more than it was
//! asked for at once, beside the window of the format.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::batch::FileOffset;
use crate::codec::{Codec, Damage};
use crate::evidence::{FINGERPRINT_BYTES, Running, Verdict, read_full};
use crate::identity::Evidence;
use crate::packed::Packing;
use crate::unpackers::{Leave, Unpackers};

/// Compressed bytes read at once.
const INPUT_BYTES: usize = 32 * 1024;
/// Enough of the beginning for a byte order mark.
const HEAD_BYTES: usize = 4;
/// Content passed over at once.
const PASS_BYTES: usize = 64 * 1024;

/// The content of a compressed file.
pub(crate) struct Unpacker {
    file: File,
    packing: Packing,
    /// None: at a place where no member is open, or damaged.
    codec: Option<Codec>,
    /// To hold a large window. Invariant: there while a zstd codec is.
    leave: Option<Leave>,
    /// Compressed bytes before this offset went into the codec.
    packed_at: u64,
    /// The last bytes before `packed_at`: what must still stand there.
    window: Vec<u8>,
    /// Read from the file, from `packed_at` on.
    input: Vec<u8>,
    input_next: usize,
    /// Content from `kept_at` on that was given and not forgotten.
    kept: Vec<u8>,
    kept_at: FileOffset,
    damage: Option<Damage>,
    /// The first bytes of the content.
    head: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unpacker({:?} at {} of it, content at {})", self.packing, self.packed_at, self.end())
    }
}

impl Unpacker {
    pub(crate) fn new(file: File, packing: Packing) -> Unpacker {
        Unpacker {
            file,
            packing,
            codec: None,
            leave: None,
            packed_at: 0,
            window: Vec::new(),
            input: Vec::new(),
            input_next: 0,
            kept: Vec::new(),
            kept_at: 0,
            damage: None,
            head: Vec::new(),
        }
    }

    /// Whether it may be asked for content: it has leave to hold a window, or needs none worth a word (gzip).
    pub(crate) fn is_admitted(&mut self, by: &Unpackers) -> bool {
        if self.packing == Packing::Zstd && self.leave.is_none() {
            self.leave = by.take();
            return self.leave.is_some();
        }
        true
    }

    /// Whether it has leave to hold a window.
    pub(crate) fn has_leave(&self) -> bool {
        self.leave.is_some()
    }

    /// After it was asked: leave that it does not need now goes to others.
    pub(crate) fn settle_leave(&mut self) {
        if self.codec.is_none() {
            self.leave = None;
        }
    }

    /// Lets go of the window: the content has to be unpacked from its beginning again.
    pub(crate) fn let_go(&mut self) {
        self.begin_again();
        self.leave = None;
    }

    /// The first bytes of the content, `HEAD_BYTES` at most; false: they were not unpacked yet.
    pub(crate) fn read_head(&self, head: &mut [u8]) -> io::Result<bool> {
        let known = self.head.get(..head.len());
        known.inspect(|known| head.copy_from_slice(known));
        Ok(known.is_some())
    }

    /// Behind the last byte of content that was unpacked.
    pub(crate) fn end(&self) -> FileOffset {
        self.kept_at + self.kept.len() as u64
    }

    /// Compressed bytes that were taken in.
    pub(crate) fn packed_at(&self) -> u64 {
        self.packed_at
    }

    /// Size of the file on the disk.
    pub(crate) fn packed_size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The file's.
    pub(crate) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.metadata()
    }

    /// Why nothing comes any more.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Whether the file ends inside a member, as far as it was read.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.codec.as_ref().is_some_and(Codec::is_inside)
    }

    /// Whether the file still holds what was unpacked, as far as the last bytes tell.
    pub(crate) fn stands(&self) -> io::Result<bool> {
        let mut now = [0_u8; FINGERPRINT_BYTES];
        let now = &mut now[..self.window.len()];
        Ok(read_full(&self.file, now, self.packed_at - self.window.len() as u64)? && now == self.window)
    }

    /// Nothing before `to` will be asked for again.
    pub(crate) fn forget(&mut self, to: FileOffset) {
        let gone = to.saturating_sub(self.kept_at).min(self.kept.len() as u64) as usize; // at most the length
        self.kept.drain(..gone);
        self.kept_at += gone as u64;
        if self.kept.is_empty() {
            self.kept = Vec::new();
        }
    }

    /// Appends content from `at` on, as much as `buffer` has room for; 0: at the end of what can be unpacked now.
    pub(crate) fn read_more(&mut self, buffer: &mut Vec<u8>, at: FileOffset) -> io::Result<usize> {
        if at < self.kept_at {
            self.begin_again();
        }
        while at > self.end() {
            self.forget(self.end());
            let part = (at - self.end()).min(PASS_BYTES as u64) as usize; // at most 64 KiB
            if self.unpack(part)? == 0 {
                return Ok(0);
            }
        }
        let skip = (at - self.kept_at) as usize; // at most what is kept
        let mut room = buffer.capacity() - buffer.len();
        let known = (self.kept.len() - skip).min(room);
        buffer.extend_from_slice(&self.kept[skip..skip + known]);
        room -= known;
        let mut bytes = known;
        while room > 0 {
            let unpacked = self.unpack(room)?;
            if unpacked == 0 {
                break;
            }
            buffer.extend_from_slice(&self.kept[self.kept.len() - unpacked..]);
            bytes += unpacked;
            room -= unpacked;
        }
        if bytes == 0 {
            self.rest();
        }
        Ok(bytes)
    }

    /// Unpacks at most `max` bytes more into `kept`; 0: nothing more can be unpacked now.
    fn unpack(&mut self, max: usize) -> io::Result<usize> {
        let before = self.kept.len();
        let max = max.min(PASS_BYTES);
        let mut idle_steps = 0;
        while self.damage.is_none() {
            if self.input_next == self.input.len() {
                self.read_input()?;
            }
            let drained = self.input_next == self.input.len();
            if drained && self.codec.is_none() {
                return Ok(0);
            }
            let codec = match &mut self.codec {
                Some(codec) => codec,
                None => self.codec.insert(Codec::new(self.packing)?),
            };
            self.kept.resize(before + max, 0);
            let outcome = codec.step(&self.input[self.input_next..], &mut self.kept[before..]);
            let produced = outcome.as_ref().map_or(0, |step| step.produced);
            self.kept.truncate(before + produced);
            match outcome {
                Ok(step) => {
                    self.consume(step.consumed);
                    if step.produced > 0 {
                        self.note_head(before);
                        return Ok(step.produced);
                    }
                    // From one part of a member to the next nothing need be consumed.
                    idle_steps = if step.consumed == 0 { idle_steps + 1 } else { 0 };
                    if drained || idle_steps > 2 {
                        return Ok(0);
                    }
                }
                Err(damage) => {
                    self.damage = Some(damage);
                    self.codec = None;
                    self.rest();
                }
            }
        }
        Ok(0)
    }

    /// Remembers the first bytes of all; what is kept from `new` on was just unpacked.
    fn note_head(&mut self, new: usize) {
        let missing = HEAD_BYTES - self.head.len();
        if missing > 0 && self.kept_at + new as u64 == self.head.len() as u64 {
            self.head.extend(self.kept[new..].iter().take(missing));
        }
    }

    fn read_input(&mut self) -> io::Result<()> {
        self.input.resize(INPUT_BYTES, 0);
        self.input_next = 0;
        let outcome = loop {
            match self.file.read_at(&mut self.input, self.packed_at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.input.truncate(*outcome.as_ref().unwrap_or(&0));
        outcome.map(drop)
    }

    fn consume(&mut self, bytes: usize) {
        let consumed = &self.input[self.input_next..self.input_next + bytes];
        let last = &consumed[bytes.saturating_sub(FINGERPRINT_BYTES)..];
        let surplus = (self.window.len() + last.len()).saturating_sub(FINGERPRINT_BYTES);
        self.window.drain(..surplus);
        self.window.extend_from_slice(last);
        self.input_next += bytes;
        self.packed_at += bytes as u64;
    }

    /// Nothing to do: what can be had again is let go. Between two members that is the codec, too.
    fn rest(&mut self) {
        self.input = Vec::new();
        self.input_next = 0;
        if self.codec.as_ref().is_some_and(|codec| !codec.is_inside()) {
            self.codec = None;
        }
    }

    fn begin_again(&mut self) {
        self.codec = None;
        self.damage = None;
        self.packed_at = 0;
        self.window.clear();
        self.input.clear();
        self.input_next = 0;
        self.kept.clear();
        self.kept_at = 0;
    }
}

/// Whether the content of a compressed file begins as `evidence` says (`all`: and goes on so up to its end). The whole
/// content has to be unpacked for that.
pub(crate) fn check(file: &File, evidence: &Evidence, all: bool) -> io::Result<Verdict> {
    let size = file.metadata()?.len();
    if size < evidence.packed_bytes.unwrap_or(0) {
        return Ok(Verdict::Shorter { size });
    }
    if evidence.proven() == 0 {
        return Ok(Verdict::Same);
    }
    let Some(packing) = Packing::of(file)? else { return Ok(Verdict::Different) };
    let all = all && evidence.at > 0;
    let upto = if all { evidence.at } else { u64::from(evidence.prefix_len).min(evidence.proven()) };
    let mut unpacker = Unpacker::new(file.try_clone()?, packing);
    let mut running = Running::begin(0);
    while running.at() < upto {
        let part = (upto - running.at()).min(PASS_BYTES as u64) as usize; // at most 64 KiB
        let mut buffer = Vec::with_capacity(part);
        if unpacker.read_more(&mut buffer, running.at())? == 0 {
            return Ok(Verdict::Different);
        }
        running.feed(&buffer[..buffer.len().min(part)]);
        unpacker.forget(running.at());
    }
    let found = running.evidence();
    let same = match all {
        true => Evidence { packed_bytes: evidence.packed_bytes, line: evidence.line, ..found } == *evidence,
        false => found.prefix_hash == evidence.prefix_hash,
    };
    Ok(if same { Verdict::Same } else { Verdict::Different })
}

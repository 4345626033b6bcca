//! Bytes in some encoding to UTF-8, line by line.
//!
//! In: raw bytes of a file whose lines are in a named encoding. Out: their text, and for each line where it lies in the
//! text and where it ends in the file. Every line is decoded on its own, so reading may begin at any of them; encodings
//! in which a line depends on what came before it are refused. What is malformed becomes U+FFFD, counted, and never
//! fails.

use encoding_rs::{CoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::batch::FileOffset;
use crate::framing::Delimiter;
use crate::physical::{Physical, Physicals};
use crate::terminator::Terminator;

/// U+FFFD in UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
/// In every encoding of several bytes, a byte below this one is never a part of a longer character.
const NEVER_INSIDE: u8 = 0x30;

/// An encoding that text can be decoded from, line by line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TextEncoding(&'static Encoding);

impl std::fmt::Debug for TextEncoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextEncoding({})", self.0.name())
    }
}

/// Why an encoding can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// No such label.
    #[error(
        "`{0}` is not an encoding: utf-16le, utf-16be, or a label of the WHATWG Encoding Standard (windows-1252, shift_jis, gb18030, …)"
    )]
    Unknown(String),
    /// A line depends on what came before it.
    #[error("{0} can not be read from the middle of a file: what its bytes mean depends on all before them")]
    Stateful(&'static str),
    /// The encoding has no form of the delimiter.
    #[error("the delimiter can not be written in {0}")]
    DelimiterNotInIt(&'static str),
    /// The delimiter's bytes are parts of other characters too.
    #[error(
        "in {0} the byte of `{1}` can be a part of another character: take a delimiter of control characters or of those below `0`"
    )]
    DelimiterInside(&'static str, char),
}

impl TextEncoding {
    /// The encoding of a label, in any case: `utf-16le`, `utf-16be`, or any label of the WHATWG Encoding Standard.
    pub fn for_label(label: &str) -> Result<TextEncoding, EncodingError> {
        let encoding = Encoding::for_label(label.as_bytes()).ok_or_else(|| EncodingError::Unknown(label.to_owned()))?;
        // Beside UTF-16, what is not ASCII in its ASCII part is ISO-2022-JP and what the standard refuses to decode.
        let stateful = !encoding.is_ascii_compatible() && encoding != UTF_16LE && encoding != UTF_16BE;
        if stateful {
            return Err(EncodingError::Stateful(encoding.name()));
        }
        Ok(TextEncoding(encoding))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Whether lines that end with `delimiter` can be found in this encoding.
    pub fn check_delimiter(&self, delimiter: &Delimiter) -> Result<(), EncodingError> {
        self.terminator(delimiter).map(drop)
    }

    fn is_utf16(self) -> bool {
        self.0 == UTF_16LE || self.0 == UTF_16BE
    }

    /// What ends a line in the file.
    pub(crate) fn terminator(self, delimiter: &Delimiter) -> Result<Terminator, EncodingError> {
        let text = match delimiter {
            Delimiter::Newline if !self.is_utf16() => return Ok(Terminator::Newline),
            Delimiter::Newline => "\n",
            Delimiter::Bytes(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| EncodingError::DelimiterNotInIt(self.0.name()))?
            }
        };
        if self.is_utf16() {
            let newline = *delimiter == Delimiter::Newline;
            return Ok(Terminator::units(&self.units(text), newline.then(|| self.units("\r"))));
        }
        let (bytes, _, unmappable) = self.0.encode(text);
        if unmappable || text.contains('\u{fffd}') {
            return Err(EncodingError::DelimiterNotInIt(self.0.name()));
        }
        // UTF-8 is made so that no character is found inside another.
        if !self.0.is_single_byte()
            && self.0 != UTF_8
            && let Some(inside) = text.chars().find(|c| !c.is_ascii() || *c as u8 >= NEVER_INSIDE)
        {
            return Err(EncodingError::DelimiterInside(self.0.name(), inside));
        }
        Ok(Terminator::bytes(&bytes))
    }

    fn units(self, text: &str) -> Vec<u8> {
        let to_bytes = if self.0 == UTF_16LE { u16::to_le_bytes } else { u16::to_be_bytes };
        text.encode_utf16().flat_map(to_bytes).collect()
    }
}

/// How the lines of one file are decoded: the encoding that the entry names, or the one that its byte order mark does.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    encoding: TextEncoding,
    terminator: Terminator,
    /// The terminator in UTF-8, without a CR.
    terminator_text: Vec<u8>,
    /// Bytes of the byte order mark at the start of the file.
    mark_bytes: usize,
}

/// Bytes of a file decoded, and where the lines are.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) text: Vec<u8>,
    pub(crate) lines: Vec<DecodedLine>,
    /// How often U+FFFD was put in behind the last terminator.
    rest_replaced: u64,
    /// File offset behind the last byte.
    pub(crate) file_end: FileOffset,
}

/// One physical line of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodedLine {
    pub(crate) place: Physical,
    /// How often U+FFFD stands in it because something was malformed.
    pub(crate) replaced: u64,
}

impl Decoder {
    /// For a file that begins with `head` (three bytes, or all there are).
    pub(crate) fn new(encoding: TextEncoding, delimiter: &Delimiter, head: &[u8]) -> Decoder {
        let marked = Encoding::for_bom(head).map(|(encoding, bytes)| (TextEncoding(encoding), bytes));
        // The file knows better than the entry what it is, unless the delimiter has no form in it.
        let (encoding, mark_bytes) =
            marked.filter(|(encoding, _)| encoding.terminator(delimiter).is_ok()).unwrap_or((encoding, 0));
        // The entry was checked; LF is in every encoding.
        let terminator = encoding.terminator(delimiter).unwrap_or(Terminator::Newline);
        let terminator_text = match delimiter {
            Delimiter::Newline => b"\n".to_vec(),
            Delimiter::Bytes(bytes) => bytes.to_vec(),
        };
        Decoder { encoding, terminator, terminator_text, mark_bytes }
    }

    pub(crate) fn terminator(&self) -> &Terminator {
        &self.terminator
    }

    /// So many bytes of the file come to at least `text_bytes` bytes of text: a code unit of two bytes is at least one
    /// byte of text, and no character of more bytes is worth less than half of them.
    pub(crate) fn raw_bytes_for(text_bytes: usize) -> usize {
        text_bytes * 2 + 16
    }

    /// Decodes bytes whose first one lies at `base`. `last`: nothing will ever come behind them, so that a cut character
    /// is malformed instead of waiting for its rest.
    pub(crate) fn decode(&self, raw: &[u8], base: FileOffset, last: bool) -> Decoded {
        let mut out = Decoded { file_end: base + raw.len() as u64, ..Decoded::default() };
        out.text.reserve(raw.len() + raw.len() / 2);
        let mut start = self.leading_bytes(base).min(raw.len());
        while let Some((end, next)) = self.terminator.find(raw, start, base) {
            let (content, cr) = self.terminator.strip(&raw[start..end]);
            let text_start = out.text.len();
            let replaced = self.decode_into(content, true, &mut out.text);
            let text_end = out.text.len();
            if cr {
                out.text.push(b'\r');
            }
            out.text.extend_from_slice(&self.terminator_text);
            let place =
                Physical { start: text_start, end: text_end, next: out.text.len(), file_next: base + next as u64 };
            out.lines.push(DecodedLine { place, replaced });
            start = next;
        }
        out.rest_replaced = self.decode_into(&raw[start..], last, &mut out.text);
        out
    }

    /// The first bytes of a line that are none of its text: the byte order mark, or half a code unit that belongs to
    /// what was read before (as another encoding, or as none).
    fn leading_bytes(&self, base: FileOffset) -> usize {
        match base {
            0 => self.mark_bytes,
            _ => usize::from(self.encoding.is_utf16() && base % 2 == 1),
        }
    }

    /// Appends the text of `raw`; how often something malformed in it became U+FFFD.
    fn decode_into(&self, raw: &[u8], last: bool, text: &mut Vec<u8>) -> u64 {
        let encoding = self.encoding.0;
        if encoding.is_ascii_compatible() && Encoding::ascii_valid_up_to(raw) == raw.len() {
            text.extend_from_slice(raw);
            return 0;
        }
        let mut decoder = encoding.new_decoder_without_bom_handling();
        let (mut rest, begin, mut malformed) = (raw, text.len(), false);
        loop {
            let at = text.len();
            let room = decoder.max_utf8_buffer_length(rest.len()).unwrap_or(rest.len());
            text.resize(at + room, 0);
            let (result, read, written, errors) = decoder.decode_to_utf8(rest, &mut text[at..], last);
            text.truncate(at + written);
            rest = &rest[read..];
            malformed |= errors;
            if result == CoderResult::InputEmpty {
                break;
            }
        }
        if malformed { memchr::memmem::find_iter(&text[begin..], REPLACEMENT).count() as u64 } else { 0 }
    }
}

impl Decoded {
    /// How often U+FFFD was put in the lines that end in the file behind `from` and up to `upto`, those longer than
    /// `line_bytes` left out.
    pub(crate) fn replaced_between(
        lines: &[DecodedLine],
        from: FileOffset,
        upto: FileOffset,
        line_bytes: usize,
    ) -> u64 {
        let first = lines.partition_point(|line| line.place.file_next <= from);
        let ours = lines[first..].iter().take_while(|line| line.place.file_next <= upto);
        ours.filter(|line| line.place.len() <= line_bytes).map(|line| line.replaced).sum()
    }

    /// The same of what is behind the last whole line.
    pub(crate) fn rest_replaced_within(&self, line_bytes: usize) -> u64 {
        let start = self.lines.last().map_or(0, |line| line.place.next);
        if self.text.len() - start <= line_bytes { self.rest_replaced } else { 0 }
    }
}

/// The lines of decoded text.
#[derive(Clone, Copy)]
pub(crate) struct DecodedLines<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) lines: &'a [DecodedLine],
    pub(crate) file_end: FileOffset,
}

impl Decoded {
    pub(crate) fn physicals(&self) -> DecodedLines<'_> {
        DecodedLines { text: &self.text, lines: &self.lines, file_end: self.file_end }
    }
}

impl Physicals for DecodedLines<'_> {
    fn lines(&self, from: usize, upto: usize) -> impl Iterator<Item = Physical> {
        let first = self.lines.partition_point(|line| line.place.start < from);
        let places = self.lines[first..].iter().map(|line| line.place);
        places.take_while(move |place| place.next <= upto)
    }

    fn text(&self) -> &[u8] {
        self.text
    }

    fn file_end(&self) -> FileOffset {
        self.file_end
    }

    fn cut(&self, start: usize, max: usize) -> usize {
        cut_text(self.text, start, max)
    }
}

/// Where text that begins at `start` is cut to at most `max` bytes: not inside a character.
pub(crate) fn cut_text(text: &[u8], start: usize, max: usize) -> usize {
    let is_inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    let end = (start + max).min(text.len());
    (start..=end).rev().find(|at| !is_inside(*at)).unwrap_or(start)
}

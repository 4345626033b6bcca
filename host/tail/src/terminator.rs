//! What ends a physical line, in the bytes of the file.

use memchr::memchr;
use memchr::memmem::Finder;

use crate::batch::FileOffset;
use crate::framing::{Delimiter, Framing};

/// What ends a line.
#[derive(Clone, Debug)]
pub(crate) enum Terminator {
    /// LF, a CR before it left out.
    Newline,
    /// These bytes.
    Bytes(Box<Finder<'static>>),
    /// These code units of two bytes, at even offsets of the file only.
    Units {
        /// The units.
        finder: Box<Finder<'static>>,
        /// What is left out directly before them.
        cr: Option<Vec<u8>>,
    },
}

impl Terminator {
    /// What ends a line where nothing is decoded.
    pub(crate) fn of(framing: &Framing) -> Terminator {
        match &framing.delimiter {
            Delimiter::Newline => Terminator::Newline,
            Delimiter::Bytes(bytes) => Terminator::bytes(bytes),
        }
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Terminator {
        Terminator::Bytes(Box::new(Finder::new(bytes).into_owned()))
    }

    pub(crate) fn units(units: &[u8], cr: Option<Vec<u8>>) -> Terminator {
        Terminator::Units { finder: Box::new(Finder::new(units).into_owned()), cr }
    }

    /// The first one in `bytes[from..]`: where it begins and where it ends. `base`: file offset of `bytes[0]`.
    pub(crate) fn find(&self, bytes: &[u8], from: usize, base: FileOffset) -> Option<(usize, usize)> {
        match self {
            Terminator::Newline => memchr(b'\n', &bytes[from..]).map(|at| (from + at, from + at + 1)),
            Terminator::Bytes(finder) => {
                let at = from + finder.find(&bytes[from..])?;
                Some((at, at + finder.needle().len()))
            }
            Terminator::Units { finder, .. } => {
                let mut from = from;
                loop {
                    let at = from + finder.find(&bytes[from..])?;
                    if (base + at as u64).is_multiple_of(2) {
                        return Some((at, at + finder.needle().len()));
                    }
                    from = at + 1;
                }
            }
        }
    }

    /// A line without the CR before its terminator, and whether there was one.
    pub(crate) fn strip<'a>(&self, line: &'a [u8]) -> (&'a [u8], bool) {
        let stripped = match self {
            Terminator::Newline => line.strip_suffix(b"\r"),
            Terminator::Bytes(_) => None,
            Terminator::Units { cr, .. } => cr.as_ref().and_then(|cr| line.strip_suffix(cr.as_slice())),
        };
        (stripped.unwrap_or(line), stripped.is_some())
    }

    /// The last bytes of a piece that may be the beginning of a terminator, at most. Invariant: at least one less than
    /// the terminator has; for code units an odd number, so that a piece at an even offset without them stays even.
    pub(crate) fn overlap(&self) -> usize {
        match self {
            Terminator::Newline => 0,
            Terminator::Bytes(finder) | Terminator::Units { finder, .. } => finder.needle().len() - 1,
        }
    }
}

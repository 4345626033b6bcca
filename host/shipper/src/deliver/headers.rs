//! Headers that every record of a parcel gets.

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt::Write;
use std::sync::Arc;

use tailmill_tail::FileOffset;

/// One header and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderSource {
    /// `id`: the prefix (node/entry/file), the offset of the record's oldest line and its number among the records of that
    /// line, with slashes between. The same on every replay, so that consumers can drop duplicates.
    Id {
        /// `node/entry/file`.
        prefix: Arc<str>,
    },
    /// `offset`: where the record's oldest line begins in its file.
    Offset,
    /// The same for all.
    Fixed {
        /// Name of the header.
        name: Arc<str>,
        /// Its value.
        value: Arc<[u8]>,
    },
}

impl HeaderSource {
    /// A header that is the same for all records.
    pub fn fixed(name: &str, value: &[u8]) -> HeaderSource {
        HeaderSource::Fixed { name: name.into(), value: value.into() }
    }

    /// Its name as librdkafka takes it.
    pub(super) fn name(&self) -> CString {
        c_name(match self {
            HeaderSource::Id { .. } => "id",
            HeaderSource::Offset => "offset",
            HeaderSource::Fixed { name, .. } => name,
        })
    }

    /// Appends the value for a record from `source` that is the `number`-th of its line.
    pub(super) fn write(&self, source: FileOffset, number: u32, into: &mut Vec<u8>) {
        let mut text = Text(into);
        // Writing to a vector does not fail.
        let _ = match self {
            HeaderSource::Id { prefix } => write!(text, "{prefix}/{source}/{number}"),
            HeaderSource::Offset => write!(text, "{source}"),
            HeaderSource::Fixed { value, .. } => {
                text.0.extend_from_slice(value);
                Ok(())
            }
        };
    }
}

/// A name cannot hold a NUL byte; a guest that sets one gets U+FFFD in its place.
pub(super) fn c_name(name: &str) -> CString {
    CString::new(name).or_else(|_| CString::new(name.replace('\0', "\u{fffd}"))).unwrap_or_default()
}

struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// For each record its number among the records that came from the same line, from 0, or from `first` for the line of
/// the first record.
pub fn numbers(sources: &[FileOffset], first: u32) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(sources.len());
    if sources.is_sorted() {
        for (place, source) in sources.iter().enumerate() {
            let before = place.checked_sub(1).map(|before| (sources[before], numbers[before] + 1));
            numbers.push(match before {
                None => first,
                Some((same, next)) if same == *source => next,
                Some(_) => 0,
            });
        }
    } else {
        let mut seen: HashMap<FileOffset, u32> = sources.first().map(|source| (*source, first)).into_iter().collect();
        for source in sources {
            let next = seen.entry(*source).or_default();
            numbers.push(*next);
            *next += 1;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_line_are_numbered() {
        let check = |sources: &[FileOffset], first: u32, expected: &[u32]| {
            assert_eq!(numbers(sources, first), expected, "{sources:?} from {first}");
        };
        check(&[0, 10, 10, 10, 20], 0, &[0, 0, 1, 2, 0]);
        check(&[20, 10, 20, 10, 20], 0, &[0, 0, 1, 1, 2]);
        check(&[], 0, &[]);
        check(&[10, 10, 20, 20], 3, &[3, 4, 0, 1]);
        check(&[20, 10, 20, 10], 3, &[3, 0, 4, 1]);
        check(&[], 3, &[]);
    }

    #[test]
    fn values_say_where_a_record_came_from() {
        let check = |header: HeaderSource, name: &str, value: &str| {
            let mut bytes = Vec::new();
            header.write(120, 2, &mut bytes);
            assert_eq!((header.name().to_str().unwrap(), std::str::from_utf8(&bytes).unwrap()), (name, value));
        };
        check(HeaderSource::Id { prefix: "web-01/app/7f".into() }, "id", "web-01/app/7f/120/2");
        check(HeaderSource::Offset, "offset", "120");
        check(HeaderSource::fixed("node", b"web-01"), "node", "web-01");
        check(HeaderSource::fixed("a\0b", b""), "a\u{fffd}b", "");
    }
}

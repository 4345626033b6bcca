//! Records on their way to a sink: ranges of one shared buffer and what goes with them.

use tailmill_engine::{Column, Header};
use tailmill_tail::{Chunk, FileOffset};

/// Records whose values lie in one buffer. Record `i` is `buffer[starts[i]..ends[i]]`.
#[derive(Clone, Debug)]
pub struct RecordSet {
    /// The bytes of all values.
    pub buffer: Chunk,
    /// Start of each value.
    pub starts: Vec<u32>,
    /// End of each value. Invariant: as long as `starts`.
    pub ends: Vec<u32>,
    /// Where in the file the oldest input line of each record begins. Invariant: as long as `starts`.
    pub sources: Vec<FileOffset>,
    /// Keys, topics, timestamps and headers that a filter set; most sets have none.
    pub extras: Option<Box<Extras>>,
}

/// In place of a timestamp: the host's. The filter contract's word for it.
pub const HOSTS_TIME: i64 = i64::MIN;

/// What filters set beside the value. Per-record vectors are empty (the default for all) or as long as the set.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Record keys.
    pub keys: Option<Column>,
    /// Index into the entry's topics.
    pub topics: Vec<u16>,
    /// Milliseconds since the Unix epoch, or [`HOSTS_TIME`].
    pub timestamps_ms: Vec<i64>,
    /// Record headers.
    pub headers: Vec<Header>,
}

impl RecordSet {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Value of record `i`.
    pub fn value(&self, i: usize) -> &[u8] {
        &self.buffer[self.starts[i] as usize..self.ends[i] as usize]
    }

    /// Bytes of all values together.
    pub fn value_bytes(&self) -> u64 {
        self.starts.iter().zip(&self.ends).map(|(start, end)| u64::from(end - start)).sum()
    }

    /// Record `i` alone, copied out, with all that goes with it.
    pub fn single(&self, i: usize) -> RecordSet {
        let value = self.value(i).to_vec();
        RecordSet {
            starts: vec![0],
            ends: vec![value.len() as u32],
            buffer: Chunk::new(value),
            sources: vec![self.sources[i]],
            extras: self.extras.as_ref().map(|extras| Box::new(extras.single(i))),
        }
    }

    /// The oldest input line of any record, as a file offset.
    pub fn floor(&self) -> Option<FileOffset> {
        self.sources.iter().copied().min()
    }
}

impl Extras {
    /// The timestamp that a filter gave record `i`.
    pub fn timestamp_ms(&self, i: usize) -> Option<i64> {
        self.timestamps_ms.get(i).copied().filter(|time| *time != HOSTS_TIME)
    }

    /// What goes with record `i` alone.
    fn single(&self, i: usize) -> Extras {
        Extras {
            keys: self.keys.as_ref().map(|column| single_value(column, i)),
            topics: self.topics.get(i).copied().into_iter().collect(),
            timestamps_ms: self.timestamps_ms.get(i).copied().into_iter().collect(),
            headers: self
                .headers
                .iter()
                .map(|header| Header { name: header.name.clone(), values: single_value(&header.values, i) })
                .collect(),
        }
    }
}

fn single_value(column: &Column, i: usize) -> Column {
    match column.get(i) {
        Some(value) => Column { spans: vec![Some((0, value.len() as u32))], data: value.to_vec() },
        None => Column { spans: vec![None], data: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_record_keeps_its_key_topic_and_headers() {
        let column = |values: [Option<&str>; 2]| {
            let mut column = Column::default();
            for value in values {
                column.spans.push(value.map(|value| {
                    let start = column.data.len() as u32;
                    column.data.extend_from_slice(value.as_bytes());
                    (start, column.data.len() as u32)
                }));
            }
            column
        };
        let set = RecordSet {
            buffer: Chunk::new(b"one\ntwo\n".to_vec()),
            starts: vec![0, 4],
            ends: vec![3, 7],
            sources: vec![100, 104],
            extras: Some(Box::new(Extras {
                keys: Some(column([None, Some("k2")])),
                topics: vec![0, 3],
                timestamps_ms: vec![],
                headers: vec![Header { name: "h".into(), values: column([Some("a"), Some("b")]) }],
            })),
        };
        let two = set.single(1);
        assert_eq!((two.value(0), &two.sources[..]), (&b"two"[..], &[104][..]));
        let extras = two.extras.expect("kept");
        assert_eq!(extras.keys.expect("kept").get(0), Some(&b"k2"[..]));
        assert_eq!((extras.topics, extras.timestamps_ms), (vec![3], vec![]));
        assert_eq!(extras.headers[0].values.get(0), Some(&b"b"[..]));
        assert_eq!(set.single(0).extras.expect("kept").keys.expect("kept").get(0), None);
    }
}

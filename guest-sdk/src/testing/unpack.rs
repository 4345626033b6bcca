//! Reads packed answers back, as strictly as the host does: what is wrong here is a bug in the packing.

use crate::answer::u32_at;
use crate::{Column, Lines, Output};

/// A line that left the filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The bytes.
    pub line: Vec<u8>,
    /// Number of the oldest input line it came from; the first line that a tester gets has the number 0.
    pub source: u64,
    /// Record key.
    pub key: Option<Vec<u8>>,
    /// Name of the topic.
    pub topic: String,
    /// Record time; `None`: the host's.
    pub timestamp_ms: Option<i64>,
    /// Record headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Sent {
    /// The line as text, lossy where it is no UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    pub(super) fn as_it_came(line: &[u8], source: u64, topics: &[String]) -> Sent {
        Sent { line: line.to_vec(), source, topic: topics[0].clone(), ..Sent::default() }
    }
}

/// # Panics
/// When the columns do not fit each other.
pub(super) fn unpack(output: &Output, topics: &[String]) -> Vec<Sent> {
    let lines = Lines { data: &output.data, starts: &output.starts, ends: &output.ends };
    let rows = lines.len();
    assert_eq!(output.ends.len(), rows * 4, "as many ends as starts");
    assert_eq!(output.source.len(), rows * 8, "a source for each line");
    assert!([0, rows * 2].contains(&output.topics.len()), "no topics or one for each line");
    assert!([0, rows * 8].contains(&output.timestamps_ms.len()), "no times or one for each line");
    let mut before = 0;
    (0..rows)
        .map(|row| {
            let (start, end) = lines.span(row);
            assert!(before <= start && start <= end && end <= lines.data.len(), "line {row} is out of place");
            before = end;
            let topic = output.topics.get(row * 2..row * 2 + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]));
            let time = eight(&output.timestamps_ms, row).map(i64::from_le_bytes).filter(|time| *time != i64::MIN);
            let header = |(name, column): &(String, Column)| Some((name.clone(), value(column, row, rows)?));
            Sent {
                line: lines.line(row).to_vec(),
                source: eight(&output.source, row).map_or(0, u64::from_le_bytes),
                key: output.keys.as_ref().and_then(|column| value(column, row, rows)),
                topic: topics[usize::from(topic)].clone(),
                timestamp_ms: time,
                headers: output.headers.iter().filter_map(header).collect(),
            }
        })
        .collect()
}

fn eight(packed: &[u8], row: usize) -> Option<[u8; 8]> {
    packed.get(row * 8..row * 8 + 8)?.try_into().ok()
}

fn value(column: &Column, row: usize, rows: usize) -> Option<Vec<u8>> {
    assert_eq!(column.ends.len(), rows * 4, "an end for each line");
    assert!(column.present.is_empty() || column.present.len() == rows.div_ceil(8), "a bit for each line");
    let start = if row == 0 { 0 } else { u32_at(&column.ends, row - 1) };
    let end = u32_at(&column.ends, row);
    let present = column.present.is_empty() || column.present[row / 8] >> (row % 8) & 1 == 1;
    assert!(present || start == end, "an absent value has no bytes");
    present.then(|| column.data[start..end].to_vec())
}

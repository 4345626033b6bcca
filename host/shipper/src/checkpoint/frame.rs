//! One value of the store as bytes that prove themselves: it is found and checked without the tree around it, which is
//! what makes a damaged store salvageable.
//!
//! ```text
//!   0      4    5      6        8        16         20         24           32
//!   | TMSR | kind | version | 0 0 | seq u64 | head u32 | body u32 | xxh3 u64 | head: JSON | body: filter states |
//!                                    little-endian                 of all but itself
//! ```

use super::records::{SteppedOver, StreamRecord};

const MAGIC: &[u8; 4] = b"TMSR";
const VERSION: u8 = 1;
const HEADER: usize = 32;
/// A value that claims more is no value: records are bounded by the state they carry.
const PART_BYTES_MAX: usize = 4 << 20;

const KIND_STREAM: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_STEPPED_OVER: u8 = 3;

/// What a value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A stream's record.
    Stream(Box<StreamRecord>),
    /// An entry that was seen.
    Entry(String),
    /// A line that was left out by hand.
    SteppedOver(SteppedOver),
}

/// A value as it was found: `seq` is the number of the commit that wrote it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) kept: Kept,
}

pub(super) fn stream(record: &StreamRecord, seq: u64) -> Vec<u8> {
    let stages = record.resume.stages();
    let mut body = Vec::with_capacity(stages.iter().map(|stage| stage.state.len()).sum());
    stages.iter().for_each(|stage| body.extend_from_slice(&stage.state));
    encode(KIND_STREAM, seq, &json(record), &body)
}

pub(super) fn entry(name: &str, seq: u64) -> Vec<u8> {
    encode(KIND_ENTRY, seq, &json(&name), &[])
}

pub(super) fn stepped_over(line: &SteppedOver, seq: u64) -> Vec<u8> {
    encode(KIND_STEPPED_OVER, seq, &json(line), &[])
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Strings, numbers and vectors of them: there is no map key or writer that could fail.
    serde_json::to_vec(value).unwrap_or_default()
}

fn encode(kind: u8, seq: u64, head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + head.len() + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[kind, VERSION, 0, 0]);
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(body);
    let checksum = checksum(&bytes);
    bytes[24..HEADER].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn checksum(frame: &[u8]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&frame[..24]);
    hasher.update(&frame[HEADER..]);
    hasher.digest()
}

/// The value at the start of `bytes`, or `None` when there is no sound one.
pub(super) fn decode(bytes: &[u8]) -> Option<Found> {
    let header = bytes.get(..HEADER)?;
    if &header[..4] != MAGIC || header[5] != VERSION {
        return None;
    }
    let number = |from: usize| u32::from_le_bytes([header[from], header[from + 1], header[from + 2], header[from + 3]]);
    let (head_len, body_len) = (number(16) as usize, number(20) as usize);
    if head_len > PART_BYTES_MAX || body_len > PART_BYTES_MAX {
        return None;
    }
    let length = HEADER + head_len + body_len;
    let frame = bytes.get(..length)?;
    if checksum(frame).to_le_bytes() != header[24..HEADER] {
        return None;
    }
    let (head, body) = frame[HEADER..].split_at(head_len);
    let seq = u64::from(number(8)) | u64::from(number(12)) << 32;
    let kept = match header[4] {
        KIND_STREAM => Kept::Stream(Box::new(with_states(serde_json::from_slice(head).ok()?, body)?)),
        KIND_ENTRY => Kept::Entry(serde_json::from_slice(head).ok()?),
        KIND_STEPPED_OVER => Kept::SteppedOver(serde_json::from_slice(head).ok()?),
        _ => return None,
    };
    Some(Found { seq, kept })
}

/// Puts the states back where the JSON left room for them.
fn with_states(mut record: StreamRecord, mut body: &[u8]) -> Option<StreamRecord> {
    for stage in record.resume.stages_mut() {
        let length = stage.state.len();
        stage.state.copy_from_slice(body.get(..length)?);
        body = &body[length..];
    }
    body.is_empty().then_some(record)
}

/// Every sound value in a heap of bytes, wherever it lies.
pub(super) fn scan(bytes: &[u8]) -> impl Iterator<Item = Found> + '_ {
    memchr::memmem::find_iter(bytes, MAGIC).filter_map(|at| decode(&bytes[at..]))
}

#[cfg(test)]
mod tests {
    use super::super::records::{ResumePoint, StageSnapshot, sample};
    use super::*;
    use tailmill_engine::Digest;

    fn with_snapshot() -> StreamRecord {
        let stage = |name: &str, state: &[u8]| StageSnapshot {
            name: name.into(),
            digest: Digest::of(name.as_bytes()),
            state: state.to_vec(),
            next_seq: u64::MAX,
            oldest_held: Some(9),
        };
        let stages = vec![stage("join", b"\x00\xffTMSR"), stage("dedup", b""), stage("rate", b"xyz")];
        StreamRecord {
            resume: ResumePoint::Snapshot { offset: 77, stages },
            blocked: Some(5),
            step_over: vec![5, 6],
            ..sample("web", u128::MAX, 77)
        }
    }

    #[test]
    fn both_kinds_of_resume_point_and_paths_of_any_bytes_come_back() {
        for record in [sample("web", 1, 5), with_snapshot()] {
            let bytes = stream(&record, 42);
            let found = decode(&bytes).expect("sound");
            assert_eq!(found.seq, 42);
            assert_eq!(found.kept, Kept::Stream(Box::new(record)));
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let bytes = stream(&with_snapshot(), 7);
        for at in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[at / 8] ^= 1 << (at % 8);
            // The two spare bytes are covered too.
            assert!(decode(&broken).is_none(), "bit {at}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "cut to {length}");
        }
    }

    #[test]
    fn values_are_found_in_a_heap_of_bytes() {
        let mut heap = b"noise TMSR noise".to_vec();
        heap.extend(stream(&with_snapshot(), 1));
        heap.extend(b"TMS");
        heap.extend(entry("web", 2));
        let found: Vec<Kept> = scan(&heap).map(|found| found.kept).collect();
        assert_eq!(found, [Kept::Stream(Box::new(with_snapshot())), Kept::Entry("web".into())]);
    }
}

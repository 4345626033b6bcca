//! What is kept of a stream, and its JSON form.
//!
//! Saved filter states are bytes and stay out of the JSON: the store keeps them behind it, in the same value.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tailmill_engine::Digest;
use tailmill_tail::{Evidence, FileId, FileKey, FileOffset, StreamKey};

/// Saved filter states of one stream together, in bytes: so that they fit one Kafka record.
pub const STATE_BYTES_MAX: usize = 512 << 10;

/// What is kept of a stream: enough to find its file again and to go on from its resume point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The entry's name.
    pub entry: String,
    /// The file's id.
    pub file: FileId,
    /// Where the file was last seen.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// Where the file was first seen: decides shard and partition, survives rotation.
    #[serde(with = "path_text")]
    pub home: PathBuf,
    /// Its real path, where `path` led to it through links.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_path_text")]
    pub target: Option<PathBuf>,
    /// Where the file lies on the disk.
    pub place: FileKey,
    /// What the file looked like. Invariant: `evidence.at <= resume.offset()`.
    pub evidence: Evidence,
    /// From where to go on.
    pub resume: ResumePoint,
    /// Topic and number of the stream's partition.
    #[serde(default)]
    pub partition: Option<(String, i32)>,
    /// Read to its end, delivered and left: it is not opened again unless it grows.
    #[serde(default)]
    pub finished: bool,
    /// The size of the file when it was last looked at: what is behind the mark up to here is lost if it is gone.
    #[serde(default)]
    pub size_seen: FileOffset,
    /// When this was written: milliseconds since the Unix epoch.
    pub updated_ms: i64,
    /// Start of the line that blocks the stream, where it is known. It may lie behind the resume point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<FileOffset>,
    /// Starts of lines that a person decided to leave out (`tailmill state step-over`) and that lie behind the resume
    /// point. Whoever reads the stream drops these lines, counted, and the offset once the mark has passed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_over: Vec<FileOffset>,
}

impl StreamRecord {
    /// Whose record this is.
    pub fn key(&self) -> StreamKey {
        StreamKey { entry: Arc::from(self.entry.as_str()), file: self.file }
    }
}

/// From where a stream goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ResumePoint {
    /// Read again from here.
    Position {
        /// The mark.
        offset: FileOffset,
    },
    /// Give the filters their state, then read from here. Lines that the filters hold are inside the state.
    Snapshot {
        /// A batch boundary.
        offset: FileOffset,
        /// State of each stage of the chain, in order.
        stages: Vec<StageSnapshot>,
    },
}

impl ResumePoint {
    /// Offset of the first byte to read.
    pub fn offset(&self) -> FileOffset {
        match self {
            ResumePoint::Position { offset } | ResumePoint::Snapshot { offset, .. } => *offset,
        }
    }

    /// The stages of a snapshot; none of a position.
    pub(super) fn stages(&self) -> &[StageSnapshot] {
        match self {
            ResumePoint::Position { .. } => &[],
            ResumePoint::Snapshot { stages, .. } => stages,
        }
    }

    pub(super) fn stages_mut(&mut self) -> &mut [StageSnapshot] {
        match self {
            ResumePoint::Position { .. } => &mut [],
            ResumePoint::Snapshot { stages, .. } => stages,
        }
    }
}

/// The saved state of one stage of a filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSnapshot {
    /// The filter's name.
    pub name: String,
    /// The module that wrote the state.
    pub digest: Digest,
    /// The state. In JSON only its length, as `state_bytes`; the bytes lie beside it.
    #[serde(rename = "state_bytes", serialize_with = "length", deserialize_with = "zeroes")]
    pub state: Vec<u8>,
    /// Sequence number of the next input line of the stage.
    pub next_seq: u64,
    /// Start of the oldest input line that is inside the state.
    pub oldest_held: Option<FileOffset>,
}

fn length<S: Serializer>(state: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(state.len() as u64)
}

fn zeroes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let length = u64::deserialize(deserializer)?;
    match usize::try_from(length) {
        Ok(length) if length <= STATE_BYTES_MAX => Ok(vec![0; length]),
        _ => Err(serde::de::Error::custom("a state longer than the store keeps")),
    }
}

/// A line that a person decided to leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteppedOver {
    /// The entry's name.
    pub entry: String,
    /// The file's id.
    pub file: FileId,
    /// Where the file was.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// Start of the line.
    pub offset: FileOffset,
    /// Bytes of the line, terminator included.
    pub bytes: u64,
    /// When: milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// A path as text where it is UTF-8, else `{"hex": "…"}`: no byte of it gets lost.
mod path_text {
    use super::{Deserialize, Deserializer, OsStrExt, OsString, OsStringExt, Path, PathBuf, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        Utf8(String),
        Bytes { hex: String },
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match path.to_str() {
            Some(text) => Text::Utf8(text.to_owned()),
            None => Text::Bytes { hex: hex::encode(path.as_os_str().as_bytes()) },
        };
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        match Text::deserialize(deserializer)? {
            Text::Utf8(text) => Ok(PathBuf::from(text)),
            Text::Bytes { hex } => {
                let bytes = hex::decode(hex).map_err(serde::de::Error::custom)?;
                Ok(PathBuf::from(OsString::from_vec(bytes)))
            }
        }
    }
}

/// The same of a path that may be missing.
mod optional_path_text {
    use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "super::path_text")] PathBuf);

    #[allow(clippy::ref_option, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.clone().map(Text).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}

#[cfg(test)]
pub(super) fn sample(entry: &str, file: u128, offset: FileOffset) -> StreamRecord {
    StreamRecord {
        entry: entry.to_owned(),
        file: FileId(file),
        path: PathBuf::from(OsString::from_vec(b"/var/log/\xffapp.log".to_vec())),
        home: PathBuf::from("/var/log/app.log"),
        target: Some(PathBuf::from(OsString::from_vec(b"/srv/\xfe/app.log".to_vec()))),
        place: FileKey { device: 1, inode: 2, born_ns: Some(3) },
        evidence: Evidence { at: offset, rest_hash: u128::MAX - 5, ..Evidence::default() },
        resume: ResumePoint::Position { offset },
        partition: Some(("logs".into(), 7)),
        finished: false,
        size_seen: 0,
        updated_ms: 1,
        blocked: None,
        step_over: Vec::new(),
    }
}

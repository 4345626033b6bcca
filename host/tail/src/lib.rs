//! Find, identify, read and split log files.
//!
//! In: patterns of paths, and what is already known of files. Out: file events (a file appeared, grew, moved, went)
//! and, for each open file, [`Batch`]es of whole lines with their place in the file. This crate never knows filters,
//! Kafka, etcd or tokio, never writes to what it reads, and spawns no thread.
//!
//! In reading order:

#![forbid(unsafe_code)]

pub mod allow; // which files nobody may read, and how one is opened
pub mod batch; // lines with their place in a file
mod codec; // gzip and zstd, a piece at a time
mod compare; // a whole file compared with evidence, in slices
pub mod discover; // patterns to file events
pub mod encoding; // bytes in some encoding to UTF-8
pub mod evidence; // what stood in a file: computed while reading, compared with a file
pub mod framing; // how bytes become lines: delimiter, limits, multiline
pub mod identity; // what makes a file the same file
pub mod packed; // what a compressed file holds
pub mod paths; // which paths an entry means
mod physical; // physical lines, where they lie
pub mod reader; // one open file: batches of whole lines
mod split; // the splitter itself
mod terminator; // what ends a physical line in the bytes of a file
mod unpack; // the content of a compressed file as if it were a file that grows
pub mod unpackers; // how many compressed files are unpacked at once

pub use allow::{AllowPaths, OpenProblem};
pub use batch::{Batch, BufferPool, Chunk, FileOffset};
pub use discover::{
    DiscoverOptions, Discovery, FileEvent, KnownFile, LossCause, Notice, OpenedFile, StartAt, StreamKey, StreamReport,
    Waker, WatchSpec,
};
pub use encoding::{EncodingError, TextEncoding};
pub use framing::{Delimiter, DelimiterError, Framing, Multiline, MultilineRule, TooLong};
pub use identity::{Evidence, FileId, FileKey};
pub use packed::Packing;
pub use paths::{PathPatterns, PatternError};
pub use reader::{BatchLimits, PackedProblem, ParkedReader, Read, ReadError, Reader};
pub use unpackers::Unpackers;

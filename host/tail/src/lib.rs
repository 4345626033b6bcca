//! Find, identify, read and split log files.
//!
//! In: patterns of paths, and what is already known of files. Out: file events (a file appeared, grew, moved, went)
//! and, for each open file, [`Batch`]es of whole lines with their place in the file. This crate never knows filters,
//! Kafka, etcd or tokio, never writes to what it reads, and spawns no thread but the one `notify` brings.
//!
//! In reading order:

pub mod paths; // which paths an entry means, and which ones nobody may read
pub mod identity; // what makes a file the same file
pub mod batch; // lines with their place in a file
pub mod framing; // bytes to lines: the splitter, too long lines, multiline
pub mod discover; // patterns to file events

pub use batch::{Batch, BufferPool, Chunk, FileOffset};
pub use framing::{Framing, Multiline, MultilineRule, TooLong};
pub use identity::{Evidence, FileId, FileKey};
pub use paths::{AllowPaths, PathPatterns};

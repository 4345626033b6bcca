//! Exit codes of every command.

/// All went well.
pub const CLEAN: i32 = 0;
/// The start failed, or a command could not do what it was asked.
pub const FAILED: i32 = 1;
/// Stopped with lines that were not delivered at the deadline. They come again at the next start.
pub const UNDELIVERED: i32 = 2;
/// Bad usage or bad configuration.
pub const USAGE: i32 = 64;

//! What the host lends a filter. In wasm these are the contract's imports; in native tests they reach
//! [`testing::World`](crate::testing::World).

#[cfg(target_arch = "wasm32")]
use crate::bindings::world;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::world;

/// Writes a line to the host's log at debug level. All logging is rate-limited by the host.
pub fn debug(message: &str) {
    world::log(0, message);
}

/// Writes a line to the host's log at info level.
pub fn info(message: &str) {
    world::log(1, message);
}

/// Writes a line to the host's log at warning level.
pub fn warn(message: &str) {
    world::log(2, message);
}

/// Writes a line to the host's log at error level.
pub fn error(message: &str) {
    world::log(3, message);
}

/// Adds to a counter in the host's metrics. At most 32 names a module.
pub fn count(name: &str, by: u64) {
    world::count(name, by);
}

/// Nanoseconds since the Unix epoch.
pub fn now_ns() -> u64 {
    world::now()
}

pub(crate) fn stream_id() -> u64 {
    world::stream_id()
}

pub(crate) fn node() -> String {
    world::node()
}

pub(crate) fn path() -> Vec<u8> {
    world::path()
}

pub(crate) fn first_offset() -> u64 {
    world::first_offset()
}

pub(crate) fn inode() -> u64 {
    world::inode()
}

pub(crate) fn generation() -> String {
    world::generation()
}

pub(crate) fn first_line() -> u64 {
    world::first_line()
}

pub(crate) fn topics() -> Vec<String> {
    world::topics()
}

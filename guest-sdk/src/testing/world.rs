//! The surroundings of a filter under test: a clock, a file, topics, and what the filter told the host.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// What the host functions answer, and what they were told.
#[derive(Clone, Debug)]
pub struct World {
    /// Nanoseconds since the Unix epoch: stands still until it is set again.
    pub now_ns: u64,
    /// Name of the machine.
    pub node: String,
    /// Path of the file.
    pub path: Vec<u8>,
    /// Number of the stream.
    pub stream_id: u64,
    /// Where the first line of the batch starts in its file.
    pub first_offset: u64,
    /// Number of the line of the file with which the batch begins; 0: not known.
    pub first_line: u64,
    /// Inode number of the file; 0: not known.
    pub inode: u64,
    /// The id of the file.
    pub generation: String,
    /// Topics a line may go to; the first is the entry's own.
    pub topics: Vec<String>,
    /// What was logged: 0 debug, 1 info, 2 warn, 3 error, and the message.
    pub logs: Vec<(u8, String)>,
    /// What was counted.
    pub counters: BTreeMap<String, u64>,
}

impl Default for World {
    fn default() -> World {
        World {
            now_ns: 1_700_000_000_000_000_000,
            node: "test-node".into(),
            path: b"/var/log/test.log".to_vec(),
            stream_id: 1,
            first_offset: 0,
            first_line: 1,
            inode: 1,
            generation: "test-generation".into(),
            topics: vec!["main".into()],
            logs: Vec::new(),
            counters: BTreeMap::new(),
        }
    }
}

thread_local! {
    /// The world of the tester whose filter is being called.
    static CURRENT: RefCell<World> = RefCell::new(World::default());
}

/// Calls a filter in `world`; what it tells the host ends up there.
pub(super) fn inside<R>(world: &mut World, call: impl FnOnce() -> R) -> R {
    CURRENT.with_borrow_mut(|current| std::mem::swap(current, world));
    let result = call();
    CURRENT.with_borrow_mut(|current| std::mem::swap(current, world));
    result
}

pub(crate) fn log(level: u8, message: &str) {
    CURRENT.with_borrow_mut(|world| world.logs.push((level, message.to_string())));
}

pub(crate) fn count(name: &str, by: u64) {
    CURRENT.with_borrow_mut(|world| *world.counters.entry(name.to_string()).or_default() += by);
}

pub(crate) fn now() -> u64 {
    CURRENT.with_borrow(|world| world.now_ns)
}

pub(crate) fn stream_id() -> u64 {
    CURRENT.with_borrow(|world| world.stream_id)
}

pub(crate) fn node() -> String {
    CURRENT.with_borrow(|world| world.node.clone())
}

pub(crate) fn path() -> Vec<u8> {
    CURRENT.with_borrow(|world| world.path.clone())
}

pub(crate) fn first_offset() -> u64 {
    CURRENT.with_borrow(|world| world.first_offset)
}

pub(crate) fn first_line() -> u64 {
    CURRENT.with_borrow(|world| world.first_line)
}

pub(crate) fn inode() -> u64 {
    CURRENT.with_borrow(|world| world.inode)
}

pub(crate) fn generation() -> String {
    CURRENT.with_borrow(|world| world.generation.clone())
}

pub(crate) fn topics() -> Vec<String> {
    CURRENT.with_borrow(|world| world.topics.clone())
}

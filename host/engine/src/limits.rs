//! What a filter may use. There is no default on purpose where a store is made: a caller says each limit.

use std::time::Duration;

/// The limits of one filter instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time on the CPU that one call may take. On a busy machine wall time may reach twenty times as much.
    pub call_time: Duration,
    /// Linear memory of all memories of an instance together, in bytes.
    pub memory_bytes: usize,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// Bytes of one answer (lines, keys and headers together).
    pub output_bytes: usize,
    /// Lines that a filter may hold back.
    pub held_lines: usize,
    /// Bytes of one saved state.
    pub state_bytes: usize,
}

impl Limits {
    /// What an entry gets that says nothing: 200 ms, 64 MiB (enough for Python and Go), 100,000 table elements (QuickJS
    /// needs 3 tables), 16 MiB of output, 65,536 held lines, 512 KiB of state (fits one Kafka record).
    pub const STANDARD: Limits = Limits {
        call_time: Duration::from_millis(200),
        memory_bytes: 64 << 20,
        table_elements: 100_000,
        output_bytes: 16 << 20,
        held_lines: 65_536,
        state_bytes: 512 << 10,
    };
}

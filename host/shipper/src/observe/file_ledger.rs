//! Where the lines of one file generation went, since this agent opened it: the loss equation once more, for one stream.

use crate::model::LineCount;
use serde::{Deserialize, Serialize};

/// `read = delivered + filtered + dropped + rewound + pending`, as in the ledger of its entry, all reasons of dropping in
/// one. What an earlier run of the agent shipped of the file lies before the place where this one began to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileLedger {
    /// Read, repeats included.
    pub read: LineCount,
    /// Acknowledged by Kafka.
    pub delivered: LineCount,
    /// Dropped or joined by a filter's verdict.
    pub filtered: LineCount,
    /// Dropped for another reason.
    pub dropped: LineCount,
    /// Pending when the stream went back to its mark; read again.
    pub rewound: LineCount,
}

impl FileLedger {
    /// Read and not yet resolved.
    pub fn pending(&self) -> LineCount {
        let resolved = self.delivered + self.filtered + self.dropped + self.rewound;
        // What a restored snapshot held was read by an earlier run: it settles without having been read by this one.
        LineCount {
            lines: self.read.lines.saturating_sub(resolved.lines),
            bytes: self.read.bytes.saturating_sub(resolved.bytes),
        }
    }
}

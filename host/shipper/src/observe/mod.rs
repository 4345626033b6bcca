//! What the agent can say about itself: counters, health, metrics, status, logs, the final summary.
//!
//! In: ledgers that shards keep and publish, and what other rooms report to the [`Board`]. Out: text and JSON over HTTP,
//! log lines, notifications to the service manager. This room is a leaf: every room may call it, it imports nothing
//! but the vocabulary (`model`, engine and tail types), and nothing in it can block or slow a shard.
//!
//! In reading order:

pub mod ledger; // plain counters that one shard owns
pub mod board; // what shards and rooms report, and who may read it
pub mod view; // the agent at one moment: readiness, liveness, sums
pub mod metrics; // a view as OpenMetrics text
pub mod status; // a view as a JSON document
pub mod status_text; // that document for a terminal, and the final summary
pub mod text; // numbers as people read them
pub mod admin; // the HTTP server
pub mod logs; // log lines
pub mod summary; // the last thing an agent says
pub mod notify; // what the service manager is told
mod node; // what a fleet is told of this agent
mod file_ledger; // where the lines of one file went
mod exposition; // metric families, one after the other
mod process; // what this process uses
pub mod version; // what this build is

#[cfg(test)]
mod metrics_tests;
#[cfg(test)]
mod status_tests;

pub use admin::serve as serve_admin;
pub use board::{Board, Part, now_ms};
pub use file_ledger::FileLedger;
pub use ledger::{
    DropReason, EntryLedger, FilterLedger, LastError, ShardSnapshot, ShardTotals, StreamSnapshot, StreamState,
};
pub use node::{NodeEntry, NodeFilter, NodeStatus};
pub use notify::notify_service_manager;
pub use summary::log as log_summary;
pub use view::View;

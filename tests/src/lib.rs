//! Tailmill's test harness: a real Kafka, a real etcd, the real `tailmill`, and an oracle that trusts none of them.
//!
//! In reading order. Nothing here sleeps to be in step with something: it polls a condition until a deadline, and
//! a deadline that passes is a failed test with the agent's last words in it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a harness fails by panicking and says why on stderr: that is the test's report"
)]

pub mod scratch; // directories and processes that never outlive the test
pub mod process; // one child: its pid, its log, its signals
pub mod wait; // poll a condition until a deadline
pub mod kafka; // a broker
pub mod etcd; // an etcd
pub mod etcd_cluster; // several, with TLS and users
pub mod proxy; // a partition that looks alive
pub mod lines; // log lines that can be recognised wherever they arrive
pub mod logfile; // a program that writes and rotates its log
pub mod writer; // the same, all the time, while real tools rotate it
pub mod nginx; // a real server under load whose log rotates
pub mod failing; // system calls that fail
pub mod topic; // what arrived
pub mod oracle; // what should have arrived, and whether it did
pub mod agent; // the real `tailmill run`
pub mod command; // what a command of it came to
pub mod guests; // modules written by hand, most of them hostile
pub mod scene; // what most tests do with all of these

/// Says what a test found out also when it passes: cargo shows what is printed with a macro only of one that fails.
pub fn say(text: &str) {
    use std::io::Write as _;
    // Nobody listens: no reason to fail.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

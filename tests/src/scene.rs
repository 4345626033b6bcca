//! What most end-to-end tests do: files under an agent, lines on their way to a topic, and the loss equation at the end.

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::lines::Style;
use crate::logfile::LogFile;
use crate::oracle::{Content, Expected, Verdict};
use crate::topic::Tap;

/// A log in the agent's `logs` directory, for `NAME.log`.
pub fn log(agent: &Agent, name: &str, style: Style, writer: u32) -> LogFile {
    LogFile::create(agent.path("logs").join(format!("{name}.log")), style, writer)
}

/// An entry for this pattern under `logs`. Rotated files are finished soon, so that a test's successors need not wait.
pub fn entry(agent: &Agent, pattern: &str, topic: &str) -> Value {
    json!({ "path": agent.path("logs").join(pattern), "topic": topic, "finish_after_ms": 200 })
}

/// The entry with these filters.
pub fn filtered(mut entry: Value, filters: Value) -> Value {
    entry["filters"] = filters;
    entry
}

/// Waits until all of it has arrived; what has arrived by then, judged.
pub fn arrival(expected: &Expected, tap: &mut Tap, agent: &Agent) -> Verdict {
    expected.arrives(tap, Content::Same, || agent.report())
}

/// All of it arrives; then the agent stops cleanly and nothing has come twice.
pub fn arrives_once(expected: &Expected, tap: &mut Tap, agent: &mut Agent) {
    arrival(expected, tap, agent);
    agent.stop_cleanly();
    expected.judge(tap.to_end(), Content::Same).assert_once(|| agent.report());
}

/// The agent's final summary of this entry says exactly what the oracle found in the files. For an agent that was not
/// killed, and whose entry was alone with these files.
pub fn balances(agent: &Agent, entry: &str, expected: &Expected) {
    let summary = agent.summary();
    let said = &summary["entries"][entry];
    let count = |(lines, bytes): (u64, u64)| json!({ "lines": lines, "bytes": bytes });
    let read = (expected.delivered.0 + expected.filtered.0, expected.delivered.1 + expected.filtered.1);
    let terms = [
        ("read", count(read)),
        ("delivered", count(expected.delivered)),
        ("filtered", count(expected.filtered)),
        ("pending", count((0, 0))),
        ("rewound", count((0, 0))),
        ("dropped", json!({})),
        ("balanced", json!(true)),
    ];
    for (term, expected) in terms {
        assert_eq!(said[term], expected, "{term} of {entry} in the final summary: {said}");
    }
}

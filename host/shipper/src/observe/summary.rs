//! The last thing an agent says: where every line went. As text for a person, as one structured log line for machines.

use crate::observe::Board;
use crate::observe::status::Status;
use crate::observe::status_text;
use crate::observe::text::Paint;

/// The summary as text; ends with a newline.
pub fn text(board: &Board, paint: Paint) -> String {
    status_text::summary(&Status::of(&board.view()), paint)
}

/// The summary as one log line, with the status document's numbers as a JSON field `summary`.
pub fn log(board: &Board) {
    let status = Status::of(&board.view());
    let loss = &status.total.loss;
    let (read, delivered, pending) = (loss.read.lines, loss.delivered.lines, loss.pending.lines);
    let summary = json(&status);
    if loss.balanced {
        match loss.lost_bytes {
            0 => tracing::info!(read, delivered, pending, lost = 0, %summary, "stopped"),
            lost_bytes => tracing::warn!(read, delivered, pending, lost_bytes, %summary, "stopped"),
        }
    } else {
        // Not a loss of lines by itself, but nothing that may happen: our own books are wrong.
        tracing::error!(read, delivered, pending, lost = loss.unaccounted_lines, %summary, "stopped, and the loss equation does not balance");
    }
}

/// The loss equation of each listed file, of each entry and of all, as compact JSON.
pub fn json(status: &Status) -> String {
    let entries = status.entries.iter().map(|entry| (entry.name.clone(), serde_json::json!(entry.loss)));
    let files = status.streams.iter().map(|stream| {
        serde_json::json!({
            "entry": stream.entry, "file": stream.file, "path": stream.path,
            "size": stream.size, "mark": stream.mark, "loss": stream.loss,
        })
    });
    serde_json::json!({
        "files": files.collect::<Vec<_>>(),
        "uptime_ms": status.uptime_ms,
        "total": status.total.loss,
        "entries": entries.collect::<serde_json::Map<_, _>>(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LineCount;
    use crate::observe::{EntryLedger, ShardSnapshot};

    #[test]
    fn the_json_summary_holds_the_equation_of_every_entry_on_one_line() {
        let board = Board::new("n", 1);
        let read = LineCount { lines: 2, bytes: 20 };
        let ledger = EntryLedger { read, delivered: read, ..Default::default() };
        board.publish(0, ShardSnapshot { entries: [("a\nb".into(), ledger)].into(), ..Default::default() });
        let json = json(&Status::of(&board.view()));
        assert!(!json.contains('\n'), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["entries"]["a\nb"]["delivered"]["lines"], 2);
        assert_eq!(value["total"]["balanced"], true);
    }
}

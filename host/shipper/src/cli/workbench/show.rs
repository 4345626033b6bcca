//! What a filter made of lines, for a person: each line with what became of it, and how many of each kind there were.

use std::fmt::Write;

use serde_json::{Value, json};

use super::diff::line as add;
use super::record::shown;
use super::runner::Ran;
use crate::observe::text::{Paint, count, counted};

/// Lines shown around one that did not just go on.
const CONTEXT: usize = 3;

/// How many lines came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) lines: usize,
    /// Went on as they were.
    pub(super) kept: usize,
    /// Nothing came of them: dropped, or joined into another line.
    pub(super) dropped: usize,
    /// Something else went on in their place.
    pub(super) changed: usize,
    pub(super) failed: usize,
    pub(super) records: usize,
    /// Still inside the filter at the end.
    pub(super) held: u64,
}

/// What became of one line.
struct Fate {
    /// Indices of its records, in order.
    records: Vec<usize>,
    /// Index of its fault.
    fault: Option<usize>,
}

/// Lines and what became of them.
pub(super) struct Shown<'a> {
    lines: &'a [&'a [u8]],
    ran: &'a Ran,
    topics: &'a [String],
    fates: Vec<Fate>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(lines: &'a [&'a [u8]], ran: &'a Ran, topics: &'a [String]) -> Shown<'a> {
        let mut fates: Vec<Fate> = lines.iter().map(|_| Fate { records: Vec::new(), fault: None }).collect();
        for (i, record) in ran.records.iter().enumerate() {
            fates[record.line].records.push(i);
        }
        for (i, fault) in ran.faults.iter().enumerate() {
            fates[fault.line].fault = Some(i);
        }
        Shown { lines, ran, topics, fates }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts {
            lines: self.lines.len(),
            records: self.ran.records.len(),
            held: self.ran.held,
            ..Counts::default()
        };
        for line in 0..self.lines.len() {
            let fate = &self.fates[line];
            match (fate.fault.is_some(), fate.records.is_empty()) {
                (true, _) => counts.failed += 1,
                _ if self.is_kept(line) => counts.kept += 1,
                (_, true) => counts.dropped += 1,
                _ => counts.changed += 1,
            }
        }
        counts
    }

    /// ` ` kept, `-` went, `+` came, `!` failed. `all`: also lines far from anything that happened.
    pub(super) fn text(&self, paint: Paint, all: bool) -> String {
        let mut text = String::new();
        let near = self.near();
        let mut hidden = 0_u64;
        let leave_out = |hidden: &mut u64, text: &mut String| {
            if *hidden > 0 {
                add(text, &paint.faint(&format!("  … {} kept", counted(*hidden, "line"))));
            }
            *hidden = 0;
        };
        for (line, near) in near.into_iter().enumerate() {
            if !all && !near {
                hidden += 1;
                continue;
            }
            leave_out(&mut hidden, &mut text);
            self.line(line, paint, &mut text);
        }
        leave_out(&mut hidden, &mut text);
        text
    }

    fn line(&self, line: usize, paint: Paint, text: &mut String) {
        let fate = &self.fates[line];
        let input = shown(self.lines[line]);
        if self.is_kept(line) {
            return add(text, &format!("  {input}"));
        }
        add(
            text,
            &match fate.fault {
                Some(fault) => paint.warn(&format!("! {}", self.ran.faults[fault].text())),
                None => paint.bad(&format!("- {input}")),
            },
        );
        for record in &fate.records {
            add(text, &paint.good(&format!("+ {}", self.ran.records[*record].text(self.topics))));
        }
    }

    fn is_kept(&self, line: usize) -> bool {
        let fate = &self.fates[line];
        let [only] = fate.records[..] else { return false };
        let record = &self.ran.records[only];
        fate.fault.is_none() && record.is_bare() && record.value == self.lines[line]
    }

    /// Which lines are near to one that did not just go on.
    fn near(&self) -> Vec<bool> {
        let mut near = vec![false; self.lines.len()];
        for line in (0..self.lines.len()).filter(|line| !self.is_kept(*line)) {
            let to = (line + CONTEXT + 1).min(near.len());
            near[line.saturating_sub(CONTEXT)..to].fill(true);
        }
        near
    }
}

impl Counts {
    /// In one line.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}: {} kept", counted(self.lines as u64, "line"), count(self.kept as u64));
        for (n, what) in [(self.dropped, "dropped"), (self.changed, "changed"), (self.failed, "failed")] {
            if n > 0 {
                let _ = write!(text, ", {} {what}", count(n as u64));
            }
        }
        if self.changed > 0 {
            let _ = write!(text, "; {} came out", counted(self.records as u64, "record"));
        }
        if self.held > 0 {
            let _ = write!(text, "; {} still held at the end", counted(self.held, "line"));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "lines": self.lines,
            "kept": self.kept,
            "dropped": self.dropped,
            "changed": self.changed,
            "failed": self.failed,
            "records": self.records,
            "held": self.held,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{LineFault, Record};
    use super::*;
    use tailmill_engine::FaultKind;

    fn record(line: usize, value: &str) -> Record {
        let value = value.as_bytes().to_vec();
        Record { line, value, key: None, topic: 0, timestamp_ms: None, headers: vec![] }
    }

    #[test]
    fn each_line_shows_what_became_of_it() {
        let lines: Vec<&[u8]> = vec![b"keep", b"drop", b"change", b"fail", b"two"];
        let records = vec![record(0, "keep"), record(2, "new"), record(4, "two"), record(4, "more")];
        let fault = LineFault { line: 3, value: b"fail".to_vec(), kind: FaultKind::Trap, message: "why".into() };
        let ran = Ran { records, faults: vec![fault], ..Ran::default() };
        let shown = Shown::new(&lines, &ran, &[]);
        let expected = "  keep\n- drop\n- change\n+ new\n! fail  [trap: why]\n- two\n+ two\n+ more\n";
        assert_eq!(shown.text(Paint(false), false), expected);
        assert_eq!(shown.counts().text(), "5 lines: 1 kept, 1 dropped, 2 changed, 1 failed; 4 records came out");
    }

    #[test]
    fn kept_lines_far_from_everything_are_only_counted() {
        let texts: Vec<String> = (0..20).map(|i| format!("l{i}")).collect();
        let lines: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        let records = (0..20).filter(|i| *i != 10).map(|i| record(i, &texts[i])).collect();
        let ran = Ran { records, ..Ran::default() };
        let shown = Shown::new(&lines, &ran, &[]);
        let expected = "  … 7 lines kept\n  l7\n  l8\n  l9\n- l10\n  l11\n  l12\n  l13\n  … 6 lines kept\n";
        assert_eq!(shown.text(Paint(false), false), expected);
        assert_eq!(shown.text(Paint(false), true).lines().count(), 20);
    }
}

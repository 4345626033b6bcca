//! Two versions on the same lines: where what came of a line differs, and whether the order does.

use std::fmt::Write;

use serde_json::json;

use super::super::diff::line as add;
use super::super::record::shown;
use super::super::runner::Ran;
use super::{Found, Session, Stop, Subject};
use crate::cli::dev::filters::FilterArg;
use crate::observe::text::{Paint, count, counted};

/// Lines that are shown with both answers; the rest is counted.
const SHOWN_MAX: usize = 50;

/// Runs all subjects through both.
pub(super) fn compare(session: &mut Session<'_>, other: &FilterArg, subjects: Vec<Subject>) -> Result<Found, Stop> {
    let (mut all, mut any) = (Vec::new(), false);
    for subject in &subjects {
        // A configuration that the other version is given counts, else it gets that of the subject.
        let theirs = other.with.as_deref().unwrap_or(&subject.with);
        let old = session.candidate(other, theirs)?;
        let new = session.candidate(&session.args.module.module, &subject.with)?;
        let (old, new) = (session.run(&old, subject), session.run(&new, subject));
        session.told(&new);
        let compared = Compared::of(&old, &new, subject.text.lines().len(), &session.args.module.topic);
        session.tell(&compared.text(&subject.name, &subject.text.lines(), session.paint, session.args.all));
        any |= compared.differ();
        all.push(json!({
            "input": subject.name,
            "lines": compared.lines,
            "different": compared.different.iter().map(|(line, old, new)| json!({
                "line": line + 1, "other": old, "this": new,
            })).collect::<Vec<_>>(),
            "other_order": compared.other_order,
        }));
    }
    Ok((json!(all), any))
}

/// Where two runs differ.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    lines: usize,
    /// A line, what the old one made of it, what the new one.
    different: Vec<(usize, Vec<String>, Vec<String>)>,
    /// Each line came to the same, but the records are in another order.
    other_order: bool,
    held: (u64, u64),
}

impl Compared {
    fn of(old: &Ran, new: &Ran, lines: usize, topics: &[String]) -> Compared {
        let (olds, news) = (by_line(old, lines, topics), by_line(new, lines, topics));
        let pairs = olds.into_iter().zip(news).enumerate().filter(|(_, (old, new))| old != new);
        let different: Vec<_> = pairs.map(|(line, (old, new))| (line, old, new)).collect();
        let order = |ran: &Ran| ran.records.iter().map(|record| record.line).collect::<Vec<_>>();
        let other_order = different.is_empty() && order(old) != order(new);
        Compared { lines, different, other_order, held: (old.held, new.held) }
    }

    fn differ(&self) -> bool {
        !self.different.is_empty() || self.other_order || self.held.0 != self.held.1
    }

    fn text(&self, name: &str, lines: &[&[u8]], paint: Paint, all: bool) -> String {
        let mut text = String::new();
        let most = if all { usize::MAX } else { SHOWN_MAX };
        for (line, old, new) in self.different.iter().take(most) {
            let _ = writeln!(text, "{}", paint.faint(&format!("{name}:{}: {}", line + 1, shown(lines[*line]))));
            old.iter().for_each(|answer| add(&mut text, &paint.bad(&format!("- {answer}"))));
            new.iter().for_each(|answer| add(&mut text, &paint.good(&format!("+ {answer}"))));
        }
        if self.different.len() > most {
            let _ = writeln!(text, "… {} more (--all shows them)", count((self.different.len() - most) as u64));
        }
        let mut sum = match self.different.len() {
            0 => "the same answers".to_owned(),
            n => format!("{} with other answers", counted(n as u64, "line")),
        };
        if self.other_order {
            sum += ", but records in another order";
        }
        if self.held.0 != self.held.1 {
            sum += &format!(", {} lines held at the end instead of {}", self.held.1, self.held.0);
        }
        let _ = writeln!(text, "{name}: {}: {sum}", counted(self.lines as u64, "line"));
        text
    }
}

/// What came of each line, as text.
fn by_line(ran: &Ran, lines: usize, topics: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new(); lines];
    for record in &ran.records {
        all[record.line].push(record.text(topics));
    }
    for fault in ran.all_faults() {
        all[fault.line].push(format!("[{}] {}", fault.kind, shown(&fault.value)));
    }
    for answers in all.iter_mut().filter(|answers| answers.is_empty()) {
        answers.push("(nothing)".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Record;
    use super::*;

    fn ran(records: &[(usize, &str)]) -> Ran {
        let record = |(line, value): &(usize, &str)| Record {
            line: *line,
            value: value.as_bytes().to_vec(),
            key: None,
            topic: 0,
            timestamp_ms: None,
            headers: vec![],
        };
        Ran { records: records.iter().map(record).collect(), ..Ran::default() }
    }

    #[test]
    fn lines_that_came_to_something_else_are_named() {
        let compared = Compared::of(&ran(&[(0, "a"), (1, "b")]), &ran(&[(0, "a"), (0, "x")]), 2, &[]);
        let [(0, ..), (1, old, new)] = &compared.different[..] else { panic!("{compared:?}") };
        assert_eq!((old[0].as_str(), new[0].as_str()), ("b", "(nothing)"));
        let text = compared.text("f", &[b"a", b"b"], Paint(false), false);
        assert_eq!(text, "f:1: a\n- a\n+ a\n+ x\nf:2: b\n- b\n+ (nothing)\nf: 2 lines: 2 lines with other answers\n");
    }

    #[test]
    fn the_same_answers_in_another_order_are_a_difference() {
        let compared = Compared::of(&ran(&[(0, "a"), (1, "b")]), &ran(&[(1, "b"), (0, "a")]), 2, &[]);
        assert!(compared.differ() && compared.different.is_empty());
        let same = Compared::of(&ran(&[(0, "a")]), &ran(&[(0, "a")]), 2, &[]);
        assert!(!same.differ());
    }
}

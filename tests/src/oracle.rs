//! What should have arrived, and whether it did. Derived from the files and from Kafka alone, never from what the
//! agent says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::lines::{self, Style};
use crate::logfile::LogFile;
use crate::topic::{Record, Tap};

/// The lines of each writer that should arrive, and what all lines weigh in their files.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    writers: BTreeMap<u32, BTreeSet<u64>>,
    /// Lines and bytes that should arrive, terminators included.
    pub delivered: (u64, u64),
    /// Lines and bytes that filters should take out.
    pub filtered: (u64, u64),
}

impl Expected {
    /// Every line of these files.
    pub fn all<'a>(files: impl IntoIterator<Item = &'a LogFile>) -> Expected {
        Expected::those(files, |_| true)
    }

    /// The lines of these files that `keep` keeps.
    pub fn those<'a>(files: impl IntoIterator<Item = &'a LogFile>, keep: impl Fn(&[u8]) -> bool) -> Expected {
        let mut expected = Expected::default();
        for file in files {
            for number in file.numbers() {
                expected.add(file.style(), (file.writer(), number), &keep);
            }
        }
        expected
    }

    /// These lines.
    pub fn lines(style: Style, tags: impl IntoIterator<Item = lines::Tag>) -> Expected {
        let mut expected = Expected::default();
        tags.into_iter().for_each(|tag| expected.add(style, tag, &|_: &[u8]| true));
        expected
    }

    fn add(&mut self, style: Style, (writer, number): lines::Tag, keep: &impl Fn(&[u8]) -> bool) {
        let line = lines::line(style, writer, number);
        let kept = keep(&line);
        let count = if kept { &mut self.delivered } else { &mut self.filtered };
        *count = (count.0 + 1, count.1 + line.len() as u64 + 1);
        let numbers = self.writers.entry(writer).or_default();
        if kept {
            numbers.insert(number);
        }
    }

    /// Number of different lines that should arrive.
    pub fn len(&self) -> usize {
        self.delivered.0 as usize
    }

    /// Whether nothing should arrive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads until every line has arrived at least once, then to the end of the topic, and judges.
    pub fn arrives(&self, tap: &mut Tap, content: Content, explain: impl Fn() -> String) -> Verdict {
        let mut seen = BTreeSet::new();
        let mut looked_at = 0;
        let mut wanted = self.len();
        tap.until("every line has arrived", explain, |records| {
            for record in &records[looked_at..] {
                for tag in tags(record, content) {
                    let news = self.wants(tag) && seen.insert(tag);
                    wanted -= usize::from(news);
                }
            }
            looked_at = records.len();
            wanted == 0
        });
        self.judge(tap.to_end(), content)
    }

    /// What is wrong with what arrived.
    pub fn judge(&self, records: &[Record], content: Content) -> Verdict {
        let mut verdict = Verdict { records: records.len(), ..Verdict::default() };
        let mut seen: BTreeMap<u32, Seen> = BTreeMap::new();
        for record in records {
            let tags = tags(record, content);
            if tags.is_empty() {
                verdict.foreign.push(String::from_utf8_lossy(record.bytes()).into_owned());
            }
            for (writer, number) in tags {
                if !self.wants((writer, number)) {
                    verdict.unwanted.push((writer, number));
                    continue;
                }
                let seen = seen.entry(writer).or_default();
                seen.partitions.insert(record.partition);
                if !seen.numbers.insert(number) {
                    verdict.repeated += 1;
                } else if seen.newest.replace(number).is_some_and(|newest| newest > number) {
                    verdict.disorder.push((writer, number));
                }
            }
        }
        for (writer, numbers) in &self.writers {
            let arrived = seen.remove(writer).unwrap_or_default();
            verdict.missing.extend(numbers.difference(&arrived.numbers).map(|number| (*writer, *number)));
            if arrived.partitions.len() > 1 {
                verdict.scattered.push(*writer);
            }
        }
        verdict
    }

    fn wants(&self, tag: lines::Tag) -> bool {
        self.writers.get(&tag.0).is_some_and(|numbers| numbers.contains(&tag.1))
    }
}

#[derive(Debug, Default)]
struct Seen {
    numbers: BTreeSet<u64>,
    newest: Option<u64>,
    partitions: BTreeSet<i32>,
}

/// What a filter may have done to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: each record is a line, byte for byte.
    Same,
    /// It may be changed around its tag, or be part of a joined line.
    Changed,
}

fn tags(record: &Record, content: Content) -> Vec<lines::Tag> {
    match content {
        Content::Same => lines::verified(record.bytes()).into_iter().collect(),
        Content::Changed => lines::tags(record.bytes()),
    }
}

/// What was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records looked at.
    pub records: usize,
    /// Lines that never arrived.
    pub missing: Vec<lines::Tag>,
    /// Times that a line arrived once more.
    pub repeated: usize,
    /// Lines that arrived for the first time after a later line of the same writer.
    pub disorder: Vec<lines::Tag>,
    /// Lines that should not have arrived.
    pub unwanted: Vec<lines::Tag>,
    /// Values that are no line of ours, or a damaged one.
    pub foreign: Vec<String>,
    /// Writers whose lines arrived in several partitions.
    pub scattered: Vec<u32>,
}

impl Verdict {
    /// At least once: none missing, none damaged, none that a filter should have taken, in order.
    pub fn assert_none_missing(&self, explain: impl Fn() -> String) {
        let flawless = Verdict { records: self.records, repeated: self.repeated, ..Verdict::default() };
        assert!(*self == flawless, "{self}\n{}", explain());
    }

    /// The same, and each line once.
    pub fn assert_once(&self, explain: impl Fn() -> String) {
        assert!(*self == Verdict { records: self.records, ..Verdict::default() }, "{self}\n{}", explain());
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn some<T: fmt::Debug>(of: &[T]) -> String {
            format!("{} {:?}{}", of.len(), &of[..of.len().min(5)], if of.len() > 5 { "…" } else { "" })
        }
        writeln!(f, "of {} records: {} repeated, missing {}", self.records, self.repeated, some(&self.missing))?;
        writeln!(f, "out of order {}, unwanted {}", some(&self.disorder), some(&self.unwanted))?;
        write!(f, "damaged or foreign {}, writers in several partitions {}", some(&self.foreign), some(&self.scattered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrived: &[u64], expected: Verdict) {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::create(dir.path().join("log"), Style::Syslog, 1);
        file.write(5);
        let records: Vec<Record> =
            arrived.iter().map(|number| record(0, lines::line(Style::Syslog, 1, *number))).collect();
        let verdict = Expected::all([&file]).judge(&records, Content::Same);
        assert_eq!(verdict, Verdict { records: arrived.len(), ..expected }, "{arrived:?}");
    }

    fn record(partition: i32, value: Vec<u8>) -> Record {
        Record { partition, offset: 0, timestamp_ms: None, key: None, value: Some(value), headers: Vec::new() }
    }

    #[test]
    fn a_replay_from_an_earlier_mark_is_repetition_and_not_disorder() {
        check(&[0, 1, 2, 3, 4], Verdict::default());
        check(&[0, 1, 2, 1, 2, 3, 4], Verdict { repeated: 2, ..Verdict::default() });
        check(&[0, 1, 3, 2, 4], Verdict { disorder: vec![(1, 2)], ..Verdict::default() });
        check(&[0, 1, 3, 4], Verdict { missing: vec![(1, 2)], ..Verdict::default() });
        check(&[0, 1, 2, 3, 4, 5], Verdict { unwanted: vec![(1, 5)], ..Verdict::default() });
    }

    #[test]
    fn a_damaged_line_and_one_in_another_partition_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::create(dir.path().join("log"), Style::Json, 7);
        file.write(2);
        let line = |number| lines::line(Style::Json, 7, number);
        let cut = line(1)[..40].to_vec();
        let verdict = Expected::all([&file])
            .judge(&[record(0, line(0)), record(1, line(1)), record(0, cut.clone())], Content::Same);
        let foreign = vec![String::from_utf8(cut).unwrap()];
        assert_eq!(verdict, Verdict { records: 3, foreign, scattered: vec![7], ..Verdict::default() });
    }
}

//! Cases: `NAME.input`, what is expected of it, and perhaps `NAME.json`, its configuration. Each is run twice, whole and a
//! line at a time: an answer that depends on how lines are cut is a failure too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::super::diff::unified;
use super::super::json_object;
use super::super::lines::{self, Between, Text};
use super::super::record::shown;
use super::super::runner::{How, Ran};
use super::{Found, Session, Stop, Subject};
use crate::observe::text::counted;

/// One case, as it lies in the directory.
pub(super) struct Case {
    name: String,
    /// The path without its extension.
    stem: PathBuf,
}

/// All cases of a directory, by name.
pub(super) fn find(dir: &Path) -> Result<Vec<Case>, Stop> {
    let refused = |why: String| Stop::Usage(format!("while reading the cases in {}: {why}", dir.display()));
    let mut names: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|error| refused(error.to_string()))? {
        let entry = entry.map_err(|error| refused(error.to_string()))?;
        let file = entry.file_name().to_string_lossy().into_owned();
        for kind in [".input", ".expected", ".expected.jsonl", ".json"] {
            if let Some(name) = file.strip_suffix(kind).filter(|name| !name.is_empty()) {
                names.entry(name.to_owned()).or_default().push(kind);
            }
        }
    }
    if let Some((name, kinds)) = names.iter().find(|(_, kinds)| !kinds.contains(&".input")) {
        return Err(refused(format!("{name}{} is there and {name}.input is not", kinds[0])));
    }
    if names.is_empty() {
        return Err(refused("there is no NAME.input".to_owned()));
    }
    Ok(names.into_keys().map(|name| Case { stem: dir.join(&name), name }).collect())
}

/// The inputs of cases, to be used as lines. `with`: configuration of those that have none of their own.
pub(super) fn subjects(cases: &[Case], with: &str) -> Result<Vec<Subject>, Stop> {
    cases.iter().map(|case| case.subject(with)).collect()
}

/// Runs every case; with `--update` writes what is expected.
pub(super) fn check(session: &mut Session<'_>, cases: &[Case]) -> Result<Found, Stop> {
    let (mut failed, mut written, mut found) = (0_u64, 0_u64, Vec::new());
    for case in cases {
        let subject = case.subject(session.args.module.with())?;
        let outcome = check_one(session, case, &subject)?;
        let (word, text) = match &outcome {
            Outcome::Passed => ("passed", format!("{} {}\n", session.paint.good("ok"), case.name)),
            Outcome::Written(file) => ("written", format!("{} {file}\n", session.paint.warn("written"))),
            Outcome::Failed(why) => ("failed", format!("{} {}\n{why}", session.paint.bad("failed"), case.name)),
        };
        failed += u64::from(matches!(outcome, Outcome::Failed(_)));
        written += u64::from(matches!(outcome, Outcome::Written(_)));
        session.tell(&text);
        let why = if let Outcome::Failed(why) = &outcome { Some(why) } else { None };
        found.push(json!({ "case": case.name, "outcome": word, "why": why }));
    }
    let mut text = format!("{} passed", counted(cases.len() as u64 - failed - written, "case"));
    if written > 0 {
        text += &format!(", {written} written");
    }
    if failed > 0 {
        text += &format!(", {failed} failed");
    }
    session.tell(&format!("{}\n", session.paint.faint(&text)));
    Ok((json!(found), failed > 0))
}

enum Outcome {
    Passed,
    /// The file that was written.
    Written(String),
    /// Why, whole lines.
    Failed(String),
}

fn check_one(session: &Session<'_>, case: &Case, subject: &Subject) -> Result<Outcome, Stop> {
    let candidate = session.candidate(&session.args.module.module, &subject.with)?;
    let ran = session.run(&candidate, subject);
    session.told(&ran);
    if let Some(stuck) = &ran.stuck {
        return Ok(Outcome::Failed(format!("  the filter does not start again: {}\n", stuck.message)));
    }
    let singly: Vec<Vec<Vec<u8>>> = subject.text.lines().iter().map(|line| vec![line.to_vec()]).collect();
    let batches = lines::batches(&singly, Between::Nothing);
    let alone = candidate.run(session.shop, &subject.text.path, batches, How { fresh: true });
    if !ran.same_as(&alone) {
        let texts = |ran: &Ran| -> Vec<String> {
            ran.records.iter().map(|record| record.text(&session.args.module.topic)).collect()
        };
        let diff = unified(&texts(&ran), &texts(&alone), session.paint);
        let diff = diff.unwrap_or_else(|| "  (the same records, from other lines)\n".to_owned());
        return Ok(Outcome::Failed(format!(
            "  the answers depend on how lines are cut: as one (-), a line at a time (+)\n{diff}"
        )));
    }
    let answers = Answers::of(&ran, &session.args.module.topic);
    if session.args.update {
        return case.update(&answers);
    }
    Ok(match case.expected()? {
        None => Outcome::Failed(format!("  there is no {}.expected: --update writes it\n", case.name)),
        Some(expected) => match unified(&expected.texts(), &answers.texts(expected.is_json), session.paint) {
            _ if !expected.is_json && !ran.faults.is_empty() => {
                let faults: String = ran.faults.iter().map(|fault| format!("! {}\n", fault.text())).collect();
                Outcome::Failed(faults)
            }
            Some(diff) => Outcome::Failed(diff),
            None => Outcome::Passed,
        },
    })
}

/// What a filter answered, in both forms.
struct Answers {
    values: Vec<Vec<u8>>,
    /// One object each, records first.
    objects: Vec<String>,
    /// Values alone would not say everything.
    needs_json: bool,
}

impl Answers {
    fn of(ran: &Ran, topics: &[String]) -> Answers {
        let whole = |value: &[u8]| !value.contains(&b'\n');
        let records = ran.records.iter().map(|record| record.json(topics).to_string());
        Answers {
            values: ran.records.iter().map(|record| record.value.clone()).collect(),
            objects: records.chain(ran.faults.iter().map(|fault| fault.json().to_string())).collect(),
            needs_json: !ran.faults.is_empty()
                || ran.records.iter().any(|record| !record.is_bare() || !whole(&record.value)),
        }
    }

    fn texts(&self, json: bool) -> Vec<String> {
        if json { self.objects.clone() } else { self.values.iter().map(|value| shown(value)).collect() }
    }

    fn bytes(&self, json: bool) -> Vec<u8> {
        let lines: Vec<&[u8]> = match json {
            true => self.objects.iter().map(String::as_bytes).collect(),
            false => self.values.iter().map(Vec::as_slice).collect(),
        };
        lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
    }
}

/// What is expected of a case.
struct Expected {
    is_json: bool,
    lines: Vec<Vec<u8>>,
}

impl Expected {
    /// Objects with their keys in order, so that nobody has to write them so.
    fn texts(&self) -> Vec<String> {
        let normal = |line: &Vec<u8>| match serde_json::from_slice::<Value>(line) {
            Ok(value) if self.is_json => sorted(&value).to_string(),
            _ => shown(line),
        };
        self.lines.iter().map(normal).collect()
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            json!(fields.iter().map(|(name, value)| (name, sorted(value))).collect::<BTreeMap<_, _>>())
        }
        other => other.clone(),
    }
}

impl Case {
    fn file(&self, kind: &str) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(kind);
        path.into()
    }

    fn subject(&self, with: &str) -> Result<Subject, Stop> {
        let own = self.file(".json");
        let with = match self.read(&own)? {
            None => with.to_owned(),
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                json_object(&text).map_err(|why| Stop::Usage(format!("while reading {}: {why}", own.display())))?
            }
        };
        Ok(Subject { name: self.name.clone(), with, text: Text::read(&self.file(".input"))? })
    }

    fn expected(&self) -> Result<Option<Expected>, Stop> {
        for (kind, is_json) in [(".expected.jsonl", true), (".expected", false)] {
            if let Some(bytes) = self.read(&self.file(kind))? {
                let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                // Behind the last newline there is no line.
                lines.pop_if(|last| last.is_empty());
                return Ok(Some(Expected { is_json, lines }));
            }
        }
        Ok(None)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Stop> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Stop::Usage(format!("while reading {}: {error}", path.display()))),
        }
    }

    fn update(&self, answers: &Answers) -> Result<Outcome, Stop> {
        let had_json = self.file(".expected.jsonl").exists();
        let json = answers.needs_json || had_json;
        let (kind, other) = if json { (".expected.jsonl", ".expected") } else { (".expected", ".expected.jsonl") };
        let (file, other) = (self.file(kind), self.file(other));
        let bytes = answers.bytes(json);
        if self.read(&file)?.is_some_and(|known| known == bytes) && !other.exists() {
            return Ok(Outcome::Passed);
        }
        std::fs::write(&file, bytes).with_context(|| format!("while writing {}", file.display()))?;
        if other.exists() {
            std::fs::remove_file(&other).with_context(|| format!("while removing {}", other.display()))?;
        }
        Ok(Outcome::Written(file.display().to_string()))
    }
}

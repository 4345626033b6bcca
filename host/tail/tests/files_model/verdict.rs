//! What has to hold at the end of a script.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proptest::prelude::*;

use crate::model::{HEARTBEAT, Model};
use crate::script::Layout;

/// What scripts came to.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub scripts: usize,
    pub written: usize,
    /// Of the lines that are on the disk at the end.
    pub missing: usize,
    /// Times that a line came once more; in doubt that is what happens.
    pub repeated: usize,
}

impl Tally {
    pub fn with(self, model: &Model) -> Tally {
        let on_disk = on_disk(model);
        let lines = model.world.delivered.iter().filter(|line| !line.starts_with('#'));
        let (written, missing, repeated) = if model.equal() {
            let there = on_disk.lines().filter(|line| *line == HEARTBEAT).count();
            (model.beats, there.saturating_sub(lines.clone().count()), lines.count().saturating_sub(model.beats))
        } else {
            let distinct: BTreeSet<&String> = lines.clone().collect();
            (model.written.len(), missing(model, &on_disk).len(), lines.count() - distinct.len())
        };
        Tally {
            scripts: self.scripts + 1,
            written: self.written + written,
            missing: self.missing + missing,
            repeated: self.repeated + repeated,
        }
    }
}

pub fn check(model: &Model) -> Result<(), TestCaseError> {
    let on_disk = on_disk(model);
    if model.equal() {
        let there = on_disk.lines().filter(|line| *line == HEARTBEAT).count();
        let came = model.world.delivered.iter().filter(|line| *line == HEARTBEAT).count();
        prop_assert!(came >= there, "{} heartbeats are on the disk, and {} came", there, came);
        prop_assert_eq!(came, model.world.delivered.len(), "never written");
        return Ok(());
    }
    nothing_is_missing(model, &on_disk)?;
    runs_are_in_order(model)?;
    if model.all_in_doubt {
        return Ok(());
    }
    nothing_is_repeated(model)?;
    if !model.lost_unclear {
        prop_assert_eq!(model.world.lost_bytes, model.lost_bytes, "lost");
    }
    Ok(())
}

fn missing<'a>(model: &'a Model, on_disk: &'a str) -> Vec<&'a str> {
    let delivered: BTreeSet<&str> = model.world.delivered.iter().map(String::as_str).collect();
    // What was begun and not ended is no line yet.
    let on_disk: BTreeSet<&str> = on_disk.lines().filter(|line| model.written.contains_key(*line)).collect();
    on_disk.difference(&delivered).copied().collect()
}

fn nothing_is_missing(model: &Model, on_disk: &str) -> Result<(), TestCaseError> {
    let missing = missing(model, on_disk);
    prop_assert!(missing.is_empty(), "on the disk, and never came: {missing:?}");
    let delivered: BTreeSet<&str> = model.world.delivered.iter().map(String::as_str).collect();
    let owed: Vec<&String> = model.owed.iter().filter(|line| !delivered.contains(line.as_str())).collect();
    prop_assert!(owed.is_empty(), "deleted while open, and never came: {owed:?}");
    let lines = delivered.iter().filter(|line| !line.starts_with('#'));
    let invented: Vec<&&str> = lines.filter(|line| !model.written.contains_key(**line)).collect();
    prop_assert!(invented.is_empty(), "never written: {invented:?}");
    Ok(())
}

fn runs_are_in_order(model: &Model) -> Result<(), TestCaseError> {
    for run in &model.world.runs {
        let lines = run.iter().filter(|line| !line.starts_with('#'));
        let numbers: Vec<(usize, usize)> = lines
            .map(|line| {
                let mut words = line.split(' ');
                (words.nth(1).unwrap().parse().unwrap(), words.nth(1).unwrap().parse().unwrap())
            })
            .collect();
        let one = numbers.iter().all(|of| of.0 == numbers[0].0);
        prop_assert!(numbers.is_sorted() && one, "out of order: {run:?}");
    }
    Ok(())
}

fn nothing_is_repeated(model: &Model) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    let mut repeated = Vec::new();
    for line in model.world.delivered.iter().filter(|line| !line.starts_with('#')) {
        if !seen.insert(line) && !model.in_doubt.contains(&model.written[line]) {
            repeated.push(line);
        }
    }
    prop_assert!(repeated.is_empty(), "came twice: {repeated:?}");
    Ok(())
}

/// Every line in every file that somebody has to read. Where files are in place under a name that they were rotated to,
/// they are never finished: of those a last line without newline does not count.
fn on_disk(model: &Model) -> String {
    let ended_only = matches!(model.setting.layout, Layout::Matching | Layout::Nested);
    let mut text = String::new();
    let mut inodes = BTreeSet::new();
    let mut dirs = VecDeque::from([model.world.dir.path().to_owned()]);
    while let Some(dir) = dirs.pop_front() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let counts = kind.is_file() && !name.starts_with("unread") && !name.starts_with("hard");
            if kind.is_dir() {
                dirs.push_back(path);
            } else if counts && inodes.insert(metadata.ino()) {
                text += &lines_in(&path, ended_only);
                text += "\n";
            }
        }
    }
    text
}

fn lines_in(path: &Path, ended_only: bool) -> String {
    let bytes = fs::read(path).unwrap();
    let mut text = String::new();
    match path.extension().and_then(|ext| ext.to_str()) {
        Some("gz") => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap()),
        Some("zst") => text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap(),
        _ => text = String::from_utf8(bytes).unwrap(),
    }
    if ended_only {
        text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
    }
    text
}

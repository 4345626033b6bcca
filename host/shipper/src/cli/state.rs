//! `tailmill state`: what is kept of each file, for people; a line left out by hand; repair of a damaged store.
//!
//! Works on the store itself, so only while no agent has the state directory. What a person decides here is recorded in
//! the store.

use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use tailmill_tail::evidence::Verdict;

use super::settings_args::{DEFAULT_PATH, SettingsArgs};
use super::{fail, problems, say};
use crate::checkpoint::{self, Changes, FORMAT_VERSION, ResumePoint, SteppedOver, Store, StoreError, StreamRecord};
use crate::model::exit;
use crate::observe::text::{counted, safe};

pub(super) const EXAMPLES: &str = "Examples:
  tailmill state show                                           every file that is known, and its mark
  tailmill state step-over --entry app --file /var/log/app.log  show the line that blocks the file
  tailmill state step-over --entry app --file … --yes           and leave it out
  tailmill state repair                                         after \"the state store is damaged\"

The agent must not be running: it has the state directory to itself. `tailmill status` asks a running one.";

/// Bytes of a line that are shown.
const SHOWN_BYTES: usize = 2000;
/// A longer line is no line.
const LINE_BYTES_MAX: u64 = 256 << 20;

#[derive(Args, Debug)]
pub(super) struct StateArgs {
    /// Settings file of the agent, which says where its state is
    #[arg(long, short, value_name = "FILE", env = "TAILMILL_CONFIG", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
    /// The state directory; the settings are not read then
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Subcommand, Debug)]
enum StateCommand {
    /// Show every file that is known, from where it goes on, and what was stepped over
    Show {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the line that blocks a file and, with --yes, leave it out for good
    StepOver {
        /// The entry's name
        #[arg(long, value_name = "ENTRY")]
        entry: String,
        /// The file: its id (or how that begins), or its path
        #[arg(long, value_name = "ID|PATH")]
        file: String,
        /// Do it; without, the line is only shown
        #[arg(long)]
        yes: bool,
    },
    /// Set a damaged store aside and save what can be read of it
    Repair,
}

pub(super) fn run(args: &StateArgs) -> i32 {
    let state_dir = match &args.state_dir {
        Some(dir) => dir.clone(),
        None => match SettingsArgs::of_file(&args.config).load() {
            Ok(settings) => settings.state_dir,
            Err(found) => return problems(&found),
        },
    };
    match answer(&args.command, &state_dir) {
        Ok(text) => {
            say(&text);
            exit::CLEAN
        }
        Err(error) => fail(&error),
    }
}

fn answer(command: &StateCommand, state_dir: &Path) -> Result<String> {
    match command {
        StateCommand::Show { json } => show(&open(state_dir)?, *json),
        StateCommand::StepOver { entry, file, yes } => step_over(&mut open(state_dir)?, entry, file, *yes),
        StateCommand::Repair => repair(state_dir),
    }
}

fn open(state_dir: &Path) -> Result<Store> {
    Store::open_existing(state_dir).map_err(|error| match error {
        locked @ StoreError::Locked { .. } => anyhow::Error::new(locked)
            .context("while opening the state: stop the agent first, or ask it with `tailmill status`"),
        other => other.into(),
    })
}

fn show(store: &Store, json: bool) -> Result<String> {
    let (streams, entries_seen, stepped_over) = (store.load()?, store.entries_seen()?, store.stepped_over()?);
    if json {
        let all = serde_json::json!({
            "format_version": FORMAT_VERSION,
            "streams": streams,
            "entries_seen": entries_seen,
            "stepped_over": stepped_over,
        });
        return Ok(format!("{all:#}\n"));
    }
    let mut text = String::new();
    for record in &streams {
        let path = record.path.to_string_lossy();
        writeln!(text, "{}  {}  {}  {}", safe(&record.entry), record.file, safe(&path), place(record))?;
    }
    for line in &stepped_over {
        let path = line.path.to_string_lossy();
        let (entry, path) = (safe(&line.entry), safe(&path));
        writeln!(
            text,
            "stepped over: {entry}  {}  {path}  {} at offset {}",
            line.file,
            counted(line.bytes, "byte"),
            line.offset
        )?;
    }
    writeln!(text, "{}; entries seen: {}", counted(streams.len() as u64, "file"), safe(&entries_seen.join(", ")))?;
    Ok(text)
}

/// From where a file goes on, in words.
fn place(record: &StreamRecord) -> String {
    let mut text = format!("offset {}", record.resume.offset());
    if let ResumePoint::Snapshot { stages, .. } = &record.resume {
        let bytes: usize = stages.iter().map(|stage| stage.state.len()).sum();
        text += &format!(", with {} of filter state", counted(bytes as u64, "byte"));
    }
    if let Some(offset) = record.blocked {
        text += &format!(", blocked by the line at offset {offset}");
    }
    if !record.step_over.is_empty() {
        text += &format!(", to be left out: {:?}", record.step_over);
    }
    if record.finished {
        text += ", finished";
    }
    text
}

/// The line that blocks a stream is the one its record names, else the one at its mark.
fn step_over(store: &mut Store, entry: &str, file: &str, yes: bool) -> Result<String> {
    let mut record = find(store.load()?, entry, file)?;
    let offset = record.blocked.unwrap_or(record.resume.offset());
    let path = record.path.clone();
    let line = line_at(&record, offset)
        .with_context(|| format!("while reading the line at offset {offset} of {}", path.display()))?;
    let shown = shown(&line);
    let bytes = counted(line.len() as u64, "byte");
    if !yes {
        return Ok(format!(
            "{shown}\n\nthis line ({bytes} at offset {offset}) holds the file; --yes leaves it out for good\n"
        ));
    }
    let end = offset + line.len() as u64;
    match &mut record.resume {
        ResumePoint::Position { offset: mark } | ResumePoint::Snapshot { offset: mark, .. } if *mark == offset => {
            *mark = end
        }
        // Lines between the mark and this one are not settled: they are read again, and only this one is left out.
        _ if record.step_over.contains(&offset) => {}
        _ => record.step_over.push(offset),
    }
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    record.blocked = None;
    record.updated_ms = now_ms;
    let done = SteppedOver {
        entry: record.entry.clone(),
        file: record.file,
        path: record.path.clone(),
        offset,
        bytes: line.len() as u64,
        at_ms: now_ms,
    };
    store.commit(Changes { records: &[record], stepped_over: &[done], ..Changes::default() })?;
    Ok(format!(
        "{shown}\n\nleft out: {bytes} at offset {offset}; the file goes on behind this line at the next start\n"
    ))
}

fn find(records: Vec<StreamRecord>, entry: &str, file: &str) -> Result<StreamRecord> {
    let of_entry: Vec<StreamRecord> = records.into_iter().filter(|record| record.entry == entry).collect();
    if of_entry.is_empty() {
        bail!("nothing is known of an entry {entry:?}: `tailmill state show` lists what is");
    }
    let names = |record: &StreamRecord| record.path == Path::new(file) || record.file.to_string().starts_with(file);
    let mut found: Vec<StreamRecord> = of_entry.into_iter().filter(names).collect();
    match (found.pop(), found.is_empty()) {
        (None, _) => bail!("entry {entry:?} knows no file {file:?}: `tailmill state show` lists ids and paths"),
        (Some(record), true) => Ok(record),
        (Some(last), false) => {
            let ids: Vec<String> = found.iter().chain([&last]).map(|record| record.file.to_string()).collect();
            bail!("{file:?} is more than one file of entry {entry:?}: say which by its id: {}", ids.join(", "))
        }
    }
}

/// The line that starts at `offset`, terminator included.
fn line_at(record: &StreamRecord, offset: u64) -> Result<Vec<u8>> {
    let file = File::open(&record.path)
        .context("while opening it (was it rotated away? start the agent once, it searches)")?;
    if record.evidence.check(&file)? != Verdict::Same {
        bail!("it is not the file that was read under this name (start the agent once, it searches for that one)");
    }
    let (mut line, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = file.read_at(&mut piece, offset + line.len() as u64)?;
        if let Some(end) = memchr::memchr(b'\n', &piece[..read]) {
            line.extend_from_slice(&piece[..=end]);
            return Ok(line);
        }
        line.extend_from_slice(&piece[..read]);
        match (read, line.is_empty()) {
            (0, true) => bail!("the file ends there: nothing waits"),
            // The last line of a file that nobody writes any more needs no newline.
            (0, false) if record.finished || record.blocked == Some(offset) => return Ok(line),
            (0, false) => bail!("the line has no end yet"),
            _ if line.len() as u64 > LINE_BYTES_MAX => bail!("no line ends within {LINE_BYTES_MAX} bytes"),
            _ => {}
        }
    }
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
    let more = if line.len() > SHOWN_BYTES { " …" } else { "" };
    format!("{}{more}", safe(text.trim_end_matches(['\r', '\n'])))
}

fn repair(state_dir: &Path) -> Result<String> {
    let repaired = checkpoint::repair(state_dir)?;
    let (streams, entries) = (counted(repaired.streams as u64, "file"), repaired.entries);
    Ok(match repaired.aside {
        None => format!("the state store is sound ({streams}, entries seen: {entries}): nothing was changed\n"),
        Some(aside) => format!(
            "the damaged store is kept as {}\nsaved from it: {streams}, entries seen: {entries}; files that are missing now are read \
             from where their entry says, so some lines may come twice\n",
            aside.display()
        ),
    })
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

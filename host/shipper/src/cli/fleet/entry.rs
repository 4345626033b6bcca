//! `tailmill entry`: entries in etcd. What is written was read by the agent's own parser first, and its filters were started.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{EtcdArgs, at, code, table, who, with_desk};
use crate::app::Workshop;
use crate::cli::dev::compiled_dir;
use crate::cli::output::note;
use crate::cli::workbench::unified;
use crate::cli::{complain, say};
use crate::config::depot::Release;
use crate::config::{filter_plan, parse_entry};
use crate::fleet::entries::{self, Change, Version};
use crate::fleet::import::Imported;
use crate::fleet::modules::{self, Library};
use crate::fleet::{Desk, FleetError, Guard, Write};
use crate::model::{ModuleFile, exit};
use crate::observe::text::Paint;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  tailmill entry put web web.json           checked first, then written; - reads standard input
  tailmill entry get web > web.json         says the revision; put web web.json --expect REVISION
  tailmill entry list
  tailmill entry history web
  tailmill entry diff web 3                 what version 3 changed; diff web 3 5 between two
  tailmill entry rollback web               the version before; --to 3 any other
  tailmill entry import --array collect_log_10.0.0.5_conf --nodes web-05 --remove
  tailmill entry import --ini logagent.ini --dry-run";

#[derive(Args, Debug)]
pub(in crate::cli) struct EntryArgs {
    #[command(subcommand)]
    command: EntryCommand,
}

#[derive(Subcommand, Debug)]
enum EntryCommand {
    /// Check an entry and write it
    Put {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
        /// Its JSON; - is standard input
        file: PathBuf,
        /// Only if it is still at this revision, as `get` said; 0: only if it is not there
        #[arg(long, value_name = "REVISION")]
        expect: Option<i64>,
        /// Although a filter is not in etcd (it lies in the agents' directories) or does not start here
        #[arg(long)]
        force: bool,
    },
    /// Print an entry
    Get {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
    },
    /// List all entries
    List {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an entry: agents stop shipping for it, and keep their marks for a while
    Rm {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
    },
    /// List the versions of an entry
    History {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what changed
    Diff {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
        /// This version against the one before [default: the newest]
        version: Option<u64>,
        /// Or against this one
        other: Option<u64>,
    },
    /// Write an older version again
    Rollback {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
        /// Number of the version [default: the one before]
        #[arg(long, value_name = "NUMBER")]
        to: Option<u64>,
    },
    /// Turn a classic array key, or the settings of a LogAgent, into entries
    Import(ImportArgs),
}

#[derive(Args, Debug)]
struct ImportArgs {
    #[command(flatten)]
    etcd: EtcdArgs,
    /// The etcd key of the array
    #[arg(long, value_name = "KEY", required_unless_present = "ini", conflicts_with = "ini")]
    array: Option<String>,
    /// An ini file
    #[arg(long, value_name = "FILE")]
    ini: Option<PathBuf>,
    /// Nodes that the entries are for, as globs [default: all]
    #[arg(long, value_name = "GLOB")]
    nodes: Vec<String>,
    /// Remove the array key in the same transaction, so that no line is shipped by both
    #[arg(long, requires = "array")]
    remove: bool,
    /// Only print what would be written
    #[arg(long)]
    dry_run: bool,
}

pub(in crate::cli) fn run(args: &EntryArgs) -> i32 {
    use EntryCommand::{Diff, Get, History, Import, List, Put, Rm, Rollback};
    let etcd = match &args.command {
        Put { etcd, .. } | Get { etcd, .. } | List { etcd, .. } | Rm { etcd, .. } => etcd,
        History { etcd, .. } | Diff { etcd, .. } | Rollback { etcd, .. } => etcd,
        Import(args) => &args.etcd,
    };
    let etcd = match etcd.settings() {
        Ok((_, etcd)) => etcd,
        Err(code) => return code,
    };
    code(with_desk(&etcd, async |desk| match &args.command {
        Put { name, file, expect, force, .. } => put(desk, name, file, *expect, *force).await,
        Get { name, .. } => get(desk, name).await,
        List { json, .. } => list(desk, *json).await,
        Rm { name, .. } => {
            let by = who();
            let change = Change { name, action: "rm", text: None, expect: None, by: &by };
            let number = entries::change(desk, &change).await?;
            say(&format!("{name} is removed (version {number})\n"));
            Ok(exit::CLEAN)
        }
        History { name, json, .. } => history(desk, name, *json).await,
        Diff { name, version, other, .. } => diff(desk, name, *version, *other).await,
        Rollback { name, to, .. } => rollback(desk, name, *to).await,
        Import(args) => import(desk, args).await,
    }))
}

async fn put(desk: &mut Desk, name: &str, file: &Path, expect: Option<i64>, force: bool) -> Result<i32, FleetError> {
    let text = read(file).map_err(FleetError::Refused)?;
    check(desk, &[(name, &text)], force).await?;
    let by = who();
    let change = Change { name, action: "put", text: Some(&text), expect, by: &by };
    let number = entries::change(desk, &change).await?;
    say(&format!("{name} is written (version {number})\n"));
    Ok(exit::CLEAN)
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let done = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    done.map(|()| text).map_err(|error| format!("while reading {}: {error}", file.display()))
}

/// The agent's own parser, and its own engine for the filters. Complains about everything at once.
async fn check(desk: &mut Desk, texts: &[(&str, &str)], force: bool) -> Result<(), FleetError> {
    let library = modules::library(desk).await?;
    let mut checker = Checker { library: &library, shop: None, modules: BTreeMap::new() };
    let (mut wrong, mut doubts) = (0_usize, 0_usize);
    for (name, text) in texts {
        match parse_entry(name, text.as_bytes()) {
            Err(problems) => {
                wrong += problems.len();
                problems.iter().for_each(|problem| complain(&problem.to_string()));
            }
            Ok(raw) => {
                for (i, filter) in raw.filters.iter().enumerate() {
                    if let Err(why) = checker.filter(desk, filter, &raw.topics).await? {
                        doubts += 1;
                        complain(&format!("{name}: filters[{i}]: {why}"));
                    }
                }
            }
        }
    }
    match (wrong, doubts) {
        (0, 0) => Ok(()),
        (0, _) if force => Ok(()),
        (0, _) => Err(FleetError::Refused(
            "nothing was written; --force does it all the same (the filter may lie in the agents' directories)"
                .to_owned(),
        )),
        _ => Err(FleetError::Refused("nothing was written".to_owned())),
    }
}

struct Checker<'a> {
    library: &'a Library,
    shop: Option<Workshop>,
    modules: BTreeMap<String, Arc<ModuleFile>>,
}

impl Checker<'_> {
    /// The inner result: what is wrong with the filter.
    async fn filter(
        &mut self,
        desk: &mut Desk,
        filter: &crate::config::RawFilter,
        topics: &[Arc<str>],
    ) -> Result<Result<(), String>, FleetError> {
        let Some(release) = self.library.find(&filter.wanted) else {
            return Ok(Err(format!("there is no module `{}` in etcd", filter.wanted)));
        };
        let canary = self.library.in_force.get(&filter.wanted).and_then(|(record, _)| record.canary.as_ref());
        for release in std::iter::once(release).chain(canary.map(|canary| &canary.release)) {
            let module = match self.module(desk, release).await {
                Ok(module) => module,
                Err(FleetError::Refused(why)) => return Ok(Err(why)),
                Err(other) => return Err(other),
            };
            if self.shop.is_none() {
                let shop = Workshop::new("pusher", compiled_dir());
                self.shop = Some(shop.map_err(|error| FleetError::Etcd(format!("{error:#}")))?);
            }
            let checked = self.shop.as_ref().map(|shop| shop.armory().check(&filter_plan(filter, module), topics));
            if let Some(Err(why)) = checked {
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }

    async fn module(&mut self, desk: &mut Desk, release: &Release) -> Result<Arc<ModuleFile>, FleetError> {
        let key = release.digest.to_string();
        if let Some(known) = self.modules.get(&key) {
            return Ok(known.clone());
        }
        let bytes = modules::fetch(desk, release).await?;
        let source = format!("module {} {}", release.name, release.version);
        let module = Arc::new(ModuleFile { digest: release.digest, source, bytes: bytes.into() });
        self.modules.insert(key, module.clone());
        Ok(module)
    }
}

async fn get(desk: &mut Desk, name: &str) -> Result<i32, FleetError> {
    let entry = entries::get(desk, name).await?;
    let entry = entry.ok_or_else(|| FleetError::Refused(format!("there is no entry `{name}` in etcd")))?;
    note(&format!("revision {}", entry.revision));
    say(&pretty(&entry.text));
    Ok(exit::CLEAN)
}

/// JSON with a line for each key; text that is none as it is.
fn pretty(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => format!("{value:#}\n"),
        Err(_) => format!("{}\n", text.trim_end()),
    }
}

async fn list(desk: &mut Desk, as_json: bool) -> Result<i32, FleetError> {
    let all = entries::list(desk).await?;
    if as_json {
        say(&format!("{:#}\n", json!(all)));
        return Ok(exit::CLEAN);
    }
    let row = |entry: &entries::Entry| {
        let value: Value = serde_json::from_str(&entry.text).unwrap_or_default();
        let written = |key: &str| match &value[key] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        };
        let filters = value["filters"].as_array().into_iter().flatten().filter_map(|filter| filter["use"].as_str());
        let filters = filters.collect::<Vec<_>>().join(" → ");
        let sound = parse_entry(&entry.name, entry.text.as_bytes()).map_or("refused", |_| "");
        vec![
            entry.name.clone(),
            entry.revision.to_string(),
            written("path"),
            filters,
            written("topic"),
            written("nodes"),
            sound.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    say(&table(&["ENTRY", "REVISION", "PATH", "FILTERS", "TOPIC", "NODES", ""], &rows));
    Ok(exit::CLEAN)
}

async fn history(desk: &mut Desk, name: &str, as_json: bool) -> Result<i32, FleetError> {
    let versions = entries::history(desk, name).await?;
    if as_json {
        say(&format!("{:#}\n", json!(versions)));
        return Ok(exit::CLEAN);
    }
    let row = |version: &Version| {
        let what = version.entry.as_ref().map_or("(removed)".to_owned(), Value::to_string);
        vec![
            version.number.to_string(),
            at(version.at_ms),
            version.action.clone(),
            version.by.clone(),
            shortened(&what),
        ]
    };
    let rows: Vec<Vec<String>> = versions.iter().map(row).collect();
    say(&table(&["#", "AT", "ACTION", "BY", "ENTRY"], &rows));
    Ok(exit::CLEAN)
}

fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).collect::<String>() + "…" }
}

async fn diff(desk: &mut Desk, name: &str, version: Option<u64>, other: Option<u64>) -> Result<i32, FleetError> {
    let versions = entries::history(desk, name).await?;
    let newest = versions.last().map(|version| version.number);
    let shown = version.or(newest).ok_or_else(|| FleetError::Refused(format!("nothing was written of `{name}`")))?;
    let (old, new) = match other {
        Some(other) => (shown, other),
        None => (shown.saturating_sub(1), shown),
    };
    let text = |number: u64| -> Result<String, FleetError> {
        if number == 0 {
            return Ok(String::new());
        }
        let found = versions.iter().find(|version| version.number == number);
        let found = found.ok_or_else(|| FleetError::Refused(format!("{name} has no version {number} (any more)")))?;
        Ok(found.entry.as_ref().map(|entry| format!("{entry:#}\n")).unwrap_or_default())
    };
    let (before, after) = (text(old)?, text(new)?);
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    match unified(&lines(&before), &lines(&after), Paint::for_stream(&std::io::stdout())) {
        Some(diff) => say(&format!("{name}: version {old} (-) to {new} (+)\n{diff}")),
        None => say(&format!("{name}: versions {old} and {new} are the same\n")),
    };
    Ok(exit::CLEAN)
}

async fn rollback(desk: &mut Desk, name: &str, to: Option<u64>) -> Result<i32, FleetError> {
    let versions = entries::history(desk, name).await?;
    let wanted = match to {
        Some(number) => versions.iter().find(|version| version.number == number),
        None => versions.iter().rev().skip(1).find(|version| version.entry.is_some()),
    };
    let wanted = wanted.ok_or_else(|| FleetError::Refused(format!("{name} has no such version")))?;
    let text = wanted.entry.as_ref().map(|entry| format!("{entry:#}\n"));
    if let Some(text) = &text {
        check(desk, &[(name, text)], false).await?;
    }
    let by = who();
    let change = Change { name, action: "rollback", text: text.as_deref(), expect: None, by: &by };
    let number = entries::change(desk, &change).await?;
    say(&format!("{name} is as in version {} again (version {number})\n", wanted.number));
    Ok(exit::CLEAN)
}

async fn import(desk: &mut Desk, args: &ImportArgs) -> Result<i32, FleetError> {
    let (imported, guards, writes) = match (&args.array, &args.ini) {
        (Some(key), _) => {
            let listed = desk.get(key).await?;
            let pair = listed.one().ok_or_else(|| FleetError::Refused(format!("there is no key {key} in etcd")))?;
            let imported = Imported::from_array(pair.value(), &args.nodes);
            let imported = imported.map_err(|why| FleetError::Refused(format!("{key} {why}")))?;
            let removal = if args.remove { vec![Write::Delete(key.clone())] } else { Vec::new() };
            (imported, vec![Guard::Key(key.clone(), pair.mod_revision())], removal)
        }
        (None, Some(file)) => {
            let text = read(file).map_err(FleetError::Refused)?;
            let imported = Imported::from_ini(&text, &args.nodes);
            let imported = imported.map_err(|why| FleetError::Refused(format!("{} {why}", file.display())))?;
            (imported, Vec::new(), Vec::new())
        }
        (None, None) => return Err(FleetError::Refused("name --array KEY or --ini FILE".to_owned())),
    };
    imported.notes.iter().for_each(|text| note(text));
    let texts: Vec<(String, String)> =
        imported.entries.iter().map(|(name, entry)| (name.clone(), format!("{entry:#}\n"))).collect();
    for (name, text) in &texts {
        say(&format!("{name}: {text}"));
    }
    let pairs: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    check(desk, &pairs, false).await?;
    if args.dry_run || texts.is_empty() {
        return Ok(exit::CLEAN);
    }
    let by = who();
    let all: Vec<Change<'_>> = pairs
        .iter()
        .map(|(name, text)| Change { name, action: "import", text: Some(text), expect: Some(0), by: &by })
        .collect();
    let changes: Vec<&Change<'_>> = all.iter().collect();
    entries::changes(desk, &changes, &guards, &writes).await?;
    note("an entry's marks are kept under its name: files of an imported one begin where `start` says, as new ones do");
    if args.array.is_some() && !args.remove {
        note("the array key is still there: what both name is shipped twice until it is removed");
    }
    Ok(exit::CLEAN)
}

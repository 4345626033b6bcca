//! `tailmill module`: releases of filter modules in etcd.
//!
//! Before anything is written the module is looked at here: it must be a filter, start with the configuration of every entry
//! that will run it, and pass its cases.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{EtcdArgs, at, code, key, table, who, with_desk};
use crate::app::Workshop;
use crate::cli::dev::compiled_dir;
use crate::cli::dev::filters::read_module;
use crate::cli::output::note;
use crate::cli::workbench;
use crate::cli::{complain, say};
use crate::config::depot::{PublicKey, Release, Share, Signature, Step};
use crate::config::filter_plan;
use crate::fleet::modules::{self, Push, Pushed, Trial, Uses};
use crate::fleet::{FleetError, gc};
use crate::model::{ModuleFile, exit};
use crate::observe::text::{bytes, counted};

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  tailmill module push grep.wasm --name grep --version 1.2 --sign release.key
  tailmill module push grep.wasm --name grep --version 1.3 --canary 5%      then: tailmill rollout status grep
  tailmill module list                       what is in force, by whom
  tailmill module rollback grep              the release before; --to VERSION any other
  tailmill module pull grep@1.2 -o grep.wasm
  tailmill module verify                     every chunk and signature that lies in etcd
  tailmill module gc --keep 10               blobs and old releases that nothing needs

Entries say {\"use\": \"grep\"} for what is in force, {\"use\": \"grep@1.2\"} or {\"use\": \"sha256:…\"} for one release.";

#[derive(Args, Debug)]
pub(in crate::cli) struct ModuleArgs {
    #[command(subcommand)]
    command: ModuleCommand,
}

#[derive(Subcommand, Debug)]
enum ModuleCommand {
    /// Check a module, write it into etcd and put it in force
    Push(PushArgs),
    /// List modules and what is in force
    List {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the releases of a module, who uses it and what was done to it
    Show {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a release into a file
    Pull {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// NAME, NAME@VERSION or sha256:…
        release: String,
        /// Where to
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check every chunk, digest and signature of all releases, or of one module
    Verify {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Only this module
        name: Option<String>,
        /// A public key that must have signed them; may be given several times
        #[arg(long, value_name = "ed25519:…", value_parser = PublicKey::parse)]
        trusted_key: Vec<PublicKey>,
    },
    /// Put an older release in force
    Rollback {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
        /// Its version [default: the one before]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
    },
    /// Remove a module with all of its releases
    Remove {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Its name
        name: String,
        /// Even while entries use it: they go on with what they have
        #[arg(long)]
        force: bool,
    },
    /// Remove blobs that no release refers to
    Gc {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// Remove releases, too, but the newest N of each module
        #[arg(long, value_name = "N")]
        keep: Option<usize>,
    },
}

#[derive(Args, Debug)]
struct PushArgs {
    #[command(flatten)]
    etcd: EtcdArgs,
    /// The module: a component, or a core module as a toolchain made it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What entries call it
    #[arg(long)]
    name: String,
    /// Never used again for other content
    #[arg(long)]
    version: String,
    /// Secret key that signs the release
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Cases that must pass, as for `tailmill test`
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// For this share of the nodes only, until it is promoted
    #[arg(long, value_name = "PERCENT", value_parser = Share::parse)]
    canary: Option<Share>,
    /// For nodes with this label only, until it is promoted; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    canary_label: Vec<(String, String)>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, as in zone=a")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(in crate::cli) fn run(args: &ModuleArgs) -> i32 {
    use ModuleCommand::{Gc, List, Pull, Push, Remove, Rollback, Show, Verify};
    let etcd = match &args.command {
        Push(args) => &args.etcd,
        List { etcd, .. } | Show { etcd, .. } | Pull { etcd, .. } | Verify { etcd, .. } => etcd,
        Rollback { etcd, .. } | Remove { etcd, .. } | Gc { etcd, .. } => etcd,
    };
    let etcd = match etcd.settings() {
        Ok((_, etcd)) => etcd,
        Err(code) => return code,
    };
    code(with_desk(&etcd, async |desk| match &args.command {
        Push(args) => push(desk, args).await,
        List { json, .. } => list(desk, *json).await,
        Show { name, json, .. } => show(desk, name, *json).await,
        Pull { release, output, .. } => pull(desk, release, output).await,
        Verify { name, trusted_key, .. } => verify(desk, name.as_deref(), trusted_key).await,
        Rollback { name, to, .. } => {
            let release = modules::rollback(desk, name, to.as_deref(), &who()).await?;
            say(&format!("{name} {} is in force\n", release.version));
            Ok(exit::CLEAN)
        }
        Remove { name, force, .. } => {
            let releases = modules::remove(desk, name, *force, &who()).await?;
            let text = counted(releases as u64, "release");
            say(&format!("{name} is removed with {text}; `tailmill module gc` removes its blobs\n"));
            Ok(exit::CLEAN)
        }
        Gc { keep, .. } => {
            let removed = gc::collect(desk, *keep).await?;
            say(&format!(
                "removed {} and {}; {} left\n",
                counted(removed.releases.len() as u64, "release"),
                counted(removed.blobs as u64, "blob"),
                removed.blobs_kept
            ));
            Ok(exit::CLEAN)
        }
    }))
}

async fn push(desk: &mut crate::fleet::Desk, args: &PushArgs) -> Result<i32, FleetError> {
    let refused = FleetError::Refused;
    let signer = args.sign.as_deref().map(key::read).transpose().map_err(refused)?;
    let module = read_module(&args.file).map_err(refused)?;
    let uses = modules::uses(desk).await?;
    check(&module, args, &uses)?;
    if let Some(cases) = &args.cases
        && workbench::run_cases(&args.file, cases) != exit::CLEAN
    {
        return Err(FleetError::Refused("its cases fail: nothing was pushed".to_owned()));
    }
    let labels = args.canary_label.iter().cloned().collect();
    let trial = (args.canary.is_some() || !args.canary_label.is_empty()).then(|| Trial {
        share: args.canary.unwrap_or_default(),
        labels,
        ..Trial::default()
    });
    let by = who();
    let push = Push {
        name: &args.name,
        version: &args.version,
        bytes: &module.bytes,
        signer: signer.as_ref(),
        trial,
        by: &by,
    };
    let pushed = modules::push(desk, &push, &mut |_, _| {}).await?;
    if args.json {
        say(&format!("{:#}\n", json!(pushed)));
    } else {
        say(&told(&pushed));
    }
    Ok(exit::CLEAN)
}

fn told(pushed: &Pushed) -> String {
    let Pushed { name, version, digest, size, chunks, chunks_there, bytes_sent, on_trial, signed, .. } = pushed;
    let state = if *on_trial { "on trial" } else { "in force" };
    let signed = if *signed { "signed" } else { "not signed" };
    format!(
        "{name} {version} is {state}: {}, {digest}, {signed}; sent {} ({chunks_there} of {} were there)\n",
        bytes(*size),
        bytes(*bytes_sent),
        counted(*chunks as u64, "chunk")
    )
}

/// On this machine, with the agent's own engine.
fn check(module: &Arc<ModuleFile>, args: &PushArgs, uses: &Uses) -> Result<(), FleetError> {
    let failed = |error: anyhow::Error| FleetError::Etcd(format!("{error:#}"));
    let shop = Workshop::new("pusher", compiled_dir()).map_err(failed)?;
    shop.armory().module(module).map_err(FleetError::Refused)?;
    let digest = module.digest.to_string();
    let pinned = format!("{}@{}", args.name, args.version);
    let mut started = 0_u64;
    for (key, entry) in &uses.entries {
        for (i, raw) in entry.filters.iter().enumerate() {
            if raw.wanted != args.name && raw.wanted != pinned && raw.wanted != digest {
                continue;
            }
            let plan = filter_plan(raw, module.clone());
            let refused = |why| FleetError::Refused(format!("{key}: filters[{i}]: {why}: nothing was pushed"));
            shop.armory().check(&plan, &entry.topics).map_err(refused)?;
            started += 1;
        }
    }
    match started {
        0 => note(&format!("no entry uses {} yet: it was loaded, not started", args.name)),
        n => note(&format!("it starts with the configuration of {}", counted(n, "filter"))),
    }
    Ok(())
}

async fn list(desk: &mut crate::fleet::Desk, as_json: bool) -> Result<i32, FleetError> {
    let library = modules::library(desk).await?;
    if as_json {
        let records: Vec<_> = library.in_force.values().map(|(record, _)| record).collect();
        say(&format!("{:#}\n", json!({ "modules": records, "odd": library.odd })));
        return Ok(exit::CLEAN);
    }
    let rows: Vec<Vec<String>> = library
        .in_force
        .iter()
        .map(|(name, (record, _))| {
            let release = &record.release;
            let canary = record.canary.as_ref();
            vec![
                name.clone(),
                release.version.clone(),
                canary.map_or("-".to_owned(), |canary| format!("{} ({})", canary.release.version, canary.share)),
                bytes(release.size),
                release.digest.short(),
                at(release.pushed_ms),
                release.pushed_by.clone(),
            ]
        })
        .collect();
    say(&table(&["MODULE", "IN FORCE", "CANARY", "SIZE", "DIGEST", "PUSHED", "BY"], &rows));
    library.odd.iter().for_each(|(key, why)| complain(&format!("{key}: {why}")));
    Ok(exit::CLEAN)
}

async fn show(desk: &mut crate::fleet::Desk, name: &str, as_json: bool) -> Result<i32, FleetError> {
    let library = modules::library(desk).await?;
    let Some((record, _)) = library.in_force.get(name) else {
        return Err(FleetError::Refused(format!("there is no module `{name}` in etcd")));
    };
    let uses = modules::uses(desk).await?;
    let names_it = |used: &str| used == name || used.strip_prefix(name).is_some_and(|rest| rest.starts_with('@'));
    let users: Vec<&String> = uses
        .entries
        .iter()
        .filter(|(_, entry)| entry.filters.iter().any(|filter| names_it(&filter.wanted)))
        .map(|(key, _)| key)
        .collect();
    let steps = modules::steps(desk, name).await?;
    let releases: Vec<&Release> = library.of(name).collect();
    if as_json {
        say(&format!("{:#}\n", json!({ "in_force": record, "releases": releases, "used_by": users, "steps": steps })));
        return Ok(exit::CLEAN);
    }
    let state = |release: &Release| match &record.canary {
        _ if release.number == record.release.number => "in force".to_owned(),
        Some(canary) if release.number == canary.release.number => format!("canary {}", canary.share),
        _ => String::new(),
    };
    let rows: Vec<Vec<String>> = releases
        .iter()
        .map(|release| {
            let signed = release.signature.as_ref().map_or("-", |signature| signature.key.as_str());
            let number = release.number.to_string();
            vec![number, release.version.clone(), state(release), release.digest.to_string(), signed.to_owned()]
        })
        .collect();
    say(&table(&["#", "VERSION", "STATE", "DIGEST", "SIGNED BY"], &rows));
    say(&format!("\nused by: {}\n\n", list_or_nobody(&users)));
    say(&steps_table(&steps));
    Ok(exit::CLEAN)
}

fn list_or_nobody(keys: &[&String]) -> String {
    let keys: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
    if keys.is_empty() { "nobody".to_owned() } else { keys.join(", ") }
}

/// What was done, for a person.
pub(super) fn steps_table(steps: &[Step]) -> String {
    let row = |step: &Step| {
        let share = if step.action == "canary" { step.share.to_string() } else { String::new() };
        vec![at(step.at_ms), step.action.clone(), step.version.clone(), share, step.by.clone(), step.reason.clone()]
    };
    let rows: Vec<Vec<String>> = steps.iter().map(row).collect();
    table(&["AT", "STEP", "VERSION", "SHARE", "BY", "REASON"], &rows)
}

async fn pull(desk: &mut crate::fleet::Desk, wanted: &str, output: &Path) -> Result<i32, FleetError> {
    let library = modules::library(desk).await?;
    let release = library.find(wanted);
    let release = release.ok_or_else(|| FleetError::Refused(format!("there is no release `{wanted}` in etcd")))?;
    let module = modules::fetch(desk, release).await?;
    let failed = |error| FleetError::Etcd(format!("while writing {}: {error}", output.display()));
    std::fs::write(output, &module).map_err(failed)?;
    say(&format!("{}: {} {}, {}\n", output.display(), release.name, release.version, release.digest));
    Ok(exit::CLEAN)
}

/// Whether a release is not there any more.
async fn gone(desk: &mut crate::fleet::Desk, release: &Release) -> Result<bool, FleetError> {
    let library = modules::library(desk).await?;
    Ok(!library.of(&release.name).any(|other| other == release))
}

async fn verify(desk: &mut crate::fleet::Desk, name: Option<&str>, trusted: &[PublicKey]) -> Result<i32, FleetError> {
    let library = modules::library(desk).await?;
    let mut bad: u64 = library.odd.len() as u64;
    library.odd.iter().for_each(|(key, why)| complain(&format!("{key}: {why}")));
    let mut seen = 0_u64;
    for release in library.releases.values().filter(|release| name.is_none_or(|name| release.name == name)) {
        seen += 1;
        let mut wrong = Vec::new();
        match modules::fetch(desk, release).await {
            Ok(_) => {}
            Err(FleetError::Refused(why)) => wrong.push(why),
            Err(other) => return Err(other),
        }
        if let Err(why) = Signature::check(release, trusted) {
            wrong.push(why);
        }
        if !wrong.is_empty() && gone(desk, release).await? {
            seen -= 1; // Removed while it was looked at.
            continue;
        }
        let word = if wrong.is_empty() { "good".to_owned() } else { format!("BAD: {}", wrong.join("; ")) };
        bad += u64::from(!wrong.is_empty());
        say(&format!("{} {}: {word}\n", release.name, release.version));
    }
    say(&format!("{}, {bad} bad\n", counted(seen, "release")));
    Ok(if bad == 0 { exit::CLEAN } else { exit::FAILED })
}

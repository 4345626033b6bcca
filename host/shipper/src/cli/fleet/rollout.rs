//! `tailmill rollout`: a release on trial, shown, promoted, taken back, or watched over.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use super::module::steps_table;
use super::{EtcdArgs, at, code, table, who, with_desk};
use crate::cli::output::note;
use crate::cli::say;
use crate::config::depot::Share;
use crate::fleet::rollout::{self, Moved, Side, Trial};
use crate::fleet::{Desk, FleetError, modules, nodes};
use crate::model::exit;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  tailmill module push grep.wasm --name grep --version 1.3 --canary 5%
  tailmill rollout status grep              both sides beside each other, and what was done
  tailmill rollout promote grep --to 25%    more nodes; without --to all of them
  tailmill rollout abort grep --reason 'drops too much'
  tailmill rollout watch grep --steps 25%,100% --hold 600

`watch` judges the canary by what nodes write into etcd. It takes it back (exit code 1) when canary nodes refuse it, fault,
drop or slow beyond the others; with --steps it promotes after each --hold without anything of that.";

#[derive(Args, Debug)]
pub(in crate::cli) struct RolloutArgs {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Subcommand, Debug)]
enum RolloutCommand {
    /// Show how a canary compares with what is in force
    Status {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// The module
        name: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Give the canary to more nodes, or put it in force
    Promote {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// The module
        name: String,
        /// To this share of the nodes [default: all]
        #[arg(long, value_name = "PERCENT", value_parser = Share::parse)]
        to: Option<Share>,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take the canary back
    Abort {
        #[command(flatten)]
        etcd: EtcdArgs,
        /// The module
        name: String,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Judge the canary again and again; take it back when something speaks against it
    Watch(WatchArgs),
}

#[derive(Args, Debug)]
struct WatchArgs {
    #[command(flatten)]
    etcd: EtcdArgs,
    /// The module
    name: String,
    /// Shares to promote it to, one after the other
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', value_parser = Share::parse)]
    steps: Vec<Share>,
    /// Seconds that each step must hold before the next
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    hold: u64,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    every: f64,
}

pub(in crate::cli) fn run(args: &RolloutArgs) -> i32 {
    use RolloutCommand::{Abort, Promote, Status, Watch};
    let etcd = match &args.command {
        Status { etcd, .. } | Promote { etcd, .. } | Abort { etcd, .. } => etcd,
        Watch(args) => &args.etcd,
    };
    let etcd = match etcd.settings() {
        Ok((_, etcd)) => etcd,
        Err(code) => return code,
    };
    code(with_desk(&etcd, async |desk| match &args.command {
        Status { name, json, .. } => status(desk, name, *json).await,
        Promote { name, to, reason, .. } => {
            let moved = rollout::promote(desk, name, to.unwrap_or(Share::WHOLE), &who(), reason, None).await?;
            say(&told(name, &moved));
            Ok(exit::CLEAN)
        }
        Abort { name, reason, .. } => {
            let moved = rollout::abort(desk, name, &who(), reason, None).await?;
            say(&format!("{name} {} is taken back\n", moved.version));
            Ok(exit::CLEAN)
        }
        Watch(args) => watch(desk, args).await,
    }))
}

fn told(name: &str, moved: &Moved) -> String {
    let Moved { version, share, is_over } = moved;
    if *is_over {
        format!("{name} {version} is in force\n")
    } else {
        format!("{name} {version} is on trial on {share}\n")
    }
}

/// The trial as it stands, and the digest that is on trial.
async fn look(desk: &mut Desk, name: &str) -> Result<Option<(Trial, tailmill_engine::Digest)>, FleetError> {
    let library = modules::library(desk).await?;
    let Some((record, revision)) = library.in_force.get(name) else {
        return Err(FleetError::Refused(format!("there is no module `{name}` in etcd")));
    };
    let fleet = nodes::fleet(desk).await?;
    let digest = record.canary.as_ref().map(|canary| canary.release.digest);
    Ok(rollout::judge(record, *revision, &fleet).zip(digest))
}

async fn status(desk: &mut Desk, name: &str, as_json: bool) -> Result<i32, FleetError> {
    let trial = look(desk, name).await?.map(|(trial, _)| trial);
    let steps = modules::steps(desk, name).await?;
    if as_json {
        say(&format!("{:#}\n", json!({ "trial": trial, "steps": steps })));
        return Ok(exit::CLEAN);
    }
    match &trial {
        None => drop(say(&format!("no release of {name} is on trial\n\n"))),
        Some(trial) => drop(say(&format!("{}\n", shown(name, trial)))),
    }
    say(&steps_table(&steps));
    Ok(exit::CLEAN)
}

fn shown(name: &str, trial: &Trial) -> String {
    let row = |who: &str, side: &Side| {
        let share = |count: u64| if side.lines == 0 { 0.0 } else { 100.0 * count as f64 / side.lines as f64 };
        let per_line = side.busy_ns.checked_div(side.lines).unwrap_or_default();
        vec![
            who.to_owned(),
            side.version.clone(),
            format!("{} of {}", side.running, side.nodes),
            side.lines.to_string(),
            format!("{:.2} %", share(side.dropped)),
            side.faults.to_string(),
            format!("{per_line} ns"),
        ]
    };
    let rows = [row("canary", &trial.canary), row("others", &trial.others)];
    let labels: Vec<String> = trial.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut text = format!("{name}: {} {} since {}\n", trial.share, labels.join(" "), at(trial.since_ms));
    text += &table(&["", "VERSION", "RUNNING", "LINES", "DROPPED", "FAULTS", "A LINE"], &rows);
    for reason in &trial.verdict {
        text += &format!("against it: {reason}\n");
    }
    if !trial.is_judged {
        text += "too few lines yet to judge it by what it drops and takes\n";
    }
    text
}

async fn watch(desk: &mut Desk, args: &WatchArgs) -> Result<i32, FleetError> {
    let name = &args.name;
    let (every, hold) = (Duration::from_secs_f64(args.every.clamp(0.1, 3600.0)), Duration::from_secs(args.hold));
    let mut steps = args.steps.iter();
    let mut since = Instant::now();
    loop {
        let Some((trial, digest)) = look(desk, name).await? else {
            say(&format!("no release of {name} is on trial any more\n"));
            return Ok(exit::CLEAN);
        };
        if !trial.verdict.is_empty() {
            let reason = trial.verdict.join("; ");
            let moved = rollout::abort(desk, name, &format!("watch of {}", who()), &reason, Some(digest)).await?;
            say(&format!("{name} {} is taken back: {reason}\n", moved.version));
            return Ok(exit::FAILED);
        }
        if !trial.is_judged {
            // A step holds when there was something to judge.
            since = Instant::now();
        }
        if since.elapsed() >= hold
            && let Some(to) = steps.find(|to| **to > trial.share)
        {
            let by = format!("watch of {}", who());
            let reason = format!("nothing against it for {} s", args.hold);
            let moved = rollout::promote(desk, name, *to, &by, &reason, Some(digest)).await?;
            say(&told(name, &moved));
            since = Instant::now();
        } else if trial.canary.running < trial.canary.nodes {
            note(&format!("{} of {} canary nodes run it", trial.canary.running, trial.canary.nodes));
        }
        tokio::time::sleep(every).await;
    }
}

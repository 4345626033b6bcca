//! `tailmill check`: settings, entries and modules, without running anything.
//!
//! In: the settings file, and someone who judges modules. Out: every problem at once, warnings and notes apart, as text or
//! JSON, and the exit code. It changes nothing and sends nothing; etcd is read when it answers, else a note says so.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::config::{self, FoundEtcd, ModuleCheck, Overrides, Settings};
use crate::model::{Problem, exit, kafka_properties};

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct CheckArgs {
    /// The settings file.
    pub config: PathBuf,
    /// Variables and flags above it.
    pub overrides: Overrides,
    /// One JSON object instead of lines.
    pub json: bool,
}

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    notes: Vec<String>,
    entries: Vec<String>,
}

/// Makes the one who judges modules from the settings, which may have defaults in place of what is wrong.
pub type MakeJudge<'a> = &'a dyn Fn(&Settings) -> Result<Arc<dyn ModuleCheck>, String>;

/// Checks and prints; gives the exit code. An error of `judge` becomes a note, and modules are then looked for but not
/// started.
pub fn check(args: &CheckArgs, judge: MakeJudge<'_>, out: &mut dyn Write) -> io::Result<i32> {
    let report = examine(args, judge);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        print(&args.config, &report, out)?;
    }
    Ok(if report.ok { exit::CLEAN } else { exit::USAGE })
}

fn examine(args: &CheckArgs, judge: MakeJudge<'_>) -> Report {
    let (settings, problems) = Settings::read_all(&args.config, &args.overrides);
    let mut report = Report { problems, warnings: settings.warnings.clone(), ..Report::default() };
    clusters(&settings, &mut report);
    let etcd = etcd(&settings, &mut report);
    let modules = judge(&settings).unwrap_or_else(|reason| {
        report.notes.push(format!("modules were not started: {reason}"));
        Arc::new(config::NoModuleCheck)
    });
    let plan = config::examine(&settings, etcd, &*modules);
    report.problems.extend(plan.problems);
    report.entries = plan.entries.keys().map(ToString::to_string).collect();
    report.ok = report.problems.is_empty();
    report
}

/// What librdkafka says to all properties of a cluster together. Only of those that are sound one by one.
fn clusters(settings: &Settings, report: &mut Report) {
    if !report.problems.is_empty() {
        return;
    }
    for cluster in settings.clusters.values() {
        let table = if &*cluster.name == "default" { "kafka".to_owned() } else { format!("clusters.{}", cluster.name) };
        if let Some(reason) = kafka_properties::check_together(&cluster.properties, &cluster.brokers) {
            let source = settings.source.display().to_string();
            report.problems.push(Problem { source, key: format!("{table}.properties"), reason });
        }
    }
}

fn etcd(settings: &Settings, report: &mut Report) -> FoundEtcd {
    let Some(etcd) = &settings.etcd else { return FoundEtcd::default() };
    let listed = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(config::list_once(etcd)));
    listed.unwrap_or_else(|reason| {
        report.notes.push(format!("entries in etcd were not checked: {reason}"));
        FoundEtcd::default()
    })
}

fn print(file: &Path, report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for problem in &report.problems {
        writeln!(out, "problem: {problem}")?;
    }
    for warning in &report.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    let entries = counted(report.entries.len(), "entry", "entries");
    match report.problems.len() {
        0 => writeln!(out, "{}: no problems; {entries} for this node", file.display()),
        n => writeln!(out, "{}: {}", file.display(), counted(n, "problem", "problems")),
    }
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests;

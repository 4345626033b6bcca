//! The arguments of `tailmill dev` as the settings and the plan that the real pipeline runs on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tailmill_engine::Limits;
use tailmill_tail::discover::StartAt;
use tailmill_tail::{Framing, PathPatterns};

use super::filters::stock_dirs;
use super::{DevArgs, FilterArg, Policy, ValueFormat};
use crate::config::{Overrides, Settings};
use crate::model::{
    BreakerPlan, EntryPlan, FilterPlan, Format, HeldPlan, OnError, OnRefused, Origin, Partitioning, Plan, Problem,
};

/// Name of the one entry.
const ENTRY: &str = "dev";

/// A person waits: a file that moved away is finished soon.
const FINISH_AFTER: Duration = Duration::from_secs(1);

/// Settings of an agent that lives in this directory and produces to these brokers.
pub(super) fn settings(args: &DevArgs, state_dir: &Path, brokers: &str) -> Result<Settings, Vec<Problem>> {
    let admin = args.admin.map_or("off".to_owned(), |admin| admin.to_string());
    let text = toml::toml! {
        [agent]
        shards = 1
        // The mock Kafka keeps 5 MiB a partition: what is on its way must stay well below.
        inflight_bytes_max = 2097152
        inflight_topic_bytes_max = 1048576
        scan_every_ms = 1000
        stop_deadline_ms = 5000
        [kafka.properties]
        "linger.ms" = "5"
        "batch.size" = "131072"
    };
    let mut table = text;
    let text_value = |text: String| toml::Value::String(text);
    table.insert("state_dir".into(), text_value(state_dir.display().to_string()));
    if let Some(kafka) = table.get_mut("kafka").and_then(toml::Value::as_table_mut) {
        kafka.insert("brokers".into(), toml::Value::Array(brokers.split(',').map(toml::Value::from).collect()));
    }
    table.insert("admin".into(), toml::Value::Table([("listen".to_owned(), text_value(admin))].into_iter().collect()));
    Settings::from_text(Path::new("tailmill dev"), &table.to_string(), &Overrides::default())
}

/// The plan: one entry. All problems at once.
pub(super) fn plan(args: &DevArgs) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let patterns = patterns(args, &mut problems);
    let dirs = stock_dirs();
    let filters = args.filter.iter().filter_map(|filter| match filter_plan(filter, &dirs, args.on_error) {
        Ok(plan) => Some(plan),
        Err(reason) => {
            problems.push(problem("--filter", reason));
            None
        }
    });
    let filters: Vec<FilterPlan> = filters.collect();
    match patterns {
        Some(patterns) if problems.is_empty() => Ok(whole(args, patterns, filters)),
        _ => Err(problems),
    }
}

fn whole(args: &DevArgs, patterns: PathPatterns, filters: Vec<FilterPlan>) -> Plan {
    let all = args.from_start || args.once;
    let entry = EntryPlan {
        start: if all { StartAt::Beginning } else { StartAt::End },
        format: match args.format {
            ValueFormat::Raw => Format::Raw,
            ValueFormat::Json => Format::Json,
        },
        ..entry(patterns, &args.topic, filters)
    };
    Plan { revision: 1, entries: [(entry.name.clone(), Arc::new(entry))].into(), problems: Vec::new() }
}

/// An entry as the command line makes it: everything else as in an entry that says nothing.
pub(in crate::cli) fn entry(patterns: PathPatterns, topics: &[String], filters: Vec<FilterPlan>) -> EntryPlan {
    EntryPlan {
        name: ENTRY.into(),
        origin: Origin::CommandLine,
        patterns: Arc::new(patterns),
        start: StartAt::Beginning,
        framing: Arc::new(Framing::default()),
        finish_after: FINISH_AFTER,
        close_idle: None,
        ignore_older: None,
        topics: topics.iter().map(|topic| topic.as_str().into()).collect(),
        cluster: "default".into(),
        filters,
        on_refused: OnRefused::Block,
        dead_letter_topic: None,
        format: Format::Raw,
        partition: Partitioning::Stream,
        key: None,
        headers: Vec::new(),
    }
}

/// Globs are absolute in a plan; on the command line they are meant from where the person stands.
fn patterns(args: &DevArgs, problems: &mut Vec<Problem>) -> Option<PathPatterns> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let include: Vec<String> = args.path.iter().map(|path| absolute(&here, path)).collect();
    let exclude: Vec<String> =
        args.exclude.iter().map(|glob| if glob.contains('/') { absolute(&here, glob) } else { glob.clone() }).collect();
    PathPatterns::new(&include, &exclude)
        .map_err(|errors| problems.extend(errors.iter().map(|error| problem("--path", error.to_string()))))
        .ok()
}

fn absolute(here: &Path, glob: &str) -> String {
    if glob.starts_with('/') {
        return glob.to_owned();
    }
    // Special characters of the directory's own name must not become part of the glob.
    let mut text = String::new();
    for c in here.to_string_lossy().chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    let below = glob.strip_prefix("./").unwrap_or(glob);
    format!("{}/{below}", text.trim_end_matches('/'))
}

fn filter_plan(filter: &FilterArg, dirs: &[PathBuf], on_error: Policy) -> Result<FilterPlan, String> {
    let on_error = match on_error {
        Policy::Block => OnError::Block,
        Policy::Pass => OnError::Pass,
        Policy::Drop => OnError::Drop,
    };
    Ok(FilterPlan {
        name: filter.name(),
        module: filter.module(dirs)?,
        with: filter.with.as_deref().unwrap_or("{}").into(),
        limits: Limits::STANDARD,
        held: HeldPlan::STANDARD,
        on_error,
        breaker: BreakerPlan::standard(on_error),
        stateless: false,
    })
}

fn problem(flag: &str, reason: String) -> Problem {
    Problem { source: flag.to_owned(), key: String::new(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        dev: DevArgs,
    }

    fn args(flags: &[&str]) -> DevArgs {
        Only::try_parse_from(["dev"].iter().chain(flags)).unwrap().dev
    }

    #[test]
    fn the_settings_are_sound_and_stay_within_what_the_mock_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&args(&["--path", "x"]), dir.path(), "127.0.0.1:1,127.0.0.1:2").unwrap();
        assert_eq!(settings.clusters["default"].brokers, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!((settings.state_dir.as_path(), settings.admin), (dir.path(), None));
        assert!(settings.limits.inflight_bytes_max < 5 << 20);
        // The one entry of a session comes from no directory, which is all there is to warn about.
        let warned: Vec<&str> = settings.warnings.iter().map(|warning| warning.key.as_str()).collect();
        assert_eq!(warned, ["entries.dir"]);
    }

    #[test]
    fn the_plan_says_what_the_flags_say() {
        let dir = tempfile::tempdir().unwrap();
        let wasm = dir.path().join("mine.wasm");
        std::fs::write(&wasm, "module").unwrap();
        let filter = format!("{}:{{\"a\":1}}", wasm.display());
        let flags =
            ["--path", "/l/*.log", "/m", "--exclude", "*.gz", "--filter", &filter, "--topic", "a", "--topic", "b"];
        let entry = plan(&args(&flags)).unwrap().entries["dev"].clone();
        assert!(entry.patterns.matches(Path::new("/l/x.log")) && entry.patterns.matches(Path::new("/m")));
        assert_eq!((entry.start, entry.topics.len()), (StartAt::End, 2));
        assert_eq!((&*entry.filters[0].name, &*entry.filters[0].with), ("mine", "{\"a\":1}"));
        let entry = plan(&args(&["--path", "/l", "--once", "--format", "json"])).unwrap().entries["dev"].clone();
        assert_eq!((entry.start, entry.format), (StartAt::Beginning, Format::Json));
    }

    #[test]
    fn every_problem_is_named_with_its_flag() {
        let found =
            plan(&args(&["--path", "/a[", "--filter", "/no/such.wasm", "--filter", "/nor/this.wasm"])).unwrap_err();
        let sources: Vec<&str> = found.iter().map(|problem| problem.source.as_str()).collect();
        assert_eq!(sources, ["--path", "--filter", "--filter"]);
    }

    #[test]
    fn relative_globs_are_meant_from_here_whatever_the_directory_is_called() {
        let check = |here: &str, glob: &str, path: &str| {
            let glob = absolute(Path::new(here), glob);
            let patterns = PathPatterns::new(std::slice::from_ref(&glob), &[]).unwrap();
            assert!(patterns.matches(Path::new(path)), "{glob} and {path}");
        };
        check("/home/me", "*.log", "/home/me/a.log");
        check("/home/me", "./logs/*.log", "/home/me/logs/a.log");
        check("/", "a.log", "/a.log");
        check("/odd [1]*{x}", "a?c", "/odd [1]*{x}/abc");
        check("/home/me", "/var/log/x", "/var/log/x");
    }
}

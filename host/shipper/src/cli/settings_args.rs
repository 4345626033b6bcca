//! The settings file and the flags that stand above it, the same for every command that reads settings.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Overrides, Settings};
use crate::model::Problem;

/// Where settings are when nobody says.
pub(super) const DEFAULT_PATH: &str = "/etc/tailmill/tailmill.toml";

/// Flags for settings. Every key of the file can also be set by a variable: `entries.dir` is `TAILMILL_ENTRIES_DIR`.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// Settings file
    #[arg(long, short, value_name = "FILE", env = "TAILMILL_CONFIG", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Name of this node [file: node]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where marks, caches and the last good plan are kept [file: state_dir]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Brokers of the default cluster, separated by commas [file: kafka.brokers]
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    /// Directory of entry files [file: entries.dir]
    #[arg(long, value_name = "DIR")]
    entries: Option<String>,
    /// Directory of filter modules [file: modules.dir]
    #[arg(long, value_name = "DIR")]
    modules: Option<String>,
    /// Address of the admin port, or `off` [file: admin.listen]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,
    /// What is logged: error, warn, info, debug, or a filter as in info,tailmill::deliver=debug [file: log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How log lines look: text or json [file: log.format]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other key of the settings file, as in --set agent.shards=2
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

impl SettingsArgs {
    /// A file without flags.
    pub(super) fn of_file(config: &Path) -> SettingsArgs {
        SettingsArgs { config: config.to_owned(), ..SettingsArgs::default() }
    }

    /// Reads and checks the settings. All problems at once.
    pub fn load(&self) -> Result<Settings, Vec<Problem>> {
        Settings::load(&self.config, &self.overrides())
    }

    /// Variables and flags.
    pub fn overrides(&self) -> Overrides {
        let flags = [
            ("--node", "node", &self.node),
            ("--state-dir", "state_dir", &self.state_dir),
            ("--brokers", "kafka.brokers", &self.brokers),
            ("--entries", "entries.dir", &self.entries),
            ("--modules", "modules.dir", &self.modules),
            ("--admin", "admin.listen", &self.admin),
            ("--log-level", "log.level", &self.log_level),
            ("--log-format", "log.format", &self.log_format),
        ];
        let mut overrides = Overrides::from_environment();
        for (flag, key, value) in flags {
            if let Some(value) = value {
                overrides = overrides.with_flag(flag, key, value);
            }
        }
        for (key, value) in &self.set {
            overrides = overrides.with_flag("--set", key, value);
        }
        overrides
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in agent.shards=2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    fn load(text: &str, flags: &[&str]) -> Result<Settings, Vec<Problem>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tailmill.toml");
        std::fs::write(&file, text).unwrap();
        let args = ["x", "--config", file.to_str().unwrap()].into_iter().chain(flags.iter().copied());
        Only::try_parse_from(args).unwrap().settings.load()
    }

    const FILE: &str = "node = \"file\"\nstate_dir = \"/tmp/state\"\n[kafka]\nbrokers = [\"a:1\"]\n";

    #[test]
    fn every_flag_sets_its_key_above_the_file() {
        let flags = [
            ("--node=flag", "node"),
            ("--state-dir=/tmp/other", "state_dir"),
            ("--brokers=b:1,c:2", "kafka.brokers"),
            ("--entries=/tmp/e", "entries.dir"),
            ("--modules=/tmp/m", "modules.dir"),
            ("--admin=127.0.0.1:1", "admin.listen"),
            ("--log-level=debug", "log.level"),
            ("--log-format=json", "log.format"),
            ("--set=agent.shards=3", "agent.shards"),
        ];
        let all: Vec<&str> = flags.iter().map(|(flag, _)| *flag).collect();
        let settings = load(FILE, &all).unwrap();
        assert_eq!(&*settings.node, "flag");
        assert_eq!(settings.state_dir, Path::new("/tmp/other"));
        assert_eq!(settings.clusters["default"].brokers, ["b:1", "c:2"]);
        assert_eq!(settings.entries.dir.as_deref(), Some(Path::new("/tmp/e")));
        assert_eq!(settings.modules.dir.as_deref(), Some(Path::new("/tmp/m")));
        assert_eq!(settings.admin, Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!((settings.log.filter.as_str(), settings.shards), ("debug", 3));
    }

    #[test]
    fn a_key_that_does_not_exist_is_a_problem_of_its_flag() {
        let problems = load(FILE, &["--set", "agent.shard=3"]).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].source, "--set");
        assert!(problems[0].reason.contains("agent.shards"), "{}", problems[0]);
    }

    #[test]
    fn set_wants_a_key_and_a_value() {
        for text in ["agent.shards", "=3", ""] {
            assert!(key_value(text).is_err(), "{text}");
        }
        assert_eq!(key_value("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
    }
}

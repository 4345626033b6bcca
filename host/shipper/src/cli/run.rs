//! `tailmill run`: the daemon. Settings are checked as a whole before anything starts; at the first start so are the
//! entries and modules that lie on this machine.

use super::{SettingsArgs, complain, fail, problems};
use crate::app::{self, RunOptions};
use crate::config;
use crate::model::exit;
use crate::observe::logs::{self, LogFormat};

pub(super) const EXAMPLES: &str = "Examples:
  tailmill run                                   with /etc/tailmill/tailmill.toml
  tailmill run --config tailmill.toml --node web-01
  TAILMILL_KAFKA_BROKERS=kafka:9092 tailmill run --entries ./entries.d --state-dir ./state

SIGTERM and SIGINT stop it in order: what is under way is delivered first, until a deadline. A second one ends it at once;
what was not acknowledged comes again at the next start.";

pub(super) fn run(args: &SettingsArgs) -> i32 {
    let settings = match args.load() {
        Ok(settings) => settings,
        Err(found) => return problems(&found),
    };
    let format = match settings.log.format {
        config::LogFormat::Text => LogFormat::Text,
        config::LogFormat::Json => LogFormat::Json,
    };
    if let Err(error) = logs::init(format, &settings.log.filter) {
        complain(&format!("{}: log.level: {error}", args.config.display()));
        return exit::USAGE;
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    match app::problems_at_first_start(&settings) {
        Ok(found) if found.is_empty() => {
            let args = args.clone();
            let reload = Box::new(move || args.load());
            app::run(RunOptions { settings, reload }).unwrap_or_else(|error| fail(&error))
        }
        Ok(found) => problems(&found),
        Err(error) => fail(&error),
    }
}

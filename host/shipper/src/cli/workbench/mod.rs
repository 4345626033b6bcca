//! The workbench: what an author of a filter needs, on the very engine and filter room that the agent runs.
//!
//! In: a module, its configuration, lines. Out: what is wrong with it, what it makes of the lines, what that costs. There is no
//! second way to run a filter here: everything goes through [`crate::app::Workshop`] and a chain of one stage.
//! Bad usage, and a module that is no filter, exit with 64; a difference or a fault that was found, with 1.

mod bench; // `bench`: what a line costs
mod diff; // two lists of texts side by side
mod fuzz; // `test --fuzz`: mutated lines, cut at random
mod inspect; // `inspect`: what a module is
mod lines; // files to batches
mod mutate; // lines that look a little like others
mod new; // `new`: a project
mod record; // what came of a line
mod runner; // lines through a filter
mod show; // a run for a person
mod shrink; // a failure made small
mod test; // `test`: against the eye, cases, another version
mod wrap; // `wrap`: core module to component

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tailmill_engine::Limits;

use super::dev::compiled_dir;
use super::dev::filters::{FilterArg, stock_dirs};
use super::{complain, fail};
use crate::app::Workshop;
use crate::model::{FilterPlan, HeldPlan, OnError, exit};

pub(super) use bench::{BenchArgs, EXAMPLES as BENCH_EXAMPLES, run as bench};
pub(super) use diff::unified;
pub(super) use inspect::{EXAMPLES as INSPECT_EXAMPLES, InspectArgs, run as inspect};
pub(super) use new::{EXAMPLES as NEW_EXAMPLES, NewArgs, run as new};
pub(super) use test::{EXAMPLES as TEST_EXAMPLES, TestArgs, run as test, run_cases};
pub(super) use wrap::{EXAMPLES as WRAP_EXAMPLES, WrapArgs, run as wrap};

/// What guests are told where they run.
const NODE: &str = "workbench";

/// Why a command ended early.
#[derive(Debug)]
enum Stop {
    /// What was asked for cannot be had: arguments, a file, a module that is no filter, a configuration it does not take.
    Usage(String),
    /// The machine failed us.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Stop {
        Stop::Failed(error)
    }
}

impl Stop {
    fn usage(message: impl Into<String>) -> Stop {
        Stop::Usage(message.into())
    }
}

/// The exit code of a command; says why it ended early.
fn code(result: Result<i32, Stop>) -> i32 {
    match result {
        Ok(code) => code,
        Err(Stop::Usage(message)) => {
            complain(&message);
            exit::USAGE
        }
        Err(Stop::Failed(error)) => fail(&error),
    }
}

/// The filter that a command is about.
#[derive(Args, Debug)]
struct ModuleArgs {
    /// The filter: a file (component or core module), or the name of a stock filter
    #[arg(value_name = "MODULE[:JSON]", value_parser = FilterArg::parse)]
    module: FilterArg,
    /// Its configuration: what an entry has in `with`
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    with: Option<String>,
    /// Topics it may choose from; the first is the entry's own
    #[arg(long, value_name = "TOPIC", default_value = "main")]
    topic: Vec<String>,
    /// CPU time that one call may take, as an entry's `timeout_ms`
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
    /// Memory that an instance may have, as an entry's `memory_mib`
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4095))]
    memory_mib: u32,
    /// Of a filter of the line world: one instance may serve many files (what an entry says in `stateless`)
    #[arg(long)]
    stateless: bool,
}

impl ModuleArgs {
    /// A file with the defaults of all flags.
    fn of_file(path: &std::path::Path) -> ModuleArgs {
        let standard = Limits::STANDARD;
        ModuleArgs {
            module: FilterArg { what: path.display().to_string(), with: None },
            with: None,
            topic: vec!["main".to_owned()],
            timeout_ms: u64::try_from(standard.call_time.as_millis()).unwrap_or(200),
            memory_mib: u32::try_from(standard.memory_bytes >> 20).unwrap_or(64),
            stateless: false,
        }
    }

    fn check(&self) -> Result<(), Stop> {
        match (&self.module.with, &self.with) {
            (Some(_), Some(_)) => Err(Stop::usage(
                "the configuration is given twice: behind the module's colon and in --with; say it once",
            )),
            _ => Ok(()),
        }
    }

    fn with(&self) -> &str {
        self.module.with.as_deref().or(self.with.as_deref()).unwrap_or("{}")
    }

    fn limits(&self) -> Limits {
        Limits {
            call_time: Duration::from_millis(self.timeout_ms),
            memory_bytes: (self.memory_mib as usize) << 20,
            ..Limits::STANDARD
        }
    }

    /// The filter with its own configuration.
    fn plan(&self) -> Result<FilterPlan, Stop> {
        self.check()?;
        self.plan_of(&self.module, self.with())
    }

    /// Another version, which has the same configuration unless it says its own.
    fn plan_of_other(&self, other: &FilterArg) -> Result<FilterPlan, Stop> {
        self.plan_of(other, other.with.as_deref().unwrap_or(self.with()))
    }

    fn plan_of(&self, module: &FilterArg, with: &str) -> Result<FilterPlan, Stop> {
        Ok(FilterPlan {
            name: module.name(),
            module: module.module(&stock_dirs()).map_err(Stop::Usage)?,
            with: with.into(),
            limits: self.limits(),
            held: HeldPlan::STANDARD,
            // So that a run goes on behind a guilty line and names it.
            on_error: OnError::DeadLetter,
            breaker: None,
            stateless: self.stateless,
        })
    }
}

/// For clap: an object, since that is what an entry takes.
fn json_object(text: &str) -> Result<String, String> {
    let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(text);
    parsed.map(|_| text.to_owned()).map_err(|error| format!("not a JSON object: {error}"))
}

/// The agent's engine; compiled modules are kept in the user's cache.
fn workshop() -> Result<Workshop, Stop> {
    Ok(Workshop::new(NODE, compiled_dir())?)
}

/// The topics as a filter is told them.
fn topics(args: &ModuleArgs) -> Vec<Arc<str>> {
    args.topic.iter().map(|topic| topic.as_str().into()).collect()
}

//! The command line: arguments to calls, results to text and exit codes.
//!
//! Facts go to standard output, everything else to standard error; colour and progress only to a terminal. Errors read
//! "while X: Y". Exit codes are those of [`crate::model::exit`]. Nothing is decided here that another caller would need.

pub mod check; // `check`
mod output; // what a person sees
mod run; // `run`
mod dev; // `dev`
mod fleet; // `module`, `key` and what else is done to a fleet through etcd
mod settings_args; // flags above the settings file
mod shell; // completions and man pages
mod state; // `state`: what is kept of each file, by hand
mod status; // `status`
mod workbench; // `new`, `wrap`, `inspect`, `test`, `bench`: for authors of filters
mod welcome; // no command at all

use std::ffi::OsString;
use std::sync::Arc;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, Parser, Subcommand};

use crate::app::Judge;
use crate::config::{ModuleCheck, Settings};
use crate::model::exit;
use crate::observe::version;

pub(crate) use output::{complain, fail, problems, say};
pub use settings_args::SettingsArgs;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "Exit codes: 0 all went well; 1 failed; 2 stopped with undelivered lines at the deadline \
(they come again at the next start); 64 bad usage or configuration.";

/// Tails files, passes every line through your WebAssembly filters, produces to Kafka.
#[derive(Parser, Debug)]
#[command(name = "tailmill", version = version::long(), styles = STYLES, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the agent until it is told to stop
    #[command(after_help = run::EXAMPLES)]
    Run(SettingsArgs),
    /// Try it: tail, filter and print, with Kafka built in and no set-up
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::DevArgs),
    /// Name every problem of settings, entries and modules at once, without running anything
    Check {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Print what was found as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a filter project
    #[command(after_help = workbench::NEW_EXAMPLES)]
    New(workbench::NewArgs),
    /// Make a component of a core module
    #[command(after_help = workbench::WRAP_EXAMPLES)]
    Wrap(workbench::WrapArgs),
    /// Show what a filter module is, and what is wrong with it
    #[command(after_help = workbench::INSPECT_EXAMPLES)]
    Inspect(workbench::InspectArgs),
    /// Run lines through a filter: see what becomes of them, check cases, compare versions, fuzz
    #[command(after_help = workbench::TEST_EXAMPLES)]
    Test(workbench::TestArgs),
    /// Measure what a line costs in a filter
    #[command(after_help = workbench::BENCH_EXAMPLES)]
    Bench(workbench::BenchArgs),
    /// Write entries into etcd, with checks before and a history behind
    #[command(after_help = fleet::ENTRY_EXAMPLES)]
    Entry(fleet::EntryArgs),
    /// Push filter modules into etcd, put them in force, take them back
    #[command(after_help = fleet::MODULE_EXAMPLES)]
    Module(fleet::ModuleArgs),
    /// Try a release on some nodes, then give it to more or take it back
    #[command(after_help = fleet::ROLLOUT_EXAMPLES)]
    Rollout(fleet::RolloutArgs),
    /// Make keys that releases of modules are signed with
    #[command(after_help = fleet::KEY_EXAMPLES)]
    Key(fleet::KeyArgs),
    /// Show how the fleet, one node or the agent on this machine is doing
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusArgs),
    /// Show what is kept of each file, move past a line, repair a damaged store
    #[command(after_help = state::EXAMPLES)]
    State(state::StateArgs),
    /// Print a completion script for a shell
    #[command(after_help = shell::EXAMPLES)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Write all pages here
        #[arg(long, value_name = "DIR")]
        dir: Option<std::path::PathBuf>,
    },
    /// The other end of the agent's module compiler
    #[command(hide = true)]
    CompileModule,
}

/// Runs the command that the process was given. Returns its exit code.
pub fn main() -> i32 {
    dispatch(std::env::args_os().collect())
}

fn dispatch(args: Vec<OsString>) -> i32 {
    // The compile child limits itself before anything else happens in it.
    if args.get(1).is_some_and(|arg| arg == "compile-module") {
        return compile_module();
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too; a closed pipe is no reason to complain.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::CLEAN };
        }
    };
    match cli.command {
        None => welcome::show(),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Dev(args)) => dev::run(&args),
        Some(Command::Check { settings, json }) => check(&settings, json),
        Some(Command::New(args)) => workbench::new(&args),
        Some(Command::Wrap(args)) => workbench::wrap(&args),
        Some(Command::Inspect(args)) => workbench::inspect(&args),
        Some(Command::Test(args)) => workbench::test(&args),
        Some(Command::Bench(args)) => workbench::bench(&args),
        Some(Command::Entry(args)) => fleet::entry(&args),
        Some(Command::Module(args)) => fleet::module(&args),
        Some(Command::Rollout(args)) => fleet::rollout(&args),
        Some(Command::Key(args)) => fleet::key(&args),
        Some(Command::Status(args)) => status::run(&args),
        Some(Command::State(args)) => state::run(&args),
        Some(Command::Completions { shell }) => shell::completions(Cli::command(), shell),
        Some(Command::Man { dir }) => shell::man(Cli::command(), dir.as_deref()),
        Some(Command::CompileModule) => compile_module(),
    }
}

fn check(settings: &SettingsArgs, json: bool) -> i32 {
    let args = check::CheckArgs { config: settings.config.clone(), overrides: settings.overrides(), json };
    let judge = |settings: &Settings| -> Result<Arc<dyn ModuleCheck>, String> {
        Ok(Arc::new(Judge::new(settings).map_err(|error| format!("{error:#}"))?))
    };
    // A closed pipe: nobody wants to know the rest.
    check::check(&args, &judge, &mut std::io::stdout().lock()).unwrap_or(exit::FAILED)
}

fn compile_module() -> i32 {
    match tailmill_engine::compile_child(std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => exit::CLEAN,
        Err(error) => {
            complain(&error.to_string());
            i32::from(tailmill_engine::ChildError::EXIT_CODE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_all_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_usage_is_64_and_help_is_0() {
        let check = |args: &[&str], code: i32| {
            let args = std::iter::once("tailmill").chain(args.iter().copied()).map(OsString::from).collect();
            assert_eq!(dispatch(args), code);
        };
        check(&["--version"], exit::CLEAN);
        check(&["status", "--help"], exit::CLEAN);
        check(&["no-such-command"], exit::USAGE);
        check(&["status", "--no-such-flag"], exit::USAGE);
        check(&["completions", "no-such-shell"], exit::USAGE);
    }

    #[test]
    fn every_command_says_what_it_does() {
        for command in Cli::command().get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.len() > 10 && !about.ends_with('.'), "{}: {about:?}", command.get_name());
        }
    }
}

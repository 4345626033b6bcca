//! `tailmill` alone: what it is and what to try first.

use super::say;
use crate::model::exit;
use crate::observe::text::Paint;
use crate::observe::version;

/// Prints it.
pub(super) fn show() -> i32 {
    say(&text(Paint::for_stream(&std::io::stdout())));
    exit::CLEAN
}

fn text(paint: Paint) -> String {
    let head = paint.strong(&format!("tailmill {}", version::VERSION));
    let steps = [
        (
            "Watch it work on your own logs. Nothing to set up, Kafka is built in:",
            &[
                "tailmill dev --path '/var/log/*.log' --from-start",
                r#"tailmill dev --path '/var/log/*.log' --filter 'grep:{"include":"error"}'"#,
            ][..],
        ),
        (
            "Run it for real, after a look at what is wrong with the configuration:",
            &["tailmill check --config tailmill.toml", "tailmill run --config tailmill.toml"],
        ),
        ("Write a filter of your own:", &["tailmill new my-filter"]),
        ("See how it is doing:", &["tailmill status --watch"]),
    ];
    let mut text =
        format!("{head}  tails files, filters every line through your WebAssembly modules, ships to Kafka\n");
    for (what, commands) in steps {
        text.push_str(&format!("\n{what}\n"));
        for command in commands {
            text.push_str(&format!("  {} {}\n", paint.faint("$"), paint.good(command)));
        }
    }
    text.push_str("\nEverything else: tailmill --help, tailmill COMMAND --help\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_in_the_welcome_exists_with_its_flags() {
        let plain = text(Paint(false));
        let commands: Vec<&str> = plain.lines().filter_map(|line| line.strip_prefix("  $ tailmill ")).collect();
        assert_eq!(commands.len(), 6);
        for line in commands {
            let words: Vec<&str> = line.split(' ').collect();
            let cli = crate::cli::Cli::command();
            let command = cli.find_subcommand(words[0]).unwrap_or_else(|| panic!("no command {line}"));
            for flag in words.iter().filter_map(|word| word.strip_prefix("--")) {
                assert!(command.get_arguments().any(|arg| arg.get_long() == Some(flag)), "no --{flag} in {line}");
            }
        }
    }
}

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

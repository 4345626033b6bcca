//! A compiler to be run as a child, and nothing else: `tailmill-compile compile-module`. The agent runs itself in this role;
//! this one is for the tests of this crate and for tools that have no such subcommand.

use std::process::ExitCode;
use tailmill_engine::{ChildError, compile_child};

fn main() -> ExitCode {
    match compile_child(std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent reads the reason from here.
            #[allow(clippy::print_stderr)]
            {
                eprintln!("{error}");
            }
            ExitCode::from(ChildError::EXIT_CODE)
        }
    }
}

//! The `tailmill` command. Everything is in [`tailmill::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    // Every code is named in model::exit and fits.
    ExitCode::from(u8::try_from(tailmill::cli::main()).unwrap_or(u8::MAX))
}

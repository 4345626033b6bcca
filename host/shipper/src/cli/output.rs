//! What a person sees. A pipe that was closed (`| head`) ends output in silence.

use std::io::Write;

use crate::model::{Problem, exit};
use crate::observe::text::{Paint, counted, safe};

/// Facts, to standard output. False: nobody reads them any more.
pub(crate) fn say(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// One error, to standard error.
pub(crate) fn complain(message: &str) {
    let stderr = std::io::stderr();
    let label = Paint::for_stream(&stderr).bad("error:");
    let _ = writeln!(stderr.lock(), "{label} {}", safe(message));
}

/// A note for a person, to standard error.
pub(crate) fn note(message: &str) {
    let stderr = std::io::stderr();
    let _ = writeln!(stderr.lock(), "{}", Paint::for_stream(&stderr).faint(&safe(message)));
}

/// An error with its causes, and the exit code for it.
pub(crate) fn fail(error: &anyhow::Error) -> i32 {
    complain(&format!("{error:#}"));
    exit::FAILED
}

/// Everything that is wrong in what was written, and the exit code for it.
pub(crate) fn problems(problems: &[Problem]) -> i32 {
    for problem in problems {
        complain(&problem.to_string());
    }
    if problems.len() > 1 {
        note(&counted(problems.len() as u64, "problem"));
    }
    exit::USAGE
}

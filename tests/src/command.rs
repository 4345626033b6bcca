//! What a command of `tailmill` came to.

use std::process::Output;

/// What a command printed that did what it was asked.
pub fn good(output: Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A command that refused, and said why.
pub fn refused(output: Output, because: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{}{said}", text(&output.stdout));
    assert!(said.contains(because), "{said}");
}

/// What was printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

//! Compiling in a child process, so that a compile bomb only kills the child.

use std::io::{Read, Write};

/// Why the child gave up. Print it to stderr and exit with [`ChildError::EXIT_CODE`].
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The parent sent something else than a request.
    #[error("not a request to compile: {0}")]
    Request(String),
    /// The module does not compile.
    #[error("{0}")]
    Compile(String),
    /// The result could not be handed back.
    #[error("while handing back the compiled module: {0}")]
    Output(std::io::Error),
}

impl ChildError {
    /// What the child exits with when it gives up.
    pub const EXIT_CODE: u8 = 3;
}

/// The child's side: sets its own limits, reads a request from `stdin`, writes the compiled module to `stdout`. To be called by
/// whatever is run as `<compiler> compile-module`, before it starts threads or opens files.
pub fn compile_child(_stdin: impl Read, _stdout: impl Write) -> Result<(), ChildError> {
    todo!()
}

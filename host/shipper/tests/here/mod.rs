//! The binary, run as a person runs it: in a directory of its own, with nothing of this process's environment in it.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory with a cache of its own, and the binary to run in it.
pub(crate) struct Here(pub(crate) tempfile::TempDir);

impl Here {
    pub(crate) fn new() -> Here {
        Here(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn tailmill(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tailmill"));
        command.current_dir(self.0.path()).env("XDG_CACHE_HOME", self.0.path().join("cache")).args(args);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TAILMILL_")) {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    /// Runs and checks the exit code; gives standard output and standard error.
    pub(crate) fn expect(&self, code: i32, args: &[&str]) -> (String, String) {
        let output = self.tailmill(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        (out, err)
    }
}

//! `tailmill key`: a pair of keys for signing releases of modules.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::output::note;
use crate::cli::{complain, say};
use crate::config::depot::SecretKey;
use crate::model::exit;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  tailmill key generate release.key         writes the secret key, prints the public one
  tailmill key show release.key             the public one again
  tailmill module push mine.wasm --name mine --version 1.0 --sign release.key

Agents take only what one of modules.trusted_keys signed, once that is set. To change keys: trust both, sign with the new
one, push again what is in force, then trust the new one alone.";

#[derive(Args, Debug)]
pub(in crate::cli) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Write a new secret key into a file and print its public key
    Generate {
        /// The file; it must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the public key of a secret key
    Show {
        /// The secret key
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(in crate::cli) fn run(args: &KeyArgs) -> i32 {
    let done = match &args.command {
        KeyCommand::Generate { file } => generate(file),
        KeyCommand::Show { file } => read(file),
    };
    match done {
        Ok(key) => {
            say(&format!("{}\n", key.public()));
            exit::CLEAN
        }
        Err(why) => {
            complain(&why);
            exit::USAGE
        }
    }
}

fn generate(file: &Path) -> Result<SecretKey, String> {
    let mut random = [0; 32];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    if !matches!(got, Ok(32)) {
        return Err("while asking the kernel for random bytes: it gave none".to_owned());
    }
    let key = SecretKey::of(&random)?;
    let failed = |error: std::io::Error| format!("while writing {}: {error}", file.display());
    // Never over another key: what it signed could not be signed again.
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    out.write_all(key.reveal().as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
    note("agents trust it with this line in [modules] of their settings: trusted_keys = [\"…\"]");
    Ok(key)
}

/// A key from its file.
pub(super) fn read(file: &Path) -> Result<SecretKey, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("while reading {}: {error}", file.display()))?;
    SecretKey::parse(&text).map_err(|why| format!("{} {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_for_its_owner_alone_and_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("k");
        let made = generate(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&file).unwrap().public(), made.public());
        assert!(generate(&file).unwrap_err().contains("File exists"));
        assert_eq!(read(&file).unwrap().public(), made.public());
        assert_ne!(generate(&dir.path().join("l")).unwrap().public(), made.public());
    }
}

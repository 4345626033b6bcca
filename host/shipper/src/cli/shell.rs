//! What a package installs beside the program: completion scripts and manual pages, made from the same definition.

use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

use super::{fail, say};
use crate::model::exit;

pub(super) const EXAMPLES: &str = "Examples:
  tailmill completions bash > ~/.local/share/bash-completion/completions/tailmill
  tailmill completions zsh > ~/.zfunc/_tailmill
  tailmill completions fish > ~/.config/fish/completions/tailmill.fish";

/// Prints the script for a shell.
pub(super) fn completions(mut command: Command, shell: Shell) -> i32 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tailmill", &mut script);
    say(&String::from_utf8_lossy(&script));
    exit::CLEAN
}

/// Prints the page of the command, or writes a page for each subcommand into a directory.
pub(super) fn man(command: Command, dir: Option<&Path>) -> i32 {
    let written = match dir {
        Some(dir) => std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .with_context(|| format!("while writing manual pages to {}", dir.display())),
        None => page(command).context("while making the manual page").map(|text| {
            say(&text);
        }),
    };
    written.map_or_else(|error| fail(&error), |()| exit::CLEAN)
}

fn page(command: Command) -> std::io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_manual_names_commands_and_exit_codes_but_nothing_hidden() {
        let page = page(crate::cli::Cli::command()).unwrap();
        assert!(page.contains("tailmill\\-status") && page.contains("64 bad usage"), "{page}");
        assert!(!page.contains("compile"), "{page}");
    }

    #[test]
    fn a_directory_gets_a_page_for_each_command() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("man1");
        assert_eq!(man(crate::cli::Cli::command(), Some(&target)), exit::CLEAN);
        assert!(target.join("tailmill.1").exists() && target.join("tailmill-status.1").exists());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(man(crate::cli::Cli::command(), Some(&dir.path().join("file"))), exit::FAILED);
    }
}

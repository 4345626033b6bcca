//! `tailmill wrap`: a core module becomes a component. The agent does the same on the fly; a file is for other tools, for
//! signing, and to see what is wrong before a module is deployed.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use tailmill_engine::Digest;

use super::{Stop, code, workshop};
use crate::cli::dev::filters::read_module;
use crate::cli::output::note;
use crate::cli::say;
use crate::model::{ModuleFile, exit};
use crate::observe::text;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  tailmill wrap target/wasm32-unknown-unknown/release/mine.wasm -o mine.wasm
  tailmill wrap main.wasm                     writes main.component.wasm beside it

Takes what any toolchain makes: modules of a wit-bindgen, modules with imports of WASI preview 1 (Go, C), and modules whose
language cannot write the contract's names (line_start, line_run, realloc). `run`, `dev`, `test` and `bench` take core
modules as they are.";

#[derive(Args, Debug)]
pub(in crate::cli) struct WrapArgs {
    /// The core module
    #[arg(value_name = "CORE.wasm")]
    core: PathBuf,
    /// Where the component is written
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &WrapArgs) -> i32 {
    code(wrap(args))
}

fn wrap(args: &WrapArgs) -> Result<i32, Stop> {
    let core = read_module(&args.core).map_err(Stop::Usage)?;
    let target = args.output.clone().unwrap_or_else(|| beside(&args.core));
    if target.is_dir() {
        return Err(Stop::usage(format!("while writing {}: it is a directory; -o names a file", target.display())));
    }
    let refused = |why: String| Stop::Usage(format!("while wrapping {}: {why}", args.core.display()));
    let component = tailmill_engine::wrap(&core.bytes).map_err(|error| refused(error.to_string()))?;
    if component == *core.bytes {
        note("it is a component already: written as it is");
    }
    // Types of functions are only seen when it is loaded.
    let digest = Digest::of(&component);
    let wrapped = ModuleFile { digest, source: target.display().to_string(), bytes: component.into() };
    let module = workshop()?.armory().module(&wrapped).map_err(refused)?;
    write(&target, &wrapped.bytes).with_context(|| format!("while writing {}", target.display()))?;
    let size = text::bytes(wrapped.bytes.len() as u64);
    say(&format!("{}: {}, {size}, {digest}\n", target.display(), module.world().name()));
    Ok(exit::CLEAN)
}

/// `main.wasm` becomes `main.component.wasm`.
fn beside(core: &Path) -> PathBuf {
    let mut name = core.file_stem().map_or_else(|| OsString::from("filter"), ToOwned::to_owned);
    name.push(".component.wasm");
    core.with_file_name(name)
}

/// Whole or not at all: an agent may be watching the directory.
fn write(target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part =
        tempfile::Builder::new().prefix(".wrap-").permissions(Permissions::from_mode(0o644)).tempfile_in(dir)?;
    std::io::Write::write_all(&mut part, bytes)?;
    part.persist(target).map_err(|error| error.error)?;
    Ok(())
}

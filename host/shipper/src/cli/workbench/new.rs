//! `tailmill new`: a filter project that builds, has tests and cases, and says in its README what to do next.
//!
//! A template is a list of files with a few words in braces replaced. Another language is another list ([`Lang::template`]).

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{Stop, code};
use crate::cli::say;
use crate::model::exit;

pub(in crate::cli) const EXAMPLES: &str = "Examples:
  tailmill new drop-noise                     a Rust project in ./drop-noise
  tailmill new filters/drop-noise --sdk ~/tailmill/guest-sdk

The project depends on the crate tailmill-filter: by path with --sdk, or when tailmill is run from its source tree or in
one; by version otherwise. What was chosen is printed.";

/// The crate that a Rust filter depends on.
const SDK: &str = "tailmill-filter";
/// Where it is in Tailmill's source tree.
const SDK_DIR: &str = "guest-sdk";

#[derive(Args, Debug)]
pub(in crate::cli) struct NewArgs {
    /// Directory of the project; its last part is the filter's name
    #[arg(value_name = "NAME")]
    path: PathBuf,
    /// Language of the filter
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    lang: Lang,
    /// Depend on the SDK in this directory
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lang {
    Rust,
    Go,
    Python,
    Js,
    C,
    Zig,
}

/// Paths in the project and what stands in the files.
type Template = &'static [(&'static str, &'static str)];

const RUST: Template = &[
    ("Cargo.toml", include_str!("template/rust/Cargo.toml.in")),
    (".cargo/config.toml", include_str!("template/rust/cargo-config.toml")),
    (".gitignore", "/target\n"),
    ("README.md", include_str!("template/rust/README.md")),
    ("src/lib.rs", include_str!("template/rust/src/lib.rs.in")),
    ("sample.log", include_str!("template/rust/sample.log")),
    ("cases/noise.input", include_str!("template/rust/cases/noise.input")),
    ("cases/noise.json", include_str!("template/rust/cases/noise.json")),
    ("cases/noise.expected", include_str!("template/rust/cases/noise.expected")),
    ("cases/secrets.input", include_str!("template/rust/cases/secrets.input")),
    ("cases/secrets.expected", include_str!("template/rust/cases/secrets.expected")),
];

impl Lang {
    fn template(self) -> Option<Template> {
        match self {
            Lang::Rust => Some(RUST),
            Lang::Go | Lang::Python | Lang::Js | Lang::C | Lang::Zig => None,
        }
    }
}

/// Where the SDK comes from.
#[derive(Debug, PartialEq, Eq)]
enum Sdk {
    Path { dir: PathBuf, why: &'static str },
    Version(String),
}

pub(in crate::cli) fn run(args: &NewArgs) -> i32 {
    code(make(args))
}

fn make(args: &NewArgs) -> Result<i32, Stop> {
    let Some(template) = args.lang.template() else {
        let lang = args.lang.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        return Err(Stop::Usage(format!(
            "there is no project for {lang} yet, only for rust; a module of any language works if it exports what \
             docs/contract.md says, and `tailmill wrap` makes a component of it"
        )));
    };
    let name = name(&args.path)?;
    if args.path.symlink_metadata().is_ok() {
        return Err(Stop::Usage(format!(
            "{} is there already: choose another name, or move it away",
            args.path.display()
        )));
    }
    let sdk = match &args.sdk {
        Some(dir) => Sdk::of_flag(dir)?,
        None => Sdk::found(),
    };
    write(&args.path, template, &name, &sdk)?;
    say(&next_steps(&args.path, &name, &sdk));
    Ok(exit::CLEAN)
}

/// What cargo and the agent both take as a name.
fn name(path: &Path) -> Result<String, Stop> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let reserved = ["test", "core", "std", "alloc", "proc-macro", SDK];
    let sound = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain) && name.len() <= 64;
    if sound && !reserved.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(Stop::Usage(format!(
        "{name:?} is no name for a filter: lower case letters, digits, - and _, a letter first, at most 64 (as in drop-noise)"
    )))
}

impl Sdk {
    fn of_flag(dir: &Path) -> Result<Sdk, Stop> {
        if !is_sdk(dir) {
            let dir = dir.display();
            return Err(Stop::Usage(format!(
                "--sdk {dir}: no Cargo.toml of {SDK} is there; name the directory {SDK_DIR}"
            )));
        }
        let dir = dir.canonicalize().with_context(|| format!("while looking at {}", dir.display()))?;
        Ok(Sdk::Path { dir, why: "--sdk says so" })
    }

    /// Of the source tree that one stands in, else of the one that this program was built in, else by version.
    fn found() -> Sdk {
        let here = std::env::current_dir().ok();
        let exe = std::env::current_exe().ok();
        let tree = |path: Option<PathBuf>| path?.ancestors().map(|dir| dir.join(SDK_DIR)).find(|dir| is_sdk(dir));
        let found = tree(here).map(|dir| (dir, "this is a source tree of Tailmill"));
        match found.or_else(|| tree(exe).map(|dir| (dir, "this tailmill runs from its source tree"))) {
            Some((dir, why)) => Sdk::Path { dir, why },
            None => {
                let (version, _) =
                    env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap_or((env!("CARGO_PKG_VERSION"), ""));
                Sdk::Version(version.to_owned())
            }
        }
    }

    /// As in Cargo.toml.
    fn dependency(&self) -> String {
        match self {
            Sdk::Path { dir, .. } => format!("{{ path = {} }}", toml::Value::String(dir.display().to_string())),
            Sdk::Version(version) => format!("{version:?}"),
        }
    }

    fn said(&self) -> String {
        match self {
            Sdk::Path { dir, why } => format!("{SDK} by path, {} ({why})", dir.display()),
            Sdk::Version(version) => {
                format!("{SDK} by version, {version} (no source tree is near; --sdk DIR names one)")
            }
        }
    }
}

fn is_sdk(dir: &Path) -> bool {
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    manifest.lines().any(|line| line.trim() == format!("name = {SDK:?}"))
}

/// Under another name first: nothing is left half made.
fn write(path: &Path, template: Template, name: &str, sdk: &Sdk) -> Result<(), Stop> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Stop::Usage(format!("{} is no directory: make it first", parent.display())));
    }
    let whole = || -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let mut part = tempfile::Builder::new().prefix(".tailmill-new-").tempdir_in(parent)?;
        for (file, text) in template {
            let file = part.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap_or(part.path()))?;
            std::fs::write(&file, filled(text, name, sdk))?;
        }
        std::fs::set_permissions(part.path(), std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(part.path(), path)?;
        part.disable_cleanup(true);
        Ok(())
    };
    Ok(whole().with_context(|| format!("while making {}", path.display()))?)
}

fn filled(text: &str, name: &str, sdk: &Sdk) -> String {
    text.replace("{name}", name).replace("{lib}", &name.replace('-', "_")).replace("{sdk}", &sdk.dependency())
}

fn next_steps(path: &Path, name: &str, sdk: &Sdk) -> String {
    let (path, lib) = (path.display(), name.replace('-', "_"));
    let module = format!("target/wasm32-unknown-unknown/release/{lib}.wasm");
    format!(
        "made {path}, a filter in Rust; it depends on {}\n\n  cd {path}\n  cargo test                 the function, natively\n  \
         cargo wasm                 builds {module}\n  tailmill test {module} --cases cases\n\nREADME.md there says the rest\n",
        sdk.said()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_suit_cargo_and_the_agent() {
        for good in ["drop-noise", "a", "x2_y", "some/where/drop-noise"] {
            assert!(name(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["", "Drop", "2x", "-x", "a b", "ä", "test", "..", "tailmill-filter", &"x".repeat(65)] {
            assert!(matches!(name(Path::new(bad)), Err(Stop::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn every_file_of_the_template_is_filled() {
        let sdk = Sdk::Path { dir: "/odd \"dir\"/guest-sdk".into(), why: "" };
        for (file, text) in RUST {
            let filled = filled(text, "drop-noise", &sdk);
            for word in ["{name}", "{lib}", "{sdk}"] {
                assert!(!filled.contains(word), "{word} in {file}");
            }
        }
        let manifest: toml::Table = filled(RUST[0].1, "drop-noise", &sdk).parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("drop-noise"));
        assert_eq!(manifest["dependencies"][SDK]["path"].as_str(), Some("/odd \"dir\"/guest-sdk"));
        let manifest: toml::Table = filled(RUST[0].1, "x", &Sdk::Version("0.1".into())).parse().unwrap();
        assert_eq!(manifest["dependencies"][SDK].as_str(), Some("0.1"));
    }

    #[test]
    fn the_sdk_is_found_from_within_the_source_tree() {
        // The test binary runs in it.
        assert!(matches!(Sdk::found(), Sdk::Path { dir, .. } if dir.ends_with(SDK_DIR)));
        assert!(!is_sdk(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}

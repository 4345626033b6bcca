//! `--filter NAME|FILE.wasm[:JSON]` to a module and its configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tailmill_engine::Digest;

use crate::model::ModuleFile;

/// Where stock filters are looked for first.
const VARIABLE: &str = "TAILMILL_FILTERS";

/// What was written, and the configuration as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct FilterArg {
    pub(in crate::cli) what: String,
    pub(in crate::cli) with: Option<String>,
}

impl FilterArg {
    /// A colon before a brace begins the configuration: names hold none, and paths rarely that.
    pub(in crate::cli) fn parse(text: &str) -> Result<FilterArg, String> {
        let (what, with) = match text.find(":{") {
            Some(at) => (&text[..at], Some(text[at + 1..].to_owned())),
            None => (text, None),
        };
        if let Some(json) = &with {
            let value: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(json);
            value.map_err(|error| format!("its configuration is not a JSON object: {error}"))?;
        }
        match (what.is_empty(), with.is_none() && !is_file(what) && what.contains(':')) {
            (true, _) => Err("expected NAME or FILE.wasm before the configuration".to_owned()),
            (_, true) => Err(r#"expected a JSON object after the colon, as in grep:{"include":"error"}"#.to_owned()),
            _ => Ok(FilterArg { what: what.to_owned(), with }),
        }
    }

    /// The name that is shown.
    pub(in crate::cli) fn name(&self) -> Arc<str> {
        let stem = Path::new(&self.what).file_stem().filter(|_| is_file(&self.what));
        stem.map_or_else(|| self.what.as_str().into(), |stem| stem.to_string_lossy().into())
    }

    /// Reads the module: the file, or `NAME.wasm` in the first of these directories that has one.
    pub(in crate::cli) fn module(&self, dirs: &[PathBuf]) -> Result<Arc<ModuleFile>, String> {
        let path = if is_file(&self.what) { PathBuf::from(&self.what) } else { stock(&self.what, dirs)? };
        read_module(&path)
    }
}

/// The bytes of a module in a file.
pub(in crate::cli) fn read_module(path: &Path) -> Result<Arc<ModuleFile>, String> {
    if path.is_dir() {
        return Err(format!("while reading {}: it is a directory; name the .wasm file in it", path.display()));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("while reading {}: {error}", path.display()))?;
    let digest = Digest::of(&bytes);
    Ok(Arc::new(ModuleFile { digest, source: path.display().to_string(), bytes: bytes.into() }))
}

/// Directories that may hold the stock filters, the best first: the variable, beside the executable as it is built, as it
/// is installed, and the project that a person stands in.
pub(in crate::cli) fn stock_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::env::var_os(VARIABLE).map(PathBuf::from).into_iter().collect();
    let exe = std::env::current_exe().ok();
    if let Some(dir) = exe.as_deref().and_then(Path::parent) {
        dirs.extend(["filters", "../filters", "../share/tailmill/filters"].map(|below| dir.join(below)));
    }
    dirs.push(PathBuf::from("target/filters"));
    dirs
}

fn is_file(what: &str) -> bool {
    what.ends_with(".wasm") || what.contains('/')
}

fn stock(name: &str, dirs: &[PathBuf]) -> Result<PathBuf, String> {
    let file = format!("{name}.wasm");
    if let Some(found) = dirs.iter().map(|dir| dir.join(&file)).find(|path| path.is_file()) {
        return Ok(found);
    }
    if Path::new(name).exists() {
        return Err(format!("there is no stock filter {name}; write ./{name} for the file that is here"));
    }
    let mut known: Vec<String> = dirs.iter().flat_map(|dir| names(dir)).collect();
    known.sort();
    known.dedup();
    if known.is_empty() {
        return Err(format!(
            "no stock filters are here to find {name} among: `make build` makes them, {VARIABLE}=DIR says where they are"
        ));
    }
    Err(format!("there is no stock filter {name}; there are {} (a file of your own ends in .wasm)", known.join(", ")))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let file_names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    file_names.filter_map(|name| Some(name.strip_suffix(".wasm")?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_name_or_a_file_and_perhaps_a_configuration() {
        let check = |text: &str, what: &str, with: Option<&str>, name: &str| {
            let arg = FilterArg::parse(text).unwrap();
            assert_eq!((arg.what.as_str(), arg.with.as_deref(), &*arg.name()), (what, with, name), "{text}");
        };
        check("grep", "grep", None, "grep");
        check(r#"grep:{"include":"a:{b"}"#, "grep", Some(r#"{"include":"a:{b"}"#), "grep");
        check("./x/my-filter.wasm", "./x/my-filter.wasm", None, "my-filter");
        check("C:/odd.wasm:{}", "C:/odd.wasm", Some("{}"), "odd");
        check("a:b.wasm", "a:b.wasm", None, "a:b");
    }

    #[test]
    fn what_is_wrong_with_an_argument_is_said() {
        let check = |text: &str, expected: &str| {
            let error = FilterArg::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("", "expected NAME");
        check(":{}", "expected NAME");
        check("grep:include=x", "expected a JSON object");
        check("grep:{include:1}", "not a JSON object");
        check("grep:{} trailing", "not a JSON object");
    }

    #[test]
    fn a_stock_filter_is_found_in_the_first_directory_that_has_it() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let paths = [PathBuf::from("/does/not/exist"), dirs[0].path().into(), dirs[1].path().into()];
        std::fs::write(dirs[1].path().join("grep.wasm"), "second").unwrap();
        let module = |name: &str| FilterArg::parse(name).unwrap().module(&paths);
        assert_eq!(&*module("grep").unwrap().bytes, b"second");
        std::fs::write(dirs[0].path().join("grep.wasm"), "first").unwrap();
        assert_eq!(&*module("grep").unwrap().bytes, b"first");
        let error = module("grpe").unwrap_err();
        assert_eq!(error, "there is no stock filter grpe; there are grep (a file of your own ends in .wasm)");
        let error = module("./none.wasm").unwrap_err();
        assert!(error.starts_with("while reading ./none.wasm: "), "{error}");
        let error = FilterArg::parse("grep").unwrap().module(&paths[..1]).unwrap_err();
        assert!(error.contains("make build") && error.contains(VARIABLE), "{error}");
    }
}

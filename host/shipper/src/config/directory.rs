//! The entries directory and the modules directory, as they are now.
//!
//! A look takes what is there; hints from inotify only say when to look. Editors' temporary files are not entries. A file
//! that did not change since the last look is not read again. A directory that cannot be read gives nothing rather than
//! an empty list, so that what it gave before stays in force.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tailmill_engine::Digest;

use super::build::FoundEntry;
use super::entry::is_name;
use super::modules::Modules;
use super::settings::Settings;
use crate::model::{ModuleFile, Origin, Problem};

/// As etcd: nobody writes an entry of a megabyte and a half.
const ENTRY_BYTES_MAX: u64 = 3 << 19;
/// Python filters have some 20 MB.
const MODULE_BYTES_MAX: u64 = 128 << 20;

/// What tells a changed file from an unchanged one. The change time moves even when a copy keeps the other times.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Looks into one directory and remembers the files.
struct Shelf<T> {
    dir: PathBuf,
    bytes_max: u64,
    files: BTreeMap<String, (Stamp, T)>,
}

/// What a look came to: the files by name without extension, or why the directory could not be read.
type Look<T> = Result<BTreeMap<String, T>, String>;

impl<T: Clone> Shelf<T> {
    fn new(dir: &Path, bytes_max: u64) -> Shelf<T> {
        Shelf { dir: dir.to_owned(), bytes_max, files: BTreeMap::new() }
    }

    fn look(&mut self, extension: &str, make: impl Fn(&Path, Result<Vec<u8>, String>) -> T) -> Look<T> {
        let listed = std::fs::read_dir(&self.dir).map_err(|error| error.to_string())?;
        let mut files = BTreeMap::new();
        for item in listed {
            let item = item.map_err(|error| error.to_string())?;
            let Some(name) = item.file_name().to_str().and_then(|name| own_name(name, extension)) else { continue };
            let path = item.path();
            let metadata = match std::fs::metadata(&path) {
                // Gone between the list and the look, or a link to nothing: not there.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other,
            };
            let stamp = metadata.as_ref().ok().map(Stamp::of);
            let known = self.files.remove(&name).filter(|(old, _)| Some(*old) == stamp);
            let made = match (known, metadata) {
                (Some((_, made)), _) => made,
                (None, Ok(metadata)) => make(&path, read(&path, &metadata, self.bytes_max)),
                (None, Err(error)) => make(&path, Err(error.to_string())),
            };
            // Without a stamp (a file that cannot be looked at) the next look tries again.
            let none = Stamp { inode: 0, size: 0, modified_ns: (0, 0), changed_ns: (0, 0) };
            files.insert(name, (stamp.unwrap_or(none), made));
        }
        self.files = files;
        Ok(self.files.iter().map(|(name, (_, made))| (name.clone(), made.clone())).collect())
    }
}

/// `app` of `app.json`; nothing for hidden files and those that editors leave about.
fn own_name(file: &str, extension: &str) -> Option<String> {
    let name = file.strip_suffix(extension)?.strip_suffix('.')?;
    (!name.is_empty() && !file.starts_with(['.', '#', '~'])).then(|| name.to_owned())
}

fn read(path: &Path, metadata: &Metadata, bytes_max: u64) -> Result<Vec<u8>, String> {
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| format!("while opening it: {error}"))?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| format!("while reading it: {error}"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("has more than {bytes_max} bytes"));
    }
    Ok(bytes)
}

/// Both directories of the settings.
pub(super) struct Directories {
    entries: Option<Shelf<Result<Arc<[u8]>, String>>>,
    modules: Option<Shelf<Result<Arc<ModuleFile>, String>>>,
    /// What the modules directory gave last, for when it cannot be read.
    last_modules: Modules,
}

/// What one look at both found.
pub(super) struct Looked {
    /// None: cannot be read now.
    pub(super) files: Option<Vec<FoundEntry>>,
    pub(super) modules: Modules,
    pub(super) problems: Vec<Problem>,
}

impl Directories {
    pub(super) fn new(settings: &Settings) -> Directories {
        let modules = settings.modules.dir.as_deref();
        Directories {
            entries: settings.entries.dir.as_deref().map(|dir| Shelf::new(dir, ENTRY_BYTES_MAX)),
            modules: modules.map(|dir| Shelf::new(dir, MODULE_BYTES_MAX)),
            last_modules: Modules::new(modules.map(|dir| dir.display().to_string())),
        }
    }

    pub(super) fn look(&mut self) -> Looked {
        let mut problems = Vec::new();
        let mut problem = |path: &Path, key: &str, reason: &str| {
            problems.push(Problem {
                source: path.display().to_string(),
                key: key.to_owned(),
                reason: reason.to_owned(),
            });
        };
        let mut files = Some(Vec::new());
        if let Some(shelf) = &mut self.entries {
            let dir = shelf.dir.clone();
            match shelf.look("json", |_, bytes| bytes.map(Arc::from)) {
                Ok(found) => files = Some(entries(&dir, found, &mut problem)),
                Err(reason) => {
                    problem(&dir, "", &format!("while listing the entries directory (entries.dir): {reason}"));
                    files = None;
                }
            }
        }
        if let Some(shelf) = &mut self.modules {
            let dir = shelf.dir.clone();
            match shelf.look("wasm", module) {
                Ok(found) => {
                    self.last_modules = Modules::new(Some(dir.display().to_string()));
                    for (name, module) in found {
                        let path = dir.join(format!("{name}.wasm"));
                        if let Some(reason) = bad_module_name(&name) {
                            problem(&path, "", &reason);
                        } else if let Err(reason) = &module {
                            problem(&path, "", reason);
                        }
                        self.last_modules.add(&name, module.map_err(|reason| format!("{}: {reason}", path.display())));
                    }
                }
                Err(reason) => {
                    problem(&dir, "", &format!("while listing the modules directory (modules.dir): {reason}"))
                }
            }
        }
        Looked { files, modules: self.last_modules.clone(), problems }
    }
}

/// A file that cannot be read is an entry all the same: with no text it stays in its last good form.
fn entries(
    dir: &Path,
    found: BTreeMap<String, Result<Arc<[u8]>, String>>,
    problem: &mut impl FnMut(&Path, &str, &str),
) -> Vec<FoundEntry> {
    let entry = |(name, json): (String, Result<Arc<[u8]>, String>)| {
        let path = dir.join(format!("{name}.json"));
        let json = json.unwrap_or_else(|reason| {
            problem(&path, "", &reason);
            Arc::from([])
        });
        FoundEntry { origin: Origin::File(path), name, json }
    };
    found.into_iter().map(entry).collect()
}

fn module(path: &Path, bytes: Result<Vec<u8>, String>) -> Result<Arc<ModuleFile>, String> {
    let bytes = bytes?;
    if !bytes.starts_with(b"\0asm") {
        return Err("is not WebAssembly: it does not begin with \\0asm".to_owned());
    }
    let digest = Digest::of(&bytes);
    Ok(Arc::new(ModuleFile { digest, source: path.display().to_string(), bytes: bytes.into() }))
}

fn bad_module_name(name: &str) -> Option<String> {
    let (bare, version) = name.split_once('@').map_or((name, None), |(bare, version)| (bare, Some(version)));
    (!is_name(bare) || version.is_some_and(|version| !is_name(version)))
        .then(|| format!("`{name}` cannot be a module's name: write NAME.wasm or NAME@VERSION.wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_files_that_people_meant_are_entries() {
        for (file, name) in [
            ("app.json", Some("app")),
            ("web.v2.json", Some("web.v2")),
            (".app.json", None),
            (".json", None),
            ("#app.json", None),
            ("app.json~", None),
            ("app.json.swp", None),
            ("app.jsonx", None),
            ("appjson", None),
        ] {
            assert_eq!(own_name(file, "json").as_deref(), name, "{file}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_read_gives_nothing_rather_than_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf: Shelf<usize> = Shelf::new(&dir.path().join("gone"), 10);
        assert!(shelf.look("json", |_, bytes| bytes.unwrap().len()).is_err());
    }

    #[test]
    fn a_file_is_read_again_only_when_it_changed_and_never_beyond_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let reads = std::cell::Cell::new(0);
        let mut shelf: Shelf<Result<usize, String>> = Shelf::new(dir.path(), 10);
        let mut look = || {
            shelf.look("json", |_, bytes| {
                reads.set(reads.get() + 1);
                bytes.map(|bytes| bytes.len())
            })
        };
        std::fs::write(dir.path().join("a.json"), "12345").unwrap();
        assert_eq!(look().unwrap()["a"], Ok(5));
        assert_eq!(look().unwrap()["a"], Ok(5));
        assert_eq!(reads.get(), 1);
        // Replaced as editors do it: same size, another file.
        std::fs::write(dir.path().join("new"), "54321").unwrap();
        std::fs::rename(dir.path().join("new"), dir.path().join("a.json")).unwrap();
        look().unwrap();
        assert_eq!(reads.get(), 2);
        std::fs::write(dir.path().join("a.json"), "12345678901").unwrap();
        assert_eq!(look().unwrap()["a"], Err("has more than 10 bytes".to_owned()));
        std::fs::create_dir(dir.path().join("d.json")).unwrap();
        assert_eq!(look().unwrap()["d"], Err("is not a regular file".to_owned()));
    }
}

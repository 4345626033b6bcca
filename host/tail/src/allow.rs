//! Which files may be read, and how one is opened.
//!
//! In: globs that whoever owns the machine wrote, and a path that somebody else may have written. Out: an open file, or
//! the reason why not. It never blocks (FIFO), never opens what has side effects (devices), and never hands out a file
//! that really lies outside, whatever links lead to it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use globset::{GlobSet, GlobSetBuilder};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::paths::{PatternError, compile, plain_globs};

/// Globs of real paths that may be read. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct AllowPaths {
    /// None: everything.
    globs: Option<GlobSet>,
}

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenProblem {
    /// Nothing is there.
    #[error("there is no such file")]
    NotFound,
    /// A link whose target is missing.
    #[error("it is a link to something that does not exist")]
    DanglingLink,
    /// The agent's user may not read it.
    #[error("permission denied: let the agent's user read it")]
    Permission,
    /// A directory where a file was expected.
    #[error("it is a directory, not a file: name the files in it, as in `/*.log`")]
    Directory,
    /// A FIFO, a socket or a device.
    #[error("it is not a regular file (a FIFO, a socket or a device)")]
    NotRegular,
    /// It really lies where this agent must not read.
    #[error("it is really {}, which is outside the allowed paths", real.display())]
    Outside {
        /// Its path with all links resolved.
        real: PathBuf,
    },
    /// Gzip or zstd, and the entry does not say that it means such files.
    #[error("it looks compressed: set \"compressed\": true, or exclude it")]
    Compressed,
    /// Anything else.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl OpenProblem {
    /// Whether both are the same kind of problem.
    pub fn same_kind(&self, other: &OpenProblem) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// The same problem once more, to be kept and to be told.
    pub fn again(&self) -> OpenProblem {
        match self {
            OpenProblem::NotFound => OpenProblem::NotFound,
            OpenProblem::DanglingLink => OpenProblem::DanglingLink,
            OpenProblem::Permission => OpenProblem::Permission,
            OpenProblem::Directory => OpenProblem::Directory,
            OpenProblem::NotRegular => OpenProblem::NotRegular,
            OpenProblem::Compressed => OpenProblem::Compressed,
            OpenProblem::Outside { real } => OpenProblem::Outside { real: real.clone() },
            OpenProblem::Io(error) => OpenProblem::Io(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::other(error.to_string()),
            }),
        }
    }
}

impl AllowPaths {
    /// Absolute globs, matched against real paths (links resolved). None at all: everything is allowed.
    pub fn new(globs: &[String]) -> Result<Self, Vec<PatternError>> {
        if globs.is_empty() {
            return Ok(Self::all());
        }
        let mut set = GlobSetBuilder::new();
        let mut errors = Vec::new();
        for pattern in globs {
            let compiled = plain_globs(pattern).and_then(|plain| plain.iter().map(|p| compile(p)).collect());
            match compiled {
                Ok(compiled) => {
                    let compiled: Vec<_> = compiled;
                    for glob in compiled {
                        set.add(glob);
                    }
                }
                Err(reason) => errors.push(PatternError { pattern: pattern.clone(), reason }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        match set.build() {
            Ok(set) => Ok(AllowPaths { globs: Some(set) }),
            Err(error) => Err(vec![PatternError { pattern: globs.join(", "), reason: error.to_string() }]),
        }
    }

    /// Everything is allowed.
    pub fn all() -> Self {
        AllowPaths { globs: None }
    }

    /// Whether a file whose real path is `real` may be read.
    pub fn allows(&self, real: &Path) -> bool {
        self.globs.as_ref().is_none_or(|globs| globs.is_match(real))
    }

    /// Opens for reading. First as a mere handle (`O_PATH`: no side effect, no blocking), on which kind and real path
    /// are checked; then that very file, by its handle, for reading: what was checked is what is opened.
    pub fn open(&self, path: &Path) -> Result<File, OpenProblem> {
        let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| why_not(error, path))?;
        let handle = File::from(handle);
        let metadata = handle.metadata().map_err(OpenProblem::Io)?;
        if metadata.is_dir() {
            return Err(OpenProblem::Directory);
        }
        if !metadata.is_file() {
            return Err(OpenProblem::NotRegular);
        }
        let by_handle = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
        let real = std::fs::read_link(&by_handle).map_err(OpenProblem::Io)?;
        if std::os::unix::fs::MetadataExt::nlink(&metadata) == 0 {
            return Err(OpenProblem::NotFound); // deleted in between; its path is no path any more
        }
        if !self.allows(&real) {
            return Err(OpenProblem::Outside { real });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(by_handle, flags, Mode::empty()).map_err(|error| why_not(error, path))?;
        Ok(File::from(file))
    }
}

/// What an error of `open` means for people.
fn why_not(error: Errno, path: &Path) -> OpenProblem {
    match error {
        Errno::NOENT | Errno::NOTDIR => match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => OpenProblem::DanglingLink,
            _ => OpenProblem::NotFound,
        },
        Errno::LOOP => OpenProblem::DanglingLink,
        Errno::ACCESS | Errno::PERM => OpenProblem::Permission,
        other => OpenProblem::Io(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn allow(dir: &Path, globs: &[&str]) -> AllowPaths {
        let globs: Vec<String> = globs.iter().map(|glob| format!("{}/{glob}", dir.display())).collect();
        AllowPaths::new(&globs).unwrap()
    }

    #[test]
    fn only_what_really_lies_inside_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        // The real path: a temporary directory may itself be reached through a link.
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("in/sub")).unwrap();
        for file in ["secret", "in/a", "in/sub/b"] {
            std::fs::write(dir.join(file), "").unwrap();
        }
        symlink("../secret", dir.join("in/out")).unwrap();
        symlink("sub/b", dir.join("in/inside")).unwrap();
        symlink("in/a", dir.join("to-inside")).unwrap();
        symlink("..", dir.join("in/up")).unwrap();
        let allow = allow(&dir, &["in/**"]);
        for (path, opens) in [
            ("in/a", true),
            ("in/sub/b", true),
            ("in/inside", true),
            ("to-inside", true),
            ("in/up/in/a", true),
            ("secret", false),
            ("in/out", false),
            ("in/up/secret", false),
            ("in/../secret", false),
        ] {
            match allow.open(&dir.join(path)) {
                Ok(_) => assert!(opens, "{path} was opened"),
                Err(OpenProblem::Outside { real }) => {
                    assert!(!opens, "{path} was refused");
                    assert_eq!(real, dir.join("secret"));
                }
                Err(other) => panic!("{path}: {other}"),
            }
        }
        assert!(AllowPaths::all().open(&dir.join("secret")).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("fifo", at("to-fifo")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let all = AllowPaths::all();
        for (name, expected) in [
            ("fifo", OpenProblem::NotRegular),
            ("to-fifo", OpenProblem::NotRegular),
            ("socket", OpenProblem::NotRegular),
            ("", OpenProblem::Directory),
            ("dangling", OpenProblem::DanglingLink),
            ("circle", OpenProblem::DanglingLink),
            ("missing", OpenProblem::NotFound),
            ("file/below", OpenProblem::NotFound),
        ] {
            let problem = all.open(&at(name)).map(|_| ()).unwrap_err();
            assert!(problem.same_kind(&expected), "{name}: {problem:?}");
        }
        assert!(matches!(all.open(Path::new("/dev/null")), Err(OpenProblem::NotRegular)));
    }

    #[test]
    fn a_file_without_permission_is_refused_unless_one_is_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        let opened = AllowPaths::all().open(&path);
        // Root may read everything: then there is no such problem to be had.
        match rustix::process::geteuid().is_root() {
            true => assert!(opened.is_ok()),
            false => assert!(matches!(opened, Err(OpenProblem::Permission))),
        }
    }

    #[test]
    fn every_bad_glob_is_reported() {
        let errors = AllowPaths::new(&["relative".to_owned(), "/ok/**".to_owned(), "/[".to_owned()]).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
    }
}

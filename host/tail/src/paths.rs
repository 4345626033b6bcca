//! Which paths an entry means: include and exclude globs.
//!
//! In: globs as an entry writes them. Out: whether a path is meant, and the directories where a scan has to look. Paths
//! are bytes: nothing here assumes UTF-8. This file never touches the disk.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

/// One pattern with braces stands for at most so many.
const BRACES_MAX: usize = 1024;

/// A glob that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("glob `{pattern}`: {reason}")]
pub struct PatternError {
    /// The glob as written.
    pub pattern: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// Include and exclude globs, compiled. Two are equal when they were written the same.
#[derive(Clone, Debug)]
pub struct PathPatterns {
    written: (Vec<String>, Vec<String>),
    include: GlobSet,
    exclude_paths: GlobSet,
    exclude_names: GlobSet,
    roots: Vec<Root>,
}

/// Where a scan begins, and what it looks at below.
#[derive(Clone, Debug)]
pub struct Root {
    dir: PathBuf,
    steps: Vec<Step>,
}

/// One component of a glob, below the root.
#[derive(Clone, Debug)]
pub enum Step {
    /// Exactly this name: no need to list the directory.
    Name(PathBuf),
    /// Names that match.
    Glob(GlobMatcher),
    /// `**`: any number of directories.
    AnyDepth,
}

impl Step {
    /// Whether a directory entry called `name` is meant by this component.
    pub fn takes(&self, name: &OsStr) -> bool {
        match self {
            Step::Name(own) => own.as_os_str() == name,
            Step::Glob(glob) => glob.is_match(name),
            Step::AnyDepth => true,
        }
    }
}

impl Root {
    /// The directory named by the literal components in front; absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The components below it; the last one is the file's. Never empty.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl PartialEq for PathPatterns {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for PathPatterns {}

impl PathPatterns {
    /// `include`: absolute globs (`*`, `?`, `[..]`, `{a,b}`, `**`; a backslash takes the next character as it is).
    /// `exclude`: globs on the whole path, or on the file name when they hold no `/`. Returns every error at once.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, Vec<PatternError>> {
        let mut errors = Vec::new();
        let mut roots = Vec::new();
        let mut globs = [GlobSetBuilder::new(), GlobSetBuilder::new(), GlobSetBuilder::new()];
        for pattern in include {
            match plain_globs(pattern).and_then(|plain| plain.iter().map(|p| root(p)).collect::<Result<Vec<_>, _>>()) {
                Ok(found) => {
                    for (glob, root) in found {
                        globs[0].add(glob);
                        roots.push(root);
                    }
                }
                Err(reason) => errors.push(PatternError { pattern: pattern.clone(), reason }),
            }
        }
        for pattern in exclude {
            match exclude_glob(pattern) {
                Ok((place, glob)) => drop(globs[place].add(glob)),
                Err(reason) => errors.push(PatternError { pattern: pattern.clone(), reason }),
            }
        }
        let mut sets = Vec::new();
        for builder in &globs {
            match builder.build() {
                Ok(set) => sets.push(set),
                Err(error) => errors.push(PatternError {
                    pattern: error.glob().unwrap_or_default().to_owned(),
                    reason: error.kind().to_string(),
                }),
            }
        }
        match <[GlobSet; 3]>::try_from(sets) {
            Ok([include_set, exclude_paths, exclude_names]) if errors.is_empty() => Ok(PathPatterns {
                written: (include.to_vec(), exclude.to_vec()),
                include: include_set,
                exclude_paths,
                exclude_names,
                roots,
            }),
            _ => Err(errors),
        }
    }

    /// Whether `path` is meant.
    pub fn matches(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.excludes(path)
    }

    /// Where a scan has to look, one for each glob (braces written out).
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Whether `path` was written out, without a wildcard: then what stands in its place is worth a word.
    pub(crate) fn is_literal(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| match root.steps.as_slice() {
            [Step::Name(name)] => path.parent() == Some(root.dir()) && path.file_name() == Some(name.as_os_str()),
            _ => false,
        })
    }

    fn excludes(&self, path: &Path) -> bool {
        self.exclude_paths.is_match(path) || path.file_name().is_some_and(|name| self.exclude_names.is_match(name))
    }
}

/// Compiles one glob the way all globs here are meant: `*` and `?` stop at `/`.
pub(crate) fn compile(pattern: &str) -> Result<Glob, String> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| error.kind().to_string())
}

/// Braces written out, `//` and `/./` tidied. An error when it is not an absolute glob of a file.
pub(crate) fn plain_globs(pattern: &str) -> Result<Vec<String>, String> {
    if pattern.contains('\0') {
        return Err("a path cannot hold a NUL".to_owned());
    }
    let mut written_out = Vec::new();
    for plain in expand_braces(pattern)? {
        if !plain.starts_with('/') {
            return Err("must be absolute: begin it with `/`".to_owned());
        }
        let parts: Vec<&str> = plain.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err("`..` is not allowed: write the path it leads to".to_owned());
        }
        if parts.is_empty() || plain.ends_with('/') {
            return Err("names a directory: add the files, as in `/*.log`".to_owned());
        }
        written_out.push(format!("/{}", parts.join("/")));
    }
    Ok(written_out)
}

/// A brace-free glob to its matcher and the place where a scan begins.
fn root(plain: &str) -> Result<(Glob, Root), String> {
    let whole = compile(plain)?;
    let mut dir = PathBuf::from("/");
    let mut steps = Vec::new();
    let parts: Vec<&str> = plain.split('/').filter(|part| !part.is_empty()).collect();
    for (i, part) in parts.iter().enumerate() {
        let literal = !part.contains(['*', '?', '[', ']', '{', '}', '\\']);
        if literal && steps.is_empty() && i + 1 < parts.len() {
            dir.push(part);
        } else if literal {
            steps.push(Step::Name(PathBuf::from(part)));
        } else if *part == "**" {
            steps.push(Step::AnyDepth);
        } else {
            steps.push(Step::Glob(compile(part)?.compile_matcher()));
        }
    }
    if matches!(steps.last(), Some(Step::AnyDepth)) {
        // `/var/log/**` means the files at any depth: the last component is a name again.
        steps.push(Step::Glob(compile("*")?.compile_matcher()));
    }
    Ok((whole, Root { dir, steps }))
}

/// Which set an exclude belongs to (1: whole paths, 2: names), and its glob.
fn exclude_glob(pattern: &str) -> Result<(usize, Glob), String> {
    if pattern.is_empty() {
        return Err("is empty".to_owned());
    }
    if !pattern.contains('/') {
        return Ok((2, compile(pattern)?));
    }
    if !pattern.starts_with('/') && !pattern.starts_with("**/") {
        return Err("with a `/` in it, it is matched against the whole path: begin it with `/` or `**/`".to_owned());
    }
    Ok((1, compile(pattern)?))
}

/// `a{b,c}d` to `abd` and `acd`; nested ones too. Braces inside `[..]` and behind a backslash are ordinary.
fn expand_braces(pattern: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut waiting = vec![pattern.to_owned()];
    while let Some(next) = waiting.pop() {
        match first_brace(&next)? {
            None => done.push(next),
            Some((open, close, commas)) => {
                let mut from = open + 1;
                for to in commas.into_iter().chain([close]) {
                    waiting.push(format!("{}{}{}", &next[..open], &next[from..to], &next[close + 1..]));
                    from = to + 1;
                }
            }
        }
        if done.len() + waiting.len() > BRACES_MAX {
            return Err(format!("its braces stand for more than {BRACES_MAX} patterns"));
        }
    }
    done.reverse();
    Ok(done)
}

/// The first outermost `{..}`: where it opens, where it closes, and its commas.
#[allow(clippy::type_complexity, reason = "three positions, used once")]
fn first_brace(pattern: &str) -> Result<Option<(usize, usize, Vec<usize>)>, String> {
    let bytes = pattern.as_bytes();
    let (mut depth, mut open, mut commas) = (0_usize, 0, Vec::new());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1,
            b'[' => i = class_end(bytes, i).ok_or("`[` is never closed: add `]`, or write `\\[`")?,
            b'{' => {
                if depth == 0 {
                    open = i;
                }
                depth += 1;
            }
            b',' if depth == 1 => commas.push(i),
            b'}' if depth == 1 => return Ok(Some((open, i, commas))),
            b'}' if depth == 0 => return Err("`}` was never opened: write `\\}` for the character".to_owned()),
            b'}' => depth -= 1,
            _ => {}
        }
        i += 1;
    }
    if depth > 0 {
        return Err("`{` is never closed: add `}`, or write `\\{`".to_owned());
    }
    Ok(None)
}

/// Index of the `]` that closes the class opened at `open`. Directly behind `[`, `[!` or `[^` a `]` is ordinary.
fn class_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut i = open + 1;
    if matches!(bytes.get(i), Some(b'!' | b'^')) {
        i += 1;
    }
    if bytes.get(i) == Some(&b']') {
        i += 1;
    }
    bytes[i.min(bytes.len())..].iter().position(|&byte| byte == b']').map(|at| i + at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn patterns(include: &[&str], exclude: &[&str]) -> Result<PathPatterns, Vec<PatternError>> {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        PathPatterns::new(&owned(include), &owned(exclude))
    }

    fn check(pattern: &str, matching: &[&[u8]], others: &[&[u8]]) {
        let patterns = patterns(&[pattern], &[]).unwrap();
        let is_match = |path: &&&[u8]| patterns.matches(Path::new(OsStr::from_bytes(path)));
        assert!(matching.iter().all(|path| is_match(&path)), "{pattern} should match {matching:?}");
        assert!(!others.iter().any(|path| is_match(&path)), "{pattern} should match none of {others:?}");
    }

    #[test]
    fn globs_mean_what_a_shell_user_expects() {
        check("/var/log/a.log", &[b"/var/log/a.log"], &[b"/var/log/a_log", b"/var/log/b.log", b"/var/log"]);
        check("/v/*.log", &[b"/v/a.log", b"/v/.log", b"/v/\xff.log", b"/v/a b\n.log"], &[b"/v/x/a.log", b"/v/a.logs"]);
        check("/v/?.log", &[b"/v/a.log", b"/v/\xff.log"], &[b"/v/ab.log", b"/v//.log"]);
        check("/v/[a-c].log", &[b"/v/b.log"], &[b"/v/d.log", b"/v/[.log"]);
        check("/v/[!a].log", &[b"/v/b.log"], &[b"/v/a.log"]);
        check("/v/**/a", &[b"/v/a", b"/v/x/a", b"/v/x/y/a"], &[b"/v/xa", b"/w/a"]);
        check("/v/**", &[b"/v/a", b"/v/x/y"], &[b"/w"]);
        check("/{a,b/c}/x{1,2{3,4}}", &[b"/a/x1", b"/b/c/x23", b"/a/x24"], &[b"/a/x2", b"/c/x1"]);
        check("/v/\\*.log", &[b"/v/*.log"], &[b"/v/a.log"]);
        check("/v/a[,]{b,c}", &[b"/v/a,b"], &[b"/v/a,"]);
        check("/v//./w/a", &[b"/v/w/a"], &[]);
    }

    #[test]
    fn excludes_without_a_slash_are_on_the_name_and_others_on_the_whole_path() {
        let patterns = patterns(&["/v/**/*"], &["*.gz", "/v/skip/*", "**/tmp/**"]).unwrap();
        for (path, meant) in [
            ("/v/a", true),
            ("/v/x.gz", false),
            ("/v/x.gz/a", true),
            ("/v/skip/a", false),
            ("/v/skip/b/a", true),
            ("/v/b/tmp/a", false),
        ] {
            assert_eq!(patterns.matches(Path::new(path)), meant, "{path}");
        }
    }

    #[test]
    fn every_bad_glob_is_reported_with_its_reason_and_all_at_once() {
        let include = ["relative/*.log", "/v/[a", "/v/{a", "/v/a}", "/v/../a", "/v/", "/", "/v/[z-a]"];
        let errors = patterns(&include, &["rel/x", "", "[b"]).unwrap_err();
        let named: Vec<&str> = errors.iter().map(|error| error.pattern.as_str()).collect();
        assert_eq!(named, [&include[..], &["rel/x", "", "[b"]].concat());
        assert!(errors.iter().all(|error| error.reason.len() > 5), "{errors:?}");
        assert_eq!(errors[0].to_string(), "glob `relative/*.log`: must be absolute: begin it with `/`");
        let bomb = "/{a,b}".repeat(20);
        assert!(patterns(&[&bomb], &[]).unwrap_err()[0].reason.contains("1024"));
    }

    #[test]
    fn a_scan_begins_at_the_literal_directories_in_front() {
        for (pattern, roots) in [
            ("/var/log/*.log", vec!["/var/log"]),
            ("/var/*/x.log", vec!["/var"]),
            ("/*", vec!["/"]),
            ("/{a,b/c}/x", vec!["/a", "/b/c"]),
            ("/a/**/b/c.log", vec!["/a"]),
        ] {
            let patterns = patterns(&[pattern], &[]).unwrap();
            let dirs: Vec<_> = patterns.roots().iter().map(|root| root.dir().to_str().unwrap()).collect();
            assert_eq!(dirs, roots, "{pattern}");
        }
    }

    #[test]
    fn patterns_are_equal_when_they_were_written_the_same() {
        assert_eq!(patterns(&["/a"], &["b"]).unwrap(), patterns(&["/a"], &["b"]).unwrap());
        assert_ne!(patterns(&["/a"], &["b"]).unwrap(), patterns(&["/a"], &[]).unwrap());
    }
}

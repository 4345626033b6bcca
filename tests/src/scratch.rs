//! Directories and processes of one test process. Whatever ends it (a panic, ctrl-c, kill -9), a small shell that
//! waits on a pipe notices, kills what is left and removes the files.
//!
//! `TAILMILL_KEEP=1` keeps the files, to look at after a failure.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// `$1` is the directory. Lines on stdin: `+PID` a child was started, `-PID` it has been waited for.
const REAPER: &str = r#"
pids=" "
while read -r line; do
    pid=${line#?}
    case $line in
        +*) pids="$pids$pid " ;;
        -*) case $pids in *" $pid "*) pids="${pids%% $pid *} ${pids#* $pid }" ;; esac ;;
    esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
[ -n "$TAILMILL_KEEP" ] || until rm -rf "$1" 2>/dev/null || [ ! -e "$1" ]; do sleep 0.1; done
"#;

struct Reaper {
    root: PathBuf,
    pipe: Mutex<ChildStdin>,
    /// Ends after us: nobody waits for it.
    _shell: Child,
}

fn reaper() -> &'static Reaper {
    static REAPER_OF_THIS_PROCESS: OnceLock<Reaper> = OnceLock::new();
    REAPER_OF_THIS_PROCESS.get_or_init(|| {
        let root = target_dir().join("tmp").join(format!("tailmill-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("the scratch directory can be made");
        let root = root.canonicalize().expect("the scratch directory is there");
        let mut shell = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(&root)
            // Its own group: ctrl-c on the terminal ends the test, not its reaper.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh can be started");
        let pipe = Mutex::new(shell.stdin.take().expect("stdin is piped"));
        Reaper { root, pipe, _shell: shell }
    })
}

pub(crate) fn born(pid: u32) {
    tell('+', pid);
}

pub(crate) fn buried(pid: u32) {
    tell('-', pid);
}

fn tell(sign: char, pid: u32) {
    let mut pipe = reaper().pipe.lock().unwrap_or_else(|broken| broken.into_inner());
    writeln!(pipe, "{sign}{pid}").expect("the reaper lives as long as we do");
}

/// A directory of its own, removed when it is dropped.
pub fn dir(name: &str) -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{name}-");
    builder.prefix(&prefix).disable_cleanup(std::env::var_os("TAILMILL_KEEP").is_some());
    builder.tempdir_in(&reaper().root).expect("a scratch directory can be made")
}

/// Cargo's target directory, found from this program's own place in it.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("this program has a path");
    let profile = exe.ancestors().find(|dir| dir.ends_with("release") || dir.ends_with("debug"));
    profile.and_then(Path::parent).map_or_else(std::env::temp_dir, Path::to_path_buf)
}

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// What `scripts/SCRIPT` fetches: it does so if need be, and prints where it is.
pub(crate) fn fetched(script: &str) -> PathBuf {
    let output = Command::new(repository().join("scripts").join(script)).output().expect("bash can be started");
    assert!(output.status.success(), "scripts/{script}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// A free TCP port that no outgoing connection will take: below the kernel's usual ephemeral range. A server can be
/// stopped and started on it.
pub fn port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(|broken| broken.into_inner());
    let mut candidate = std::process::id().wrapping_mul(7919).wrapping_add(nanos());
    loop {
        candidate = candidate.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = 15_000 + ((candidate >> 8) % 17_000) as u16;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
}

fn nanos() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos())
}

/// A seed for random choices: `TAILMILL_SEED`, or another one each time. Print it in every failure.
pub fn seed() -> u64 {
    match std::env::var("TAILMILL_SEED") {
        Ok(text) => text.parse().expect("TAILMILL_SEED is a number"),
        Err(_) => u64::from(nanos()),
    }
}

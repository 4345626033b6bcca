//! A program that writes its log all the time, and does what a rotating tool's scripts ask of it, by files in
//! a directory: `pause` (it says `paused` when it writes no more, and waits until `pause` is gone) and `reopen` (it opens
//! its log anew and removes the file).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::logfile::LogFile;
use crate::wait;

/// Between two pieces: tools take their time on a busy machine, and what they let pile up must stay bearable.
const PACE: Duration = Duration::from_millis(1);
/// No multiple of anything.
const LINES: u64 = 7;

/// The writing program.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<LogFile>,
    end: Sender<()>,
    asked: PathBuf,
    written: Arc<AtomicU64>,
}

impl Writer {
    /// Writes from now on. `asked` is the directory for what it is asked to do.
    pub fn start(mut file: LogFile, asked: &Path) -> Writer {
        std::fs::create_dir_all(asked).expect("a directory can be made");
        let (end, ended) = mpsc::channel();
        let (dir, written) = (asked.to_owned(), Arc::new(AtomicU64::new(0)));
        let count = written.clone();
        let thread = std::thread::spawn(move || {
            while ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                obey(&mut file, &dir);
                file.write(LINES);
                count.store(file.numbers().end, Ordering::SeqCst);
            }
            file
        });
        Writer { thread, end, asked: asked.to_owned(), written }
    }

    /// Asks it to open its log anew, as a signal would; returns when it has.
    pub fn reopen(&self) {
        let ask = self.asked.join("reopen");
        std::fs::write(&ask, "").expect("a small file can be written");
        wait::until("the log is opened anew", String::new, || (!ask.exists()).then_some(()));
    }

    /// Number of the next line at some moment just now: it is written into the file that is the log now, or a later one.
    pub fn next_line(&self) -> u64 {
        // One piece may be under way.
        self.written.load(Ordering::SeqCst) + LINES
    }

    /// So many lines were written at some moment just now, at least.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Writes no more.
    pub fn end(self) -> LogFile {
        self.end.send(()).expect("it writes until it is told");
        self.thread.join().expect("it writes until it is told")
    }

    /// A shell command that lets it pause; ends when it does.
    pub fn script_pause(asked: &Path) -> String {
        script(asked, "touch pause", "[ -e paused ]")
    }

    /// A shell command that lets it go on.
    pub fn script_go_on(asked: &Path) -> String {
        script(asked, "rm paused pause", "[ ! -e pause ]")
    }

    /// A shell command that lets it open its log anew; ends when it has.
    pub fn script_reopen(asked: &Path) -> String {
        script(asked, "touch reopen", "[ ! -e reopen ]")
    }
}

/// Asks, and polls: not for ever, should the writer be gone.
fn script(asked: &Path, ask: &str, done: &str) -> String {
    format!(
        "cd '{}' && {ask} && i=0 && until {done}; do i=$((i + 1)); [ $i -lt 12000 ] || exit 1; sleep 0.01; done",
        asked.display()
    )
}

fn obey(file: &mut LogFile, asked: &Path) {
    let [pause, paused, reopen] = ["pause", "paused", "reopen"].map(|name| asked.join(name));
    if pause.exists() {
        std::fs::write(paused, "").expect("a small file can be written");
        wait::until("it may go on", String::new, || (!pause.exists()).then_some(()));
    }
    if reopen.exists() {
        file.reopen();
        std::fs::remove_file(reopen).expect("only we remove it");
    }
}

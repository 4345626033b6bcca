//! One child process: started with its output in a file, stopped by pid, never left behind.

use rustix::process::{Pid, Signal};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::{scratch, wait};

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with stdin closed; stdout and stderr are added to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Process {
        let out = File::options().create(true).append(true).open(log).expect("the log can be opened");
        let err = out.try_clone().expect("a file descriptor can be copied");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("while starting {name}: {error}"));
        scratch::born(child.id());
        Process { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. It is an error of the test if the process has been waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("while signalling {}: {error}", self.name));
    }

    /// Its status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> ExitStatus {
        let status = wait::within(wait::PATIENCE, || self.ended());
        status.unwrap_or_else(|| panic!("{} does not end\n{}", self.name, last_lines(&self.log, 40)))
    }

    /// SIGTERM, then waits.
    pub fn terminate(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGKILL, then waits.
    pub fn kill(mut self) {
        self.end();
    }

    /// User and system time used so far, of all its threads, without its own children. Ticks of 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process is there");
        let after_name = stat.rsplit_once(") ").expect("a name in parentheses").1;
        let mut fields = after_name.split(' ').skip(11).map(|field| field.parse::<u64>().expect("a number"));
        let ticks = fields.next().expect("utime") + fields.next().expect("stime");
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Resident memory in bytes, now and at its peak.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    fn end(&mut self) {
        // Errors mean that it has ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        scratch::buried(self.child.id());
    }
}

/// The last lines of a log, for a failure's report.
pub fn last_lines(log: &Path, count: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    format!("-- {} (last {} of {} lines)\n{}", log.display(), lines.len() - from, lines.len(), lines[from..].join("\n"))
}

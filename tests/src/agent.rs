//! The real `tailmill run`, in a home of its own: settings, entries, modules and state lie there as files, as an
//! operator would put them, and everything is done to it from outside: files, signals, HTTP.

use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use crate::kafka::Kafka;
use crate::process::{Process, last_lines};
use crate::{scratch, wait};

/// Of a status with hundreds of streams.
const REPORTED_BYTES_MAX: usize = 8_000;

/// An agent's home, and the agent while it runs. Dropping it kills it; a test that fails prints its last words.
pub struct Agent {
    home: tempfile::TempDir,
    admin: u16,
    settings: BTreeMap<String, BTreeMap<String, Value>>,
    environment: BTreeMap<String, OsString>,
    /// A command that runs the agent's command line, which is added to it.
    wrapper: Vec<OsString>,
    running: Option<Process>,
}

impl Agent {
    /// A home with entries and modules from directories, shipping to this broker. Not started yet.
    pub fn new(kafka: &Kafka) -> Agent {
        let home = scratch::dir("agent");
        let (settings, environment) = (BTreeMap::new(), BTreeMap::new());
        let mut agent =
            Agent { home, admin: scratch::port(), settings, environment, wrapper: Vec::new(), running: None };
        for dir in ["entries.d", "modules", "logs"] {
            std::fs::create_dir(agent.path(dir)).expect("a directory can be made");
        }
        let [state, entries, modules] =
            ["state", "entries.d", "modules"].map(|dir| agent.path(dir).display().to_string());
        agent.set("", "node", "test-node").set("", "state_dir", state);
        agent.set("kafka", "brokers", vec![kafka.brokers()]);
        agent.set("entries", "dir", entries).set("modules", "dir", modules);
        let listen = format!("127.0.0.1:{}", agent.admin);
        agent.set("admin", "listen", listen).set("log", "format", "json");
        agent
    }

    /// A key of `tailmill.toml`; the section `""` is the top level. Takes effect at the next start.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) -> &mut Agent {
        self.settings.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
        self
    }

    /// Takes a key out again.
    pub fn unset(&mut self, section: &str, key: &str) -> &mut Agent {
        if let Some(keys) = self.settings.get_mut(section) {
            keys.remove(key);
        }
        self
    }

    /// A variable of its environment. Takes effect at the next start.
    pub fn variable(&mut self, name: &str, value: impl Into<OsString>) -> &mut Agent {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Its state directory is a file system of its own, of so many bytes, seen by it alone and gone with it.
    pub fn small_state_disk(&mut self, bytes: u64) -> &mut Agent {
        // Who is not root may mount in a user namespace of its own.
        let flags = if rustix::process::getuid().is_root() { "-m" } else { "-rm" };
        let script = format!("mount -t tmpfs -o size={bytes} tmpfs \"$1\" && shift && exec \"$@\"");
        let state = self.path("state");
        std::fs::create_dir_all(&state).expect("a directory can be made");
        let words = ["unshare", flags, "sh", "-c", &script, "sh"].map(OsString::from);
        self.wrapper = words.into_iter().chain([state.into_os_string()]).collect();
        self
    }

    /// The kernel lets it have so many inotify watches and no more.
    pub fn few_watches(&mut self, watches: u32) -> &mut Agent {
        let script = format!("echo {watches} > /proc/sys/user/max_inotify_watches && exec \"$@\"");
        let words = ["unshare", "-U", "-r", "sh", "-c", &script, "sh"];
        self.wrapper = words.map(OsString::from).into();
        self
    }

    /// A path as the running agent sees it, through its own mounts.
    pub fn seen_inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process().pid()));
        root.join(path.strip_prefix("/").expect("paths are absolute"))
    }

    /// A path inside its home.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.home.path().join(relative)
    }

    /// Writes or replaces an entry's file, in one step as a good editor does.
    pub fn entry(&self, name: &str, entry: &Value) -> &Agent {
        replace(&self.path("entries.d").join(format!("{name}.json")), entry.to_string().as_bytes());
        self
    }

    /// Removes an entry's file.
    pub fn remove_entry(&self, name: &str) {
        std::fs::remove_file(self.path("entries.d").join(format!("{name}.json"))).expect("the entry is there");
    }

    /// Writes or replaces a module in the modules directory.
    pub fn module(&self, name: &str, wasm: &[u8]) -> &Agent {
        replace(&self.path("modules").join(format!("{name}.wasm")), wasm);
        self
    }

    /// Puts a stock filter or an example into the modules directory.
    pub fn stock(&self, name: &str) -> &Agent {
        self.module(name, &std::fs::read(stock_filter(name)).expect("a built filter can be read"))
    }

    /// Starts it; returns when its admin port answers.
    pub fn start(&mut self) -> &mut Agent {
        self.launch();
        self.until("the admin port answers", |agent| agent.get("/healthz").map(drop));
        self
    }

    /// Starts it without waiting for anything.
    pub fn launch(&mut self) -> &mut Agent {
        assert!(self.running.is_none(), "the agent is running already");
        let mut command = self.command(["run"]);
        self.running = Some(Process::start("tailmill", &mut command, &self.log_path()));
        self
    }

    /// SIGTERM; returns its status when it has ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.process().signal(Signal::TERM);
        self.wait_end()
    }

    /// SIGTERM; it must end with exit code 0.
    pub fn stop_cleanly(&mut self) {
        let status = self.stop();
        assert!(status.success(), "the agent ended with {status}\n{}", self.report());
    }

    /// Writes its settings as they are set now, and sends SIGHUP.
    pub fn reload(&self) {
        replace(&self.path("tailmill.toml"), self.toml().as_bytes());
        self.process().signal(Signal::HUP);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.running.take().expect("the agent is running").kill();
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self) -> ExitStatus {
        self.running.take().expect("the agent is running").wait()
    }

    /// Runs `tailmill COMMAND… --config FILE` to its end.
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> Output {
        self.command(arguments).output().expect("tailmill can be started")
    }

    /// Runs `tailmill COMMAND…`, which knows no settings, to its end.
    pub fn run_plain<const N: usize>(&self, arguments: [&str; N]) -> Output {
        Command::new(tailmill()).args(arguments).output().expect("tailmill can be started")
    }

    /// The running process.
    pub fn process(&self) -> &Process {
        self.running.as_ref().expect("the agent is running")
    }

    /// GET from its admin port: status code and body; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(10)));
        let client: ureq::Agent = config.build().into();
        let answer = client.get(format!("http://127.0.0.1:{}{path}", self.admin)).call().ok()?;
        let code = answer.status().as_u16();
        Some((code, answer.into_body().read_to_string().ok()?))
    }

    /// `/status`.
    pub fn status(&self) -> Value {
        let (_, body) = self.get("/status").unwrap_or_else(|| panic!("/status does not answer\n{}", self.report()));
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("/status is no JSON: {error}\n{body}"))
    }

    /// The sum of a metric over all of its series whose labels hold `labels` as text.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, body) = self.get("/metrics").unwrap_or_else(|| panic!("/metrics does not answer\n{}", self.report()));
        let series = body.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Polls until `condition` gives something; fails at once when the agent has ended.
    pub fn until<T>(&mut self, what: &str, condition: impl Fn(&Agent) -> Option<T>) -> T {
        let found = wait::within(wait::PATIENCE, || {
            if let Some(status) = self.running.as_mut().and_then(Process::ended) {
                panic!("the agent ended with {status} before {what}\n{}", self.report());
            }
            condition(self)
        });
        found.unwrap_or_else(|| panic!("waited in vain until {what}\n{}", self.report()))
    }

    /// Waits until its log says something, counted from its first start.
    pub fn until_log(&mut self, text: &str) {
        self.until(&format!("the log says {text:?}"), |agent| agent.log().contains(text).then_some(()));
    }

    /// The summary that it logged when it stopped last.
    pub fn summary(&self) -> Value {
        let log = self.log();
        let found = log.lines().rev().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let text = line.get("summary").or_else(|| line.get("fields")?.get("summary"))?;
            serde_json::from_str(text.as_str()?).ok()
        });
        found.unwrap_or_else(|| panic!("no summary in the log\n{}", self.report()))
    }

    /// Everything it has logged since its first start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Its last words and its status, for a failure's report.
    pub fn report(&self) -> String {
        let mut status = self.get("/status").map_or_else(|| "no answer".to_owned(), |(_, body)| body);
        if status.len() > REPORTED_BYTES_MAX {
            status.truncate(status.floor_char_boundary(REPORTED_BYTES_MAX));
            status.push_str(" …");
        }
        format!("-- /status: {status}\n{}", last_lines(&self.log_path(), 40))
    }

    fn log_path(&self) -> PathBuf {
        self.path("agent.log")
    }

    /// `tailmill COMMAND… --config FILE`, to be started.
    pub fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let config = self.path("tailmill.toml");
        std::fs::write(&config, self.toml()).expect("the settings can be written");
        let program = tailmill().into_os_string();
        let words: Vec<&OsString> = self.wrapper.iter().chain([&program]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments).arg("--config").arg(config).envs(&self.environment);
        for (name, _) in std::env::vars_os() {
            // The harness's own variables are not settings of the agent.
            if name.to_string_lossy().starts_with("TAILMILL_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// JSON's strings, numbers, booleans and arrays are TOML's too.
    fn toml(&self) -> String {
        let mut text = String::new();
        for (section, keys) in &self.settings {
            if !section.is_empty() {
                text += &format!("[{section}]\n");
            }
            for (key, value) in keys {
                text += &format!("{key:?} = {value}\n");
            }
        }
        text
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

/// The program under test: `TAILMILL_BIN`, or the one that was built beside this test.
pub fn tailmill() -> PathBuf {
    let built = || scratch::target_dir().join("release/tailmill");
    let program = std::env::var_os("TAILMILL_BIN").map_or_else(built, PathBuf::from);
    assert!(program.is_file(), "{} is missing: run make build", program.display());
    program
}

/// A filter that `scripts/build-filters` built.
pub fn stock_filter(name: &str) -> PathBuf {
    let places = [scratch::target_dir(), scratch::repository().join("target")];
    let mut candidates = places.iter().map(|place| place.join("filters").join(format!("{name}.wasm")));
    candidates.find(|path| path.is_file()).unwrap_or_else(|| panic!("filter {name} is missing: run make build"))
}

/// Written beside it and renamed, so that a watcher never sees half a file.
pub fn replace(path: &Path, content: &[u8]) {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, content).expect("a file can be written");
    std::fs::rename(&temporary, path).expect("a file can be renamed");
}

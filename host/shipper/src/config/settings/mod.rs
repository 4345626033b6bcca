//! The agent's settings: `tailmill.toml`, `TAILMILL_*` variables above it, flags above them.
//!
//! Only [`Settings::load`] makes one, from text that was checked as a whole. A relative path in the file is meant from the
//! file's directory. Secrets come from files or variables, never from the file itself, and no `Debug` shows one.

mod clusters; // [kafka] and [clusters.NAME]
mod layers; // variables and flags
mod read; // text to settings
mod reload; // new settings while the agent runs

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;
use tailmill_tail::AllowPaths;

use super::depot::PublicKey;
use crate::model::{ClusterPlan, Problem};

pub use layers::{KEYS, Overrides};

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file they came from.
    pub source: PathBuf,
    /// This agent's name; stable over restarts. Default: the host name.
    pub node: Arc<str>,
    /// What entries may select nodes by.
    pub labels: BTreeMap<String, String>,
    /// Where marks, caches and the last good plan are kept.
    pub state_dir: PathBuf,
    /// Clusters by name; `default` is the `[kafka]` table.
    pub clusters: BTreeMap<Arc<str>, ClusterPlan>,
    /// Where entries come from beside the directory.
    pub etcd: Option<EtcdSettings>,
    /// The entries directory and what entries may do.
    pub entries: EntriesSettings,
    /// The modules directory.
    pub modules: ModulesSettings,
    /// Address of the admin port. Default 127.0.0.1:9870, `off` for none.
    pub admin: Option<SocketAddr>,
    /// Whether single files have metrics.
    pub file_metrics: bool,
    /// Data threads.
    pub shards: usize,
    /// What is logged and how.
    pub log: LogSettings,
    /// What the agent may use.
    pub limits: AgentLimits,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Problem>,
}

/// Text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How to reach etcd and what to read there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSettings {
    /// URLs, tried in turn.
    pub endpoints: Vec<String>,
    /// In front of every key of ours; ends with `/`.
    pub prefix: String,
    /// The key of the array, `%s` replaced; not under the prefix.
    pub array_key: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Read again at every connection, so that a changed password needs no restart.
    pub password_file: Option<PathBuf>,
    /// From `TAILMILL_ETCD_PASSWORD`.
    pub password: Option<Secret>,
    /// Certificates that may have signed the servers' ones (PEM).
    pub ca: Option<PathBuf>,
    /// Our own certificate (PEM).
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
}

/// Where entries come from and what they may do.
#[derive(Clone, Debug)]
pub struct EntriesSettings {
    /// `*.json`, watched.
    pub dir: Option<PathBuf>,
    /// Which files may be read, links resolved.
    pub allow_paths: AllowPaths,
    /// Which topics may be written to.
    pub allow_topics: GlobSet,
    /// The same as written, for messages.
    pub allow_topics_written: Vec<String>,
}

/// Where modules come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModulesSettings {
    /// `NAME.wasm`, watched.
    pub dir: Option<PathBuf>,
    /// One of these must have signed a module from etcd. Empty: nobody need have.
    pub trusted_keys: Vec<PublicKey>,
    /// Agents that hear of a release fetch it within this time, at random. 2 s: a fleet of a hundred does not ask at once.
    pub fetch_spread: Duration,
}

impl Default for ModulesSettings {
    fn default() -> Self {
        ModulesSettings { dir: None, trusted_keys: Vec::new(), fetch_spread: Duration::from_secs(2) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How log lines look.
    pub format: LogFormat,
    /// A level, or a filter as in `info,tailmill::config=debug`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// What the agent may use: the `[agent]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLimits {
    /// Aim for a batch. 256 KiB: the cost of a call into a filter is gone at a quarter of it.
    pub batch_bytes: usize,
    /// Lines of a batch at most. 4,096: packed columns of a batch stay within 64 KiB.
    pub batch_lines: usize,
    /// Bytes read and not acknowledged, for each shard. 32 MiB: 100 MB/s over a second of round trips and retries.
    pub inflight_bytes_max: usize,
    /// The same for one topic, so that a topic that is down leaves room for others. A quarter of the above.
    pub inflight_topic_bytes_max: usize,
    /// How often directories are looked at, whatever inotify said. 5 s: the delay when a hint is lost.
    pub scan_every: Duration,
    /// How much of the disk deleted files may take that are still unread, in bytes. 10 GiB: hours of a broker's outage, and
    /// far from filling most disks.
    pub pinned_bytes_max: u64,
    /// How long the state of a file is kept that is nowhere any more. A day: what was moved away and comes back by then is
    /// recognised.
    pub forget_after: Duration,
    /// How often marks become durable. 1 s: what comes twice after a crash.
    pub checkpoint_every: Duration,
    /// How long a stop may wait for acknowledgements. 10 s: within systemd's and Kubernetes' patience (90 s, 30 s).
    pub stop_deadline: Duration,
    /// Longest `timeout_ms` an entry may ask for. 10 s: a shard serves other streams too.
    pub filter_timeout_max: Duration,
    /// Largest `memory_mib` an entry may ask for, in bytes. 512 MiB.
    pub filter_memory_bytes_max: usize,
    /// Largest `output_mib`, in bytes. 64 MiB: an answer is copied once.
    pub filter_output_bytes_max: usize,
    /// Largest `held_mib`, in bytes. 256 MiB: it is pinned for each file.
    pub filter_held_bytes_max: usize,
    /// Largest `state_kib`, in bytes. 4 MiB: it is written to the store for each file about once a second.
    pub filter_state_bytes_max: usize,
    /// Most `table_elements`. A million: 16 MB.
    pub filter_table_elements_max: usize,
    /// Filters of one chain at most. 16.
    pub chain_filters_max: usize,
}

/// Data threads at most by default: more only help where filters are heavy.
pub const SHARDS_DEFAULT_MAX: usize = 4;

impl Default for AgentLimits {
    fn default() -> Self {
        AgentLimits {
            batch_bytes: 256 << 10,
            batch_lines: 4096,
            inflight_bytes_max: 32 << 20,
            inflight_topic_bytes_max: 8 << 20,
            scan_every: Duration::from_secs(5),
            pinned_bytes_max: 10 << 30,
            forget_after: Duration::from_secs(24 * 3600),
            checkpoint_every: Duration::from_secs(1),
            stop_deadline: Duration::from_secs(10),
            filter_timeout_max: Duration::from_secs(10),
            filter_memory_bytes_max: 512 << 20,
            filter_output_bytes_max: 64 << 20,
            filter_held_bytes_max: 256 << 20,
            filter_state_bytes_max: 4 << 20,
            filter_table_elements_max: 1_000_000,
            chain_filters_max: 16,
        }
    }
}

impl Settings {
    /// Reads and checks `path` with `overrides` above it. All problems at once.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Settings, Vec<Problem>> {
        sound(Self::read_all(path, overrides))
    }

    /// As [`Settings::load`], for settings that are not a file (`tailmill dev`, tests). `source` is their name in messages.
    pub fn from_text(source: &Path, text: &str, overrides: &Overrides) -> Result<Settings, Vec<Problem>> {
        sound(read::read(source, text, overrides))
    }

    /// Settings with defaults in place of what is wrong, so that a check can go on to the entries.
    pub(crate) fn read_all(path: &Path, overrides: &Overrides) -> (Settings, Vec<Problem>) {
        let unreadable = |reason: String| Problem { source: path.display().to_string(), key: String::new(), reason };
        let (text, problem) = match std::fs::read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => (text, None),
                Err(_) => (String::new(), Some(unreadable("is not UTF-8 text".to_owned()))),
            },
            Err(error) => (String::new(), Some(unreadable(format!("while reading the settings: {error}")))),
        };
        match problem {
            None => read::read(path, &text, overrides),
            // What misses in an empty text is no news.
            Some(problem) => {
                let (mut settings, _) = read::read(path, "", overrides);
                settings.warnings.clear();
                (settings, vec![problem])
            }
        }
    }
}

fn sound((settings, problems): (Settings, Vec<Problem>)) -> Result<Settings, Vec<Problem>> {
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

#[cfg(test)]
mod tests;

//! The plan: everything an agent is to do, whole and immutable. Only `config` makes one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tailmill_engine::{Digest, Limits};
use tailmill_tail::{Framing, MultilineRule, PathPatterns, discover::StartAt};

/// An entry's name: its key's or its file's name; in the array key, derived from its path.
pub type EntryName = Arc<str>;

/// All entries in force. A new one replaces the old one as a whole.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Rises with every change.
    pub revision: u64,
    /// The entries, each in its last good form.
    pub entries: BTreeMap<EntryName, Arc<EntryPlan>>,
    /// What was refused and why, for as long as it is so.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with what was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// The file or the etcd key.
    pub source: String,
    /// The key inside it, dotted (`filters[0].use`); empty: all of it.
    pub key: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.source, self.reason)
        } else {
            write!(f, "{}: {}: {}", self.source, self.key, self.reason)
        }
    }
}

/// Where an entry was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file in the entries directory.
    File(std::path::PathBuf),
    /// An etcd key of one entry.
    EtcdKey(String),
    /// An item of the array key.
    ArrayItem {
        /// The etcd key.
        key: String,
        /// Position in the array, from 0.
        index: usize,
    },
    /// The command line (`tailmill dev`).
    CommandLine,
}

impl Origin {
    /// The same file, key, or array; the position in the array may differ.
    pub fn same_place(&self, other: &Origin) -> bool {
        match (self, other) {
            (Origin::ArrayItem { key, .. }, Origin::ArrayItem { key: other, .. }) => key == other,
            (own, other) => own == other,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::EtcdKey(key) => write!(f, "etcd {key}"),
            Origin::ArrayItem { key, index } => write!(f, "etcd {key}[{index}]"),
            Origin::CommandLine => f.write_str("the command line"),
        }
    }
}

/// One entry, checked and resolved.
#[derive(Clone, Debug)]
pub struct EntryPlan {
    /// Its name.
    pub name: EntryName,
    /// Where it was written.
    pub origin: Origin,
    /// Which files.
    pub patterns: Arc<PathPatterns>,
    /// Where a file without a mark begins that was there when the entry was first seen.
    pub start: StartAt,
    /// Bytes to lines.
    pub framing: Arc<Framing>,
    /// How long a file that is gone or renamed must be quiet before it is finished.
    pub finish_after: Duration,
    /// How long a file must be quiet before it is closed. None: it stays open.
    pub close_idle: Option<Duration>,
    /// A file that was not written for so long is left alone until it is, unless something is known of it.
    pub ignore_older: Option<Duration>,
    /// Topics that records may go to; index 0 is the entry's own. Never empty.
    pub topics: Vec<Arc<str>>,
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// The filter chain, in order.
    pub filters: Vec<FilterPlan>,
    /// What happens when Kafka refuses a record for good.
    pub on_refused: OnRefused,
    /// Where refused or faulty lines go when a policy says dead-letter.
    pub dead_letter_topic: Option<Arc<str>>,
    /// What a record's value looks like.
    pub format: Format,
    /// How a record's partition is chosen.
    pub partition: Partitioning,
    /// How a record's key is chosen where no filter sets one.
    pub key: Option<KeySource>,
    /// Headers that every record gets.
    pub headers: Vec<HeaderKind>,
}

impl EntryPlan {
    /// An ordinary entry without filters.
    #[cfg(test)]
    pub(crate) fn sample(topics: Vec<Arc<str>>) -> EntryPlan {
        EntryPlan {
            name: "entry".into(),
            origin: Origin::CommandLine,
            patterns: Arc::new(PathPatterns::new(&["/var/log/*".into()], &[]).expect("a good pattern")),
            start: StartAt::Beginning,
            framing: Arc::default(),
            finish_after: Duration::from_secs(1),
            close_idle: None,
            ignore_older: None,
            topics,
            cluster: "default".into(),
            filters: Vec::new(),
            on_refused: OnRefused::Block,
            dead_letter_topic: None,
            format: Format::Raw,
            partition: Partitioning::Stream,
            key: None,
            headers: Vec::new(),
        }
    }

    /// Whether both say the same, so that nothing of the entry's streams need change. Where an item stands in the array key
    /// says nothing.
    pub fn same_as(&self, other: &EntryPlan) -> bool {
        self.name == other.name
            && self.origin.same_place(&other.origin)
            && self.patterns == other.patterns
            && self.start == other.start
            && same_framing(&self.framing, &other.framing)
            && self.finish_after == other.finish_after
            && self.close_idle == other.close_idle
            && self.ignore_older == other.ignore_older
            && self.topics == other.topics
            && self.cluster == other.cluster
            && self.filters.len() == other.filters.len()
            && self.filters.iter().zip(&other.filters).all(|(own, other)| own.same_as(other))
            && self.on_refused == other.on_refused
            && self.dead_letter_topic == other.dead_letter_topic
            && self.format == other.format
            && self.partition == other.partition
            && self.key == other.key
            && self.headers == other.headers
    }
}

fn same_framing(a: &Framing, b: &Framing) -> bool {
    let multiline = |framing: &Framing| {
        framing.multiline.as_ref().map(|multiline| {
            let rule = match &multiline.rule {
                MultilineRule::Start(regex) => (0, regex.as_str().to_owned()),
                MultilineRule::End(regex) => (1, regex.as_str().to_owned()),
                MultilineRule::Continue(regex) => (2, regex.as_str().to_owned()),
            };
            (rule, multiline.timeout, multiline.bytes_max)
        })
    };
    a.line_bytes_max == b.line_bytes_max
        && a.too_long == b.too_long
        && multiline(a) == multiline(b)
        && a.delimiter == b.delimiter
        && a.encoding == b.encoding
        && a.compressed == b.compressed
}

/// One place in a filter chain.
#[derive(Clone, Debug)]
pub struct FilterPlan {
    /// The name as written in `use`, without version.
    pub name: Arc<str>,
    /// The module.
    pub module: Arc<ModuleFile>,
    /// The `with` object as JSON; `{}` when there is none.
    pub with: Arc<str>,
    /// What an instance may use.
    pub limits: Limits,
    /// What it may hold of its input.
    pub held: HeldPlan,
    /// What happens to a line that the filter fails on.
    pub on_error: OnError,
    /// When it is left alone because it fails too often. `None`: never (with `on_error = block` it stops at once).
    pub breaker: Option<BreakerPlan>,
    /// For line-world modules, which cannot say it themselves: one instance may serve many files.
    pub stateless: bool,
}

impl FilterPlan {
    /// Whether both say the same: an instance of one may go on serving the other.
    pub fn same_as(&self, other: &FilterPlan) -> bool {
        self.module.digest == other.module.digest
            && self.with == other.with
            && self.limits == other.limits
            && self.held == other.held
            && self.on_error == other.on_error
            && self.breaker == other.breaker
            && self.stateless == other.stateless
            && self.name == other.name
    }
}

/// Bytes of a module as they were found.
pub struct ModuleFile {
    /// sha256 of `bytes`.
    pub digest: Digest,
    /// Where it came from, for messages.
    pub source: String,
    /// The module, as given (component or core module).
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for ModuleFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModuleFile({} from {}, {} bytes)", self.digest, self.source, self.bytes.len())
    }
}

/// A filter fails on a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Hold the stream and shout.
    #[default]
    Block,
    /// Ship the line as it came into the filter.
    Pass,
    /// Drop the line, counted.
    Drop,
    /// Send the line to the dead-letter topic.
    DeadLetter,
}

/// How much of its input a filter may hold back, beside the number of lines, which the engine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPlan {
    /// Bytes of memory that held lines of one file may pin.
    pub bytes: usize,
    /// How long a line may be held: the mark of its file waits for it.
    pub time: Duration,
}

impl HeldPlan {
    /// 16 MiB (some batches), and an hour: longer than any sensible window, and a mark that waits longer is a mistake.
    pub const STANDARD: HeldPlan = HeldPlan { bytes: 16 << 20, time: Duration::from_secs(3600) };
}

/// A filter that fails too often is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPlan {
    /// So many lines that it fails on …
    pub faults: u32,
    /// … within this time …
    pub within: Duration,
    /// … that are at least this part, in percent, of the lines it was given.
    pub percent: u32,
    /// How long the first rest is; each that follows without success is twice as long, up to 32 times.
    pub rest: Duration,
    /// What happens to the lines meanwhile.
    pub then: BreakerThen,
}

impl BreakerPlan {
    /// 100 lines and half of all within 10 s; rests of 5 s to 160 s. What fails so often is broken: to go on would be to lose
    /// most lines and to start an instance for each. Lines wait, unless faulty ones would be shipped anyway.
    pub const fn standard(on_error: OnError) -> Option<BreakerPlan> {
        let then = match on_error {
            OnError::Block => return None,
            OnError::Pass => BreakerThen::Bypass,
            OnError::Drop | OnError::DeadLetter => BreakerThen::Hold,
        };
        let (within, rest) = (Duration::from_secs(10), Duration::from_secs(5));
        Some(BreakerPlan { faults: 100, within, percent: 50, rest, then })
    }
}

/// What happens to lines while a filter's breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerThen {
    /// They wait.
    Hold,
    /// They go past the filter.
    Bypass,
}

/// Kafka refuses a record for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefused {
    /// Hold the stream and shout.
    #[default]
    Block,
    /// Drop the record, counted.
    Drop,
    /// Send it to the dead-letter topic.
    DeadLetter,
}

/// What a record's value looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The line as it is.
    #[default]
    Raw,
    /// A JSON object with node, path, time and message.
    Json,
}

/// How a record's partition is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioning {
    /// One partition for a file and its rotated successors, by entry and home path, kept with the mark.
    #[default]
    Stream,
    /// By the record's key (murmur2 as in the Java client; records without a key at random).
    Key,
    /// In turn.
    RoundRobin,
    /// At random, a batch at a time.
    Random,
    /// Always this one.
    Number(i32),
}

/// How a record's key is chosen where no filter sets one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The node's name.
    Node,
    /// The file's path.
    Path,
    /// Entry and home path: the same for a file and its rotated successors.
    Stream,
    /// These bytes.
    Fixed(String),
}

/// A header that every record gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// `node/entry/file/offset/n`: unique for each record, for consumers that drop duplicates.
    Id,
    /// The node's name.
    Node,
    /// The file's path.
    Path,
    /// Where the line starts in its file.
    Offset,
    /// The entry's name.
    Entry,
    /// The file's inode number.
    Inode,
    /// The id of the file: another one for each generation of a path, the same under every name.
    Generation,
    /// The number of the line in its file, where it is known.
    Line,
}

/// One Kafka cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Its name; `default` for the `[kafka]` table.
    pub name: Arc<str>,
    /// host:port of each broker.
    pub brokers: Vec<String>,
    /// What is promised.
    pub delivery: Delivery,
    /// librdkafka properties as written, secrets resolved. Never logged.
    pub properties: BTreeMap<String, String>,
}

impl std::fmt::Debug for ClusterPlan {
    /// Secret properties are named without their values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            let hidden = super::kafka_properties::is_secret(name);
            format!("{name}={}", if hidden { "(hidden)" } else { value.as_str() })
        };
        f.debug_struct("ClusterPlan")
            .field("name", &self.name)
            .field("brokers", &self.brokers)
            .field("delivery", &self.delivery)
            .field("properties", &self.properties.iter().map(shown).collect::<Vec<_>>())
            .finish()
    }
}

/// What is promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing lost; after a crash some records may come twice.
    #[default]
    AtLeastOnce,
}

//! A settings document to [`Settings`]: every key, every problem.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};
use tailmill_tail::AllowPaths;

use super::super::depot::PublicKey;
use super::super::fields::{At, Fields, Problems};
use super::super::tree::{self, Layer, Place};
use super::clusters;
use super::layers::base_of;
use super::{
    AgentLimits, EntriesSettings, EtcdSettings, LogFormat, LogSettings, ModulesSettings, Overrides, SHARDS_DEFAULT_MAX,
    Secret, Settings,
};
use crate::model::Problem;

const STATE_DIR: &str = "/var/lib/tailmill";
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9870);

/// Settings with defaults in place of what is wrong, and everything that is wrong.
pub(super) fn read(source: &Path, text: &str, overrides: &Overrides) -> (Settings, Vec<Problem>) {
    let (mut tree, syntax) = tree::from_toml(&source.display().to_string(), text);
    let problems = Problems::default();
    syntax.into_iter().for_each(|problem| problems.push(problem));
    let mut warnings = overrides.apply(&mut tree, &problems);
    let reader = Reader { dir: source.parent().unwrap_or(Path::new("")) };
    let root = At::root(&tree, &problems);
    let mut settings = reader.settings(source, root.fields(), &mut warnings);
    settings.warnings = warnings;
    (settings, problems.take())
}

struct Reader<'a> {
    /// Relative paths of the file begin here.
    dir: &'a Path,
}

impl Reader<'_> {
    fn settings(&self, source: &Path, fields: Option<Fields<'_>>, warnings: &mut Vec<Problem>) -> Settings {
        let mut settings = Settings {
            source: source.to_owned(),
            node: host_name(),
            labels: BTreeMap::new(),
            state_dir: STATE_DIR.into(),
            clusters: BTreeMap::new(),
            etcd: None,
            entries: EntriesSettings {
                dir: None,
                allow_paths: AllowPaths::all(),
                allow_topics: GlobSet::empty(),
                allow_topics_written: vec!["*".to_owned()],
            },
            modules: ModulesSettings::default(),
            admin: Some(ADMIN),
            file_metrics: false,
            shards: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(SHARDS_DEFAULT_MAX)),
            log: LogSettings::default(),
            limits: AgentLimits::default(),
            warnings: Vec::new(),
        };
        let Some(mut fields) = fields else { return settings };
        if let Some(node) = fields.get("node").and_then(|at| name(&at)) {
            settings.node = node.into();
        }
        settings.labels = fields.get("labels").map(|at| labels(&at)).unwrap_or_default();
        if let Some(path) = fields.get("state_dir").and_then(|at| self.path(&at)) {
            settings.state_dir = path;
        }
        settings.clusters = clusters::read(&mut fields, self.dir);
        let node = settings.node.clone();
        settings.etcd = fields.get("etcd").and_then(|at| self.etcd(&at, &node, warnings));
        self.entries(&mut settings, &mut fields, warnings);
        settings.modules = self.modules(&mut fields);
        if let Some(mut admin) = fields.below("admin") {
            if let Some(listen) = admin.get("listen").and_then(|at| listen(&at)) {
                settings.admin = listen;
            }
            settings.file_metrics = admin.get("file_metrics").and_then(|at| at.flag()).unwrap_or_default();
            admin.finish(&[]);
        }
        settings.log = log(&mut fields);
        agent(&mut settings, &mut fields);
        fields.finish(&[]);
        settings
    }

    fn path(&self, at: &At<'_>) -> Option<PathBuf> {
        Some(base_of(&at.tree.place, self.dir).join(at.some_text()?))
    }

    /// A path to something that must be readable now.
    fn readable(&self, at: &At<'_>) -> Option<PathBuf> {
        let path = self.path(at)?;
        if let Err(error) = std::fs::File::open(&path) {
            at.problem(format!("while opening {}: {error}", path.display()));
        }
        Some(path)
    }

    fn pem(&self, at: &At<'_>) -> Option<PathBuf> {
        let path = self.readable(at)?;
        if std::fs::read(&path).is_ok_and(|bytes| !bytes.windows(11).any(|part| part == b"-----BEGIN ")) {
            at.problem(format!("{} is not PEM: it holds no `-----BEGIN`", path.display()));
        }
        Some(path)
    }

    fn etcd(&self, at: &At<'_>, node: &str, warnings: &mut Vec<Problem>) -> Option<EtcdSettings> {
        let mut fields = at.fields()?;
        let endpoints = fields.need("endpoints", "for example [\"http://127.0.0.1:2379\"]");
        let endpoint_texts = endpoints.as_ref().and_then(At::text_or_texts).unwrap_or_default();
        if let Some(at) = endpoints.filter(|_| endpoint_texts.is_empty()) {
            at.problem("is empty: name at least one");
        }
        let secure = endpoint_texts.iter().filter(|(at, text)| endpoint_is_secure(at, text)).count();
        let prefix = fields.get("prefix").and_then(|at| etcd_prefix(&at)).unwrap_or_else(|| "/tailmill/".to_owned());
        let array_key = fields.get("entries_key").and_then(|at| array_key(&at));
        let by_node = fields.get("entries_key_by").and_then(|at| at.word(&[("outbound-ip", false), ("node", true)]));
        let array_key = if by_node == Some(true) { array_key.map(|key| key.replace("%s", node)) } else { array_key };
        let user = fields.get("user").and_then(|at| at.some_text().map(str::to_owned));
        let password_file = fields.get("password_file").and_then(|at| {
            let path = self.readable(&at)?;
            warnings.extend(open_to_all(&at, &path));
            Some(path)
        });
        let password = fields.get("password").and_then(|at| {
            if at.tree.place.layer == Layer::Environment {
                return at.some_text().map(Secret::new);
            }
            at.problem("a secret does not belong here: write `password_file`, or set TAILMILL_ETCD_PASSWORD");
            None
        });
        if user.is_some() && password_file.is_none() && password.is_none() {
            at.problem("`user` needs a password: write `password_file`, or set TAILMILL_ETCD_PASSWORD");
        }
        if user.is_none() && (password_file.is_some() || password.is_some()) {
            at.problem("a password needs `user`");
        }
        let [ca, cert, key] = ["ca", "cert", "key"].map(|name| fields.get(name).and_then(|at| self.pem(&at)));
        if cert.is_some() != key.is_some() {
            at.problem("`cert` and `key` go together: write both or none");
        }
        if secure > 0 && ca.is_none() {
            at.problem("an https endpoint needs `ca`: the certificates that signed the servers' own");
        }
        if secure < endpoint_texts.len() && (ca.is_some() || cert.is_some()) {
            at.problem("`ca`, `cert` and `key` need https endpoints");
        }
        fields.finish(&[]);
        let endpoints = endpoint_texts.iter().map(|(_, text)| text.trim_end_matches('/').to_owned()).collect();
        Some(EtcdSettings { endpoints, prefix, array_key, user, password_file, password, ca, cert, key })
    }

    fn entries(&self, settings: &mut Settings, fields: &mut Fields<'_>, warnings: &mut Vec<Problem>) {
        let mut fields = fields.below("entries");
        let mut get = |key| fields.as_mut().and_then(|fields| fields.get(key));
        settings.entries.dir = get("dir").and_then(|at| self.path(&at));
        let paths = get("allow_paths");
        let topics = get("allow_topics");
        if settings.etcd.is_some() {
            for (at, key, what) in [
                (&paths, "entries.allow_paths", "read every file"),
                (&topics, "entries.allow_topics", "write to every topic"),
            ] {
                if at.is_none() {
                    let reason = format!("is not set: whoever may write to etcd can {what} that this agent can");
                    let source = settings.source.display().to_string();
                    warnings.push(Problem { source, key: key.to_owned(), reason });
                }
            }
        }
        if let Some(allow) = paths.as_ref().and_then(allow_paths) {
            settings.entries.allow_paths = allow;
        }
        if let Some(texts) = topics.as_ref().and_then(At::texts) {
            settings.entries.allow_topics_written = texts.iter().map(|(_, text)| (*text).to_owned()).collect();
            if texts.is_empty() {
                topics
                    .iter()
                    .for_each(|at| at.problem("is empty, so that no entry could do anything: name topics, or \"*\""));
            }
            settings.entries.allow_topics = glob_set(&texts);
        } else {
            settings.entries.allow_topics = everything();
        }
        if let Some(fields) = fields {
            fields.finish(&[]);
        }
        if settings.entries.dir.is_none() && settings.etcd.is_none() {
            let reason = "neither this nor [etcd] is set: there is nowhere to read entries from".to_owned();
            warnings.push(Problem {
                source: settings.source.display().to_string(),
                key: "entries.dir".to_owned(),
                reason,
            });
        }
    }

    fn modules(&self, fields: &mut Fields<'_>) -> ModulesSettings {
        let Some(mut fields) = fields.below("modules") else { return ModulesSettings::default() };
        let dir = fields.get("dir").and_then(|at| self.path(&at));
        let mut trusted_keys = Vec::new();
        let keys = fields.get("trusted_keys");
        for (at, text) in keys.as_ref().and_then(At::texts).unwrap_or_default() {
            match PublicKey::parse(text) {
                Ok(key) => trusted_keys.push(key),
                Err(reason) => at.problem(reason),
            }
        }
        let fetch_spread = fields.get("fetch_spread_ms").and_then(|at| at.number(0..=3_600_000));
        let fetch_spread = fetch_spread.map_or(ModulesSettings::default().fetch_spread, Duration::from_millis);
        fields.finish(&[]);
        ModulesSettings { dir, trusted_keys, fetch_spread }
    }
}

fn host_name() -> Arc<str> {
    hostname::get()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .map_or_else(|| "localhost".into(), |name| name.into())
}

/// A node's name stands in record ids, between slashes, and in keys of etcd.
fn name(at: &At<'_>) -> Option<String> {
    let text = at.some_text()?;
    if text.len() > 200 || text.contains(['/', ',', '\0']) || text.contains(char::is_whitespace) {
        at.problem("a node's name has at most 200 bytes and no `/`, comma or white space");
        return None;
    }
    Some(text.to_owned())
}

fn labels(at: &At<'_>) -> BTreeMap<String, String> {
    let pairs = at.pairs().unwrap_or_default();
    pairs.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at.text()?.to_owned()))).collect()
}

/// `Some(None)`: no admin port.
fn listen(at: &At<'_>) -> Option<Option<SocketAddr>> {
    match at.some_text()? {
        "off" => Some(None),
        text => match text.parse() {
            Ok(address) => Some(Some(address)),
            Err(_) => {
                at.problem(format!("`{text}` is not an address: write for example 127.0.0.1:9870, [::1]:9870 or off"));
                None
            }
        },
    }
}

fn log(fields: &mut Fields<'_>) -> LogSettings {
    let mut log = LogSettings::default();
    let Some(mut fields) = fields.below("log") else { return log };
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    if let Some(format) = fields.get("format").and_then(|at| at.word(&formats)) {
        log.format = format;
    }
    if let Some(at) = fields.get("level")
        && let Some(text) = at.some_text()
    {
        match tracing_subscriber::EnvFilter::builder().parse(text) {
            Ok(_) => log.filter = text.to_owned(),
            Err(error) => {
                at.problem(format!(
                    "`{text}` is not a level or filter: {error}; for example info, or info,tailmill=debug"
                ));
            }
        }
    }
    fields.finish(&[]);
    log
}

fn agent(settings: &mut Settings, fields: &mut Fields<'_>) {
    let Some(at) = fields.get("agent") else { return };
    let Some(mut fields) = at.fields() else { return };
    let limits = &mut settings.limits;
    let mut size = |key, range: RangeInclusive<u64>, place: &mut usize| {
        let found = fields.get(key).and_then(|at| at.size(range));
        if let Some(value) = found {
            *place = value;
        }
        found.is_some()
    };
    size("shards", 1..=256, &mut settings.shards);
    size("batch_bytes", 4096..=16 << 20, &mut limits.batch_bytes);
    size("batch_lines", 1..=65_536, &mut limits.batch_lines);
    size("inflight_bytes_max", 1 << 20..=1 << 30, &mut limits.inflight_bytes_max);
    if !size("inflight_topic_bytes_max", 1 << 18..=1 << 30, &mut limits.inflight_topic_bytes_max) {
        limits.inflight_topic_bytes_max = limits.inflight_bytes_max / 4;
    }
    size("filter_table_elements_max", 1..=10_000_000, &mut limits.filter_table_elements_max);
    size("chain_filters_max", 1..=64, &mut limits.chain_filters_max);
    let mut units = |key, range: RangeInclusive<u64>, shift: u32, place: &mut usize| {
        let mut units = *place >> shift;
        size(key, range, &mut units);
        *place = units << shift;
    };
    units("filter_memory_mib_max", 1..=4095, 20, &mut limits.filter_memory_bytes_max);
    units("filter_output_mib_max", 1..=1024, 20, &mut limits.filter_output_bytes_max);
    units("filter_held_mib_max", 1..=1024, 20, &mut limits.filter_held_bytes_max);
    units("filter_state_kib_max", 1..=16 << 10, 10, &mut limits.filter_state_bytes_max);
    let mut time = |key, range: RangeInclusive<u64>, place: &mut Duration| {
        if let Some(value) = fields.get(key).and_then(|at| at.number(range)) {
            *place = Duration::from_millis(value);
        }
    };
    time("scan_every_ms", 50..=3_600_000, &mut limits.scan_every);
    time("forget_after_ms", 0..=365 * 86_400_000, &mut limits.forget_after);
    time("checkpoint_every_ms", 10..=60_000, &mut limits.checkpoint_every);
    time("stop_deadline_ms", 0..=600_000, &mut limits.stop_deadline);
    time("filter_timeout_ms_max", 1..=600_000, &mut limits.filter_timeout_max);
    if let Some(bytes) = fields.get("pinned_bytes_max").and_then(|at| at.number(0..=1 << 50)) {
        limits.pinned_bytes_max = bytes;
    }
    fields.finish(&[]);
    if limits.inflight_bytes_max < 2 * limits.batch_bytes {
        at.problem(format!(
            "inflight_bytes_max ({}) must hold two batches of batch_bytes ({}): one is read while one is sent",
            limits.inflight_bytes_max, limits.batch_bytes
        ));
    }
    if limits.inflight_topic_bytes_max > limits.inflight_bytes_max {
        at.problem(format!(
            "inflight_topic_bytes_max ({}) is more than inflight_bytes_max ({})",
            limits.inflight_topic_bytes_max, limits.inflight_bytes_max
        ));
    }
    if limits.inflight_topic_bytes_max < limits.batch_bytes {
        at.problem(format!(
            "inflight_topic_bytes_max ({}) must hold a batch of batch_bytes ({})",
            limits.inflight_topic_bytes_max, limits.batch_bytes
        ));
    }
}

/// Says whether it is https; a problem when it is no URL of a server.
fn endpoint_is_secure(at: &At<'_>, text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host_port = rest.trim_end_matches('/').rsplit_once(':');
    let sound = matches!(scheme, "http" | "https")
        && host_port
            .is_some_and(|(host, port)| !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok());
    if !sound {
        at.problem("is not an endpoint: write http://host:port or https://host:port");
    }
    scheme == "https"
}

fn etcd_prefix(at: &At<'_>) -> Option<String> {
    let text = at.some_text()?;
    if text == "/" {
        at.problem("`/` would make every key ours: write for example /tailmill/");
        return None;
    }
    Some(if text.ends_with('/') { text.to_owned() } else { format!("{text}/") })
}

fn array_key(at: &At<'_>) -> Option<String> {
    let text = at.some_text()?;
    if text.replace("%s", "").contains('%') || text.matches("%s").count() > 1 {
        at.problem("only one `%s` may stand in it: this host's outbound IP, or the node's name with `entries_key_by`");
        return None;
    }
    Some(text.to_owned())
}

/// Globs of topics that are sound; a problem for each that is not.
fn glob_set(texts: &[(At<'_>, &str)]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for (at, text) in texts {
        match Glob::new(text) {
            Ok(glob) => drop(set.add(glob)),
            Err(error) => at.problem(format!("glob `{text}`: {}", error.kind())),
        }
    }
    set.build().unwrap_or_else(|error| {
        texts[0].0.problem(error.to_string());
        GlobSet::empty()
    })
}

fn everything() -> GlobSet {
    Glob::new("*").and_then(|glob| GlobSetBuilder::new().add(glob).build()).unwrap_or_default()
}

fn allow_paths(at: &At<'_>) -> Option<AllowPaths> {
    let texts = at.texts()?;
    if texts.is_empty() {
        at.problem("is empty, so that no entry could do anything: name globs, or \"/**\" for everything");
    }
    let mut sound = true;
    for (at, text) in &texts {
        if let Err(errors) = AllowPaths::new(&[(*text).to_owned()]) {
            sound = false;
            errors.iter().for_each(|error| at.problem(error.to_string()));
        }
    }
    let globs: Vec<String> = texts.iter().map(|(_, text)| (*text).to_owned()).collect();
    if sound { AllowPaths::new(&globs).ok() } else { None }
}

/// A file with a secret that everybody on the machine can read.
fn open_to_all(at: &At<'_>, path: &Path) -> Option<Problem> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let place: &Place = &at.tree.place;
    (mode & 0o004 != 0).then(|| Problem {
        source: place.to_string(),
        key: at.key.clone(),
        reason: format!("{} can be read by every user: chmod o-r", path.display()),
    })
}

use super::*;

/// A directory with a few files that settings may name.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("ca.pem", "-----BEGIN CERTIFICATE-----\n"), ("password", "hunter2\n"), ("not.pem", "x")] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn load(text: &str, overrides: &Overrides) -> Result<Settings, Vec<Problem>> {
    let dir = files();
    let path = dir.path().join("tailmill.toml");
    std::fs::write(&path, text).unwrap();
    Settings::load(&path, overrides).map_err(|problems| {
        let here = format!("{}/", dir.path().display());
        let tidy = |text: String| text.replace(&here, "");
        let tidied = |p: Problem| Problem { source: tidy(p.source), key: p.key, reason: tidy(p.reason) };
        problems.into_iter().map(tidied).collect()
    })
}

fn sound(text: &str) -> Settings {
    load(text, &Overrides::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

const KAFKA: &str = "[kafka]\nbrokers = [\"127.0.0.1:9092\"]\n";

/// `text` stands behind a `[kafka]` table that is sound.
fn check(text: &str, problems: &[&str]) {
    check_alone(&format!("{KAFKA}{text}"), problems);
}

fn check_alone(text: &str, problems: &[&str]) {
    let found = load(text, &Overrides::default()).err().unwrap_or_default();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, problems, "\n{text}");
}

#[test]
fn the_settings_of_the_design_are_sound_and_say_what_they_say() {
    let settings = sound(
        r#"
node = "web-01"
labels = { role = "web", zone = "a" }
state_dir = "/var/lib/tailmill"

[kafka]
brokers = ["127.0.0.1:9092"]
delivery = "at-least-once"
[kafka.properties]
"compression.type" = "zstd"
"linger.ms" = 5

[clusters.audit]
brokers = ["audit-1:9093", "SSL://audit-2:9093"]

[etcd]
endpoints = ["http://127.0.0.1:2379"]
prefix = "/tailmill/"
entries_key = "collect_log_%s_conf"

[entries]
dir = "entries.d"
allow_paths = ["/var/log/**"]
allow_topics = ["web_*"]
[modules]
dir = "/etc/tailmill/modules"
trusted_keys = []
[admin]
listen = "127.0.0.1:9870"
[log]
format = "json"
level = "info,tailmill::config=debug"
[agent]
shards = 3
stop_deadline_ms = 0
"#,
    );
    assert_eq!(&*settings.node, "web-01");
    assert_eq!(settings.labels["zone"], "a");
    assert_eq!(settings.clusters.keys().map(|name| &**name).collect::<Vec<_>>(), ["audit", "default"]);
    assert_eq!(settings.clusters["default"].properties["linger.ms"], "5");
    assert_eq!(settings.clusters["audit"].brokers.len(), 2);
    let etcd = settings.etcd.clone().unwrap();
    assert_eq!((etcd.prefix.as_str(), etcd.array_key.as_deref()), ("/tailmill/", Some("collect_log_%s_conf")));
    assert_eq!(settings.entries.dir.as_deref(), Some(settings.source.with_file_name("entries.d").as_path()));
    assert!(settings.entries.allow_topics.is_match("web_log") && !settings.entries.allow_topics.is_match("other"));
    assert!(!settings.entries.allow_paths.allows(Path::new("/etc/shadow")));
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!((settings.shards, settings.limits.stop_deadline), (3, Duration::ZERO));
    assert_eq!(settings.warnings, []);
}

#[test]
fn everything_but_the_brokers_has_a_default() {
    let settings = sound(KAFKA);
    assert!(!settings.node.is_empty());
    assert_eq!(settings.state_dir, Path::new("/var/lib/tailmill"));
    assert_eq!(settings.admin, Some("127.0.0.1:9870".parse().unwrap()));
    assert_eq!(settings.limits, AgentLimits::default());
    assert!((1..=SHARDS_DEFAULT_MAX).contains(&settings.shards));
    assert!(settings.etcd.is_none() && settings.entries.allow_topics.is_match("any"));
    assert_eq!(sound(&format!("{KAFKA}[admin]\nlisten = \"off\"")).admin, None);
    assert_eq!(
        sound(&format!("{KAFKA}[agent]\ninflight_bytes_max = 4194304")).limits.inflight_topic_bytes_max,
        1 << 20
    );
}

#[test]
fn every_problem_is_told_at_once_with_its_line_and_key() {
    check_alone(
        "nod = \"x\"\nstate_dir = 7\n[kafka]\nbrokrs = [\"a:1\"]\n[agent]\nshards = \"two\"\nbatch_lines = 0\n[log]\nlevel = []\n[colour]\n",
        &[
            "tailmill.toml:2: state_dir: expected a string, found a whole number",
            "tailmill.toml:3: kafka.brokers: is missing: for example [\"kafka-1:9092\"]",
            "tailmill.toml:4: kafka.brokrs: unknown key `brokrs`; did you mean `brokers`?",
            "tailmill.toml:9: log.level: expected a string, found a list",
            "tailmill.toml:6: agent.shards: expected a whole number, found a string",
            "tailmill.toml:7: agent.batch_lines: 0 is out of range: from 1 to 65536",
            "tailmill.toml:1: nod: unknown key `nod`; did you mean `node`?",
            "tailmill.toml:10: colour: unknown key `colour`",
        ],
    );
}

#[test]
fn settings_that_cannot_be_read_are_one_problem() {
    let path = Path::new("/nonexistent/tailmill.toml");
    let problems = Settings::load(path, &Overrides::default()).unwrap_err();
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["/nonexistent/tailmill.toml: while reading the settings: No such file or directory (os error 2)"]
    );
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Settings::load(dir.path(), &Overrides::default()).unwrap_err().len(), 1);
    let path = dir.path().join("t.toml");
    std::fs::write(&path, b"node = \"\xff\"").unwrap();
    assert_eq!(Settings::load(&path, &Overrides::default()).unwrap_err()[0].reason, "is not UTF-8 text");
    let problems = load("[kafka\nbrokers = 1", &Overrides::default()).unwrap_err();
    assert_eq!(problems[0].source, "tailmill.toml:1");
    assert!(problems[0].reason.starts_with("is not TOML: "), "{}", problems[0]);
}

#[test]
fn what_kafka_cannot_do_is_refused() {
    check_alone("", &["tailmill.toml: kafka: is missing: write `[kafka]` with `brokers = [\"host:9092\"]`"]);
    check_alone(
        "[kafka]\nbrokers = []",
        &["tailmill.toml:2: kafka.brokers: is empty: name at least one broker as host:port"],
    );
    check_alone("[kafka]\nbrokers = [\"a:1\", \"\"]", &["tailmill.toml:2: kafka.brokers[1]: is empty"]);
    check_alone(
        "[kafka]\nbrokers = [\"a\", \"b:0\", \"c:1,d:2\"]",
        &[
            "tailmill.toml:2: kafka.brokers[0]: `a` is not a broker: write host:port, one in each string",
            "tailmill.toml:2: kafka.brokers[1]: `b:0` is not a broker: write host:port, one in each string",
            "tailmill.toml:2: kafka.brokers[2]: `c:1,d:2` is not a broker: write host:port, one in each string",
        ],
    );
    check(
        "delivery = \"exactly-once\"",
        &[
            "tailmill.toml:3: kafka.delivery: exactly-once is not in this version: use \"at-least-once\", and the `id` header to drop duplicates",
        ],
    );
    check(
        "delivery = \"at-lest-once\"",
        &[
            "tailmill.toml:3: kafka.delivery: `at-lest-once` is not one of `at-least-once`, `exactly-once`; did you mean `at-least-once`?",
        ],
    );
    check(
        "[kafka.properties]\nacks = 1\n\"linger.ms\" = \"soon\"\n\"lingr.ms\" = 5\n\"group.id\" = \"x\"\n\"client.id\" = []",
        &[
            "tailmill.toml:4: kafka.properties.acks: `acks` is fixed, since nothing may be lost or change its order",
            "tailmill.toml:5: kafka.properties.\"linger.ms\": librdkafka does not take this: Invalid value for configuration property \"queue.buffering.max.ms\"",
            "tailmill.toml:6: kafka.properties.\"lingr.ms\": `lingr.ms` is not a property that librdkafka knows",
            "tailmill.toml:7: kafka.properties.\"group.id\": `group.id` belongs to consumers; the agent only produces",
            "tailmill.toml:8: kafka.properties.\"client.id\": expected a string, a number, true or false; found a list",
        ],
    );
    check(
        "[clusters.default]\nbrokers = [\"a:1\"]",
        &["tailmill.toml:3: clusters.default: `default` is the name of the `[kafka]` table: write it there"],
    );
}

#[test]
fn what_etcd_cannot_do_is_refused() {
    check("[etcd]", &["tailmill.toml:3: etcd.endpoints: is missing: for example [\"http://127.0.0.1:2379\"]"]);
    check(
        "[etcd]\nendpoints = [\"127.0.0.1:2379\", \"http://a\"]\nprefix = \"/\"\nentries_key = \"a_%s_%s\"",
        &[
            "tailmill.toml:4: etcd.endpoints[0]: is not an endpoint: write http://host:port or https://host:port",
            "tailmill.toml:4: etcd.endpoints[1]: is not an endpoint: write http://host:port or https://host:port",
            "tailmill.toml:5: etcd.prefix: `/` would make every key ours: write for example /tailmill/",
            "tailmill.toml:6: etcd.entries_key: only one `%s` may stand in it: this host's outbound IP, or the node's name with `entries_key_by`",
        ],
    );
    let http = "[etcd]\nendpoints = [\"http://a:1\"]\n";
    check(
        &format!("{http}user = \"u\""),
        &["tailmill.toml:3: etcd: `user` needs a password: write `password_file`, or set TAILMILL_ETCD_PASSWORD"],
    );
    check(&format!("{http}password_file = \"password\""), &["tailmill.toml:3: etcd: a password needs `user`"]);
    check(
        &format!("{http}user = \"u\"\npassword_file = \"none\"\nca = \"not.pem\"\ncert = \"ca.pem\""),
        &[
            "tailmill.toml:6: etcd.password_file: while opening none: No such file or directory (os error 2)",
            "tailmill.toml:7: etcd.ca: not.pem is not PEM: it holds no `-----BEGIN`",
            "tailmill.toml:3: etcd: `cert` and `key` go together: write both or none",
            "tailmill.toml:3: etcd: `ca`, `cert` and `key` need https endpoints",
        ],
    );
    check(
        "[etcd]\nendpoints = \"https://a:1\"",
        &["tailmill.toml:3: etcd: an https endpoint needs `ca`: the certificates that signed the servers' own"],
    );
}

#[test]
fn what_an_agent_cannot_do_is_refused_and_limits_are_checked_against_each_other() {
    check(
        "[entries]\nallow_paths = [\"var/log/**\"]\nallow_topics = [\"[\"]\n[admin]\nlisten = \"9870\"",
        &[
            "tailmill.toml:4: entries.allow_paths[0]: glob `var/log/**`: must be absolute: begin it with `/`",
            "tailmill.toml:5: entries.allow_topics[0]: glob `[`: unclosed character class; missing ']'",
            "tailmill.toml:7: admin.listen: `9870` is not an address: write for example 127.0.0.1:9870, [::1]:9870 or off",
        ],
    );
    check(
        "[entries]\nallow_paths = []\nallow_topics = []",
        &[
            "tailmill.toml:4: entries.allow_paths: is empty, so that no entry could do anything: name globs, or \"/**\" for everything",
            "tailmill.toml:5: entries.allow_topics: is empty, so that no entry could do anything: name topics, or \"*\"",
        ],
    );
    check(
        "[agent]\nbatch_bytes = 1048576\ninflight_bytes_max = 1048576\ninflight_topic_bytes_max = 2097152",
        &[
            "tailmill.toml:3: agent: inflight_bytes_max (1048576) must hold two batches of batch_bytes (1048576): one is read while one is sent",
            "tailmill.toml:3: agent: inflight_topic_bytes_max (2097152) is more than inflight_bytes_max (1048576)",
        ],
    );
    check(
        "[agent]\ninflight_bytes_max = 1048576\ninflight_topic_bytes_max = 262144\nbatch_bytes = 300000",
        &["tailmill.toml:3: agent: inflight_topic_bytes_max (262144) must hold a batch of batch_bytes (300000)"],
    );
    check_alone(
        &format!("node = \"a/b\"\n{KAFKA}"),
        &["tailmill.toml:1: node: a node's name has at most 200 bytes and no `/`, comma or white space"],
    );
}

#[test]
fn variables_stand_above_the_file_and_flags_above_variables() {
    let file = "node = \"file\"\nlabels = { role = \"web\", zone = \"a\" }\n[kafka]\nbrokers = [\"a:1\"]\n[clusters.far-away]\nbrokers = [\"b:1\"]\n";
    let overrides = Overrides::default()
        .with_variable("TAILMILL_NODE", "variable")
        .with_variable("TAILMILL_KAFKA_BROKERS", "x:1, y:2")
        .with_variable("TAILMILL_KAFKA_PROPERTIES", "linger.ms=7")
        .with_variable("TAILMILL_CLUSTERS_FAR_AWAY_BROKERS", "z:1")
        .with_variable("TAILMILL_LABELS", "zone=b")
        .with_variable("TAILMILL_ETCD_ENDPOINTS", "http://e:2379")
        .with_variable("TAILMILL_AGENT_SHARDS", "2")
        .with_variable("TAILMILL_ENTRIES_ALLOW_PATHS", "/a/**,/b/**")
        .with_variable("TAILMILL_ENTRIES_ALLOW_TOPICS", "*")
        .with_flag("--node", "node", "flag");
    let settings = load(file, &overrides).unwrap();
    assert_eq!(&*settings.node, "flag");
    assert_eq!(settings.clusters["default"].brokers, ["x:1", "y:2"]);
    assert_eq!(settings.clusters["default"].properties["linger.ms"], "7");
    assert_eq!(settings.clusters["far-away"].brokers, ["z:1"]);
    assert_eq!((settings.labels["role"].as_str(), settings.labels["zone"].as_str()), ("web", "b"));
    assert_eq!(settings.etcd.unwrap().endpoints, ["http://e:2379"]);
    assert_eq!(settings.shards, 2);
    assert!(settings.entries.allow_paths.allows(Path::new("/b/c")));
    assert_eq!(settings.warnings, []);
}

#[test]
fn problems_outside_the_file_name_the_variable_or_flag() {
    let overrides = Overrides::default()
        .with_variable("TAILMILL_AGENT_SHARDS", "two")
        .with_variable("TAILMILL_LABELS", "zone")
        .with_flag("--set", "agent.shard", "1")
        .with_flag("--admin", "admin.listen", "here");
    let problems = load(KAFKA, &overrides).unwrap_err();
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "TAILMILL_LABELS: expected name=value, separated by commas",
            "--set: agent.shard: unknown key `agent.shard`; did you mean `agent.shards`?",
            "--admin: admin.listen: `here` is not an address: write for example 127.0.0.1:9870, [::1]:9870 or off",
            "TAILMILL_AGENT_SHARDS: agent.shards: expected a whole number, found a string",
        ]
    );
}

#[test]
fn a_variable_that_sets_nothing_is_a_warning_and_those_of_others_are_none() {
    let overrides = Overrides::default()
        .with_variable("TAILMILL_KAFKA_BROKRS", "a:1")
        .with_variable("TAILMILL_CONFIG", "x")
        .with_variable("TAILMILL_SERVICE_HOST", "10.0.0.1")
        .with_variable("TAILMILL_PORT_9870_TCP", "tcp://10.0.0.1:9870");
    let warnings: Vec<String> = load(&format!("{KAFKA}[entries]\ndir = \"/e\""), &overrides)
        .unwrap()
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(warnings, ["TAILMILL_KAFKA_BROKRS: this variable sets nothing; did you mean `TAILMILL_KAFKA_BROKERS`?"]);
}

#[test]
fn secrets_come_from_files_and_variables_and_are_never_shown() {
    check(
        "[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\"ssl.key.password_file\" = \"none\"",
        &[
            "tailmill.toml:4: kafka.properties.\"sasl.password\": a secret does not belong here: write \"sasl.password_file\" with the path of a file that holds it, or set TAILMILL_KAFKA_SASL_PASSWORD",
            "tailmill.toml:5: kafka.properties.\"ssl.key.password_file\": while reading none: No such file or directory (os error 2)",
        ],
    );
    check(
        "[etcd]\nendpoints = [\"http://a:1\"]\nuser = \"u\"\npassword = \"hunter2\"",
        &[
            "tailmill.toml:6: etcd.password: a secret does not belong here: write `password_file`, or set TAILMILL_ETCD_PASSWORD",
            "tailmill.toml:3: etcd: `user` needs a password: write `password_file`, or set TAILMILL_ETCD_PASSWORD",
        ],
    );
    let text = format!(
        "{KAFKA}[kafka.properties]\n\"sasl.password_file\" = \"password\"\n[etcd]\nendpoints = [\"http://a:1\"]\nuser = \"u\""
    );
    let overrides = Overrides::default()
        .with_variable("TAILMILL_ETCD_PASSWORD", "hunter3")
        .with_variable("TAILMILL_KAFKA_SSL_KEY_PASSWORD", "hunter4");
    let settings = load(&text, &overrides).unwrap();
    let properties = &settings.clusters["default"].properties;
    assert_eq!((properties["sasl.password"].as_str(), properties["ssl.key.password"].as_str()), ("hunter2", "hunter4"));
    assert_eq!(settings.etcd.as_ref().unwrap().password.as_ref().unwrap().reveal(), "hunter3");
    let shown = format!("{settings:?} {overrides:?}");
    assert!(!shown.contains("hunter") && shown.contains("sasl.password=(hidden)"), "{shown}");
}

#[test]
fn what_is_allowed_and_probably_not_meant_is_a_warning() {
    let warnings = |text: &str| -> Vec<String> {
        let settings = sound(&format!("{KAFKA}{text}"));
        settings.warnings.iter().map(|warning| format!("{}: {}", warning.key, warning.reason)).collect()
    };
    assert_eq!(warnings(""), ["entries.dir: neither this nor [etcd] is set: there is nowhere to read entries from"]);
    assert_eq!(
        warnings("[etcd]\nendpoints = [\"http://a:1\"]"),
        [
            "entries.allow_paths: is not set: whoever may write to etcd can read every file that this agent can",
            "entries.allow_topics: is not set: whoever may write to etcd can write to every topic that this agent can",
        ]
    );
}

#[test]
fn every_key_that_can_be_set_from_outside_is_a_key_of_the_file() {
    for (key, kind) in KEYS {
        if *key == "etcd.password" {
            continue;
        }
        let value = if *kind == layers::Kind::Number { "x" } else { "" };
        let overrides = Overrides::default().with_flag("--set", key, value);
        let problems = load(KAFKA, &overrides).err().unwrap_or_default();
        assert!(!problems.iter().any(|problem| problem.reason.contains("unknown key")), "{key}: {problems:?}");
    }
}

#[test]
fn trusted_keys_are_checked_with_the_settings() {
    let key = crate::config::depot::SecretKey::of(&[1; 32]).unwrap().public();
    let settings = sound(&format!("{KAFKA}[modules]\ntrusted_keys = [\"{key}\"]\nfetch_spread_ms = 0"));
    assert_eq!((settings.modules.trusted_keys, settings.modules.fetch_spread), (vec![key], Duration::ZERO));
    check(
        "[modules]\ntrusted_keys = [\"k\"]",
        &[
            "tailmill.toml:4: modules.trusted_keys[0]: is no public key: `tailmill key generate` prints ed25519:… to write here",
        ],
    );
}

#[test]
fn the_array_key_may_hold_the_nodes_name() {
    let text = |by: &str| {
        format!("node = \"web-01\"\n{KAFKA}[etcd]\nendpoints = [\"http://a:1\"]\nentries_key = \"log_%s_conf\"\n{by}")
    };
    let key = |by: &str| sound(&text(by)).etcd.unwrap().array_key.unwrap();
    assert_eq!(key(""), "log_%s_conf");
    assert_eq!(key("entries_key_by = \"outbound-ip\""), "log_%s_conf");
    assert_eq!(key("entries_key_by = \"node\""), "log_web-01_conf");
}

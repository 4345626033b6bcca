//! What is wrong is said with its file, its key and what to do; at the start it is refused, at run time it stops nobody.

use serde_json::{Value, json};
use std::process::Output;
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrival, arrives_once, entry, filtered, log};
use tailmill_tests::topic::Tap;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn bad_settings_are_refused_with_64_and_the_name_of_the_key() {
    let kafka = Kafka::shared();
    let check = |section: &str, key: &str, value: Value, words: &[&str]| {
        for command in ["run", "check"] {
            let mut agent = Agent::new(kafka);
            agent.set(section, key, value.clone());
            let output = agent.run([command]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(64), "{command} {section}.{key} = {value}: {said}");
            for word in words.iter().chain(&["tailmill.toml"]) {
                assert!(said.contains(word), "{command} {section}.{key} = {value}: {word:?} is not in: {said}");
            }
            assert!(!agent.path("state").exists(), "{command} {section}.{key}: something was started");
        }
    };
    check("", "nodee", json!("x"), &["nodee", "node"]);
    check("kafka", "brokers", json!(9092), &["kafka.brokers"]);
    check("kafka", "brokers", json!([]), &["kafka.brokers"]);
    check("kafka.properties", "enable.idempotence", json!("false"), &["enable.idempotence"]);
    check("kafka.properties", "no.such.property", json!("1"), &["no.such.property"]);
    check("entries", "allow_paths", json!(["/var/log/["]), &["entries.allow_paths"]);
    check("admin", "listen", json!("nowhere"), &["admin.listen"]);
    check("agent", "shards", json!("many"), &["agent.shards"]);
    check("etcd", "prefix", json!("/x/"), &["etcd.endpoints"]);
}

#[test]
fn a_missing_settings_file_is_named() {
    let agent = Agent::new(Kafka::shared());
    let output = std::process::Command::new(tailmill_tests::agent::tailmill())
        .args(["run", "--config"])
        .arg(agent.path("nowhere.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    assert!(said(&output).contains("nowhere.toml"), "{}", said(&output));
}

#[test]
fn check_tells_every_problem_of_settings_entries_and_modules_at_once() {
    let mut agent = Agent::new(Kafka::shared());
    let with = |filters: Value| filtered(entry(&agent, "x.log", "t"), filters);
    let modules = [("text", &b"no wasm"[..]), ("world", b"\0asm\x01\0\0\0")];
    let entries = [
        ("glob", json!({ "path": "/var/log/[", "topic": "t" })),
        ("relative", json!({ "path": "var/log/x.log", "topic": "t" })),
        ("unknown", json!({ "path": "/var/log/x.log", "topic": "t", "filterz": [] })),
        ("type", json!({ "path": "/var/log/x.log", "topic": 7 })),
        ("regex", json!({ "path": "/var/log/x.log", "topic": "t", "multiline": { "start": "(" } })),
        ("absent", with(json!([{ "use": "no-such-module" }]))),
        ("nowasm", with(json!([{ "use": "text" }]))),
        ("noworld", with(json!([{ "use": "world" }]))),
        ("imports", with(json!([{ "use": "imports" }]))),
        ("config", with(json!([{ "use": "grep", "with": { "no_such_key": 1 } }]))),
    ];
    agent.stock("grep").module("imports", &guests::importing("env", "system"));
    for (name, bytes) in &modules {
        agent.module(name, bytes);
    }
    for (name, entry) in &entries {
        agent.entry(name, entry);
    }
    std::fs::write(agent.path("entries.d/syntax.json"), "{ \"path\": ").unwrap();
    agent.set("", "no_such_key", 1);
    let output = agent.run(["check"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("no_such_key"), "{said}");
    for name in entries.iter().map(|(name, _)| *name).chain(["syntax"]) {
        assert!(said.contains(&format!("{name}.json")), "nothing is said of {name}.json: {said}");
    }
    for words in ["filterz", "topic", "multiline", "no-such-module", "imports env"] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

#[test]
fn check_is_content_with_what_is_good() {
    let agent = Agent::new(Kafka::shared());
    let grep = json!([{ "use": "grep", "with": { "exclude": "healthz" } }]);
    agent.stock("grep").entry("app", &filtered(entry(&agent, "app.log", "t"), grep));
    let output = agent.run(["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn at_the_first_start_bad_entries_and_modules_are_refused_as_a_whole_and_nothing_is_half_started() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("first", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(100);
    let keep = |agent: &Agent| filtered(entry(agent, "app.log", &topic), json!([{ "use": "keep", "stateless": true }]));
    agent.entry("app", &keep(&agent)).module("keep", b"no wasm");
    agent.entry("glob", &json!({ "path": "/var/log/[", "topic": "t" }));
    let output = agent.run(["run"]);
    let refused = said(&output);
    assert_eq!(output.status.code(), Some(64), "{refused}");
    for words in ["app.json", "keep", "glob.json"] {
        assert!(refused.contains(words), "{words:?} is not in: {refused}");
    }
    assert!(!agent.path("state/tailmill.redb").exists(), "the store was made");
    assert_eq!(Tap::open(kafka, &topic).to_end().len(), 0);
    // Mended, it starts; from then on the same mistakes stop nobody.
    agent.module("keep", &guests::keep()).remove_entry("glob");
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&file]), &mut tap, &agent);
    agent.stop_cleanly();
    agent.module("keep", b"no wasm");
    file.write(100);
    agent.start();
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn an_entry_that_turns_bad_keeps_its_last_good_form_and_says_so() {
    let kafka = Kafka::shared();
    let [topic, other] = ["good", "other"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    let (mut file, mut second) = (log(&agent, "app", Style::Json, 1), log(&agent, "second", Style::Json, 2));
    agent.module("keep", &guests::keep());
    agent.entry("app", &filtered(entry(&agent, "app.log", &topic), json!([{ "use": "keep", "stateless": true }])));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    let mut written = Vec::new();
    for (key, bad) in [("topic", json!(7)), ("filterz", json!([])), ("filters", json!([{ "use": "no-such-module" }]))] {
        let mut changed = entry(&agent, "app.log", &topic);
        changed[key] = bad;
        agent.entry("app", &changed);
        agent.until("the problem is shown", |agent| {
            let (code, body) = agent.get("/readyz")?;
            (code == 503 && body.contains("app.json") && body.contains(key)).then_some(())
        });
        file.write(500);
        arrival(&Expected::all([&file]), &mut tap, &agent).assert_once(|| agent.report());
        written.push(key);
    }
    // Others come meanwhile as if nothing was.
    second.write(500);
    agent.entry("second", &entry(&agent, "second.log", &other));
    arrival(&Expected::all([&second]), &mut Tap::open(kafka, &other), &agent).assert_once(|| agent.report());
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.until("all is well again", |agent| (agent.get("/readyz")?.0 == 200).then_some(()));
    file.write(500);
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn what_is_no_readable_file_is_reported_once_and_picked_up_when_it_heals() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("strange", 1);
    let mut agent = Agent::new(kafka);
    let logs = agent.path("logs");
    std::fs::create_dir(logs.join("directory.log")).unwrap();
    std::os::unix::fs::symlink(logs.join("not-yet"), logs.join("dangling.log")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, logs.join("fifo.log"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut good = log(&agent, "good", Style::Json, 1);
    good.write(1_000);
    agent.set("agent", "scan_every_ms", 100);
    // A directory that a wildcard happens to match is nobody's mistake; one that is named is.
    let mut strange = entry(&agent, "*.log", &topic);
    strange["path"] = json!([logs.join("*.log"), logs.join("directory.log")]);
    agent.entry("app", &strange);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&good]), &mut tap, &agent).assert_once(|| agent.report());
    let names = ["directory.log", "dangling.log", "fifo.log"];
    agent.until("the strange ones are shown", |agent| {
        let problems = agent.status()["file_problems"].to_string();
        names.iter().all(|name| problems.contains(name)).then_some(())
    });
    // They heal.
    let mut linked = tailmill_tests::logfile::LogFile::create(logs.join("not-yet"), Style::Json, 2);
    linked.write(100);
    std::fs::remove_dir(logs.join("directory.log")).unwrap();
    let mut replaced = log(&agent, "directory", Style::Json, 3);
    replaced.write(100);
    std::fs::remove_file(logs.join("fifo.log")).unwrap();
    let expected = Expected::all([&good, &linked, &replaced]);
    arrival(&expected, &mut tap, &agent);
    agent.until("no problem is left", |agent| agent.status()["file_problems"].as_array()?.is_empty().then_some(()));
    arrives_once(&expected, &mut tap, &mut agent);
    for name in names {
        let lines = agent.log().lines().filter(|line| line.contains(name) && !line.contains("\"INFO\"")).count();
        assert_eq!(lines, 1, "{name} is reported once\n{}", agent.report());
    }
}

//! What an operator does to a fleet: entries, statuses, rollouts, over a real etcd.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking, too")]

use serde_json::{Value, json};
use std::process::Output;
use tailmill_tests::agent::Agent;
use tailmill_tests::command::{good, refused, text};
use tailmill_tests::etcd::Etcd;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrives_once, entry, filtered, log};
use tailmill_tests::topic::Tap;
use tailmill_tests::wait;

fn agent(etcd: &Etcd, kafka: &Kafka, prefix: &str, node: &str) -> Agent {
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![etcd.endpoint()]).set("etcd", "prefix", prefix).set("", "node", node);
    agent.set("modules", "fetch_spread_ms", 0).unset("modules", "dir");
    agent
}

fn put(agent: &Agent, name: &str, value: &Value) -> Output {
    let path = agent.path(format!("{name}.entry"));
    std::fs::write(&path, value.to_string()).unwrap();
    agent.run(["entry", "put", name, path.to_str().unwrap()])
}

fn push<const N: usize>(agent: &Agent, version: &str, wasm: &[u8], more: [&str; N]) -> Output {
    let path = agent.path("mine.wasm");
    std::fs::write(&path, wasm).unwrap();
    let mut command = agent.command(["module", "push"]);
    command.arg(path).args(["--name", "mine", "--version", version]).args(more);
    command.output().unwrap()
}

fn fleet(agent: &Agent) -> Value {
    serde_json::from_str(&good(agent.run(["status", "--json"]))).unwrap()
}

/// What the fleet's status says of a node.
fn node<'a>(fleet: &'a Value, name: &str) -> Option<&'a Value> {
    fleet["nodes"].as_array()?.iter().find(|node| node["node"] == name)
}

/// Polls the fleet's status until a node says so.
fn until_node(agent: &Agent, name: &str, what: &str, is: impl Fn(&Value) -> bool) {
    let last = std::cell::RefCell::new(Value::Null);
    wait::until(
        &format!("{name}: {what}"),
        || last.borrow().to_string(),
        || {
            let now = fleet(agent);
            let found = node(&now, name).is_some_and(&is);
            last.replace(now);
            found.then_some(())
        },
    );
}

#[test]
fn entries_are_checked_written_compared_and_taken_back() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::start(), "/entries/");
    let topic = kafka.topic("entries", 1);
    let mut agent = agent(&etcd, kafka, prefix, "node-1");
    let mut app = log(&agent, "app", Style::Json, 1);
    let plain = entry(&agent, "app.log", &topic);
    // What the agent would refuse is not written: everything that is wrong at once.
    let check = |change: &dyn Fn(&mut Value), because: &str| {
        let mut bad = plain.clone();
        change(&mut bad);
        let output = put(&agent, "app", &bad);
        assert!(text(&output.stderr).contains(because), "{}", text(&output.stderr));
        refused(output, "nothing was written");
        assert_eq!(etcd.get(&format!("{prefix}entries/app")), None);
    };
    check(&|entry| entry["path"] = json!("/a/[z-a].log"), "app: path");
    check(&|entry| entry["multiline"] = json!({ "start": "(" }), "app: multiline.start");
    check(&|entry| entry["topic"] = json!("no topic"), "app: topic");
    check(&|entry| entry["nodes"] = json!(["[z-a]"]), "app: nodes");
    check(&|entry| entry["tpoic"] = json!("x"), "app: tpoic");
    check(&|entry| entry["filters"] = json!([{ "use": "nobody" }]), "there is no module `nobody`");
    refused(put(&agent, "no name", &plain), "cannot be an entry's name");
    good(push(&agent, "1", &guests::keep(), []));
    good(put(&agent, "app", &plain));
    agent.start();
    app.write(1_000);
    until_node(&agent, "node-1", "has it", |node| node["status"]["entries"][0]["name"] == "app");

    // Two editors: the second one is told.
    let first = agent.run(["entry", "get", "app"]);
    let revision = text(&first.stderr).trim().rsplit(' ').next().unwrap().to_owned();
    let path = agent.path("edited.json");
    let edited = filtered(plain.clone(), json!([{ "use": "mine", "stateless": true }]));
    std::fs::write(&path, edited.to_string()).unwrap();
    let path = path.to_str().unwrap();
    good(agent.run(["entry", "put", "app", path, "--expect", &revision]));
    refused(agent.run(["entry", "put", "app", path, "--expect", &revision]), "was changed meanwhile");
    refused(agent.run(["entry", "put", "app", path, "--expect", "0"]), "is there already");
    app.write(1_000);

    // History is ours and survives compaction.
    etcd.compact();
    let history = good(agent.run(["entry", "history", "app"]));
    assert_eq!(history.lines().count(), 3, "{history}");
    let diff = good(agent.run(["entry", "diff", "app"]));
    assert!(diff.contains("+ ") && diff.contains("mine"), "{diff}");
    good(agent.run(["entry", "rollback", "app"]));
    assert!(!text(&etcd.get(&format!("{prefix}entries/app")).unwrap()).contains("mine"));
    assert!(good(agent.run(["entry", "list"])).contains("app.log"));
    app.write(1_000);
    good(agent.run(["entry", "rm", "app"]));
    refused(agent.run(["entry", "rm", "app"]), "there is no entry");
    refused(agent.run(["entry", "get", "app"]), "there is no entry");
    good(agent.run(["entry", "rollback", "app", "--to", "2"]));
    app.write(1_000);
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
}

#[test]
fn a_classic_array_and_an_ini_file_become_entries() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/import/");
    let agent = agent(etcd, kafka, prefix, "node-1");
    let key = "import_log_10.0.0.5_conf";
    etcd.put(key, r#"[{"path":"/var/log/nginx/access.log","topic":"web"},{"path":"/d/b.log","topic":"b"}]"#);
    good(agent.run(["entry", "import", "--array", key, "--nodes", "web-05", "--dry-run"]));
    assert_eq!(etcd.keys(&format!("{prefix}entries/")), Vec::<String>::new());
    good(agent.run(["entry", "import", "--array", key, "--nodes", "web-05", "--remove"]));
    assert_eq!(
        etcd.keys(&format!("{prefix}entries/")),
        [format!("{prefix}entries/d-b"), format!("{prefix}entries/nginx-access")]
    );
    assert_eq!(etcd.get(key), None, "removed in the same transaction");
    let web: Value = serde_json::from_slice(&etcd.get(&format!("{prefix}entries/nginx-access")).unwrap()).unwrap();
    assert_eq!(web, json!({ "path": "/var/log/nginx/access.log", "topic": "web", "nodes": ["web-05"] }));
    let ini = agent.path("logagent.ini");
    std::fs::write(&ini, "[kafka]\naddress=127.0.0.1:9092\ntopic=web_log\n[taillog]\nfilename=/d/my.log\n").unwrap();
    good(agent.run(["entry", "import", "--ini", ini.to_str().unwrap()]));
    assert!(etcd.get(&format!("{prefix}entries/d-my")).is_some());
    refused(agent.run(["entry", "import", "--ini", ini.to_str().unwrap()]), "is there already");
}

#[test]
fn the_fleet_says_who_is_well_who_refuses_what_and_who_is_gone() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/fleet/");
    let topic = kafka.topic("fleet", 1);
    let [mut one, mut two] = ["one", "two"].map(|name| agent(etcd, kafka, prefix, name));
    two.set("entries", "allow_topics", vec!["other-*"]);
    let mut app = log(&one, "app", Style::Json, 1);
    let plain = entry(&one, "app.log", &topic);
    good(put(&one, "app", &plain));
    one.start();
    two.start();
    app.write(500);
    until_node(&one, "one", "is well", |node| node["state"] == "ok");
    until_node(&one, "two", "refuses the topic", |node| {
        node["state"] == "refuses" && node["status"]["problems"].to_string().contains("allow_topics")
    });
    until_node(&one, "one", "has shipped", |node| {
        node["status"]["entries"][0]["loss"]["delivered"]["lines"] == json!(500)
    });
    let shown = good(one.run(["status"]));
    assert!(shown.contains("2 nodes") && shown.contains("two: refuses etcd /fleet/entries/app: topic"), "{shown}");
    let shown = good(one.run(["status", "one"]));
    assert!(shown.contains("app") && shown.contains("500"), "{shown}");
    assert!(good(one.run(["status", "--local"])).contains("one"));
    // Gone, and missed until it is forgotten.
    refused(one.run(["status", "--forget", "two"]), "two lives");
    two.kill();
    until_node(&one, "two", "is gone", |node| node["state"] == "gone");
    refused(one.run(["status", "two"]), "two is gone");
    good(one.run(["status", "--forget", "two"]));
    assert!(node(&fleet(&one), "two").is_none());
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut one);
}

#[test]
fn a_canary_runs_where_it_should_is_promoted_and_is_taken_back_when_it_is_bad() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/rollout/");
    let topic = kafka.topic("rollout", 1);
    let [mut canary, mut other] = ["canary", "other"].map(|name| agent(etcd, kafka, prefix, name));
    canary.variable("TAILMILL_LABELS", "zone=a");
    let label = ["--canary-label", "zone=a"];
    refused(push(&canary, "1", &guests::keep(), label), "without --canary first");
    good(push(&canary, "1", &guests::keep(), []));
    let (mut a, mut b) = (log(&canary, "app", Style::Json, 1), log(&other, "app", Style::Json, 2));
    let filters = json!([{ "use": "mine", "stateless": true, "on_error": "pass" }]);
    for (agent, name) in [(&canary, "canary"), (&other, "other")] {
        let mut entry = filtered(entry(agent, "app.log", &topic), filters.clone());
        entry["nodes"] = json!([name]);
        good(put(&canary, name, &entry));
    }
    canary.start();
    other.start();
    let digest = |wasm: &[u8]| tailmill_engine::Digest::of(wasm).to_string();
    let runs = |agent: &Agent, name: &str, wasm: &[u8]| {
        until_node(agent, name, "runs it", |node| node["status"]["entries"][0]["modules"][0] == json!(digest(wasm)));
    };
    a.write(5_000);
    b.write(5_000);
    let good_one = guests::line_world("nop");
    good(push(&canary, "2", &good_one, label));
    runs(&canary, "canary", &good_one);
    runs(&canary, "other", &guests::keep());
    let shown = good(canary.run(["rollout", "status", "mine"]));
    assert!(shown.contains("1 of 1"), "{shown}");
    good(canary.run(["rollout", "promote", "mine", "--reason", "looks good"]));
    runs(&canary, "other", &good_one);
    refused(canary.run(["rollout", "abort", "mine"]), "is on trial");

    // One that faults on every line: whoever watches takes it back.
    let faulty = guests::line_world("unreachable");
    good(push(&canary, "3", &faulty, label));
    runs(&canary, "canary", &faulty);
    a.write(5_000);
    b.write(5_000);
    let watched = canary.run(["rollout", "watch", "mine", "--every", "0.5"]);
    assert_eq!(watched.status.code(), Some(1), "{}{}", text(&watched.stdout), text(&watched.stderr));
    assert!(text(&watched.stdout).contains("faults"), "{}", text(&watched.stdout));
    runs(&canary, "canary", &good_one);
    let steps: Value = serde_json::from_str(&good(canary.run(["rollout", "status", "mine", "--json"]))).unwrap();
    let actions: Vec<&str> =
        steps["steps"].as_array().unwrap().iter().filter_map(|step| step["action"].as_str()).collect();
    assert_eq!(actions, ["push", "canary", "promote", "canary", "abort"]);
    assert!(steps["steps"][4]["reason"].as_str().unwrap().contains("faults"));
    assert_eq!(steps["steps"][2]["reason"], "looks good");

    // A good one by itself: promoted step by step by the watch.
    good(push(&canary, "4", &guests::keep(), label));
    runs(&canary, "canary", &guests::keep());
    a.write(5_000);
    let watched = canary.run(["rollout", "watch", "mine", "--steps", "50%,100%", "--hold", "1", "--every", "0.5"]);
    assert!(watched.status.success(), "{}{}", text(&watched.stdout), text(&watched.stderr));
    runs(&canary, "other", &guests::keep());
    let expected = Expected::all([&a, &b]);
    let mut tap = Tap::open(kafka, &topic);
    expected.arrives(&mut tap, tailmill_tests::oracle::Content::Same, || canary.report());
    canary.stop_cleanly();
    other.stop_cleanly();
    expected.judge(tap.to_end(), tailmill_tests::oracle::Content::Same).assert_once(|| canary.report());
}

//! An etcd that fails in every way: members killed and frozen, TLS, users, compaction, partitions, restored backups. The agent
//! ships on and converges; no line is lost or shipped twice by it.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking, too")]

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::etcd::Etcd;
use tailmill_tests::etcd_cluster::Cluster;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::Expected;
use tailmill_tests::proxy::Proxy;
use tailmill_tests::scene::{arrives_once, entry, filtered, log};
use tailmill_tests::topic::Tap;
use tailmill_tests::wait;

/// The same entry with another mark that shows in the status: the second topic that it may choose.
fn marked(agent: &Agent, topic: &str, number: usize) -> Value {
    let mut entry = entry(agent, "app.log", topic);
    entry["finish_after_ms"] = json!(200 + number);
    entry["nodes"] = json!(["*"]);
    entry
}

/// Waits until the plan in force is so many changes further.
fn until_revision(agent: &mut Agent, at_least: u64) {
    agent.until(&format!("plan {at_least} is in force"), |agent| {
        let revision = agent.status()["plan"]["revision"].as_u64()?;
        (revision >= at_least).then_some(())
    });
}

/// Waits until the agent says that etcd cannot be followed.
fn until_lost(agent: &mut Agent) {
    agent.until("the loss of etcd is shown", |agent| {
        let status = agent.status();
        let etcd = status["health"].as_array()?.iter().find(|part| part["part"] == "etcd")?;
        (etcd["ok"] == json!(false)).then_some(())
    });
}

fn revision(agent: &Agent) -> u64 {
    agent.status()["plan"]["revision"].as_u64().unwrap_or_default()
}

fn started(agent: &mut Agent, topic: &str, put: &dyn Fn(&str)) -> LogFile {
    let mut app = log(agent, "app", Style::Json, 1);
    put(&marked(agent, topic, 0).to_string());
    agent.start();
    app.write(1_000);
    agent.until("the entry is there", |agent| agent.status()["entries"].as_array()?.first().map(drop));
    app
}

#[test]
fn with_each_of_three_members_killed_or_frozen_in_turn_changes_arrive() {
    let kafka = Kafka::shared();
    let mut cluster = Cluster::start(3, false, &[]);
    let topic = kafka.topic("members", 1);
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", cluster.endpoints()).unset("entries", "dir");
    let mut app = started(&mut agent, &topic, &|entry| cluster.put("/tailmill/entries/app", entry));
    for member in 0..3 {
        // Dead, then hanging with open connections; one of them leads.
        cluster.kill(member);
        let before = revision(&agent);
        cluster.put("/tailmill/entries/app", &marked(&agent, &topic, 2 * member + 1).to_string());
        until_revision(&mut agent, before + 1);
        app.write(500);
        cluster.launch(member);
        cluster.until_answers();
        cluster.freeze(member);
        let before = revision(&agent);
        cluster.put("/tailmill/entries/app", &marked(&agent, &topic, 2 * member + 2).to_string());
        until_revision(&mut agent, before + 1);
        app.write(500);
        cluster.thaw(member);
    }
    // All of it lost: the agent ships on, and comes back.
    for member in 0..3 {
        cluster.kill(member);
    }
    until_lost(&mut agent);
    app.write(500);
    for member in 0..3 {
        cluster.launch(member);
    }
    cluster.until_answers();
    let before = revision(&agent);
    cluster.put("/tailmill/entries/app", &marked(&agent, &topic, 99).to_string());
    until_revision(&mut agent, before + 1);
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
}

#[test]
fn with_tls_client_certificates_users_and_tokens_that_expire_an_agent_needs_no_more_than_its_rights() {
    let kafka = Kafka::shared();
    let prefix = "/secure/";
    let mut cluster = Cluster::start(1, true, &["--auth-token-ttl=2"]);
    cluster.with_users(prefix, "test-node");
    let topic = kafka.topic("secure", 1);
    let mut agent = Agent::new(kafka);
    let password = agent.path("password");
    std::fs::write(&password, "agent-password\n").unwrap();
    let text = |path: std::path::PathBuf| path.display().to_string();
    agent.set("etcd", "endpoints", cluster.endpoints()).set("etcd", "prefix", prefix).unset("entries", "dir");
    agent.set("etcd", "user", "agent").set("etcd", "password_file", text(password.clone()));
    agent.set("etcd", "ca", text(cluster.file("ca.pem")));
    agent.set("etcd", "cert", text(cluster.file("agent.pem"))).set("etcd", "key", text(cluster.file("agent.key")));
    agent.set("modules", "fetch_spread_ms", 0);
    let entry_key = format!("{prefix}entries/app");
    let mut app = started(&mut agent, &topic, &|entry| cluster.put(&entry_key, entry));
    // The agent's user may not write what operators write.
    let push = |agent: &Agent, user: &str, cert: &str| {
        let wasm = agent.path("mine.wasm");
        std::fs::write(&wasm, guests::keep()).unwrap();
        let secret = agent.path(format!("{user}-password"));
        std::fs::write(&secret, format!("{user}-password")).unwrap();
        let [wasm, secret, cert, key] =
            [wasm, secret, cluster.file(&format!("{cert}.pem")), cluster.file(&format!("{cert}.key"))].map(text);
        let arguments = ["module", "push", &wasm, "--name", "mine", "--version", "1", "--user", user];
        let mut command = agent.command(arguments);
        command.args(["--password-file", &secret, "--cert", &cert, "--cert-key", &key]).output().unwrap()
    };
    let forbidden = push(&agent, "agent", "agent");
    assert_eq!(forbidden.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&forbidden.stderr).contains("permission denied"));
    let pushed = push(&agent, "root", "root");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    // Longer than any token lives, with changes, statuses and a module on the way.
    let began = std::time::Instant::now();
    let mut number = 0;
    while began.elapsed().as_secs() < 6 {
        number += 1;
        let before = revision(&agent);
        let filters = if number % 2 == 0 { json!([]) } else { json!([{ "use": "mine", "stateless": true }]) };
        cluster.put(&entry_key, &filtered(marked(&agent, &topic, number), filters).to_string());
        until_revision(&mut agent, before + 1);
        app.write(200);
    }
    let node = || -> Value {
        let bytes = cluster.get(&format!("{prefix}nodes/test-node")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    wait::until(
        "the status tells of the last change",
        || node().to_string(),
        || (node()["problems"] == json!([]) && node()["revision"].as_i64()? > number as i64).then_some(()),
    );
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
}

#[test]
fn a_partition_a_compaction_and_a_restored_backup_are_found_by_the_agent_alone() {
    let kafka = Kafka::shared();
    let etcd = Etcd::start();
    let proxy = Proxy::to(etcd.port());
    let topic = kafka.topic("partition", 1);
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![proxy.endpoint()]).unset("entries", "dir");
    let key = "/tailmill/entries/app";
    let mut app = started(&mut agent, &topic, &|entry| etcd.put(key, entry));
    // Every connection looks alive and nothing passes. Meanwhile it is changed, and the history is thrown away.
    proxy.freeze();
    etcd.put(key, marked(&agent, &topic, 1).to_string());
    etcd.put(key, marked(&agent, &topic, 2).to_string());
    etcd.compact();
    app.write(500);
    until_lost(&mut agent);
    let before = revision(&agent);
    proxy.thaw();
    until_revision(&mut agent, before + 1);
    app.write(500);
    // A backup of now, more changes, and the backup again: the store goes back.
    etcd.kill();
    etcd.back_up();
    etcd.start_again();
    for number in 3..40 {
        etcd.put(key, marked(&agent, &topic, number).to_string());
    }
    agent.until("the last change is there", |_| {
        let text = etcd.get("/tailmill/nodes/test-node")?;
        let node: Value = serde_json::from_slice(&text).ok()?;
        (node["revision"].as_i64()? >= etcd.revision_of(key)?).then_some(())
    });
    let before = revision(&agent);
    etcd.kill();
    etcd.restore();
    etcd.start_again();
    until_revision(&mut agent, before + 1);
    app.write(500);
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
}

#[test]
fn nonsense_in_etcd_is_refused_key_by_key_and_a_flood_of_it_hurts_nobody() {
    let kafka = Kafka::shared();
    let etcd = Etcd::start();
    let topic = kafka.topic("nonsense", 1);
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![etcd.endpoint()]).unset("entries", "dir").unset("modules", "dir");
    let mut app = started(&mut agent, &topic, &|entry| etcd.put("/tailmill/entries/app", entry));
    let good = marked(&agent, &topic, 0);
    let missing = filtered(good.clone(), json!([{ "use": "nobody" }]));
    let huge = format!("{{\"path\":\"/x\",\"topic\":\"t\",\"x\":\"{}\"}}", "x".repeat(1_400_000));
    let cases: [(&str, String, &str); 8] = [
        ("entries/app", "{".to_owned(), "is not JSON"),
        ("entries/app", "[]".to_owned(), "expected an object"),
        ("entries/app", missing.to_string(), "there is no module `nobody` in etcd"),
        ("entries/huge", huge, "unknown key `x`"),
        ("entries/no/name", good.to_string(), "cannot be an entry's name"),
        ("modules/odd", "garbage".to_owned(), "not a record of ours"),
        ("releases/odd/1", "{}".to_owned(), "not a record of ours"),
        ("modules/a/b", "{}".to_owned(), "not a record of ours"),
    ];
    for (key, value, said) in &cases {
        etcd.put(&format!("/tailmill/{key}"), value.as_str());
        agent.until(&format!("{key} is refused"), |agent| {
            let problems = agent.status()["plan"]["problems"].to_string();
            (problems.contains(&format!("etcd /tailmill/{key}")) && problems.contains(said)).then_some(())
        });
        app.write(100);
    }
    etcd.put("/tailmill/nobody/knows", "this");
    // Ten thousand changes as fast as etcd takes them.
    etcd.flood(10_000, |i| {
        let key = format!("/tailmill/entries/flood-{}", i % 100);
        let value = if i % 3 == 0 { "{".to_owned() } else { json!({ "path": "/nowhere", "topic": "t" }).to_string() };
        (key, value)
    });
    etcd.delete_all("/tailmill/entries/");
    etcd.delete_all("/tailmill/modules/");
    etcd.delete_all("/tailmill/releases/");
    etcd.put("/tailmill/entries/app", good.to_string());
    app.write(1_000);
    agent.until("nothing is refused any more", |agent| {
        let status = agent.status();
        let entries = status["entries"].as_array()?.iter().filter(|entry| entry["in_plan"] == json!(true)).count();
        (status["plan"]["problems"] == json!([]) && entries == 1).then_some(())
    });
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
}

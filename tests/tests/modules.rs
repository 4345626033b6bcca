//! Modules that are deployed through etcd: pushed, put in force, refused, taken back, while lines arrive.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail by panicking, too")]

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Output;
use tailmill_tests::agent::Agent;
use tailmill_tests::command::{good, refused, text};
use tailmill_tests::etcd::Etcd;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::Expected;
use tailmill_tests::process::Process;
use tailmill_tests::scene::{arrives_once, entry, filtered, log};
use tailmill_tests::topic::Tap;
use tailmill_tests::wait;

/// An agent whose entries and modules come from etcd, under a prefix of its own.
fn agent(etcd: &Etcd, kafka: &Kafka, prefix: &str) -> Agent {
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![etcd.endpoint()]).set("etcd", "prefix", prefix);
    agent.set("modules", "fetch_spread_ms", 0).unset("modules", "dir");
    agent
}

/// The module with so many bytes beside its code that nothing can compress. `seed`: which ones.
fn padded(wasm: Vec<u8>, bytes: usize, seed: u64) -> Vec<u8> {
    let mut noise = Vec::with_capacity(bytes);
    let mut state = seed;
    while noise.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&(state ^ (state >> 33)).to_le_bytes()[2..6]);
    }
    with_section(wasm, &noise)
}

/// Adds a custom section with this content.
fn with_section(mut wasm: Vec<u8>, content: &[u8]) -> Vec<u8> {
    let mut body = vec![5];
    body.extend(b"noise");
    body.extend(content);
    wasm.push(0);
    let mut length = body.len();
    while length >= 0x80 {
        wasm.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    wasm.push(length as u8);
    wasm.extend(body);
    wasm
}

fn file(agent: &Agent, name: &str, wasm: &[u8]) -> PathBuf {
    let path = agent.path(format!("{name}.wasm"));
    std::fs::write(&path, wasm).unwrap();
    path
}

fn push(agent: &Agent, name: &str, version: &str, wasm: &[u8]) -> Output {
    let path = file(agent, &name.replace('/', "-"), wasm);
    agent.run(["module", "push", path.to_str().unwrap(), "--name", name, "--version", version, "--json"])
}

fn digest_of(wasm: &[u8]) -> String {
    tailmill_engine::Digest::of(wasm).to_string()
}

/// Waits until this module has run in the chain of `app`.
fn until_runs(agent: &mut Agent, file: &mut LogFile, wasm: &[u8]) {
    let digest = digest_of(wasm);
    file.write(100);
    agent.until("the module works", |agent| {
        let status = agent.status();
        let filters = status["entries"].as_array()?.iter().find(|one| one["name"] == "app")?["filters"].clone();
        filters.as_array()?.iter().any(|filter| filter["digest"] == json!(digest)).then_some(())
    });
}

fn until_problem(agent: &mut Agent, text: &str) {
    agent.until(&format!("a problem says {text:?}"), |agent| {
        agent.status()["plan"]["problems"].to_string().contains(text).then_some(())
    });
}

fn until_no_problem(agent: &mut Agent) {
    agent.until("there is no problem", |agent| (agent.status()["plan"]["problems"] == json!([])).then_some(()));
}

fn mine() -> Value {
    json!([{ "use": "mine", "stateless": true }])
}

#[test]
fn a_module_is_pushed_replaced_and_rolled_back_without_a_line_lost() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/push/");
    let topic = kafka.topic("push", 1);
    let mut agent = agent(etcd, kafka, prefix);
    let mut app = log(&agent, "app", Style::Json, 1);
    let [one, two] = [padded(guests::keep(), 3_000_000, 1), padded(guests::line_world("nop"), 3_000_000, 1)];
    good(push(&agent, "mine", "1.0", &one));
    etcd.put(&format!("{prefix}entries/app"), filtered(entry(&agent, "app.log", &topic), mine()).to_string());
    // Not fetched yet: nothing is wrong with that.
    good(agent.run(["check"]));
    agent.start();
    until_runs(&mut agent, &mut app, &one);
    let pushed: Value = serde_json::from_str(&good(push(&agent, "mine", "2.0", &two))).unwrap();
    assert!(pushed["chunks_there"].as_u64().unwrap() >= 2, "an equal chunk is stored once: {pushed}");
    app.write(5_000);
    until_runs(&mut agent, &mut app, &two);
    good(agent.run(["module", "rollback", "mine"]));
    app.write(5_000);
    agent.until("the old one is back", |agent| {
        let filters = agent.status()["entries"][0]["filters"].clone();
        let swaps =
            filters.as_array()?.iter().find(|filter| filter["digest"] == json!(digest_of(&one)))?["swaps"].as_u64()?;
        (swaps >= 1).then_some(())
    });
    // By version, by digest, and in a file again.
    for (used, wasm) in [("mine@2.0".to_owned(), &two), (digest_of(&one), &one)] {
        let filters = json!([{ "use": used, "stateless": true }]);
        etcd.put(&format!("{prefix}entries/app"), filtered(entry(&agent, "app.log", &topic), filters).to_string());
        until_runs(&mut agent, &mut app, wasm);
    }
    let copy = agent.path("copy.wasm");
    good(agent.run(["module", "pull", "mine@2.0", "-o", copy.to_str().unwrap()]));
    assert_eq!(std::fs::read(copy).unwrap(), two);
    for (command, said) in [("list", "1.0"), ("verify", "2 releases, 0 bad")] {
        assert!(good(agent.run(["module", command])).contains(said));
    }
    let shown = good(agent.run(["module", "show", "mine"]));
    assert!(shown.contains("rollback") && shown.contains("push"), "{shown}");
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
    // What was fetched is here: with etcd out of reach it starts again.
    agent.set("etcd", "endpoints", vec!["http://127.0.0.1:1"]);
    agent.start();
    app.write(100);
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
}

#[test]
fn what_is_wrong_with_a_module_is_said_before_anything_is_pushed() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/refused/");
    let agent = agent(etcd, kafka, prefix);
    refused(push(&agent, "mine", "1.0", b"no wasm"), "mine.wasm");
    refused(push(&agent, "mine", "1.0", &guests::importing("env", "evil")), "it imports env");
    refused(push(&agent, "no/name", "1.0", &guests::keep()), "cannot be a module's name");
    refused(push(&agent, "mine", "1 0", &guests::keep()), "version");
    // It does not start with what an entry gives it.
    let picky = guests::line_world_starting("nop", "unreachable");
    etcd.put(&format!("{prefix}entries/app"), filtered(entry(&agent, "app.log", "t"), mine()).to_string());
    refused(push(&agent, "mine", "1.0", &picky), "entries/app: filters[0]");
    assert_eq!(etcd.keys(&format!("{prefix}modules/")), Vec::<String>::new());
    assert_eq!(etcd.keys(&format!("{prefix}blobs/")), Vec::<String>::new());
    // A case that fails.
    let cases = agent.path("cases");
    std::fs::create_dir(&cases).unwrap();
    std::fs::write(cases.join("one.input"), "a\nb\n").unwrap();
    std::fs::write(cases.join("one.expected"), "a\n").unwrap();
    let path = file(&agent, "mine", &guests::keep());
    let [path, cases] = [&path, &cases].map(|path| path.to_str().unwrap());
    let with_cases = ["module", "push", path, "--name", "mine", "--version", "1.0", "--cases", cases];
    refused(agent.run(with_cases), "cases fail");
    // A version is what it was.
    good(push(&agent, "mine", "1.0", &guests::keep()));
    good(push(&agent, "mine", "1.0", &guests::keep()));
    refused(push(&agent, "mine", "1.0", &guests::drop_all()), "choose another version");
    refused(agent.run(["module", "rollback", "mine"]), "there is none before it");
    refused(agent.run(["module", "remove", "mine"]), "entries/app uses mine");
    good(agent.run(["module", "remove", "mine", "--force"]));
    let said = good(agent.run(["module", "gc"]));
    assert!(said.contains("0 left"), "{said}");
}

#[test]
fn a_push_that_is_interrupted_leaves_what_was_in_force_and_the_next_one_goes_on() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/interrupted/");
    let agent = agent(etcd, kafka, prefix);
    good(push(&agent, "mine", "1.0", &guests::keep()));
    let before = etcd.get(&format!("{prefix}modules/mine"));
    let large = padded(guests::keep(), 30_000_000, 7);
    let path = file(&agent, "large", &large);
    let arguments = ["module", "push", path.to_str().unwrap(), "--name", "mine", "--version", "2.0"];
    for blobs in [1, 5, 20] {
        let mut command = agent.command(arguments);
        let mut process = Process::start("push", &mut command, &agent.path("push.log"));
        wait::until(
            "some blobs are written",
            || "push".to_owned(),
            || {
                assert!(process.ended().is_none(), "it must not be done before it is killed");
                (etcd.keys(&format!("{prefix}blobs/")).len() > blobs).then_some(())
            },
        );
        process.kill();
        assert_eq!(etcd.get(&format!("{prefix}modules/mine")), before);
    }
    good(agent.run(["module", "verify"]));
    let pushed: Value = serde_json::from_str(&good(push(&agent, "mine", "2.0", &large))).unwrap();
    assert!(pushed["chunks_there"].as_u64().unwrap() >= 20, "{pushed}");
    good(agent.run(["module", "verify"]));
}

#[test]
fn what_is_bad_in_etcd_is_refused_by_name_and_what_was_in_force_stays() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/bad-modules/");
    let topic = kafka.topic("bad-modules", 1);
    let mut agent = agent(etcd, kafka, prefix);
    let key_file = agent.path("release.key");
    let public = good(agent.run_plain(["key", "generate", key_file.to_str().unwrap()])).trim().to_owned();
    agent.set("modules", "trusted_keys", vec![public]);
    let mut app = log(&agent, "app", Style::Json, 1);
    let (one, two) = (guests::keep(), padded(guests::keep(), 2_500_000, 3));
    let signed = |agent: &Agent, name: &str, version: &str, wasm: &[u8]| {
        let path = file(agent, name, wasm);
        let [path, key] = [&path, &key_file].map(|path| path.to_str().unwrap().to_owned());
        good(agent.run(["module", "push", &path, "--name", name, "--version", version, "--sign", &key]));
    };
    let module = |name: &str| format!("{prefix}modules/{name}");
    signed(&agent, "mine", "1.0", &one);
    etcd.put(&format!("{prefix}entries/app"), filtered(entry(&agent, "app.log", &topic), mine()).to_string());
    agent.start();
    until_runs(&mut agent, &mut app, &one);
    let in_force: Value = serde_json::from_slice(&etcd.get(&module("mine")).unwrap()).unwrap();
    let put = |change: &dyn Fn(&mut Value)| {
        let mut record = in_force.clone();
        change(&mut record);
        etcd.put(&module("mine"), record.to_string());
    };
    signed(&agent, "other", "9.0", &two);
    let other: Value = serde_json::from_slice(&etcd.get(&module("other")).unwrap()).unwrap();
    let digest = json!(digest_of(b"something else"));
    let chunk = json!([{ "digest": digest, "size": 10 }]);
    type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let cases: [(&str, Change<'_>); 8] = [
        ("not a record of ours", Box::new(|record| *record = json!("garbage"))),
        ("update tailmill", Box::new(|record| record["format"] = json!(99))),
        ("at most 134217728 are taken", Box::new(|record| record["release"]["size"] = json!(u64::MAX))),
        ("it is not signed", Box::new(|record| record["release"]["signature"] = Value::Null)),
        ("its signature is wrong", Box::new(|record| record["release"]["version"] = json!("1.1"))),
        // Signed, but as another module.
        ("is a release of `other`", Box::new(|record| record["release"] = other["release"].clone())),
        (
            "made for another name",
            Box::new(|record| {
                record["release"] = other["release"].clone();
                record["release"]["name"] = json!("mine");
            }),
        ),
        (
            "is not in etcd: push the module again",
            Box::new(|record| {
                // Chunks are no part of what is signed: they are believed when they add up to the digest.
                record["release"]["digest"] = in_force["release"]["digest"].clone();
                record["release"]["version"] = in_force["release"]["version"].clone();
                record["release"]["size"] = json!(10);
                record["release"]["chunks"] = chunk.clone();
            }),
        ),
    ];
    for (said, change) in &cases {
        if said.contains("push the module again") {
            // What is here already need not be fetched.
            agent.stop_cleanly();
            std::fs::remove_dir_all(agent.path("state/modules")).unwrap();
            agent.start();
        }
        put(change);
        until_problem(&mut agent, said);
        wait::until(
            &format!("the fleet's status says {said:?}"),
            || agent.report(),
            || good(agent.run(["status"])).contains(said).then_some(()),
        );
        app.write(200);
    }
    etcd.put(&module("mine"), in_force.to_string());
    until_no_problem(&mut agent);
    // A chunk that is damaged, and one that is a bomb; then it is pushed again.
    for (i, bad) in [b"damaged".to_vec(), bomb()].into_iter().enumerate() {
        let wasm = padded(guests::keep(), 2_500_000, 100 + i as u64);
        let version = format!("3.{i}");
        signed(&agent, "third", &version, &wasm);
        let record: Value = serde_json::from_slice(&etcd.get(&module("third")).unwrap()).unwrap();
        let first = record["release"]["chunks"][0]["digest"].as_str().unwrap().replace("sha256:", "");
        etcd.put(&format!("{prefix}blobs/{first}"), bad);
        let filters = json!([{ "use": format!("third@{version}"), "stateless": true }]);
        etcd.put(&format!("{prefix}entries/app"), filtered(entry(&agent, "app.log", &topic), filters).to_string());
        until_problem(&mut agent, "is damaged in etcd");
        let verify = agent.run(["module", "verify"]);
        assert!(!verify.status.success() && text(&verify.stdout).contains("is damaged"));
        app.write(200);
        signed(&agent, "third", &version, &wasm);
        until_runs(&mut agent, &mut app, &wasm);
    }
    // It loads and does not start: the last good release goes on.
    let dies = guests::line_world_starting("nop", "unreachable");
    etcd.delete(&format!("{prefix}entries/app"));
    signed(&agent, "third", "4.0", &dies);
    let filters = json!([{ "use": "third", "stateless": true }]);
    etcd.put(&format!("{prefix}entries/app"), filtered(entry(&agent, "app.log", &topic), filters).to_string());
    until_problem(&mut agent, "while starting");
    let plain = entry(&agent, "app.log", &topic);
    etcd.put(&format!("{prefix}entries/app"), plain.to_string());
    arrives_once(&Expected::all([&app]), &mut Tap::open(kafka, &topic), &mut agent);
}

/// A GiB of zeros.
fn bomb() -> Vec<u8> {
    zstd::bulk::compress(&vec![0; 1 << 30], 3).unwrap()
}

#[test]
fn thirty_megabytes_reach_three_agents() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::start(), "/tailmill/");
    let topic = kafka.topic("large", 1);
    let wasm = padded(guests::keep(), 30_000_000, 11);
    let mut agents: Vec<(Agent, LogFile)> = (1..4)
        .map(|i| {
            let mut one = agent(&etcd, kafka, prefix);
            one.set("", "node", format!("node-{i}"));
            let app = log(&one, "app", Style::Json, i);
            (one, app)
        })
        .collect();
    good(push(&agents[0].0, "mine", "1.0", &guests::keep()));
    for (i, (one, _)) in agents.iter().enumerate() {
        let mut entry = filtered(entry(one, "app.log", &topic), mine());
        entry["nodes"] = json!([format!("node-{}", i + 1)]);
        etcd.put(&format!("{prefix}entries/app-{i}"), entry.to_string());
    }
    for (one, app) in &mut agents {
        one.start();
        app.write(1_000);
    }
    let began = std::time::Instant::now();
    good(push(&agents[0].0, "mine", "2.0", &wasm));
    let pushed = began.elapsed();
    let digest = json!(digest_of(&wasm));
    for (one, app) in &mut agents {
        let app = std::cell::RefCell::new(app);
        one.until("the large module works", |agent| {
            app.borrow_mut().write(10);
            let status = agent.status();
            let filters =
                status["entries"].as_array()?.iter().find(|one| one["in_plan"] == json!(true))?["filters"].clone();
            filters.as_array()?.iter().any(|filter| filter["digest"] == digest).then_some(())
        });
    }
    tailmill_tests::say(&format!("30 MB: pushed in {pushed:?}, in use on three agents after {:?}", began.elapsed()));
    let logs: Vec<&LogFile> = agents.iter().map(|(_, app)| app).collect();
    let expected = Expected::all([logs[0], logs[1], logs[2]]);
    let mut tap = Tap::open(kafka, &topic);
    expected.arrives(&mut tap, tailmill_tests::oracle::Content::Same, || agents[0].0.report());
    for (one, _) in &mut agents {
        one.stop_cleanly();
    }
    expected.judge(tap.to_end(), tailmill_tests::oracle::Content::Same).assert_once(|| agents[0].0.report());
}

#[test]
fn a_push_and_a_collection_of_garbage_at_the_same_time_hurt_nobody() {
    let (kafka, etcd, prefix) = (Kafka::shared(), Etcd::shared(), "/garbage/");
    let agent = agent(etcd, kafka, prefix);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let endpoint = etcd.endpoint();
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // Not through the settings file: it is written anew for every command.
                let swept =
                    agent.run_plain(["module", "gc", "--keep", "2", "--endpoints", &endpoint, "--prefix", prefix]);
                let said = text(&swept.stderr);
                assert!(swept.status.success() || said.contains("again and again"), "{said}");
            }
        });
        for version in 0..6_u64 {
            let pushed = push(&agent, "mine", &format!("1.{version}"), &padded(guests::keep(), 3_000_000, version));
            // Losing every race is said; then nothing is in force that is not whole.
            assert!(pushed.status.success() || text(&pushed.stderr).contains("again and again"));
            good(agent.run(["module", "verify"]));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        sweeper.join().unwrap();
    });
    good(agent.run(["module", "gc", "--keep", "2"]));
    let releases = etcd.keys(&format!("{prefix}releases/mine/"));
    assert_eq!(releases.len(), 2, "{releases:?}");
    good(agent.run(["module", "verify"]));
}

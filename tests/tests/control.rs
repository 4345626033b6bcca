//! Entries and modules that come, change and go while the agent runs: no line lost and none shipped twice because of it.

use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::etcd::Etcd;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::oracle::{Content, Expected};
use tailmill_tests::scene::{arrives_once, entry, filtered, log};
use tailmill_tests::topic::{Record, Tap};

/// Where an entry is written.
enum Place {
    Directory,
    Etcd(&'static Etcd, String),
}

impl Place {
    /// In etcd, under a prefix of its own.
    fn etcd(prefix: &str, agent: &mut Agent) -> Place {
        let etcd = Etcd::shared();
        agent.set("etcd", "endpoints", vec![etcd.endpoint()]).set("etcd", "prefix", prefix);
        Place::Etcd(etcd, prefix.to_owned())
    }

    fn put(&self, agent: &Agent, name: &str, entry: &Value) {
        match self {
            Place::Directory => {
                agent.entry(name, entry);
            }
            Place::Etcd(etcd, prefix) => etcd.put(&format!("{prefix}entries/{name}"), entry.to_string()),
        }
    }

    fn remove(&self, agent: &Agent, name: &str) {
        match self {
            Place::Directory => agent.remove_entry(name),
            Place::Etcd(etcd, prefix) => etcd.delete(&format!("{prefix}entries/{name}")),
        }
    }
}

fn until_in_plan(agent: &mut Agent, name: &str, wanted: bool) {
    agent.until(&format!("{name} is in the plan: {wanted}"), |agent| {
        let status = agent.status();
        let entries = status["entries"].as_array()?;
        let there = entries.iter().any(|entry| entry["name"] == name && entry["in_plan"] == json!(true));
        (there == wanted).then_some(())
    });
}

fn until_topic(agent: &mut Agent, name: &str, topic: &str) {
    agent.until(&format!("{name} goes to {topic}"), |agent| {
        let status = agent.status();
        let entries = status["entries"].as_array()?;
        entries.iter().any(|entry| entry["name"] == name && entry["topic"] == topic).then_some(())
    });
}

fn count(tap: &mut Tap, agent: &Agent, records: usize) {
    tap.until(&format!("{records} records are there"), || agent.report(), |all| all.len() >= records);
}

#[test]
fn entries_come_change_and_go_in_the_directory_and_in_etcd() {
    let places: [fn(&mut Agent) -> Place; 2] = [|_| Place::Directory, |agent| Place::etcd("/come-and-go/", agent)];
    for place in places {
        let kafka = Kafka::shared();
        let [first, second, other] = ["first", "second", "other"].map(|name| kafka.topic(name, 1));
        let mut agent = Agent::new(kafka);
        let place = place(&mut agent);
        let (mut changing, mut steady) =
            (log(&agent, "changing", Style::Json, 1), log(&agent, "steady", Style::Json, 2));
        place.put(&agent, "steady", &entry(&agent, "steady.log", &other));
        agent.start();
        let [mut to_first, mut to_second, mut to_other] =
            [&first, &second, &other].map(|topic| Tap::open(kafka, topic));

        // It comes.
        steady.write(1_000);
        changing.write(1_000);
        place.put(&agent, "changing", &entry(&agent, "changing.log", &first));
        count(&mut to_first, &agent, 1_000);
        // Its topic changes.
        place.put(&agent, "changing", &entry(&agent, "changing.log", &second));
        until_topic(&mut agent, "changing", &second);
        changing.write(1_000);
        steady.write(1_000);
        count(&mut to_second, &agent, 1_000);
        // It goes: what is written meanwhile waits.
        place.remove(&agent, "changing");
        until_in_plan(&mut agent, "changing", false);
        changing.write(1_000);
        steady.write(1_000);
        count(&mut to_other, &agent, 3_000);
        assert_eq!(to_second.to_end().len(), 1_000, "an entry that is gone ships nothing");
        // It comes back, and goes on where it was.
        place.put(&agent, "changing", &entry(&agent, "changing.log", &second));
        count(&mut to_second, &agent, 2_000);

        arrives_once(&Expected::all([&steady]), &mut to_other, &mut agent);
        let records: Vec<Record> = [to_first.to_end(), to_second.to_end()].concat();
        Expected::all([&changing]).judge(&records, Content::Same).assert_once(|| agent.report());
    }
}

#[test]
fn a_change_of_filters_takes_effect_and_touches_no_mark() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("filters", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Access, 1);
    let with = |filters: Value| filtered(entry(&agent, "app.log", &topic), filters);
    let [plain, grep] = [with(json!([])), with(json!([{ "use": "grep", "with": { "exclude": "healthz" } }]))];
    agent.stock("grep").entry("app", &plain);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    file.write(4_000);
    count(&mut tap, &agent, 4_000);
    agent.entry("app", &grep);
    agent.until("the filter is there", |agent| {
        let filters = agent.status()["entries"][0]["filters"].clone();
        filters.as_array()?.iter().any(|filter| filter["name"] == "grep").then_some(())
    });
    file.write(4_000);
    let healthz = |line: &[u8]| memchr::memmem::find(line, b"healthz").is_some();
    let number = |line: &[u8]| tailmill_tests::lines::tag(line).map_or(0, |(_, number)| number);
    arrives_once(&Expected::those([&file], |line| number(line) < 4_000 || !healthz(line)), &mut tap, &mut agent);
}

/// `collect_log_%s_conf` with the address that this host uses towards the Internet; nothing is sent to find it.
fn classic_key() -> String {
    let ask = || -> std::io::Result<std::net::IpAddr> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("8.8.8.8:80")?;
        Ok(socket.local_addr()?.ip())
    };
    let ip = ask().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
    format!("collect_log_{ip}_conf")
}

#[test]
fn the_classic_array_key_may_be_reordered_and_changed_and_keeps_every_mark() {
    let kafka = Kafka::shared();
    let etcd = Etcd::start();
    let [ta, tb, tc] = ["a", "b", "c"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![etcd.endpoint()]).set("etcd", "entries_key", "collect_log_%s_conf");
    let (mut a, mut b) = (log(&agent, "a", Style::Json, 1), log(&agent, "b", Style::Json, 2));
    let [pa, pb] = [&a, &b].map(|file| file.path().display().to_string());
    // Byte for byte what the classic LogAgent reads.
    let item = |path: &str, topic: &str| format!(r#"{{"path":"{path}","topic":"{topic}"}}"#);
    let put = |items: &[String]| etcd.put(&classic_key(), format!("[{}]", items.join(",")));
    let [mut to_a, mut to_b, mut to_c] = [&ta, &tb, &tc].map(|topic| Tap::open(kafka, topic));
    let write = |a: &mut tailmill_tests::logfile::LogFile, b: &mut tailmill_tests::logfile::LogFile| {
        a.write(1_000);
        b.write(1_000);
    };

    put(&[item(&pa, &ta), item(&pb, &tb)]);
    agent.start();
    write(&mut a, &mut b);
    count(&mut to_a, &agent, 1_000);
    count(&mut to_b, &agent, 1_000);
    // Another order.
    put(&[item(&pb, &tb), item(&pa, &ta)]);
    write(&mut a, &mut b);
    count(&mut to_a, &agent, 2_000);
    count(&mut to_b, &agent, 2_000);
    // The first one is removed, so that the other one moves up; its topic changes.
    put(&[item(&pa, &tc)]);
    agent.until("a goes to another topic, alone", |agent| {
        let status = agent.status();
        let entries: Vec<&Value> =
            status["entries"].as_array()?.iter().filter(|e| e["in_plan"] == json!(true)).collect();
        (entries.len() == 1 && entries[0]["topic"] == json!(tc)).then_some(())
    });
    write(&mut a, &mut b);
    count(&mut to_c, &agent, 1_000);
    assert_eq!(to_b.to_end().len(), 2_000, "an item that is gone ships nothing");
    // It comes back behind the other one and goes on where it was.
    put(&[item(&pa, &tc), item(&pb, &tb)]);
    arrives_once(&Expected::all([&b]), &mut to_b, &mut agent);
    let records = [to_a.to_end(), to_c.to_end()].concat();
    Expected::all([&a]).judge(&records, Content::Same).assert_once(|| agent.report());
}

#[test]
fn with_etcd_down_at_the_start_the_last_good_plan_is_used() {
    let kafka = Kafka::shared();
    let etcd = Etcd::start();
    let topic = kafka.topic("etcd-down", 1);
    let mut agent = Agent::new(kafka);
    agent.set("etcd", "endpoints", vec![etcd.endpoint()]).unset("entries", "dir");
    let mut file = log(&agent, "app", Style::Access, 1);
    let grep = json!([{ "use": "grep", "with": { "exclude": "healthz" } }]);
    etcd.put("/tailmill/entries/app", filtered(entry(&agent, "app.log", &topic), grep).to_string());
    file.write(1_000);
    agent.stock("grep");
    agent.start();
    let keep = |line: &[u8]| memchr::memmem::find(line, b"healthz").is_none();
    let mut tap = Tap::open(kafka, &topic);
    arrives_once(&Expected::those([&file], keep), &mut tap, &mut agent);
    etcd.kill();
    // Not even the module is where it was.
    std::fs::remove_file(agent.path("modules/grep.wasm")).unwrap();
    file.write(1_000);
    agent.start();
    let expected = Expected::those([&file], keep);
    expected.arrives(&mut tap, Content::Same, || agent.report());
    // etcd is back with another plan, and the agent finds it by itself.
    etcd.start_again();
    etcd.delete("/tailmill/entries/app");
    until_in_plan(&mut agent, "app", false);
}

#[test]
fn a_module_that_is_replaced_in_the_directory_is_swapped_in_without_a_line_lost() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("swap", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    let entry = filtered(entry(&agent, "app.log", &topic), json!([{ "use": "mine", "stateless": true }]));
    agent.module("mine", &guests::keep()).entry("app", &entry);
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    let digests = |agent: &Agent| -> Vec<String> {
        let filters = agent.status()["entries"][0]["filters"].clone();
        filters.as_array().into_iter().flatten().map(|filter| filter["digest"].to_string()).collect()
    };
    file.write(2_000);
    count(&mut tap, &agent, 2_000);
    // Something that is no module never takes over.
    agent.module("mine", b"no wasm at all");
    agent.until("the problem is shown", |agent| {
        let (code, body) = agent.get("/readyz")?;
        (code == 503 && body.contains("mine")).then_some(())
    });
    file.write(2_000);
    count(&mut tap, &agent, 4_000);
    // Another one does: same behaviour, other digest.
    let before = digests(&agent);
    agent.module("mine", &guests::line_world("nop"));
    file.write(20_000);
    agent.until("the other module has worked", |agent| {
        digests(agent).iter().any(|one| !before.contains(one)).then_some(())
    });
    file.write(2_000);
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn nobody_reads_through_us_what_the_settings_do_not_allow() {
    let kafka = Kafka::shared();
    let [open, secret] = ["open", "secret"].map(|name| kafka.topic(name, 1));
    let mut agent = Agent::new(kafka);
    let allowed = agent.path("logs").join("**").display().to_string();
    agent.set("entries", "allow_paths", vec![allowed]).set("entries", "allow_topics", vec!["open-*"]);
    std::fs::write(agent.path("shadow"), "root:secret\n").unwrap();
    // A file outside; a link inside that points outside; a topic that is not allowed.
    std::os::unix::fs::symlink(agent.path("shadow"), agent.path("logs/innocent.log")).unwrap();
    let mut good = log(&agent, "good", Style::Access, 1);
    let outside = json!({ "path": agent.path("shadow"), "topic": open });
    agent.entry("outside", &outside).entry("good", &entry(&agent, "*.log", &open));
    agent.start();
    // At run time: at the first start it would be refused as a whole.
    agent.entry("topic", &entry(&agent, "good.log", &secret));
    agent.until_log(&secret);
    good.write(1_000);
    let mut tap = Tap::open(kafka, &open);
    arrives_once(&Expected::all([&good]), &mut tap, &mut agent);
    assert!(Tap::open(kafka, &secret).texts().is_empty());
    let log = agent.log();
    assert!(log.contains("innocent.log"), "the link is reported\n{}", agent.report());
    assert!(log.contains(&secret), "the topic is reported\n{}", agent.report());
    assert!(log.contains("allow"), "the reports say which rule it was\n{}", agent.report());
}

#[test]
fn settings_are_read_again_on_sighup_as_far_as_that_can_be_while_it_runs() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("sighup", 1);
    let mut agent = Agent::new(kafka);
    let (mut steady, mut labelled) = (log(&agent, "steady", Style::Json, 1), log(&agent, "labelled", Style::Json, 2));
    let mut with_label = entry(&agent, "labelled.log", &topic);
    with_label["labels"] = json!({ "role": "web" });
    agent.entry("steady", &entry(&agent, "steady.log", &topic)).entry("labelled", &with_label);
    agent.start();
    steady.write(1_000);
    labelled.write(1_000);
    until_in_plan(&mut agent, "steady", true);
    agent.set("labels", "role", "web").set("agent", "shards", 1);
    agent.reload();
    until_in_plan(&mut agent, "labelled", true);
    agent.until_log("wait for a restart: agent");
    steady.write(1_000);
    // What is wrong changes nothing.
    agent.set("labels", "role", "db").set("kafka", "nonsense", 1);
    agent.reload();
    agent.until_log("the settings stay as they were");
    until_in_plan(&mut agent, "labelled", true);
    labelled.write(1_000);
    let mut tap = Tap::open(kafka, &topic);
    arrives_once(&Expected::all([&steady, &labelled]), &mut tap, &mut agent);
}

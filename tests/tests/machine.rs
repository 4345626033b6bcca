//! What the machine under the agent does: a disk that fills up, a service manager that wants to know.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;

use serde_json::json;
use tailmill_tests::agent::Agent;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrival, arrives_once, entry, log};
use tailmill_tests::topic::Tap;
use tailmill_tests::wait;

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("there is room for a name");
    for piece in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![b'x'; piece]).is_ok() {}
    }
}

#[test]
fn on_a_full_state_disk_shipping_goes_on_and_marks_wait_loudly() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("full", 1);
    let mut agent = Agent::new(kafka);
    agent.small_state_disk(8 << 20).set("agent", "checkpoint_every_ms", 50);
    let mut files = vec![log(&agent, "first", Style::Json, 0)];
    files[0].write(1_000);
    agent.entry("app", &entry(&agent, "*.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all(&files), &mut tap, &agent);
    let ballast = agent.seen_inside(&agent.path("state")).join("ballast");
    fill(&ballast);
    // So many new files that the store has to grow.
    for writer in 1..500 {
        let mut file: LogFile = log(&agent, &format!("more-{writer}"), Style::Access, writer);
        file.write(20);
        files.push(file);
    }
    arrival(&Expected::all(&files), &mut tap, &agent).assert_once(|| agent.report());
    let store = |agent: &Agent| -> Option<(bool, String)> {
        let status = agent.status();
        let part = status["health"].as_array()?.iter().find(|part| part["part"] == "state store")?;
        Some((part["ok"].as_bool()?, part["message"].to_string()))
    };
    agent.until("it says that marks wait", |agent| {
        let (ok, message) = store(agent)?;
        (!ok && message.contains("marks wait")).then_some(())
    });
    assert_eq!(agent.get("/readyz").expect("it answers").0, 503);
    assert!(agent.log().contains("marks wait"), "the log says it too\n{}", agent.report());
    std::fs::remove_file(&ballast).expect("the ballast can be removed");
    agent.until("the store is well again", |agent| store(agent)?.0.then_some(()));
    agent.until_log("marks are saved again");
    files[0].write(1_000);
    arrives_once(&Expected::all(&files), &mut tap, &mut agent);
}

#[test]
fn a_service_manager_hears_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("notify", 1);
    let mut agent = Agent::new(kafka);
    let socket = UnixDatagram::bind(agent.path("notify")).expect("a socket can be bound");
    agent.variable("NOTIFY_SOCKET", agent.path("notify")).variable("WATCHDOG_USEC", "200000");
    agent.entry("app", &entry(&agent, "app.log", &topic));
    let (say, heard) = mpsc::channel::<String>();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length) = socket.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.lines().any(|line| say.send(line.to_owned()).is_err()) {
                return;
            }
        }
    });
    let mut all = Vec::new();
    let mut until = |what: &str| {
        while all.last().is_none_or(|said| said != what) {
            let said = heard.recv_timeout(wait::PATIENCE).unwrap_or_else(|_| panic!("never said {what}: {all:?}"));
            all.push(said);
        }
    };
    agent.start();
    until("READY=1");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    agent.stop_cleanly();
    until("STOPPING=1");
    assert_eq!(json!(all[0]), json!("READY=1"), "nothing is said before it is ready");
}

#[test]
fn without_inotify_watches_it_says_so_once_and_scanning_finds_everything() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("watches", 1);
    let mut agent = Agent::new(kafka);
    agent.few_watches(1).set("agent", "scan_every_ms", 100);
    std::fs::create_dir(agent.path("logs/old")).expect("a directory can be made");
    let (mut first, mut old) = (log(&agent, "first", Style::Json, 1), log(&agent, "old/app", Style::Json, 2));
    first.write(100);
    old.write(100);
    agent.entry("app", &entry(&agent, "**/*.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&first, &old]), &mut tap, &agent);
    let said = |agent: &Agent| agent.log().matches("the limit of inotify watches is reached").count();
    assert_eq!(said(&agent), 1, "{}", agent.report());
    let status = agent.status();
    assert!(status["notices"].to_string().contains("max_user_watches"), "{status}");
    // Growth, a rotation, a new file and a new directory: nobody tells of them.
    std::fs::create_dir(agent.path("logs/new")).expect("a directory can be made");
    let mut new = log(&agent, "new/app", Style::Json, 3);
    new.write(100);
    first.write(100);
    old.rotate();
    old.write(100);
    arrives_once(&Expected::all([&first, &old, &new]), &mut tap, &mut agent);
    assert_eq!(said(&agent), 1, "{}", agent.report());
}

//! What the agent says of itself, compared with what the files and Kafka say.

use serde_json::json;
use tailmill_tests::agent::Agent;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::Style;
use tailmill_tests::oracle::Expected;
use tailmill_tests::scene::{arrival, entry, filtered, log};
use tailmill_tests::topic::Tap;

#[test]
fn metrics_and_status_hold_the_loss_equation_of_each_entry_as_the_oracle_finds_it() {
    let kafka = Kafka::shared();
    let [web, app] = ["web", "app"].map(|name| kafka.topic(name, 2));
    let mut agent = Agent::new(kafka);
    let (mut access, mut json) = (log(&agent, "access", Style::Access, 1), log(&agent, "app", Style::Json, 2));
    access.write(8_000);
    json.write(3_000);
    let grep = json!([{ "use": "grep", "with": { "exclude": "healthz" } }]);
    agent.stock("grep").entry("web", &filtered(entry(&agent, "access.log", &web), grep));
    agent.entry("app", &entry(&agent, "app.log", &app));
    agent.start();
    let from_web = Expected::those([&access], |line| memchr::memmem::find(line, b"healthz").is_none());
    let from_app = Expected::all([&json]);
    arrival(&from_web, &mut Tap::open(kafka, &web), &agent).assert_once(|| agent.report());
    arrival(&from_app, &mut Tap::open(kafka, &app), &agent).assert_once(|| agent.report());

    for (name, expected) in [("web", &from_web), ("app", &from_app)] {
        let label = format!("entry=\"{name}\"");
        let metric = |agent: &Agent, term: &str| agent.metric(&format!("tailmill_{term}_total"), &label) as u64;
        agent.until("everything is counted", |agent| {
            (metric(agent, "delivered_lines") == expected.delivered.0).then_some(())
        });
        assert_eq!(metric(&agent, "delivered_bytes"), expected.delivered.1);
        assert_eq!((metric(&agent, "filtered_lines"), metric(&agent, "filtered_bytes")), expected.filtered);
        assert_eq!(metric(&agent, "read_lines"), expected.delivered.0 + expected.filtered.0);
        assert_eq!(agent.metric("tailmill_pending_lines", &label), 0.0);
        let status = agent.status();
        let entry = status["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        assert_eq!(entry["loss"]["balanced"], json!(true), "{entry}");
        assert_eq!(entry["loss"]["delivered"]["lines"], json!(expected.delivered.0), "{entry}");
        assert_eq!(entry["lag_bytes"], json!(0), "{entry}");
    }
    let (_, metrics) = agent.get("/metrics").unwrap();
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics ends with EOF");
    agent.stop_cleanly();
    assert_eq!(agent.summary()["total"]["balanced"], json!(true));
}

#[test]
fn every_file_has_a_loss_equation_of_its_own_and_what_is_pending_at_a_stop_is_its_size_less_its_mark() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("files", 1);
    let mut agent = Agent::new(kafka);
    let mut files = [(Style::Access, 1, 4_000), (Style::Json, 2, 1_000)].map(|(style, writer, lines)| {
        let mut file = log(&agent, &format!("app-{writer}"), style, writer);
        file.write(lines);
        file
    });
    let grep = json!([{ "use": "grep", "with": { "exclude": "healthz" } }]);
    agent.stock("grep").entry("app", &filtered(entry(&agent, "app-*.log", &topic), grep));
    agent.set("admin", "file_metrics", true);
    agent.start();
    let keep = |line: &[u8]| memchr::memmem::find(line, b"healthz").is_none();
    arrival(&Expected::those(&files, keep), &mut Tap::open(kafka, &topic), &agent).assert_once(|| agent.report());
    let half = b"half a line";
    for file in &mut files {
        file.append(half);
    }
    let half = half.len() as u64;
    agent.until("the half lines were seen", |agent| {
        (agent.metric("tailmill_file_size_bytes", "") as u64 == files[0].bytes() + files[1].bytes()).then_some(())
    });
    for file in &files {
        let expected = Expected::those([file], keep);
        let label = format!("path=\"{}\"", file.path().display());
        let of = |term: &str| agent.metric(&format!("tailmill_file_{term}"), &label) as u64;
        assert_eq!((of("delivered_lines_total"), of("delivered_bytes_total")), expected.delivered);
        assert_eq!((of("filtered_lines_total"), of("filtered_bytes_total")), expected.filtered);
        assert_eq!(of("read_bytes_total"), file.bytes() - half);
        assert_eq!((of("pending_bytes"), of("size_bytes") - of("mark_bytes")), (0, half));
    }
    let status = agent.status();
    agent.stop_cleanly();
    let summary = agent.summary();
    for file in &files {
        let of = |document: &serde_json::Value, list: &str| {
            let all = document[list].as_array().unwrap().clone();
            all.into_iter().find(|one| one["path"] == json!(file.path())).unwrap()
        };
        let (running, stopped) = (of(&status, "streams"), of(&summary, "files"));
        assert_eq!((&running["loss"], &running["file"]), (&stopped["loss"], &stopped["file"]));
        assert_eq!(stopped["loss"]["delivered"]["lines"], json!(Expected::those([file], keep).delivered.0));
        assert_eq!(stopped["size"].as_u64().unwrap() - stopped["mark"].as_u64().unwrap(), half, "{stopped}");
    }
}

#[test]
fn an_agent_is_ready_when_its_entries_can_ship_and_alive_even_when_they_cannot() {
    let kafka = Kafka::start();
    let topic = kafka.topic("ready", 1);
    let mut agent = Agent::new(&kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(100);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    agent.until("it is ready", |agent| (agent.get("/readyz")?.0 == 200).then_some(()));
    kafka.stop();
    file.write(100);
    agent.until("it is not ready any more", |agent| (agent.get("/readyz")?.0 == 503).then_some(()));
    agent.until_log("its records wait");
    assert_eq!(agent.get("/healthz").unwrap().0, 200);
    kafka.start_again();
    agent.until("it is ready again", |agent| (agent.get("/readyz")?.0 == 200).then_some(()));
    agent.until_log("it answers again");
}

#[test]
fn the_status_command_shows_a_running_agent_and_says_when_there_is_none() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("status", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(1_000);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    arrival(&Expected::all([&file]), &mut Tap::open(kafka, &topic), &agent);
    let text = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    agent.until("the status shows every line", |agent| {
        let output = agent.run(["status"]);
        let text = text(output);
        (text.contains("app") && text.contains(&topic)).then_some(())
    });
    let json: serde_json::Value = serde_json::from_str(&text(agent.run(["status", "--json"]))).unwrap();
    assert_eq!(json["node"], json!("test-node"));
    agent.stop_cleanly();
    let output = agent.run(["status"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_a_stop_says_is_on_standard_error_and_nothing_is_on_standard_output() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("quiet", 1);
    let mut agent = Agent::new(kafka);
    log(&agent, "app", Style::Json, 1).write(10);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    Tap::open(kafka, &topic).until("the lines are there", || agent.report(), |records| records.len() == 10);
    agent.stop_cleanly();
    let summary = agent.summary();
    assert_eq!(summary["entries"]["app"]["delivered"]["lines"], json!(10), "{summary}");
}

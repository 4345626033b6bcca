//! Agents and brokers that stop, in order or not: nothing is missing afterwards.
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::Signal;
use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::guests;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::{self, Dice, Style};
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::Expected;
use tailmill_tests::say;
use tailmill_tests::scene::{arrival, arrives_once, balances, entry, filtered, log};
use tailmill_tests::scratch;
use tailmill_tests::topic::{Record, Tap};

/// Cycles of kill -9 in a test: `scripts/soak` asks for others.
fn kills() -> usize {
    std::env::var("TAILMILL_KILLS").map_or(50, |text| text.parse().expect("TAILMILL_KILLS is a number"))
}

#[test]
fn after_a_sigterm_in_the_middle_every_line_arrives_once() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("sigterm", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Access, 1);
    file.write(50_000);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    let mut tap = Tap::open(kafka, &topic);
    for stop_at in [1, 20_000] {
        agent.start();
        tap.until("some lines are there", || agent.report(), |records| records.len() >= stop_at);
        agent.stop_cleanly();
    }
    file.write(10_000);
    agent.start();
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

/// What a kill can let come again: what was written before it and lies behind the durable marks.
struct Kill {
    /// Of each file, by its inode: no file is deleted here.
    marks: HashMap<u64, u64>,
    /// Lines of each writer.
    written: [u64; 2],
}

impl Kill {
    /// After it, while nothing was written since. `tailmill state show` says what the next start will find.
    fn seen(agent: &Agent, files: &[LogFile; 2]) -> Kill {
        let output = agent.run(["state", "show", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let state: Value = serde_json::from_slice(&output.stdout).expect("state show says JSON");
        let streams = state["streams"].as_array().expect("streams are listed");
        let inode = |stream: &Value| stream["place"]["inode"].as_u64().expect("a record says where the file lies");
        let marks = streams.iter().map(|stream| (inode(stream), mark(&stream["resume"]))).collect();
        Kill { marks, written: files.each_ref().map(|file| file.numbers().end) }
    }

    /// Whether a line might have been in flight.
    fn may_repeat(&self, ix: usize, number: u64, inode: u64, offset: u64) -> bool {
        number < self.written[ix] && offset >= self.marks.get(&inode).copied().unwrap_or_default()
    }
}

/// The offset of a resume point, whatever else it holds.
fn mark(resume: &Value) -> u64 {
    let parts = resume.as_object().expect("a resume point is an object");
    let offset = parts.get("offset").or_else(|| parts.values().next()?.get("offset"));
    offset.and_then(Value::as_u64).unwrap_or_else(|| panic!("no offset in {resume}"))
}

/// Inode and size of each file of a writer, the oldest first.
fn generations(file: &LogFile) -> Vec<(u64, u64)> {
    let rotated = (1..).map(|number| format!("{}.{number}", file.path().display()));
    let rotated = rotated.map_while(|path| std::fs::metadata(path).ok());
    let all = rotated.chain([std::fs::metadata(file.path()).expect("the log is there")]);
    all.map(|facts| (facts.ino(), facts.len())).collect()
}

/// No line came more often than once and once more for each kill that it was in flight at. How many came again, and how
/// many might have.
fn assert_only_what_was_in_flight_is_repeated(tap: &Tap, files: &[LogFile; 2], kills: &[Kill]) -> (usize, usize) {
    let mut came = HashMap::<lines::Tag, usize>::new();
    for record in tap.records() {
        *came.entry(lines::tag(record.bytes()).expect("a line of ours")).or_default() += 1;
    }
    let (mut repeated, mut might) = (0, 0);
    for (ix, file) in files.iter().enumerate() {
        let mut generations = generations(file).into_iter();
        let (mut inode, mut left, mut offset) = (0, 0, 0);
        for number in file.numbers() {
            while left == 0 {
                (inode, left) = generations.next().expect("every line is in a file");
                offset = 0;
            }
            let in_flight = kills.iter().filter(|kill| kill.may_repeat(ix, number, inode, offset)).count();
            let count = came.get(&(file.writer(), number)).copied().unwrap_or_default();
            let path = file.path().display();
            assert!(count <= 1 + in_flight, "line {number} of {path} came {count} times, in flight {in_flight} times");
            repeated += count.saturating_sub(1);
            might += if count > 0 { in_flight } else { 0 };
            let length = lines::line(file.style(), file.writer(), number).len() as u64 + 1;
            (offset, left) = (offset + length, left - length);
        }
    }
    (repeated, might)
}

/// The greatest number of a writer's lines.
fn newest(records: &[Record], writer: u32) -> Option<u64> {
    let numbers = records.iter().filter_map(|record| lines::tag(record.bytes()));
    numbers.filter(|tag| tag.0 == writer).map(|tag| tag.1).max()
}

/// Any line of the file that has not arrived and will.
fn one_to_wait_for(arrived: &[Record], file: &LogFile, dice: &mut Dice, keep: fn(&[u8]) -> bool) -> Option<u64> {
    let next = newest(arrived, file.writer()).map_or(0, |newest| newest + 1);
    let kept = |number: &u64| keep(&lines::line(file.style(), file.writer(), *number));
    let coming: Vec<u64> = (next..file.numbers().end).filter(kept).collect();
    (!coming.is_empty()).then(|| coming[dice.below(coming.len())])
}

#[test]
fn a_chain_without_a_state_does_not_go_back_to_where_the_one_before_it_saved_one() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("no-state", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    agent.module("remembers", &guests::remembers()).module("keep", &guests::keep());
    let mut tap = Tap::open(kafka, &topic);
    file.write(100);
    for module in ["remembers", "keep"] {
        agent.entry("app", &filtered(entry(&agent, "app.log", &topic), json!([{ "use": module }])));
        for _ in 0..2 {
            agent.start();
            file.write(100);
            arrival(&Expected::all([&file]), &mut tap, &agent);
            agent.stop_cleanly();
        }
    }
    agent.start();
    file.write(100);
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn after_a_kill_in_the_middle_of_writing_and_rotating_no_line_is_missing() {
    let began = std::time::Instant::now();
    let kafka = &Kafka::start();
    let topic = kafka.topic("kill", 2);
    let seed = scratch::seed();
    let mut dice = Dice(seed);
    let mut agent = Agent::new(kafka);
    let mut files = [log(&agent, "a", Style::Json, 1), log(&agent, "b", Style::Access, 2)];
    agent.set("agent", "checkpoint_every_ms", 50);
    agent.stock("grep");
    let grep = json!([{ "use": "grep", "with": { "exclude": "healthz" } }]);
    agent.entry("app", &filtered(entry(&agent, "?.log*", &topic), grep));
    agent.start();
    let keep: fn(&[u8]) -> bool = |line| memchr::memmem::find(line, b"healthz").is_none();
    let mut tap = Tap::open(kafka, &topic);
    let mut killed = Vec::new();
    for round in 0..kills() {
        for file in &mut files {
            let before = tap.records().len();
            file.write(200 + dice.roll() % 2_000);
            // Only a file that was seen under the entry's path has a predecessor to wait for.
            tap.until("the file was noticed", || agent.report(), |records| records.len() > before);
            if dice.below(3) == 0 {
                file.write(dice.roll() % 1_000);
                file.rotate();
            }
            file.write(dice.roll() % 1_000);
        }
        let file = &files[dice.below(2)];
        if let Some(line) = one_to_wait_for(tap.to_end(), file, &mut dice, keep) {
            let from = tap.records().len();
            tap.until(
                "it is time to kill",
                || agent.report(),
                |records| newest(&records[from..], file.writer()).is_some_and(|newest| newest >= line),
            );
        }
        // Now and then the broker dies first: what lies in the sockets of one that lives would still arrive.
        let both = round % 10 == 4;
        if both {
            kafka.kill();
            for file in &mut files {
                file.write(dice.roll() % 2_000);
            }
            agent.until("the agent has read it", |agent| {
                let status = agent.status();
                let read = |file: &LogFile| {
                    let path = json!(file.path());
                    let stream = status["streams"].as_array()?.iter().find(|stream| stream["path"] == path)?;
                    (stream["read"].as_u64()? >= std::fs::metadata(file.path()).ok()?.len()).then_some(())
                };
                files.iter().try_for_each(read)
            });
        }
        agent.kill();
        killed.push(Kill::seen(&agent, &files));
        for file in &mut files {
            file.write(dice.roll() % 500);
        }
        if both {
            kafka.start_again();
        }
        agent.start();
    }
    let verdict = arrival(&Expected::those(&files, keep), &mut tap, &agent);
    verdict.assert_none_missing(|| format!("TAILMILL_SEED={seed}\n{}", agent.report()));
    agent.stop_cleanly();
    tap.to_end();
    let (repeated, might) = assert_only_what_was_in_flight_is_repeated(&tap, &files, &killed);
    let (cycles, missing) = (killed.len(), verdict.missing.len());
    let lines: u64 = files.iter().map(|file| file.numbers().end).sum();
    let seconds = began.elapsed().as_secs();
    say(&format!(
        "{cycles} kills: {lines} lines written, {missing} missing, {repeated} repeated of {might} in flight, {seconds} s"
    ));
}

#[test]
fn a_joined_line_that_waits_for_its_acknowledgement_survives_a_kill() {
    let kafka = Kafka::start();
    let topic = kafka.topic("join", 1);
    let mut agent = Agent::new(&kafka);
    let mut file = log(&agent, "app", Style::Syslog, 1);
    agent.set("agent", "checkpoint_every_ms", 10);
    let join = json!([{ "use": "join", "with": { "wait_ms": 600_000 } }]);
    agent.stock("join").entry("app", &filtered(entry(&agent, "*.log", &topic), join));
    agent.start();
    file.write(10);
    let mut tap = Tap::open(&kafka, &topic);
    tap.until("the first lines are there", || agent.report(), |records| records.len() == 10);

    // Stopped, not only frozen: what lies in a frozen broker's sockets would still arrive.
    kafka.stop();
    let part = |number| [&lines::line(Style::Syslog, 1, number)[..], b"\\\n"].concat();
    let whole = |number| [&lines::line(Style::Syslog, 1, number)[..], b"\n"].concat();
    // The first half in a batch of its own, then its second half, then lines that have nothing to do with it.
    for bytes in [part(10), whole(11), whole(12)] {
        file.append(&bytes);
        until_read(&mut agent, file.bytes());
    }
    until_committed(&mut agent);
    agent.kill();
    kafka.start_again();
    agent.start();
    tap.until(
        "all lines are there",
        || agent.report(),
        |records| {
            let tags = records.iter().flat_map(|record| lines::tags(record.bytes()));
            tags.collect::<std::collections::BTreeSet<_>>().len() == 13
        },
    );
    agent.stop_cleanly();
    let joined = tap.to_end().iter().map(|record| lines::tags(record.bytes())).filter(|tags| tags.contains(&(1, 11)));
    for tags in joined {
        assert_eq!(tags, [(1, 10), (1, 11)], "the two halves belong together\n{}", agent.report());
    }
}

#[test]
fn half_a_joined_line_is_pending_at_a_stop_and_comes_again() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("held", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Syslog, 1);
    let join = json!([{ "use": "join", "with": { "wait_ms": 600_000 } }]);
    agent.stock("join").entry("app", &filtered(entry(&agent, "app.log", &topic), join));
    agent.start();
    file.append(b"alone\nfirst \\\n");
    until_read(&mut agent, file.bytes());
    agent.stop();
    assert_eq!(agent.summary()["entries"]["app"]["pending"], json!({ "lines": 1, "bytes": 8 }), "{}", agent.report());
    file.append(b"second\n");
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the joined line is there", || agent.report(), |records| records.len() >= 2);
    agent.stop_cleanly();
    assert_eq!(tap.texts(), ["alone", "first second"]);
}

/// The agent has read so many bytes of its only stream.
fn until_read(agent: &mut Agent, bytes: u64) {
    agent.until("the agent has read the file", |agent| {
        let status = agent.status();
        (status["streams"][0]["read"].as_u64()? >= bytes).then_some(())
    });
}

#[test]
fn a_rotated_file_is_not_finished_before_its_lines_are_acknowledged() {
    let kafka = Kafka::start();
    let topic = kafka.topic("unfinished", 1);
    let mut agent = Agent::new(&kafka);
    agent.set("agent", "checkpoint_every_ms", 10);
    let mut file = log(&agent, "app", Style::Json, 1);
    let empty = agent.path("logs/empty.log");
    std::fs::write(&empty, "").unwrap();
    file.write(100);
    agent.entry("app", &entry(&agent, "*.log", &topic));
    agent.start();
    let mut tap = Tap::open(&kafka, &topic);
    arrival(&Expected::all([&file]), &mut tap, &agent);
    kafka.stop();
    file.write(100);
    let shows = |agent: &Agent, path: &std::path::Path| {
        let status = agent.status();
        status["streams"].as_array()?.iter().find(|stream| stream["path"] == json!(path)).cloned()
    };
    let path = file.path().to_owned();
    agent.until("it is read", |agent| (shows(agent, &path)?["read"] == json!(file.bytes())).then_some(()));
    let rotated = file.rotate();
    agent.until("the rotation was seen", |agent| shows(agent, &rotated));
    // One that leaves later and has nothing to wait for: when it is finished, the other has been quiet for long enough too.
    std::fs::remove_file(&empty).unwrap();
    agent.until("the empty file is finished", |agent| shows(agent, &empty).is_none().then_some(()));
    until_committed(&mut agent);
    agent.kill();
    kafka.start_again();
    agent.start();
    arrival(&Expected::all([&file]), &mut tap, &agent).assert_none_missing(|| agent.report());
}

/// The commit thread has written everything that was so until now: what it writes for the second change was put together
/// after the first.
fn until_committed(agent: &mut Agent) {
    let store = agent.path("state/tailmill.redb");
    let written = || std::fs::metadata(&store).and_then(|facts| facts.modified()).expect("the store is there");
    for round in 0..2 {
        let before = written();
        // Something to commit.
        LogFile::create(agent.path(format!("logs/committed-{round}.log")), Style::Json, 0);
        agent.until("a commit", |_| (written() > before).then_some(()));
    }
}

#[test]
fn a_broker_that_stops_or_dies_is_a_pause() {
    let kafka = Kafka::start();
    for name in ["stop", "kill"] {
        let topic = kafka.topic(name, 1);
        let mut agent = Agent::new(&kafka);
        let mut file = log(&agent, "app", Style::Json, 1);
        file.write(40_000);
        agent.entry("app", &entry(&agent, "app.log", &topic));
        agent.start();
        let mut tap = Tap::open(&kafka, &topic);
        tap.until("some lines are there", || agent.report(), |records| records.len() > 1_000);
        if name == "stop" {
            kafka.stop()
        } else {
            kafka.kill()
        }
        file.write(40_000);
        agent.until("it says that the cluster is down", |agent| {
            let (code, body) = agent.get("/readyz")?;
            (code == 503 && body.contains("default")).then_some(())
        });
        kafka.start_again();
        let expected = Expected::all([&file]);
        arrives_once(&expected, &mut tap, &mut agent);
        balances(&agent, "app", &expected);
    }
}

#[test]
fn what_was_not_delivered_at_the_stop_deadline_comes_again() {
    let kafka = Kafka::start();
    let topic = kafka.topic("deadline", 1);
    let mut agent = Agent::new(&kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    agent.set("agent", "stop_deadline_ms", 500);
    file.write(1_000);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let mut tap = Tap::open(&kafka, &topic);
    tap.until("the first lines are there", || agent.report(), |records| records.len() == 1_000);
    kafka.stop();
    file.write(1_000);
    until_read(&mut agent, file.bytes());
    let status = agent.stop();
    assert_eq!(status.code(), Some(2), "{}", agent.report());
    kafka.start_again();
    agent.start();
    let verdict = arrival(&Expected::all([&file]), &mut tap, &agent);
    verdict.assert_none_missing(|| agent.report());
}

#[test]
fn a_file_that_was_renamed_while_the_agent_was_down_is_read_to_its_end() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("renamed", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Access, 1);
    file.write(2_000);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("the first lines are there", || agent.report(), |records| records.len() == 2_000);
    agent.stop_cleanly();
    file.write(2_000);
    file.rotate();
    file.write(2_000);
    agent.start();
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn a_second_agent_on_the_same_state_directory_is_refused() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("lock", 1);
    let (mut first, mut second) = (Agent::new(kafka), Agent::new(kafka));
    first.entry("app", &entry(&first, "app.log", &topic));
    first.start();
    second.set("", "state_dir", first.path("state").display().to_string());
    let status = second.launch().wait_end();
    assert_eq!(status.code(), Some(1), "{}", second.log());
    let pid = first.process().pid().to_string();
    assert!(second.log().contains(&pid), "the message names the pid {pid} that holds the lock: {}", second.log());
    first.kill();
    second.start();
}

#[test]
fn a_damaged_state_store_is_not_replaced_in_silence() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("damaged", 1);
    let mut agent = Agent::new(kafka);
    let mut file: LogFile = log(&agent, "app", Style::Access, 1);
    file.write(2_000);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    arrival(&Expected::all([&file]), &mut tap, &agent);
    agent.stop_cleanly();
    let store = agent.path("state/tailmill.redb");
    let size = std::fs::metadata(&store).unwrap().len();
    std::fs::write(&store, vec![0x5a; size as usize]).unwrap();
    let status = agent.launch().wait_end();
    assert_eq!(status.code(), Some(1), "{}", agent.log());
    assert!(agent.log().contains("tailmill state repair"), "{}", agent.log());
    assert_eq!(std::fs::read(&store).unwrap(), vec![0x5a; size as usize], "the damaged store was touched");
}

#[test]
fn a_frozen_agent_goes_on_where_it_was() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("frozen", 1);
    let mut agent = Agent::new(kafka);
    let mut file = log(&agent, "app", Style::Access, 1);
    file.write(30_000);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let mut tap = Tap::open(kafka, &topic);
    tap.until("some lines are there", || agent.report(), |records| records.len() > 100);
    agent.process().signal(Signal::STOP);
    file.write(5_000);
    file.rotate();
    file.write(5_000);
    agent.process().signal(Signal::CONT);
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

#[test]
fn the_mark_in_the_status_never_passes_what_was_acknowledged() {
    let kafka = Kafka::start();
    let topic = kafka.topic("mark", 1);
    let mut agent = Agent::new(&kafka);
    let mut file = log(&agent, "app", Style::Json, 1);
    file.write(500);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let acknowledged = file.bytes();
    let stream = |agent: &Agent| -> Value { agent.status()["streams"][0].clone() };
    agent.until("the mark is at the end", |agent| (stream(agent)["mark"] == json!(acknowledged)).then_some(()));
    kafka.freeze();
    file.write(500);
    until_read(&mut agent, file.bytes());
    assert_eq!(stream(&agent)["mark"], json!(acknowledged));
    kafka.thaw();
    let all = file.bytes();
    agent.until("the mark is at the end again", |agent| (stream(agent)["mark"] == json!(all)).then_some(()));
}

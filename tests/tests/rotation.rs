//! Real tools rotate what is written at that time, some of it while the agent is stopped: `logrotate` and `savelog`, under
//! a program that is told to open its log anew, and under nginx.
//!
//! Every line arrives once, and in order within its file; nothing here is in doubt, not even a copy that matches the
//! entry's pattern: it is longer than what proves nothing (docs/files.md).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tailmill_tests::agent::Agent;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::lines::{self, Style};
use tailmill_tests::logfile::LogFile;
use tailmill_tests::nginx::Nginx;
use tailmill_tests::oracle::{Content, Expected};
use tailmill_tests::say;
use tailmill_tests::scene::{arrival, arrives_once, log};
use tailmill_tests::topic::{Record, Tap};
use tailmill_tests::wait;
use tailmill_tests::writer::Writer;

/// Rotations of a test; those with these numbers happen while the agent is stopped.
const ROTATIONS: usize = 7;
const STOPPED: usize = 2;

const DATED: &str = "create\ndateext\ndateformat -%Y%m%d-%s";

/// How `logrotate` is told to go about it.
struct Form {
    pattern: &'static str,
    directives: &'static str,
    scripts: fn(&Path) -> [String; 2],
    /// Rotations in a row while the agent is stopped.
    stopped: usize,
}

/// An entry as anybody would write it: a file is finished when it was quiet for longer than any tool and its program take.
fn entry(agent: &Agent, pattern: &str, topic: &str) -> Value {
    json!({ "path": agent.path("logs").join(pattern), "topic": topic })
}

/// The program opens its log anew after each rotation.
fn reopening(asked: &Path) -> [String; 2] {
    [":".to_owned(), Writer::script_reopen(asked)]
}

/// What is written between the copy and the truncation is nowhere afterwards: the program pauses there.
fn pausing(asked: &Path) -> [String; 2] {
    [Writer::script_pause(asked), Writer::script_go_on(asked)]
}

fn run(tool: &str, arguments: &[&str]) {
    // Administrators' tools are not in everybody's path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(tool).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{tool} is missing: install its Debian package ({error})"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("error"), "{tool} ended with {}: {said}", output.status);
}

/// Writes the configuration into the agent's home; what rotates once when it is called.
fn logrotate(agent: &Agent, file: &Path, form: &Form) -> impl Fn() + use<> {
    logrotate_in(agent, &agent.path("asked"), file, form)
}

/// The same for a program that is asked by what is in another directory.
fn logrotate_in(agent: &Agent, asked: &Path, file: &Path, form: &Form) -> impl Fn() + use<> {
    let [before, after] = (form.scripts)(asked);
    let [config, state] = ["logrotate.conf", "logrotate.state"].map(|name| agent.path(name));
    let text = format!(
        "{} {{\nrotate 50\n{}\nprerotate\n{before}\nendscript\npostrotate\n{after}\nendscript\n}}\n",
        file.display(),
        form.directives
    );
    std::fs::write(&config, text).expect("a small file can be written");
    let (config, state) = (config.display().to_string(), state.display().to_string());
    move || run("logrotate", &["-f", "-s", &state, &config])
}

/// Dated names hold the second: two in one second would be the same name, and the tool would leave the second one out.
fn until_next_second() {
    // By the coarse clock that the tool reads: it is a little behind.
    let second = || rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
    let now = second();
    wait::until("the next second begins", String::new, || (second() > now).then_some(()));
}

fn until_grown(file: &Path, bytes: u64) {
    let size = || std::fs::metadata(file).map_or(0, |facts| facts.len());
    wait::until("more is written", String::new, || (size() > bytes).then_some(()));
}

/// A line at or after this one has arrived.
fn until_seen(tap: &mut Tap, agent: &Agent, line: u64) {
    let from = tap.to_end().len();
    let shipped = |record: &Record| lines::tag(record.bytes()).is_some_and(|tag| tag.1 >= line);
    tap.until("it is seen", || agent.report(), |records| records[from..].iter().any(shipped));
}

/// So much of the file that is the log now is shipped that it can be proven by its content: of less, an archive that is
/// made of it while the agent is stopped tells nothing (docs/known-issues.md).
fn until_provable(agent: &mut Agent, file: &Path) {
    agent.until("enough of the log is shipped", |agent| {
        let (status, path) = (agent.status(), json!(file));
        let mark = status["streams"].as_array()?.iter().find(|stream| stream["path"] == path)?["mark"].as_u64()?;
        (mark > 4_096).then_some(())
    });
}

/// Rotates under a writer while the agent runs, `stopped` times while it does not, and again while it runs.
fn rotated_under_a_writer(name: &str, pattern: &str, stopped: usize, tool: impl Fn(&Agent, &Path, &Writer)) {
    let kafka = Kafka::shared();
    let topic = kafka.topic(name, 2);
    let mut agent = Agent::new(kafka);
    agent.set("agent", "scan_every_ms", 500);
    agent.entry("app", &entry(&agent, pattern, &topic));
    agent.start();
    let file = log(&agent, "app", Style::Access, 1);
    let path = file.path().to_owned();
    let writer = Writer::start(file, &agent.path("asked"));
    let mut tap = Tap::open(kafka, &topic);
    for round in 0..ROTATIONS {
        if round == STOPPED {
            until_provable(&mut agent, &path);
            agent.stop_cleanly();
        }
        if (STOPPED..STOPPED + stopped).contains(&round) {
            until_grown(&path, 30_000);
        } else {
            // Something of what is rotated now has arrived: of what nobody saw while it was there, an archive tells nothing
            // (docs/known-issues.md).
            until_seen(&mut tap, &agent, writer.next_line());
        }
        tool(&agent, &path, &writer);
        if round + 1 == STOPPED + stopped {
            until_grown(&path, 30_000);
            agent.start();
        }
    }
    let mut file = writer.end();
    file.write(100);
    arrives_once(&Expected::all([&file]), &mut tap, &mut agent);
}

fn under_logrotate(name: &str, form: &Form) {
    rotated_under_a_writer(name, form.pattern, form.stopped, |agent, path, _| {
        if form.directives.contains("dateext") {
            until_next_second();
        }
        logrotate(agent, path, form)();
    });
}

#[test]
fn logrotate_with_create_under_a_writer_loses_and_repeats_nothing() {
    let form = |pattern, stopped| Form { pattern, directives: "create", scripts: reopening, stopped };
    under_logrotate("create", &form("app.log", 3));
    under_logrotate("create-all", &form("app.log*", 3));
}

#[test]
fn logrotate_with_copytruncate_under_a_writer_loses_and_repeats_nothing() {
    under_logrotate(
        "copytruncate",
        &Form { pattern: "app.log", directives: "copytruncate", scripts: pausing, stopped: 1 },
    );
}

#[test]
fn logrotate_with_copytruncate_whose_copies_match_the_pattern_loses_and_repeats_nothing() {
    under_logrotate(
        "copytruncate-all",
        &Form { pattern: "app.log*", directives: "copytruncate", scripts: pausing, stopped: 1 },
    );
}

#[test]
fn logrotate_with_dateext_under_a_writer_loses_and_repeats_nothing() {
    under_logrotate("dateext", &Form { pattern: "app.log", directives: DATED, scripts: reopening, stopped: 2 });
}

#[test]
fn logrotate_with_compress_under_a_writer_loses_and_repeats_nothing() {
    let form = |pattern| Form { pattern, directives: "create\ncompress", scripts: reopening, stopped: 1 };
    under_logrotate("compress", &form("app.log"));
    under_logrotate("compress-all", &form("app.log*"));
}

#[test]
fn logrotate_with_delaycompress_under_a_writer_loses_and_repeats_nothing() {
    let directives = "create\ncompress\ndelaycompress";
    under_logrotate("delaycompress", &Form { pattern: "app.log", directives, scripts: reopening, stopped: 2 });
}

#[test]
fn savelog_under_a_writer_loses_and_repeats_nothing() {
    // Compressed are those that were rotated twice.
    for (name, option) in [("savelog", "-l"), ("savelog-compress", "-t")] {
        rotated_under_a_writer(name, "app.log", 2, |_, path, writer| {
            run("savelog", &["-q", "-t", option, "-c", "50", &path.display().to_string()]);
            writer.reopen();
        });
    }
}

#[test]
fn copytruncate_under_a_writer_that_does_not_pause_loses_only_what_was_written_between_copy_and_truncation() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("unpaused", 1);
    let mut agent = Agent::new(kafka);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let file = log(&agent, "app", Style::Access, 1);
    let path = file.path().to_owned();
    let writer = Writer::start(file, &agent.path("asked"));
    let mut tap = Tap::open(kafka, &topic);
    let form =
        Form { pattern: "app.log", directives: "copytruncate", scripts: |_| [":".into(), ":".into()], stopped: 0 };
    let rotate = logrotate(&agent, &path, &form);
    let mut windows = Vec::new();
    for _ in 0..ROTATIONS {
        until_seen(&mut tap, &agent, writer.next_line());
        let from = writer.written();
        rotate();
        windows.push(from..writer.next_line());
    }
    let mut file = writer.end();
    file.write(100);
    let numbers = file.numbers();
    // What lies on the disk now, in whatever file; half a line is none.
    let on_disk: BTreeSet<u64> =
        std::fs::read_dir(agent.path("logs")).unwrap().flat_map(|one| lines_in(&one.unwrap().path())).collect();
    let missing: Vec<u64> = numbers.clone().filter(|number| !on_disk.contains(number)).collect();
    let bounded = |number: &u64| windows.iter().any(|window| window.contains(number));
    assert!(missing.iter().all(bounded), "lines {missing:?} are missing on the disk, outside of {windows:?}");
    let there = Expected::lines(Style::Access, on_disk.into_iter().map(|number| (1, number)));
    arrival(&there, &mut tap, &agent);
    agent.stop_cleanly();
    let all = Expected::all([&file]).judge(tap.to_end(), Content::Same);
    // A line that was read before it was truncated away arrived although it is nowhere now.
    assert!(all.missing.iter().all(|(_, number)| missing.contains(number)), "{all}\n{}", agent.report());
    assert_eq!((all.disorder.len(), all.unwanted.len()), (0, 0), "{all}\n{}", agent.report());
    // Known wrong: a copy that is shorter than what was read of its original is not known as one (docs/known-issues.md).
    assert!(all.repeated == 0 || all.missing.len() < missing.len(), "{all}\n{}", agent.report());
    // Halves of lines, where the copy ended or the file began in one.
    assert!(all.foreign.len() <= 2 * ROTATIONS, "{all}");
    let lost: u64 =
        all.missing.iter().map(|(writer, number)| lines::line(Style::Access, *writer, *number).len() as u64 + 1).sum();
    let summary = agent.summary();
    let said = summary["entries"]["app"]["lost_bytes"].as_u64().unwrap();
    assert!(said <= lost, "{said} bytes are counted as lost, and {lost} are: {summary}");
    assert_eq!(summary["entries"]["app"]["balanced"], json!(true), "{summary}");
    say(&format!(
        "copytruncate under load: {} lines, {} missing on the disk, {} in Kafka ({lost} bytes, {said} counted)",
        numbers.end,
        missing.len(),
        all.missing.len()
    ));
}

/// The numbers of the lines in a file.
fn lines_in(path: &Path) -> Vec<u64> {
    let text = std::fs::read(path).expect("a log can be read");
    text.split(|byte| *byte == b'\n').filter_map(lines::verified).map(|tag| tag.1).collect()
}

#[test]
fn a_busy_nginx_whose_log_rotates_loses_and_repeats_nothing_and_keeps_the_order_of_each_client() {
    let kafka = Kafka::shared();
    for (name, directives) in [("nginx", "create\ndelaycompress\ncompress"), ("nginx-dates", DATED)] {
        let topic = kafka.topic(name, 2);
        let mut agent = Agent::new(kafka);
        agent.entry("access", &entry(&agent, "access.log", &topic));
        agent.start();
        let (home, path) = (agent.path("nginx"), agent.path("logs/access.log"));
        let nginx = Nginx::start(&home, &path, 4);
        let reopen = |asked: &Path| [":".to_owned(), Nginx::script_reopen(asked)];
        let form = Form { pattern: "access.log", directives, scripts: reopen, stopped: 2 };
        let rotate = logrotate_in(&agent, &home, &path, &form);
        let mut tap = Tap::open(kafka, &topic);
        for round in 0..ROTATIONS {
            if round == STOPPED {
                until_provable(&mut agent, &path);
                agent.stop_cleanly();
            }
            if (STOPPED..STOPPED + form.stopped).contains(&round) {
                until_grown(&path, 30_000);
            } else {
                let written = nginx.written();
                tap.until(
                    "what was written is seen",
                    || agent.report(),
                    |records| {
                        let mut newest = vec![0; written.len()];
                        for (writer, number) in records.iter().filter_map(|record| lines::tag(record.bytes())) {
                            newest[writer as usize] = number;
                        }
                        newest.iter().zip(&written).all(|(newest, written)| *newest + 1 >= *written)
                    },
                );
            }
            if directives == DATED {
                until_next_second();
            }
            rotate();
            if round + 1 == STOPPED + form.stopped {
                agent.start();
            }
        }
        let sent = nginx.end();
        let tags = (0..).zip(&sent).flat_map(|(writer, count)| (0..*count).map(move |number| (writer, number)));
        arrives_once(&Expected::lines(Style::Syslog, tags), &mut tap, &mut agent);
        assert_eq!(agent.summary()["total"]["balanced"], json!(true), "{:#}", agent.summary());
    }
}

/// The agent is shown a rotated log and a new one, and stands still while programs write.
fn written_while_frozen(name: &str, renamed: &[&str], write: impl Fn(&Path, &mut [LogFile; 2])) {
    let kafka = Kafka::shared();
    let topic = kafka.topic(name, 1);
    let mut agent = Agent::new(kafka);
    let mut entry = entry(&agent, "app.log", &topic);
    entry["finish_after_ms"] = json!(3_600_000);
    agent.entry("app", &entry);
    agent.start();
    let mut files = [log(&agent, "app", Style::Json, 1), log(&agent, "app", Style::Json, 2)];
    let mut tap = Tap::open(kafka, &topic);
    let path = files[0].path().to_owned();
    for file in &mut files {
        file.write(300);
    }
    arrival(&Expected::all(&files), &mut tap, &agent);
    for rotations in 0..renamed.len() {
        for (older, newer) in renamed[..=rotations].iter().zip(&renamed[1..=rotations]).rev() {
            std::fs::rename(path.with_file_name(older), path.with_file_name(newer))
                .expect("a log can be renamed and made");
        }
        std::fs::rename(&path, path.with_file_name(renamed[0])).expect("a log can be renamed and made");
        std::fs::File::create(&path).expect("a log can be renamed and made");
        agent.until("it reads all of them", |agent| {
            let status = agent.status();
            (status["streams"].as_array()?.len() == rotations + 2).then_some(())
        });
    }
    agent.process().signal(Signal::STOP);
    write(&path, &mut files);
    agent.process().signal(Signal::CONT);
    arrives_once(&Expected::all(&files), &mut tap, &mut agent);
}

#[test]
fn what_is_written_into_the_old_file_before_the_new_one_arrives_before_it() {
    // Nothing was in the new file when the old one was looked at last.
    written_while_frozen("lingering", &["app.log.1"], |_, files| {
        files[0].write(5_000).reopen();
        files[0].write(5_000);
    });
    // Neither was anything in the file between them.
    written_while_frozen("lingering-long", &["app.log.1", "app.log.2"], |path, files| {
        files[0].write(3_000).go_on_in(&path.with_file_name("app.log.1"));
        files[0].write(3_000).reopen();
        files[0].write(3_000);
    });
    written_while_frozen("lingering-over-two", &["app.log.1", "app.log.2"], |_, files| {
        files[0].write(5_000).reopen();
        files[0].write(5_000);
    });
}

#[test]
fn a_worker_that_goes_on_in_the_old_file_while_others_write_into_the_new_one_keeps_the_order_of_its_lines() {
    written_while_frozen("workers", &["app.log.1"], |_, files| {
        let [late, early] = files;
        early.reopen();
        for _ in 0..20 {
            early.write(200);
            late.write(200);
        }
        late.reopen();
        for _ in 0..20 {
            early.write(200);
            late.write(200);
        }
    });
}

#[test]
fn what_a_program_writes_into_its_old_file_after_the_rotation_is_shipped_in_the_order_of_that_file() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("linger", 1);
    let mut agent = Agent::new(kafka);
    agent.set("agent", "scan_every_ms", 500);
    agent.entry("app", &entry(&agent, "app.log", &topic));
    agent.start();
    let nobody_asks = |_: &Path| [":".to_owned(), ":".to_owned()];
    let form = Form { pattern: "app.log", directives: "create", scripts: nobody_asks, stopped: 0 };
    let mut tap = Tap::open(kafka, &topic);
    // A writer of its own for each file: the order of the lines of two files that are written at once is nobody's.
    let mut files: Vec<LogFile> = Vec::new();
    for generation in 0..6 {
        let mut file = log(&agent, "app", Style::Json, generation);
        file.write(300);
        if generation != 3 {
            tap.until("it is seen", || agent.report(), |records| records.len() >= files.len() * 1_300 + 300);
        }
        if generation == 2 {
            agent.stop_cleanly();
        }
        let rotate = logrotate(&agent, file.path(), &form);
        rotate();
        file.write(1_000);
        files.push(file);
        if generation == 3 {
            agent.start();
        }
    }
    let expected = Expected::all(&files);
    arrives_once(&expected, &mut tap, &mut agent);
    assert_eq!(json!(expected.len()), json!(6 * 1_300));
}

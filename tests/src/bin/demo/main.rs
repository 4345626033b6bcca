//! `make demo`: a real Kafka, the real agent, this machine's own logs and a small generator. Lines arrive filtered and
//! redacted, an entry is edited while everything runs, the agent is killed and started again; at the end the books are
//! made up from the files and from Kafka. Ends by itself; `--keep` goes on until ctrl-c.

mod screen; // what is shown

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tailmill_tests::agent::{Agent, tailmill};
use tailmill_tests::kafka::{Kafka, block_on};
use tailmill_tests::lines::{self, Style};
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::{Content, Expected, Verdict};
use tailmill_tests::topic::{Record, Tap};

use screen::{REDACTED, Screen};

const SHOP: &str = "shop";
const MACHINE: &str = "machine";
/// Lines that each of the shop's logs gets in one go.
const PORTION: u64 = 2_000;
/// How long the shop writes at full speed before the kill.
const BURST: Duration = Duration::from_millis(1_800);
/// Of the machine's logs, so much at most: the demo is to end soon.
const MACHINE_BYTES_MAX: u64 = 4 << 20;

fn main() -> anyhow::Result<()> {
    let keep = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--keep") => true,
        Some(other) => anyhow::bail!("unknown option {other}\ndemo [--keep]"),
    };
    let mut demo = Demo::start()?;
    demo.lines_arrive();
    demo.entry_is_edited();
    demo.agent_is_killed();
    if keep {
        demo.goes_on();
    }
    demo.books_are_made_up()
}

struct Demo {
    screen: Screen,
    kafka: Kafka,
    agent: Agent,
    shop: Shop,
    machine: Machine,
    to_shop: Tap,
    to_machine: Tap,
}

/// The generator: a web server's log and an application's. How many lines of each were there when the entry changed.
struct Shop {
    logs: [LogFile; 2],
    edited_at: u64,
}

impl Shop {
    fn write(&mut self, lines: u64) {
        for log in &mut self.logs {
            log.write(lines);
        }
    }

    /// What must arrive: until the edit all but the health checks, from then on only calls of the API and orders.
    fn expected(&self) -> Expected {
        let holds = |line: &[u8], word: &str| memchr::memmem::find(line, word.as_bytes()).is_some();
        Expected::those(&self.logs, |line| {
            let number = lines::tag(line).map_or(0, |(_, number)| number);
            !holds(line, "/healthz") && (number < self.edited_at || !holds(line, "/static/"))
        })
    }
}

fn shop_entry(agent: &Agent, exclude: Value) -> Value {
    let filters = json!([{ "use": "grep", "with": { "exclude": exclude } }, { "use": "redact" }]);
    json!({ "path": agent.path("logs/*.log"), "topic": SHOP, "filters": filters })
}

impl Demo {
    fn start() -> anyhow::Result<Demo> {
        let screen = Screen::new();
        screen.step("A real Kafka starts");
        let kafka = Kafka::start();
        kafka.create(SHOP, 2, &[]);
        kafka.create(MACHINE, 1, &[]);
        screen.say(&format!("listening on {}", kafka.brokers()));

        screen.step("tailmill starts, with two entries");
        let mut agent = Agent::new(&kafka);
        agent.stock("grep").stock("redact");
        let log = |name: &str, style, writer| LogFile::create(agent.path("logs").join(name), style, writer);
        let logs = [log("access.log", Style::Access, 1), log("orders.log", Style::Json, 2)];
        let machine = Machine::look();
        let entry = shop_entry(&agent, json!("/healthz"));
        let text = entry.to_string().replace(&*agent.path("logs").to_string_lossy(), "…/logs");
        screen.say(&format!("{SHOP}.json     {text}"));
        agent.entry(SHOP, &entry);
        if !machine.logs.is_empty() {
            let mut entry = json!({ "path": "…", "topic": MACHINE, "filters": [{ "use": "redact" }] });
            entry["headers"] = json!(["path", "offset"]);
            screen.say(&format!("{MACHINE}.json  {entry}"));
            screen.say(&format!("              of {}", machine.names()));
            entry["path"] = machine.logs.keys().cloned().collect();
            agent.entry(MACHINE, &entry);
        }
        let begun = Instant::now();
        agent.start();
        screen.say(&format!("running as process {} after {} ms", agent.process().pid(), begun.elapsed().as_millis()));
        let [to_shop, to_machine] = [SHOP, MACHINE].map(|topic| Tap::open(&kafka, topic));
        let shop = Shop { logs, edited_at: u64::MAX };
        Ok(Demo { screen, kafka, agent, shop, machine, to_shop, to_machine })
    }

    fn lines_arrive(&mut self) {
        self.screen.step("Lines arrive as records: health checks filtered out, e-mail addresses redacted");
        for _ in 0..6 {
            self.shop.write(PORTION / 6);
            let before = self.to_shop.records().len();
            self.arrived();
            self.show(before, 1, |text| !text.contains(REDACTED));
            self.show(before, 1, |text| text.contains(REDACTED));
        }
        self.screen.say(&format!("{} records so far, a few of them shown", self.to_shop.records().len()));
        if !self.machine.logs.is_empty() {
            self.screen.say("and from this machine's own logs:");
            let all = self.machine.lines() as usize;
            self.to_machine.until("the machine's lines arrive", || self.agent.report(), |records| records.len() >= all);
            for record in self.to_machine.records().iter().take(3) {
                self.screen.record(record, MACHINE);
            }
        }
    }

    fn entry_is_edited(&mut self) {
        self.screen.step("The entry is edited while it runs: static files go too");
        self.shop.edited_at = self.shop.logs[0].numbers().end;
        let pid = self.agent.process().pid();
        let entry = shop_entry(&self.agent, json!(["/healthz", "/static/"]));
        let revision = |agent: &Agent| agent.status()["plan"]["revision"].as_u64().unwrap_or_default();
        let before = revision(&self.agent);
        let begun = Instant::now();
        self.agent.entry(SHOP, &entry);
        self.agent.until("the edited entry is in force", |agent| (revision(agent) > before).then_some(()));
        self.screen.say("\"exclude\": \"/healthz\"  is now  \"exclude\": [\"/healthz\", \"/static/\"]");
        let text = format!("in force {} ms after the file was saved; still process {pid}", begun.elapsed().as_millis());
        self.screen.good(&text);
        let before = self.to_shop.records().len();
        self.shop.write(PORTION);
        let arrived = self.arrived();
        self.show(before, 4, |_| true);
        let unwanted = arrived.unwanted.len();
        self.screen.say(&format!("{} more lines written, {unwanted} static files among what arrived", PORTION * 2));
    }

    fn agent_is_killed(&mut self) {
        self.screen.step("kill -9 at full speed, and a new start");
        let (begun, before) = (Instant::now(), self.to_shop.records().len());
        // Long enough that marks were written on the way.
        while begun.elapsed() < BURST || self.to_shop.records().len() == before {
            self.shop.write(PORTION);
            self.to_shop.to_end();
        }
        let pid = self.agent.process().pid();
        self.agent.kill();
        let arrived = self.to_shop.to_end().len() - before;
        self.screen.say(&format!("process {pid} killed after {arrived} records of a burst"));
        self.shop.write(PORTION);
        self.screen.say(&format!("{} more lines are written while nobody reads", PORTION * 2));
        self.agent.start();
        let begun = Instant::now();
        let verdict = self.arrived();
        let (pid, ms) = (self.agent.process().pid(), begun.elapsed().as_millis());
        self.screen.say(&format!("process {pid} went on from the marks and had caught up after {ms} ms"));
        let repeated = verdict.repeated;
        self.screen
            .good(&format!("0 lines missing; {repeated} came twice: sent, and not yet in the marks when it died"));
    }

    fn goes_on(&mut self) {
        self.screen.step("It goes on until ctrl-c");
        self.try_next(true);
        let stopped = std::thread::spawn(|| block_on(tokio::signal::ctrl_c()));
        while !stopped.is_finished() {
            self.shop.write(20);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn books_are_made_up(mut self) -> anyhow::Result<()> {
        self.screen.step("The end: where did every line go?");
        let verdict = self.arrived();
        self.agent.stop_cleanly();
        let expected = self.shop.expected();
        let lines: u64 = self.shop.logs.iter().map(|log| log.numbers().end).sum();
        let missing = verdict.missing.len() as u64;
        let ((delivered, _), (filtered, _)) = (expected.delivered, expected.filtered);
        self.screen.say("from the files and from Kafka, not from our own counters:");
        let headings = ["written =", "delivered +", "filtered +", "lost"];
        let mut table = vec![(SHOP.to_owned(), vec![lines, delivered - missing, filtered, missing])];
        let (lines, arrived) = (self.machine.lines(), self.machine.delivered(self.to_machine.to_end()));
        table.push((MACHINE.to_owned(), vec![lines, arrived, 0, lines - arrived]));
        self.screen.table(&headings, &table);
        let missing = missing + lines - arrived;
        self.screen.say("and what the agent says of itself since its last start:");
        let summary = self.agent.summary();
        let rows = ["read", "delivered", "filtered", "pending"];
        let row = |(name, said): (&String, &Value)| {
            let mut numbers: Vec<u64> =
                rows.iter().map(|row| said[row]["lines"].as_u64().unwrap_or_default()).collect();
            numbers.push(said["unaccounted_lines"].as_u64().unwrap_or_default());
            (name.clone(), numbers)
        };
        let table: Vec<_> = summary["entries"].as_object().into_iter().flatten().map(row).collect();
        self.screen.table(&["read =", "delivered +", "filtered +", "pending", "lost"], &table);
        let balanced = summary["total"]["balanced"] == json!(true);
        anyhow::ensure!(missing == 0 && balanced && verdict.disorder.is_empty(), "the books do not balance: {verdict}");
        self.screen.good("balanced, 0 lost, every file in order");
        self.try_next(false);
        Ok(())
    }

    /// Waits until everything that was written and is wanted has arrived.
    fn arrived(&mut self) -> Verdict {
        let expected = self.shop.expected();
        let verdict = expected.arrives(&mut self.to_shop, Content::Changed, || self.agent.report());
        verdict.assert_none_missing(|| self.agent.report());
        verdict
    }

    /// Shows some of the records after the first `from`.
    fn show(&self, from: usize, most: usize, wanted: impl Fn(&str) -> bool) {
        let all = self.to_shop.records()[from..].iter();
        let chosen = all.filter(|record| wanted(&String::from_utf8_lossy(record.bytes()))).take(most);
        chosen.for_each(|record| self.screen.record(record, SHOP));
    }

    fn try_next(&self, running: bool) {
        let program = tailmill();
        let program = std::env::current_dir().ok().and_then(|dir| program.strip_prefix(dir).ok()).unwrap_or(&program);
        let program = program.display();
        self.screen.step("Try next");
        if running {
            let config = self.agent.path("tailmill.toml");
            self.screen.say(&format!("{program} status --config {}", config.display()));
            self.screen.say(&format!("edit {}", self.agent.path("entries.d/shop.json").display()));
            self.screen.say(&format!(
                "kill -9 {}   (and see it stay down: the demo starts it only once)",
                self.agent.process().pid()
            ));
            self.screen.say(&format!("read topic {SHOP} at {} with any Kafka client", self.kafka.brokers()));
        } else {
            self.screen.say(&format!("{program} dev --path '/var/log/*.log' --filter redact    your logs, no set-up"));
            self.screen.say("make demo ARGS=--keep                       look around while it runs");
            self.screen.say("make bench                                  what a line costs beside librdkafka alone");
            self.screen.say("README.md                                   your own filter in five minutes");
        }
    }
}

/// Some logs of this machine that we may read, each with the offsets at which its lines began when the demo started.
struct Machine {
    logs: BTreeMap<String, BTreeSet<u64>>,
}

impl Machine {
    /// Text, not empty, not too much, at most five.
    fn look() -> Machine {
        let mut found: Vec<(u64, PathBuf)> = Vec::new();
        for dir in ["/var/log", "/var/log/apt"] {
            let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
            found.extend(files.filter_map(|file| {
                let (path, size) = (file.path(), file.metadata().ok()?.len());
                let log = path.extension().is_some_and(|end| end == "log") || path.ends_with("syslog");
                let fits = file.file_type().ok()?.is_file() && (1..=MACHINE_BYTES_MAX).contains(&size);
                (log && fits && std::fs::File::open(&path).is_ok()).then_some((size, path))
            }));
        }
        found.sort();
        let starts = |path: PathBuf| {
            let text = std::fs::read(&path).unwrap_or_default();
            let ends = memchr::memchr_iter(b'\n', &text).map(|end| end as u64);
            let mut start = 0;
            let starts = ends.map(|end| std::mem::replace(&mut start, end + 1)).collect();
            (path.display().to_string(), starts)
        };
        Machine { logs: found.into_iter().take(5).map(|(_, path)| starts(path)).collect() }
    }

    fn names(&self) -> String {
        self.logs.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn lines(&self) -> u64 {
        self.logs.values().map(|starts| starts.len() as u64).sum()
    }

    /// Lines that are in Kafka. A record says by its headers which line it is.
    fn delivered(&self, records: &[Record]) -> u64 {
        let text = |record: &Record, name| record.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let lines =
            records.iter().filter_map(|record| Some((text(record, "path")?, text(record, "offset")?.parse().ok()?)));
        let distinct: BTreeSet<(String, u64)> = lines.collect();
        let known =
            distinct.iter().filter(|(path, start)| self.logs.get(path).is_some_and(|starts| starts.contains(start)));
        known.count() as u64
    }
}

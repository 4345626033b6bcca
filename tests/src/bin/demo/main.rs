//! `make demo`: a real Kafka, the real agent, this machine's own logs and a small generator. Lines arrive filtered and
//! redacted, an entry is edited while everything runs, the agent is killed and started again; at the end the books are
//! made up from the files and from Kafka. Ends by itself; `--keep` goes on until ctrl-c.

mod screen; // what is shown

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tailmill_tests::agent::{Agent, tailmill};
use tailmill_tests::kafka::{Kafka, block_on};
use tailmill_tests::lines::{self, Style};
use tailmill_tests::logfile::LogFile;
use tailmill_tests::oracle::{Content, Expected, Verdict};
use tailmill_tests::topic::Tap;

use screen::Screen;

const SHOP: &str = "shop";
const MACHINE: &str = "machine";
/// Lines that the shop writes before its entry is edited, after it, and around the kill.
const BEFORE: u64 = 2_000;
const BURST: u64 = 60_000;
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
    machine: Vec<PathBuf>,
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
        let machine = machine_logs();
        let entry = shop_entry(&agent, json!("/healthz"));
        show_entry(&screen, SHOP, &entry, agent.path("logs").as_path());
        agent.entry(SHOP, &entry);
        if !machine.is_empty() {
            let entry = json!({ "path": machine, "topic": MACHINE, "filters": [{ "use": "redact" }] });
            show_entry(&screen, MACHINE, &entry, Path::new("/nowhere"));
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
        let mut shown = 0;
        for _ in 0..10 {
            self.shop.write(BEFORE / 10);
            let before = self.to_shop.records().len();
            self.to_shop.until("lines arrive", || self.agent.report(), |records| records.len() > before);
            shown += self.show(before, 1, |_| true);
            shown += self.show(before, 1, |text| text.contains("customer") || text.contains("user"));
        }
        if !self.machine.is_empty() {
            self.screen.say("and from this machine's own logs:");
            self.to_machine.until("the machine's lines arrive", || self.agent.report(), |records| !records.is_empty());
            for record in self.to_machine.to_end().iter().rev().take(4) {
                self.screen.record(MACHINE, record.partition, record.offset, record.bytes());
            }
        }
        let records = self.arrived().records;
        self.screen.say(&format!("{records} records from the shop so far, {shown} of them shown"));
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
        self.shop.write(BEFORE);
        let arrived = self.arrived();
        self.show(before, 4, |_| true);
        let unwanted = arrived.unwanted.len();
        self.screen.say(&format!("{} more lines written, {unwanted} static files among what arrived", BEFORE * 2));
    }

    fn agent_is_killed(&mut self) {
        self.screen.step("kill -9 at full speed, and a new start");
        let before = self.to_shop.records().len();
        self.shop.write(BURST);
        let some = before + BURST as usize / 4;
        self.to_shop.until("the burst is under way", || self.agent.report(), |records| records.len() >= some);
        let pid = self.agent.process().pid();
        self.agent.kill();
        let arrived = self.to_shop.to_end().len() - before;
        self.screen.say(&format!("process {pid} killed with {arrived} records of a burst in Kafka"));
        self.shop.write(BEFORE);
        self.screen.say(&format!("{} more lines are written while nobody reads", BEFORE * 2));
        self.agent.start();
        let begun = Instant::now();
        let verdict = self.arrived();
        let (pid, ms) = (self.agent.process().pid(), begun.elapsed().as_millis());
        self.screen.say(&format!("process {pid} went on from the marks and had caught up after {ms} ms"));
        let text =
            format!("0 lines missing; {} came twice (sent, but not yet noted as acknowledged)", verdict.repeated);
        self.screen.good(&text);
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
        self.screen.table(&headings, &[(SHOP.to_owned(), vec![lines, delivered - missing, filtered, missing])]);
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

    /// Shows some of the records after the first `from`; returns how many.
    fn show(&self, from: usize, most: usize, wanted: impl Fn(&str) -> bool) -> usize {
        let all = self.to_shop.records()[from..].iter();
        let chosen = all.filter(|record| wanted(&String::from_utf8_lossy(record.bytes()))).take(most);
        chosen.map(|record| self.screen.record(SHOP, record.partition, record.offset, record.bytes())).count()
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

fn show_entry(screen: &Screen, name: &str, entry: &Value, logs: &Path) {
    let text = entry.to_string().replace(&*logs.to_string_lossy(), "…/logs");
    screen.say(&format!("{name}.json  {text}"));
}

/// Some logs of this machine that we may read: text, not empty, not too much.
fn machine_logs() -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for dir in ["/var/log", "/var/log/apt"] {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(files.filter_map(|file| {
            let (path, size) = (file.path(), file.metadata().ok()?.len());
            let log = path.extension().is_some_and(|end| end == "log") || path.ends_with("syslog");
            let readable = std::fs::File::open(&path).is_ok() && file.file_type().is_ok_and(|kind| kind.is_file());
            (log && readable && size > 0 && size <= MACHINE_BYTES_MAX).then_some((size, path))
        }));
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).take(5).collect()
}

//! What is measured: programs that ship the same file to the same broker, each to a topic of its own.

use anyhow::{Context as _, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use tailmill_tests::agent::Agent;
use tailmill_tests::kafka::Kafka;
use tailmill_tests::scratch;

use crate::data::Data;

/// What both sides are told about Kafka, so that the difference is not in the settings. `linger.ms` and the sizes are
/// those with which the limit was cheapest.
pub(crate) const PROPERTIES: [(&str, &str); 4] =
    [("compression.type", "none"), ("linger.ms", "5"), ("batch.size", "1000000"), ("batch.num.messages", "10000")];

/// One run of one contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// User and system time of the whole process until the last acknowledgement.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Largest resident memory; the limit maps its input, which counts there.
    pub(crate) memory_bytes: Option<u64>,
}

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Which row is its 1.00.
    pub(crate) against: usize,
    /// Records that must arrive.
    pub(crate) records: u64,
    program: Program,
}

enum Program {
    Limit(Vec<String>),
    Tailmill { agent: Box<Agent>, filters: Value },
}

impl Contender {
    pub(crate) fn limit(name: &'static str, against: usize, records: u64, arguments: &[&str]) -> Contender {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Contender { name, against, records, program: Program::Limit(arguments) }
    }

    pub(crate) fn tailmill(
        name: &'static str,
        against: usize,
        records: u64,
        kafka: &Kafka,
        filters: Value,
    ) -> Contender {
        let mut agent = Agent::new(kafka);
        for (key, value) in PROPERTIES {
            agent.set("kafka.properties", key, value);
        }
        for filter in filters.as_array().into_iter().flatten() {
            agent.stock(filter["use"].as_str().unwrap_or_default());
        }
        Contender { name, against, records, program: Program::Tailmill { agent: Box::new(agent), filters } }
    }

    /// Ships the file once. `round` makes names unique.
    pub(crate) fn run(&mut self, kafka: &Kafka, data: &Data, round: usize) -> anyhow::Result<Cost> {
        let topic = kafka.topic("bench", 1);
        let cost = match &mut self.program {
            Program::Limit(arguments) => limit(kafka, data, &topic, arguments)?,
            Program::Tailmill { agent, filters } => tailmill(agent, kafka, data, &topic, filters, round, self.records)?,
        };
        let arrived = high_watermark(&kafka.client().create()?, &topic)?;
        if arrived != self.records {
            bail!("{}: {arrived} records arrived instead of {}", self.name, self.records);
        }
        kafka.delete(&topic);
        Ok(cost)
    }
}

fn limit(kafka: &Kafka, data: &Data, topic: &str, arguments: &[String]) -> anyhow::Result<Cost> {
    let program = scratch::target_dir().join("release/limit");
    let mut command = Command::new(program);
    command.arg(&data.path).args(["--brokers", &kafka.brokers(), "--topic", topic]).args(arguments);
    for (key, value) in PROPERTIES {
        command.arg("-X").arg(format!("{key}={value}"));
    }
    let output = command.output().context("while starting limit")?;
    anyhow::ensure!(output.status.success(), "limit: {}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout)?;
    let time = |key: &str| Duration::from_micros(result[key].as_u64().unwrap_or_default());
    Ok(Cost { cpu: time("cpu_us"), wall: time("wall_us"), memory_bytes: None })
}

fn tailmill(
    agent: &mut Agent,
    kafka: &Kafka,
    data: &Data,
    topic: &str,
    filters: &Value,
    round: usize,
    records: u64,
) -> anyhow::Result<Cost> {
    let consumer: BaseConsumer = kafka.client().create()?;
    // A new entry has no mark, and its home keeps the compiled module of the round before.
    let name = format!("round-{round}");
    agent.entry(&name, &json!({ "path": data.path, "topic": topic, "filters": filters }));
    let begun = Instant::now();
    agent.launch();
    while high_watermark(&consumer, topic)? < records {
        if agent.process().cpu() > Duration::from_secs(600) {
            bail!("no end in sight\n{}", agent.report());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let cost =
        Cost { cpu: agent.process().cpu(), wall: begun.elapsed(), memory_bytes: Some(agent.process().memory().1) };
    agent.stop_cleanly();
    agent.remove_entry(&name);
    Ok(cost)
}

fn high_watermark(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<u64> {
    let (_, high) = consumer.fetch_watermarks(topic, 0, Duration::from_secs(30))?;
    Ok(u64::try_from(high)?)
}

//! Which topics there are and how many partitions they have, kept fresh by one thread a cluster.
//!
//! In: questions from shards, which register interest and are answered at once from memory. Out: partition counts. Asking
//! Kafka blocks, so only the thread that runs [`TopicDirectory::run`] does it. A topic that is missing makes only those
//! wait who ask for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

use super::settings;
use super::trouble::Trouble;
use crate::model::ClusterPlan;

/// How often a topic that is there is asked for: partitions are added rarely.
const REFRESH_READY: Duration = Duration::from_secs(30);
/// How often one that is not.
const REFRESH_WANTED: Duration = Duration::from_secs(1);
/// A topic that nobody asks for is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// The longest wait for an answer. A slow connection goes on being made meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The longest sleep: the stop flag is looked at in between.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// What a person reads of a topic that does not exist.
const MISSING: &str = "it does not exist: create it (or set the property \"allow.auto.create.topics\" = \"true\" of its \
                       cluster, where the brokers allow that)";

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// Nobody could say yet.
    Unknown,
    /// Kafka says it is not there, or that we may not know.
    Missing,
    /// It has so many partitions; at least 1.
    Ready(i32),
}

/// The topics of one cluster.
#[derive(Clone, Debug)]
pub struct TopicDirectory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: Mutex<Known>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    topics: HashMap<Arc<str>, Topic>,
    answered_at: Option<Instant>,
    trouble: Trouble,
}

#[derive(Clone, Debug)]
struct Topic {
    state: TopicState,
    /// Why it is not ready, in Kafka's words.
    problem: Option<String>,
    /// What was logged of it last.
    told: Option<String>,
    /// When Kafka was last asked.
    looked_at: Option<Instant>,
    /// When somebody last wanted to know.
    wanted_at: Instant,
}

impl Topic {
    /// In trouble every topic is asked for often: the first answer says that the trouble is over.
    fn due(&self, in_trouble: bool) -> Option<Instant> {
        let rarely = matches!(self.state, TopicState::Ready(_)) && !in_trouble;
        let every = if rarely { REFRESH_READY } else { REFRESH_WANTED };
        self.looked_at.map(|looked_at| looked_at + every)
    }
}

impl TopicDirectory {
    /// A directory in which nothing is known. Somebody has to [`run`](Self::run) it.
    #[expect(clippy::new_without_default, reason = "a directory that nobody runs is of no use")]
    pub fn new() -> TopicDirectory {
        TopicDirectory(Arc::new(Shared { known: Mutex::default(), asked: Condvar::new() }))
    }

    /// What is known of a topic, at once. Asking makes it known soon.
    pub fn partitions(&self, topic: &str) -> TopicState {
        let now = Instant::now();
        let mut known = self.known();
        if let Some(found) = known.topics.get_mut(topic) {
            found.wanted_at = now;
            return found.state;
        }
        let fresh = Topic { state: TopicState::Unknown, problem: None, told: None, looked_at: None, wanted_at: now };
        known.topics.insert(topic.into(), fresh);
        self.0.asked.notify_all();
        TopicState::Unknown
    }

    /// Why a topic is not ready, in Kafka's words.
    pub fn problem(&self, topic: &str) -> Option<String> {
        self.known().topics.get(topic)?.problem.clone()
    }

    /// What is wrong with the cluster, as the metadata thread sees it.
    pub fn health(&self) -> Option<String> {
        let known = self.known();
        known.trouble.message(known.answered_at)
    }

    /// When the cluster last answered.
    pub(super) fn answered_at(&self) -> Option<Instant> {
        self.known().answered_at
    }

    /// A record came back because of its topic: what is known of it is not true any more.
    pub(super) fn doubt(&self, topic: &str) {
        if let Some(found) = self.known().topics.get_mut(topic) {
            found.state = TopicState::Unknown;
            found.looked_at = None;
            self.0.asked.notify_all();
        }
    }

    /// The body of the metadata thread: asks Kafka until `stop` is set, and ends at most a few seconds after that.
    pub fn run(&self, cluster: &ClusterPlan, stop: &AtomicBool) {
        let client = loop {
            match BaseProducer::from_config_and_context(&settings::metadata(cluster), Listener(self.clone())) {
                Ok(client) => break client,
                Err(error) => self.heard(Code::Fail, &format!("while making a metadata client: {error}")),
            }
            if self.sleep(REFRESH_WANTED, stop) {
                return;
            }
        };
        let mut told = false;
        while !stop.load(Ordering::Relaxed) {
            hear_all(&client);
            told = self.tell_health(&cluster.name, told);
            match self.next_due() {
                Some(topic) => self.ask(&client, &topic),
                None => {
                    self.sleep(SLEEP_MAX, stop);
                }
            }
        }
    }

    /// Logs that the cluster came into trouble, or out of it; `told`: it was said to be in trouble. The answer is the next
    /// `told`.
    fn tell_health(&self, cluster: &str, told: bool) -> bool {
        let health = self.health();
        match &health {
            Some(trouble) if !told => tracing::warn!(%cluster, "its records wait: {trouble}"),
            None if told => tracing::info!(%cluster, "it answers again"),
            _ => {}
        }
        health.is_some()
    }

    /// The topic that has waited longest, if any is due.
    fn next_due(&self) -> Option<Arc<str>> {
        let now = Instant::now();
        let mut known = self.known();
        known.topics.retain(|_, topic| now.saturating_duration_since(topic.wanted_at) < FORGET_AFTER);
        let in_trouble = known.trouble.message(known.answered_at).is_some();
        let due = known.topics.iter().map(|(name, topic)| (topic.due(in_trouble), name));
        due.filter(|(due, _)| due.is_none_or(|due| due <= now))
            .min_by_key(|(due, _)| *due)
            .map(|(_, name)| name.clone())
    }

    fn ask(&self, client: &BaseProducer<Listener>, topic: &str) {
        let answer = client.client().fetch_metadata(Some(topic), ANSWER_WITHIN);
        let (state, problem) = match &answer {
            Ok(metadata) => match metadata.topics().iter().find(|found| found.name() == topic) {
                Some(found) => state_of(found.error(), found.partitions().len()),
                None => (Some(TopicState::Missing), Some("the cluster does not list it".to_owned())),
            },
            // What was known stays: its records wait in the producer. What was not known stays unknown.
            Err(error) => (None, Some(error.to_string())),
        };
        if answer.is_ok() {
            // What went wrong before the answer came may still lie in the queue; heard later it would look newer.
            hear_all(client);
        }
        let now = Instant::now();
        let mut known = self.known();
        if answer.is_ok() {
            known.answered_at = Some(now);
            known.trouble.acknowledged();
        }
        if let Some(found) = known.topics.get_mut(topic) {
            found.looked_at = Some(now);
            found.state = state.unwrap_or(found.state);
            if answer.is_ok() {
                match (&found.told, &problem) {
                    (None, Some(problem)) => tracing::warn!(topic, "records for it wait: {problem}"),
                    (Some(_), None) => tracing::info!(topic, "it is there"),
                    _ => {}
                }
                found.told.clone_from(&problem);
            }
            found.problem = problem;
        }
    }

    fn heard(&self, code: Code, message: &str) {
        self.known().trouble.heard(code, message);
    }

    /// Sleeps until somebody asks for something new. True when it is time to stop.
    fn sleep(&self, at_most: Duration, stop: &AtomicBool) -> bool {
        let known = self.known();
        if known.topics.values().all(|topic| topic.looked_at.is_some()) {
            drop(self.0.asked.wait_timeout(known, at_most).unwrap_or_else(|broken| broken.into_inner()));
        }
        stop.load(Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Plain data is sound also when somebody panicked beside it.
        self.0.known.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// A directory that knows these topics and asks nobody.
    #[cfg(test)]
    pub(crate) fn fixed(topics: &[(&str, i32)]) -> TopicDirectory {
        let directory = TopicDirectory::new();
        for (name, partitions) in topics {
            let now = Instant::now();
            let state = TopicState::Ready(*partitions);
            directory.known().topics.insert(
                (*name).into(),
                Topic { state, problem: None, told: None, looked_at: Some(now), wanted_at: now },
            );
        }
        directory
    }
}

fn state_of(error: Option<RDKafkaRespErr>, partitions: usize) -> (Option<TopicState>, Option<String>) {
    match error.map(Code::from) {
        None if partitions > 0 => (Some(TopicState::Ready(partitions as i32)), None),
        None => (Some(TopicState::Unknown), Some("it has no partitions yet".to_owned())),
        Some(Code::UnknownTopicOrPartition) => (Some(TopicState::Missing), Some(MISSING.to_owned())),
        Some(code @ (Code::LeaderNotAvailable | Code::UnknownTopic)) => {
            (Some(TopicState::Unknown), Some(code.to_string()))
        }
        Some(code) => (Some(TopicState::Missing), Some(code.to_string())),
    }
}

/// Errors come in as events, one a call; nothing else is ever in this client's queue.
fn hear_all(client: &BaseProducer<Listener>) {
    while client.in_flight_count() > 0 {
        client.poll(Duration::ZERO);
    }
}

/// Hears the metadata client's errors.
struct Listener(TopicDirectory);

impl ClientContext for Listener {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        // It says what the producers say, and that it was given properties of a producer.
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.0.heard(code, reason);
        }
    }
}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;

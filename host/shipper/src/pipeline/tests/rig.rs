//! A shard that runs in the test's own thread, a lane that works when the test says so, real files, a mock Kafka.
//!
//! A line is a command for the fake filter and a token that tells it from all others: `k<3.14>` is line 14 of file 3.

use super::super::lane::LaneWorker;
use super::super::shard::{Shard, ShardLinks};
use super::super::{ClusterLink, Opening, ShardCommand, ShardReport, ShardSettings};
use crate::checkpoint::{CommitMessage, StreamRecord};
use crate::deliver::TopicDirectory;
use crate::filter::tests::fake::{Fake, Shared, armed_entry};
use crate::filter::{ArmedChain, DEAR_CALL};
use crate::model::{ClusterPlan, Delivery, EntryName, EntryPlan};
use crate::observe::Board;
use crossbeam_channel::{Receiver, Sender, unbounded};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_tail::{FileId, FileKey, OpenedFile, StreamKey};

/// Not a time that a test asserts: where a hang ends.
pub(super) const HANG: Duration = Duration::from_secs(60);

const TOPIC: &str = "logs";

/// See the module.
pub(super) struct Rig {
    pub shard: Shard,
    pub commands: Sender<ShardCommand>,
    pub reports: Receiver<ShardReport>,
    /// The newest record of each file.
    pub records: HashMap<StreamKey, StreamRecord>,
    pub world: Shared,
    workers: Receiver<LaneWorker>,
    worker: Option<LaneWorker>,
    commits: Receiver<CommitMessage>,
    mock: MockCluster<'static, DefaultProducerContext>,
    dir: tempfile::TempDir,
    /// Of the entries that are armed next.
    pub close_idle: Option<Duration>,
}

impl Rig {
    pub(super) fn new() -> Rig {
        let mock = MockCluster::new(1).expect("a mock cluster");
        mock.create_topic(TOPIC, 1, 1).expect("a topic");
        let dir = tempfile::tempdir().expect("a directory");
        let Parts { shard, commands, reports, workers, commits } = parts(&mock);
        let (worker, records, world) = (None, HashMap::new(), Shared::default());
        Rig { shard, commands, reports, records, world, workers, worker, commits, mock, dir, close_idle: None }
    }

    /// An entry with these filters, dear or not.
    pub(super) fn armed(&self, entry: &str, fakes: &[Fake], is_dear: bool) -> Arc<ArmedChain> {
        let plan = EntryPlan {
            name: entry.into(),
            finish_after: Duration::ZERO,
            close_idle: self.close_idle,
            ..EntryPlan::sample(vec![TOPIC.into()])
        };
        armed_entry(plan, fakes, &self.world, if is_dear { DEAR_CALL } else { Duration::ZERO })
    }

    /// Where a file lies.
    pub(super) fn path(&self, file: u128) -> PathBuf {
        self.dir.path().join(file.to_string())
    }

    /// Appends lines to a file: commands, from number `from` on.
    pub(super) fn write(&self, file: u128, from: usize, commands: &str) {
        let mut to = OpenOptions::new().create(true).append(true).open(self.path(file)).expect("a file");
        to.write_all(text(file, from, commands).as_bytes()).expect("lines");
    }

    /// The shard reads a file from now on, from where its record says.
    pub(super) fn open(&mut self, file: u128, armed: &Arc<ArmedChain>) -> StreamKey {
        self.note_commits();
        let key = StreamKey { entry: armed.entry.name.clone(), file: FileId(file) };
        let path: Arc<std::path::Path> = self.path(file).into();
        let place = FileKey::of(&std::fs::metadata(&path).expect("a file"));
        let opened = OpenedFile {
            key: key.clone(),
            place,
            path: path.clone(),
            home: path.clone(),
            target: None,
            file: File::open(&path).expect("a file"),
            packing: None,
            known: None,
            start: 0,
            predecessor: None,
        };
        let record = self.records.get(&key).cloned();
        self.say(ShardCommand::Open(Box::new(Opening { opened, record, armed: armed.clone() })));
        key
    }

    pub(super) fn say(&self, command: ShardCommand) {
        self.commands.send(command).expect("the shard listens");
    }

    /// So many rounds of the shard; the lane does nothing.
    pub(super) fn rounds(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.shard.hear();
            self.shard.round();
        }
    }

    /// The lane makes one trip, if there is one to make.
    pub(super) fn trip(&mut self) {
        self.worker = self.workers.try_iter().last().or(self.worker.take());
        self.worker.iter_mut().for_each(|worker| {
            worker.work_once();
        });
    }

    /// The lane's worker, for a thread of its own.
    pub(super) fn take_worker(&mut self) -> LaneWorker {
        self.workers.try_recv().expect("the lane was started")
    }

    /// Rounds and trips until something is true.
    pub(super) fn until(&mut self, what: &str, mut is_true: impl FnMut(&mut Rig) -> bool) {
        let hang = Instant::now() + HANG;
        while !is_true(self) {
            assert!(Instant::now() < hang, "waited in vain until {what}");
            self.rounds(1);
            self.trip();
        }
    }

    /// Rounds, without a trip, until so many chains are away.
    pub(super) fn until_away(&mut self, chains: usize) {
        let hang = Instant::now() + HANG;
        while self.shard.services.lane.away() < chains {
            assert!(Instant::now() < hang, "{} of {chains} chains are away", self.shard.services.lane.away());
            self.rounds(1);
        }
    }

    /// Lines of an entry that were read and have no end yet.
    pub(super) fn pending(&self, entry: &str) -> u64 {
        let streams = self.shard.streams.iter().filter(|(_, stream)| **stream.entry() == *entry);
        streams.map(|(_, stream)| stream.pending().lines).sum()
    }

    /// Lines of an entry that were delivered.
    pub(super) fn arrived_so_far(&mut self, entry: &str) -> u64 {
        self.shard.services.ledger(&entry.into()).delivered.lines
    }

    /// The process ends without notice; another one begins with what was written down.
    pub(super) fn crash(&mut self) {
        self.note_commits();
        let parts = parts(&self.mock);
        (self.shard, self.commands, self.reports) = (parts.shard, parts.commands, parts.reports);
        (self.workers, self.worker, self.commits) = (parts.workers, None, parts.commits);
    }

    /// Takes over what was written down.
    pub(super) fn note_commits(&mut self) {
        for message in self.commits.try_iter() {
            if let CommitMessage::Commit { records, .. } = message {
                self.records.extend(records.into_iter().map(|record| (record.key(), record)));
            }
        }
    }

    /// The equation of the entry's ledger, with what is pending now.
    pub(super) fn assert_balance(&mut self, entry: &str) {
        let pending = self.shard.streams.iter().filter(|(_, stream)| **stream.entry() == *entry);
        let pending = pending.map(|(_, stream)| stream.pending()).fold(Default::default(), |sum, one| sum + one);
        let name: EntryName = entry.into();
        let ledger = self.shard.services.ledger(&name);
        ledger.pending = pending;
        assert!(ledger.is_balanced(), "{:?} is unaccounted for: {ledger:?}", ledger.unaccounted());
    }

    /// Tokens of all lines that arrived, in order.
    pub(super) fn arrived(&self) -> Vec<String> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.mock.bootstrap_servers())
            .set("group.id", "test")
            .create()
            .expect("a consumer");
        let (_, end) = consumer.fetch_watermarks(TOPIC, 0, HANG).expect("an end");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Beginning).expect("a partition");
        consumer.assign(&list).expect("assigned");
        let (mut tokens, mut seen, hang) = (Vec::new(), 0, Instant::now() + HANG);
        while seen < end {
            assert!(Instant::now() < hang, "only {seen} of {end} records are there");
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.expect("a record");
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            tokens.extend(value.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0.to_owned())));
            seen = message.offset() + 1;
        }
        tokens
    }
}

struct Parts {
    shard: Shard,
    commands: Sender<ShardCommand>,
    reports: Receiver<ShardReport>,
    workers: Receiver<LaneWorker>,
    commits: Receiver<CommitMessage>,
}

fn parts(mock: &MockCluster<'static, DefaultProducerContext>) -> Parts {
    let (commands, to_shard) = unbounded();
    let (report, reports) = unbounded();
    let (to_store, commits) = unbounded();
    let (lane, workers) = unbounded();
    let links = ShardLinks {
        commands: to_shard,
        report: Box::new(move |said| drop(report.send(said))),
        commits: to_store,
        board: Board::new("node", 1),
        lane: Box::new(move |worker| lane.send(worker).map_err(|_| "no test".to_owned())),
    };
    let plan = ClusterPlan {
        name: "default".into(),
        brokers: vec![mock.bootstrap_servers()],
        delivery: Delivery::AtLeastOnce,
        properties: BTreeMap::default(),
    };
    let cluster = ClusterLink { plan: Arc::new(plan), topics: TopicDirectory::fixed(&[(TOPIC, 1)]) };
    let settings = ShardSettings {
        shard: 0,
        node: "node".into(),
        batch_bytes: 4096,
        batch_lines: 8,
        inflight_bytes_max: 16 << 20,
        inflight_topic_bytes_max: 16 << 20,
        turn: Duration::from_millis(10),
        topic_retry: Duration::from_millis(1),
        checkpoint_every: Duration::from_secs(3600),
        clusters: BTreeMap::from([("default".into(), cluster)]),
    };
    Parts { shard: Shard::new(settings, links), commands, reports, workers, commits }
}

/// Lines of a file.
pub(super) fn text(file: u128, from: usize, commands: &str) -> String {
    commands.chars().enumerate().map(|(i, command)| format!("{command}<{file}.{}>\n", from + i)).collect()
}

/// The tokens of lines that are not dropped.
pub(super) fn tokens(file: u128, from: usize, commands: &str) -> Vec<String> {
    let kept = commands.chars().enumerate().filter(|(_, command)| *command != 'd');
    kept.map(|(i, _)| format!("{file}.{}", from + i)).collect()
}

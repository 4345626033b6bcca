//! What a shard lends its streams for a turn: buffers, budget, producers, filter instances, ledgers.

use super::budget::Budget;
use super::command::ShardReport;
use super::lane::{Lane, StartLane};
use super::parcels::Parcels;
use super::said::Said;
use super::streams::StreamIx;
use crate::deliver::{Producer, TopicDirectory};
use crate::filter::SharedInstances;
use crate::model::{ClusterPlan, EntryName};
use crate::observe::{EntryLedger, Part, ShardTotals};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tailmill_tail::{BufferPool, Unpackers};

/// Zstd files that a shard unpacks at once: each holds a window of 1 to 8 MiB as a rule, of 128 MiB at most.
const UNPACKERS_MAX: usize = 4;

/// A cluster and what is known of its topics.
#[derive(Clone)]
pub struct ClusterLink {
    /// How to reach it.
    pub plan: Arc<ClusterPlan>,
    /// Partition counts, kept fresh by a thread of its own.
    pub topics: TopicDirectory,
}

/// What a shard is told once.
#[derive(Clone)]
pub struct ShardSettings {
    /// Its number, from 0.
    pub shard: usize,
    /// Name of the node.
    pub node: Arc<str>,
    /// Bytes of a full batch.
    pub batch_bytes: usize,
    /// Lines of a full batch.
    pub batch_lines: usize,
    /// Bytes in flight, overheads included.
    pub inflight_bytes_max: usize,
    /// The same for one (entry, topic).
    pub inflight_topic_bytes_max: usize,
    /// A stream's turn.
    pub turn: Duration,
    /// How long to wait before a topic that is not there is asked for again.
    pub topic_retry: Duration,
    /// How often marks go to the store.
    pub checkpoint_every: Duration,
    /// The clusters, by name.
    pub clusters: BTreeMap<Arc<str>, ClusterLink>,
}

/// Everything on a shard that is not a stream.
pub(super) struct Services {
    pub settings: ShardSettings,
    pub now: Instant,
    pub pool: BufferPool,
    pub budget: Budget,
    pub parcels: Parcels,
    pub shared: SharedInstances,
    pub lane: Lane,
    pub ledgers: BTreeMap<EntryName, EntryLedger>,
    /// Faults of filters that the log told of.
    pub said: Said,
    pub producers: HashMap<Arc<str>, Producer>,
    /// Topics that streams wait for.
    pub topics_in_trouble: BTreeSet<Part>,
    /// What the shard counts for itself.
    pub totals: ShardTotals,
    /// What streams say to the conductor.
    pub says: Vec<ShardReport>,
    /// Timers that a turn asked for.
    pub wakes: Vec<(Instant, StreamIx)>,
}

impl Services {
    pub(super) fn new(settings: ShardSettings, lane: StartLane) -> Self {
        // As many spare buffers as may be in flight: more are never needed, fewer would allocate under load.
        let spare = (settings.inflight_bytes_max / settings.batch_bytes.max(1)).clamp(4, 256);
        Services {
            now: Instant::now(),
            pool: BufferPool::new(settings.batch_bytes, spare).with_unpackers(Unpackers::new(UNPACKERS_MAX)),
            budget: Budget::new(settings.inflight_bytes_max, settings.inflight_topic_bytes_max),
            parcels: Parcels::default(),
            shared: SharedInstances::default(),
            lane: Lane::new(lane),
            ledgers: BTreeMap::new(),
            said: Said::default(),
            producers: HashMap::new(),
            topics_in_trouble: BTreeSet::new(),
            totals: ShardTotals::default(),
            says: Vec::new(),
            wakes: Vec::new(),
            settings,
        }
    }

    /// The entry's ledger on this shard.
    pub(super) fn ledger(&mut self, entry: &EntryName) -> &mut EntryLedger {
        if !self.ledgers.contains_key(entry) {
            self.ledgers.insert(entry.clone(), EntryLedger::default());
        }
        self.ledgers.entry(entry.clone()).or_default()
    }

    /// What a chain needs.
    pub(super) fn shared_and_ledger(&mut self, entry: &EntryName) -> (&mut SharedInstances, &mut EntryLedger) {
        (&mut self.shared, self.ledgers.entry(entry.clone()).or_default())
    }

    /// The cluster's topics; `None` for a cluster that is not configured.
    pub(super) fn topics(&self, cluster: &str) -> Option<&TopicDirectory> {
        self.settings.clusters.get(cluster).map(|link| &link.topics)
    }

    /// The shard's producer for a cluster, made at first use.
    pub(super) fn producer(&mut self, cluster: &Arc<str>) -> Result<&mut Producer, String> {
        if !self.producers.contains_key(cluster) {
            let link =
                self.settings.clusters.get(cluster).ok_or_else(|| format!("cluster {cluster} is not configured"))?;
            let client_id = format!("tailmill-{}-{}", self.settings.node, self.settings.shard);
            let made = Producer::new(&link.plan, &client_id, link.topics.clone())?;
            self.producers.insert(cluster.clone(), made);
        }
        self.producers.get_mut(cluster).ok_or_else(|| format!("cluster {cluster} has no producer"))
    }

    /// The cluster's producer is gone: nothing that it was given will be reported.
    pub(super) fn forget_parcels_of(&mut self, cluster: &str) {
        for note in self.parcels.forget_cluster(cluster) {
            self.budget.release(&note.entry, &note.topic, note.charged);
        }
    }

    /// Gives the stream a turn at `moment`.
    pub(super) fn wake_at(&mut self, stream: StreamIx, moment: Instant) {
        self.wakes.push((moment, stream));
    }

    /// Milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }
}

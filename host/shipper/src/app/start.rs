//! Everything up, in order; and down again.

use super::conductor::{Conductor, ConductorMessage};
use crate::checkpoint::{CommitMessage, Committer, Store, StoreHealth, StreamRecord};
use crate::config::{self, ModuleCheck, Settings};
use crate::deliver::TopicDirectory;
use crate::filter::Armory;
use crate::model::{FilterPlan, Plan};
use crate::observe::{self, Board, Part};
use crate::pipeline::{ClusterLink, LaneWorker, Shard, ShardLinks, ShardReport, ShardSettings, StopSummary};
use anyhow::{Context, Result};
use crossbeam_channel::{Sender, unbounded};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tailmill_engine::{CacheOptions, CompileLimits, Engine, EngineOptions};
use tailmill_tail::discover::{DiscoverOptions, KnownFile, Waker};
use tailmill_tail::{Discovery, StreamKey};
use tokio::sync::watch;

/// Steps of the engine's clock: a twentieth of the shortest limit that an entry may ask for.
pub(super) const EPOCH_EVERY: Duration = Duration::from_millis(5);

/// Where plans come from.
pub enum PlanSource {
    /// The directories and etcd of the settings.
    Settings,
    /// This one, for good (`tailmill dev`).
    Fixed {
        /// The plan.
        plan: Arc<Plan>,
        /// Where compiled modules are kept when the state directory does not live long enough to be worth it.
        compiled: Option<PathBuf>,
    },
}

/// A running agent.
pub struct Running {
    settings: watch::Sender<Arc<Settings>>,
    board: Board,
    runtime: tokio::runtime::Runtime,
    stop_control: watch::Sender<bool>,
    stop_helpers: Arc<AtomicBool>,
    mailbox: Mailbox,
    conductor: JoinHandle<Vec<StopSummary>>,
    shards: Vec<JoinHandle<()>>,
    committer: JoinHandle<()>,
    commits: Sender<CommitMessage>,
    helpers: Vec<JoinHandle<()>>,
    stop_deadline: Duration,
    admin: Option<std::net::SocketAddr>,
}

/// How a stop went.
#[derive(Clone, Debug, Default)]
pub struct StopOutcome {
    /// Records that were not acknowledged at the deadline; they come again at the next start.
    pub undelivered_records: u64,
    /// Shards that did not stop in order.
    pub lost_shards: usize,
}

/// Says something to the conductor and wakes it.
#[derive(Clone)]
struct Mailbox {
    messages: Sender<ConductorMessage>,
    waker: Waker,
}

impl Mailbox {
    fn send(&self, message: ConductorMessage) {
        let _ = self.messages.send(message);
        self.waker.wake();
    }
}

/// Checks filters for the configuration by starting them once.
struct ArmoryCheck(Arc<Armory>);

impl ModuleCheck for ArmoryCheck {
    fn check(&self, filter: &FilterPlan, topics: &[Arc<str>]) -> Result<(), String> {
        self.0.check(filter, topics)
    }
}

/// An engine and armory as the settings say, with compiled modules cached in the state directory.
fn armory(settings: &Settings) -> Result<(Engine, Arc<Armory>)> {
    armory_in(settings, compiled_dir(settings))
}

/// Where the agent keeps compiled modules.
pub(super) fn compiled_dir(settings: &Settings) -> PathBuf {
    settings.state_dir.join("compiled")
}

/// The same with the cache elsewhere.
pub(super) fn armory_in(settings: &Settings, dir: PathBuf) -> Result<(Engine, Arc<Armory>)> {
    let compiler = std::env::current_exe().context("while looking for the own executable, which compiles modules")?;
    let cache = CacheOptions { dir, compiler, limits: CompileLimits::STANDARD };
    let engine =
        Engine::new(EngineOptions { epoch_every: EPOCH_EVERY, cache: Some(cache), ..EngineOptions::default() })
            .context("while starting the filter engine")?;
    let armory = Arc::new(Armory::new(engine.clone(), settings.node.clone()));
    Ok((engine, armory))
}

/// The check of modules that `tailmill check` and the configuration use.
fn module_check(armory: Arc<Armory>) -> Arc<dyn ModuleCheck> {
    Arc::new(ArmoryCheck(armory))
}

/// Starts an agent. Nothing is left half started when this fails.
pub fn start(settings: Arc<Settings>, source: PlanSource, board: Board) -> Result<Running> {
    raise_open_files();
    let store = Store::open(&settings.state_dir)?;
    let records = store.load().context("while reading the marks")?;
    let seen = store.entries_seen().context("while reading the entries seen before")?;
    let (engine, armory) = match &source {
        PlanSource::Fixed { compiled: Some(dir), .. } => armory_in(&settings, dir.clone())?,
        _ => armory(&settings)?,
    };

    let stop_helpers = Arc::new(AtomicBool::new(false));
    let mut helpers = vec![spawn("epoch", ticker(engine, stop_helpers.clone()))?];
    let (commits, commit_messages) = unbounded();
    let committer = {
        // Shards keep the pace; a quarter of it is enough to put what several of them say into one commit.
        let (board, every, mut told) = (board.clone(), settings.limits.checkpoint_every / 4, false);
        spawn("commit", move || {
            Committer::new(store, every, move |health| show_store(&board, health, &mut told)).run(commit_messages)
        })?
    };
    let clusters = start_clusters(&settings, &stop_helpers, &mut helpers)?;

    let known = records.iter().map(known_file).collect();
    let discovery = Discovery::new(DiscoverOptions {
        scan_every: settings.limits.scan_every,
        pinned_bytes_max: settings.limits.pinned_bytes_max,
        forget_after: settings.limits.forget_after,
        allow: settings.entries.allow_paths.clone(),
        known,
        entries_seen: seen.into_iter().map(Arc::from).collect(),
        ..DiscoverOptions::default()
    });
    let (messages, conductor_messages) = unbounded();
    let mailbox = Mailbox { messages, waker: discovery.waker() };
    let (shards, shard_commands) = start_shards(&settings, &clusters, &commits, &mailbox, &board)?;
    let records: HashMap<StreamKey, StreamRecord> = records.into_iter().map(|record| (record.key(), record)).collect();
    let conductor = Conductor::new(
        discovery,
        shard_commands,
        armory.clone(),
        board.clone(),
        commits.clone(),
        conductor_messages,
        records,
    );
    let conductor = spawn("conductor", move || conductor.run())?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tailmill-ctl")
        .enable_all()
        .build()
        .context("while starting the control plane")?;
    let (stop_control, stopped) = watch::channel(false);
    let (new_settings, watched) = watch::channel(settings.clone());
    let admin = start_control(&runtime, watched, source, &board, &mailbox, armory, stopped)?;
    Ok(Running {
        settings: new_settings,
        board,
        runtime,
        stop_control,
        stop_helpers,
        mailbox,
        conductor,
        shards,
        committer,
        commits,
        helpers,
        stop_deadline: settings.limits.stop_deadline,
        admin,
    })
}

impl Running {
    /// The control plane's runtime, to wait for signals on.
    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// Other settings are in force from now on, as far as that can be while it runs. Says what waits for a restart.
    pub fn reload(&self, new: Settings) -> Vec<&'static str> {
        let (taken, waits) = self.settings.borrow().reloaded(new);
        self.settings.send_replace(Arc::new(taken));
        waits
    }

    /// Where the admin port is, if there is one.
    pub fn admin(&self) -> Option<std::net::SocketAddr> {
        self.admin
    }

    /// Stops in order. Blocks until everything is down, at most a little longer than the stop deadline.
    pub fn stop(self) -> StopOutcome {
        self.board.stopping();
        self.mailbox.send(ConductorMessage::Stop { deadline: Instant::now() + self.stop_deadline });
        let summaries = self.conductor.join().unwrap_or_default();
        let shards = self.shards.len();
        let panicked = self.shards.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        drop(self.commits);
        let _ = self.committer.join();
        let _ = self.stop_control.send(true);
        self.stop_helpers.store(true, Ordering::Relaxed);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        for helper in self.helpers {
            let _ = helper.join();
        }
        StopOutcome {
            undelivered_records: summaries.iter().map(|summary| summary.undelivered_records).sum(),
            lost_shards: panicked.max(shards - summaries.len()),
        }
    }
}

pub(super) fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(format!("tailmill-{name}"))
        .spawn(body)
        .with_context(|| format!("while starting the {name} thread"))
}

/// The engine's clock.
pub(super) fn ticker(engine: Engine, stop: Arc<AtomicBool>) -> impl FnOnce() + Send {
    move || engine.run_clock(&stop)
}

/// One thread a cluster that knows its topics.
fn start_clusters(
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    helpers: &mut Vec<JoinHandle<()>>,
) -> Result<BTreeMap<Arc<str>, ClusterLink>> {
    let mut links = BTreeMap::new();
    for (name, plan) in &settings.clusters {
        let (plan, topics) = (Arc::new(plan.clone()), TopicDirectory::new());
        let (body_topics, body_plan, body_stop) = (topics.clone(), plan.clone(), stop.clone());
        helpers.push(spawn(&format!("topics-{name}"), move || body_topics.run(&body_plan, &body_stop))?);
        links.insert(name.clone(), ClusterLink { plan, topics });
    }
    Ok(links)
}

type Shards = (Vec<JoinHandle<()>>, Vec<Sender<crate::pipeline::ShardCommand>>);

fn start_shards(
    settings: &Settings,
    clusters: &BTreeMap<Arc<str>, ClusterLink>,
    commits: &Sender<CommitMessage>,
    mailbox: &Mailbox,
    board: &Board,
) -> Result<Shards> {
    let (mut threads, mut senders) = (Vec::new(), Vec::new());
    for shard in 0..settings.shards {
        let (sender, commands) = unbounded();
        let mailbox = mailbox.clone();
        let links = ShardLinks {
            commands,
            report: Box::new(move |report: ShardReport| mailbox.send(ConductorMessage::Report(Box::new(report)))),
            commits: commits.clone(),
            board: board.clone(),
            lane: Box::new(move |worker: LaneWorker| {
                // Nobody joins it: its shard lets go of it, and at a stop waits for what it has.
                spawn(&format!("lane-{shard}"), move || worker.run()).map(drop).map_err(|error| format!("{error:#}"))
            }),
        };
        let shard_settings = ShardSettings {
            shard,
            node: settings.node.clone(),
            batch_bytes: settings.limits.batch_bytes,
            batch_lines: settings.limits.batch_lines,
            inflight_bytes_max: settings.limits.inflight_bytes_max,
            inflight_topic_bytes_max: settings.limits.inflight_topic_bytes_max,
            turn: Duration::from_millis(10),
            topic_retry: Duration::from_millis(250),
            checkpoint_every: settings.limits.checkpoint_every,
            clusters: clusters.clone(),
        };
        threads.push(spawn(&format!("shard-{shard}"), move || Shard::new(shard_settings, links).run())?);
        senders.push(sender);
    }
    Ok((threads, senders))
}

/// Configuration and admin port.
fn start_control(
    runtime: &tokio::runtime::Runtime,
    settings: watch::Receiver<Arc<Settings>>,
    source: PlanSource,
    board: &Board,
    mailbox: &Mailbox,
    armory: Arc<Armory>,
    stopped: watch::Receiver<bool>,
) -> Result<Option<std::net::SocketAddr>> {
    let address = settings.borrow().admin;
    let admin = match address {
        None => None,
        Some(address) => {
            let listener = runtime
                .block_on(tokio::net::TcpListener::bind(address))
                .with_context(|| format!("while binding the admin port {address} (admin.listen)"))?;
            let bound = listener.local_addr().ok();
            let (board, stopped) = (board.clone(), stopped.clone());
            runtime.spawn(async move {
                if let Err(error) = observe::serve_admin(board, listener, stopped).await {
                    tracing::error!("the admin port stopped: {error}");
                }
            });
            bound
        }
    };
    match source {
        PlanSource::Fixed { plan, .. } => mailbox.send(ConductorMessage::Plan(plan)),
        PlanSource::Settings => {
            let (publish, mut plans) = watch::channel(Arc::new(Plan::default()));
            runtime.spawn(config::run_config(settings, publish, stopped, board.clone(), module_check(armory)));
            let mailbox = mailbox.clone();
            runtime.spawn(async move {
                while plans.changed().await.is_ok() {
                    let plan = plans.borrow_and_update().clone();
                    mailbox.send(ConductorMessage::Plan(plan));
                }
            });
        }
    }
    Ok(admin)
}

/// Marks that wait are loud; shipping goes on. The log says it when it begins and when it is over.
fn show_store(board: &Board, health: StoreHealth, told: &mut bool) {
    match health.trouble {
        Some(trouble) => {
            let message = format!("{trouble}; {} marks wait", health.waiting);
            if !std::mem::replace(told, true) {
                tracing::error!("state store: {message}");
            }
            board.trouble(Part::Store, 0, message);
        }
        None => {
            if std::mem::take(told) {
                tracing::info!("state store: marks are saved again");
            }
            board.well(Part::Store, 0);
        }
    }
}

fn known_file(record: &StreamRecord) -> KnownFile {
    KnownFile {
        key: record.key(),
        place: record.place,
        evidence: record.evidence,
        offset: record.resume.offset(),
        path: record.path.clone(),
        home: record.home.clone(),
        target: record.target.clone(),
        finished: record.finished,
        size_seen: record.size_seen,
        updated_ms: record.updated_ms,
    }
}

/// Thousands of files may be open at once: take what the system gives.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

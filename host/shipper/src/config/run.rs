//! The control-plane task: sources in, plans out.
//!
//! A look at the directories, the last news from etcd and what is in force make a plan. It runs when something may have
//! changed (a hint, news, or the scan's turn), publishes only what differs, and saves what is in force. All that blocks
//! (disk, compiling modules) happens on blocking threads, never on the task. Modules that are used and not here are fetched
//! beside it; until then what uses them keeps its last good form.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::build::{Built, Found, FoundEntry, FoundEtcd, build_plan, uses};
use super::depot::{self, FETCHING, Fetched, ModuleCache, Offers, Wanted};
use super::directory::{Directories, Looked};
use super::entry::parse_entry;
use super::etcd::{self, EtcdNews};
use super::hints::Hints;
use super::modules::{ModuleCheck, Remembering};
use super::saved;
use super::settings::Settings;
use crate::model::{Plan, Problem};
use crate::observe::{Board, Part};

/// How long the first plan waits for etcd: a moment, as a dead one must not keep the agent from what it has.
const FIRST_NEWS_MAX: Duration = Duration::from_secs(3);
/// Changes that come together are one plan; a file being copied is not read half.
const SETTLE: Duration = Duration::from_millis(100);
/// Directories are small: looked at this often whatever `agent.scan_every_ms` says.
const SCAN_MOST: Duration = Duration::from_secs(5);
/// A module that was refused may have been refused because the machine was short of something. It is asked again after a
/// minute, then after twice as long each time: a module that takes a minute of CPU to be refused must not get it every time.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_LONGEST: Duration = Duration::from_secs(3600);

/// Watches everything that plans are made of, and publishes a whole plan whenever it differs from the one before.
/// Begins again with what is in force when the settings change. Returns soon after `stop` becomes true; a module that is being
/// compiled then is left to its thread.
pub async fn run_config(
    mut settings: watch::Receiver<Arc<Settings>>,
    publish: watch::Sender<Arc<Plan>>,
    mut stop: watch::Receiver<bool>,
    board: Board,
    modules: Arc<dyn ModuleCheck>,
) {
    let in_force = InForce::default();
    loop {
        let now = settings.borrow_and_update().clone();
        let (end, ended) = watch::channel(false);
        let over = async {
            let over = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                Ok(()) = settings.changed() => false,
            };
            end.send_replace(true);
            over
        };
        let control = Control::new(now.clone(), publish.clone(), board.clone(), modules.clone(), in_force.clone());
        let (over, ()) = tokio::join!(over, run_with(now, control, board.clone(), ended));
        if over {
            return;
        }
    }
}

/// What is in force, also for who comes after.
type InForce = Arc<Mutex<Option<Arc<Built>>>>;

/// Until `stop`, with these settings.
async fn run_with(settings: Arc<Settings>, mut control: Control, board: Board, stop: watch::Receiver<bool>) {
    let (news, heard) = watch::channel(EtcdNews::default());
    let (ask, asked) = watch::channel(Wanted::default());
    let (tell, fetched) = watch::channel(Fetched::default());
    let (apply, applied) = watch::channel(0);
    control.links = Links { ask, apply, stop: stop.clone() };
    let follow = etcd::follow(&settings, &news, &board, &applied, stop.clone());
    let fetch = async {
        if let Some(etcd) = &settings.etcd {
            let dir = ModuleCache::new(&settings.state_dir).dir().to_owned();
            depot::fetch(etcd, settings.modules.fetch_spread, dir, asked, &tell, stop.clone()).await;
        }
    };
    let mut stopped = stop.clone();
    let work = async {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = control.run(heard, fetched) => {}
        }
    };
    tokio::join!(follow, fetch, work);
}

/// Everything wrong with what lies on this machine: entries, modules, directories. For the start, when nothing is in force
/// yet, and for `tailmill check`. May take seconds (compiling).
pub fn local_problems(settings: &Settings, modules: &dyn ModuleCheck) -> Vec<Problem> {
    examine(settings, FoundEtcd::default(), modules).problems.clone()
}

/// The plan that the directories and this content of etcd would come to, nothing being in force. Entries for other nodes
/// are checked too, as far as that can be done here.
pub(crate) fn examine(settings: &Settings, etcd: FoundEtcd, modules: &dyn ModuleCheck) -> Plan {
    let mut looked = Directories::new(settings).look();
    if settings.etcd.is_some() {
        let mut shelf = Shelf::new(settings);
        shelf.look(settings, &mut looked, &etcd, &Fetched::default());
    }
    let everywhere: Vec<Problem> = looked
        .files
        .iter()
        .flatten()
        .chain(&etcd.entries)
        .filter_map(|entry| parse_entry(&entry.origin.to_string(), &entry.json).err())
        .flatten()
        .collect();
    let found = Found { files: looked.files, etcd: Some(etcd), modules: looked.modules, problems: looked.problems };
    let mut plan = Plan::clone(&build_plan(settings, &found, &Built::default(), modules).plan);
    // What an agent would fetch is not wrong.
    plan.problems.retain(|problem| !problem.reason.ends_with(FETCHING));
    plan.problems.extend(everywhere);
    plan.problems.sort();
    plan.problems.dedup();
    plan
}

/// Modules of etcd, as far as they are here.
struct Shelf {
    cache: ModuleCache,
    /// What the offers were made of, and they.
    offers: (FoundEtcd, Offers),
    /// What the uses were found in, and they.
    uses: (Vec<FoundEntry>, BTreeSet<String>),
}

impl Shelf {
    fn new(settings: &Settings) -> Shelf {
        let cache = ModuleCache::new(&settings.state_dir);
        Shelf { cache, offers: Default::default(), uses: Default::default() }
    }

    /// Adds what is used to the modules that were found; gives what has to be fetched.
    fn look(&mut self, settings: &Settings, looked: &mut Looked, etcd: &FoundEtcd, fetched: &Fetched) -> Wanted {
        let files = looked.files.clone().unwrap_or_default();
        let changed = self.offers.0 != *etcd;
        if changed || self.uses.0 != files {
            self.uses = (files.clone(), uses(settings, &files, etcd));
        }
        if changed {
            self.offers = (etcd.clone(), Offers::new(&etcd.modules, &etcd.releases, settings));
        }
        let offers = &self.offers.1;
        looked.modules.with_etcd();
        looked.problems.extend(offers.problems.iter().cloned());
        let missing = offers.add_to(&mut looked.modules, &self.uses.1, &mut self.cache, fetched);
        let known = if missing.is_empty() { Vec::new() } else { offers.all() };
        Wanted { missing, known }
    }
}

/// What others of the room are told.
struct Links {
    /// Modules to be fetched.
    ask: watch::Sender<Wanted>,
    /// The revision that the plan in force was made of.
    apply: watch::Sender<i64>,
    /// Whether another one has taken over, or nobody.
    stop: watch::Receiver<bool>,
}

impl Links {
    /// To nobody.
    fn none() -> Links {
        Links { ask: watch::channel(Wanted::default()).0, apply: watch::channel(0).0, stop: watch::channel(false).1 }
    }
}

struct Control {
    settings: Arc<Settings>,
    publish: watch::Sender<Arc<Plan>>,
    links: Links,
    shelf: Shelf,
    board: Board,
    modules: Remembering,
    directories: Directories,
    hints: Hints,
    in_force: Arc<Built>,
    /// The same, for who comes after.
    carried: InForce,
    /// What could not be taken up from the disk; said until etcd is heard.
    restore_problems: Vec<Problem>,
    /// What the last plan was made of. None: no plan was published yet.
    last: Option<Found>,
    /// When refused modules are asked again, and how long it takes the next time.
    retry: (Instant, Duration),
    unsaved: bool,
    told: BTreeSet<Problem>,
    told_trouble: Option<String>,
}

impl Control {
    fn new(
        settings: Arc<Settings>,
        publish: watch::Sender<Arc<Plan>>,
        board: Board,
        modules: Arc<dyn ModuleCheck>,
        carried: InForce,
    ) -> Control {
        let dirs = [settings.entries.dir.clone(), settings.modules.dir.clone()];
        Control {
            directories: Directories::new(&settings),
            hints: Hints::new(dirs.into_iter().flatten().collect()),
            in_force: Arc::default(),
            carried,
            restore_problems: Vec::new(),
            links: Links::none(),
            shelf: Shelf::new(&settings),
            settings,
            publish,
            board,
            modules: Remembering::new(modules),
            last: None,
            retry: (Instant::now() + RETRY_FIRST, RETRY_FIRST),
            unsaved: false,
            told: BTreeSet::new(),
            told_trouble: None,
        }
    }

    /// What is in force, or was when the agent ran last.
    async fn take_up(&mut self) {
        let carried = self.carried().clone();
        if let Some(carried) = carried {
            self.told = carried.plan.problems.iter().cloned().collect();
            self.in_force = carried;
            return;
        }
        let reader = self.settings.clone();
        let restored =
            spawn_blocking(move || saved::restore(&saved::plan_dir(&reader), &reader)).await.unwrap_or_default();
        for problem in &restored.problems {
            tracing::warn!("{problem}");
        }
        self.in_force = Arc::new(restored.built.unwrap_or_default());
        self.restore_problems = restored.problems;
    }

    /// It is replaced as a whole: a panic of another thread leaves nothing half done.
    fn carried(&self) -> MutexGuard<'_, Option<Arc<Built>>> {
        self.carried.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    async fn run(mut self, mut news: watch::Receiver<EtcdNews>, mut fetched: watch::Receiver<Fetched>) {
        self.take_up().await;
        if self.settings.etcd.is_some() {
            let heard = news.wait_for(|news| news.found.is_some());
            let _ = tokio::time::timeout(FIRST_NEWS_MAX, heard).await;
        }
        let mut scan = tokio::time::interval(self.settings.limits.scan_every.min(SCAN_MOST));
        scan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut etcd_lives = true;
        loop {
            let heard = news.borrow_and_update().clone();
            let here = fetched.borrow_and_update().clone();
            self = self.round(heard, here).await;
            tokio::select! {
                _ = scan.tick() => {}
                () = self.hints.wait() => self.hints.settle(SETTLE).await,
                changed = news.changed(), if etcd_lives => etcd_lives = changed.is_ok(),
                Ok(()) = fetched.changed() => {}
            }
        }
    }

    /// One look at everything, and a plan if something changed.
    async fn round(self, news: EtcdNews, fetched: Fetched) -> Control {
        let mut this = self.look(news, fetched).await;
        if this.unsaved {
            this = this.save().await;
        }
        this.hints.renew();
        this
    }

    async fn look(mut self, news: EtcdNews, fetched: Fetched) -> Control {
        self.tell_etcd(&news);
        let work = spawn_blocking(move || {
            let looked = self.directories.look();
            let revision = news.revision;
            let found = self.found(looked, news, &fetched);
            if self.is_due(&found) {
                let built = build_plan(&self.settings, &found, &self.in_force, &self.modules);
                self.modules.forget_unused();
                self.take(found, built);
            }
            self.links.apply.send_if_modified(|applied| std::mem::replace(applied, revision) != revision);
            self
        });
        finished(work).await
    }

    /// Whether there is something new to make a plan of, or refused modules are to be asked again.
    fn is_due(&mut self, found: &Found) -> bool {
        if self.last.as_ref() != Some(found) {
            self.retry = (Instant::now() + RETRY_FIRST, RETRY_FIRST);
            return true;
        }
        let (at, waited) = self.retry;
        if self.in_force.plan.problems.is_empty() || Instant::now() < at {
            return false;
        }
        let wait = (2 * waited).min(RETRY_LONGEST);
        self.retry = (Instant::now() + wait, wait);
        self.modules.forget_refusals();
        true
    }

    fn found(&mut self, mut looked: Looked, news: EtcdNews, fetched: &Fetched) -> Found {
        if let Some(etcd) = &news.found {
            let wanted = self.shelf.look(&self.settings, &mut looked, etcd, fetched);
            self.links.ask.send_if_modified(|asked| {
                let changed = *asked != wanted;
                *asked = wanted;
                changed
            });
        }
        let mut problems = looked.problems;
        let etcd = match (&self.settings.etcd, news.found) {
            (None, _) => Some(FoundEtcd::default()),
            (Some(_), Some(found)) => Some(found),
            (Some(etcd), None) => {
                problems.extend(self.restore_problems.iter().cloned());
                if !self.in_force.etcd_was_read {
                    let reason =
                        "nothing was heard from it yet, and there is no last good plan: waiting for its entries";
                    let source = format!("etcd {}", etcd.endpoints.join(","));
                    problems.push(Problem { source, key: String::new(), reason: reason.to_owned() });
                }
                None
            }
        };
        Found { files: looked.files, etcd, modules: looked.modules, problems }
    }

    /// Publishes what differs. The first plan is published whatever it holds: it says that the configuration was read.
    fn take(&mut self, found: Found, built: Built) {
        if *self.links.stop.borrow() {
            return; // Somebody with other settings decides by now.
        }
        let changed = built.plan.revision != self.in_force.plan.revision;
        let differs = changed || built.plan.problems != self.in_force.plan.problems || self.last.is_none();
        self.unsaved |= changed || built.etcd_was_read != self.in_force.etcd_was_read;
        self.tell(&built.plan);
        self.in_force = Arc::new(built);
        *self.carried() = Some(self.in_force.clone());
        self.last = Some(found);
        if differs {
            self.publish.send_replace(self.in_force.plan.clone());
        }
    }

    /// Each problem is logged when it appears and when it is gone.
    fn tell(&mut self, plan: &Plan) {
        let now: BTreeSet<Problem> = plan.problems.iter().cloned().collect();
        for problem in now.difference(&self.told) {
            if problem.reason.ends_with(FETCHING) {
                tracing::info!("{problem}");
            } else {
                tracing::warn!("refused: {problem}");
            }
        }
        for problem in self.told.difference(&now).filter(|problem| !problem.reason.ends_with(FETCHING)) {
            tracing::info!("no problem any more: {problem}");
        }
        if plan.revision != self.in_force.plan.revision {
            tracing::info!(revision = plan.revision, entries = plan.entries.len(), "a new plan is in force");
        }
        self.told = now;
    }

    fn tell_etcd(&mut self, news: &EtcdNews) {
        if self.settings.etcd.is_none() || (news.found.is_none() && news.trouble.is_none()) {
            return;
        }
        match &news.trouble {
            None => self.board.well(Part::Etcd, 0),
            Some(trouble) => self.board.trouble(Part::Etcd, 0, trouble.clone()),
        }
        if self.told_trouble != news.trouble {
            match &news.trouble {
                Some(trouble) => tracing::warn!("etcd cannot be followed, what is in force stays: {trouble}"),
                None => tracing::info!("following etcd"),
            }
            self.told_trouble = news.trouble.clone();
        }
    }

    /// A full disk does not stop the configuration: it is tried again at every round.
    async fn save(mut self) -> Control {
        let (dir, built): (PathBuf, _) = (saved::plan_dir(&self.settings), self.in_force.clone());
        match spawn_blocking(move || saved::save(&dir, &built)).await {
            Ok(Ok(())) => self.unsaved = false,
            Ok(Err(error)) => tracing::warn!("while saving the last good plan: {error}; tried again"),
            Err(panicked) => tracing::error!("while saving the last good plan: {panicked}"),
        }
        self
    }
}

/// What a blocking thread came to. Its panic is ours: there is no state left to go on with.
async fn finished<T>(work: tokio::task::JoinHandle<T>) -> T {
    match work.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Canceled: the runtime is going down, and so is this task.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;

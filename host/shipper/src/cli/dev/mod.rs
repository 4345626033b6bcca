//! `tailmill dev`: the real pipeline with Kafka built in. Tails files, filters, produces to librdkafka's mock cluster in
//! this process, and prints the records that a consumer reads from it. Leaves nothing behind.

pub(in crate::cli) mod filters; // `--filter` to modules
mod goal; // when `--once` is done, and what goes wrong meanwhile
mod kafka; // the mock cluster and its consumer
pub(in crate::cli) mod plan; // arguments to settings and a plan
mod screen; // records and rates

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use self::filters::FilterArg;
use self::goal::{Goal, Verdict, Watcher};
use self::kafka::Kafka;
use self::screen::{Screen, Show};
use super::output::note;
use super::{complain, fail, problems};
use crate::app::{self, PlanSource, Running};
use crate::model::exit;
use crate::observe::logs::{self, LogFormat};
use crate::observe::text::{Paint, counted};
use crate::observe::{Board, summary};

pub(super) const EXAMPLES: &str = r#"Examples:
  tailmill dev --path '/var/log/*.log'
  tailmill dev --path app.log --from-start --filter 'grep:{"include":"error"}' --filter redact
  tailmill dev --path app.log --once --filter ./my-filter.wasm --show partition,offset > records.txt

A filter is the name of a stock filter or a file, then its configuration (what an entry has in `with`) after a colon."#;

/// How often the board is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long records that were acknowledged at the stop may take to show up.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(super) struct DevArgs {
    /// Files to tail; globs are followed as files come and go
    #[arg(long, short, value_name = "GLOB", required = true, num_args = 1..)]
    path: Vec<String>,
    /// Files to leave out: globs on the path, or on the name when they hold no slash
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// A filter, in the order of the chain; can be given several times
    #[arg(long, short, value_name = "NAME|FILE.wasm[:JSON]", value_parser = FilterArg::parse)]
    filter: Vec<FilterArg>,
    /// What happens to a line that a filter fails on
    #[arg(long, value_enum, default_value_t = Policy::Block)]
    on_error: Policy,
    /// Topic of the records; more of them are what filters may choose from
    #[arg(long, value_name = "TOPIC", default_value = "dev")]
    topic: Vec<String>,
    /// What a record looks like
    #[arg(long, value_enum, default_value_t = ValueFormat::Raw)]
    format: ValueFormat,
    /// Ship what stands in the files already, not only what comes
    #[arg(long)]
    from_start: bool,
    /// Ship what stands in the files, then stop
    #[arg(long)]
    once: bool,
    /// Also print this of each record
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FIELD,…")]
    show: Vec<Show>,
    /// Print each record as a JSON object
    #[arg(long, conflicts_with = "show")]
    json: bool,
    /// Print nothing but records and errors
    #[arg(long, short)]
    quiet: bool,
    /// Serve /status and /metrics here
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// What is logged
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Hold the file and say so
    Block,
    /// Ship the line as it came
    Pass,
    /// Drop the line
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ValueFormat {
    /// The line as it is
    Raw,
    /// A JSON object with node, path, time and message
    Json,
}

pub(super) fn run(args: &DevArgs) -> i32 {
    if let Err(error) = logs::init(LogFormat::Text, &args.log_level) {
        complain(&error.to_string());
        return exit::USAGE;
    }
    let plan = match plan::plan(args) {
        Ok(plan) => plan,
        Err(found) => return problems(&found),
    };
    session(args, plan).unwrap_or_else(|error| fail(&error))
}

/// One run, from an empty Kafka to the summary.
fn session(args: &DevArgs, plan: crate::model::Plan) -> Result<i32> {
    let state = tempfile::Builder::new().prefix("tailmill-dev-").tempdir().context("while making a state directory")?;
    let kafka = Kafka::start(&args.topic).context("while starting the mock Kafka")?;
    let settings = match plan::settings(args, state.path(), &kafka.brokers()) {
        Ok(settings) => Arc::new(settings),
        Err(found) => return Ok(problems(&found)),
    };
    let goal = args.once.then(|| Goal::of(plan.entries.values().map(|entry| &*entry.patterns)));
    introduce(args, &kafka);
    let board = Board::new(settings.node.clone(), settings.shards);
    let running =
        app::start(settings, PlanSource::Fixed { plan: Arc::new(plan), compiled: compiled_dir() }, board.clone())?;
    let stop = stop_on_signal(&running);
    let mut screen = Screen::new(&args.show, args.json, args.quiet);
    let mut session = Session { board, kafka, watcher: Watcher::new(goal) };
    let end = session.until_done(&stop, &mut screen);
    screen.clear();
    let outcome = running.stop();
    session.drain(&mut screen);
    screen.finish();
    Ok(session.conclude(args, end, outcome.lost_shards, outcome.undelivered_records))
}

/// Why a session ended.
enum End {
    Interrupted,
    Done,
    /// Nobody reads the records any more.
    Unread,
    Failed(String, i32),
}

struct Session {
    board: Board,
    kafka: Kafka,
    watcher: Watcher,
}

impl Session {
    fn until_done(&mut self, stop: &AtomicBool, screen: &mut Screen) -> End {
        let mut next_look = Instant::now();
        loop {
            if stop.load(Ordering::Relaxed) {
                return End::Interrupted;
            }
            if self.show_some(screen).is_err() {
                return End::Unread;
            }
            let now = Instant::now();
            if now < next_look {
                continue;
            }
            next_look = now + LOOK_EVERY;
            let view = self.board.view();
            screen.rates(&view, now);
            match self.watcher.look(&view, self.kafka.seen(), now) {
                Verdict::GoOn => {}
                Verdict::Say(message) => screen.aside(&message),
                Verdict::Done => return End::Done,
                Verdict::Failed(message, code) => return End::Failed(message, code),
            }
        }
    }

    /// Prints what is there; waits a little when nothing is.
    fn show_some(&mut self, screen: &mut Screen) -> std::io::Result<()> {
        let until = Instant::now() + LOOK_EVERY;
        let mut wait = LOOK_EVERY / 2;
        while let Some(record) = self.kafka.next(wait) {
            screen.record(&record)?;
            if Instant::now() >= until {
                break;
            }
            wait = Duration::ZERO;
        }
        screen.flush()
    }

    /// What was acknowledged before the stop is shown too.
    fn drain(&mut self, screen: &mut Screen) {
        let deadline = Instant::now() + DRAIN_WAIT;
        let acked = self.board.view().total().0.records_acked;
        while self.kafka.seen() < acked && Instant::now() < deadline {
            if let Some(record) = self.kafka.next(LOOK_EVERY)
                && screen.record(&record).is_err()
            {
                return;
            }
        }
    }

    fn conclude(&self, args: &DevArgs, end: End, lost_shards: usize, undelivered: u64) -> i32 {
        if !args.quiet {
            let paint = Paint::for_stream(&std::io::stderr());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), summary::text(&self.board, paint).as_bytes());
        }
        if self.kafka.missed() > 0 {
            let missed = counted(self.kafka.missed(), "record");
            complain(&format!("{missed} delivered but not shown: the mock Kafka keeps 5 MiB a partition"));
        }
        match end {
            End::Failed(message, code) => {
                complain(&message);
                code
            }
            _ if lost_shards > 0 => {
                complain("while stopping: a shard did not stop in order");
                exit::FAILED
            }
            _ if undelivered > 0 => exit::UNDELIVERED,
            _ => exit::CLEAN,
        }
    }
}

fn introduce(args: &DevArgs, kafka: &Kafka) {
    if args.quiet {
        return;
    }
    let from = if args.once || args.from_start { "from their start" } else { "new lines only; --from-start for all" };
    note(&format!("reading {} ({from})", args.path.join(" ")));
    note(&format!("mock Kafka: kcat -C -b {} -t {}", kafka.brokers(), args.topic[0]));
    if let Some(admin) = args.admin {
        note(&format!("status: tailmill status --admin {admin}"));
    }
}

/// The first signal stops in order, the second at once.
fn stop_on_signal(running: &Running) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    running.runtime().spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        for code in [None, Some(exit::UNDELIVERED)] {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            flag.store(true, Ordering::Relaxed);
            if let Some(code) = code {
                std::process::exit(code);
            }
        }
    });
    stop
}

/// The state directory is new every time, and compiling a large module takes seconds: so compiled modules live in the
/// user's cache. None: there is none, or it cannot be written.
pub(in crate::cli) fn compiled_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let dir = base.filter(|base| base.is_absolute())?.join("tailmill/compiled");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    Some(dir)
}

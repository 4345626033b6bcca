use super::*;
use crate::config::{NoModuleCheck, Overrides};
use std::fs;
use std::path::Path;

/// A machine with directories; plans are waited for, however slow it is.
struct Machine {
    dir: tempfile::TempDir,
    more: &'static str,
}

/// An agent's control-plane task while it runs.
struct Agent {
    plans: watch::Receiver<Arc<Plan>>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    board: Board,
}

/// Far beyond what any plan takes: a test that would wait for ever says what it waited for.
const PATIENCE: Duration = Duration::from_secs(120);

const DEAD_ETCD: &str = "[etcd]\nendpoints = [\"http://127.0.0.1:1\"]\n";
const A: &str = r#"{"path": "/a", "topic": "a"}"#;

impl Machine {
    fn new(more: &'static str) -> Machine {
        let machine = Machine { dir: tempfile::tempdir().unwrap(), more };
        fs::create_dir_all(machine.path("entries.d")).unwrap();
        fs::create_dir_all(machine.path("modules")).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As editors and package managers do it.
    fn put(&self, name: &str, content: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, content).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn settings(&self) -> Settings {
        let text = format!(
            "node = \"n\"\nstate_dir = \"state\"\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[entries]\ndir = \"entries.d\"\n[modules]\ndir = \"modules\"\n{}",
            self.more
        );
        Settings::from_text(&self.path("tailmill.toml"), &text, &Overrides::default()).unwrap()
    }

    fn start(&self) -> Agent {
        let (publish, plans) = watch::channel(Arc::default());
        let (stop, stopped) = watch::channel(false);
        let board = Board::new("n", 1);
        let run = run_config(
            watch::channel(Arc::new(self.settings())).1,
            publish,
            stopped,
            board.clone(),
            Arc::new(NoModuleCheck),
        );
        Agent { plans, stop, task: tokio::spawn(run), board }
    }
}

impl Agent {
    /// The first plan from now on that looks like this: `name>topic` of each entry, and the problems' sources (file names).
    async fn plan(&mut self, entries: &[&str], problems: &[&str]) -> Arc<Plan> {
        let looks = |plan: &Arc<Plan>| {
            let found: Vec<String> = plan.entries.values().map(|e| format!("{}>{}", e.name, e.topics[0])).collect();
            let sources: Vec<&str> = plan.problems.iter().map(|p| p.source.rsplit('/').next().unwrap()).collect();
            found == entries && sources == problems
        };
        let looked = tokio::time::timeout(PATIENCE, self.plans.wait_for(looks)).await.map(|plan| plan.unwrap().clone());
        looked.unwrap_or_else(|_| {
            panic!("no plan has {entries:?} and {problems:?}; the last one: {:#?}", self.plans.borrow())
        })
    }

    /// Until the next plan is published, whatever it is.
    async fn first(&mut self) -> Arc<Plan> {
        tokio::time::timeout(PATIENCE, self.plans.changed()).await.expect("no plan came").unwrap();
        self.plans.borrow_and_update().clone()
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test);
}

#[test]
fn the_directory_is_followed_and_a_bad_file_keeps_its_last_good_form_over_a_restart() {
    block_on(async {
        let machine = Machine::new("");
        let mut agent = machine.start();
        assert!(agent.first().await.entries.is_empty());
        machine.put("entries.d/a.json", A);
        let one = agent.plan(&["a>a"], &[]).await;
        machine.put("entries.d/b.json", r#"{"path": "/b", "topic": "b"}"#);
        let two = agent.plan(&["a>a", "b>b"], &[]).await;
        assert!(Arc::ptr_eq(&one.entries["a"], &two.entries["a"]) && two.revision == one.revision + 1);
        machine.put("entries.d/a.json", "{");
        let bad = agent.plan(&["a>a", "b>b"], &["a.json"]).await;
        assert_eq!(bad.revision, two.revision);
        agent.stop().await;

        let mut agent = machine.start();
        let again = agent.first().await;
        assert_eq!((again.entries.len(), again.problems.len(), again.revision), (2, 1, two.revision));
        fs::remove_file(machine.path("entries.d/a.json")).unwrap();
        assert_eq!(agent.plan(&["b>b"], &[]).await.revision, two.revision + 1);
        agent.stop().await;
    });
}

#[test]
fn a_module_that_is_replaced_changes_the_plan_and_one_that_is_broken_does_not() {
    block_on(async {
        let machine = Machine::new("");
        machine.put("modules/grep.wasm", "\0asm 1");
        machine.put("entries.d/a.json", r#"{"path": "/a", "topic": "a", "filters": [{"use": "grep"}]}"#);
        let mut agent = machine.start();
        let first = agent.plan(&["a>a"], &[]).await;
        machine.put("modules/grep.wasm", "not wasm");
        let broken = agent.plan(&["a>a"], &["a.json", "grep.wasm"]).await;
        assert!(Arc::ptr_eq(&broken.entries["a"], &first.entries["a"]));
        machine.put("modules/grep.wasm", "\0asm 2");
        let second = agent.plan(&["a>a"], &[]).await;
        assert_eq!(&*second.entries["a"].filters[0].module.bytes, b"\0asm 2");
        assert_eq!(second.revision, first.revision + 1);
        agent.stop().await;
    });
}

#[test]
fn a_directory_that_goes_away_takes_nothing_with_it_and_is_followed_when_it_is_back() {
    block_on(async {
        let machine = Machine::new("[agent]\nscan_every_ms = 50\n");
        machine.put("entries.d/a.json", A);
        let mut agent = machine.start();
        agent.plan(&["a>a"], &[]).await;
        fs::rename(machine.path("entries.d"), machine.path("away")).unwrap();
        agent.plan(&["a>a"], &["entries.d"]).await;
        fs::create_dir(machine.path("entries.d")).unwrap();
        machine.put("entries.d/b.json", r#"{"path": "/b", "topic": "b"}"#);
        agent.plan(&["b>b"], &[]).await;
        agent.stop().await;
    });
}

/// A saved plan as an agent leaves it that once read entry `k` in etcd.
fn save_from_etcd(machine: &Machine) {
    let settings = machine.settings();
    let found = Found {
        files: Some(Vec::new()),
        etcd: Some(FoundEtcd {
            entries: vec![FoundEntry {
                origin: crate::model::Origin::EtcdKey("/tailmill/entries/k".to_owned()),
                name: "k".to_owned(),
                json: br#"{"path": "/k", "topic": "k"}"#[..].into(),
            }],
            ..FoundEtcd::default()
        }),
        ..Found::default()
    };
    let built = build_plan(&settings, &found, &Built::default(), &NoModuleCheck);
    saved::save(&saved::plan_dir(&settings), &built).unwrap();
}

#[test]
fn with_etcd_down_the_last_good_plan_is_used_and_the_directory_is_followed() {
    block_on(async {
        let machine = Machine::new(DEAD_ETCD);
        save_from_etcd(&machine);
        let mut agent = machine.start();
        let first = agent.first().await;
        assert_eq!(first.entries.keys().map(|name| &**name).collect::<Vec<_>>(), ["k"]);
        assert_eq!(first.problems, []);
        machine.put("entries.d/a.json", A);
        agent.plan(&["a>a", "k>k"], &[]).await;
        let view = agent.board.view();
        let etcd = view.health.iter().find(|health| health.part == Part::Etcd).unwrap();
        assert!(etcd.trouble.as_ref().unwrap().starts_with("while "), "{etcd:?}");
        agent.stop().await;
        // Still there after another start: what etcd gave is saved beside what the directory gives now.
        let mut agent = machine.start();
        assert_eq!(agent.first().await.entries.len(), 2);
        agent.stop().await;
    });
}

#[test]
fn with_etcd_down_and_no_last_good_plan_the_agent_waits_and_says_so() {
    block_on(async {
        let machine = Machine::new(DEAD_ETCD);
        machine.put("entries.d/a.json", A);
        let mut agent = machine.start();
        let waiting = ["127.0.0.1:1"];
        let plan = agent.plan(&["a>a"], &waiting).await;
        assert_eq!(
            plan.problems[0].to_string(),
            "etcd http://127.0.0.1:1: nothing was heard from it yet, and there is no last good plan: waiting for its entries"
        );
        agent.stop().await;
        // The directory's plan was saved. It is not what etcd would have said, so the agent still waits.
        let mut agent = machine.start();
        agent.plan(&["a>a"], &waiting).await;
        agent.stop().await;
    });
}

#[test]
fn a_saved_plan_that_is_damaged_is_told_and_a_disk_that_cannot_be_written_stops_nothing() {
    block_on(async {
        let machine = Machine::new(DEAD_ETCD);
        save_from_etcd(&machine);
        fs::write(machine.path("state/plan/plan.json"), "{").unwrap();
        machine.put("entries.d/a.json", A);
        let mut agent = machine.start();
        agent.plan(&["a>a"], &["plan.json", "127.0.0.1:1"]).await;
        agent.stop().await;

        let machine = Machine::new("");
        fs::write(machine.path("state"), "a file where the directory should be").unwrap();
        machine.put("entries.d/a.json", A);
        let mut agent = machine.start();
        agent.plan(&["a>a"], &[]).await;
        machine.put("entries.d/a.json", r#"{"path": "/a", "topic": "z"}"#);
        agent.plan(&["a>z"], &[]).await;
        agent.stop().await;
    });
}

#[test]
fn a_stop_does_not_wait_for_a_module_that_is_being_checked() {
    struct Never(std::sync::mpsc::Sender<()>);
    impl ModuleCheck for Never {
        fn check(&self, _: &crate::model::FilterPlan, _: &[Arc<str>]) -> Result<(), String> {
            self.0.send(()).unwrap();
            loop {
                std::thread::park();
            }
        }
    }
    let machine = Machine::new("");
    machine.put("modules/grep.wasm", "\0asm");
    machine.put("entries.d/a.json", r#"{"path": "/a", "topic": "a", "filters": [{"use": "grep"}]}"#);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (asked, is_asked) = std::sync::mpsc::channel();
    let (publish, _plans) = watch::channel(Arc::default());
    let (stop, stopped) = watch::channel(false);
    let settings = Arc::new(machine.settings());
    let task = runtime.spawn(run_config(
        watch::channel(settings).1,
        publish,
        stopped,
        Board::new("n", 1),
        Arc::new(Never(asked)),
    ));
    is_asked.recv().unwrap();
    stop.send(true).unwrap();
    runtime.block_on(task).unwrap();
    runtime.shutdown_background();
}

#[test]
fn the_start_can_be_refused_for_what_lies_on_this_machine() {
    let machine = Machine::new("");
    machine.put("entries.d/a.json", A);
    assert_eq!(local_problems(&machine.settings(), &NoModuleCheck), []);
    machine.put("entries.d/b.json", "{");
    let found = local_problems(&machine.settings(), &NoModuleCheck);
    assert_eq!(found.len(), 1);
    assert_eq!(Path::new(&found[0].source), machine.path("entries.d/b.json"));
}

use super::*;
use crate::config::modules::{Modules, NoModuleCheck};
use crate::config::{Found, FoundArray, FoundEntry, FoundEtcd, Overrides, build_plan};

fn settings(more: &str) -> Settings {
    let text = format!("node = \"n\"\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n{more}");
    Settings::from_text(Path::new("/t/tailmill.toml"), &text, &Overrides::default()).unwrap()
}

const ETCD: &str = "[etcd]\nendpoints = [\"http://127.0.0.1:1\"]\n";
const CHAIN: &str = r#"{"path": "/a", "topic": "a", "filters": [{"use": "grep", "with": {"x": 1}}, {"use": "json"}]}"#;

fn module(content: &str) -> Arc<ModuleFile> {
    let bytes = content.as_bytes();
    Arc::new(ModuleFile { digest: Digest::of(bytes), source: "/m".to_owned(), bytes: bytes.into() })
}

/// An entry of each origin, one of them with two modules.
fn built(grep: &str) -> Built {
    let mut modules = Modules::new(Some("/m".to_owned()));
    modules.add("grep", Ok(module(grep)));
    modules.add("json", Ok(module("j")));
    let found = Found {
        files: Some(vec![FoundEntry {
            origin: Origin::File("/e/f.json".into()),
            name: "f".to_owned(),
            json: CHAIN.as_bytes().into(),
        }]),
        etcd: Some(FoundEtcd {
            entries: vec![FoundEntry {
                origin: Origin::EtcdKey("/t/entries/k".to_owned()),
                name: "k".to_owned(),
                json: br#"{"path": "/k", "topic": "k"}"#[..].into(),
            }],
            array: Some(FoundArray { key: "conf".to_owned(), json: br#"[{"path": "/x", "topic": "x"}]"#[..].into() }),
            ..FoundEtcd::default()
        }),
        modules,
        problems: Vec::new(),
    };
    let built = build_plan(&settings(ETCD), &found, &Built::default(), &NoModuleCheck);
    assert_eq!(built.plan.problems, []);
    built
}

#[test]
fn what_was_saved_is_taken_up_again_with_its_modules() {
    let dir = tempfile::tempdir().unwrap();
    let before = built("g");
    save(dir.path(), &before).unwrap();
    let restored = restore(dir.path(), &settings(ETCD));
    assert_eq!(restored.problems, []);
    let after = restored.built.unwrap();
    assert_eq!((after.plan.revision, after.etcd_was_read, &after.written), (1, true, &before.written));
    assert_eq!(after.plan.entries.len(), 3);
    for (name, entry) in &before.plan.entries {
        assert!(after.plan.entries[name].same_as(entry), "{name}");
    }
}

#[test]
fn only_modules_in_use_stay_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &built("g1")).unwrap();
    fs::write(dir.path().join("modules/.new-left"), "half").unwrap();
    save(dir.path(), &built("g2")).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(dir.path().join("modules")).unwrap().map(|item| item.unwrap().file_name()).collect();
    left.sort();
    let mut wanted = [file_name(&Digest::of(b"g2")), file_name(&Digest::of(b"j"))].map(std::ffi::OsString::from);
    wanted.sort();
    assert_eq!(left, wanted);
}

#[test]
fn nothing_saved_is_no_problem_and_what_is_damaged_is_one() {
    let check = |damage: &dyn Fn(&Path), entries: Option<usize>, reason: &str| {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &built("g")).unwrap();
        damage(dir.path());
        let restored = restore(dir.path(), &settings(ETCD));
        assert_eq!(restored.built.map(|built| built.plan.entries.len()), entries, "{reason}");
        let reasons: Vec<&str> = restored.problems.iter().map(|problem| problem.reason.as_str()).collect();
        assert!(
            reasons.len() == usize::from(!reason.is_empty()) && reasons.iter().all(|r| r.contains(reason)),
            "{reasons:?}"
        );
    };
    let plan = |dir: &Path| dir.join("plan.json");
    let grep = |dir: &Path| dir.join("modules").join(file_name(&Digest::of(b"g")));
    check(&|_| {}, Some(3), "");
    check(&|dir| fs::remove_file(plan(dir)).unwrap(), None, "");
    check(&|dir| fs::write(plan(dir), "{").unwrap(), None, "is damaged and not used");
    check(
        &|dir| {
            fs::write(plan(dir), fs::read_to_string(plan(dir)).unwrap().replace("\"format\": 1", "\"format\": 9"))
                .unwrap()
        },
        None,
        "has format 9",
    );
    // An entry without its modules is left out; the others are taken up.
    check(&|dir| fs::write(grep(dir), "G").unwrap(), Some(2), "is damaged");
    check(&|dir| fs::remove_file(grep(dir)).unwrap(), Some(2), "while reading");
}

#[test]
fn what_today_is_not_allowed_or_not_for_this_node_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &built("g")).unwrap();
    let restored = restore(dir.path(), &settings(&format!("{ETCD}[entries]\nallow_topics = [\"a\", \"k\"]\n")));
    assert_eq!(restored.built.unwrap().plan.entries.len(), 2);
    assert_eq!(restored.problems.len(), 1);
    assert!(restored.problems[0].reason.contains("topic `x` is not allowed here"), "{}", restored.problems[0]);
}

#[test]
fn a_full_or_missing_disk_is_an_error_and_the_old_plan_stays() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &built("g")).unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    assert!(save(&blocked.join("plan"), &built("g")).is_err());
    assert!(restore(dir.path(), &settings(ETCD)).built.is_some());
}

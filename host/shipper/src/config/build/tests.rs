use super::*;
use crate::config::{NoModuleCheck, Overrides};
use std::path::Path;
use std::sync::Mutex;
use tailmill_engine::Digest;

fn settings(more: &str) -> Settings {
    let text =
        format!("node = \"web-01\"\nlabels = {{ role = \"web\" }}\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n{more}");
    Settings::from_text(Path::new("/t/tailmill.toml"), &text, &Overrides::default()).unwrap()
}

fn module(name: &str, content: &str) -> Arc<ModuleFile> {
    Arc::new(ModuleFile {
        digest: Digest::of(content.as_bytes()),
        source: format!("/m/{name}.wasm"),
        bytes: content.as_bytes().into(),
    })
}

fn modules(named: &[(&str, &str)]) -> Modules {
    let mut modules = Modules::new(Some("/m".to_owned()));
    named.iter().for_each(|(name, content)| modules.add(name, Ok(module(name, content))));
    modules
}

fn file(name: &str, json: &str) -> FoundEntry {
    FoundEntry {
        origin: Origin::File(format!("/e/{name}.json").into()),
        name: name.to_owned(),
        json: json.as_bytes().into(),
    }
}

fn key(name: &str, json: &str) -> FoundEntry {
    FoundEntry {
        origin: Origin::EtcdKey(format!("/t/entries/{name}")),
        name: name.to_owned(),
        json: json.as_bytes().into(),
    }
}

fn array(json: &str) -> Option<FoundArray> {
    Some(FoundArray { key: "conf".to_owned(), json: json.as_bytes().into() })
}

fn files(files: &[FoundEntry]) -> Found {
    Found {
        files: Some(files.to_vec()),
        etcd: Some(FoundEtcd::default()),
        modules: modules(&[("grep", "g1"), ("json", "j1")]),
        problems: Vec::new(),
    }
}

fn in_etcd(entries: &[FoundEntry], array: Option<FoundArray>) -> Found {
    Found { etcd: Some(FoundEtcd { entries: entries.to_vec(), array, ..FoundEtcd::default() }), ..files(&[]) }
}

fn build(found: &Found, previous: &Built) -> Built {
    build_plan(&settings(""), found, previous, &NoModuleCheck)
}

/// Each entry in force as `name>topic`.
fn in_force(built: &Built) -> Vec<String> {
    built
        .plan
        .entries
        .values()
        .map(|entry| format!("{}>{}", entry.name.split('@').next().unwrap(), entry.topics[0]))
        .collect()
}

fn problems(built: &Built) -> Vec<String> {
    built.plan.problems.iter().map(ToString::to_string).collect()
}

/// From `before` (all sound) to `after`: what is in force then, the problems, and whether the revision rose.
fn check(before: &Found, after: &Found, entries: &[&str], expected: &[&str], rises: bool) {
    let first = build(before, &Built::default());
    assert_eq!(problems(&first), [""; 0]);
    let second = build(after, &first);
    assert_eq!(in_force(&second), entries);
    assert_eq!(problems(&second), expected);
    assert_eq!(second.plan.revision, first.plan.revision + u64::from(rises));
    for (name, entry) in &first.plan.entries {
        if let Some(now) = second.plan.entries.get(name).filter(|now| now.same_as(entry)) {
            assert!(Arc::ptr_eq(now, entry), "{name} did not change and was made again");
        }
    }
    assert_eq!(second.written.keys().collect::<Vec<_>>(), second.plan.entries.keys().collect::<Vec<_>>());
}

const A: &str = r#"{"path": "/a", "topic": "a"}"#;
const B: &str = r#"{"path": "/b", "topic": "b"}"#;

#[test]
fn an_entry_is_added_changed_and_removed_and_the_others_stay_as_they_are() {
    let one = files(&[file("a", A)]);
    let two = files(&[file("a", A), file("b", B)]);
    check(&one, &two, &["a>a", "b>b"], &[], true);
    check(&two, &one, &["a>a"], &[], true);
    check(&two, &files(&[file("a", A), file("b", A)]), &["a>a", "b>a"], &[], true);
    check(&two, &two, &["a>a", "b>b"], &[], false);
    check(&files(&[file("a", A)]), &files(&[file("a", " {\"topic\":\"a\", \"path\":[\"/a\"]}")]), &["a>a"], &[], false);
    check(&in_etcd(&[key("a", A)], None), &in_etcd(&[key("a", A), key("b", B)], None), &["a>a", "b>b"], &[], true);
}

#[test]
fn a_bad_entry_keeps_its_last_good_form() {
    let good = files(&[file("a", A), file("b", B)]);
    let not_json = ["/e/a.json: is not JSON: EOF while parsing a value at line 1 column 0"];
    check(&good, &files(&[file("a", ""), file("b", B)]), &["a>a", "b>b"], &not_json, false);
    let bad = r#"{"path": "/a", "topic": "a b"}"#;
    let bad_topic = ["/e/a.json: topic: `a b` is not a topic: letters, digits, `.`, `_` and `-`, at most 249"];
    check(&good, &files(&[file("a", bad), file("b", A)]), &["a>a", "b>a"], &bad_topic, true);
    check(&files(&[file("b", B)]), &files(&[file("a", bad), file("b", B)]), &["b>b"], &bad_topic, false);
    // Gone while bad: gone.
    let first = build(&good, &Built::default());
    let bad = build(&files(&[file("a", ""), file("b", B)]), &first);
    assert_eq!(in_force(&build(&files(&[file("b", B)]), &bad)), ["b>b"]);
    // Healed: no problem is left.
    assert_eq!(problems(&build(&good, &bad)), [""; 0]);
}

#[test]
fn two_that_claim_one_name_change_nothing() {
    let both = Found { files: Some(vec![file("a", A)]), ..in_etcd(&[key("a", B)], None) };
    let claim =
        ["/e/a.json: /e/a.json and etcd /t/entries/a claim the name `a`: remove all but one; what was in force stays"];
    check(&files(&[file("a", A)]), &both, &["a>a"], &claim, false);
    check(&in_etcd(&[key("a", B)], None), &both, &["a>b"], &claim, false);
    check(&files(&[]), &both, &[], &claim, false);
    // One of them is for other nodes: no quarrel.
    let other = Found {
        files: Some(vec![file("a", A)]),
        ..in_etcd(&[key("a", r#"{"path":"/b","topic":"b","nodes":"db-*"}"#)], None)
    };
    check(&files(&[]), &other, &["a>a"], &[], true);
}

#[test]
fn the_array_key_hangs_on_paths_alone() {
    let items = |json: &str| in_etcd(&[], array(json));
    let two = items(r#"[{"path":"/x/a.log","topic":"a"},{"path":"/x/b.log","topic":"b"}]"#);
    check(&files(&[]), &two, &["a.log>a", "b.log>b"], &[], true);
    let turned = items(r#"[{"path":"/x/b.log","topic":"b"},{"path":"/x/a.log","topic":"a"}]"#);
    check(&two, &turned, &["a.log>a", "b.log>b"], &[], false);
    check(&two, &items(r#"[{"path":"/x/b.log","topic":"b"}]"#), &["b.log>b"], &[], true);
    check(&two, &items("[]"), &[], &[], true);
    check(&two, &in_etcd(&[], None), &[], &[], true);
    let other_topic = items(r#"[{"path":"/x/a.log","topic":"a"},{"path":"/x/b.log","topic":"c","format":"json"}]"#);
    check(&two, &other_topic, &["a.log>a", "b.log>c"], &[], true);
}

#[test]
fn a_bad_array_or_item_leaves_what_was_in_force() {
    let items = |json: &str| in_etcd(&[], array(json));
    let two = items(r#"[{"path":"/x/a.log","topic":"a"},{"path":"/x/b.log","topic":"b"}]"#);
    check(
        &two,
        &items("[{"),
        &["a.log>a", "b.log>b"],
        &["etcd conf: is not JSON: EOF while parsing an object at line 1 column 2"],
        false,
    );
    check(
        &two,
        &items("{}"),
        &["a.log>a", "b.log>b"],
        &["etcd conf: expected a list of entries, found an object"],
        false,
    );
    check(
        &two,
        &items(r#"[{"path":"/x/a.log","topic":"a2"},{"path":"/x/b.log"}]"#),
        &["a.log>a2", "b.log>b"],
        &["etcd conf: [1].topic: is missing: where the lines go"],
        true,
    );
    // Whose item is it? Nobody's entry is taken out.
    check(
        &two,
        &items(r#"[{"path":"/x/a.log","topic":"a"},{"pth":"/x/b.log","topic":"b"}]"#),
        &["a.log>a", "b.log>b"],
        &[
            "etcd conf: [1].path: is missing: which files, for example \"/var/log/app.log\" or [\"/var/log/*.log\"]",
            "etcd conf: [1].pth: unknown key `pth`; did you mean `path`?",
        ],
        false,
    );
    check(
        &two,
        &items(r#"[{"path":"/x/a.log","topic":"a"},{"path":"/x/b.log","topic":"b"},{"path":"/x/a.log","topic":"c"}]"#),
        &["a.log>a", "b.log>b"],
        &[
            "etcd conf: [0]: etcd conf[0] and etcd conf[2] claim the same path: remove all but one; what was in force stays",
        ],
        false,
    );
}

#[test]
fn a_source_that_cannot_be_read_keeps_what_it_gave() {
    let both = Found {
        files: Some(vec![file("a", A)]),
        ..in_etcd(&[key("b", B)], array(r#"[{"path":"/x/c.log","topic":"c"}]"#))
    };
    let no_files = Found { files: None, ..in_etcd(&[], None) };
    check(&both, &no_files, &["a>a"], &[], true);
    let no_etcd = Found { etcd: None, ..files(&[]) };
    check(&both, &no_etcd, &["b>b", "c.log>c"], &[], true);
    let neither = Found { files: None, etcd: None, ..files(&[]) };
    check(&both, &neither, &["a>a", "b>b", "c.log>c"], &[], false);
    let claim =
        ["/e/b.json: /e/b.json and etcd /t/entries/b claim the name `b`: remove all but one; what was in force stays"];
    check(
        &both,
        &Found { files: Some(vec![file("a", A), file("b", A)]), ..no_etcd },
        &["a>a", "b>b", "c.log>c"],
        &claim,
        false,
    );
}

#[test]
fn entries_for_other_nodes_are_not_ours_and_their_problems_neither() {
    for (selection, ours) in [
        (r#""nodes": ["web-*"]"#, true),
        (r#""nodes": ["db-*", "web-01"]"#, true),
        (r#""nodes": "db-*""#, false),
        (r#""labels": {"role": "web"}"#, true),
        (r#""labels": {"role": "db"}"#, false),
        (r#""labels": {"zone": "a"}"#, false),
        (r#""nodes": "web-*", "labels": {"role": "db"}"#, false),
    ] {
        let json = format!(r#"{{"path": "/a", "topic": "a", {selection}, "cluster": "far"}}"#);
        let built = build(&files(&[file("a", &json)]), &Built::default());
        let problem = "/e/a.json: cluster: there is no cluster `far` in the settings";
        assert_eq!(problems(&built), if ours { vec![problem] } else { vec![] }, "{selection}");
    }
    let db = r#"{"path": "/a", "topic": "a", "nodes": "db-*"}"#;
    check(&files(&[file("a", A)]), &files(&[file("a", db)]), &[], &[], true);
}

#[test]
fn an_entry_stays_within_what_the_agent_allows() {
    let settings = settings(
        "[kafka.properties]\n\"message.max.bytes\" = 100000\n[entries]\nallow_topics = [\"web_*\"]\n[agent]\nfilter_timeout_ms_max = 100\nfilter_memory_mib_max = 16\nfilter_output_mib_max = 1\nfilter_held_mib_max = 2\nfilter_state_kib_max = 3\nfilter_table_elements_max = 4\nchain_filters_max = 1\n",
    );
    let json = r#"{"path": "/a", "topic": "web_a", "topics": ["other"], "dead_letter_topic": "dead", "line_max_bytes": 95000,
        "filters": [{"use": "grep", "timeout_ms": 200, "memory_mib": 8, "output_mib": 2, "held_mib": 3, "state_kib": 4, "table_elements": 5}, {"use": "json", "timeout_ms": 1, "memory_mib": 17, "output_mib": 1, "held_mib": 2, "state_kib": 3, "table_elements": 4}]}"#;
    let built = build_plan(&settings, &files(&[file("a", json)]), &Built::default(), &NoModuleCheck);
    assert_eq!(
        problems(&built),
        [
            "/e/a.json: dead_letter_topic: topic `dead` is not allowed here: entries.allow_topics has web_*",
            "/e/a.json: filters: 2 filters are more than agent.chain_filters_max (1)",
            "/e/a.json: filters[0].held_mib: 3 is more than agent.filter_held_mib_max (2)",
            "/e/a.json: filters[0].output_mib: 2 is more than agent.filter_output_mib_max (1)",
            "/e/a.json: filters[0].state_kib: 4 is more than agent.filter_state_kib_max (3)",
            "/e/a.json: filters[0].table_elements: 5 is more than agent.filter_table_elements_max (4)",
            "/e/a.json: filters[0].timeout_ms: 200 is more than agent.filter_timeout_ms_max (100)",
            "/e/a.json: filters[1].memory_mib: 17 is more than agent.filter_memory_mib_max (16)",
            "/e/a.json: line_max_bytes: 95000 bytes and what goes with them do not fit into a record of cluster `default` (100000 bytes): lower it, or raise `message.max.bytes` here and on the brokers",
            "/e/a.json: topics[0]: topic `other` is not allowed here: entries.allow_topics has web_*",
        ]
    );
    let big = r#"{"path": "/a", "topic": "web_a", "line_max_bytes": 1000, "multiline": {"start": "^x", "max_bytes": 9000000}}"#;
    let built = build_plan(&settings, &files(&[file("a", big)]), &Built::default(), &NoModuleCheck);
    assert_eq!(
        built.plan.problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(),
        ["multiline.max_bytes"; 2]
    );
}

#[test]
fn modules_are_found_by_name_version_and_content() {
    let digest = Digest::of(b"g2");
    let shelf = modules(&[("grep", "g1"), ("grep@2", "g2")]);
    for (wanted, content) in [
        ("grep", Ok("g1")),
        ("grep@2", Ok("g2")),
        (&*digest.to_string(), Ok("g2")),
        ("grp", Err("there is no grp.wasm in /m; did you mean `grep`?")),
        ("grep@3", Err("there is no grep@3.wasm in /m; did you mean `grep@2`?")),
        (&*Digest::of(b"x").to_string(), Err("no module in /m has this digest")),
    ] {
        let found = shelf.resolve(wanted);
        assert_eq!(found.as_ref().map(|m| &*m.bytes).map_err(String::as_str), content.map(str::as_bytes), "{wanted}");
    }
    let none = Modules::new(None).resolve("grep").unwrap_err();
    assert_eq!(none, "there is no module `grep`: set `modules.dir` to the directory that holds grep.wasm");
}

const GREP: &str = r#"{"path": "/a", "topic": "a", "filters": [{"use": "grep"}]}"#;

#[test]
fn a_module_that_was_replaced_changes_its_entries_and_one_that_is_gone_does_not() {
    let before = files(&[file("a", GREP), file("b", B)]);
    let replaced = Found { modules: modules(&[("grep", "g2")]), ..before.clone() };
    check(&before, &replaced, &["a>a", "b>b"], &[], true);
    let other = Found { modules: modules(&[("grep", "g1"), ("json", "j2")]), ..before.clone() };
    check(&before, &other, &["a>a", "b>b"], &[], false);
    let gone = Found { modules: modules(&[]), ..before.clone() };
    check(&before, &gone, &["a>a", "b>b"], &["/e/a.json: filters[0].use: there is no grep.wasm in /m"], false);
    let mut unreadable = modules(&[]);
    unreadable.add("grep", Err("/m/grep.wasm: is not WebAssembly".to_owned()));
    let bad = Found { modules: unreadable, ..before.clone() };
    check(&before, &bad, &["a>a", "b>b"], &["/e/a.json: filters[0].use: /m/grep.wasm: is not WebAssembly"], false);
}

/// Refuses modules with this content, and writes down what it was asked.
struct Picky(&'static str, Mutex<Vec<String>>);

impl ModuleCheck for Picky {
    fn check(&self, filter: &FilterPlan, _: &[Arc<str>]) -> Result<(), String> {
        let content = String::from_utf8_lossy(&filter.module.bytes).into_owned();
        self.1.lock().unwrap().push(format!("{content} {}", filter.with));
        if content == self.0 { Err("wants sockets".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn a_module_that_does_not_start_leaves_the_old_one_and_what_is_in_force_is_not_asked_again() {
    let settings = settings("");
    let picky = Picky("g2", Mutex::default());
    let asked = || std::mem::take(&mut *picky.1.lock().unwrap());
    let before = files(&[file("a", GREP)]);
    let first = build_plan(&settings, &before, &Built::default(), &picky);
    assert_eq!(asked(), ["g1 {}"]);
    let second = build_plan(&settings, &files(&[file("a", GREP), file("b", B)]), &first, &picky);
    assert_eq!((asked(), in_force(&second)), (vec![], vec!["a>a".to_owned(), "b>b".to_owned()]));
    let replaced = Found { modules: modules(&[("grep", "g2")]), ..before.clone() };
    let third = build_plan(&settings, &replaced, &first, &picky);
    assert_eq!(asked(), ["g2 {}"]);
    assert_eq!(problems(&third), ["/e/a.json: filters[0]: wants sockets"]);
    assert!(Arc::ptr_eq(&third.plan.entries["a"], &first.plan.entries["a"]));
    let other_with = r#"{"path": "/a", "topic": "a", "filters": [{"use": "grep", "with": {"x": 1}}]}"#;
    build_plan(&settings, &files(&[file("a", other_with)]), &first, &picky);
    assert_eq!(asked(), [r#"g1 {"x":1}"#]);
    let other_topics = r#"{"path": "/a", "topic": "z", "filters": [{"use": "grep"}]}"#;
    build_plan(&settings, &files(&[file("a", other_topics)]), &first, &picky);
    assert_eq!(asked(), ["g1 {}"]);
}

#[test]
fn verdicts_are_remembered_until_they_are_to_be_forgotten() {
    let inner = Arc::new(Picky("g2", Mutex::default()));
    let remembering = crate::config::modules::Remembering::new(inner.clone());
    let plan =
        build_entry(&settings(""), "a", Origin::CommandLine, GREP.as_bytes(), &modules(&[("grep", "g2")])).unwrap();
    let ask = || remembering.check(&plan.filters[0], &plan.topics);
    let asked = || inner.1.lock().unwrap().len();
    assert_eq!((ask(), ask(), asked()), (Err("wants sockets".to_owned()), Err("wants sockets".to_owned()), 1));
    remembering.forget_unused();
    assert!(ask().is_err() && asked() == 1);
    remembering.forget_refusals();
    assert!(ask().is_err() && asked() == 2);
    remembering.forget_unused();
    remembering.forget_unused();
    assert!(ask().is_err() && asked() == 3);
}

#[test]
fn a_name_that_cannot_be_one_is_a_problem() {
    let built = build(&in_etcd(&[key("a/b", A)], None), &Built::default());
    assert_eq!(
        problems(&built),
        [
            "etcd /t/entries/a/b: `a/b` cannot be an entry's name: letters, digits, `.`, `_` and `-`, at most 100, a letter or digit first"
        ]
    );
}

#[test]
fn every_key_of_an_entry_makes_a_difference() {
    let base = |more: &str| format!(r#"{{"path": "/a", "topic": "a"{more}}}"#);
    for more in [
        r#", "exclude": "*.gz""#,
        r#", "topics": ["b"]"#,
        r#", "start": "end""#,
        r#", "multiline": {"start": "x"}"#,
        r#", "line_max_bytes": 100"#,
        r#", "line_too_long": "skip""#,
        r#", "finish_after_ms": 1"#,
        r#", "close_idle_ms": 1"#,
        r#", "ignore_older_ms": 1"#,
        r#", "filters": [{"use": "grep"}]"#,
        r#", "on_refused": "drop""#,
        r#", "dead_letter_topic": "d""#,
        r#", "format": "json""#,
        r#", "partition": 3"#,
        r#", "key": "node""#,
        r#", "headers": ["id"]"#,
    ] {
        check(&files(&[file("a", A)]), &files(&[file("a", &base(more))]), &["a>a"], &[], true);
    }
    let with = |more: &str| base(&format!(r#", "filters": [{{"use": "grep"{more}}}], "dead_letter_topic": "d""#));
    for more in [
        r#", "with": {"a": 1}"#,
        r#", "timeout_ms": 1"#,
        r#", "memory_mib": 1"#,
        r#", "held_lines_max": 1"#,
        r#", "on_error": "dead-letter""#,
        r#", "stateless": true"#,
    ] {
        check(&files(&[file("a", &with(""))]), &files(&[file("a", &with(more))]), &["a>a"], &[], true);
    }
}

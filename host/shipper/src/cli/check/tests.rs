use super::*;
use crate::config::NoModuleCheck;
use crate::model::FilterPlan;
use std::fs;

struct Refuses;

impl ModuleCheck for Refuses {
    fn check(&self, _: &FilterPlan, _: &[Arc<str>]) -> Result<(), String> {
        Err("has the wrong world".to_owned())
    }
}

/// A directory with these files below; `tailmill.toml` is checked. Gives exit code and text, the directory's path removed.
fn run(files: &[(&str, &str)], judge: fn() -> Arc<dyn ModuleCheck>, json: bool) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let args = CheckArgs { config: dir.path().join("tailmill.toml"), overrides: Overrides::default(), json };
    let mut out = Vec::new();
    let code = check(&args, &|_| Ok(judge()), &mut out).unwrap();
    (code, String::from_utf8(out).unwrap().replace(&format!("{}/", dir.path().display()), ""))
}

const SETTINGS: &str =
    "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[entries]\ndir = \"entries.d\"\n[modules]\ndir = \"modules\"\n";
const GREP: &str = r#"{"path": "/a", "topic": "a", "filters": [{"use": "grep"}]}"#;

#[test]
fn sound_settings_say_so() {
    let files = [("tailmill.toml", SETTINGS), ("entries.d/a.json", GREP), ("modules/grep.wasm", "\0asm")];
    let (code, text) = run(&files, || Arc::new(NoModuleCheck), false);
    assert_eq!((code, text.as_str()), (0, "tailmill.toml: no problems; 1 entry for this node\n"));
}

#[test]
fn problems_of_settings_entries_and_modules_come_together() {
    let files = [
        (
            "tailmill.toml",
            "nod = \"x\"\n[kafka]\nbrokers = [\"127.0.0.1\"]\n[entries]\ndir = \"entries.d\"\n[modules]\ndir = \"modules\"\n",
        ),
        ("entries.d/a.json", GREP),
        ("entries.d/b.json", r#"{"path": "/b", "topic": "b", "filters": [{"use": "json"}, {"use": "nope"}]}"#),
        ("entries.d/c.json", r#"{"path": "/c", "nodes": "other-*"}"#),
        ("entries.d/.hidden.json", "{"),
        ("modules/grep.wasm", "\0asm"),
        ("modules/json.wasm", "text"),
    ];
    let (code, text) = run(&files, || Arc::new(Refuses), false);
    assert_eq!(code, 64);
    assert_eq!(
        text,
        "problem: tailmill.toml:3: kafka.brokers[0]: `127.0.0.1` is not a broker: write host:port, one in each string\n\
         problem: tailmill.toml:1: nod: unknown key `nod`; did you mean `node`?\n\
         problem: entries.d/a.json: filters[0]: has the wrong world\n\
         problem: entries.d/b.json: filters[0].use: modules/json.wasm: is not WebAssembly: it does not begin with \\0asm\n\
         problem: entries.d/b.json: filters[1].use: there is no nope.wasm in modules\n\
         problem: entries.d/c.json: topic: is missing: where the lines go\n\
         problem: modules/json.wasm: is not WebAssembly: it does not begin with \\0asm\n\
         tailmill.toml: 7 problems\n"
    );
}

#[test]
fn missing_directories_and_settings_are_problems() {
    let (code, text) = run(&[("tailmill.toml", SETTINGS)], || Arc::new(NoModuleCheck), false);
    assert_eq!(code, 64);
    assert_eq!(
        text,
        "problem: entries.d: while listing the entries directory (entries.dir): No such file or directory (os error 2)\n\
         problem: modules: while listing the modules directory (modules.dir): No such file or directory (os error 2)\n\
         tailmill.toml: 2 problems\n"
    );
    let (code, text) = run(&[], || Arc::new(NoModuleCheck), false);
    assert_eq!(code, 64);
    assert_eq!(
        text,
        "problem: tailmill.toml: while reading the settings: No such file or directory (os error 2)\ntailmill.toml: 1 problem\n"
    );
}

#[test]
fn etcd_that_does_not_answer_is_a_note_and_open_doors_are_warnings() {
    let settings = "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[etcd]\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let (code, text) = run(&[("tailmill.toml", settings)], || Arc::new(NoModuleCheck), false);
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("warning: tailmill.toml: entries.allow_paths: is not set"), "{text}");
    assert!(lines[1].starts_with("warning: tailmill.toml: entries.allow_topics: is not set"), "{text}");
    assert!(lines[2].starts_with("note: entries in etcd were not checked: while "), "{text}");
}

#[test]
fn json_says_the_same() {
    let files = [("tailmill.toml", SETTINGS), ("entries.d/a.json", "{}"), ("modules/grep.wasm", "\0asm")];
    let (code, text) = run(&files, || Arc::new(NoModuleCheck), true);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["ok"]), (64, &serde_json::Value::Bool(false)));
    assert_eq!(report["problems"][0]["source"], "entries.d/a.json");
    assert_eq!(report["problems"][0]["key"], "path");
    assert_eq!(report["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn what_librdkafka_refuses_only_together_is_a_problem_too() {
    let settings = format!(
        "{SETTINGS}[kafka.properties]\n\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = \"/nonexistent/ca.pem\"\n"
    );
    let files = [("tailmill.toml", settings.as_str()), ("entries.d/a.json", GREP), ("modules/grep.wasm", "\0asm")];
    let (code, text) = run(&files, || Arc::new(NoModuleCheck), false);
    assert_eq!(code, 64);
    assert!(text.starts_with("problem: tailmill.toml: kafka.properties: "), "{text}");
}

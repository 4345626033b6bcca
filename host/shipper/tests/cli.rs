//! The command line as a person meets it: the real binary, real files, the mock Kafka that `dev` brings along.
#![allow(clippy::unwrap_used, reason = "test code")]

mod here;

use std::path::Path;
use std::process::Command;

use here::Here;

/// A filter on one line, as a core module: drops lines that begin with `d`, traps on those that begin with `t`.
const FILTER: &str = r#"(module
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $new i32) (result i32) (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap (i32.add (global.get $heap) (local.get $new)))
    (local.get $at))
  (func (export "tailmill:filter/line@1.0.0#start") (param i32 i32) (result i32) (i32.const 0))
  (func (export "tailmill:filter/line@1.0.0#run") (param $line i32) (param $len i32) (result i32) (local $first i32)
    (local.set $first (select (i32.load8_u (local.get $line)) (i32.const 0) (local.get $len)))
    (if (i32.eq (local.get $first) (i32.const 116)) (then unreachable))
    (select (i32.const 32) (i32.const 0) (i32.eq (local.get $first) (i32.const 100))))
  (func (export "cabi_post_tailmill:filter/line@1.0.0#run") (param i32) (global.set $heap (i32.const 4096)))
  (data (i32.const 36) "\01"))"#;

fn lines(of: &str, n: usize) -> String {
    (0..n).map(|i| format!("{of} {i}\n")).collect()
}

fn starting<'a>(out: &'a str, with: &str) -> Vec<&'a str> {
    out.lines().filter(|line| line.starts_with(with)).collect()
}

#[test]
fn dev_prints_every_line_of_every_file_once_and_in_order() {
    let here = Here::new();
    here.file("a.log", lines("a", 20_000));
    here.file("b.log", lines("b", 5_000));
    here.file("c.txt", lines("c", 10));
    let (out, err) = here.expect(0, &["dev", "--path", "*.log", "--once"]);
    assert_eq!(out.lines().count(), 25_000);
    assert_eq!(starting(&out, "a"), lines("a", 20_000).lines().collect::<Vec<_>>());
    assert_eq!(starting(&out, "b"), lines("b", 5_000).lines().collect::<Vec<_>>());
    assert!(err.contains("0 lines lost\n") && err.contains("25,000 read = 25,000 delivered"), "{err}");
}

#[test]
fn dev_shows_where_records_went_and_gives_json_on_request() {
    let here = Here::new();
    here.file("a.log", "x\ny\n");
    let (out, err) =
        here.expect(0, &["dev", "-p", "a.log", "--once", "--quiet", "--topic", "t", "--show", "topic,offset"]);
    assert_eq!((out.as_str(), err.as_str()), ("t 0  x\nt 1  y\n", ""));
    let (out, _) = here.expect(0, &["dev", "-p", "a.log", "--once", "--json"]);
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["value"], &first["topic"], &first["offset"]), (&"x".into(), &"dev".into(), &0.into()));
}

#[test]
fn dev_without_a_matching_file_ends_at_once_with_nothing_lost() {
    let (out, err) = Here::new().expect(0, &["dev", "--path", "none/*.log", "--once"]);
    assert!(out.is_empty() && err.contains("0 lines lost"), "{out}{err}");
}

#[test]
fn dev_runs_a_filter_of_ones_own_and_obeys_its_policy() {
    let here = Here::new();
    let filter = here.file("mine.wasm", wat::parse_str(FILTER).unwrap());
    let filter = filter.to_str().unwrap();
    here.file("good.log", "keep 1\ndrop 2\nkeep 3\n");
    let (out, err) = here.expect(0, &["dev", "--path", "good.log", "--once", "--filter", filter]);
    assert_eq!(out, "keep 1\nkeep 3\n");
    assert!(err.contains("3 read = 2 delivered + 1 filtered"), "{err}");

    here.file("trap.log", "keep 1\ntrap 2\nkeep 3\n");
    let with = |policy: &'static str| ["dev", "--path", "trap.log", "--once", "--filter", filter, "--on-error", policy];
    let (out, _) = here.expect(0, &with("pass"));
    assert_eq!(out, "keep 1\ntrap 2\nkeep 3\n");
    let (out, err) = here.expect(0, &with("drop"));
    assert_eq!(out, "keep 1\nkeep 3\n");
    assert!(err.contains("1 dropped (filter-error)"), "{err}");
    let (out, err) = here.expect(1, &with("block"));
    assert_eq!(out, "keep 1\n", "{err}");
    assert!(err.contains("1 stream blocked") && err.contains("mine"), "{err}");
}

#[test]
fn what_dev_cannot_use_is_said_and_exits_64() {
    let here = Here::new();
    here.file("a.log", "x\n");
    let text = here.file("text.wasm", "not wasm at all");
    let check = |args: &[&str], expected: &[&str]| {
        let all: Vec<&str> = ["dev", "--once"].iter().chain(args).copied().collect();
        let (out, err) = here.expect(64, &all);
        assert!(out.is_empty(), "{out}");
        for part in expected {
            assert!(err.contains(part), "{part} is not in: {err}");
        }
    };
    check(&["--path", "a.log", "--filter", text.to_str().unwrap()], &["text.wasm", "wasm"]);
    check(&["--path", "a.log", "--filter", "/no/such.wasm"], &["--filter: while reading /no/such.wasm"]);
    check(&["--path", "a[", "--filter", "/no/such.wasm"], &["--path: ", "--filter: ", "2 problems"]);
    check(&["--path", "a.log", "--log-level", "tailmill=loud"], &["log filter"]);
    check(&[], &["--path"]);
}

#[test]
fn run_and_check_refuse_bad_settings_with_every_problem_and_start_nothing() {
    let here = Here::new();
    let state = here.0.path().join("state");
    let text = format!("state_dirr = 1\nstate_dir = {:?}\n[kafka]\nbrokers = 7\n", state.display().to_string());
    let file = here.file("t.toml", text);
    for command in ["run", "check"] {
        let (out, err) = here.expect(64, &[command, "--config", file.to_str().unwrap()]);
        let all = out + &err;
        assert!(all.contains("state_dirr") && all.contains("kafka.brokers"), "{command}: {all}");
        assert!(!state.exists(), "{command}");
    }
    here.expect(64, &["run", "--config", "/does/not/exist.toml"]);
}

#[test]
fn check_starts_modules_under_the_limits_of_a_run_and_leaves_nothing_behind() {
    let here = Here::new();
    for dir in ["modules", "entries"] {
        std::fs::create_dir(here.0.path().join(dir)).unwrap();
    }
    let endless = FILTER.replacen("(result i32) (i32.const 0))", "(result i32) (loop (br 0)) (i32.const 0))", 1);
    here.file("modules/good.wasm", wat::parse_str(FILTER).unwrap());
    here.file("modules/endless.wasm", wat::parse_str(endless).unwrap());
    let settings = "state_dir = \"state\"\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[entries]\ndir = \"entries\"\n[modules]\ndir = \"modules\"\n";
    let file = here.file("t.toml", settings);
    let entry = |filter: &str| format!(r#"{{"path": "/l", "topic": "t", "filters": [{{"use": "{filter}"}}]}}"#);
    let args = ["check", "--config", file.to_str().unwrap()];
    here.file("entries/good.json", entry("good"));
    here.expect(0, &args);
    here.file("entries/endless.json", entry("endless"));
    let (out, err) = here.expect(64, &args);
    let all = out + &err;
    assert!(all.contains("endless.json") && !all.contains("good.json"), "{all}");
    assert!(!here.0.path().join("state").exists());
}

#[test]
fn alone_it_says_what_to_try_first() {
    let (out, err) = Here::new().expect(0, &[]);
    assert!(out.contains("tailmill dev --path") && err.is_empty(), "{out}{err}");
    let (out, _) = Here::new().expect(0, &["--version"]);
    assert!(out.starts_with(&format!("tailmill {}", env!("CARGO_PKG_VERSION"))), "{out}");
    let (out, _) = Here::new().expect(0, &["completions", "bash"]);
    assert!(out.contains("_tailmill"), "{out}");
}

#[test]
fn output_into_a_pipe_that_closes_is_no_error() {
    let here = Here::new();
    here.file("a.log", lines("a", 50_000));
    let binary = Path::new(env!("CARGO_BIN_EXE_tailmill")).display();
    let script = format!("'{binary}' dev --path a.log --once --quiet | head -n 1; exit ${{PIPESTATUS[0]}}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(here.0.path())
        .env("XDG_CACHE_HOME", here.0.path())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.stdout.as_slice(), err.as_str()), (&b"a 0\n"[..], ""));
    // 2 when not everything was delivered when the reader went away.
    assert!(matches!(output.status.code(), Some(0 | 2)), "{:?}", output.status);
}

#[test]
fn a_variable_alone_says_where_etcd_is() {
    let asked = |variable: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tailmill"));
        command.args(["module", "list", "--config", "/does/not/exist"]).env_remove("TAILMILL_ETCD_ENDPOINTS");
        let output = command.env(variable, "http://127.0.0.1:1").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = asked("TAILMILL_ETCD_ENDPOINTS");
    assert_eq!(code, Some(1), "nobody listens there: {said}");
    let (code, said) = asked("TAILMILL_OF_NOBODY");
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("/does/not/exist"), "{said}");
}

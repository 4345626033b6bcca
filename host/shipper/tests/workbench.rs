//! The workbench as an author meets it: the real binary, small modules in WebAssembly text, and one project that is made,
//! built and tested as its own README says.
#![allow(clippy::unwrap_used, reason = "test code")]

mod guests;
mod here;

use std::path::Path;
use std::process::Command;

use here::Here;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_core_module_becomes_a_component_that_answers_the_same() {
    let here = Here::new();
    here.file("judge.wasm", guests::judge());
    here.file("a.log", "keep\ndrop\nup\n");
    let (out, _) = here.expect(0, &["wrap", "judge.wasm"]);
    assert!(out.starts_with("judge.component.wasm: line-filter, "), "{out}");
    let (out, _) = here.expect(0, &["inspect", "judge.component.wasm", "--json"]);
    assert_eq!(json(&out)["is_component"], true);
    here.expect(0, &["test", "judge.wasm", "a.log", "--against", "judge.component.wasm"]);
    // A component goes through as it is.
    let (_, err) = here.expect(0, &["wrap", "judge.component.wasm", "-o", "again.wasm"]);
    assert!(err.contains("component already"), "{err}");
    let bytes = |name: &str| std::fs::read(here.0.path().join(name)).unwrap();
    assert_eq!(bytes("again.wasm"), bytes("judge.component.wasm"));
}

#[test]
fn a_module_that_asks_wasi_preview_1_is_wrapped_with_its_adapter() {
    let here = Here::new();
    here.file("prints.wasm", guests::prints());
    let (out, _) = here.expect(0, &["inspect", "prints.wasm", "--json"]);
    assert_eq!((&json(&out)["uses_preview1"], &json(&out)["world"]), (&true.into(), &"line-filter".into()));
    here.expect(0, &["wrap", "prints.wasm", "-o", "p.wasm"]);
    here.file("a.log", "one\n");
    let (out, err) = here.expect(0, &["test", "p.wasm", "a.log", "--all"]);
    assert!(out.starts_with("  one\n") && err.contains("stdout: hi"), "{out}{err}");
}

#[test]
fn inspect_says_what_a_module_is_and_what_it_declares_at_its_start() {
    let here = Here::new();
    here.file("needles.wasm", guests::needles());
    let (out, _) = here.expect(0, &["inspect", "needles.wasm", "--with", "{}", "--json"]);
    let found = json(&out);
    assert_eq!(found["contract"], "1.0.0");
    assert_eq!((&found["world"], &found["problem"]), (&"batch-filter".into(), &Value::Null));
    assert_eq!(found["memories_pages"], serde_json::json!([{ "min": 34, "max": 40 }]));
    assert_eq!(found["started"]["needles"], serde_json::json!(["err"]));
    assert_eq!(found["started"]["stateless"], true);
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/frozen");
    for (file, contract) in [("v1-line.wasm", "1.0.0"), ("v1.1-line.wasm", "1.1.0"), ("v1.1-core.wasm", "1.1.0")] {
        let module = frozen.join(file);
        let found = json(&here.expect(0, &["inspect", module.to_str().unwrap(), "--json"]).0);
        assert_eq!((&found["contract"], &found["problem"]), (&contract.into(), &Value::Null), "{file}");
        here.expect(0, &["wrap", module.to_str().unwrap(), "-o", "wrapped.wasm"]);
        assert_eq!(json(&here.expect(0, &["inspect", "wrapped.wasm", "--json"]).0)["problem"], Value::Null, "{file}");
    }
    let (out, _) = here.expect(0, &["inspect", "needles.wasm", "--with", "{}"]);
    assert!(out.contains("\"err\"; lines without are dropped") && out.contains("at most 2.5 MiB"), "{out}");
}

#[test]
fn what_is_no_filter_is_said_by_every_command_with_64() {
    let here = Here::new();
    here.file("a.log", "x\n");
    here.file("text.wasm", "not wasm");
    here.file("cut.wasm", &guests::judge()[..60]);
    here.file("world.wasm", wat::parse_str("(module (func (export \"main\")))").unwrap());
    here.file("picky.wasm", guests::picky());
    std::fs::create_dir(here.0.path().join("dir.wasm")).unwrap();
    let check = |module: &str, words: &[&str]| {
        let all: [&[&str]; 4] = [
            &["inspect", module, "--with", "{}"],
            &["test", module, "a.log"],
            &["bench", module, "a.log"],
            &["wrap", module, "-o", "out.wasm"],
        ];
        for args in all.iter().filter(|args| module != "picky.wasm" || args[0] != "wrap") {
            let (out, err) = here.expect(64, args);
            for word in words {
                assert!(err.contains(word), "{args:?}: {word} is not in {err}{out}");
            }
        }
        assert!(!here.0.path().join("out.wasm").exists(), "{module}");
    };
    check("text.wasm", &["text.wasm", "does not start with \\0asm"]);
    check("cut.wasm", &["cut.wasm", "not a WebAssembly module"]);
    check("world.wasm", &["world.wasm", "not a filter: it exports main"]);
    check("dir.wasm", &["dir.wasm", "is a directory"]);
    check("none.wasm", &["none.wasm", "No such file"]);
    check("picky.wasm", &["while starting", "not like this"]);
    let (out, _) = here.expect(64, &["inspect", "world.wasm", "--json"]);
    assert!(json(&out)["problem"].as_str().unwrap().contains("not a filter"), "{out}");
}

#[test]
fn what_the_arguments_lack_is_said_with_64() {
    let here = Here::new();
    here.file("judge.wasm", guests::judge());
    here.file("a.log", "x\n");
    here.file("empty.log", "");
    here.file("lonely.expected", "");
    let check = |args: &[&str], word: &str| {
        let (out, err) = here.expect(64, args);
        assert!(err.contains(word) && out.is_empty(), "{args:?}: {out}{err}");
    };
    check(&["test", "judge.wasm"], "there are no lines");
    check(&["test", "judge.wasm", "."], "it is a directory");
    check(&["test", "judge.wasm", "none.log"], "none.log");
    check(&["test", "judge.wasm", "a.log", "--with", "[1]"], "not a JSON object");
    check(&["test", "judge.wasm", "a.log", "--with", "{"], "not a JSON object");
    check(&["test", "judge.wasm:{}", "a.log", "--with", "{}"], "given twice");
    check(&["test", "judge.wasm", "a.log", "--seed", "1"], "--fuzz");
    check(&["test", "judge.wasm", "--cases", "none"], "none");
    check(&["test", "judge.wasm", "--cases", "."], "lonely.input");
    check(&["bench", "judge.wasm", "empty.log"], "no line in it");
    check(&["bench", "judge.wasm", "a.log", "--against", "./none.wasm"], "none.wasm");
    check(&["inspect", "a.log"], "write ./a.log for the file that is here");
    check(&["test", "judge.wasm", "a.log", "--timeout-ms", "0"], "--timeout-ms");
    check(&["new", "x", "--lang", "go"], "only for rust");
    check(&["new", "Big Name"], "no name for a filter");
    check(&["new", "x", "--sdk", "."], "tailmill-filter");
    check(&["new", "no/such/place"], "make it first");
}

#[test]
fn test_shows_what_becomes_of_each_line() {
    let here = Here::new();
    here.file("judge.wasm", guests::judge());
    here.file("good.log", "keep\ndrop\nup\n\nlast");
    let (out, _) = here.expect(0, &["test", "judge.wasm", "good.log"]);
    assert_eq!(
        out,
        "  keep\n- drop\n- up\n+ new\n  \n  last\n5 lines: 3 kept, 1 dropped, 1 changed; 4 records came out\n"
    );
    here.file("bad.log", "keep\nxxx\nerr\nkeep\n");
    let (out, _) = here.expect(1, &["test", "judge.wasm", "bad.log"]);
    assert!(out.contains("! xxx  [trap: ") && out.contains("! err  [refused: why]"), "{out}");
    assert!(out.ends_with("4 lines: 2 kept, 2 failed\n"), "{out}");
    let (out, _) = here.expect(1, &["test", "judge.wasm", "bad.log", "--json"]);
    let found = json(&out);
    assert_eq!((&found["parts"][0]["found"]["kept"], &found["failed"]), (&2.into(), &true.into()));
}

#[test]
fn cases_are_written_once_and_compared_from_then_on() {
    let here = Here::new();
    here.file("judge.wasm", guests::judge());
    let cases = here.0.path().join("cases");
    std::fs::create_dir(&cases).unwrap();
    let args = ["test", "judge.wasm", "--cases", "cases"];
    let update = ["test", "judge.wasm", "--cases", "cases", "--update"];
    here.file("cases/plain.input", "keep\ndrop\nup\n");
    here.file("cases/faulty.input", "keep\nerr\n");
    let (out, _) = here.expect(1, &args);
    assert!(out.contains("there is no plain.expected") && out.ends_with("0 cases passed, 2 failed\n"), "{out}");
    here.expect(0, &update);
    let read = |name: &str| std::fs::read_to_string(cases.join(name)).unwrap();
    assert_eq!(read("plain.expected"), "keep\nnew\n");
    assert_eq!(read("faulty.expected.jsonl"), "{\"value\":\"keep\"}\n{\"fault\":\"refused\",\"value\":\"err\"}\n");
    let (out, _) = here.expect(0, &args);
    assert_eq!(out, "ok faulty\nok plain\n2 cases passed\n");
    here.file("cases/plain.expected", "keep\nold\nnew\n");
    let (out, _) = here.expect(1, &args);
    assert!(out.contains("failed plain\n@@ -1,3 +1,2 @@\n  keep\n- old\n  new\n"), "{out}");
    // A fault is never expected by a list of values.
    std::fs::remove_file(cases.join("faulty.expected.jsonl")).unwrap();
    here.file("cases/faulty.expected", "keep\n");
    let (out, _) = here.expect(1, &args);
    assert!(out.contains("failed faulty\n! err  [refused: why]\n"), "{out}");
}

#[test]
fn a_case_whose_answer_depends_on_how_lines_are_cut_fails() {
    let here = Here::new();
    here.file("first.wasm", guests::drops_the_first_of_a_batch());
    std::fs::create_dir(here.0.path().join("cases")).unwrap();
    here.file("cases/a.input", "1\n2\n3\n");
    here.file("cases/a.expected", "2\n3\n");
    let (out, _) = here.expect(1, &["test", "first.wasm", "--cases", "cases"]);
    assert!(out.contains("depend on how lines are cut"), "{out}");
}

#[test]
fn two_versions_are_compared_line_by_line() {
    let here = Here::new();
    here.file("new.wasm", guests::judge());
    here.file("old.wasm", guests::keep());
    here.file("a.log", "keep\ndrop\nup\n");
    let (out, _) = here.expect(1, &["test", "new.wasm", "a.log", "--against", "old.wasm"]);
    let expected =
        "a.log:2: drop\n- drop\n+ (nothing)\na.log:3: up\n- up\n+ new\na.log: 3 lines: 2 lines with other answers\n";
    assert_eq!(out, expected);
    let (out, _) = here.expect(0, &["test", "new.wasm", "a.log", "--against", "new.wasm"]);
    assert_eq!(out, "a.log: 3 lines: the same answers\n");
}

#[test]
fn fuzz_finds_answers_that_depend_on_batches_and_shrinks_them() {
    let here = Here::new();
    here.file("first.wasm", guests::drops_the_first_of_a_batch());
    here.file("a.log", "one line\nanother line\na third\n");
    let fuzz = |seed: &str| here.expect(1, &["test", "first.wasm", "a.log", "--fuzz", "1000", "--seed", seed]).0;
    let out = fuzz("7");
    assert!(out.contains("the answers depend on how lines are cut into batches"), "{out}");
    let smallest = "does it, 2 lines in 2 batches:\n  batch 1\n    \"\"\n  batch 2\n    \"\"\n";
    assert!(out.contains(smallest) && out.contains("--fuzz 1000 --seed 7"), "{out}");
    assert_eq!(fuzz("7"), out);
}

#[test]
fn fuzz_finds_a_line_that_is_a_fault_and_shows_only_what_makes_it_one() {
    let here = Here::new();
    here.file("judge.wasm", guests::judge());
    here.file("a.log", "keep\nwax\n");
    let args = ["test", "judge.wasm", "a.log", "--fuzz", "5000", "--seed", "1", "--json"];
    let (out, _) = here.expect(1, &args);
    let failure = &json(&out)["parts"][0]["found"]["failure"];
    let what = failure["what"].as_str().unwrap();
    assert!(what.contains("trap") || what.contains("refused"), "{out}");
    let line = failure["batches"][0][0].as_str().unwrap();
    assert!(line == "x" || line == "e", "{out}");
    // Nothing that begins with one of the two can be made of these without a mutation; refusing alone may be allowed.
    here.file("refuses.wasm", guests::refuses());
    let args = ["test", "refuses.wasm", "a.log", "--fuzz", "500", "--seed", "1"];
    here.expect(1, &args);
    here.expect(0, &[&args[..], &["--may-refuse"]].concat());
}

#[test]
fn fuzz_finds_a_filter_that_is_not_stateless_and_one_that_looks_for_newlines() {
    let here = Here::new();
    here.file("a.log", "one line\nanother line\n");
    here.file("liar.wasm", guests::says_stateless_and_drops_its_first_line());
    let (out, _) = here.expect(1, &["test", "liar.wasm", "a.log", "--fuzz", "1000", "--seed", "1"]);
    assert!(out.contains("it says that it is stateless"), "{out}");
    here.file("scans.wasm", guests::keeps_when_it_begins_at_0());
    let (out, _) = here.expect(1, &["test", "scans.wasm", "a.log", "--fuzz", "1000", "--seed", "1"]);
    assert!(out.contains("what lies between lines"), "{out}");
}

#[test]
fn fuzz_finds_nothing_wrong_with_a_sound_filter() {
    let here = Here::new();
    for (name, guest) in [("keep.wasm", guests::keep()), ("needles.wasm", guests::needles())] {
        here.file(name, guest);
        here.file("a.log", "an err line\nanother\n");
        let (out, _) = here.expect(0, &["test", name, "a.log", "--fuzz", "3000"]);
        assert!(out.starts_with("3,000 lines of mutations from 1 input: no fault"), "{out}");
    }
}

#[test]
fn bench_counts_the_same_instructions_each_time_and_compares_from_one_run() {
    let here = Here::new();
    here.file("keep.wasm", guests::keep());
    here.file("needles.wasm", guests::needles());
    here.file("a.log", "an err line\nanother\na third\nthe fourth\n");
    let bench = |args: &[&str]| {
        let all: Vec<&str> =
            ["bench"].iter().chain(args).chain(&["a.log", "--seconds", "0", "--json"]).copied().collect();
        json(&here.expect(0, &all).0)
    };
    let (one, two) = (bench(&["keep.wasm"]), bench(&["keep.wasm", "--against", "keep.wasm"]));
    let counted = |found: &Value| found["this"]["instructions_a_line"].as_f64().unwrap();
    assert!(counted(&one) > 1.0 && counted(&one) == counted(&two), "{one:#}{two:#}");
    assert_eq!(two["ratio"]["instructions_a_line"], 1.0);
    assert!(two["ratio"]["ns_a_line"].as_f64().is_some() && one["this"]["memory_peak_bytes"].as_u64() > Some(65_535));
    assert_eq!(
        (&bench(&["needles.wasm"])["this"]["skipped_share"], &one["this"]["skipped_share"]),
        (&0.75.into(), &0.0.into())
    );
    let (out, _) = here.expect(0, &["bench", "keep.wasm", "a.log", "--seconds", "0", "--against", "needles.wasm"]);
    assert!(out.contains("instructions a line") && out.contains("ratio"), "{out}");
}

#[test]
fn a_new_project_builds_and_passes_as_its_readme_says() {
    let here = Here::new();
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let sdk = repo.join("guest-sdk");
    let (out, _) = here.expect(0, &["new", "drop-noise", "--sdk", sdk.to_str().unwrap()]);
    assert!(out.contains("by path") && out.contains("--sdk says so"), "{out}");
    let (_, err) = here.expect(64, &["new", "drop-noise"]);
    assert!(err.contains("is there already"), "{err}");
    let project = here.0.path().join("drop-noise");
    // The versions that are tested here, and what an earlier run of this test compiled.
    std::fs::copy(repo.join("filters/Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-project");
    std::fs::create_dir_all(&built).unwrap();
    std::os::unix::fs::symlink(&built, project.join("target")).unwrap();

    let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: String = blocks.collect();
    assert_eq!(commands.matches("tailmill ").count(), 4, "{commands}");
    // Where rustup cannot have the wasm standard library, this script has another way.
    let cargo_wasm = repo.join("scripts/cargo-wasm");
    let shims = format!(
        "set -euo pipefail\nrustup() {{ :; }}\ncargo() {{ if [ \"$1\" = wasm ]; then '{}'; else command cargo \"$@\"; fi; }}\n",
        cargo_wasm.display()
    );
    let binary = Path::new(env!("CARGO_BIN_EXE_tailmill")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &(shims + &commands)]).current_dir(&project).env("PATH", path).env_remove("CARGO_TARGET_DIR");
    let output = bash.env("XDG_CACHE_HOME", here.0.path().join("cache")).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for part in
        ["2 passed", "2 cases passed", "5 lines: 2 kept, 2 dropped, 1 changed", "no fault", "instructions a line"]
    {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    // Also natively, where nothing but its tests calls the filter.
    assert!(!said.contains("warning"), "{said}");
}

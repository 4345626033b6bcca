//! The compile child and the cache: hit, miss, damage, limits.

use crate::guests::{self, Guest};
use crate::support::{LIMITS, Text, origin, surroundings, ticking};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tailmill_engine::{
    CacheOptions, CompileLimits, Compiled, Digest, Engine, EngineError, EngineOptions, LoadError, Outcome,
};
use tempfile::TempDir;

const NOW: Compiled = Compiled::Now { not_stored: None };

fn options(dir: &Path) -> CacheOptions {
    let compiler = PathBuf::from(env!("CARGO_BIN_EXE_tailmill-compile"));
    CacheOptions { dir: dir.join("cache"), compiler, limits: CompileLimits::STANDARD }
}

fn engine_with(cache: CacheOptions) -> Engine {
    ticking(EngineOptions { cache: Some(cache), ..EngineOptions::default() })
}

/// As a restarted agent: a new engine over the same directory.
fn engine(dir: &Path) -> Engine {
    engine_with(options(dir))
}

/// Loads it, runs it, and says where its code came from.
fn load(engine: &Engine, wasm: &[u8]) -> Compiled {
    let module = engine.load(wasm).expect("a module");
    let mut instance = module.start("{}", &LIMITS, &surroundings(), true).expect("a start");
    let answer = instance.run(0, Text::of(["a"]).lines(), &origin()).expect("an answer");
    assert_eq!(answer.outcome, Outcome::KeepAll);
    module.compiled().clone()
}

fn refusal(cache: CacheOptions, wasm: &[u8]) -> LoadError {
    engine_with(cache).load(wasm).err().expect("a refusal")
}

fn stored(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("cache")).expect("the cache");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_module_is_compiled_once_and_taken_from_the_cache_after_a_restart() {
    let dir = TempDir::new().expect("a directory");
    for wasm in [guests::batch().wasm(), guests::line().wasm()] {
        let first = engine(dir.path());
        assert_eq!(load(&first, &wasm), NOW);
        assert_eq!(load(&first, &wasm), Compiled::Cached);
        assert_eq!(load(&engine(dir.path()), &wasm), Compiled::Cached);
    }
    assert_eq!(stored(dir.path()).len(), 2);
}

#[test]
fn only_the_owner_can_look_into_the_cache() {
    let dir = TempDir::new().expect("a directory");
    let open = dir.path().join("cache");
    fs::create_dir(&open).expect("a directory");
    fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("a mode");
    load(&engine(dir.path()), &guests::batch().wasm());
    assert_eq!(fs::metadata(&open).expect("a directory").mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&stored(dir.path())[0]).expect("a file").mode() & 0o777, 0o600);
}

/// After this happened to its file a module is compiled again, and then found again.
fn check_damage(what: &str, damage: impl FnOnce(&Path)) {
    let dir = TempDir::new().expect("a directory");
    let wasm = guests::batch().wasm();
    assert_eq!(load(&engine(dir.path()), &wasm), NOW);
    damage(&stored(dir.path())[0]);
    assert_eq!(load(&engine(dir.path()), &wasm), NOW, "{what}");
    assert_eq!(load(&engine(dir.path()), &wasm), Compiled::Cached, "{what}");
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("a file");
}

#[test]
fn a_damaged_file_is_noticed() {
    check_damage("a flipped bit in the code", |path| change(path, |bytes| bytes[5_000] ^= 1));
    check_damage("a flipped bit at the end", |path| change(path, |bytes| *bytes.last_mut().expect("a byte") ^= 0x80));
    check_damage("a flipped bit in the head", |path| change(path, |bytes| bytes[9] ^= 1));
    check_damage("half a file", |path| change(path, |bytes| bytes.truncate(bytes.len() / 2)));
    check_damage("a head only", |path| change(path, |bytes| bytes.truncate(56)));
    check_damage("less than a head", |path| change(path, |bytes| bytes.truncate(7)));
    check_damage("an empty file", |path| change(path, Vec::clear));
    check_damage("something else", |path| fs::write(path, "hello".repeat(1_000)).expect("a file"));
}

#[test]
fn a_file_that_others_could_have_written_is_not_believed() {
    let group = Permissions::from_mode(0o620);
    check_damage("writable by its group", |path| fs::set_permissions(path, group).expect("a mode"));
    check_damage("a link to a good file", |path| {
        let elsewhere = path.parent().and_then(Path::parent).expect("a parent").join("elsewhere");
        fs::rename(path, &elsewhere).expect("a move");
        symlink(&elsewhere, path).expect("a link");
    });
}

#[test]
fn the_file_of_another_module_is_not_believed() {
    let dir = TempDir::new().expect("a directory");
    let (good, evil) = (guests::batch().wasm(), guests::batch().run("unreachable").wasm());
    engine(dir.path()).load(&evil).expect("a module");
    let of_evil = stored(dir.path()).remove(0);
    let name = of_evil.file_name().and_then(|name| name.to_str()).expect("a name");
    let digest = |wasm: &[u8]| Digest::of(wasm).to_string().replace("sha256:", "");
    fs::rename(&of_evil, of_evil.with_file_name(name.replace(&digest(&evil), &digest(&good)))).expect("a move");
    assert_eq!(load(&engine(dir.path()), &good), NOW);
}

#[test]
fn what_dead_writers_and_other_engines_left_is_thrown_out() {
    let dir = TempDir::new().expect("a directory");
    load(&engine(dir.path()), &guests::batch().wasm());
    for name in [".77-0.half".to_owned(), format!("{}-0123456789abcdef.aot", "0".repeat(64))] {
        fs::write(dir.path().join("cache").join(name), "left").expect("a file");
    }
    fs::write(dir.path().join("cache/README"), "of somebody").expect("a file");
    assert_eq!(load(&engine(dir.path()), &guests::batch().wasm()), Compiled::Cached);
    assert_eq!(stored(dir.path()).len(), 2, "the module and what is not ours");
}

#[test]
fn a_cache_that_cannot_be_written_costs_the_next_start_only() {
    let dir = TempDir::new().expect("a directory");
    let engine = engine(dir.path());
    fs::remove_dir(dir.path().join("cache")).expect("an empty cache");
    assert!(matches!(load(&engine, &guests::batch().wasm()), Compiled::Now { not_stored: Some(_) }));
}

#[test]
fn a_cache_that_is_no_directory_is_refused() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("cache"), "a file").expect("a file");
    let options = EngineOptions { cache: Some(options(dir.path())), ..EngineOptions::default() };
    assert!(matches!(Engine::new(options), Err(EngineError::Cache { .. })));
}

#[test]
fn the_child_says_why_a_module_does_not_compile() {
    let dir = TempDir::new().expect("a directory");
    let wasm = guests::batch().more("(func (result i32) (i64.const 1))").wasm();
    let refused = refusal(options(dir.path()), &wasm);
    assert!(matches!(&refused, LoadError::Compile(why) if why.contains("type mismatch")), "{refused}");
    assert!(stored(dir.path()).is_empty());
}

/// Stays inside every static limit and keeps a compiler busy for long: all locals change inside of all loops.
fn compile_bomb() -> Guest {
    const LOCALS: usize = 1_000;
    const LOOPS: usize = 400;
    let changes: String = (0..LOCALS)
        .map(|i| format!("(local.set {i} (i64.add (local.get {i}) (local.get {})))", (i + 1) % LOCALS))
        .collect();
    let body = format!("{}{changes}{}", "(loop ".repeat(LOOPS), "(br_if 0 (i64.eqz (local.get 5))))".repeat(LOOPS));
    guests::batch().more(&format!("(func (local {}) {body})", "i64 ".repeat(LOCALS)).repeat(20))
}

#[test]
fn a_compile_bomb_only_costs_the_child() {
    let dir = TempDir::new().expect("a directory");
    let wasm = compile_bomb().wasm();
    let with = |limits| CacheOptions { limits, ..options(dir.path()) };
    let check = |limits, wanted: &str| match refusal(with(limits), &wasm) {
        LoadError::CompileLimits { what } => assert!(what.contains(wanted), "{what}"),
        other => panic!("{wanted}: {other}"),
    };
    check(CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::STANDARD }, "time (1 s of CPU)");
    check(CompileLimits { memory_bytes: 96 << 20, ..CompileLimits::STANDARD }, "memory");
    check(CompileLimits { wall: Duration::from_millis(100), ..CompileLimits::STANDARD }, "time (0 s on the clock)");
    // The engine is none the worse for it.
    assert_eq!(load(&engine(dir.path()), &guests::batch().wasm()), NOW);
}

fn script(dir: &Path, text: &str) -> CacheOptions {
    let compiler = dir.join("compiler");
    fs::write(&compiler, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&compiler, Permissions::from_mode(0o700)).expect("a mode");
    CacheOptions { compiler, ..options(dir) }
}

#[test]
fn a_compiler_that_is_none_is_named() {
    let dir = TempDir::new().expect("a directory");
    let wasm = guests::batch().wasm();
    let missing = CacheOptions { compiler: dir.path().join("nobody"), ..options(dir.path()) };
    assert!(matches!(refusal(missing, &wasm), LoadError::Compiler(why) if why.contains("nobody")));
    for text in ["exit 0", "echo hello", "printf TMR"] {
        let refused = refusal(script(dir.path(), text), &wasm);
        assert!(matches!(&refused, LoadError::Compiler(why) if why.contains("does not answer")), "{text}: {refused}");
    }
    let refused = refusal(script(dir.path(), "echo reason >&2; exit 9"), &wasm);
    assert!(matches!(&refused, LoadError::Compile(why) if why.contains("reason")), "{refused}");
    // Not code of ours: the right word in front, and rubbish.
    let refused = refusal(script(dir.path(), "printf TMR1rubbish"), &wasm);
    assert!(matches!(refused, LoadError::Compile(_)), "{refused}");
}

#[test]
fn the_child_takes_nothing_from_our_surroundings() {
    let dir = TempDir::new().expect("a directory");
    let refused =
        refusal(script(dir.path(), "echo \"PATH=$PATH HOME=$HOME arg=$*\" >&2; exit 3"), &guests::batch().wasm());
    let LoadError::Compile(said) = refused else { panic!("{refused}") };
    assert!(said.contains("HOME= arg=compile-module"), "{said}");
}

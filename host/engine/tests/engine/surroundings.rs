//! What a guest may ask and say: the host's interfaces, WASI 0.2 without authority, WASI preview 1.

use crate::guests::{self, Guest};
use crate::support::{Text, expect_fault, load, origin, run, start};
use std::time::{SystemTime, UNIX_EPOCH};
use tailmill_engine::{FaultKind, HostNotes, Origin};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const HOST: &str = r#"
  (import "tailmill:filter/host@1.0.0" "log" (func $log (param i32 i32 i32)))
  (import "tailmill:filter/host@1.0.0" "print" (func $print (param i32 i32 i32)))
  (import "tailmill:filter/host@1.0.0" "count" (func $count (param i32 i32 i64)))
  (import "tailmill:filter/host@1.0.0" "now" (func $now (result i64)))
  (import "tailmill:filter/origin@1.0.0" "stream-id" (func $stream_id (result i64)))
  (import "tailmill:filter/origin@1.0.0" "node" (func $node (param i32)))
  (import "tailmill:filter/origin@1.0.0" "path" (func $path (param i32)))
  (import "tailmill:filter/origin@1.0.0" "first-offset" (func $first_offset (result i64)))
  (import "tailmill:filter/origin@1.0.0" "topics" (func $topics (param i32)))
  (import "tailmill:filter/origin@1.1.0" "inode" (func $inode (result i64)))
  (import "tailmill:filter/origin@1.1.0" "generation" (func $generation (param i32)))
  (import "tailmill:filter/origin@1.1.0" "first-line" (func $first_line (result i64)))
"#;

/// Keeps all, after this.
fn asking(before: &str) -> Guest {
    let guest = guests::batch().imports(HOST).more("(data (i32.const 512) \"abc\")");
    let run = format!("{before} {}", guest.run);
    guest.run(&run)
}

fn told(guest: &Guest) -> HostNotes {
    let mut instance = start(&guest.wasm());
    run(&mut instance, 0, &["line"]).expect("an answer");
    instance.take_notes()
}

/// Counts a number under the name `abc`.
fn number(guest: &str) -> u64 {
    let notes = told(&asking(&format!("(call $count (i32.const 512) (i32.const 3) {guest})")));
    assert_eq!(notes.counters[0].0, "abc");
    notes.counters[0].1
}

/// Prints a list or string that a function puts at 600.
fn text(call: &str, at: u32) -> String {
    let print =
        format!("{call} (call $print (i32.const 1) (i32.load (i32.const {at})) (i32.load offset=4 (i32.const {at})))");
    told(&asking(&print)).prints[0].1.clone()
}

#[test]
fn a_filter_learns_where_its_lines_come_from() {
    assert_eq!(number("(call $stream_id)"), 77);
    assert_eq!(number("(call $first_offset)"), 4096);
    assert_eq!(text("(call $node (i32.const 600))", 600), "node-7");
    assert_eq!(text("(call $path (i32.const 600))", 600), "/var/log/\u{fffd}.log");
    assert_eq!(number("(call $inode)"), 1 << 40);
    assert_eq!(number("(call $first_line)"), 100);
    assert_eq!(text("(call $generation (i32.const 600))", 600), "5f0c");
    // The second of two topics.
    let second = "(call $topics (i32.const 600))
        (i64.store (i32.const 620) (i64.load offset=8 (i32.load (i32.const 600))))";
    assert_eq!(text(second, 620), "errors");
}

#[test]
fn an_origin_is_that_of_the_call() {
    let mut instance = start(&asking("(call $count (i32.const 512) (i32.const 3) (call $stream_id))").wasm());
    for stream_id in [5, 6] {
        let origin = Origin { stream_id, ..Origin::default() };
        instance.run(0, Text::of(["a"]).lines(), &origin).expect("an answer");
        assert_eq!(instance.take_notes().counters, [("abc".to_owned(), stream_id)]);
    }
}

#[test]
fn the_clock_stands_still_during_a_call_and_shows_this_century() {
    assert_eq!(number("(i64.sub (call $now) (call $now))"), 0);
    assert!(number("(call $now)") > 1_700_000_000_000_000_000);
}

#[test]
fn what_is_logged_and_printed_arrives_in_order() {
    let notes = told(&asking(
        "(call $log (i32.const 1) (i32.const 512) (i32.const 3)) (call $log (i32.const 2) (i32.const 513) (i32.const 2))
         (call $print (i32.const 2) (i32.const 514) (i32.const 1))",
    ));
    assert_eq!(notes.logs, [(1, "abc".to_owned()), (2, "bc".to_owned())]);
    assert_eq!(notes.prints, [(2, "c".to_owned())]);
}

#[test]
fn a_long_message_is_cut_and_a_lie_about_one_is_a_trap() {
    let notes = told(&asking("(call $log (i32.const 0) (i32.const 0) (i32.const 100000))"));
    assert_eq!(notes.logs[0].1.len(), 4096);
    let mut instance = start(&asking("(call $log (i32.const 0) (i32.const 0) (i32.const -1))").wasm());
    expect_fault(run(&mut instance, 0, &["a"]), FaultKind::Trap, "out of bounds");
}

#[test]
fn notes_can_be_taken_after_a_trap() {
    let guest = asking("(call $log (i32.const 3) (i32.const 512) (i32.const 3)) unreachable");
    let mut instance = start(&guest.wasm());
    run(&mut instance, 0, &["a"]).expect_err("a fault");
    assert_eq!(instance.take_notes().logs, [(3, "abc".to_owned())]);
}

#[test]
fn a_trap_says_in_which_function() {
    let guest = asking("(call $inner)").more("(func $inner unreachable)");
    let fault = run(&mut start(&guest.wasm()), 0, &["a"]).expect_err("a fault");
    assert!(fault.message.contains("in inner < run"), "{}", fault.message);
}

const WASI_WIT: &str = r#"
package wasi:io@0.2.3 {
  interface error { resource error; }
  interface poll {
    resource pollable { ready: func() -> bool; }
    poll: func(asked: list<borrow<pollable>>) -> list<u32>;
  }
  interface streams {
    use error.{error};
    use poll.{pollable};
    variant stream-error { last-operation-failed(error), closed }
    resource input-stream { read: func(len: u64) -> result<list<u8>, stream-error>; }
    resource output-stream {
      check-write: func() -> result<u64, stream-error>;
      blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
      subscribe: func() -> pollable;
    }
  }
}
package wasi:cli@0.2.3 {
  interface environment { get-environment: func() -> list<tuple<string, string>>; }
  interface stdin { use wasi:io/streams@0.2.3.{input-stream}; get-stdin: func() -> input-stream; }
  interface stdout { use wasi:io/streams@0.2.3.{output-stream}; get-stdout: func() -> output-stream; }
  interface exit { exit: func(status: result); }
}
package wasi:random@0.2.0 { interface random { get-random-bytes: func(len: u64) -> list<u8>; } }
package wasi:clocks@0.2.8 {
  interface monotonic-clock { now: func() -> u64; }
  interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
}
package wasi:filesystem@0.2.3 {
  interface types {
    enum error-code { would-block, access, exist }
    resource descriptor { open-at: func(path: string) -> result<descriptor, error-code>; }
  }
  interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }
}
package wasi:sockets@0.2.3 {
  interface network { enum error-code { unknown, access-denied } resource network; }
  interface instance-network { use network.{network}; instance-network: func() -> network; }
  interface ip-name-lookup {
    use network.{network, error-code};
    resolve: func(network: borrow<network>, name: string) -> result<u32, error-code>;
  }
}
"#;

const WASI_IMPORTS: &str = r#"
  (import "wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32)))
  (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
  (import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))
  (import "wasi:io/streams@0.2.3" "[method]input-stream.read" (func $read (param i32 i64 i32)))
  (import "wasi:io/streams@0.2.3" "[method]output-stream.check-write" (func $check_write (param i32 i32)))
  (import "wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.3" "[method]output-stream.subscribe" (func $subscribe (param i32) (result i32)))
  (import "wasi:io/streams@0.2.3" "[resource-drop]output-stream" (func $drop_stream (param i32)))
  (import "wasi:io/poll@0.2.3" "poll" (func $poll (param i32 i32 i32)))
  (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.8" "now" (func $ticks (result i64)))
  (import "wasi:clocks/wall-clock@0.2.8" "now" (func $wall (param i32)))
  (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $directories (param i32)))
  (import "wasi:sockets/instance-network@0.2.3" "instance-network" (func $network (result i32)))
  (import "wasi:sockets/ip-name-lookup@0.2.3" "resolve" (func $resolve (param i32 i32 i32 i32)))
"#;

/// A guest that was built with WASI 0.2, as a toolchain leaves it: a core module with metadata. `check` counts a 1.
fn with_wasi(check: &str) -> Vec<u8> {
    let world = "world whole { import host; import origin; export batch; import wasi:cli/environment@0.2.3;
        import wasi:cli/stdin@0.2.3; import wasi:cli/stdout@0.2.3; import wasi:cli/exit@0.2.3; import wasi:io/poll@0.2.3;
        import wasi:random/random@0.2.0; import wasi:clocks/monotonic-clock@0.2.8; import wasi:clocks/wall-clock@0.2.8;
        import wasi:filesystem/preopens@0.2.3; import wasi:sockets/instance-network@0.2.3;
        import wasi:sockets/ip-name-lookup@0.2.3; }";
    let contract = include_str!("../../../../wit/filter.wit").replace("@1.1.0;", "@1.0.0;"); // as in the guest's names
    let text = format!("{contract}\n{world}\n{WASI_WIT}");
    let mut resolve = Resolve::default();
    let package = resolve.push_source("whole.wit", &text).unwrap_or_else(|error| panic!("{error:#}"));
    let world = resolve.select_world(&[package], Some("whole")).expect("the world");
    let before = format!("(call $count (i32.const 512) (i32.const 3) (i64.extend_i32_u {check}))");
    let mut wasm = asking(&before).imports(WASI_IMPORTS).wasm();
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).expect("metadata");
    wasm
}

/// `check` comes to 1.
fn wasi(check: &str) {
    let mut instance = start(&with_wasi(check));
    run(&mut instance, 0, &["a"]).expect("an answer");
    assert_eq!(instance.take_notes().counters, [("abc".to_owned(), 1)], "{check}");
}

#[test]
fn wasi_gives_nothing_away() {
    // No variables, no directories.
    wasi("(block (result i32) (call $environment (i32.const 600)) (i32.eqz (i32.load offset=4 (i32.const 600))))");
    wasi("(block (result i32) (call $directories (i32.const 600)) (i32.eqz (i32.load offset=4 (i32.const 600))))");
    // Nothing to read: err(closed).
    wasi(
        "(block (result i32) (call $read (call $stdin) (i64.const 10) (i32.const 600))
        (i32.and (i32.load8_u (i32.const 600)) (i32.load8_u offset=4 (i32.const 600))))",
    );
    // No names to look up: err(access-denied).
    wasi(
        "(block (result i32) (call $resolve (call $network) (i32.const 512) (i32.const 3) (i32.const 600))
        (i32.and (i32.load8_u (i32.const 600)) (i32.load8_u offset=4 (i32.const 600))))",
    );
}

#[test]
fn wasi_has_a_clock_that_counts_and_numbers_that_repeat() {
    wasi("(i64.lt_u (call $ticks) (call $ticks))");
    wasi(
        "(block (result i32) (call $wall (i32.const 600))
        (i64.gt_u (i64.load (i32.const 600)) (i64.const 1700000000)))",
    );
    let random =
        "(block (result i32) (call $random (i64.const 4) (i32.const 600)) (i32.load (i32.load (i32.const 600))))";
    let twice = [0, 1].map(|_| {
        let mut instance = start(&with_wasi(random));
        run(&mut instance, 0, &["a"]).expect("an answer");
        instance.take_notes().counters[0].1
    });
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn wasi_stdout_is_what_the_guest_prints_and_its_handles_are_given_back() {
    let check = "(block (result i32)
        (local.set $x (call $stdout))
        (call $check_write (local.get $x) (i32.const 600))
        (call $write (local.get $x) (i32.const 512) (i32.const 3) (i32.const 620))
        (i32.store (i32.const 640) (call $subscribe (local.get $x)))
        (call $poll (i32.const 640) (i32.const 1) (i32.const 660))
        (i32.and (i32.eq (i32.load offset=4 (i32.const 660)) (i32.const 1))
          (i64.eq (i64.load offset=8 (i32.const 600)) (i64.const 4096))))";
    let mut instance = start(&with_wasi(check));
    run(&mut instance, 0, &["a"]).expect("an answer");
    let notes = instance.take_notes();
    assert_eq!(notes.prints, [(1, "abc".to_owned())]);
    assert_eq!(notes.counters[0].1, 1);
    // Calls go on: no handle was kept lent.
    run(&mut instance, 1, &["a"]).expect("an answer");
}

#[test]
fn handles_that_are_never_dropped_run_out() {
    let mut instance =
        start(&with_wasi("(block (result i32) (loop $next (drop (call $stdout)) (br $next)) (i32.const 1))"));
    expect_fault(run(&mut instance, 0, &["a"]), FaultKind::Trap, "");
}

#[test]
fn an_exit_is_a_trap() {
    let mut instance = start(&with_wasi("(block (result i32) (call $exit (i32.const 0)) (i32.const 1))"));
    expect_fault(run(&mut instance, 0, &["a"]), FaultKind::Trap, "the filter called exit");
}

const PREVIEW1: &str = r#"
  (import "tailmill:filter/host@1.0.0" "count" (func $count (param i32 i32 i64)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
"#;

/// A guest that was built for preview 1, without metadata. `check` is counted.
fn preview1(check: &str) -> (Result<(), tailmill_engine::Fault>, HostNotes) {
    let guest = guests::batch().imports(PREVIEW1).more("(data (i32.const 512) \"abc\")");
    let run_body = format!("(call $count (i32.const 512) (i32.const 3) (i64.extend_i32_u {check})) {}", guest.run);
    // As Go does: the runtime comes up in `_initialize`, before anything else is called.
    let guest = guest.run(&run_body).more(
        "(func (export \"_initialize\") (drop (call $random (i32.const 800) (i32.const 64)))
           (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 900))))",
    );
    let mut instance = start(&guest.wasm());
    let ran = run(&mut instance, 0, &["a"]).map(|_| ());
    (ran, instance.take_notes())
}

fn counted(check: &str, wanted: u64) {
    let (ran, notes) = preview1(check);
    ran.expect("an answer");
    assert_eq!(notes.counters, [("abc".to_owned(), wanted)], "{check}");
}

#[test]
fn preview1_gives_nothing_away() {
    counted("(i32.or (call $args (i32.const 600) (i32.const 604)) (i32.load (i32.const 600)))", 0);
    counted("(call $fd_read (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 620))", 8);
    counted("(call $fd_write (i32.const 3) (i32.const 600) (i32.const 1) (i32.const 620))", 8);
    counted(
        "(call $path_open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 0) (i64.const 0) (i64.const 0)
         (i32.const 0) (i32.const 600))",
        76,
    );
}

#[test]
fn preview1_time_goes_on_and_random_bytes_are_written() {
    counted(
        "(block (result i32)
           (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 600)))
           (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 608)))
           (i64.lt_u (i64.load (i32.const 600)) (i64.load (i32.const 608))))",
        1,
    );
    counted("(i32.ne (i32.const 0) (i32.load (i32.const 800)))", 1);
}

#[test]
fn preview1_real_time_is_the_hosts() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let before = second();
    let (ran, notes) = preview1(
        "(block (result i32)
           (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 600)))
           (i32.wrap_i64 (i64.div_u (i64.load (i32.const 600)) (i64.const 1000000000))))",
    );
    ran.expect("an answer");
    let said = notes.counters[0].1;
    assert!((before..=second()).contains(&said), "{said} is not between {before} and now");
}

#[test]
fn preview1_stdout_is_what_the_guest_prints() {
    let (ran, notes) = preview1(
        "(block (result i32)
           (i32.store (i32.const 600) (i32.const 512)) (i32.store (i32.const 604) (i32.const 2))
           (i32.store (i32.const 608) (i32.const 514)) (i32.store (i32.const 612) (i32.const 1))
           (drop (call $fd_write (i32.const 2) (i32.const 600) (i32.const 2) (i32.const 620)))
           (i32.load (i32.const 620)))",
    );
    ran.expect("an answer");
    assert_eq!(notes.prints, [(2, "abc".to_owned())]);
    assert_eq!(notes.counters[0].1, 3);
}

#[test]
fn preview1_subscriptions_all_fire() {
    counted(
        "(block (result i32)
           (i64.store (i32.const 3000) (i64.const 41)) (i64.store (i32.const 3048) (i64.const 42))
           (i32.store8 (i32.const 3056) (i32.const 2))
           (drop (call $poll (i32.const 3000) (i32.const 3200) (i32.const 2) (i32.const 620)))
           (i32.add (i32.load (i32.const 620)) (i32.add
             (i32.mul (i32.load8_u (i32.const 3242)) (i32.const 100))
             (i32.mul (i32.load (i32.const 3232)) (i32.const 1000)))))",
        42_202,
    );
}

#[test]
fn preview1_exit_is_a_trap() {
    let (ran, _) = preview1("(block (result i32) (call $exit (i32.const 0)) (i32.const 1))");
    expect_fault(ran, FaultKind::Trap, "unreachable");
}

#[test]
fn imports_are_told_by_interface() {
    let module = load(&guests::batch().wasm());
    assert_eq!(module.exports(), ["tailmill:filter/batch@1.0.0"]);
    let interfaces =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| format!("tailmill:filter/{name}@1.0.0")).collect() };
    // An answer's types stand in an interface of their own, which has no functions.
    assert_eq!(module.imports(), interfaces(&["types"]));
    assert_eq!(load(&asking("").wasm()).imports(), interfaces(&["host", "origin", "types"]));
    // Exports say which version it is; it may import of a newer one.
    let newer = asking("").text().replace("filter/batch@1.0.0", "filter/batch@1.7.2");
    let newer = load(&wat::parse_str(newer).expect("text"));
    assert_eq!(newer.exports(), ["tailmill:filter/batch@1.7.2"]);
}

#[test]
fn an_origin_before_the_first_call_is_empty() {
    let guest = asking("");
    let start_body = format!("(call $count (i32.const 512) (i32.const 3) (call $first_offset)) {}", guest.start);
    let mut instance = start(&guest.start(&start_body).wasm());
    assert_eq!(instance.take_notes().counters, [("abc".to_owned(), 0)]);
    assert_eq!(origin().first_offset, 4096);
}

//! Calls that do not come back, in every function that a filter may have.

use super::{At, Case, Stops};
use crate::guests::{self, Guest, exported};

const FOREVER: &str = "(loop $next (br $next)) unreachable";

pub(super) fn cases() -> Vec<Case> {
    let time = |name, at, guest: Guest| Case::new(name, Stops::Time, at, "it took longer than it may", guest);
    let begins = "(func $begin (loop $next (br $next))) (start $begin)";
    let around = "(func $around (result i32) (return_call $around))";
    let tree = "(func $tree (param i32) (result i32) (if (result i32) (local.get 0) (then
        (i32.add (call $tree (i32.sub (local.get 0) (i32.const 1))) (call $tree (i32.sub (local.get 0) (i32.const 1)))))
        (else (i32.const 1))))";
    let of_host = |name: &str, params: &str| {
        format!("(import \"tailmill:filter/host@1.0.0\" \"{name}\" (func $host (param {params})))")
    };
    let clock = r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))"#;
    let repeat = |body: &str| format!("(loop $next {body} (br $next)) unreachable");
    let mut cases = vec![
        time("loops in run", At::Run, guests::batch().run(FOREVER)),
        time("loops in run, on a line", At::Run, guests::line().run(FOREVER)),
        time("loops in start", At::Start, guests::batch().start(FOREVER)),
        time("loops in start, in the line world", At::Start, guests::line().start(FOREVER)),
        time("loops in cabi_realloc", At::Start, guests::batch().on_realloc(FOREVER)),
        time("loops in cabi_realloc, in the line world", At::Start, guests::line().on_realloc(FOREVER)),
        time("loops while it is instantiated", At::Start, guests::batch().more(begins)),
        time("calls around for ever by tail calls", At::Run, guests::batch().run("(call $around)").more(around)),
        time(
            "calls a tree of functions, 60 deep",
            At::Run,
            guests::batch().run("(call $tree (i32.const 60))").more(tree),
        ),
        time(
            "fills its memory for ever",
            At::Run,
            guests::batch().run(&repeat("(memory.fill (i32.const 0) (i32.const 1) (i32.const 131072))")),
        ),
        time(
            "copies its memory for ever",
            At::Run,
            guests::line().run(&repeat("(memory.copy (i32.const 0) (i32.const 1) (i32.const 131071))")),
        ),
        time(
            "fills a table for ever",
            At::Run,
            guests::batch()
                .more("(table $t 900 funcref)")
                .run(&repeat("(table.fill $t (i32.const 0) (ref.null func) (i32.const 900))")),
        ),
        time(
            "asks in vain for memory, for ever",
            At::Run,
            guests::batch().run(&repeat("(drop (memory.grow (i32.const 60000)))")),
        ),
        time(
            "logs for ever",
            At::Run,
            guests::batch()
                .imports(&of_host("log", "i32 i32 i32"))
                .run(&repeat("(call $host (i32.const 3) (i32.const 0) (i32.const 65536))")),
        ),
        time(
            "prints for ever",
            At::Run,
            guests::line()
                .imports(&of_host("print", "i32 i32 i32"))
                .run(&repeat("(call $host (i32.const 1) (i32.const 0) (i32.const 1))")),
        ),
        time(
            "counts for ever, another name each time",
            At::Run,
            guests::batch().imports(&of_host("count", "i32 i32 i64")).run(&repeat(
                "(i32.store (i32.const 700) (i32.add (i32.load (i32.const 700)) (i32.const 1)))
                 (call $host (i32.const 700) (i32.const 4) (i64.const 1))",
            )),
        ),
        time(
            "waits for WASI's clock",
            At::Run,
            guests::batch()
                .imports(clock)
                .run(&repeat("(drop (call $clock (i32.const 1) (i64.const 1) (i32.const 700)))")),
        ),
        time(
            "divides for ever",
            At::Run,
            guests::line().run(&repeat("(drop (i64.div_u (i64.const -1) (i64.const 3)))")),
        ),
    ];
    let after = || {
        let text = guests::batch().text().replace("(global.set $heap (i32.const 65536))", "(loop $next (br $next))");
        wat::parse_str(text).expect("text")
    };
    cases.push(Case::made("loops behind its answer", Stops::Time, At::Run, "it took longer than it may", after));
    for (name, at, interface, function) in [
        ("loops in every-ms", At::Asked, "ticks", "every-ms"),
        ("loops in tick", At::Later, "ticks", "tick"),
        ("loops in flush", At::Later, "finish", "flush"),
        ("loops in save", At::Later, "state", "save"),
        ("loops in load", At::Later, "state", "load"),
    ] {
        cases.push(time(name, at, optional(interface, function, FOREVER)));
    }
    cases
}

/// A batch filter with every optional interface, one function of which does this.
pub(super) fn optional(interface: &str, function: &str, does: &str) -> Guest {
    let others = [
        ("ticks", "every-ms", "(result i32)", "(i32.const 5)"),
        ("ticks", "tick", "(result i32)", "(i32.const 704)"),
        ("finish", "flush", "(result i32)", "(i32.const 704)"),
        ("state", "save", "(result i32)", "(i32.const 704)"),
        ("state", "load", "(param i32 i32) (result i32)", "(i32.const 704)"),
    ];
    let all = others.map(|(of, name, signature, body)| {
        exported(of, name, signature, if (of, name) == (interface, function) { does } else { body })
    });
    guests::batch().more(&all.concat())
}

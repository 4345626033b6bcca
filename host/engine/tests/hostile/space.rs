//! Greed: for memory, for table elements, for stack, for the host's memory by way of an answer, and for time by way of held lines.

use super::time::optional;
use super::{At, Case, Stops};
use crate::guests::{self, Answer, Column, Guest, List, Output, bytes, emits, two_lines, u32s};

/// 16 MiB more, and written to, until there is no more.
const BOMB: &str = "(loop $next
    (if (i32.eq (memory.grow (i32.const 256)) (i32.const -1)) (then unreachable))
    (memory.fill (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 0x1000000)) (i32.const 1) (i32.const 0x1000000))
    (br $next)) unreachable";
/// Calls itself, and has something to do afterwards.
const DEEP: &str = "(func $deep (result i32) (i32.add (i32.const 1) (call $deep)))";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = memory();
    cases.extend(tables());
    cases.extend(stack());
    cases.extend(answers());
    cases
}

fn memory() -> Vec<Case> {
    let memory = |name, at, guest: Guest| Case::new(name, Stops::Memory, at, "of memory and may have", guest);
    let touched = "(memory.fill (i32.const 0x100000) (i32.const 1) (i32.const 0x20000000)) (i32.const 1024)";
    // Each small, together much.
    let others = "(memory $m1 2048) (memory $m2 2048) (memory $m3 2048)";
    let fills = (1..=3)
        .map(|i| format!("(memory.fill $m{i} (i32.const 0) (i32.const 1) (i32.const 0x8000000))"))
        .collect::<String>();
    let begins = format!("(func $begin {BOMB}) (start $begin)");
    vec![
        memory("eats memory in run", At::Run, guests::batch().run(BOMB)),
        memory("eats memory in run, on a line", At::Run, guests::line().run(BOMB)),
        memory("eats memory in start", At::Start, guests::batch().start(BOMB)),
        memory("eats memory in cabi_realloc", At::Start, guests::batch().on_realloc(BOMB)),
        memory("eats memory while it is instantiated", At::Start, guests::batch().more(&begins)),
        memory("eats memory in tick", At::Later, optional("ticks", "tick", BOMB)),
        memory("eats memory in save", At::Later, optional("state", "save", BOMB)),
        memory("has 4 GiB from the beginning", At::Start, guests::batch().memory("65535").run(touched)),
        memory(
            "has several memories",
            At::Start,
            guests::batch().more(others).run(&format!("{fills} (i32.const 1024)")),
        ),
    ]
}

fn tables() -> Vec<Case> {
    let tables = |name, at, guest: Guest| Case::new(name, Stops::Tables, at, "table elements and may have", guest);
    let names = "(func $it) (elem declare func $it)";
    let grow = "(loop $next
        (if (i32.eq (table.grow $t (ref.func $it) (i32.const 1000000)) (i32.const -1)) (then unreachable))
        (br $next)) unreachable";
    let fill = |t: usize| format!("(table.fill $t{t} (i32.const 0) (ref.func $it) (i32.const 9000000))");
    let several: String = (0..5).map(|t| format!("(table $t{t} 9000000 funcref)")).collect();
    let fills: String = (0..5).map(fill).collect();
    vec![
        tables(
            "has a giant table",
            At::Start,
            guests::batch()
                .more(&format!("(table $t 60000000 funcref) {names}"))
                .run("(table.fill $t (i32.const 0) (ref.func $it) (i32.const 60000000)) (i32.const 1024)"),
        ),
        tables("lets a table grow", At::Run, guests::line().more(&format!("(table $t 1 funcref) {names}")).run(grow)),
        tables(
            "has several large tables",
            At::Start,
            guests::batch().more(&format!("{several} {names}")).run(&format!("{fills} (i32.const 1024)")),
        ),
    ]
}

fn stack() -> Vec<Case> {
    let stack = |name, at, guest: Guest| Case::new(name, Stops::Stack, at, "call stack exhausted", guest);
    let two = "(func $ping (result i32) (i32.add (i32.const 1) (call $pong)))
        (func $pong (result i32) (i32.add (i32.const 2) (call $ping)))";
    let indirect = "(type $f (func (result i32))) (table $t 1 funcref) (elem (i32.const 0) $again)
        (func $again (result i32) (i32.add (i32.const 1) (call_indirect $t (type $f) (i32.const 0))))";
    let sum: String = (0..100).map(|i| format!("(local.get {i})")).collect::<String>() + &"(i64.add)".repeat(99);
    let sets: String = (0..100).map(|i| format!("(local.set {i} (call $next))")).collect();
    let wide = format!(
        "(global $n (mut i64) (i64.const 0))
         (func $next (result i64) (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n))
         (func $wide (result i64) (local {}) {sets} (drop (call $wide)) {sum})",
        "i64 ".repeat(100)
    );
    vec![
        stack("recurses in run", At::Run, guests::batch().run("(call $deep)").more(DEEP)),
        stack("recurses in run, on a line", At::Run, guests::line().run("(call $deep)").more(DEEP)),
        stack("recurses in start", At::Start, guests::batch().start("(call $deep)").more(DEEP)),
        stack("recurses in cabi_realloc", At::Start, guests::batch().on_realloc("(drop (call $deep))").more(DEEP)),
        stack(
            "recurses while it is instantiated",
            At::Start,
            guests::batch().more(&format!("{DEEP} (func $begin (drop (call $deep))) (start $begin)")),
        ),
        stack("has two functions that call each other", At::Run, guests::batch().run("(call $ping)").more(two)),
        stack("calls itself through a table", At::Run, guests::batch().run("(call $again)").more(indirect)),
        stack("recurses with large frames", At::Run, guests::line().run("(i32.wrap_i64 (call $wide))").more(&wide)),
        stack("recurses in flush", At::Later, optional("finish", "flush", "(call $deep)").more(DEEP)),
    ]
}

fn answers() -> Vec<Case> {
    let output = |name, guest: Guest| Case::new(name, Stops::Output, At::Run, "", guest);
    let megabyte = || List::Claim(0, 1 << 20);
    let shared = vec![(bytes(b"n"), Column { data: megabyte(), ends: u32s(&[0, 0]), ..Column::default() }); 1_000];
    let named = vec![(List::Claim(1 << 20, 1 << 20), Column { ends: u32s(&[0, 0]), ..Column::default() }); 1_000];
    let with = |headers| guests::batch().memory("32").answers(&emits(Output { headers, ..two_lines() }));
    // Replaces each line by its whole memory.
    let mut replaces = guests::line().memory("32");
    let mut verdict = [0; 16];
    verdict[4] = 2;
    verdict[12..].copy_from_slice(&(1u32 << 20).to_le_bytes());
    let place = replaces.image.place(&verdict);
    let replaces = replaces.run(&format!("(i32.const {place})"));
    let holds = Answer { held: Some(10), ..Answer::default() };
    let mut cases = vec![
        output("answers with the same megabyte a thousand times", with(shared)),
        output("answers with names that are the same megabyte", with(named)),
        Case { lines: 1_000, ..output("replaces each line by a megabyte", replaces) },
    ];
    cases.push(Case {
        lines: 200,
        ..Case::new(
            "holds its first line for ever",
            Stops::Held,
            At::Run,
            "lines back and may hold",
            guests::batch().answers(&holds),
        )
    });
    cases
}

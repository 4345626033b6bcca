//! Small modules in WebAssembly text, good and bad. Answers lie at 1024 and 2048, what the host passes in from 65536 on.

const LINE: &str = "tailmill:filter/line@1.0.0";
const BATCH: &str = "tailmill:filter/batch@1.0.0";
const LINE_RUN: &str = "(param $data i32) (param $len i32) (result i32)";
const BATCH_RUN: &str = "(param $first i64) (param $data i32) (param $len i32) (param $starts i32) (param $starts_len i32) (param i32 i32) (result i32)";
/// Traits that say stateless, and nothing else.
const STATELESS: &str = "(i32.store8 offset=4 (i32.const 3072) (i32.const 1)) (return (i32.const 3072))";
/// A mask of all lines at 2048, in the answer at 1024.
const KEEP_MASK: &str = "
    (memory.fill (i32.const 2048) (i32.const 255) (i32.const 600))
    (i32.store8 offset=8 (i32.const 1024) (i32.const 2))
    (i32.store offset=12 (i32.const 1024) (i32.const 2048))
    (i32.store offset=16 (i32.const 1024)
        (i32.div_u (i32.add (i32.div_u (local.get $starts_len) (i32.const 4)) (i32.const 7)) (i32.const 8)))";

fn module(before: &str, world: &str, signature: &str, start: &str, run: &str, more: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            {before}
            (memory (export "memory") 34 40)
            (global $next (mut i32) (i32.const 65536))
            (global $seen (mut i32) (i32.const 0))
            (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and
                    (i32.sub (i32.add (global.get $next) (local.get $align)) (i32.const 1))
                    (i32.sub (i32.const 0) (local.get $align))))
                (global.set $next (i32.add (local.get $at) (local.get $size)))
                (local.get $at))
            (func (export "{world}#start") (param $data i32) (param $len i32) (result i32)
                (global.set $next (i32.const 65536))
                {start}
                (i32.const 3072))
            (func (export "{world}#run") {signature} (local $c i32)
                (global.set $next (i32.const 65536))
                {run}
                (i32.const 1024))
            {more})"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn line_world(start: &str, run: &str, more: &str) -> Vec<u8> {
    module("", LINE, LINE_RUN, start, run, more)
}

fn batch_world(start: &str, run: &str, more: &str) -> Vec<u8> {
    module("", BATCH, BATCH_RUN, start, run, more)
}

/// Keeps every line.
pub(crate) fn keep() -> Vec<u8> {
    line_world("", "", "")
}

/// By a line's first byte: `d` drops, `u` replaces by `new`, `x` traps, `e` refuses with `why`; else keeps.
pub(crate) fn judge() -> Vec<u8> {
    let run = "
        (if (local.get $len) (then (local.set $c (i32.load8_u (local.get $data)))))
        (if (i32.eq (local.get $c) (i32.const 0x78)) (then unreachable))
        (if (i32.eq (local.get $c) (i32.const 0x64)) (then (return (i32.const 32))))
        (if (i32.eq (local.get $c) (i32.const 0x65)) (then (return (i32.const 64))))
        (if (i32.eq (local.get $c) (i32.const 0x75)) (then (return (i32.const 96))))";
    let answers = r#"
        (data (i32.const 32) "\00\00\00\00\01\00\00\00")
        (data (i32.const 64) "\01\00\00\00\80\00\00\00\03\00\00\00")
        (data (i32.const 96) "\00\00\00\00\02\00\00\00\84\00\00\00\03\00\00\00")
        (data (i32.const 128) "why\00new")"#;
    line_world("", run, answers)
}

/// Refuses every line that is not empty.
pub(crate) fn refuses() -> Vec<u8> {
    let answer = r#"(data (i32.const 64) "\01\00\00\00\80\00\00\00\02\00\00\00") (data (i32.const 128) "no")"#;
    line_world("", "(if (local.get $len) (then (return (i32.const 64))))", answer)
}

/// Does not start with any configuration.
pub(crate) fn picky() -> Vec<u8> {
    let answer =
        r#"(data (i32.const 64) "\01\00\00\00\80\00\00\00\0d\00\00\00") (data (i32.const 128) "not like this")"#;
    line_world("(return (i32.const 64))", "", answer)
}

/// Writes `hi` to standard output on every line, by way of WASI preview 1.
pub(crate) fn prints() -> Vec<u8> {
    let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
    let run = "(drop (call $write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 220)))";
    let data = r#"(data (i32.const 200) "\d8\00\00\00\03\00\00\00") (data (i32.const 216) "hi\0a")"#;
    module(import, LINE, LINE_RUN, "", run, data)
}

/// Stateless; keeps lines that hold `err`, by needles alone.
pub(crate) fn needles() -> Vec<u8> {
    let traits = r#"
        (data (i32.const 3076) "\01\00\00\00\20\0c\00\00\01\00\00\00")
        (data (i32.const 3104) "\30\0c\00\00\03\00\00\00")
        (data (i32.const 3120) "err")"#;
    batch_world("", "", traits)
}

/// Drops the first line of each batch: its answers depend on how lines are cut.
pub(crate) fn drops_the_first_of_a_batch() -> Vec<u8> {
    batch_world("", &format!("{KEEP_MASK} (i32.store8 (i32.const 2048) (i32.const 254))"), "")
}

/// Drops the first line that an instance ever sees, and says that it is stateless.
pub(crate) fn says_stateless_and_drops_its_first_line() -> Vec<u8> {
    let first = "(if (i32.eqz (global.get $seen)) (then (i32.store8 (i32.const 2048) (i32.const 254))))";
    batch_world(STATELESS, &format!("{KEEP_MASK} {first} (global.set $seen (i32.const 1))"), "")
}

/// Drops all lines when anything lies before the first one.
pub(crate) fn keeps_when_it_begins_at_0() -> Vec<u8> {
    let run = "(i32.store8 offset=8 (i32.const 1024) (i32.ne (i32.load (local.get $starts)) (i32.const 0)))";
    batch_world("", run, "")
}

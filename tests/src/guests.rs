//! Small modules written by hand: ones that behave and ones that do not. Core modules; the agent wraps them.
//!
//! Memory of each: answers at 1024, what the host passes in from 65536 on (nothing of it outlives a call).

const LINE: &str = "tailmill:filter/line@1.0.0";
const BATCH: &str = "tailmill:filter/batch@1.0.0";
const BATCH_RUN: &str = "(param $first i64) (param $data i32) (param $len i32) (param i32 i32 i32 i32) (result i32)";

/// A module of the line world with this body of `run`; `$data` and `$len` are the line. The answer is what lies at 1024
/// (`{ok: 0, 4: verdict keep 0 | drop 1 | replace 2, 8: pointer, 12: length}`), all zeros (keep) at first.
pub fn line_world(run: &str) -> Vec<u8> {
    line_world_starting(run, "")
}

/// The same with a body of `start`.
pub fn line_world_starting(run: &str, start: &str) -> Vec<u8> {
    let signature = "(param $data i32) (param $len i32) (result i32)";
    module(LINE, signature, run, start)
}

/// A module of the batch world with this body of `run`. The answer is what lies at 1024 (`{ok: 0, 8: outcome keep-all 0 |
/// drop-all 1 | keep 2 | emit 3, 12: pointer, 16: length of the mask}`), all zeros (keep all, hold nothing) at first.
pub fn batch_world(run: &str) -> Vec<u8> {
    module(BATCH, BATCH_RUN, run, "")
}

/// A module of the line world that says of which file a line is, in its place: the inode and the number of the batch's first
/// line in 8 bytes each, and the generation.
pub fn says_origin() -> Vec<u8> {
    let imports = r#"
        (import "tailmill:filter/origin@1.1.0" "inode" (func $inode (result i64)))
        (import "tailmill:filter/origin@1.1.0" "first-line" (func $first_line (result i64)))
        (import "tailmill:filter/origin@1.1.0" "generation" (func $generation (param i32)))"#;
    let run = "(i64.store (i32.const 2048) (call $inode))
        (i64.store (i32.const 2056) (call $first_line))
        (call $generation (i32.const 1032))
        (memory.copy (i32.const 2064) (i32.load (i32.const 1032)) (i32.load (i32.const 1036)))
        (i32.store (i32.const 1036) (i32.add (i32.const 16) (i32.load (i32.const 1036))))
        (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store8 (i32.const 1028) (i32.const 2))";
    module_with(imports, LINE, "(param $data i32) (param $len i32) (result i32)", run, "", "")
}

/// A module of the line world that wants something which no filter is given.
pub fn importing(from: &str, name: &str) -> Vec<u8> {
    let signature = "(param $data i32) (param $len i32) (result i32)";
    module_with(&format!("(import \"{from}\" \"{name}\" (func))"), LINE, signature, "", "", "")
}

/// A module of the batch world that drops every line and holds the first one, until its tick comes, if it has any: then it
/// lets go.
pub fn holder(tick_every_ms: Option<u32>) -> Vec<u8> {
    holding(tick_every_ms, "")
}

/// The same; its tick sends the line `late` on in place of what it held.
pub fn late(tick_every_ms: u32) -> Vec<u8> {
    let tick = r#"
        (i32.store8 offset=8 (i32.const 2048) (i64.ne (global.get $held) (i64.const -1)))
        (i32.store (i32.const 3072) (i32.const 0x6574616c))
        (i32.store offset=12 (i32.const 2048) (i32.const 3072))
        (i32.store offset=16 (i32.const 2048) (i32.const 4))
        (i32.store offset=20 (i32.const 2048) (i32.const 3080))
        (i32.store offset=24 (i32.const 2048) (i32.const 4))
        (i32.store (i32.const 3084) (i32.const 4))
        (i32.store offset=28 (i32.const 2048) (i32.const 3084))
        (i32.store offset=32 (i32.const 2048) (i32.const 4))
        (i64.store (i32.const 3088) (global.get $held))
        (i32.store offset=36 (i32.const 2048) (i32.const 3088))
        (i32.store offset=40 (i32.const 2048) (i32.const 8))"#;
    holding(Some(tick_every_ms), tick)
}

fn holding(tick_every_ms: Option<u32>, tick: &str) -> Vec<u8> {
    let ticks = tick_every_ms.map(|every| {
        format!(
            r#"(func (export "tailmill:filter/ticks@1.0.0#every-ms") (result i32) (i32.const {every}))
               (func (export "tailmill:filter/ticks@1.0.0#tick") (result i32)
                   {tick}
                   (global.set $held (i64.const -1))
                   (i32.const 2048))"#
        )
    });
    let run = "(if (i64.eq (global.get $held) (i64.const -1)) (then (global.set $held (local.get $first))))
        (i32.store8 offset=8 (i32.const 1024) (i32.const 1))
        (i32.store8 offset=96 (i32.const 1024) (i32.const 1))
        (i64.store offset=104 (i32.const 1024) (global.get $held))";
    let more = format!("(global $held (mut i64) (i64.const -1)) {}", ticks.unwrap_or_default());
    module_with("", BATCH, BATCH_RUN, run, "", &more)
}

/// A module of the batch world that keeps every line and has a state, an empty one.
pub fn remembers() -> Vec<u8> {
    let state = r#"
        (func (export "tailmill:filter/state@1.0.0#save") (result i32) (i32.const 3072))
        (func (export "tailmill:filter/state@1.0.0#load") (param i32 i32) (result i32) (i32.const 3072))"#;
    module_with("", BATCH, BATCH_RUN, "", "", state)
}

/// A module of the line world that puts a number in place of each line, in 8 bytes: how many it has seen before. That is its
/// state. Versions differ in their digests only.
pub fn counts(version: u32) -> Vec<u8> {
    counting(version, "")
}

/// The same; it does not take over a state.
pub fn counts_for_itself(version: u32) -> Vec<u8> {
    counting(version, "unreachable")
}

fn counting(version: u32, before_load: &str) -> Vec<u8> {
    let run = "(i64.store (i32.const 2048) (global.get $seen))
        (global.set $seen (i64.add (global.get $seen) (i64.const 1)))
        (i32.store8 (i32.const 1028) (i32.const 2))
        (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store (i32.const 1036) (i32.const 8))";
    let state = r#"
        (data (i32.const 4096) "VERSION")
        (global $seen (mut i64) (i64.const 0))
        (func (export "tailmill:filter/state@1.0.0#save") (result i32)
            (i64.store (i32.const 2056) (global.get $seen))
            (i32.store (i32.const 3076) (i32.const 2056))
            (i32.store (i32.const 3080) (i32.const 8))
            (i32.const 3072))
        (func (export "tailmill:filter/state@1.0.0#load") (param $state i32) (param i32) (result i32)
            LOADING
            (global.set $seen (i64.load (local.get $state)))
            (i32.const 3200))"#;
    let state = state.replace("VERSION", &version.to_string()).replace("LOADING", before_load);
    module_with("", LINE, "(param $data i32) (param $len i32) (result i32)", run, "", &state)
}

/// A module of the batch world that takes memory until it gets no more, writes to all of it, and crashes.
pub fn swells() -> Vec<u8> {
    batch_world(
        "(loop $more
            (local.set $i (memory.grow (i32.const 16)))
            (if (i32.eq (local.get $i) (i32.const -1)) (then unreachable))
            (memory.fill (i32.mul (local.get $i) (i32.const 65536)) (i32.const 1) (i32.const 1048576))
            (br $more))",
    )
}

/// A module of the batch world that keeps every line and counts to `steps` first, in every call.
pub fn burns(steps: u32) -> Vec<u8> {
    batch_world(&format!(
        "(loop $next
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (i32.const {steps}))))"
    ))
}

fn module(interface: &str, run_signature: &str, run: &str, start: &str) -> Vec<u8> {
    module_with("", interface, run_signature, run, start, "")
}

fn module_with(import: &str, interface: &str, run_signature: &str, run: &str, start: &str, more: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            {import}
            (memory (export "memory") 34)
            (global $next (mut i32) (i32.const 65536))
            (func (export "cabi_realloc") (param $old i32) (param i32) (param $align i32) (param $size i32) (result i32)
                (local $at i32)
                (local.set $at
                    (i32.and
                        (i32.sub (i32.add (global.get $next) (local.get $align)) (i32.const 1))
                        (i32.sub (i32.const 0) (local.get $align))))
                (global.set $next (i32.add (local.get $at) (local.get $size)))
                (local.get $at))
            (func $forget (global.set $next (i32.const 65536)))
            (func (export "{interface}#start") (param i32 i32) (result i32)
                (call $forget)
                {start}
                (i32.const 1024))
            (func $run (export "{interface}#run") {run_signature}
                (local $i i32)
                (call $forget)
                {run}
                (i32.const 1024))
            {more})"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Keeps every line.
pub fn keep() -> Vec<u8> {
    line_world("")
}

/// Drops every line.
pub fn drop_all() -> Vec<u8> {
    line_world("(i32.store8 offset=4 (i32.const 1024) (i32.const 1))")
}

/// Modules that do harm on every call, by what they do.
pub fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let never = "(loop $again (br $again))";
    let eat = "(loop $again
        (drop (memory.grow (i32.const 16)))
        (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536))
        (br_if $again (i32.lt_u (memory.size) (i32.const 60000)))
        (br $again))";
    vec![
        ("loops", line_world(never)),
        ("loops in a batch", batch_world(never)),
        ("leaks and loops", line_world(eat)),
        (
            "leaks and crashes",
            line_world("(if (i32.eq (memory.grow (i32.const 1024)) (i32.const -1)) (then unreachable))"),
        ),
        ("crashes", line_world("unreachable")),
        ("crashes in a batch", batch_world("unreachable")),
        ("recurses", line_world("(drop (call $run (local.get $data) (local.get $len)))")),
        (
            "lies about where its answer lies",
            line_world(
                "(i32.store8 offset=4 (i32.const 1024) (i32.const 2))
                 (i32.store offset=8 (i32.const 1024) (i32.const -65536))
                 (i32.store offset=12 (i32.const 1024) (i32.const 65535))",
            ),
        ),
        (
            "answers with all of its memory",
            line_world(
                "(drop (memory.grow (i32.const 900)))
                 (i32.store8 offset=4 (i32.const 1024) (i32.const 2))
                 (i32.store offset=12 (i32.const 1024) (i32.shl (memory.size) (i32.const 16)))",
            ),
        ),
        ("gives a verdict that there is not", line_world("(i32.store8 offset=4 (i32.const 1024) (i32.const 77))")),
        (
            "gives a mask that is too short",
            batch_world(
                "(i32.store8 offset=8 (i32.const 1024) (i32.const 2)) (i32.store offset=12 (i32.const 1024) (i32.const 2048))",
            ),
        ),
        (
            "gives an error that is no text",
            line_world(
                "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store offset=8 (i32.const 1024) (i32.const 4096))",
            ),
        ),
    ]
}

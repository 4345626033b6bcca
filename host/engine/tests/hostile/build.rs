//! Modules that a compiler does not get done with. Each breaks one bound of what a module may be, or the limits of the compile
//! child.

use super::{At, Case, Stops};
use crate::guests;

pub(super) fn cases() -> Vec<Case> {
    let big = |name, stops, says, more: fn() -> String| {
        Case::made(name, stops, At::Load, says, move || guests::batch().more(&more()).wasm())
    };
    vec![
        big("has 200,000 functions", Stops::Functions, "number of functions of", || {
            "(func (result i32) (i32.add (i32.load (i32.const 4)) (i32.load (i32.const 8))))".repeat(200_000)
        }),
        big("has a function of 2 MB", Stops::BodyBytes, "size of a function in bytes of", || {
            let step = "(local.set 0 (i64.add (i64.load (i32.wrap_i64 (local.get 1))) (local.get 0)))
                (local.set 1 (i64.xor (local.get 0) (local.get 1)))";
            func(2, &step.repeat(100_000))
        }),
        big("has loops that are 3,000 deep", Stops::LoopNesting, "nesting of loops in a function of", || {
            loops(1_500, 3_000)
        }),
        big("has 20,000 locals in loops", Stops::Locals, "number of locals of a function of", || loops(20_000, 300)),
        big("keeps a compiler busy", Stops::CompileTime, "compiling it took too much time", bomb),
        big("makes a compiler large", Stops::CompileMemory, "compiling it took too much memory", bomb),
    ]
}

fn func(locals: usize, body: &str) -> String {
    format!("(func (local {}) {body})", "i64 ".repeat(locals))
}

/// All locals change inside of all loops.
fn loops(locals: usize, depth: usize) -> String {
    let changes: String = (0..locals)
        .map(|i| format!("(local.set {i} (i64.add (local.get {i}) (local.get {})))", (i + 1) % locals))
        .collect();
    func(locals, &format!("{}{changes}{}", "(loop ".repeat(depth), "(br_if 0 (i64.eqz (local.get 5))))".repeat(depth)))
}

/// Inside of every bound.
fn bomb() -> String {
    loops(1_000, 400).repeat(20)
}

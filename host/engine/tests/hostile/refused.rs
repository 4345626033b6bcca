//! What is refused by any host, or runs and gets nothing: there is no limit to take away, so no harm to be seen, and these do
//! not count as hostile cases. Compressed modules are none yet: the agent takes `.wasm` only.

use super::{At, Case, Stops};
use crate::guests;

pub(super) fn cases() -> Vec<Case> {
    let refused = |name, says, wasm: fn() -> Vec<u8>| Case::made(name, Stops::Always, At::Load, says, wasm);
    let wants = |name, from: &'static str, function: &'static str| {
        Case::made(name, Stops::Always, At::Load, "which a filter does not get", move || {
            guests::batch()
                .imports(&format!("(import \"{from}\" \"{function}\" (func (param i32) (result i32)))"))
                .wasm()
        })
    };
    // Traps when it gets what it asks for.
    let asks = |name, function: &str, params: &str, arguments: &str| {
        let import =
            format!("(import \"wasi_snapshot_preview1\" \"{function}\" (func $ask (param {params}) (result i32)))");
        let guest = guests::batch().imports(&import);
        let run = format!("(if (i32.eqz (call $ask {arguments})) (then unreachable)) {}", guest.run);
        let guest = guest.run(&run);
        Case::new(name, Stops::Always, At::Denied, "", guest)
    };
    let zero = |n: usize| "(i32.const 0) ".repeat(n);
    vec![
        refused("is empty", "it is empty", Vec::new),
        refused("is text", "does not start with \\0asm", || b"#!/bin/sh\nrm -rf /\n".to_vec()),
        refused("is a program for this machine", "does not start with \\0asm", || {
            std::fs::read("/proc/self/exe").map_or_else(
                |_| b"\x7fELF".to_vec(),
                |mut all| {
                    all.truncate(1 << 20);
                    all
                },
            )
        }),
        refused("is half a module", "not a WebAssembly module", || {
            let mut wasm = guests::batch().wasm();
            wasm.truncate(wasm.len() / 2);
            wasm
        }),
        refused("is random bytes behind the right head", "not a WebAssembly module", || {
            let mut state = 7u32;
            let mut random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            b"\0asm\x01\0\0\0".iter().copied().chain((0..4_096).map(|_| random() | 0x80)).collect()
        }),
        refused("claims a section of 4 GiB", "not a WebAssembly module", || {
            b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec()
        }),
        refused("is of no world", "not a filter: it exports main", || {
            wat::parse_str("(module (func (export \"main\")))").expect("text")
        }),
        refused("does not validate", "type mismatch", || {
            guests::batch().more("(func (result i32) (i64.const 1))").wasm()
        }),
        wants("imports a socket", "env", "socket"),
        wants("imports a file", "env", "open"),
        wants("imports threads", "wasi", "thread-spawn"),
        asks(
            "opens a file",
            "path_open",
            "i32 i32 i32 i32 i32 i64 i64 i32 i32",
            &format!("(i32.const 3) {}(i64.const 0) (i64.const 0) {}", zero(4), zero(2)),
        ),
        asks("sends to a socket", "sock_send", "i32 i32 i32 i32 i32", &zero(5)),
        asks(
            "reads a file descriptor",
            "fd_read",
            "i32 i32 i32 i32",
            "(i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0)",
        ),
    ]
}

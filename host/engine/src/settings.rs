//! The one set of wasmtime settings, shared by the agent and its compile child: compiled code fits only the same settings.

use wasmtime::{Config, InstanceAllocationStrategy, OptLevel};

/// Stack of a guest. The threads that call filters need this and some 256 KiB for the host on top: Rust's 2 MiB are plenty.
pub const STACK_BYTES: usize = 512 << 10;

/// Made the same way in every process of an agent. `counts`: the code counts what it executes, for the workbench.
pub(crate) fn config(counts: bool, stack_bytes: usize) -> Config {
    let mut config = Config::new();
    // Calls are synchronous, on the thread that owns the stream; a looping guest is stopped by epochs.
    config.concurrency_support(false).epoch_interruption(true).max_wasm_stack(stack_bytes);
    config.consume_fuel(counts);
    // On demand, not pooled. There are few instances at a time (one a shard for a stateless filter, parked streams have
    // none), so a pool would save some 16 µs a fault, and would have to be sized for the largest module there may ever
    // be: QuickJS has 3 memories and 3 tables, and a full pool refuses good filters.
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand).memory_init_cow(true);
    config.cranelift_opt_level(OptLevel::Speed);
    // Function names in a trap's message come without it; it would make the cached code a third larger.
    config.generate_address_map(false);
    // What no filter toolchain asks for is a surface less.
    config.wasm_memory64(false).wasm_wide_arithmetic(false).relaxed_simd_deterministic(true);
    config
}

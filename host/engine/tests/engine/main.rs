//! Tests of the engine through its public interface. Guests are written as WebAssembly text (`guests`), so no toolchain is
//! needed. One binary: linking wasmtime takes long.

mod guests; // how a guest is written
mod support; // engines, limits, lines

mod answers; // what comes out of both lanes
mod broken; // answers that do not add up
mod cache; // compile child and cache
#[path = "../hostile/mod.rs"]
mod corpus; // guests that mean harm, as data
mod frozen; // modules of version 1 of the contract
mod holding; // lines held back, ticks, flush, state
mod generated; // random modules and answers
mod hostile; // each case of the corpus with its limit and without
mod limits; // each limit obeyed and violated
mod loading; // what may be loaded and what not
mod needles; // lines that never enter wasm
mod scripted; // random answers against an oracle
mod surroundings; // host, origin, WASI
mod tools; // what only the workbench asks of an engine

//! The only place where native code comes in. Everything else in this crate is safe Rust.

use wasmtime::Engine;
use wasmtime::component::Component;

/// A component from what [`Engine::precompile_component`] made.
///
/// `compiled` must come straight from our own compile child or from our own cache, which has checked owner, mode and
/// checksum: this is code that will run as ourselves. Never from outside.
#[allow(unsafe_code)]
pub(crate) fn component(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes were serialized by wasmtime in a child of ours, with the settings of this engine, and did not change
    // since: the only callers are `Engine::load` with the child's answer and with a file that `cache` believes.
    unsafe { Component::deserialize(engine, compiled) }
}

//! wasmtime behind a narrow door: module bytes and limits in, verdicts on batches of lines out.
//!
//! This crate never knows files, topics, config formats, Kafka or etcd. It spawns no threads: whoever owns it calls
//! [`Engine::tick_epoch`] at a steady pace. It never trusts a guest: every answer is checked before it is handed out.
//!
//! In reading order:

pub mod answer; // what a filter said, checked
pub mod limits; // what a filter may use

pub use answer::{Answer, Column, Fault, FaultKind, Header, Lines, Mask, Outcome, Output, Released, Traits, World};
pub use limits::Limits;

mod digest;
mod surroundings; // what a filter may ask, and what it said
pub use digest::{Digest, NotADigest};
pub use surroundings::{HostNotes, Origin, Surroundings};

mod compile; // in a child process, under limits
mod engine; // bytes -> module
mod error;
mod instance; // lines -> answers
mod module; // module -> instance
pub use compile::{ChildError, compile_child};
pub use engine::{CacheOptions, CompileLimits, Engine, EngineOptions};
pub use error::{EngineError, LoadError};
pub use instance::Instance;
pub use module::Module;

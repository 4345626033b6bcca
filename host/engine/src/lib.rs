//! wasmtime behind a narrow door: module bytes and limits in, verdicts on batches of lines out.
//!
//! This crate never knows files, topics, config formats, Kafka or etcd. It spawns no threads: whoever owns it calls
//! [`Engine::tick_epoch`] at a steady pace. It never trusts a guest: every answer is checked before it is handed out.
//!
//! In reading order:

#![deny(unsafe_code)] // one exception, with its proof: `native`; and what wasmtime's derives write: `wit`

pub mod answer; // what a filter said, checked
pub mod limits; // what a filter may use

pub use answer::{Answer, Column, Fault, FaultKind, Header, Lines, Mask, Outcome, Output, Released, Traits, World};
pub use limits::Limits;

mod digest;
mod error;
mod surroundings; // what a filter may ask, and what it said
pub use digest::{Digest, NotADigest};
pub use error::{EngineError, LoadError};
pub use surroundings::{HostNotes, Origin, Surroundings};

mod tools; // what only the workbench asks of an engine
pub use tools::{Counted, GuestClock};

mod engine; // bytes -> module, by way of:
mod scan; // what can be known without compiling
mod inspect; // the same for a person
mod wrap; // core module -> component
mod compile; // in a child process, under limits
mod memfile;
mod settings; // of wasmtime
mod cache; // of compiled modules
mod native; // the one unsafe line
pub use compile::{ChildError, compile_child};
pub use engine::{CacheOptions, CompileLimits, Compiled, Engine, EngineOptions};
pub use inspect::{Inspection, Size, inspect};
pub use scan::{BODY_BYTES_MAX, Bounds, FUNCTIONS_MAX, LOCALS_MAX, LOOP_NESTING_MAX, MODULE_BYTES_MAX, NESTING_MAX};
pub use settings::STACK_BYTES;
pub use wrap::wrap;

mod module; // module -> instance, by way of:
mod contract; // host and origin interfaces
mod notes; // what a guest says through them
mod wasi; // stubs without authority
mod pace; // the clock that stops calls, and its rest
mod store; // the one way a store is made
mod start;
pub use module::Module;

mod instance; // lines -> answers, by way of:
mod needles; // lines that never enter wasm
mod pack; // lines as the guest gets them
mod each_line; // the line lane
mod check; // nothing is believed
mod fault; // why a call did not come back
#[allow(unsafe_code)]
mod wit; // the contract as types
pub use instance::Instance;

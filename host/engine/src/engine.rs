//! The engine and how a module gets into it.

use crate::error::{EngineError, LoadError};
use crate::module::Module;
use std::path::PathBuf;
use std::time::Duration;

/// How an engine is made.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How often the owner promises to call [`Engine::tick_epoch`]. A call is at most this much late when it is stopped.
    pub epoch_every: Duration,
    /// Compile in a child process and keep the result. `None`: compile in this process, for tests and tools.
    pub cache: Option<CacheOptions>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions { epoch_every: Duration::from_millis(5), cache: None }
    }
}

/// Where compiled modules are kept and who compiles them.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// A private directory; made (mode 0700) when it is missing.
    pub dir: PathBuf,
    /// Run as `<compiler> compile-module`; must call [`crate::compile_child`]. The agent gives its own executable.
    pub compiler: PathBuf,
    /// What one compilation may use.
    pub limits: CompileLimits,
}

/// What one compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time, all threads together.
    pub cpu: Duration,
    /// Address space.
    pub memory_bytes: u64,
    /// Time on the clock, for a machine that is too busy or a child that hangs.
    pub wall: Duration,
}

impl CompileLimits {
    /// The largest module seen, 18 MB of Python, takes 14 s and 362 MB.
    pub const STANDARD: CompileLimits =
        CompileLimits { cpu: Duration::from_secs(60), memory_bytes: 1 << 30, wall: Duration::from_secs(90) };
}

/// wasmtime with our settings. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Makes an engine.
    pub fn new(_options: EngineOptions) -> Result<Engine, EngineError> {
        todo!()
    }

    /// To be called every `epoch_every` by a thread of the owner: without it no call is ever stopped.
    pub fn tick_epoch(&self) {
        todo!()
    }

    /// Checks, compiles (or takes from the cache) and links a component of one of the two worlds, or a core module, which is
    /// wrapped first. The digest is that of the bytes as they are given.
    pub fn load(&self, _wasm: &[u8]) -> Result<Module, LoadError> {
        todo!()
    }
}

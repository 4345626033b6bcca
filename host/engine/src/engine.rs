//! The engine and how a module gets into it: cache, or scan, compile, store; then link.

use crate::cache::Cache;
use crate::digest::Digest;
use crate::error::{EngineError, LoadError};
use crate::module::Module;
use crate::pace::Pace;
use crate::scan::Bounds;
use crate::tools::{Counted, GuestClock, Tally, Tools};
use crate::{compile, native, scan, settings, wrap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use wasmtime::component::Component;

/// How an engine is made.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How often the owner promises to call [`Engine::tick_epoch`]. A call is stopped at most this much late.
    pub epoch_every: Duration,
    /// Compile in a child process and keep the result. `None`: compile in this process, for tests and tools.
    pub cache: Option<CacheOptions>,
    /// The time that guests are told. `None`: the machine's.
    pub guest_clock: Option<GuestClock>,
    /// Count what guests execute (see [`Engine::counted`]). Code that counts is slower and fits no other engine: it is compiled in
    /// this process, whatever `cache` says.
    pub counts: bool,
    /// Instances that may live at the same time.
    pub instances_max: usize,
    /// What a module may be.
    pub bounds: Bounds,
}

/// Each instance takes some three mappings, and the kernel has an end of these (`vm.max_map_count`, 65,530): beyond it whoever
/// asks for memory next gets none, be it the host.
const INSTANCES_MAX: usize = 10_000;

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            epoch_every: Duration::from_millis(5),
            cache: None,
            guest_clock: None,
            counts: false,
            instances_max: INSTANCES_MAX,
            bounds: Bounds::STANDARD,
        }
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
    /// CPU time, all threads together. Whole seconds; a part of one counts as one.
    pub cpu: Duration,
    /// Address space.
    pub memory_bytes: u64,
    /// Time on the clock, for a machine that is too busy or a child that hangs.
    pub wall: Duration,
}

impl CompileLimits {
    /// The largest module seen, 18 MB of Python, takes 14 s of CPU and 362 MB; on a machine with much else to do that was 70 s on
    /// the clock. Bombs run into the CPU limit, so the clock can be patient.
    pub const STANDARD: CompileLimits =
        CompileLimits { cpu: Duration::from_secs(60), memory_bytes: 1 << 30, wall: Duration::from_secs(300) };
}

/// Where the compiled code of a module came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// From the cache.
    Cached,
    /// Compiled now, by a child. `not_stored`: why it could not be put into the cache; that costs the next start only.
    Now {
        /// The reason, if any.
        not_stored: Option<String>,
    },
    /// Compiled now, in this process.
    InProcess,
}

/// wasmtime with our settings. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    wasmtime: wasmtime::Engine,
    options: EngineOptions,
    cache: Option<Cache>,
    pace: Arc<Pace>,
}

impl Engine {
    /// Makes an engine. With a cache its directory is made and looked over.
    pub fn new(options: EngineOptions) -> Result<Engine, EngineError> {
        let wasmtime = wasmtime::Engine::new(&settings::config(options.counts, options.bounds.stack_bytes))
            .map_err(|error| EngineError::Wasmtime(format!("{error:#}")))?;
        let open = |cache: &CacheOptions| {
            Cache::open(&cache.dir, &wasmtime)
                .map_err(|why| EngineError::Cache { dir: cache.dir.display().to_string(), why })
        };
        let cache = options.cache.as_ref().filter(|_| !options.counts).map(open).transpose()?;
        let tools = Tools { clock: options.guest_clock.clone(), tally: options.counts.then(Tally::default) };
        let pace = Arc::new(Pace::new(tools, options.instances_max));
        Ok(Engine { shared: Arc::new(Shared { wasmtime, options, cache, pace }) })
    }

    /// The engine's clock, until `stop`: to be run by a thread of the owner, one for each engine. Without it no call is ever
    /// stopped. It rests while no call runs, and looks at `stop` four times a second then.
    pub fn run_clock(&self, stop: &AtomicBool) {
        self.shared.pace.run(self.shared.options.epoch_every, stop, || self.tick_epoch());
    }

    /// One step of the clock, for an owner that keeps the time itself: to be called every `epoch_every`.
    pub fn tick_epoch(&self) {
        self.shared.wasmtime.increment_epoch();
    }

    /// What guests have executed so far. Nothing where the engine does not count.
    pub fn counted(&self) -> Counted {
        self.shared.pace.tools.tally.as_ref().map(Tally::counted).unwrap_or_default()
    }

    /// Instances that live.
    pub fn instances(&self) -> usize {
        self.shared.pace.living()
    }

    /// How often [`Engine::tick_epoch`] is to be called.
    pub fn epoch_every(&self) -> Duration {
        self.shared.options.epoch_every
    }

    /// Checks, compiles (or takes from the cache) and links a component of one of the two worlds, or a core module, which is
    /// wrapped first. The digest is that of the bytes as they are given. Takes milliseconds, or seconds to compile: not for a
    /// thread that ships lines.
    pub fn load(&self, wasm: &[u8]) -> Result<Module, LoadError> {
        let digest = Digest::of(wasm);
        let (component, compiled) = match self.cached(&digest) {
            Some(component) => (component, Compiled::Cached),
            None => self.compile(wasm, &digest)?,
        };
        Module::link(&component, &self.shared.pace, digest, wasm.len(), compiled)
    }

    fn cached(&self, digest: &Digest) -> Option<Component> {
        let compiled = self.shared.cache.as_ref()?.get(digest)?;
        native::component(&self.shared.wasmtime, &compiled).ok()
    }

    fn compile(&self, wasm: &[u8], digest: &Digest) -> Result<(Component, Compiled), LoadError> {
        let found = wrap::seen_as_component(wasm, scan::scan(wasm, &self.shared.options.bounds)?)?;
        found.world()?;
        found.check_imports()?;
        let refused = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let (Some(cache), Some(options)) = (&self.shared.cache, &self.shared.options.cache) else {
            let component = Component::new(&self.shared.wasmtime, wrap::scanned(wasm)?).map_err(refused)?;
            return Ok((component, Compiled::InProcess));
        };
        let compiled = compile::in_child(&options.compiler, wasm, &options.limits)?;
        let component = native::component(&self.shared.wasmtime, &compiled).map_err(refused)?;
        let not_stored = cache.put(digest, &compiled).err().map(|error| error.to_string());
        Ok((component, Compiled::Now { not_stored }))
    }
}

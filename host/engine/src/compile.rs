//! Compiling in a child process, so that a compile bomb only kills the child.
//!
//! Request, on stdin: `TMC1`, CPU seconds (u64), address space in bytes (u64), then the module as it was given. Answer, on
//! stdout: `TMR1` and the compiled component. Exit code 3: it does not compile, stderr says why. Anything else, a signal
//! above all, means that the limits were hit. The child wraps core modules too: wrapping is work on untrusted bytes.

use crate::engine::CompileLimits;
use crate::error::LoadError;
use crate::{memfile, settings, wrap};
use rustix::process::{Resource, Rlimit, Signal};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const REQUEST: &[u8; 4] = b"TMC1";
const ANSWER: &[u8; 4] = b"TMR1";
/// Compiled code is two to four times as large as the module.
const COMPILED_BYTES_MAX: u64 = 1 << 30;
const MESSAGE_BYTES_MAX: u64 = 4 << 10;
/// All there is of it. Each thread and each of malloc's arenas takes address space, which is what limits memory: on a machine
/// with 64 cores the defaults alone would use it up.
const CHILD_ENVIRONMENT: [(&str, &str); 2] = [("RAYON_NUM_THREADS", "4"), ("MALLOC_ARENA_MAX", "2")];

/// Why the child gave up. Print it to stderr and exit with [`ChildError::EXIT_CODE`].
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The parent sent something else than a request.
    #[error("not a request to compile: {0}")]
    Request(String),
    /// The module does not compile.
    #[error("{0}")]
    Compile(String),
    /// The result could not be handed back.
    #[error("while handing back the compiled module: {0}")]
    Output(std::io::Error),
}

impl ChildError {
    /// What the child exits with when it gives up.
    pub const EXIT_CODE: u8 = 3;
}

/// The child's side: sets its own limits, reads a request from `stdin`, writes the compiled module to `stdout`. To be called by
/// whatever is run as `<compiler> compile-module`, before it starts threads or opens files.
pub fn compile_child(mut stdin: impl Read, mut stdout: impl Write) -> Result<(), ChildError> {
    let request = |error: std::io::Error| ChildError::Request(error.to_string());
    let mut head = [0; 20];
    stdin.read_exact(&mut head).map_err(request)?;
    let (magic, numbers) = head.split_at(4);
    if magic != REQUEST {
        return Err(ChildError::Request("it does not start with TMC1".to_owned()));
    }
    let (cpu, memory) = numbers.split_at(8);
    limit_self(number(cpu), number(memory)).map_err(|error| ChildError::Request(error.to_string()))?;
    let mut wasm = Vec::new();
    stdin.read_to_end(&mut wasm).map_err(request)?;
    let compiled = precompile(&wasm).map_err(ChildError::Compile)?;
    stdout.write_all(ANSWER).and_then(|()| stdout.write_all(&compiled)).map_err(ChildError::Output)?;
    stdout.flush().map_err(ChildError::Output)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn limit_self(cpu_s: u64, memory_bytes: u64) -> rustix::io::Result<()> {
    let hard = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Core, hard(0))?;
    rustix::process::setrlimit(Resource::As, hard(memory_bytes))?;
    rustix::process::setrlimit(Resource::Fsize, hard(COMPILED_BYTES_MAX))?;
    // The soft limit ends us by SIGXCPU, which tells the parent why; the hard one is for whoever would handle that.
    let cpu = Rlimit { current: Some(cpu_s), maximum: Some(cpu_s.saturating_add(1)) };
    rustix::process::setrlimit(Resource::Cpu, cpu)?;
    // Shards that ship lines go first; a refusal does not matter.
    let _ = rustix::process::nice(10);
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    Ok(())
}

/// Wraps and compiles in this process. The message has all causes in it.
pub(crate) fn precompile(wasm: &[u8]) -> Result<Vec<u8>, String> {
    let component = wrap::scanned(wasm).map_err(|error| match error {
        LoadError::Compile(why) => why,
        other => other.to_string(),
    })?;
    let said = |error: wasmtime::Error| format!("{error:#}");
    let engine = wasmtime::Engine::new(&settings::config(false, settings::STACK_BYTES)).map_err(said)?;
    engine.precompile_component(&component).map_err(said)
}

/// The parent's side.
pub(crate) fn in_child(compiler: &Path, wasm: &[u8], limits: &CompileLimits) -> Result<Vec<u8>, LoadError> {
    let broken = |error: std::io::Error| LoadError::Compiler(format!("while running {}: {error}", compiler.display()));
    // rlimits count whole seconds.
    let cpu_s = limits.cpu.as_millis().div_ceil(1000).max(1) as u64;
    let request = [REQUEST.as_slice(), &cpu_s.to_le_bytes(), &limits.memory_bytes.to_le_bytes(), wasm];
    let stdin = memfile::holding(&request).map_err(broken)?;
    let mut stdout = memfile::holding(&[]).map_err(broken)?;
    let mut stderr = memfile::holding(&[]).map_err(broken)?;
    let mut child = Command::new(compiler)
        .arg("compile-module")
        .env_clear()
        .envs(CHILD_ENVIRONMENT)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout.try_clone().map_err(broken)?))
        .stderr(Stdio::from(stderr.try_clone().map_err(broken)?))
        .spawn()
        .map_err(broken)?;
    let Some(status) = wait(&mut child, limits.wall).map_err(broken)? else {
        return Err(LoadError::CompileLimits { what: format!("time ({} s on the clock)", limits.wall.as_secs()) });
    };
    let message = memfile::contents(&mut stderr, MESSAGE_BYTES_MAX).map_err(broken)?;
    let message = String::from_utf8_lossy(&message).trim().to_owned();
    judge(status, &message, limits)?;
    let answer = memfile::contents(&mut stdout, COMPILED_BYTES_MAX + 4).map_err(broken)?;
    match answer.strip_prefix(ANSWER.as_slice()) {
        Some(compiled) => Ok(compiled.to_vec()),
        None => Err(LoadError::Compiler(format!("{} does not answer as a compiler: {message}", compiler.display()))),
    }
}

/// Waits for the end of the child and kills it when its time is up (`None`).
fn wait(child: &mut Child, wall: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let passed = begun.elapsed();
        if passed >= wall {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        // A compilation takes 45 ms or seconds: look again after an eighth of what it took so far.
        std::thread::sleep((passed / 8).clamp(Duration::from_millis(1), Duration::from_millis(50)));
    }
}

fn judge(status: ExitStatus, message: &str, limits: &CompileLimits) -> Result<(), LoadError> {
    const SIGABRT: i32 = Signal::ABORT.as_raw();
    const SIGXCPU: i32 = Signal::XCPU.as_raw();
    const SIGKILL: i32 = Signal::KILL.as_raw();
    let cpu = || format!("time ({} s of CPU)", limits.cpu.as_secs());
    let memory = || format!("memory (more than {} MiB)", limits.memory_bytes >> 20);
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) if code == i32::from(ChildError::EXIT_CODE) => Err(LoadError::Compile(message.to_owned())),
        (_, Some(SIGXCPU)) => Err(LoadError::CompileLimits { what: cpu() }),
        // Not by us: the machine itself is out of memory.
        (_, Some(SIGKILL)) => Err(LoadError::CompileLimits { what: "memory (killed from outside)".to_owned() }),
        // Rust aborts when it gets no memory; wasmtime's threads panic when they get no stack.
        (_, Some(SIGABRT)) => Err(LoadError::CompileLimits { what: memory() }),
        _ if message.contains("allocat") || message.contains("Cannot allocate memory") => {
            Err(LoadError::CompileLimits { what: memory() })
        }
        _ => Err(LoadError::Compile(format!("the compiler failed ({status}): {message}"))),
    }
}

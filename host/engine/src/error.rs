//! Why an engine could not be made or a module not be loaded. Each sentence says what it is and what to do about it.

use crate::answer::World;

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused the settings: a bug, or a machine it does not know.
    #[error("wasmtime does not start on this machine: {0}")]
    Wasmtime(String),
    /// The directory of the compile cache is not ours alone.
    #[error("the compile cache {dir} cannot be used: {why}")]
    Cache {
        /// Path of the directory.
        dir: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A module could not be loaded. Nothing of it was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Not WebAssembly, or damaged.
    #[error("not a WebAssembly module or component: {why}")]
    NotWasm {
        /// What the parser stumbled over.
        why: String,
    },
    /// It is WebAssembly but not a filter.
    #[error(
        "not a filter: it exports {}, and neither {wanted}; build it for the world batch-filter or line-filter of \
         tailmill:filter@1",
        list(.found)
    )]
    WrongWorld {
        /// What it exports.
        found: Vec<String>,
        /// What would have made it a filter.
        wanted: &'static str,
    },
    /// It exports the right interface with other functions or types than the contract's.
    #[error("its {interface} is not the contract's: {why}; rebuild it with the wit of tailmill:filter@1")]
    WrongSignature {
        /// The interface.
        interface: String,
        /// Which function, and what differs.
        why: String,
    },
    /// It wants something a filter does not get.
    #[error("it imports {}, which a filter does not get; a filter may import tailmill:filter/host and origin only", list(.names))]
    UnknownImport {
        /// What it wants.
        names: Vec<String>,
    },
    /// It breaks a limit that is checked before it is compiled.
    #[error("{what} of {found} is more than the {max} a filter may have")]
    TooBig {
        /// What was measured.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        max: usize,
    },
    /// The compiler refused it.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// The compiler ran into its limits of time or memory and was stopped.
    #[error("compiling it took too much {what} and was stopped")]
    CompileLimits {
        /// What ran out.
        what: String,
    },
    /// The compile child could not be run at all.
    #[error("the compiler could not be run: {0}")]
    Compiler(String),
}

impl LoadError {
    pub(crate) fn wrong_world(found: Vec<String>) -> LoadError {
        LoadError::WrongWorld { found, wanted: World::WANTED }
    }
}

/// The first few names, for a sentence.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "nothing".to_owned(),
        n if n <= SHOWN => names.join(", "),
        n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
    }
}

//! What a module is, for a person: nothing is compiled, nothing is run, and what is wrong with it as a filter is not said
//! here ([`crate::Engine::load`] does), so that also what is no filter can be looked at.

use crate::answer::World;
use crate::error::LoadError;
use crate::scan::{self, Bounds, PREVIEW1};
use crate::{wit, wrap};
use wasmparser::{Parser, Payload};

/// What the bytes say of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// A component, or a core module that is wrapped on the fly.
    pub is_component: bool,
    /// A core module that its toolchain gave the types of a component.
    pub has_metadata: bool,
    /// A core module that asks WASI preview 1, which the wrapping answers.
    pub uses_preview1: bool,
    /// The lane of the contract that it takes. `None`: it is no filter.
    pub world: Option<World>,
    /// The newest version of the contract that its exports and imports name: an agent of an older one may not load it.
    pub contract: Option<String>,
    /// Interfaces it exports; of a core module its functions.
    pub exports: Vec<String>,
    /// Interfaces it imports; of a core module the modules it imports from.
    pub imports: Vec<String>,
    /// Functions with a body, all parts together.
    pub functions: u64,
    /// Each memory, in pages of 64 KiB.
    pub memories: Vec<Size>,
    /// Each table, in elements.
    pub tables: Vec<Size>,
}

/// What a memory or table begins with and may grow to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// At the start.
    pub min: u64,
    /// At most; `None`: it sets itself no limit.
    pub max: Option<u64>,
}

/// Reads all of `wasm` once or twice. An error: not WebAssembly, damaged, or above what may be looked at.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, LoadError> {
    let found = scan::scan(wasm, &Bounds::STANDARD)?;
    let mut seen = Inspection {
        is_component: found.is_component,
        has_metadata: found.has_metadata,
        uses_preview1: found.imports.contains(PREVIEW1),
        world: None,
        contract: None,
        exports: found.exports.clone(),
        imports: found.imports.iter().cloned().collect(),
        functions: 0,
        memories: Vec::new(),
        tables: Vec::new(),
    };
    // Names as they will be: some languages cannot write those of the contract.
    let filter = wrap::seen_as_component(wasm, found)?;
    seen.world = filter.world().ok();
    let named = filter.exports.iter().chain(&filter.imports).filter_map(|name| contract_of(name));
    seen.contract = named.max_by_key(|version| wit::numbers(version)).map(str::to_owned);
    for payload in Parser::new(0).parse_all(wasm) {
        seen.add(&payload.map_err(scan::damaged)?).map_err(scan::damaged)?;
    }
    Ok(seen)
}

/// The version in a name of the contract.
fn contract_of(name: &str) -> Option<&str> {
    let interface = name.split('#').next().unwrap_or(name);
    wit::interface_of(interface)?;
    interface.split_once('@').map(|(_, version)| version)
}

impl Inspection {
    fn add(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    let memory = memory?;
                    self.memories.push(Size { min: memory.initial, max: memory.maximum });
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let table = table?.ty;
                    self.tables.push(Size { min: table.initial, max: table.maximum });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

//! What can be known about a module without compiling it: its kind, its imports and exports, and whether it stays inside
//! the limits that keep a compiler from blowing up. Only wasmparser reads the bytes here; nothing is run.

use crate::answer::World;
use crate::error::LoadError;
use crate::settings::STACK_BYTES;
use crate::wit;
use std::collections::BTreeSet;
use wasmparser::{Encoding, FunctionBody, Operator, Parser, Payload};

/// Bytes of a module. A Python component has 18 MB.
pub const MODULE_BYTES_MAX: usize = 64 << 20;
/// Functions of all core modules in it: 200,000 tiny ones took a compiler 15 s and 1.1 GB.
pub const FUNCTIONS_MAX: usize = 60_000;
/// Bytes of one function's body.
pub const BODY_BYTES_MAX: usize = 512 << 10;
/// Loops inside loops: 5,000 over 2,000 locals, 84 KB, were not done after 60 s.
pub const LOOP_NESTING_MAX: usize = 500;
/// Blocks of any kind inside blocks. They cost a compiler little, and Go makes one for each place a function can be resumed at:
/// 549 in a program of 50 lines.
pub const NESTING_MAX: usize = 20_000;
/// Locals of one function.
pub const LOCALS_MAX: usize = 5_000;
/// Core modules and components inside a component.
const PARTS_MAX: usize = 500;

/// What a module may be, whoever wrote it: looked at before anything is compiled. And the stack, which is one setting for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// See [`MODULE_BYTES_MAX`].
    pub module_bytes: usize,
    /// See [`FUNCTIONS_MAX`].
    pub functions: usize,
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes: usize,
    /// See [`LOCALS_MAX`].
    pub locals: usize,
    /// See [`LOOP_NESTING_MAX`].
    pub loop_nesting: usize,
    /// See [`NESTING_MAX`].
    pub nesting: usize,
    /// Core modules and components inside a component.
    pub parts: usize,
    /// See [`STACK_BYTES`].
    pub stack_bytes: usize,
}

impl Bounds {
    /// Those of an agent. There is no way to set others but in tests that show what each is good for.
    pub const STANDARD: Bounds = Bounds {
        module_bytes: MODULE_BYTES_MAX,
        functions: FUNCTIONS_MAX,
        body_bytes: BODY_BYTES_MAX,
        locals: LOCALS_MAX,
        loop_nesting: LOOP_NESTING_MAX,
        nesting: NESTING_MAX,
        parts: PARTS_MAX,
        stack_bytes: STACK_BYTES,
    };

    /// For bytes that were looked at before.
    pub(crate) const NONE: Bounds = Bounds {
        module_bytes: usize::MAX,
        functions: usize::MAX,
        body_bytes: usize::MAX,
        locals: usize::MAX,
        loop_nesting: usize::MAX,
        nesting: usize::MAX,
        parts: usize::MAX,
        stack_bytes: STACK_BYTES,
    };
}

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) is_component: bool,
    /// Names on the outside: of a component its imports, of a core module the modules it imports from.
    pub(crate) imports: BTreeSet<String>,
    /// Names on the outside; of a core module each exported function.
    pub(crate) exports: Vec<String>,
    /// Core module only: it was built with component metadata inside.
    pub(crate) has_metadata: bool,
}

/// Reads all of `wasm` once.
pub(crate) fn scan(wasm: &[u8], bounds: &Bounds) -> Result<Scan, LoadError> {
    within("size in bytes", wasm.len(), bounds.module_bytes)?;
    if !wasm.starts_with(b"\0asm") {
        let why = if wasm.is_empty() { "it is empty" } else { "it does not start with \\0asm" };
        return Err(LoadError::NotWasm { why: why.to_owned() });
    }
    let mut found = Scan { is_component: false, imports: BTreeSet::new(), exports: Vec::new(), has_metadata: false };
    let mut tally = Tally::default();
    let mut ended = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(damaged)?;
        ended = matches!(payload, Payload::End(_)) && tally.depth == 1;
        tally.add(&payload, bounds)?;
        if tally.depth == 1 {
            outside(&payload, &mut found).map_err(damaged)?;
        }
    }
    if !ended {
        return Err(LoadError::NotWasm { why: "it ends too early".to_owned() });
    }
    Ok(found)
}

impl Scan {
    /// Which world its exports name.
    pub(crate) fn world(&self) -> Result<World, LoadError> {
        let exports = |wanted: &str| {
            self.exports.iter().any(|name| {
                let interface = if self.is_component { name } else { name.split('#').next().unwrap_or(name) };
                wit::interface_of(interface) == Some(wanted)
            })
        };
        match () {
            () if exports("batch") => Ok(World::Batch),
            () if exports("line") => Ok(World::Line),
            () => Err(LoadError::wrong_world(self.exports.clone())),
        }
    }

    /// Refuses names that nothing here provides. Functions inside known interfaces are checked at linking.
    pub(crate) fn check_imports(&self) -> Result<(), LoadError> {
        let names: Vec<String> = self.imports.iter().filter(|name| !self.provides(name)).cloned().collect();
        if names.is_empty() { Ok(()) } else { Err(LoadError::UnknownImport { names }) }
    }

    fn provides(&self, name: &str) -> bool {
        let contract = matches!(wit::interface_of(name), Some("host" | "origin" | "types"));
        let of_components = (self.is_component || self.has_metadata) && is_wasi(name);
        contract || of_components || (!self.is_component && name == PREVIEW1)
    }
}

/// The module that toolchains without components import their system calls from.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Whether this is an interface of WASI 0.2.
pub(crate) fn is_wasi(name: &str) -> bool {
    name.starts_with("wasi:") && name.split_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// Notes what is visible from outside.
fn outside(payload: &Payload<'_>, found: &mut Scan) -> wasmparser::Result<()> {
    match payload {
        Payload::Version { encoding, .. } => found.is_component = *encoding == Encoding::Component,
        Payload::ComponentImportSection(section) => {
            for import in section.clone() {
                found.imports.insert(import?.name.name.to_owned());
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section.clone() {
                found.exports.push(export?.name.name.to_owned());
            }
        }
        Payload::ImportSection(section) => {
            for import in section.clone().into_imports() {
                found.imports.insert(import?.module.to_owned());
            }
        }
        Payload::ExportSection(section) => {
            for export in section.clone() {
                found.exports.push(export?.name.to_owned());
            }
        }
        Payload::CustomSection(section) if section.name().starts_with("component-type") => found.has_metadata = true,
        _ => {}
    }
    Ok(())
}

/// What has been seen so far, over all nested modules.
#[derive(Default)]
struct Tally {
    depth: usize,
    parts: usize,
    functions: usize,
}

impl Tally {
    fn add(&mut self, payload: &Payload<'_>, bounds: &Bounds) -> Result<(), LoadError> {
        match payload {
            Payload::Version { .. } => {
                self.depth += 1;
                self.parts += 1;
                within("number of modules and components inside", self.parts, bounds.parts)
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            Payload::FunctionSection(section) => {
                self.functions = self.functions.saturating_add(section.count() as usize);
                within("number of functions", self.functions, bounds.functions)
            }
            Payload::ComponentCanonicalSection(section) => {
                self.functions = self.functions.saturating_add(section.count() as usize);
                within("number of functions", self.functions, bounds.functions)
            }
            Payload::CodeSectionEntry(body) => check_body(body, bounds),
            _ => Ok(()),
        }
    }
}

fn check_body(body: &FunctionBody<'_>, bounds: &Bounds) -> Result<(), LoadError> {
    within("size of a function in bytes", body.range().len(), bounds.body_bytes)?;
    let mut locals = 0usize;
    for entry in body.get_locals_reader().map_err(damaged)? {
        locals = locals.saturating_add(entry.map_err(damaged)?.0 as usize);
        within("number of locals of a function", locals, bounds.locals)?;
    }
    check_nesting(body, bounds)
}

fn check_nesting(body: &FunctionBody<'_>, bounds: &Bounds) -> Result<(), LoadError> {
    let mut operators = body.get_operators_reader().map_err(damaged)?;
    // Whether each open block is a loop.
    let mut open: Vec<bool> = Vec::new();
    let mut loops = 0;
    while !operators.eof() {
        let is_loop = match operators.read().map_err(damaged)? {
            Operator::Loop { .. } => true,
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } | Operator::Try { .. } => false,
            Operator::End => {
                loops -= usize::from(open.pop().unwrap_or(false));
                continue;
            }
            _ => continue,
        };
        open.push(is_loop);
        loops += usize::from(is_loop);
        within("nesting of loops in a function", loops, bounds.loop_nesting)?;
        within("nesting of blocks in a function", open.len(), bounds.nesting)?;
    }
    Ok(())
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), LoadError> {
    if found <= max { Ok(()) } else { Err(LoadError::TooBig { what, found, max }) }
}

pub(crate) fn damaged(error: wasmparser::BinaryReaderError) -> LoadError {
    LoadError::NotWasm { why: error.to_string() }
}

//! A core module becomes a component: the last step of a toolchain that knows nothing of components.
//!
//! A module built by a wit-bindgen carries its own metadata; another one gets that of a world made of the interfaces its
//! exports name. System calls of WASI preview 1 are answered by an adapter of our own (`preview1.wat`), because the official
//! one calls the guest's allocator before Go's runtime is up.
//!
//! A world is embedded in the version that the module's own exports name, whatever 1.x that is: exports are found by their
//! exact names. Imports are not: wit-component and wasmtime match any 1.x of them.

use crate::error::LoadError;
use crate::scan::{self, Bounds, PREVIEW1, Scan};
use crate::wit;
use std::collections::BTreeSet;
use wasm_encoder::{ExportKind, ExportSection, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const ADAPTER: &str = include_str!("preview1.wat");
/// What the adapter imports. Of 1.0.0 for ever: it goes with modules of every version, and must not make them newer than they are.
const ADAPTER_TEXT: &str = "package tailmill:filter@1.0.0;
interface host { print: func(fd: u8, text: list<u8>); now: func() -> u64; }
world preview1 { import host; }";

/// Interfaces of the contract that a filter can export.
const EXPORTABLE: [&str; 5] = ["batch", "line", "ticks", "finish", "state"];

/// The component of a core module; a component is given back as it is.
pub fn wrap(wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
    scan::scan(wasm, &Bounds::STANDARD)?;
    scanned(wasm)
}

/// The same of bytes that were found to be inside their bounds before.
pub(crate) fn scanned(wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
    let found = scan::scan(wasm, &Bounds::NONE)?;
    if found.is_component {
        return Ok(wasm.to_vec());
    }
    let renamed = rename(wasm, &found)?;
    let core = renamed.as_deref().unwrap_or(wasm);
    let found = if renamed.is_some() { scan::scan(core, &Bounds::NONE)? } else { found };
    found.check_imports()?;
    found.world()?;
    encode(core, &found).map_err(|error| LoadError::Compile(format!("while wrapping the module: {error}")))
}

/// What [`Scan::world`] and [`Scan::check_imports`] will say of the component, without making it.
pub(crate) fn seen_as_component(wasm: &[u8], found: Scan) -> Result<Scan, LoadError> {
    if found.is_component || found.has_metadata {
        return Ok(found);
    }
    match rename(wasm, &found)? {
        Some(core) => scan::scan(&core, &Bounds::NONE),
        None => Ok(found),
    }
}

fn encode(core: &[u8], found: &Scan) -> Result<Vec<u8>, String> {
    let mut core = core.to_vec();
    if !found.has_metadata {
        let interfaces: BTreeSet<&str> = found
            .exports
            .iter()
            .filter_map(|name| wit::interface_of(name.split_once('#')?.0))
            .filter(|interface| EXPORTABLE.contains(interface))
            .collect();
        let exports: String = interfaces.iter().map(|name| format!("export {name}; ")).collect();
        let text = wit::text_as(version_of(&found.exports));
        embed(&mut core, "wrapped", &format!("{text}\nworld wrapped {{ import host; import origin; {exports} }}\n"))?;
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(&core).map_err(said)?;
    if found.imports.contains(PREVIEW1) {
        let mut adapter = wat::parse_str(ADAPTER).map_err(said)?;
        embed(&mut adapter, "preview1", ADAPTER_TEXT)?;
        encoder = encoder.adapter(PREVIEW1, &adapter).map_err(said)?;
    }
    encoder.encode().map_err(said)
}

/// Gives it the metadata of one more world of the contract. Each has a name of its own: they are merged.
fn embed(core: &mut Vec<u8>, world: &str, text: &str) -> Result<(), String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("filter.wit", text).map_err(said)?;
    let world = resolve.select_world(&[package], Some(world)).map_err(said)?;
    embed_component_metadata(core, &resolve, world, StringEncoding::UTF8).map_err(said)
}

/// An error with all of its causes.
fn said(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

/// The version of the contract that the exports of a core module name: the newest, should they differ; ours, when they
/// name none.
fn version_of(exports: &[String]) -> &str {
    exports
        .iter()
        .filter_map(|name| of_contract(name))
        .map(|(_, version, _)| version)
        .max_by_key(|version| wit::numbers(version))
        .unwrap_or(wit::VERSION)
}

/// `tailmill:filter/line`, `1.0.0` and `#run` of `tailmill:filter/line@1.0.0#run`, also behind `cabi_post_`.
fn of_contract(export: &str) -> Option<(&str, &str, &str)> {
    let (interface, function) = export.split_at(export.find('#')?);
    wit::interface_of(interface.strip_prefix("cabi_post_").unwrap_or(interface))?;
    let (interface, version) = interface.split_once('@')?;
    Some((interface, version, function))
}

/// A language that cannot write `:`, `/` and `#` in a name exports `line_start`, `line_run` and `realloc`; this gives them the
/// names of the contract. Names of several versions become those of one. `None`: there is nothing to rename.
fn rename(wasm: &[u8], found: &Scan) -> Result<Option<Vec<u8>>, LoadError> {
    let version = version_of(&found.exports);
    let new_name = |name: &str| match of_contract(name) {
        Some((interface, other, function)) => (other != version).then(|| format!("{interface}@{version}{function}")),
        None if found.world().is_ok() => None,
        None => plain_name(name),
    };
    if found.has_metadata || !found.exports.iter().any(|name| new_name(name).is_some()) {
        return Ok(None);
    }
    let damaged = |error: wasmparser::BinaryReaderError| LoadError::NotWasm { why: error.to_string() };
    let mut renamed = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(damaged)?;
        if let Payload::ExportSection(section) = &payload {
            let mut exports = ExportSection::new();
            for export in section.clone() {
                let export = export.map_err(damaged)?;
                let name = new_name(export.name).unwrap_or_else(|| export.name.to_owned());
                exports.export(&name, kind_of(export.kind)?, export.index);
            }
            renamed.section(&exports);
        } else if let Some((id, range)) = payload.as_section() {
            renamed.section(&RawSection { id, data: &wasm[range] });
        }
    }
    Ok(Some(renamed.finish()))
}

fn plain_name(name: &str) -> Option<String> {
    if name == "realloc" {
        return Some("cabi_realloc".to_owned());
    }
    let (after, name) = match name.strip_prefix("post_") {
        Some(rest) => ("cabi_post_", rest),
        None => ("", name),
    };
    let (interface, function) = name.split_once('_')?;
    let known = EXPORTABLE.contains(&interface)
        && matches!(function, "start" | "run" | "every_ms" | "tick" | "flush" | "save" | "load");
    known.then(|| format!("{after}{}{interface}@{}#{}", wit::PACKAGE, wit::VERSION, function.replace('_', "-")))
}

fn kind_of(kind: ExternalKind) -> Result<ExportKind, LoadError> {
    match kind {
        ExternalKind::Func => Ok(ExportKind::Func),
        ExternalKind::Table => Ok(ExportKind::Table),
        ExternalKind::Memory => Ok(ExportKind::Memory),
        ExternalKind::Global => Ok(ExportKind::Global),
        other => Err(LoadError::NotWasm { why: format!("an export of the unexpected kind {other:?}") }),
    }
}

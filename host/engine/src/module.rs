//! A module that is compiled and linked, ready to be started.

use crate::answer::{Fault, World};
use crate::contract;
use crate::digest::Digest;
use crate::engine::Compiled;
use crate::error::LoadError;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::scan::is_wasi;
use crate::store::State;
use crate::surroundings::Surroundings;
use crate::wit::{self, func};
use crate::{start, wasi};
use std::sync::Arc;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Linker, Lower, TypedFunc,
};

/// A filter, compiled and linked. Clones are the same module.
#[derive(Clone)]
pub struct Module {
    pub(crate) linked: Arc<Linked>,
}

pub(crate) struct Linked {
    pub(crate) pre: InstancePre<State>,
    pub(crate) exports: Exports,
    pub(crate) pace: Arc<Pace>,
    digest: Digest,
    size_bytes: usize,
    compiled: Compiled,
    import_names: Vec<String>,
    export_names: Vec<String>,
}

/// Where the functions of the contract are. Their types were checked.
pub(crate) struct Exports {
    pub(crate) world: World,
    pub(crate) start: ComponentExportIndex,
    pub(crate) run: ComponentExportIndex,
    pub(crate) ticks: Option<[ComponentExportIndex; 2]>,
    pub(crate) flush: Option<ComponentExportIndex>,
    pub(crate) state: Option<[ComponentExportIndex; 2]>,
}

impl Module {
    /// Digest of the bytes it was loaded from.
    pub fn digest(&self) -> Digest {
        self.linked.digest
    }

    /// Which lane of the contract it takes. One that exports both takes the batch lane.
    pub fn world(&self) -> World {
        self.linked.exports.world
    }

    /// Whether it releases lines by time. Never in the line lane, which cannot hold.
    pub fn has_ticks(&self) -> bool {
        self.linked.exports.ticks.is_some()
    }

    /// Whether it releases lines when a file is finished. Never in the line lane.
    pub fn has_finish(&self) -> bool {
        self.linked.exports.flush.is_some()
    }

    /// Whether its state can be saved and loaded.
    pub fn has_state(&self) -> bool {
        self.linked.exports.state.is_some()
    }

    /// Interfaces it imports.
    pub fn imports(&self) -> Vec<String> {
        self.linked.import_names.clone()
    }

    /// Interfaces it exports.
    pub fn exports(&self) -> Vec<String> {
        self.linked.export_names.clone()
    }

    /// Size of the bytes it was loaded from.
    pub fn size_bytes(&self) -> usize {
        self.linked.size_bytes
    }

    /// Where its compiled code came from.
    pub fn compiled(&self) -> &Compiled {
        &self.linked.compiled
    }

    /// Makes an instance and calls its `start`. `line_world_stateless`: what the entry says of a filter of the line world,
    /// which cannot say it itself. Instantiation and start together may take five times `limits.call_time`.
    pub fn start(
        &self,
        config_json: &str,
        limits: &Limits,
        surroundings: &Surroundings,
        line_world_stateless: bool,
    ) -> Result<Instance, Fault> {
        start::start(&self.linked, config_json, limits, surroundings, line_world_stateless)
    }

    pub(crate) fn link(
        component: &Component,
        pace: &Arc<Pace>,
        digest: Digest,
        size_bytes: usize,
        compiled: Compiled,
    ) -> Result<Module, LoadError> {
        let engine = component.engine();
        let kind = component.component_type();
        let import_names: Vec<String> = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
        let export_names: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
        refuse_unknown(component)?;
        let wrong = |error: wasmtime::Error| LoadError::WrongSignature {
            interface: "imports".to_owned(),
            why: format!("{error:#}"),
        };
        let mut linker = Linker::new(engine);
        contract::link(&mut linker).map_err(wrong)?;
        wasi::link(&mut linker, component).map_err(wrong)?;
        let pre = linker.instantiate_pre(component).map_err(wrong)?;
        let exports = Exports::find(&pre, &export_names)?;
        let pace = pace.clone();
        let linked = Linked { pre, exports, pace, digest, size_bytes, compiled, import_names, export_names };
        Ok(Module { linked: Arc::new(linked) })
    }
}

/// Names every import that nothing here provides, down to the function.
fn refuse_unknown(component: &Component) -> Result<(), LoadError> {
    let engine = component.engine();
    let mut names = Vec::new();
    for (name, import) in component.component_type().imports(engine) {
        let known: &[&str] = match wit::interface_of(name) {
            Some("host") => &wit::HOST_FUNCTIONS,
            Some("origin") => &wit::ORIGIN_FUNCTIONS,
            Some("types") => &[],
            _ if is_wasi(name) => continue,
            _ => {
                names.push(name.to_owned());
                continue;
            }
        };
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            names.push(name.to_owned());
            continue;
        };
        let functions =
            interface.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        names.extend(
            functions
                .filter(|(function, _)| !known.contains(function))
                .map(|(function, _)| format!("{name}#{function}")),
        );
    }
    if names.is_empty() { Ok(()) } else { Err(LoadError::UnknownImport { names }) }
}

impl Exports {
    fn find(pre: &InstancePre<State>, names: &[String]) -> Result<Exports, LoadError> {
        let find = |interface: &str| {
            let name = names.iter().find(|name| wit::interface_of(name) == Some(interface))?;
            Some(Interface { pre, name, index: pre.component().get_export_index(None, name.as_str())? })
        };
        let state = match find("state") {
            Some(state) => Some([state.func::<func::Save, _, _>("save")?, state.func::<func::Load<'_>, _, _>("load")?]),
            None => None,
        };
        if let Some(batch) = find("batch") {
            let ticks = match find("ticks") {
                Some(ticks) => {
                    Some([ticks.func::<func::EveryMs, _, _>("every-ms")?, ticks.func::<func::Release, _, _>("tick")?])
                }
                None => None,
            };
            let flush = find("finish").map(|finish| finish.func::<func::Release, _, _>("flush")).transpose()?;
            let start = batch.func::<func::StartBatch<'_>, _, _>("start")?;
            let run = batch.func::<func::RunBatch<'_>, _, _>("run")?;
            return Ok(Exports { world: World::Batch, start, run, ticks, flush, state });
        }
        let line = find("line").ok_or_else(|| LoadError::wrong_world(names.to_vec()))?;
        let start = line.func::<func::StartLine<'_>, _, _>("start")?;
        let run = line.func::<func::RunLine<'_>, _, _>("run")?;
        Ok(Exports { world: World::Line, start, run, ticks: None, flush: None, state })
    }
}

/// An exported interface.
struct Interface<'a> {
    pre: &'a InstancePre<State>,
    name: &'a str,
    index: ComponentExportIndex,
}

/// So that a [`TypedFunc`] names the types of a function in one word.
trait Function<P, R> {}
impl<P, R> Function<P, R> for TypedFunc<P, R> {}

impl Interface<'_> {
    /// Where `function` is. Its type is the contract's.
    fn func<F, P, R>(&self, function: &str) -> Result<ComponentExportIndex, LoadError>
    where
        F: Function<P, R>,
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let wrong = |why: String| LoadError::WrongSignature { interface: self.name.to_owned(), why };
        match self.pre.component().get_export(Some(&self.index), function) {
            Some((ComponentItem::ComponentFunc(kind), index)) => {
                match kind.typecheck::<P, R>(&self.pre.instance_type()) {
                    Ok(()) => Ok(index),
                    Err(error) => Err(wrong(format!("{function} has another type: {error:#}"))),
                }
            }
            _ => Err(wrong(format!("it has no function {function}"))),
        }
    }
}

//! From a linked module to a running instance.

use crate::answer::{Fault, FaultKind, Traits, World};
use crate::check::broken;
use crate::fault;
use crate::instance::{Instance, Lane, Optional, Progress, Scratch};
use crate::limits::Limits;
use crate::module::Linked;
use crate::needles::Needles;
use crate::store::{self, State};
use crate::surroundings::Surroundings;
use crate::wit::{self, func};
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::{self, ComponentExportIndex, ComponentNamedList, Lift, Lower, TypedFunc};

/// Instantiation and `start` may take so many times the time of a call: runtimes come up, regexes are compiled.
const START_FACTOR: u32 = 5;
/// Bytes of traits: needles.
const TRAITS_BYTES: usize = 256 << 10;

pub(crate) fn start(
    linked: &Arc<Linked>,
    config_json: &str,
    limits: &Limits,
    surroundings: &Surroundings,
    line_world_stateless: bool,
) -> Result<Instance, Fault> {
    let living = linked.pace.bear().map_err(|most| {
        let message = format!("{most} instances of filters live already, more are not allowed");
        Fault { kind: FaultKind::Memory, line: None, message }
    })?;
    let mut store = store::new_store(linked.pre.engine(), &linked.pace, limits, surroundings);
    let running = store::begin_call(&mut store, limits.call_time * START_FACTOR, TRAITS_BYTES);
    let brought = bring_up(linked, &mut store, config_json.as_bytes(), line_world_stateless);
    drop(running);
    store::end_call(&mut store);
    match brought {
        Ok((lane, optional, traits)) => {
            let skip = if traits.stateless { Needles::new(&traits.needles).map_err(broken)? } else { None };
            Ok(Instance {
                store,
                lane,
                optional,
                traits,
                skip,
                limits: limits.clone(),
                progress: Progress::default(),
                scratch: Scratch::default(),
                broken: None,
                skipped: 0,
                _living: living,
            })
        }
        Err(Failed::Fault(fault)) => Err(fault),
        Err(Failed::Error(error)) => Err(fault::of_error(&error, store.data_mut(), "start")),
    }
}

enum Failed {
    Error(wasmtime::Error),
    Fault(Fault),
}

impl From<wasmtime::Error> for Failed {
    fn from(error: wasmtime::Error) -> Failed {
        Failed::Error(error)
    }
}

fn bring_up(
    linked: &Linked,
    store: &mut Store<State>,
    config: &[u8],
    line_world_stateless: bool,
) -> Result<(Lane, Optional, Traits), Failed> {
    let instance = linked.pre.instantiate(&mut *store)?;
    let refused = |message: Vec<u8>| Failed::Fault(fault::refused(None, &message));
    let exports = &linked.exports;
    let (lane, traits) = match exports.world {
        World::Batch => {
            let start: func::StartBatch<'_> = typed(&instance, store, &exports.start)?;
            let run = typed(&instance, store, &exports.run)?;
            let (traits,) = start.call(&mut *store, (config,))?;
            let wit::Traits { stateless, needles, keep_skipped } = traits.map_err(refused)?;
            (Lane::Batch(run), Traits { stateless, needles, keep_skipped })
        }
        World::Line => {
            let start: func::StartLine<'_> = typed(&instance, store, &exports.start)?;
            let run = typed(&instance, store, &exports.run)?;
            let (started,) = start.call(&mut *store, (config,))?;
            started.map_err(refused)?;
            (Lane::Line(run), Traits { stateless: line_world_stateless, ..Traits::default() })
        }
    };
    let mut optional = Optional::default();
    if let Some([every_ms, tick]) = &exports.ticks {
        optional.ticks = Some((typed(&instance, store, every_ms)?, typed(&instance, store, tick)?));
    }
    if let Some(flush) = &exports.flush {
        optional.flush = Some(typed(&instance, store, flush)?);
    }
    if let Some([save, load]) = &exports.state {
        optional.state = Some((typed(&instance, store, save)?, typed(&instance, store, load)?));
    }
    Ok((lane, optional, traits))
}

fn typed<P, R>(
    instance: &component::Instance,
    store: &mut Store<State>,
    index: &ComponentExportIndex,
) -> wasmtime::Result<TypedFunc<P, R>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    instance.get_typed_func(store, index)
}

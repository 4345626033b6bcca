//! Stubs for the WASI 0.2 interfaces that a toolchain insists on. They give no authority: no files, no sockets, no
//! environment, no arguments, no real randomness; a clock that counts; stdout and stderr go where `host.print` goes.
//!
//! Answers are built from the types the component asks for, so every 0.2.x is served: zero, empty, none, ok; an error with
//! "access" where files, sockets or HTTP are asked for. Handles that are lent to a stub are given back, or the call fails.

use crate::notes::MESSAGE_BYTES_MAX;
use crate::scan::is_wasi;
use crate::store::State;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::types::{Case, ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceAny, ResourceDynamic, ResourceType, Type, Val};
use wasmtime::{Result, StoreContextMut, bail};

/// `rep` of the two streams that go somewhere.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// Elements of a list that a guest asks for by number.
const LIST_MAX: u64 = 64 << 10;
/// Bytes that `check-write` allows at a time.
const WRITE_MAX: u64 = 4096;

/// Number of each resource type, by its name. A resource that one interface takes from another has the same name there.
type Numbers = Arc<BTreeMap<String, u32>>;

/// Gives the linker a stub for each WASI function the component imports.
pub(crate) fn link(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = component.engine();
    let kind = component.component_type();
    let interfaces = || {
        kind.imports(engine).filter_map(|(name, import)| match import.ty {
            ComponentItem::ComponentInstance(interface) if is_wasi(name) => Some((name, interface)),
            _ => None,
        })
    };
    let mut names = Vec::new();
    for (_, interface) in interfaces() {
        for (item, export) in interface.exports(engine) {
            if matches!(export.ty, ComponentItem::Resource(_)) {
                names.push(item.to_owned());
            }
        }
    }
    let numbers: Numbers = Arc::new(names.into_iter().zip(0..).collect());
    for (name, interface) in interfaces() {
        let mut instance = linker.instance(name)?;
        for (item, export) in interface.exports(engine) {
            match export.ty {
                ComponentItem::Resource(_) => {
                    let number = numbers.get(item).copied().unwrap_or_default();
                    instance.resource(item, ResourceType::host_dynamic(number), |_, _| Ok(()))?;
                }
                ComponentItem::ComponentFunc(_) => stub(&mut instance, name, item, &numbers)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn stub(instance: &mut LinkerInstance<'_, State>, interface: &str, function: &str, numbers: &Numbers) -> Result<()> {
    let name = format!("{}#{function}", interface.split('@').next().unwrap_or(interface));
    let (call, numbers) = (Call::of(&name), numbers.clone());
    instance.func_new(function, move |store, kind, params, results| {
        answer(store, call, &numbers, &name, &kind, params, results)
    })
}

/// How a function is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    /// By the type of its result.
    Plain,
    /// With an error, where its type has one.
    Denied,
    Stdout,
    Stderr,
    CheckWrite,
    Write,
    Clock,
    WallClock,
    RandomBytes,
    RandomNumber,
    /// Everything is ready.
    Poll,
    Exit,
}

impl Call {
    fn of(name: &str) -> Call {
        match name {
            "wasi:cli/exit#exit" | "wasi:cli/exit#exit-with-code" => Call::Exit,
            "wasi:cli/stdout#get-stdout" => Call::Stdout,
            "wasi:cli/stderr#get-stderr" => Call::Stderr,
            "wasi:io/streams#[method]output-stream.check-write" => Call::CheckWrite,
            "wasi:io/streams#[method]output-stream.write"
            | "wasi:io/streams#[method]output-stream.blocking-write-and-flush" => Call::Write,
            "wasi:io/poll#poll" => Call::Poll,
            "wasi:clocks/monotonic-clock#now" => Call::Clock,
            "wasi:clocks/wall-clock#now" => Call::WallClock,
            "wasi:random/random#get-random-bytes" | "wasi:random/insecure#get-insecure-random-bytes" => {
                Call::RandomBytes
            }
            "wasi:random/random#get-random-u64" | "wasi:random/insecure#get-insecure-random-u64" => Call::RandomNumber,
            _ if name.contains("input-stream.") => Call::Denied,
            _ if ["wasi:filesystem/types#", "wasi:sockets/", "wasi:http/"]
                .iter()
                .any(|denied| name.starts_with(denied)) =>
            {
                Call::Denied
            }
            _ => Call::Plain,
        }
    }
}

fn answer(
    mut store: StoreContextMut<'_, State>,
    call: Call,
    numbers: &Numbers,
    name: &str,
    kind: &ComponentFunc,
    params: &[Val],
    results: &mut [Val],
) -> Result<()> {
    if call == Call::Exit {
        bail!("the filter called exit");
    }
    // Before the handles are given back: which stream it is.
    let lent = give_back(&mut store, params)?;
    if call == Call::Write && matches!(lent, Some(STDOUT | STDERR)) {
        print(&mut store, lent.unwrap_or(STDERR), params.get(1));
    }
    let Some(kind) = kind.results().next() else { return Ok(()) };
    let mut make = Make { store, numbers, denied: call == Call::Denied, name };
    results[0] = match call {
        Call::Stdout => make.resource(&kind, STDOUT)?,
        Call::Stderr => make.resource(&kind, STDERR)?,
        Call::CheckWrite => Val::Result(Ok(Some(Box::new(Val::U64(WRITE_MAX))))),
        Call::Clock => Val::U64(make.tick()),
        Call::WallClock => make.wall_clock(&kind)?,
        Call::RandomBytes => make.random_bytes(params),
        Call::RandomNumber => Val::U64(make.random()),
        Call::Poll => Val::List(match params.first() {
            Some(Val::List(asked)) => (0..asked.len() as u32).map(Val::U32).collect(),
            _ => Vec::new(),
        }),
        _ => make.value(&kind)?,
    };
    Ok(())
}

/// Gives back every handle in the parameters, also inside lists and options. The number of the first one, if any.
fn give_back(store: &mut StoreContextMut<'_, State>, params: &[Val]) -> Result<Option<u32>> {
    fn each(val: &Val, found: &mut Vec<ResourceAny>) {
        match val {
            Val::Resource(handle) => found.push(*handle),
            Val::List(vals) | Val::Tuple(vals) => vals.iter().for_each(|val| each(val, found)),
            Val::Record(fields) => fields.iter().for_each(|(_, val)| each(val, found)),
            Val::Variant(_, Some(val)) | Val::Option(Some(val)) => each(val, found),
            Val::Result(Ok(Some(val)) | Err(Some(val))) => each(val, found),
            _ => {}
        }
    }
    let mut handles = Vec::new();
    params.iter().for_each(|val| each(val, &mut handles));
    let mut first = None;
    for handle in handles {
        let rep = handle.try_into_resource_dynamic(&mut *store)?.rep();
        first.get_or_insert(rep);
    }
    Ok(first)
}

fn print(store: &mut StoreContextMut<'_, State>, fd: u32, bytes: Option<&Val>) {
    let Some(Val::List(bytes)) = bytes else { return };
    let byte = |byte: &Val| if let Val::U8(byte) = byte { *byte } else { b'?' };
    let bytes: Vec<u8> = bytes.iter().take(MESSAGE_BYTES_MAX).map(byte).collect();
    store.data_mut().notes.print(fd as u8, &bytes, Instant::now());
}

/// Builds answers.
struct Make<'a> {
    store: StoreContextMut<'a, State>,
    numbers: &'a Numbers,
    denied: bool,
    name: &'a str,
}

impl Make<'_> {
    fn tick(&mut self) -> u64 {
        let state = self.store.data_mut();
        state.ticks_ns = state.ticks_ns.wrapping_add(1_000);
        state.ticks_ns
    }

    /// xorshift64.
    fn random(&mut self) -> u64 {
        let x = &mut self.store.data_mut().random;
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        *x
    }

    fn random_bytes(&mut self, params: &[Val]) -> Val {
        let asked = if let Some(Val::U64(asked)) = params.first() { *asked } else { 0 };
        Val::List((0..asked.min(LIST_MAX)).map(|_| Val::U8(self.random() as u8)).collect())
    }

    fn wall_clock(&mut self, kind: &Type) -> Result<Val> {
        let now = self.store.data_mut().now_ns();
        let Val::Record(mut fields) = self.value(kind)? else { bail!("{} has an unexpected type", self.name) };
        for (name, val) in &mut fields {
            match (name.as_str(), &*val) {
                ("seconds", Val::U64(_)) => *val = Val::U64(now / 1_000_000_000),
                ("nanoseconds", Val::U32(_)) => *val = Val::U32((now % 1_000_000_000) as u32),
                _ => {}
            }
        }
        Ok(Val::Record(fields))
    }

    fn resource(&mut self, kind: &Type, rep: u32) -> Result<Val> {
        let Type::Own(wanted) = kind else { bail!("{} has an unexpected type", self.name) };
        let Some(number) = self.numbers.values().find(|number| ResourceType::host_dynamic(**number) == *wanted) else {
            bail!("{} wants a resource that the filter does not import", self.name)
        };
        Ok(Val::Resource(ResourceDynamic::new_own(rep, *number).try_into_resource_any(&mut self.store)?))
    }

    /// The plainest value of a type.
    fn value(&mut self, kind: &Type) -> Result<Val> {
        Ok(match kind {
            Type::Bool => Val::Bool(false),
            Type::S8 => Val::S8(0),
            Type::U8 => Val::U8(0),
            Type::S16 => Val::S16(0),
            Type::U16 => Val::U16(0),
            Type::S32 => Val::S32(0),
            Type::U32 => Val::U32(0),
            Type::S64 => Val::S64(0),
            Type::U64 => Val::U64(0),
            Type::Float32 => Val::Float32(0.0),
            Type::Float64 => Val::Float64(0.0),
            Type::Char => Val::Char(' '),
            Type::String => Val::String(String::new()),
            Type::List(_) => Val::List(Vec::new()),
            Type::Option(_) => Val::Option(None),
            Type::Flags(_) => Val::Flags(Vec::new()),
            Type::Own(_) => self.resource(kind, 0)?,
            Type::Record(record) => {
                let fields = record.fields().map(|field| Ok((field.name.to_owned(), self.value(&field.ty)?)));
                Val::Record(fields.collect::<Result<_>>()?)
            }
            Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|kind| self.value(&kind)).collect::<Result<_>>()?),
            Type::Enum(kind) => {
                let names: Vec<&str> = kind.names().collect();
                Val::Enum(refusal(&names).unwrap_or_default().to_owned())
            }
            Type::Variant(kind) => {
                let cases: Vec<Case<'_>> = kind.cases().collect();
                let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
                let name = refusal(&names).unwrap_or_default();
                let payload = cases.iter().find(|case| case.name == name).and_then(|case| case.ty.clone());
                Val::Variant(name.to_owned(), self.boxed(payload)?)
            }
            Type::Result(result) if self.denied => Val::Result(Err(self.boxed(result.err())?)),
            Type::Result(result) => Val::Result(Ok(self.boxed(result.ok())?)),
            _ => bail!("{} answers with a type that a filter does not get", self.name),
        })
    }

    fn boxed(&mut self, kind: Option<Type>) -> Result<Option<Box<Val>>> {
        kind.map(|kind| self.value(&kind).map(Box::new)).transpose()
    }
}

/// The case that says no most plainly, or the first.
fn refusal<'a>(names: &[&'a str]) -> Option<&'a str> {
    let wanted = ["access", "access-denied", "closed", "not-permitted"];
    wanted.iter().find_map(|wanted| names.iter().find(|name| *name == wanted)).or(names.first()).copied()
}

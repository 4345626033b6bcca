//! What a filter may import of the contract: the host interface and the origin interface.
//!
//! Nothing here blocks, allocates by the guest's word, or reaches outside the instance's own state. Arguments are read
//! where they lie in the guest's memory and copied no further than their limits.

use crate::notes::{COUNTER_NAME_BYTES_MAX, MESSAGE_BYTES_MAX, Notes};
use crate::store::State;
use crate::wit;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::{Linker, WasmList, WasmStr};
use wasmtime::{AsContext, Result, StoreContextMut};

/// Gives the linker both interfaces, in the version this engine was built with. wasmtime serves every 1.x by it.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    link_host(linker)?;
    link_origin(linker)
}

fn link_host(linker: &mut Linker<State>) -> Result<()> {
    let mut host = linker.instance(&format!("{}host@{}", wit::PACKAGE, wit::VERSION))?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, State>, (level, message): (u8, WasmList<u8>)| {
        let (bytes, notes, now) = heard(&mut store, &message);
        notes.log(level, &bytes, now);
        Ok(())
    })?;
    host.func_wrap("print", |mut store: StoreContextMut<'_, State>, (fd, text): (u8, WasmList<u8>)| {
        let (bytes, notes, now) = heard(&mut store, &text);
        notes.print(fd, &bytes, now);
        Ok(())
    })?;
    host.func_wrap("count", |store: StoreContextMut<'_, State>, (name, by): (WasmStr, u64)| {
        count(store, &name, by);
        Ok(())
    })?;
    host.func_wrap("now", |mut store: StoreContextMut<'_, State>, (): ()| Ok((store.data_mut().now_ns(),)))
}

fn link_origin(linker: &mut Linker<State>) -> Result<()> {
    let mut origin = linker.instance(&format!("{}origin@{}", wit::PACKAGE, wit::VERSION))?;
    origin.func_wrap("stream-id", |store: StoreContextMut<'_, State>, (): ()| Ok((store.data().origin.stream_id,)))?;
    origin.func_wrap("node", |store: StoreContextMut<'_, State>, (): ()| -> Result<(Arc<str>,)> {
        Ok((store.data().surroundings.node.clone(),))
    })?;
    origin.func_wrap("path", |store: StoreContextMut<'_, State>, (): ()| -> Result<(Arc<[u8]>,)> {
        Ok((store.data().origin.path.clone(),))
    })?;
    origin.func_wrap("first-offset", |store: StoreContextMut<'_, State>, (): ()| {
        Ok((store.data().origin.first_offset,))
    })?;
    origin.func_wrap("topics", |store: StoreContextMut<'_, State>, (): ()| -> Result<(Vec<Arc<str>>,)> {
        Ok((store.data().surroundings.topics.clone(),))
    })?;
    origin.func_wrap("inode", |store: StoreContextMut<'_, State>, (): ()| Ok((store.data().origin.inode,)))?;
    origin.func_wrap("generation", |store: StoreContextMut<'_, State>, (): ()| -> Result<(Arc<str>,)> {
        Ok((store.data().origin.generation.clone(),))
    })?;
    origin.func_wrap("first-line", |store: StoreContextMut<'_, State>, (): ()| Ok((store.data().origin.first_line,)))
}

/// A copy of a message, as far as it is of interest.
fn heard<'a>(store: &'a mut StoreContextMut<'_, State>, text: &WasmList<u8>) -> (Vec<u8>, &'a mut Notes, Instant) {
    let bytes = text.as_le_slice(store.as_context());
    let bytes = bytes[..bytes.len().min(MESSAGE_BYTES_MAX)].to_vec();
    (bytes, &mut store.data_mut().notes, Instant::now())
}

fn count(mut store: StoreContextMut<'_, State>, name: &WasmStr, by: u64) {
    // A name that is no text, or much too long, is no reason to fail the call.
    let mut short = [0; COUNTER_NAME_BYTES_MAX];
    let len = match name.to_str(store.as_context()) {
        Ok(name) if name.len() <= COUNTER_NAME_BYTES_MAX => {
            short[..name.len()].copy_from_slice(name.as_bytes());
            name.len()
        }
        _ => return store.data_mut().notes.suppress(),
    };
    match std::str::from_utf8(&short[..len]) {
        Ok(name) => store.data_mut().notes.count(name, by),
        Err(_) => store.data_mut().notes.suppress(),
    }
}

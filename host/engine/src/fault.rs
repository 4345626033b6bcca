//! From what wasmtime says to a fault: which kind it was, in words that help the author of the filter.

use crate::answer::{Fault, FaultKind};
use crate::store::State;
use wasmtime::{Error, Trap, WasmBacktrace};

/// Bytes of a fault's message.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Why a call did not come back. `state` knows what was refused meanwhile.
pub(crate) fn of_error(error: &Error, state: &mut State, during: &str) -> Fault {
    let refused = state.usage.refused.take();
    let trap = error.downcast_ref::<Trap>();
    let (kind, why) = if state.clock.is_over {
        (FaultKind::Timeout, "it took longer than it may".to_owned())
    } else if let Some(refused) = refused {
        (FaultKind::Memory, refused)
    } else if let Some(trap) = trap {
        (FaultKind::Trap, trap.to_string())
    } else {
        let cause = error.root_cause().to_string();
        // Instances, memories and tables are counted by wasmtime, which has no type for that error.
        // So is a mapping that the kernel refuses.
        let kind = if cause.starts_with("resource limit exceeded") || cause.contains("Cannot allocate memory") {
            FaultKind::Memory
        } else if error.downcast_ref::<WasmBacktrace>().is_some() {
            // Not a trap of wasm itself: something the host refused while the guest was running.
            FaultKind::Trap
        } else {
            // The guest came back, and what it gave could not be read.
            FaultKind::BrokenAnswer
        };
        (kind, cause)
    };
    let place = place_of(error).map(|place| format!(", in {place}")).unwrap_or_default();
    Fault { kind, line: None, message: bounded(&format!("{why}{place} (during {during})")) }
}

/// What the guest itself said.
pub(crate) fn refused(line: Option<u64>, message: &[u8]) -> Fault {
    let shown = &message[..message.len().min(MESSAGE_BYTES_MAX)];
    Fault { kind: FaultKind::Refused, line, message: bounded(&String::from_utf8_lossy(shown)) }
}

/// What an instance says that had a fault before.
pub(crate) fn of_no_more_use(kind: FaultKind) -> Fault {
    let message = "this instance had a fault and must be replaced".to_owned();
    Fault { kind, line: None, message }
}

/// The innermost functions whose names are known.
fn place_of(error: &Error) -> Option<String> {
    let frames = error.downcast_ref::<WasmBacktrace>()?.frames();
    let names: Vec<&str> = frames.iter().filter_map(|frame| frame.func_name()).take(3).collect();
    (!names.is_empty()).then(|| names.join(" < "))
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

//! Core module in, component out: `componentize IN.wasm OUT.wasm`. Writes OUT only when it would change, and whole or
//! not at all. For modules whose toolchain embedded the component type, as wit-bindgen does for Rust; `tailmill wrap` is
//! the tool for all others.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use wit_component::ComponentEncoder;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        return fail("usage: componentize IN.wasm OUT.wasm");
    };
    match componentize(Path::new(from), Path::new(to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&format!("while making a component of {from}: {problem}")),
    }
}

fn componentize(from: &Path, to: &Path) -> Result<(), String> {
    let module = std::fs::read(from).map_err(|error| error.to_string())?;
    let component = encode(&module)?;
    if std::fs::read(to).is_ok_and(|known| known == component) {
        return Ok(());
    }
    // A name beside the target's, then a rename: whoever watches the directory never sees half a module.
    let part = to.with_extension("wasm.part");
    std::fs::write(&part, component).and_then(|()| std::fs::rename(&part, to)).map_err(|error| error.to_string())
}

fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    encoder.and_then(|mut encoder| encoder.encode()).map_err(|error| format!("{error:#}"))
}

#[allow(clippy::print_stderr)] // A build tool talks to whoever builds.
fn fail(message: &str) -> ExitCode {
    eprintln!("componentize: {message}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_not_a_module_is_refused() {
        assert!(super::encode(b"not wasm").is_err());
    }
}

//! Source of v1.1-line.wasm: what a filter may ask since 1.1, beside what it could before. `origin` becomes all of it, `say` is
//! logged, anything else is kept. Never built again; it is here to be read beside the test.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "line-filter" });
    export!(Frozen with_types_in self);
    use super::Frozen;
}

use bindings::exports::tailmill::filter::line::{Guest, Verdict};
use bindings::tailmill::filter::{host, origin};
use std::cell::RefCell;

struct Frozen;

thread_local! {
    /// What is said of the file during `start`.
    static AT_START: RefCell<String> = RefCell::default();
}

impl Guest for Frozen {
    fn start(_: Vec<u8>) -> Result<(), Vec<u8>> {
        AT_START.set(about_file());
        Ok(())
    }

    fn run(line: Vec<u8>) -> Result<Verdict, Vec<u8>> {
        Ok(match &line[..] {
            b"origin" => {
                let before = format!("{} {} ", origin::stream_id(), origin::node());
                let after = format!(" {} {} {}", origin::first_offset(), origin::topics().join("+"), about_file());
                Verdict::Replace([before.as_bytes(), &origin::path(), after.as_bytes()].concat())
            }
            b"start" => Verdict::Replace(AT_START.with_borrow(|said| said.as_bytes().to_vec())),
            b"say" => {
                host::log(1, &line);
                Verdict::Keep
            }
            _ => Verdict::Keep,
        })
    }
}

fn about_file() -> String {
    format!("inode={} generation={} line={}", origin::inode(), origin::generation(), origin::first_line())
}

//! Source of v1-line.wasm: every feature of the line world, by the first word of a line. Never built again; it is here to be
//! read beside the test.

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
    static CONFIG: RefCell<Vec<u8>> = RefCell::default();
}

impl Guest for Frozen {
    fn start(config: Vec<u8>) -> Result<(), Vec<u8>> {
        if config.windows(6).any(|part| part == b"refuse") {
            return Err([b"refused: ".as_slice(), &config].concat());
        }
        CONFIG.set(config);
        Ok(())
    }

    fn run(line: Vec<u8>) -> Result<Verdict, Vec<u8>> {
        let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        Ok(match word {
            b"drop" | b"" => Verdict::Drop,
            b"upper" => Verdict::Replace(line.to_ascii_uppercase()),
            b"nothing" => Verdict::Replace(Vec::new()),
            b"config" => Verdict::Replace(CONFIG.with_borrow(Clone::clone)),
            b"origin" => Verdict::Replace(about_origin()),
            b"say" => {
                host::log(1, &line);
                host::print(2, b"printed\n");
                host::count("frozen.lines", 2);
                Verdict::Keep
            }
            b"fault" => return Err(line),
            b"trap" => panic!("told to"),
            _ => Verdict::Keep,
        })
    }
}

fn about_origin() -> Vec<u8> {
    let clock = if host::now() > 1_600_000_000_000_000_000 { "clock" } else { "no clock" };
    let topics = origin::topics().join("+");
    let before = format!("{} {} ", origin::stream_id(), origin::node());
    let after = format!(" {} {topics} {clock}", origin::first_offset());
    [before.as_bytes(), &origin::path(), after.as_bytes()].concat()
}

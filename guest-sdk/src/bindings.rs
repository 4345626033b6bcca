//! The wasm side: generated bindings of `wit/filter.wit`, and the one instance that a module holds. Only for wasm32.
//!
//! Each exported interface is a world of its own here, so that a module exports just those its filter has.

use crate::answer::{Column, Lines, Outcome, Output};
use crate::filter::Filter;
use crate::run::Runner;

/// Bindings of the batch lane and of what the host lends.
#[allow(unsafe_code, missing_docs, clippy::all, unused_qualifications, unreachable_pub)]
pub mod batch {
    wit_bindgen::generate!({
        path: "wit",
        world: "tailmill:filter/batch-filter",
        export_macro_name: "export_batch",
        pub_export_macro: true,
        generate_all,
    });
}

macro_rules! optional_interface {
    ($module:ident, $macro:literal, $world:literal, $inline:literal $(, $types:literal: $same:path)?) => {
        #[doc = concat!("Bindings of an optional interface: `", stringify!($module), "`.")]
        #[allow(unsafe_code, missing_docs, clippy::all, unused_qualifications, unreachable_pub)]
        pub mod $module {
            wit_bindgen::generate!({
                path: "wit",
                inline: $inline,
                world: $world,
                export_macro_name: $macro,
                pub_export_macro: true,
                with: { $($types: $same)? },
            });
        }
    };
}

optional_interface!(
    ticks,
    "export_ticks",
    "with-ticks",
    "package tailmill:sdk; world with-ticks { export tailmill:filter/ticks@1.1.0; }",
    "tailmill:filter/types@1.1.0": crate::bindings::batch::tailmill::filter::types
);
optional_interface!(
    finish,
    "export_finish",
    "with-finish",
    "package tailmill:sdk; world with-finish { export tailmill:filter/finish@1.1.0; }",
    "tailmill:filter/types@1.1.0": crate::bindings::batch::tailmill::filter::types
);
optional_interface!(
    state,
    "export_state",
    "with-state",
    "package tailmill:sdk; world with-state { export tailmill:filter/state@1.1.0; }"
);

use batch::exports::tailmill::filter::batch as wit_batch;
use batch::tailmill::filter::{host as wit_host, origin as wit_origin, types as wit};

/// The host's functions under the names that [`crate::host`] uses.
pub(crate) mod world {
    use super::{wit_host, wit_origin};
    pub(crate) use wit_host::{count, now};
    pub(crate) use wit_origin::{first_line, first_offset, generation, inode, node, path, stream_id, topics};

    pub(crate) fn log(level: u8, message: &str) {
        wit_host::log(level, message.as_bytes());
    }
}

/// Where the macro keeps the module's instance.
pub trait Slot {
    /// The module's filter.
    type Filter: Filter;
    /// Lends out the instance; `None` before `start`.
    fn with<R>(call: impl FnOnce(&mut Option<Runner<Self::Filter>>) -> R) -> R;
}

fn running<S: Slot, R>(call: impl FnOnce(&mut Runner<S::Filter>) -> R) -> R {
    // The host always starts an instance first; if it did not, a trap is the right answer.
    S::with(|slot| call(slot.as_mut().expect("the filter was not started")))
}

impl<S: Slot> wit_batch::Guest for S {
    fn start(config: Vec<u8>) -> Result<wit_batch::Traits, Vec<u8>> {
        // A panic is a trap without a word: say why before it.
        std::panic::set_hook(Box::new(|info| wit_host::print(2, info.to_string().as_bytes())));
        let (runner, traits) = Runner::start(&config).map_err(String::into_bytes)?;
        S::with(|slot| *slot = Some(runner));
        let crate::Traits { stateless, needles, keep_skipped } = traits;
        Ok(wit_batch::Traits { stateless, needles, keep_skipped })
    }

    fn run(first: u64, lines: wit_batch::Lines) -> Result<wit_batch::Answer, wit_batch::Fault> {
        let lines = Lines { data: &lines.data, starts: &lines.starts, ends: &lines.ends };
        let answer = running::<S, _>(|runner| runner.run(first, lines)).map_err(fault)?;
        let outcome = match answer.outcome {
            Outcome::KeepAll => wit::Outcome::KeepAll,
            Outcome::DropAll => wit::Outcome::DropAll,
            Outcome::Keep(mask) => wit::Outcome::Keep(mask),
            Outcome::Emit(rows) => wit::Outcome::Emit(output(rows)),
        };
        Ok(wit::Answer { outcome, oldest_held: answer.oldest_held })
    }
}

impl<S: Slot> ticks::exports::tailmill::filter::ticks::Guest for S {
    fn every_ms() -> u32 {
        running::<S, _>(|runner| runner.every_ms())
    }

    fn tick() -> Result<wit::Released, wit::Fault> {
        running::<S, _>(Runner::tick).map(released).map_err(fault)
    }
}

impl<S: Slot> finish::exports::tailmill::filter::finish::Guest for S {
    fn flush() -> Result<wit::Released, wit::Fault> {
        running::<S, _>(Runner::flush).map(released).map_err(fault)
    }
}

impl<S: Slot> state::exports::tailmill::filter::state::Guest for S {
    fn save() -> Result<Vec<u8>, Vec<u8>> {
        running::<S, _>(|runner| runner.save()).map_err(String::into_bytes)
    }

    fn load(saved: Vec<u8>) -> Result<(), Vec<u8>> {
        running::<S, _>(|runner| runner.load(&saved)).map_err(String::into_bytes)
    }
}

fn fault(fault: crate::Fault) -> wit::Fault {
    wit::Fault { line: fault.line, message: fault.message.into_bytes() }
}

fn released(released: crate::Released) -> wit::Released {
    wit::Released { output: released.output.map(output), oldest_held: released.oldest_held }
}

fn output(rows: Output) -> wit::Output {
    wit::Output {
        lines: wit::Lines { data: rows.data, starts: rows.starts, ends: rows.ends },
        source: rows.source,
        keys: rows.keys.map(column),
        topics: rows.topics,
        timestamps_ms: rows.timestamps_ms,
        headers: rows.headers.into_iter().map(|(name, values)| wit::Header { name, values: column(values) }).collect(),
    }
}

fn column(column: Column) -> wit::Column {
    wit::Column { present: column.present, data: column.data, ends: column.ends }
}

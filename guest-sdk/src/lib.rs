//! Write [Tailmill](https://example.invalid/tailmill) log filters in Rust: one annotated function on one line.
//!
//! ```
//! use tailmill_filter::prelude::*;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     word: String,
//! }
//!
//! /// Drops lines that begin with a word.
//! #[filter]
//! fn drop_word(line: &[u8], config: &Config) -> Verdict {
//!     if line.starts_with(config.word.as_bytes()) { Verdict::Drop } else { Verdict::Keep }
//! }
//!
//! // The same function, natively, in a test:
//! let lines = ["debug: a", "info: b"];
//! assert_eq!(tailmill_filter::testing::texts::<drop_word>(r#"{"word": "debug"}"#, lines), ["info: b"]);
//! ```
//!
//! Built for `wasm32-unknown-unknown` the crate is a module for the batch lane of the contract: one call a batch, and the
//! packing is done here. A filter with a start, ticks, held lines or state implements [`Filter`] instead.
//!
//! A line is bytes, without its terminator; nothing promises UTF-8. A filter has no files, no network, no environment
//! and no clock but [`Ctx::now_ns`].

mod answer;
mod ctx;
mod filter;
mod held;
mod pack;
mod run;
mod verdict;

pub mod host;
pub mod state;

#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub mod bindings;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use answer::{Answer, Column, Fault, Lines, Outcome, Output, Released};
pub use ctx::{Ctx, LineWriter, Record};
pub use filter::{Filter, NoConfig};
pub use held::Held;
#[doc(hidden)]
pub use run::Runner;
pub use tailmill_filter_macros::filter;
pub use verdict::{IntoVerdict, Traits, Verdict};

/// Everything a filter usually needs.
pub mod prelude {
    pub use crate::{Ctx, Filter, Held, NoConfig, Traits, Verdict, filter, host};
    pub use serde::{Deserialize, Serialize};
}

/// The examples of the README are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

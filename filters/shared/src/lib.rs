//! What the stock filters have in common: patterns on bytes, and lists that may be written as one item.
#![forbid(unsafe_code)]

mod any_case;
mod list;
mod pattern;
mod search;

pub use any_case::AnyCase;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use any_case::vector;
pub use list::OneOrMany;
pub use pattern::Pattern;
pub use search::{Captures, Finder, Matcher, Span};

//! What the stock filters have in common: patterns on bytes, and lists that may be written as one item.
#![forbid(unsafe_code)]

mod list;
mod pattern;
mod search;

pub use list::OneOrMany;
pub use pattern::Pattern;
pub use search::{Captures, Finder, Matcher, Span};

//! The `#[filter]` macro of tailmill-filter.

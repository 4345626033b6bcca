//! Write Tailmill log filters in Rust: one annotated function on one line

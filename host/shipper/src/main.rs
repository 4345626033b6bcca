//! The `tailmill` command.
fn main() {}

//! The chain with scripted guests: `fake` is the guest, `bench` drives a chain, `model` says what a chain must come to.
//! Only `wasm` runs the real engine.

mod bench; // a chain, its input and what came out
mod breakers; // filters that fail too often
mod cases; // one behaviour a test
pub(crate) mod fake; // a guest that does what the lines say
mod model; // a chain without batches, faults or numbers
mod once; // random upheavals: every line comes out once
mod rest; // instances at rest, and replaced
mod random; // random scripts against the model
mod swaps; // new plans, snapshots, resumes
mod wasm; // the same with the real engine

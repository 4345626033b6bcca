//! The chain with scripted guests: no wasm here. `fake` is the guest, `bench` drives a chain, `model` says what a chain
//! must come to.

mod bench; // a chain, its input and what came out
mod fake; // a guest that does what the lines say
mod model; // a chain without batches, faults or numbers
mod random; // random scripts against the model

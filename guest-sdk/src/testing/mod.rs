//! Runs a filter natively, through the same packing as in wasm, so that a filter's tests are plain `cargo test`.
//!
//! [`texts`] is enough for most tests: lines in, lines out, checked to be the same however the lines are batched.
//! [`start`] gives a [`Tester`] for everything else: ticks, flush, save and load, keys, topics, what is held.

mod tester;
mod unpack;
pub(crate) mod world;

pub use tester::Tester;
pub use unpack::Sent;
pub use world::World;

use crate::{Fault, Filter};

/// Starts a filter. The error is the one an operator would see.
pub fn start<F: Filter>(config: &str) -> Result<Tester<F>, String> {
    Tester::start(World::default(), config)
}

/// Starts a filter in surroundings other than the usual ones.
pub fn start_in<F: Filter>(world: World, config: &str) -> Result<Tester<F>, String> {
    Tester::start(world, config)
}

/// What comes out of a filter for these lines, flush included.
///
/// The lines are given in batches of 1, 2, 3 and all at once, each to a new instance: a filter must give the same answer
/// however its lines are batched.
///
/// # Panics
/// When the filter does not start, has a fault, or answers differently for another batching.
pub fn records<F: Filter>(config: &str, lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Sent> {
    try_records::<F>(config, lines).unwrap_or_else(|fault| panic!("fault on line {:?}: {}", fault.line, fault.message))
}

/// As [`records`], the lines as text (lossy where they are no UTF-8).
///
/// # Panics
/// As [`records`].
pub fn texts<F: Filter>(config: &str, lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<String> {
    records::<F>(config, lines).iter().map(Sent::text).collect()
}

/// As [`records`], for a filter that may have a fault.
///
/// # Panics
/// When the filter does not start, or answers differently for another batching.
pub fn try_records<F: Filter>(
    config: &str,
    lines: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Result<Vec<Sent>, Fault> {
    let lines: Vec<Vec<u8>> = lines.into_iter().map(|line| line.as_ref().to_vec()).collect();
    let whole = in_batches::<F>(config, &lines, lines.len().max(1));
    for size in 1..=3.min(lines.len()) {
        let parts = in_batches::<F>(config, &lines, size);
        assert_eq!(parts, whole, "batches of {size} give another answer than one batch of {}", lines.len());
    }
    whole
}

fn in_batches<F: Filter>(config: &str, lines: &[Vec<u8>], size: usize) -> Result<Vec<Sent>, Fault> {
    let mut tester = start::<F>(config).unwrap_or_else(|error| panic!("the filter does not start: {error}"));
    let mut sent = Vec::new();
    for batch in lines.chunks(size) {
        sent.extend(tester.run(batch)?);
    }
    sent.extend(tester.flush()?);
    Ok(sent)
}

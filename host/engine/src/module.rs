//! A module that is compiled and linked, ready to be started.

use crate::answer::{Fault, World};
use crate::digest::Digest;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::surroundings::Surroundings;

/// A filter, compiled and linked. Clones are the same module.
#[derive(Clone)]
pub struct Module {}

impl Module {
    /// Digest of the bytes it was loaded from.
    pub fn digest(&self) -> Digest {
        todo!()
    }

    /// Which lane of the contract it takes.
    pub fn world(&self) -> World {
        todo!()
    }

    /// Whether it releases lines by time.
    pub fn has_ticks(&self) -> bool {
        todo!()
    }

    /// Whether it releases lines when a file is finished.
    pub fn has_finish(&self) -> bool {
        todo!()
    }

    /// Whether its state can be saved and loaded.
    pub fn has_state(&self) -> bool {
        todo!()
    }

    /// Interfaces it imports.
    pub fn imports(&self) -> Vec<String> {
        todo!()
    }

    /// Interfaces it exports.
    pub fn exports(&self) -> Vec<String> {
        todo!()
    }

    /// Size of the bytes it was loaded from.
    pub fn size_bytes(&self) -> usize {
        todo!()
    }

    /// Makes an instance and calls its `start`. `line_world_stateless`: what the entry says of a filter of the line world,
    /// which cannot say it itself. Instantiation and start together may take five times `limits.call_time`.
    pub fn start(
        &self,
        _config_json: &str,
        _limits: &Limits,
        _surroundings: &Surroundings,
        _line_world_stateless: bool,
    ) -> Result<Instance, Fault> {
        todo!()
    }
}

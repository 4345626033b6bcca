//! A running filter: lines in, checked answers out.

use crate::answer::{Answer, Fault, Lines, Released, Traits};
use crate::surroundings::{HostNotes, Origin};

/// A running filter. After a [`Fault`] it answers every call with a fault: drop it and start another.
pub struct Instance {}

impl Instance {
    /// What the filter said about itself.
    pub fn traits(&self) -> &Traits {
        todo!()
    }

    /// Answers a batch. `first`: sequence number of its first line in this stream and stage.
    pub fn run(&mut self, _first: u64, _lines: Lines<'_>, _origin: &Origin) -> Result<Answer, Fault> {
        todo!()
    }

    /// How often [`Instance::tick`] should be called. `None`: never.
    pub fn every_ms(&mut self) -> Result<Option<u32>, Fault> {
        todo!()
    }

    /// Lets the filter release lines because time passed. Nothing when the module has no `ticks`.
    pub fn tick(&mut self, _origin: &Origin) -> Result<Released, Fault> {
        todo!()
    }

    /// Lets the filter release lines because the file is finished. Nothing when the module has no `finish`.
    pub fn flush(&mut self, _origin: &Origin) -> Result<Released, Fault> {
        todo!()
    }

    /// Its state. `None` when the module has no `state`.
    pub fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        todo!()
    }

    /// Gives a fresh instance a saved state. `next`: sequence number of the line that will come next; `oldest_held`: the oldest
    /// line that is inside the state. Both are needed to check later answers.
    pub fn load_state(&mut self, _saved: &[u8], _next: u64, _oldest_held: Option<u64>) -> Result<(), Fault> {
        todo!()
    }

    /// Linear memory, all memories together.
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }

    /// What the filter said through the host interface since this was last asked.
    pub fn take_notes(&mut self) -> HostNotes {
        todo!()
    }
}

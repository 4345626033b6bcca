//! What the streams of an entry share on a shard: instances of stateless filters, one for each place of the chain, whatever
//! the number of files; and the breakers of its filters.
//!
//! A fault throws an instance away for all of them; the next call starts another. While streams take over a new plan
//! one after the other, the old and the new instance live side by side.

use super::armory::{ArmedChain, ArmedStage};
use super::breaker::Breaker;
use super::guest::Guest;
use super::meter::Meter;
use super::rest::Growth;
use crate::model::EntryName;
use std::collections::HashMap;
use std::sync::Arc;
use tailmill_engine::Fault;

/// Instances that one place of an entry may have at the same time: the one in force and the one that takes over.
const VERSIONS_MAX: usize = 2;

/// See the module. Owned by a shard.
#[derive(Default)]
pub struct SharedInstances {
    places: HashMap<(EntryName, usize), Vec<Version>>,
}

struct Version {
    armed: Arc<ArmedChain>,
    /// `None`: it failed, and nobody asked for another yet.
    guest: Option<Box<dyn Guest>>,
    growth: Growth,
    breaker: Breaker,
}

impl SharedInstances {
    /// None yet.
    pub fn new() -> Self {
        SharedInstances::default()
    }

    /// Lets go of what belongs to an entry that has no stream on this shard any more.
    pub fn forget(&mut self, entry: &str) {
        self.places.retain(|(name, _), _| **name != *entry);
    }

    /// Number of live instances.
    pub fn len(&self) -> usize {
        self.places.values().flatten().filter(|version| version.guest.is_some()).count()
    }

    /// Whether there is no live instance.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instance for a place, started if need be. A fault: it does not start.
    pub(super) fn instance(
        &mut self,
        armed: &Arc<ArmedChain>,
        place: usize,
        meter: &mut Meter<'_>,
    ) -> Result<&mut dyn Guest, Fault> {
        let version = self.version(armed, place);
        let stage: &ArmedStage = &armed.stages[place];
        let guest = match version.guest.take() {
            Some(guest) => guest,
            None => {
                let (guest, growth) = meter.start(&*stage.starter)?;
                version.growth = growth;
                guest
            }
        };
        Ok(&mut **version.guest.insert(guest))
    }

    /// The instance failed.
    pub(super) fn discard(&mut self, armed: &Arc<ArmedChain>, place: usize) {
        self.version(armed, place).guest = None;
    }

    /// A call took so long. An instance that has grown near its limit goes: the next call starts another.
    pub(super) fn called(&mut self, armed: &Arc<ArmedChain>, place: usize, ns: u64, meter: &mut Meter<'_>) {
        let version = self.version(armed, place);
        version.growth.busy_ns += ns;
        let bytes = version.guest.as_ref().map_or(0, |guest| guest.memory_bytes());
        if version.growth.is_enough(bytes, armed.stages[place].plan.limits.memory_bytes) {
            version.guest = None;
            meter.grown();
        }
    }

    /// The breaker of a place, whether or not its instances are shared.
    pub(super) fn breaker(&mut self, armed: &Arc<ArmedChain>, place: usize) -> &mut Breaker {
        &mut self.version(armed, place).breaker
    }

    fn version(&mut self, armed: &Arc<ArmedChain>, place: usize) -> &mut Version {
        let versions = self.places.entry((armed.entry.name.clone(), place)).or_default();
        let known = versions.iter().position(|version| {
            Arc::ptr_eq(&version.armed, armed)
                || (place < version.armed.stages.len() && version.armed.same_stage(place, armed, place))
        });
        let at = known.unwrap_or_else(|| {
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(Version {
                armed: armed.clone(),
                guest: None,
                growth: Growth::default(),
                breaker: Breaker::default(),
            });
            versions.len() - 1
        });
        &mut versions[at]
    }
}

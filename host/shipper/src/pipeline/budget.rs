//! How much may be in flight: a bound for the shard, and inside it a bound for each (entry, topic).
//!
//! What is charged is what is pinned: the buffer and a fixed overhead for each record, so that a flood of one-byte lines
//! is bounded too. A topic that is down fills its own share and stops its own streams, not its neighbours.

use crate::model::EntryName;
use std::collections::HashMap;
use std::sync::Arc;

/// What librdkafka and our slab keep for one record beside its value, in bytes. librdkafka's `rd_kafka_msg_t` is some
/// 160 bytes and our own vectors take 16.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 176;

/// The bounds and what is charged against them.
pub(super) struct Budget {
    shard_max: usize,
    topic_max: usize,
    shard: usize,
    topics: HashMap<(EntryName, Arc<str>), usize>,
}

impl Budget {
    /// `shard_max`: bytes in flight of the whole shard; `topic_max`: of one (entry, topic) inside it, at most half, so
    /// that one dead topic leaves the other half to everyone else.
    pub(super) fn new(shard_max: usize, topic_max: usize) -> Self {
        Budget { shard_max, topic_max: topic_max.min(shard_max / 2), shard: 0, topics: HashMap::new() }
    }

    /// Whether a stream of this entry and topic may read another batch.
    pub(super) fn has_room(&self, entry: &EntryName, topic: &Arc<str>) -> bool {
        let mine = self.topics.get(&(entry.clone(), topic.clone())).copied().unwrap_or(0);
        // A share of what is free: however many topics hang, some of the budget is always left for a healthy one.
        mine == 0 || (mine < self.topic_max && mine < (self.shard_max.saturating_sub(self.shard)))
    }

    /// Charges a parcel.
    pub(super) fn charge(&mut self, entry: &EntryName, topic: &Arc<str>, bytes: usize) {
        self.shard += bytes;
        *self.topics.entry((entry.clone(), topic.clone())).or_default() += bytes;
    }

    /// Gives a parcel's charge back.
    pub(super) fn release(&mut self, entry: &EntryName, topic: &Arc<str>, bytes: usize) {
        self.shard = self.shard.saturating_sub(bytes);
        let key = (entry.clone(), topic.clone());
        if let Some(mine) = self.topics.get_mut(&key) {
            *mine = mine.saturating_sub(bytes);
            if *mine == 0 {
                self.topics.remove(&key);
            }
        }
    }

    /// Bytes charged in all.
    pub(super) fn charged(&self) -> usize {
        self.shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn a_dead_topic_leaves_room_for_a_healthy_one() {
        let mut budget = Budget::new(1000, 1000);
        let (dead, healthy) = (name("dead"), name("healthy"));
        let mut rounds = 0;
        while budget.has_room(&dead, &dead) {
            budget.charge(&dead, &dead, 100);
            rounds += 1;
            assert!(rounds < 100, "the dead topic is bounded");
        }
        assert!(budget.charged() <= 600);
        assert!(budget.has_room(&healthy, &healthy));
        budget.charge(&healthy, &healthy, 100);
        assert!(budget.has_room(&healthy, &healthy), "and it gets more than one batch");
    }

    #[test]
    fn an_entry_with_nothing_in_flight_may_always_send_one_batch() {
        let mut budget = Budget::new(100, 100);
        for i in 0..20 {
            let entry = name(&format!("dead-{i}"));
            budget.charge(&entry, &entry, 50);
        }
        let healthy = name("healthy");
        assert!(budget.has_room(&healthy, &healthy));
        budget.charge(&healthy, &healthy, 50);
        assert!(!budget.has_room(&healthy, &healthy));
    }

    #[test]
    fn a_topic_gets_no_more_than_its_own_bound() {
        let mut budget = Budget::new(1000, 100);
        let entry = name("e");
        budget.charge(&entry, &entry, 60);
        assert!(budget.has_room(&entry, &entry));
        budget.charge(&entry, &entry, 60);
        assert!(!budget.has_room(&entry, &entry));
    }

    #[test]
    fn what_is_released_can_be_used_again() {
        let mut budget = Budget::new(100, 100);
        let entry = name("e");
        budget.charge(&entry, &entry, 80);
        assert!(!budget.has_room(&entry, &entry));
        budget.release(&entry, &entry, 80);
        assert!(budget.has_room(&entry, &entry));
        assert_eq!(budget.charged(), 0);
    }
}

//! Records of a parcel in the order and in the portions in which librdkafka gets them.

use std::ops::Range;

use super::ffi::{Item, Slot};
use super::parcel::Parcel;
use super::partition::Target;

/// Records of one parcel for one topic, in order.
pub(super) struct Run {
    pub(super) slot: Slot,
    pub(super) topic: usize,
    pub(super) records: Records,
}

pub(super) enum Records {
    All(Range<u32>),
    These(Vec<u32>),
}

impl Records {
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Records::All(range) => Box::new(range.clone()),
            Records::These(list) => Box::new(list.iter().copied()),
        }
    }

    pub(super) fn each(&self, then: impl FnMut(u32)) {
        self.iter().for_each(then);
    }
}

/// The parcel's records by topic, each topic's in order.
pub(super) fn runs(slot: Slot, parcel: &Parcel) -> Vec<Run> {
    let records = parcel.set.len() as u32;
    let topics = parcel.set.extras.as_deref().map_or(&[][..], |extras| &extras.topics);
    match topics.first() {
        None if records == 0 => Vec::new(),
        None => vec![Run { slot, topic: 0, records: Records::All(0..records) }],
        Some(first) if topics.iter().all(|topic| topic == first) => {
            vec![Run { slot, topic: usize::from(*first), records: Records::All(0..records) }]
        }
        Some(_) => {
            // An index that the parcel has no topic for fails when it is sent.
            let most = topics.iter().copied().max().unwrap_or(0);
            let mut lists: Vec<Vec<u32>> = vec![Vec::new(); usize::from(most) + 1];
            for (index, topic) in (0..).zip(topics) {
                lists[usize::from(*topic)].push(index);
            }
            let used = lists.into_iter().enumerate().filter(|(_, list)| !list.is_empty());
            used.map(|(topic, list)| Run { slot, topic, records: Records::These(list) }).collect()
        }
    }
}

impl Parcel {
    pub(super) fn has_no_keys(&self) -> bool {
        self.key.is_none() && self.set.extras.as_ref().is_none_or(|extras| extras.keys.is_none())
    }

    pub(super) fn item_without_key(&self, index: u32, partition: i32) -> Item<'_> {
        let i = index as usize;
        Item { index, start: self.set.starts[i], end: self.set.ends[i], partition, key: None }
    }

    pub(super) fn item(&self, index: u32, target: &mut Target) -> Item<'_> {
        let keys = self.set.extras.as_ref().and_then(|extras| extras.keys.as_ref());
        let key = keys.and_then(|keys| keys.get(index as usize)).or(self.key.as_deref());
        Item { key, ..self.item_without_key(index, target.choose(key)) }
    }
}

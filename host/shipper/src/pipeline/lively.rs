//! Streams whose filters have instances of their own, so that there are never too many on a shard: those that had nothing
//! to do for the longest time are put to rest when others come.
//!
//! A second-chance queue (the clock algorithm of page replacement): a stream that read something since it was looked at
//! goes to the back once more. What cannot be put to rest stays, and only a few are looked at in a turn.

use super::shard::Shard;
use super::streams::StreamIx;
use crate::filter::RestWhy;
use std::collections::VecDeque;

/// Streams of a shard with instances. Instances of small filters take some 100 KiB each, and the kernel has an end of
/// mappings (`vm.max_map_count`, 65,530) at some 20,000 instances.
const LIVELY_MAX: usize = 1_024;
/// So many are looked at in a turn.
const LOOKS: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Lively {
    queue: VecDeque<StreamIx>,
}

impl Shard {
    /// After a stream's turn: if its filters have instances now, it is among the lively ones, and others may have to rest.
    pub(super) fn note_lively(&mut self, ix: StreamIx) {
        let Some(stream) = self.streams.get_whole(ix) else { return };
        if !stream.lively && stream.chain.instances() > 0 {
            stream.lively = true;
            stream.read_since_seen = true;
            self.lively.queue.push_back(ix);
        }
        for _ in 0..LOOKS {
            if self.lively.queue.len() <= LIVELY_MAX {
                return;
            }
            self.look_at_next();
        }
    }

    fn look_at_next(&mut self) {
        let Some(ix) = self.lively.queue.pop_front() else { return };
        // Parked, or gone: it has none.
        let Some(stream) = self.streams.get_whole(ix) else { return };
        let again = std::mem::take(&mut stream.read_since_seen) || !stream.chain.is_idle();
        if !again {
            stream.put_to_rest(RestWhy::TooMany, &mut self.services);
        }
        stream.lively = stream.chain.instances() > 0;
        if stream.lively {
            self.lively.queue.push_back(ix);
        }
    }
}

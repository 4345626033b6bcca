//! How a stream ends: its file is finished, its entry lets it go, its file was truncated, or the agent stops.

use super::account;
use super::command::ShardReport;
use super::services::Services;
use super::stream::{Life, Stream, known_file};
use super::turn::Turn;
use crate::deliver::TopicState;
use crate::filter::Chain;
use std::sync::Arc;
use tailmill_tail::{BatchLimits, Read};

impl Stream {
    /// The file is gone or renamed, read to its end, and quiet: ship a last line without newline, then what the filters
    /// hold. `None`: go on working, the chain has something.
    pub(super) fn finish_file(&mut self, services: &mut Services) -> Option<Turn> {
        if let Some(turn) = self.finish_across(services) {
            return Some(turn);
        }
        let limits = BatchLimits { bytes: services.settings.batch_bytes, lines: self.batch_lines };
        match self.reader.finish(&limits, &services.pool) {
            Ok(Read::Batch(batch)) => {
                self.offer(batch, services);
                None
            }
            Ok(Read::Working) => None,
            Ok(Read::Waiting) => Some(Turn::Unpacking),
            Ok(Read::AtEnd { .. }) => {
                self.note_packed_end(services);
                self.life = Life::Finishing;
                None
            }
            Ok(Read::Truncated { .. }) => Some(Turn::Truncated),
            Err(error) => Some(self.read_failed(error, services)),
        }
    }

    /// Nothing more will come from the file: lets the filters release what they hold. What they still hold then waits for
    /// their ticks; without ticks it would wait for ever, so the stream stands still, loudly.
    pub(super) fn let_go(&mut self, services: &mut Services) -> Option<Turn> {
        if !self.flushed {
            let Some(chain) = self.chain.here() else { return Some(Turn::Idle) };
            self.flushed = true;
            chain.flush();
            return None;
        }
        let waits = self.chain.at_rest().is_none_or(Chain::waits_for_tick);
        let Some(held) = self.chain.oldest_held().filter(|_| !waits) else {
            return Some(Turn::Idle);
        };
        let reason = format!(
            "a filter holds the line at offset {held} of {}, whose file is finished, and lets it go neither by flush nor by \
             tick (replace the module, change the entry, or step over the line with `tailmill state step-over`)",
            self.path.display()
        );
        Some(self.stand_still(reason, Some(held), services))
    }

    /// Whether everything that was read has come to its end, also what filters held.
    fn is_through(&self) -> bool {
        self.progress.is_clear()
            && self.unsent.is_empty()
            && self.chain.is_idle()
            && self.flushed
            && self.chain.oldest_held().is_none()
    }

    /// Whether everything that this stream will ever send has come to its end, and what to report then.
    pub(super) fn ended(&mut self, services: &Services) -> Option<ShardReport> {
        match self.life {
            // What happens to it now decides how it ends.
            _ if self.chain.is_away() => None,
            Life::Reading | Life::Leaving => None,
            Life::GivingUp { size } if self.is_through() || (self.stuck.is_some() && self.outstanding == 0) => {
                let record = self.record(false, services.now_ms());
                let lost_bytes = size.saturating_sub(self.mark());
                Some(ShardReport::GivenUp { known: known_file(&self.key, &record), lost_bytes })
            }
            Life::GivingUp { .. } => None,
            Life::Finishing | Life::Truncated if self.is_through() => {
                // What a truncated file still owed may lie in a copy: its record stays open until that is known.
                let finished = self.life == Life::Finishing;
                let record = Box::new(self.record(finished, services.now_ms()));
                let known = known_file(&self.key, &record);
                Some(match self.life {
                    Life::Truncated => ShardReport::Truncated { known, record, file: self.reader.file().map(Arc::new) },
                    _ => ShardReport::Finished { known, record },
                })
            }
            Life::Finishing | Life::Truncated => None,
            // What is stuck or refused is behind the mark and comes again; what is on its way is waited for.
            Life::Closing if self.outstanding == 0 && (self.chain.is_idle() || self.stuck.is_some()) => {
                let record = self.record(false, services.now_ms());
                Some(ShardReport::Closed { known: known_file(&self.key, &record), record: Box::new(record) })
            }
            Life::Closing => None,
        }
    }

    /// Whether a stopping shard waits for it: something is between read and deliver, and nothing that only a person or
    /// time can change holds it back.
    pub(super) fn will_send_more(&self, services: &Services) -> bool {
        let missing = |topic: &Arc<str>| {
            services
                .topics(&self.armed.entry.cluster)
                .is_some_and(|topics| topics.partitions(topic) == TopicState::Missing)
        };
        let waiting = !self.chain.is_idle() || self.recovery.is_active() || !self.unsent.is_empty();
        // An away chain comes back soon, whatever holds the stream.
        self.chain.is_away() || waiting && self.stuck.is_none() && !self.armed.entry.topics.iter().any(missing)
    }

    /// The stream is taken off its shard: what is still pending is not counted as read any more, since it will be read
    /// (and counted) when the file is opened again.
    pub(super) fn leave_ledger(&mut self, services: &mut Services) {
        account::rewound(self, services);
    }
}

//! The order of files that had the same path one after the other.
//!
//! In: a stream that is about to read, or has a batch in its hand, and the streams of the files before its own. Out:
//! whether it has to wait. Who writes into a new file has written its earlier lines into the old one: so a batch
//! that was read waits for all that lay in the old files *after* it was read. It never waits for what comes into
//! them later: two programs that write into both for ever share the shard like any two files.
//!
//! ```text
//!   opened ----> how long are the files before? ----> wait until they were handed out so far ----> read a batch
//!                          ^                                                                           |
//!                          +--------------- the same again, as long as one of them is there <----------+
//! ```
//!
//! Asking costs one `fstat` for each of them; they are gone when they were quiet for `finish_after_ms`.

use super::shard::Shard;
use super::stream::{Life, Stream};
use super::streams::StreamIx;
use tailmill_tail::FileOffset;

/// What a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitFor {
    stream: StreamIx,
    /// Up to where it has to hand out its file. None: to its end, wherever that is when it is looked at again.
    upto: Option<FileOffset>,
}

impl Shard {
    /// Whether a file that had this path before still has something to say first.
    pub(super) fn must_wait(&mut self, ix: StreamIx) -> bool {
        let Some(stream) = self.streams.get_mut(ix).filter(|stream| stream.is_draining()) else { return false };
        if stream.predecessor.is_none() {
            return false;
        }
        let asks = std::mem::take(&mut stream.must_ask);
        let mut waits_for = std::mem::take(&mut stream.waits_for);
        if asks {
            let before = self.streams.ancestors(ix);
            if before.is_empty() {
                // All of them have come to their ends, or are read by no shard of ours.
                self.streams.has_no_predecessor(ix);
                return false;
            }
            waits_for = before.into_iter().filter_map(|before| self.ask(before)).collect();
        }
        waits_for.retain(|wait| self.streams.get(wait.stream).is_some_and(|before| before.owes(wait.upto)));
        let waits = !waits_for.is_empty();
        if let Some(stream) = self.streams.get_mut(ix) {
            stream.waits_for = waits_for;
        }
        waits
    }

    /// How far the file is written now; it is looked at again if that is news.
    fn ask(&mut self, ix: StreamIx) -> Option<WaitFor> {
        let before = self.streams.get_mut(ix)?;
        let upto = before.end_now();
        if before.is_draining() && before.reader.is_open() && upto.is_none_or(|upto| upto > before.position()) {
            before.at_end = false;
            self.schedule.ready(ix);
        }
        Some(WaitFor { stream: ix, upto })
    }

    /// Streams that wait for this one look whether they still have to.
    pub(super) fn wake_successors(&mut self, ix: StreamIx) {
        if self.streams.has_successors()
            && let Some(key) = self.streams.get(ix).map(|stream| stream.key.clone())
        {
            self.streams.waiting_behind(&key).into_iter().for_each(|other| self.schedule.ready(other));
        }
    }
}

impl Stream {
    /// Whether it reads its file.
    fn is_draining(&self) -> bool {
        matches!(self.life, Life::Reading | Life::Leaving)
    }

    /// Where its file ends. None: nobody knows (the content of a compressed file) or can look (it is closed).
    fn end_now(&self) -> Option<FileOffset> {
        let plain = self.reader.evidence().packed_bytes.is_none();
        self.reader.size().ok().filter(|_| plain && self.reader.is_open())
    }

    /// Whether something of the file before `upto` was not handed over for good: not read, in the chain, held by a filter,
    /// or not sent. A last line without newline counts, until its file is finished.
    fn owes(&self, upto: Option<FileOffset>) -> bool {
        let Some(upto) = upto.filter(|_| self.is_draining()) else { return self.goes_first() };
        self.position() < upto
            || self.chain.oldest_held().is_some_and(|held| held < upto)
            || !self.chain.is_idle()
            || !self.unsent.is_empty()
            || self.recovery.is_active()
            || self.holds_next()
    }
}

//! Input lines of a stateful stage that it may need again, and where each sequence number came from.
//!
//! Kept are the lines from the oldest that is held on, and, for a stage that can save its state, all input since the
//! last save. So after a fault a new instance can be given what the old one knew, a held line can be handed to a
//! changed filter, and a sequence number can be turned into a file offset across batches. Buffers are shared, not
//! copied, until few lines of one are left.

use super::{extras, pieces};
use crate::model::{Extras, RecordSet};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tailmill_engine::Mask;
use tailmill_tail::FileOffset;

/// See the module. Sequence numbers in it have no gaps.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    /// So many entries at the front are covered by the saved state.
    covered: usize,
}

/// One call that a stage went through.
#[derive(Debug)]
pub(super) enum Entry {
    Lines(Kept),
    Tick,
    Flush,
}

/// The lines of one call.
#[derive(Debug)]
pub(super) struct Kept {
    /// Sequence number of the first line.
    pub first: u64,
    pub set: RecordSet,
    /// Lines that went on (kept, or named as a source): a new instance must not send them on once more.
    pub gone: Mask,
    /// When they came.
    at: Instant,
    /// Whether the file offsets rise. An earlier stage may send its lines on in another order.
    rising: bool,
}

impl Kept {
    fn end(&self) -> u64 {
        self.first + self.set.len() as u64
    }
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Calls since the last save.
    pub(super) fn since_save(&self) -> usize {
        self.entries.len() - self.covered
    }

    /// The calls that a new instance has to be given after the saved state (or, without one, after its start).
    pub(super) fn replay(&self, i: usize) -> Option<&Entry> {
        self.entries.get(self.covered + i)
    }

    pub(super) fn push_lines(&mut self, first: u64, mut set: RecordSet, gone: Mask) {
        if pieces::is_sparse(&set) {
            pieces::copy_out(&mut set);
        }
        let rising = set.sources.is_sorted();
        self.entries.push_back(Entry::Lines(Kept { first, set, gone, at: Instant::now(), rising }));
    }

    /// A tick; several without lines between them count as one.
    pub(super) fn push_tick(&mut self) {
        if self.since_save() == 0 || !matches!(self.entries.back(), Some(Entry::Tick)) {
            self.entries.push_back(Entry::Tick);
        }
    }

    pub(super) fn push_flush(&mut self) {
        self.entries.push_back(Entry::Flush);
    }

    /// Whether a tick came since the last save.
    pub(super) fn was_ticked(&self) -> bool {
        self.entries.iter().skip(self.covered).any(|entry| matches!(entry, Entry::Tick))
    }

    /// The state was saved: it covers all calls so far.
    pub(super) fn saved(&mut self) {
        self.covered = self.entries.len();
    }

    /// Lets go of what is not needed: lines before `oldest_held` (`None`: all lines) that the saved state covers.
    /// `replayable`: what the saved state does not cover must stay as it is; otherwise only held lines count.
    pub(super) fn trim(&mut self, oldest_held: Option<u64>, replayable: bool) {
        while let Some(front) = self.entries.front() {
            if replayable && self.covered == 0 {
                break;
            }
            let over = match front {
                Entry::Lines(kept) => oldest_held.is_none_or(|held| kept.end() <= held),
                Entry::Tick | Entry::Flush => true,
            };
            if !over {
                break;
            }
            self.entries.pop_front();
            self.covered = self.covered.saturating_sub(1);
        }
        if !replayable || self.covered > 0 {
            self.cut_front(oldest_held);
        }
    }

    /// Forgets everything and returns the lines from `oldest_held` on that have not gone on, oldest first.
    pub(super) fn take_open(&mut self, oldest_held: Option<u64>) -> Vec<RecordSet> {
        self.covered = 0;
        self.take_open_since_save(oldest_held)
    }

    /// As [`Backlog::take_open`], but of the calls since the last save only; the others stay.
    pub(super) fn take_open_since_save(&mut self, oldest_held: Option<u64>) -> Vec<RecordSet> {
        let entries = self.entries.split_off(self.covered);
        let Some(held) = oldest_held else { return Vec::new() };
        let mut open = Vec::new();
        for entry in entries {
            let Entry::Lines(mut kept) = entry else { continue };
            let mut mask = pieces::uniform(kept.set.len(), false);
            for i in 0..kept.set.len() {
                if kept.first + i as u64 >= held && !pieces::is_set(&kept.gone, i) {
                    pieces::set(&mut mask, i);
                }
            }
            pieces::keep(&mut kept.set, &mask);
            if !kept.set.is_empty() {
                open.push(kept.set);
            }
        }
        open
    }

    /// The line with this number went on.
    pub(super) fn mark_gone(&mut self, seq: u64) {
        let Some((entry, i)) = self.position(seq) else { return };
        if let Entry::Lines(kept) = &mut self.entries[entry] {
            pieces::set(&mut kept.gone, i);
        }
    }

    /// Where the line with this number came from in the file.
    pub(super) fn offset(&self, seq: u64) -> Option<FileOffset> {
        self.kept(seq).map(|(kept, i)| kept.set.sources[i])
    }

    /// When the line with this number came, if it is known.
    pub(super) fn came_at(&self, seq: u64) -> Option<Instant> {
        self.kept(seq).map(|(kept, _)| kept.at)
    }

    /// What the line with this number came with.
    pub(super) fn extras(&self, seq: u64) -> Option<(&Extras, usize)> {
        self.kept(seq).and_then(|(kept, i)| kept.set.extras.as_deref().map(|extras| (extras, i)))
    }

    /// Whether any line came with extras.
    pub(super) fn has_extras(&self) -> bool {
        self.lines().any(|kept| kept.set.extras.is_some())
    }

    /// The least file offset of the lines with this number and higher ones.
    pub(super) fn oldest_from(&self, seq: u64) -> Option<FileOffset> {
        let from_here = |kept: &Kept| {
            let skip = usize::try_from(seq.saturating_sub(kept.first)).unwrap_or(usize::MAX);
            kept.set.sources.get(skip..).unwrap_or(&[]).iter().copied().min()
        };
        if self.is_rising(&mut 0) {
            return self.lines().find_map(from_here);
        }
        self.lines().filter_map(from_here).min()
    }

    /// Whether file offsets rise with sequence numbers, from `last` on. If so, `last` becomes the newest one.
    pub(super) fn is_rising(&self, last: &mut FileOffset) -> bool {
        self.lines().all(|kept| {
            let follows = kept.rising && kept.set.sources.first().is_none_or(|first| *first >= *last);
            *last = kept.set.sources.last().copied().unwrap_or(*last);
            follows
        })
    }

    /// Number of the first line and file offsets of each call's lines.
    pub(super) fn sources(&self) -> impl Iterator<Item = (u64, &[FileOffset])> {
        self.lines().map(|kept| (kept.first, &kept.set.sources[..]))
    }

    /// Whether the line with this number went on.
    pub(super) fn is_gone(&self, seq: u64) -> bool {
        self.kept(seq).is_some_and(|(kept, i)| pieces::is_set(&kept.gone, i))
    }

    /// Memory pinned by the calls with this number and higher ones. Calls in a row that share a buffer (a batch that
    /// was cut to find a guilty line) pin it once.
    pub(super) fn pinned_from(&self, seq: u64) -> usize {
        let mut buffer = std::ptr::null();
        let mut sum = 0;
        for kept in self.lines().filter(|kept| kept.end() > seq) {
            let same = std::ptr::eq(buffer, kept.set.buffer.as_ptr());
            sum += pieces::columns_bytes(&kept.set) + if same { 0 } else { kept.set.buffer.pinned_bytes() };
            buffer = kept.set.buffer.as_ptr();
        }
        sum
    }

    /// The saved state is given up: it covers nothing.
    pub(super) fn uncover(&mut self) {
        self.covered = 0;
    }

    /// The entry's topics changed.
    pub(super) fn retarget(&mut self, old: &[Arc<str>], new: &[Arc<str>]) {
        for entry in &mut self.entries {
            if let Entry::Lines(Kept { set: RecordSet { extras: Some(extras), .. }, .. }) = entry {
                extras::retarget(extras, old, new);
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = &Kept> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Lines(kept) => Some(kept),
            Entry::Tick | Entry::Flush => None,
        })
    }

    fn kept(&self, seq: u64) -> Option<(&Kept, usize)> {
        let (entry, i) = self.position(seq)?;
        match &self.entries[entry] {
            Entry::Lines(kept) => Some((kept, i)),
            Entry::Tick | Entry::Flush => None,
        }
    }

    /// Entry and place in it. Few entries are kept, and what is asked for is mostly in the last ones.
    fn position(&self, seq: u64) -> Option<(usize, usize)> {
        for (e, entry) in self.entries.iter().enumerate().rev() {
            if let Entry::Lines(kept) = entry
                && seq >= kept.first
            {
                return (seq < kept.end()).then(|| (e, (seq - kept.first) as usize));
            }
        }
        None
    }

    /// Cuts lines before `oldest_held` off the first entry, and lets its buffer go when little of it is left.
    fn cut_front(&mut self, oldest_held: Option<u64>) {
        let Some(held) = oldest_held else { return };
        let Some(Entry::Lines(kept)) = self.entries.front_mut() else { return };
        if held <= kept.first {
            return;
        }
        let cut = (held - kept.first) as usize;
        let rest = pieces::split_off(&mut kept.set, cut);
        let mut gone = pieces::uniform(rest.len(), false);
        for i in (0..rest.len()).filter(|i| pieces::is_set(&kept.gone, cut + i)) {
            pieces::set(&mut gone, i);
        }
        (kept.first, kept.set, kept.gone) = (held, rest, gone);
        if pieces::is_sparse(&kept.set) {
            pieces::copy_out(&mut kept.set);
        }
    }
}

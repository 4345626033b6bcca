//! A closed reader in few bytes: what thousands of idle files keep.

use std::sync::Arc;

use super::{Ground, Reader, lines_known};
use crate::batch::FileOffset;
use crate::framing::Framing;
use crate::identity::Evidence;
use crate::terminator::Terminator;

/// All that has to be kept of a reader that is closed; [`ParkedReader::wake`] makes it whole again.
#[derive(Debug)]
pub struct ParkedReader {
    framing: Arc<Framing>,
    evidence: Evidence,
    position: FileOffset,
    packed: Option<u64>,
    plain: bool,
    told_problem: bool,
}

impl Reader {
    /// The reader in few bytes. None: it is open, or has something to say.
    pub fn park(&self) -> Option<ParkedReader> {
        let Ground::Parked(evidence) = self.ground else { return None };
        let quiet = self.source.is_none() && self.problem.is_none() && self.pending.is_none() && self.waiting.is_none();
        quiet.then(|| ParkedReader {
            framing: self.framing.clone(),
            evidence,
            position: self.position,
            packed: self.packed,
            plain: self.plain,
            told_problem: self.told_problem,
        })
    }

    /// Closed, at the beginning of nothing.
    pub(super) fn closed_at(position: FileOffset, evidence: Evidence, framing: Arc<Framing>) -> Reader {
        let (next_line, line_before) = lines_known(position, &evidence);
        Reader {
            source: None,
            terminator: Terminator::of(&framing),
            framing,
            decoder: None,
            head_seen: false,
            next_line,
            line_before,
            packed: evidence.packed_bytes,
            plain: false,
            passing: None,
            problem: None,
            told_problem: false,
            position,
            ground: Ground::Parked(evidence),
            pending: None,
            overlong: None,
            overlong_head: Vec::new(),
            waiting: None,
            lines_hint: 0,
        }
    }
}

impl ParkedReader {
    /// The closed reader that it was.
    pub fn wake(self) -> Reader {
        Reader {
            packed: self.packed,
            plain: self.plain,
            told_problem: self.told_problem,
            ..Reader::closed_at(self.position, self.evidence, self.framing)
        }
    }

    /// Offset of the first byte that was not handed out in a batch yet.
    pub fn position(&self) -> FileOffset {
        self.position
    }
}

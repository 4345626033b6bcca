//! Where a stream's chain is: with its stream, or away on the shard's lane.
//!
//! What an away chain says of itself is what was true when it left. All of that is on the safe side: what is inside only
//! comes out, so the mark that follows from it passes no line. It goes on saying so until its stream has taken what
//! came of the errand: the lines of an answer that nobody took are neither in the chain nor under way to Kafka.
//!
//! ```text
//!   Here ── depart ──> Away ── come_back ──> Back ── take ──> Here
//!    ^                                         │
//!    └──────────────────── reset ──────────────┘
//! ```

use super::errand::Came;
use crate::filter::{Chain, StageEvent};
use std::sync::Arc;
use tailmill_tail::FileOffset;

/// A stream's chain, wherever it is.
pub(super) struct Seat(Place);

enum Place {
    Here(Box<Chain>),
    Away(Left),
    Back(Box<Back>),
}

/// It is back, and nobody has taken what came of the errand.
struct Back {
    chain: Box<Chain>,
    came: Came,
    left: Left,
}

/// What was true when it left.
struct Left {
    oldest_held: Option<FileOffset>,
    /// The file was renamed since.
    path: Option<Arc<[u8]>>,
}

impl Seat {
    /// With its stream.
    pub(super) fn new(chain: Chain) -> Seat {
        Seat(Place::Here(Box::new(chain)))
    }

    /// The chain, if its stream may use it now.
    pub(super) fn here(&mut self) -> Option<&mut Chain> {
        match &mut self.0 {
            Place::Here(chain) => Some(chain),
            Place::Away(_) | Place::Back(_) => None,
        }
    }

    /// The chain, if it is at rest with its stream.
    pub(super) fn at_rest(&self) -> Option<&Chain> {
        match &self.0 {
            Place::Here(chain) if chain.is_idle() => Some(chain),
            Place::Here(_) | Place::Away(_) | Place::Back(_) => None,
        }
    }

    /// Whether it is on the lane.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.0, Place::Away(_))
    }

    /// Whether all that was put in has been answered, and the answer was taken.
    pub(super) fn is_idle(&self) -> bool {
        self.at_rest().is_some()
    }

    /// Instances of this stream's own; at least one of a chain that is away, where one may be started.
    pub(super) fn instances(&self) -> usize {
        match &self.0 {
            Place::Here(chain) => chain.instances(),
            Place::Away(_) | Place::Back(_) => 1,
        }
    }

    /// The oldest line that the mark must not pass.
    pub(super) fn oldest_held(&self) -> Option<FileOffset> {
        match &self.0 {
            Place::Here(chain) => chain.oldest_held(),
            Place::Away(left) => left.oldest_held,
            Place::Back(back) => back.left.oldest_held,
        }
    }

    /// The file was renamed: it is told now, or when it is back.
    pub(super) fn set_path(&mut self, path: Arc<[u8]>) {
        match &mut self.0 {
            Place::Here(chain) => chain.set_path(path),
            Place::Away(left) => left.path = Some(path),
            Place::Back(back) => back.left.path = Some(path),
        }
    }

    /// What happened to filters since the last time.
    pub(super) fn take_events(&mut self) -> Vec<StageEvent> {
        self.here().map(Chain::take_events).unwrap_or_default()
    }

    /// The chain leaves. None: it is not here.
    pub(super) fn depart(&mut self) -> Option<Box<Chain>> {
        let Place::Here(chain) = &self.0 else { return None };
        let left = Left { oldest_held: chain.oldest_held(), path: None };
        match std::mem::replace(&mut self.0, Place::Away(left)) {
            Place::Here(chain) => Some(chain),
            Place::Away(_) | Place::Back(_) => None,
        }
    }

    /// The chain returns, with what came of its errand.
    pub(super) fn come_back(&mut self, chain: Box<Chain>, came: Came) {
        if let Place::Away(left) = &mut self.0 {
            let left = Left { oldest_held: left.oldest_held, path: left.path.take() };
            self.0 = Place::Back(Box::new(Back { chain, came, left }));
        }
    }

    /// What came of the errand, once. From now on the chain is here, and speaks for itself.
    pub(super) fn take(&mut self) -> Option<Came> {
        match std::mem::replace(&mut self.0, Place::Away(Left { oldest_held: None, path: None })) {
            Place::Back(back) => {
                let Back { mut chain, came, left } = *back;
                if let Some(path) = left.path {
                    chain.set_path(path);
                }
                self.0 = Place::Here(chain);
                Some(came)
            }
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// The stream goes back to its mark: the chain forgets everything. It must not be away.
    pub(super) fn reset(&mut self) {
        drop(self.take());
        if let Some(chain) = self.here() {
            chain.reset();
        }
    }
}

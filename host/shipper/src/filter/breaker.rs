//! The breaker of one place of an entry's chain on a shard: a filter that fails too often is left alone for a while.
//!
//! ```text
//!   closed ── faults, and a share of the lines, within a time ──> open ── rest is over ──> half open
//!     ^                                                             ^                          │
//!     └──────────── as many good lines in a row of calls ───────────┼──── a few more faults ───┤
//!                                                                   └── (rests twice as long) ─┘
//! ```
//!
//! What counts as a fault is a line that `on_error` would be applied to, and a filter that does not start. While it is
//! open the entry's streams stand still, or go past the filter, as its plan says. It counts lines, and reads no clock
//! as long as nothing fails.

use crate::model::BreakerPlan;
use std::time::{Duration, Instant};
use tailmill_engine::Fault;

/// The longest rest, in units of the first.
const REST_FACTOR_MAX: u32 = 32;
/// Half open, so much smaller a number of faults opens it again.
const HALF_OPEN: u32 = 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// Since when the counts run.
    since: Option<Instant>,
    faults: u32,
    /// Lines of calls that went well.
    good: u64,
    /// How often the rest was doubled.
    doublings: u32,
    last: Option<Fault>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen,
}

/// What a filter's breaker says of a call that is about to be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Make it.
    Free,
    /// Not before this moment.
    Shut(Instant),
}

impl Breaker {
    /// Whether a call may be made.
    pub(super) fn gate(&mut self, now: impl FnOnce() -> Instant) -> Gate {
        let State::Open { until } = self.state else { return Gate::Free };
        let now = now();
        if now < until {
            return Gate::Shut(until);
        }
        self.state = State::HalfOpen;
        self.begin(now);
        Gate::Free
    }

    /// A call with so many lines went well. True: that closed it again.
    pub(super) fn good(&mut self, plan: &BreakerPlan, lines: u64) -> bool {
        self.good += lines;
        let closes = matches!(self.state, State::HalfOpen) && self.good >= u64::from(plan.faults);
        if closes {
            *self = Breaker::default();
        }
        closes
    }

    /// A line failed, or the filter did not start. `Some`: it is open now, until then, after so many faults.
    pub(super) fn fault(&mut self, plan: &BreakerPlan, fault: &Fault, now: Instant) -> Option<(Instant, u32)> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > plan.within) {
            self.begin(now);
        }
        self.faults += 1;
        let enough = match self.state {
            // At least one line gets its end each time: nothing waits for ever.
            State::HalfOpen => plan.faults.div_ceil(HALF_OPEN).max(2),
            State::Closed | State::Open { .. } => plan.faults,
        };
        let lines = u64::from(self.faults) + self.good;
        if self.faults < enough || u64::from(self.faults) * 100 < u64::from(plan.percent) * lines {
            return None;
        }
        Some((self.open(plan, fault, now), self.faults))
    }

    /// Opens it at once.
    pub(super) fn open(&mut self, plan: &BreakerPlan, fault: &Fault, now: Instant) -> Instant {
        self.doublings = match self.state {
            State::Closed => 0,
            State::Open { .. } | State::HalfOpen => self.doublings + 1,
        };
        let factor = 1_u32.checked_shl(self.doublings).unwrap_or(REST_FACTOR_MAX).min(REST_FACTOR_MAX);
        let until = now + plan.rest.saturating_mul(factor);
        self.state = State::Open { until };
        self.last = Some(fault.clone());
        until
    }

    /// The fault that opened it.
    pub(super) fn last_fault(&self) -> Option<&Fault> {
        self.last.as_ref()
    }

    fn begin(&mut self, now: Instant) {
        (self.since, self.faults, self.good) = (Some(now), 0, 0);
    }
}

/// For how long from now, for people.
pub(super) fn seconds(until: Instant, now: Instant) -> u64 {
    until.saturating_duration_since(now).saturating_add(Duration::from_millis(999)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BreakerThen;
    use tailmill_engine::FaultKind;

    const PLAN: BreakerPlan = BreakerPlan {
        faults: 20,
        within: Duration::from_secs(10),
        percent: 50,
        rest: Duration::from_secs(1),
        then: BreakerThen::Hold,
    };

    fn fault() -> Fault {
        Fault { kind: FaultKind::Trap, line: None, message: "scripted".into() }
    }

    /// Faults at these moments (ms), each after so many good lines. How many were judged before it opened.
    fn judged(breaker: &mut Breaker, from: Instant, every_ms: u64, good: u64, count: u64) -> Option<u64> {
        (0..count).find(|i| {
            breaker.good(&PLAN, good);
            breaker.fault(&PLAN, &fault(), from + Duration::from_millis(i * every_ms)).is_some()
        })
    }

    #[test]
    fn it_opens_after_enough_faults_in_its_time_when_they_are_a_large_share() {
        let now = Instant::now();
        let cases = [
            ("every line", 1, 0, Some(19)),
            ("every other line", 1, 1, Some(19)),
            ("one of three", 1, 2, None),
            ("one in a thousand", 1, 999, None),
            ("every line, slowly", 600, 0, None),
            ("just often enough", 500, 0, Some(19)),
        ];
        for (what, every_ms, good, opened) in cases {
            assert_eq!(judged(&mut Breaker::default(), now, every_ms, good, 100), opened, "{what}");
        }
    }

    #[test]
    fn it_rests_longer_each_time_and_closes_after_as_many_good_lines() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.gate(|| unreachable!("closed, it reads no clock")), Gate::Free);
        judged(&mut breaker, now, 0, 0, 20);
        for rest in [1, 2, 4, 8, 16, 32, 32] {
            let until = now + Duration::from_secs(rest);
            assert_eq!(breaker.gate(|| now), Gate::Shut(until));
            assert_eq!(breaker.gate(|| until - Duration::from_millis(1)), Gate::Shut(until));
            now = until;
            assert_eq!(breaker.gate(|| now), Gate::Free);
            assert!(!breaker.good(&PLAN, 1), "one line proves nothing");
            assert_eq!(judged(&mut breaker, now, 0, 0, 20), Some(1), "half open, it is on its guard");
        }
        now += Duration::from_secs(32);
        assert_eq!(breaker.gate(|| now), Gate::Free);
        assert!(!breaker.good(&PLAN, 19));
        assert!(breaker.good(&PLAN, 1), "it closes");
        assert!(!breaker.good(&PLAN, 100), "once");
        assert_eq!(judged(&mut breaker, now, 0, 0, 100), Some(19), "as if nothing had been");
        assert_eq!(breaker.gate(|| now), Gate::Shut(now + Duration::from_secs(1)));
    }
}

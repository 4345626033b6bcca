//! How often the log says that a filter failed.
//!
//! In: faults, by entry and filter. Out: whether this one is told, and from time to time how many were not. The first
//! few of a spell are told one by one, then there is one line in ten seconds, so that a filter that fails on every line
//! of a thousand files fills no disk. The ledger counts them all.

use crate::model::EntryName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Faults of one filter of an entry that are told one by one.
pub(super) const TOLD: u64 = 5;
/// From the second spell on, one line in so much time.
const SPELL: Duration = Duration::from_secs(10);

/// Faults of one shard's filters that were told, and how many were not. One spell for each filter that failed lately.
#[derive(Default)]
pub(super) struct Said {
    spells: BTreeMap<(EntryName, Arc<str>), Spell>,
}

struct Spell {
    since: Instant,
    told: u64,
    untold: u64,
    last: String,
}

/// Faults that were not told one by one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untold {
    pub entry: EntryName,
    pub filter: Arc<str>,
    pub faults: u64,
    /// In so many seconds.
    pub seconds: u64,
    /// What the last of them said, if anybody heard.
    pub last: String,
}

impl Said {
    /// Whether a fault is told one by one; otherwise it is among those that [`Said::untold`] tells of.
    pub(super) fn tells(
        &mut self,
        entry: &EntryName,
        filter: &Arc<str>,
        now: Instant,
        message: impl FnOnce() -> String,
    ) -> bool {
        let spell = self.spell(entry, filter, now);
        if spell.told < TOLD {
            spell.told += 1;
            return true;
        }
        spell.untold += 1;
        spell.last = message();
        false
    }

    /// So many faults happened of which nothing more is known.
    pub(super) fn more(&mut self, entry: &EntryName, filter: &Arc<str>, now: Instant, faults: u64) {
        self.spell(entry, filter, now).untold += faults;
    }

    /// What is to be told of spells that are over; `at_end`: of all of them. A filter that failed all the time is told of
    /// in one line a spell from now on; one that did not is forgotten.
    pub(super) fn untold(&mut self, now: Instant, at_end: bool) -> Vec<Untold> {
        let mut untold = Vec::new();
        self.spells.retain(|(entry, filter), spell| {
            let lasted = now.saturating_duration_since(spell.since);
            if lasted < SPELL && !at_end {
                return true;
            }
            if spell.untold == 0 {
                return false;
            }
            let (entry, filter, last) = (entry.clone(), filter.clone(), std::mem::take(&mut spell.last));
            untold.push(Untold { entry, filter, faults: spell.untold, seconds: lasted.as_secs().max(1), last });
            (spell.since, spell.told, spell.untold) = (now, TOLD, 0);
            true
        });
        untold
    }

    fn spell(&mut self, entry: &EntryName, filter: &Arc<str>, now: Instant) -> &mut Spell {
        let new = || Spell { since: now, told: 0, untold: 0, last: String::new() };
        self.spells.entry((entry.clone(), filter.clone())).or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(said: &mut Said, filter: &str, now: Instant, times: u64) -> u64 {
        (0..times).filter(|i| said.tells(&"e".into(), &filter.into(), now, || format!("fault {i}"))).count() as u64
    }

    fn told_of(said: &mut Said, now: Instant, at_end: bool) -> Vec<(String, u64, u64)> {
        let of = |untold: Untold| (untold.filter.to_string(), untold.faults, untold.seconds);
        said.untold(now, at_end).into_iter().map(of).collect()
    }

    #[test]
    fn the_first_few_faults_are_told_then_one_line_a_spell_as_long_as_it_fails() {
        let (mut said, start) = (Said::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((fail(&mut said, "a", at(0), 1_000), fail(&mut said, "b", at(0), 3)), (TOLD, 3));
        said.more(&"e".into(), &"a".into(), at(1), 7);
        assert_eq!(told_of(&mut said, at(9), false), []);
        assert_eq!(told_of(&mut said, at(10), false), [("a".to_owned(), 1_000 - TOLD + 7, 10)]);
        assert_eq!((fail(&mut said, "a", at(11), 10), fail(&mut said, "b", at(11), 3)), (0, 3), "it still fails");
        assert_eq!(told_of(&mut said, at(20), false), [("a".to_owned(), 10, 10)]);
        assert_eq!(told_of(&mut said, at(31), false), [], "it was well for a spell");
        assert_eq!(fail(&mut said, "a", at(32), 10), TOLD);
        assert_eq!(told_of(&mut said, at(33), true), [("a".to_owned(), 10 - TOLD, 1)], "the agent stops");
    }

    #[test]
    fn the_last_fault_is_told_with_the_number() {
        let (mut said, now) = (Said::default(), Instant::now());
        fail(&mut said, "a", now, 20);
        let last: Vec<String> = said.untold(now, true).into_iter().map(|untold| untold.last).collect();
        assert_eq!(last, ["fault 19"]);
    }
}

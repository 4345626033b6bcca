//! What etcd holds, as far as we know, and what each message of the watch means. Pure.
//!
//! ```text
//!            list                      created, changes, progress
//!   lost ───────────> listed at R ───────────────────────────────┐
//!    ^                     │  watch from R+1                      │ Nothing | Changed
//!    └── ListAgain(why) <──┴── canceled, compacted, failed, ended, gone back, silent
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::build::{FoundArray, FoundEntry, FoundEtcd};
use crate::model::Origin;

/// Progress reports below the listed revision that are taken for a member lagging behind rather than another history.
const BEHIND_MAX: u32 = 2;

/// One message of the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A watch was accepted.
    Created,
    /// Keys changed.
    Changes {
        /// As of this revision.
        revision: i64,
        /// In order.
        changes: Vec<Change>,
    },
    /// Nothing changed up to this revision.
    Progress {
        /// The store's revision.
        revision: i64,
    },
    /// No event will come any more.
    Canceled {
        /// The oldest revision that is still there, when the start was compacted; else 0.
        compact_revision: i64,
        /// Empty when compacted.
        reason: String,
    },
    /// The connection failed.
    Failed(String),
    /// The stream ended without an error.
    Ended,
    /// Neither an event nor an answer to a progress request came in time.
    Silent,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: String,
    /// None: deleted.
    pub(crate) value: Option<Arc<[u8]>>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Go on listening.
    Nothing,
    /// Go on listening; [`View::found`] gives something else now.
    Changed,
    /// The watch is worth nothing any more, for this reason: list again.
    ListAgain(String),
}

/// What is read of all that lies under the prefix.
pub(super) const FOLDERS: [&str; 3] = ["entries/", "modules/", "releases/"];

/// Keys and values as of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    prefix: String,
    array_key: Option<String>,
    listed_at: i64,
    /// Of the last change.
    changed_at: i64,
    behind: u32,
    /// In the order of [`FOLDERS`], without the folder's name.
    folders: [BTreeMap<String, Arc<[u8]>>; 3],
    array: Option<Arc<[u8]>>,
}

impl View {
    /// What a list at `revision` gave.
    pub(crate) fn listed(
        prefix: &str,
        array_key: Option<&str>,
        revision: i64,
        pairs: impl IntoIterator<Item = (String, Arc<[u8]>)>,
    ) -> View {
        let mut view = View {
            prefix: prefix.to_owned(),
            array_key: array_key.map(str::to_owned),
            listed_at: revision,
            changed_at: revision,
            behind: 0,
            folders: Default::default(),
            array: None,
        };
        for (key, value) in pairs {
            view.apply(Change { key, value: Some(value) });
        }
        view
    }

    /// Where the watch begins.
    pub(crate) fn watch_from(&self) -> i64 {
        self.listed_at + 1
    }

    pub(crate) fn hear(&mut self, heard: Heard) -> Then {
        match heard {
            Heard::Created => Then::Nothing,
            Heard::Changes { revision, changes } => {
                self.behind = 0;
                self.changed_at = self.changed_at.max(revision);
                let changed: Vec<bool> = changes.into_iter().map(|change| self.apply(change)).collect();
                if changed.contains(&true) { Then::Changed } else { Then::Nothing }
            }
            Heard::Progress { revision } if revision < self.listed_at => {
                self.behind += 1;
                if self.behind < BEHIND_MAX {
                    return Then::Nothing;
                }
                Then::ListAgain(format!("the store went back to revision {revision} from {}", self.listed_at))
            }
            Heard::Progress { .. } => {
                self.behind = 0;
                Then::Nothing
            }
            Heard::Canceled { compact_revision: 1.., .. } => {
                Then::ListAgain("the revision to watch from was compacted".to_owned())
            }
            Heard::Canceled { reason, .. } if reason.is_empty() => Then::ListAgain("the watch was canceled".to_owned()),
            Heard::Canceled { reason, .. } => Then::ListAgain(format!("the watch was canceled: {reason}")),
            Heard::Failed(reason) => Then::ListAgain(reason),
            Heard::Ended => Then::ListAgain("the watch ended".to_owned()),
            Heard::Silent => Then::ListAgain("the watch is silent".to_owned()),
        }
    }

    /// Whether it made a difference.
    fn apply(&mut self, change: Change) -> bool {
        if self.array_key.as_deref() == Some(&change.key) {
            let before = std::mem::replace(&mut self.array, change.value);
            return before != self.array;
        }
        let Some(path) = change.key.strip_prefix(&self.prefix) else { return false };
        let found =
            FOLDERS.iter().zip(&mut self.folders).find_map(|(name, keys)| Some((path.strip_prefix(name)?, keys)));
        let Some((name, keys)) = found else { return false };
        match change.value {
            Some(value) => {
                let before = keys.insert(name.to_owned(), value.clone());
                before.is_none_or(|before| before != value)
            }
            None => keys.remove(name).is_some(),
        }
    }

    /// As of which revision this is what etcd holds.
    pub(crate) fn revision(&self) -> i64 {
        self.changed_at
    }

    /// For the plan.
    pub(crate) fn found(&self) -> FoundEtcd {
        let entry = |(name, json): (&String, &Arc<[u8]>)| FoundEntry {
            origin: Origin::EtcdKey(format!("{}entries/{name}", self.prefix)),
            name: name.clone(),
            json: json.clone(),
        };
        let array = self.array_key.as_ref().zip(self.array.as_ref());
        let [entries, modules, releases] = &self.folders;
        FoundEtcd {
            entries: entries.iter().map(entry).collect(),
            modules: modules.clone(),
            releases: releases.clone(),
            array: array.map(|(key, json)| FoundArray { key: key.clone(), json: json.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change { key: key.to_owned(), value: Some(value.as_bytes().into()) }
    }

    fn delete(key: &str) -> Change {
        Change { key: key.to_owned(), value: None }
    }

    fn changes(changes: &[Change]) -> Heard {
        Heard::Changes { revision: 11, changes: changes.to_vec() }
    }

    fn canceled(compact_revision: i64, reason: &str) -> Heard {
        Heard::Canceled { compact_revision, reason: reason.to_owned() }
    }

    /// Plays messages to a view that was listed at revision 10 with entry `a` and an array. Gives what each came to, and
    /// the names and the array at the end.
    fn check(script: &[Heard], then: &[Then], names: &[&str], array: Option<&str>) {
        let pairs = [("/t/entries/a", "1"), ("arr", "[]")].map(|(k, v)| (k.to_owned(), Arc::from(v.as_bytes())));
        let mut view = View::listed("/t/", Some("arr"), 10, pairs);
        assert_eq!(view.watch_from(), 11);
        let said: Vec<Then> = script.iter().map(|heard| view.hear(heard.clone())).collect();
        assert_eq!(said, then, "{script:?}");
        let found = view.found();
        let found_names: Vec<&str> = found.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(found_names, names, "{script:?}");
        assert_eq!(found.array.map(|array| array.json), array.map(|array| Arc::from(array.as_bytes())), "{script:?}");
    }

    fn again(reason: &str) -> Then {
        Then::ListAgain(reason.to_owned())
    }

    #[test]
    fn changes_show_and_what_changes_nothing_does_not() {
        use Then::{Changed, Nothing};
        check(&[Heard::Created, Heard::Created], &[Nothing, Nothing], &["a"], Some("[]"));
        check(&[changes(&[put("/t/entries/b", "2")])], &[Changed], &["a", "b"], Some("[]"));
        check(&[changes(&[put("/t/entries/a", "1")])], &[Nothing], &["a"], Some("[]"));
        check(&[changes(&[put("/t/entries/a", "2"), delete("/t/entries/a")])], &[Changed], &[], Some("[]"));
        check(&[changes(&[delete("/t/entries/zz"), put("/t/other", "x")])], &[Nothing], &["a"], Some("[]"));
        check(&[changes(&[put("arr", "[1]")])], &[Changed], &["a"], Some("[1]"));
        check(&[changes(&[delete("arr")])], &[Changed], &["a"], None);
    }

    #[test]
    fn a_watch_that_is_worth_nothing_is_listed_again_and_what_was_known_stays() {
        let compacted = again("the revision to watch from was compacted");
        // As measured: canceled with a compact revision and an empty reason, then silence.
        check(&[Heard::Created, canceled(20, "")], &[Then::Nothing, compacted], &["a"], Some("[]"));
        // As measured: forbidden comes as canceled with a reason.
        let forbidden = "etcdserver: permission denied";
        check(
            &[canceled(0, forbidden)],
            &[again("the watch was canceled: etcdserver: permission denied")],
            &["a"],
            Some("[]"),
        );
        check(&[canceled(0, "")], &[again("the watch was canceled")], &["a"], Some("[]"));
        check(&[Heard::Failed("broken pipe".to_owned())], &[again("broken pipe")], &["a"], Some("[]"));
        check(&[Heard::Ended], &[again("the watch ended")], &["a"], Some("[]"));
        check(&[Heard::Silent], &[again("the watch is silent")], &["a"], Some("[]"));
    }

    #[test]
    fn a_store_that_went_back_is_listed_again_but_a_member_that_lags_once_is_not() {
        let progress = |revision| Heard::Progress { revision };
        let gone_back = again("the store went back to revision 3 from 10");
        check(&[progress(10), progress(99)], &[Then::Nothing, Then::Nothing], &["a"], Some("[]"));
        check(
            &[progress(9), progress(10), progress(9)],
            &[Then::Nothing, Then::Nothing, Then::Nothing],
            &["a"],
            Some("[]"),
        );
        check(&[progress(3), progress(3)], &[Then::Nothing, gone_back], &["a"], Some("[]"));
    }

    #[test]
    fn the_found_entries_name_their_keys() {
        let view = View::listed("/t/", None, 1, [("/t/entries/web".to_owned(), Arc::from(&b"{}"[..]))]);
        assert_eq!(view.found().entries[0].origin.to_string(), "etcd /t/entries/web");
    }
}

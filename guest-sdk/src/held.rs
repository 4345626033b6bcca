//! Lines that a filter keeps back. As long as a [`Held`] lives, its line counts as inside the filter and the host does not
//! move its mark past it: after a crash the line is read again. So forgetting to say what is held is not possible.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Proof that a line is still inside the filter. Keep it beside what you keep of the line; drop it when the line is done.
///
/// A record that is emitted in the same call in which a `Held` is dropped counts as made from that line.
/// Saved and loaded as a number, so it can be part of a filter's state.
#[derive(Debug)]
#[must_use = "a line is held only as long as its `Held` lives"]
pub struct Held {
    line: u64,
    tracker: Rc<Tracker>,
}

impl Held {
    pub(crate) fn new(tracker: &Rc<Tracker>, line: u64) -> Held {
        tracker.hold(line);
        Held { line, tracker: Rc::clone(tracker) }
    }

    /// The number of the line in its stream.
    pub fn line(&self) -> u64 {
        self.line
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tracker.release(self.line);
    }
}

impl Serialize for Held {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(self.line)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Held, D::Error> {
        let line = u64::deserialize(input)?;
        LOADING.with_borrow(|tracker| match tracker {
            Some(tracker) => Ok(Held::new(tracker, line)),
            None => Err(de::Error::custom("a held line can only be loaded by the filter's `load`")),
        })
    }
}

thread_local! {
    /// The tracker of the instance whose state is being loaded: serde has no way to hand it over.
    static LOADING: RefCell<Option<Rc<Tracker>>> = const { RefCell::new(None) };
}

/// Which lines one instance holds.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Line number → how many `Held` of it live.
    lines: RefCell<BTreeMap<u64, u32>>,
    /// The oldest line let go since the current line's call began.
    let_go: Cell<Option<u64>>,
}

impl Tracker {
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.lines.borrow().keys().next().copied()
    }

    pub(crate) fn take_let_go(&self) -> Option<u64> {
        self.let_go.take()
    }

    #[inline]
    pub(crate) fn forget_let_go(&self) {
        self.let_go.set(None);
    }

    /// Runs `load` so that what it reads is held here.
    pub(crate) fn while_loading<R>(self: &Rc<Self>, load: impl FnOnce() -> R) -> R {
        let before = LOADING.replace(Some(Rc::clone(self)));
        let result = load();
        LOADING.set(before);
        self.forget_let_go();
        result
    }

    fn hold(&self, line: u64) {
        *self.lines.borrow_mut().entry(line).or_default() += 1;
    }

    fn release(&self, line: u64) {
        let mut lines = self.lines.borrow_mut();
        if let Some(count) = lines.get_mut(&line) {
            *count -= 1;
            if *count == 0 {
                lines.remove(&line);
            }
        }
        let older = self.let_go.get().map_or(line, |oldest| oldest.min(line));
        self.let_go.set(Some(older));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_living_held_is_what_counts() {
        let tracker = Rc::new(Tracker::default());
        let first = Held::new(&tracker, 3);
        let again = Held::new(&tracker, 3);
        let second = Held::new(&tracker, 5);
        drop(first);
        assert_eq!(tracker.oldest(), Some(3), "one of two is gone");
        drop(again);
        assert_eq!((tracker.oldest(), tracker.take_let_go()), (Some(5), Some(3)));
        drop(second);
        assert_eq!((tracker.oldest(), tracker.take_let_go(), tracker.take_let_go()), (None, Some(5), None));
    }

    #[test]
    fn a_held_line_survives_save_and_load_and_only_those() {
        let tracker = Rc::new(Tracker::default());
        let saved = serde_json::to_string(&Held::new(&tracker, 7)).expect("save");
        assert_eq!(saved, "7");
        assert!(serde_json::from_str::<Held>(&saved).is_err(), "outside of load nobody would count it");
        let other = Rc::new(Tracker::default());
        let held: Held = other.while_loading(|| serde_json::from_str(&saved)).expect("load");
        assert_eq!((held.line(), other.oldest()), (7, Some(7)));
    }
}

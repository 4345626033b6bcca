//! The committer against a store that fails as scripted, on a clock that the tests turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crossbeam_channel::{bounded, unbounded};

use super::super::records::sample;
use super::*;

/// A store that answers by script (true: it works; at the end it always works) and remembers.
#[derive(Clone, Default)]
struct Scripted {
    answers: Rc<RefCell<VecDeque<bool>>>,
    commits: Rc<RefCell<Vec<String>>>,
}

impl MarkStore for Scripted {
    fn commit(&mut self, changes: Changes<'_>) -> Result<(), StoreError> {
        if !self.answers.borrow_mut().pop_front().unwrap_or(true) {
            let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(StoreError::Io { action: "writing", path: "/state/tailmill.redb".into(), source: full });
        }
        let mut words: Vec<String> = changes
            .records
            .iter()
            .map(|record| format!("{}@{}", record.entry, record.resume.offset()))
            .chain(changes.removed.iter().map(|key| format!("-{}", key.entry)))
            .chain(changes.entries_seen.iter().map(|name| format!("+{name}")))
            .collect();
        words.sort();
        self.commits.borrow_mut().push(words.join(" "));
        Ok(())
    }
}

/// At so many milliseconds something comes, or the clock is looked at.
enum Step {
    Record(&'static str, u64),
    Removed(&'static str),
    Seen(&'static str),
    Flush,
    Look,
}

fn check(answers: &[bool], steps: &[(u64, Step)], commits: &[&str]) -> Vec<StoreHealth> {
    let store = Scripted::default();
    store.answers.borrow_mut().extend(answers);
    let reports = Rc::new(RefCell::new(Vec::new()));
    let heard = reports.clone();
    let every = Duration::from_secs(1);
    let mut committer = Committer::new(store.clone(), every, move |health| heard.borrow_mut().push(health));
    let start = Instant::now();
    for (at_ms, step) in steps {
        let now = start + Duration::from_millis(*at_ms);
        match step {
            Record(entry, offset) => {
                let records = vec![sample(entry, 1, *offset)];
                committer.take(CommitMessage::Commit { records, removed: vec![] }, now);
            }
            Removed(entry) => {
                let removed = vec![sample(entry, 1, 0).key()];
                committer.take(CommitMessage::Commit { records: vec![], removed }, now);
            }
            Seen(name) => committer.take(CommitMessage::EntrySeen((*name).into()), now),
            Flush => committer.take(CommitMessage::Flush(bounded(1).0), now),
            Look => {}
        }
        committer.commit_if_due(now);
    }
    assert_eq!(*store.commits.borrow(), commits);
    reports.take()
}

use Step::{Flush, Look, Record, Removed, Seen};

#[test]
fn what_comes_within_a_second_goes_in_together_and_the_newest_word_wins() {
    let steps =
        [(0, Record("a", 1)), (10, Record("b", 5)), (20, Record("a", 2)), (900, Seen("a")), (999, Look), (1000, Look)];
    check(&[], &steps, &["+a a@2 b@5"]);
    check(&[], &[(0, Record("a", 1)), (1, Removed("a")), (1001, Look)], &["-a"]);
    check(&[], &[(0, Removed("a")), (1, Record("a", 9)), (1001, Look)], &["a@9"]);
}

#[test]
fn nothing_is_written_when_nothing_came() {
    check(&[], &[(0, Look), (5000, Look), (5001, Flush)], &[]);
}

#[test]
fn a_flush_commits_at_once() {
    check(&[], &[(0, Record("a", 1)), (1, Flush), (2, Record("a", 2)), (1001, Look), (1002, Look)], &["a@1", "a@2"]);
}

#[test]
fn on_a_full_disk_marks_wait_and_the_newest_are_written_when_there_is_room() {
    let steps = [
        (0, Record("a", 1)),
        (1000, Look), // fails, again in 1 s
        (1500, Record("a", 2)),
        (1600, Record("b", 7)),
        (1999, Look),
        (2000, Look), // fails, again in 2 s
        (3999, Look),
        (4000, Look),
    ];
    let health = check(&[false, false], &steps, &["a@2 b@7"]);
    let troubles: Vec<(bool, usize)> = health.iter().map(|health| (health.trouble.is_some(), health.waiting)).collect();
    assert_eq!(troubles, [(true, 1), (true, 2), (false, 0)]);
    let trouble = health[0].trouble.as_deref().unwrap();
    assert!(trouble.contains("shipping goes on") && trouble.contains("No space left"), "{trouble}");
}

#[test]
fn the_pause_between_attempts_grows_to_half_a_minute() {
    let seconds: Vec<u64> = [1, 2, 3, 6, 60].map(|failures| backoff(failures).as_secs()).to_vec();
    assert_eq!(seconds, [1, 2, 4, 30, 30]);
}

#[test]
fn a_flush_says_what_went_wrong_and_the_end_of_the_senders_commits_the_rest() {
    let store = Scripted::default();
    store.answers.borrow_mut().push_back(false);
    let (send, messages) = unbounded();
    let (reply, answer) = bounded(1);
    send.send(CommitMessage::Commit { records: vec![sample("a", 1, 3)], removed: vec![] }).unwrap();
    send.send(CommitMessage::Flush(reply)).unwrap();
    drop(send);
    Committer::new(store.clone(), Duration::from_secs(3600), |_| {}).run(messages);
    assert!(answer.recv().unwrap().unwrap_err().contains("No space left"));
    assert_eq!(*store.commits.borrow(), ["a@3"]);
}

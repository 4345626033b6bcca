//! Progress against scripted histories and against a naive model.

use proptest::prelude::*;
use tailmill_engine::Digest;

use super::*;

fn evidence(at: u64) -> Evidence {
    Evidence { at, ..Evidence::default() }
}

fn stage(byte: u8) -> Vec<StageSnapshot> {
    vec![StageSnapshot {
        name: "join".into(),
        digest: Digest([0; 32]),
        state: vec![byte],
        next_seq: 0,
        oldest_held: None,
    }]
}

fn offset(progress: &mut Progress, read: u64, held: Option<u64>) -> u64 {
    progress.resume_point(read, held).0.offset()
}

#[test]
fn a_later_success_never_passes_an_earlier_failure() {
    let mut progress = Progress::new(0, evidence(0));
    let first = progress.issue(0, evidence(0), 2, LineCount { lines: 2, bytes: 20 });
    let second = progress.issue(20, evidence(20), 1, LineCount::one(10));
    assert_eq!(progress.settle(second, 1), Some(LineCount::one(10)));
    assert_eq!(progress.mark(30, None), 0, "the first is still on its way");
    assert_eq!(progress.settle(first, 1), None);
    assert_eq!(progress.mark(30, None), 0, "and one of its records is still on its way");
    assert_eq!(progress.settle(first, 1), Some(LineCount { lines: 2, bytes: 20 }));
    assert_eq!(progress.mark(30, None), 30);
    assert_eq!(progress.settle(first, 1), None, "a ticket is resolved once");
}

#[test]
fn a_joined_line_that_began_two_batches_ago_holds_the_mark() {
    let mut progress = Progress::new(0, evidence(0));
    progress.note_boundary(evidence(100));
    progress.note_boundary(evidence(200));
    assert_eq!(progress.mark(300, Some(40)), 40, "while the filter holds it");
    let joined = progress.issue(40, evidence(0), 1, LineCount { lines: 3, bytes: 260 });
    assert_eq!(progress.mark(300, None), 40, "while it is on its way");
    progress.settle(joined, 1);
    assert_eq!(progress.mark(300, None), 300);
}

#[test]
fn the_evidence_is_the_newest_at_or_before_the_mark() {
    let mut progress = Progress::new(5, evidence(5));
    for at in [100, 200, 200, 300] {
        progress.note_boundary(evidence(at));
    }
    for (mark, at) in [(5, 5), (99, 5), (100, 100), (250, 200), (1000, 300), (3, 0)] {
        assert_eq!(progress.evidence_for(mark).at, at, "for a mark at {mark}");
    }
}

#[test]
fn a_long_history_is_thinned_and_still_covers_the_mark() {
    let mut progress = Progress::new(0, evidence(0));
    let _held_up = progress.issue(7, evidence(7), 1, LineCount::one(1));
    for batch in 1..100_000 {
        progress.note_boundary(evidence(batch * 10));
    }
    assert!(progress.history.len() <= HISTORY_MAX);
    assert!(progress.resume_point(1_000_000, None).1.at <= 7);
}

#[test]
fn a_snapshot_counts_once_everything_before_it_is_acknowledged() {
    let mut progress = Progress::new(0, evidence(0));
    let before = progress.issue(0, evidence(0), 1, LineCount::one(50));
    progress.snapshot_taken(50, evidence(50), stage(1));
    let after = progress.issue(50, evidence(50), 1, LineCount::one(50));
    assert_eq!(progress.resume_point(100, None).0, ResumePoint::Position { offset: 0 });
    progress.settle(after, 1);
    assert_eq!(offset(&mut progress, 100, None), 0, "what was sent before it is not acknowledged");
    progress.settle(before, 1);
    assert_eq!(
        progress.resume_point(100, None),
        (ResumePoint::Snapshot { offset: 50, stages: stage(1) }, evidence(50))
    );
}

#[test]
fn a_stream_that_goes_on_from_a_snapshot_keeps_it_until_the_next_is_valid() {
    let mut progress = Progress::new(50, evidence(50));
    progress.snapshot_taken(50, evidence(50), stage(1));
    // Released from the state: its line began before the snapshot.
    let released = progress.issue(30, evidence(0), 1, LineCount::one(20));
    progress.snapshot_taken(90, evidence(90), stage(2));
    assert_eq!(offset(&mut progress, 90, None), 50);
    assert_eq!(progress.mark(90, None), 30);
    progress.settle(released, 1);
    assert_eq!(offset(&mut progress, 90, None), 90);
}

#[test]
fn under_steady_flow_some_snapshot_always_becomes_valid() {
    let mut progress = Progress::new(0, evidence(0));
    let mut on_their_way = VecDeque::new();
    for batch in 0..100u64 {
        on_their_way.push_back(progress.issue(batch * 10, evidence(batch * 10), 1, LineCount::one(10)));
        progress.snapshot_taken((batch + 1) * 10, evidence((batch + 1) * 10), stage(batch as u8));
        if on_their_way.len() > 20 {
            progress.settle(on_their_way.pop_front().unwrap(), 1);
        }
    }
    assert!(offset(&mut progress, 1000, None) >= 500, "the resume point lags for ever");
    assert!(progress.candidates.len() <= CANDIDATES_MAX);
}

#[test]
fn a_state_that_is_too_large_leaves_the_resume_point_alone() {
    let mut progress = Progress::new(0, evidence(0));
    let mut huge = stage(0);
    huge[0].state = vec![0; STATE_BYTES_MAX + 1];
    progress.snapshot_taken(10, evidence(10), huge);
    assert_eq!(progress.resume_point(10, None).0, ResumePoint::Position { offset: 10 });
}

#[test]
fn lines_that_end_in_another_way_leave_their_ticket() {
    let mut progress = Progress::new(0, evidence(0));
    let ticket = progress.issue(0, evidence(0), 2, LineCount { lines: 2, bytes: 30 });
    assert_eq!(progress.take_from(ticket, LineCount::one(10)), LineCount::one(10));
    assert_eq!(progress.take_from(ticket, LineCount { lines: 5, bytes: 5 }), LineCount { lines: 1, bytes: 5 });
    assert_eq!(progress.settle(ticket, 2), Some(LineCount { lines: 0, bytes: 15 }));
    assert_eq!(progress.take_from(ticket, LineCount::one(1)), LineCount::default());
}

/// What a stream does, as a script.
#[derive(Clone, Debug)]
enum Act {
    /// Reads so many bytes; the filter holds the batch's line or lets all go.
    Read { bytes: u64, holds: bool },
    /// Sends everything held and read since, as one answer of so many records.
    Answer { records: u32 },
    /// Settles records of the n-th ticket on its way.
    Settle { which: usize, records: u32 },
    /// Takes a snapshot here.
    Snapshot,
    /// Everything is forgotten and read again from the resume point.
    Rewind,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..50u64, any::<bool>()).prop_map(|(bytes, holds)| Act::Read { bytes, holds }),
        3 => (0..4u32).prop_map(|records| Act::Answer { records }),
        4 => (0..8usize, 1..4u32).prop_map(|(which, records)| Act::Settle { which, records }),
        1 => Just(Act::Snapshot),
        1 => Just(Act::Rewind),
    ]
}

/// The naive model: every ticket ever, with what is left of it.
#[derive(Default)]
struct Model {
    tickets: Vec<(Ticket, FileOffset, u32)>,
}

impl Model {
    fn mark(&self, read: u64, held: Option<u64>) -> u64 {
        self.tickets
            .iter()
            .filter(|(_, _, left)| *left > 0)
            .map(|(_, floor, _)| *floor)
            .chain(held)
            .chain([read])
            .min()
            .unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn the_mark_is_the_models_never_goes_back_and_reaches_the_end(script in prop::collection::vec(act(), 0..80)) {
        let (mut progress, mut model) = (Progress::new(0, evidence(0)), Model::default());
        let (mut read, mut held, mut last_mark) = (0u64, None, 0u64);
        let mut snapshots: Vec<(u64, usize)> = Vec::new();
        for act in script {
            match act {
                Act::Read { bytes, holds } => {
                    progress.note_boundary(evidence(read));
                    // What is not held is covered by the answer that comes with the batch.
                    if holds {
                        held = held.or(Some(read));
                    } else {
                        let floor = held.take().unwrap_or(read);
                        let ticket = progress.issue(floor, progress.evidence_for(floor), 1, LineCount::one(bytes));
                        model.tickets.push((ticket, floor, 1));
                    }
                    read += bytes;
                }
                Act::Answer { records } => if let Some(floor) = held.take() {
                    let ticket = progress.issue(floor, progress.evidence_for(floor), records, LineCount::one(1));
                    model.tickets.push((ticket, floor, records));
                },
                Act::Settle { which, records } => {
                    let mut on_their_way = model.tickets.iter_mut().filter(|(_, _, left)| *left > 0);
                    if let Some((ticket, _, left)) = on_their_way.nth(which) {
                        let records = records.min(*left);
                        *left -= records;
                        prop_assert_eq!(progress.settle(*ticket, records).is_some(), *left == 0);
                    }
                }
                Act::Snapshot => if held.is_none() {
                    progress.snapshot_taken(read, evidence(read), stage(0));
                    snapshots.push((read, model.tickets.len()));
                },
                Act::Rewind => {
                    let (resume, evidence) = progress.resume_point(read, held);
                    prop_assert!(evidence.at <= resume.offset());
                    (read, held, last_mark) = (resume.offset(), None, 0);
                    progress = Progress::new(read, evidence);
                    model = Model::default();
                    snapshots.clear();
                }
            }
            let mark = progress.mark(read, held);
            prop_assert_eq!(mark, model.mark(read, held));
            prop_assert!(mark >= last_mark, "the mark went back from {} to {}", last_mark, mark);
            last_mark = mark;
            prop_assert_eq!(progress.in_flight(), model.tickets.iter().filter(|(_, _, left)| *left > 0).count());
            let (resume, evidence) = progress.resume_point(read, held);
            prop_assert!(evidence.at <= resume.offset());
            match resume {
                ResumePoint::Position { offset } => prop_assert_eq!(offset, mark),
                ResumePoint::Snapshot { offset, .. } => prop_assert!(
                    snapshots.iter().any(|(at, before)| *at == offset && model.tickets[..*before].iter().all(|(_, _, left)| *left == 0)),
                    "a snapshot at {} counts although not all before it is settled", offset
                ),
            }
        }
        for (ticket, _, left) in &mut model.tickets {
            if *left > 0 {
                progress.settle(*ticket, std::mem::take(left));
            }
        }
        prop_assert_eq!(progress.mark(read, None), read);
        prop_assert!(progress.is_clear());
        prop_assert!(progress.open.is_empty());
    }
}

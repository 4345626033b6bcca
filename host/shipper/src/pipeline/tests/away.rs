//! What may happen to a stream while its chain is away: nothing is lost, nothing comes twice, the count is right, and
//! nobody else waits.

use super::super::said::TOLD;
use super::super::{ShardCommand, ShardReport};
use super::rig::{HANG, Rig, text, tokens};
use crate::checkpoint::ResumePoint;
use crate::filter::tests::fake::{Fake, Gate};
use crate::model::{HeldPlan, OnError};
use crossbeam_channel::bounded;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tailmill_tail::StreamKey;

const LINES: &str = "kkdhkkrdkhkkr";
const MORE: &str = "dkkhr";

fn fakes() -> [Fake; 1] {
    [Fake { has_state: true, ..Fake::default() }]
}

#[test]
fn while_a_dear_call_is_under_way_the_other_streams_of_the_shard_go_on() {
    let mut rig = Rig::new();
    let (called, calls) = bounded(1);
    let (go_on, answers) = bounded::<()>(1);
    rig.world.lock().expect("no panic").gate = Gate::new(move |line| {
        if line.starts_with(b"h") {
            called.send(()).expect("the test listens");
            answers.recv_timeout(HANG / 2).expect("the others were held up by this call");
        }
    });
    let (dear, good) = (rig.armed("dear", &fakes(), true), rig.armed("good", &fakes(), false));
    rig.write(1, 0, "hr");
    rig.open(1, &dear);
    rig.until_away(1);
    let worker = rig.take_worker();
    let lane = std::thread::spawn(move || worker.run());
    calls.recv_timeout(HANG).expect("the call begins");
    rig.write(2, 0, &"kd".repeat(500));
    rig.open(2, &good);
    let name = good.entry.name.clone();
    rig.until("the good entry's lines have arrived", |rig| rig.shard.services.ledger(&name).delivered.lines == 500);
    assert_eq!((rig.shard.services.lane.away(), rig.pending("dear")), (1, 2), "the call goes on");
    go_on.send(()).expect("the call waits");
    rig.until("the dear entry's lines have arrived", |rig| {
        rig.shard.streams.iter().count() == 2 && rig.pending("dear") == 0
    });
    assert_eq!(rig.arrived().split_off(500), tokens(1, 0, "hr"));
    drop(rig);
    lane.join().expect("the lane ends with its shard");
}

/// A stream whose first batch is on the lane, and its file.
fn away() -> (Rig, StreamKey) {
    let mut rig = Rig::new();
    let armed = rig.armed("dear", &fakes(), true);
    rig.write(1, 0, LINES);
    let key = rig.open(1, &armed);
    rig.until_away(1);
    (rig, key)
}

/// Something happens while the chain is away; it takes no effect until it is back, and then all lines arrive once.
/// `then`: what the shard is seen to have done after that.
fn check(what: &str, happens: impl FnOnce(&mut Rig, &StreamKey), then: impl Fn(&mut Rig) -> bool, more: &[String]) {
    let (mut rig, key) = away();
    happens(&mut rig, &key);
    rig.rounds(20);
    assert_eq!(rig.shard.services.lane.away(), 1, "{what}");
    assert!(rig.reports.is_empty(), "{what}: it ended without its chain");
    assert!(!rig.shard.is_drained(), "{what}: the shard does not wait for the chain");
    let ix = rig.shard.streams.find(&key).expect("it is there");
    assert_eq!(
        rig.shard.streams.get(ix).expect("it is whole").mark(),
        0,
        "{what}: the mark passed a line that is away"
    );
    rig.assert_balance("dear");
    rig.until(what, then);
    rig.assert_balance("dear");
    let expected = [tokens(1, 0, LINES), more.to_vec()].concat();
    assert_arrived(&rig, expected);
}

/// Once, all of them: a line that is held arrives behind those that came after it.
fn assert_arrived(rig: &Rig, mut expected: Vec<String>) {
    let mut arrived = rig.arrived();
    arrived.sort_unstable();
    expected.sort_unstable();
    assert_eq!(arrived, expected);
}

fn has_come(rig: &mut Rig, is_it: impl Fn(&ShardReport) -> bool) -> bool {
    rig.reports.try_iter().any(|report| is_it(&report))
}

#[test]
fn the_file_grows() {
    let grows = |rig: &mut Rig, key: &StreamKey| {
        rig.write(1, LINES.len(), MORE);
        rig.say(ShardCommand::Grew(key.clone()));
    };
    let all = (LINES.len() + MORE.len()) as u64;
    check(
        "all was read and delivered",
        grows,
        |rig| {
            let ledger = rig.shard.services.ledger(&"dear".into());
            ledger.read.lines == all && rig.pending("dear") == 0
        },
        &tokens(1, LINES.len(), MORE),
    );
}

#[test]
fn the_file_is_left_and_deleted() {
    let leaves = |rig: &mut Rig, key: &StreamKey| {
        std::fs::remove_file(rig.path(1)).expect("it is there");
        rig.say(ShardCommand::Leaving { key: key.clone(), gone: true });
    };
    check("it is finished", leaves, |rig| has_come(rig, |report| matches!(report, ShardReport::Finished { .. })), &[]);
}

#[test]
fn the_file_is_truncated() {
    let truncates = |rig: &mut Rig, key: &StreamKey| {
        std::fs::write(rig.path(1), "new\n").expect("it is there");
        rig.say(ShardCommand::Grew(key.clone()));
    };
    let (mut rig, key) = away();
    // The rest of it was in the reader's hands already.
    truncates(&mut rig, &key);
    rig.rounds(20);
    assert!(rig.reports.is_empty());
    rig.until("the old generation is over", |rig| {
        has_come(rig, |report| matches!(report, ShardReport::Truncated { .. }))
    });
    rig.assert_balance("dear");
    assert_arrived(&rig, tokens(1, 0, LINES));
}

#[test]
fn the_entry_lets_the_file_go_and_takes_it_back() {
    let (mut rig, key) = away();
    rig.say(ShardCommand::Close(key.clone()));
    rig.rounds(20);
    assert!(rig.reports.is_empty(), "it ended without its chain");
    rig.until("it is closed", |rig| has_come(rig, |report| matches!(report, ShardReport::Closed { .. })));
    rig.assert_balance("dear");
    let armed = rig.armed("dear", &fakes(), true);
    rig.open(1, &armed);
    rig.until("all has arrived", |rig| {
        rig.shard.streams.iter().any(|(_, stream)| stream.at_end) && rig.pending("dear") == 0
    });
    assert_arrived(&rig, tokens(1, 0, LINES));
}

#[test]
fn the_entry_lets_a_file_go_of_which_a_blocked_line_is_tried_again() {
    let mut rig = Rig::new();
    let armed = rig.armed("dear", &fakes(), true);
    rig.write(1, 0, "kx");
    let key = rig.open(1, &armed);
    let blocked = |rig: &mut Rig| rig.shard.streams.iter().any(|(_, stream)| stream.stuck.is_some());
    rig.until("the line blocks", |rig| blocked(rig) && rig.shard.services.lane.away() == 0);
    let ix = rig.shard.streams.find(&key).expect("it is there");
    let stuck = rig.shard.streams.get_mut(ix).and_then(|stream| stream.stuck.as_mut());
    stuck.expect("it is blocked").retry_at = Instant::now();
    rig.say(ShardCommand::Grew(key.clone()));
    rig.until_away(1);
    rig.say(ShardCommand::Close(key.clone()));
    rig.rounds(200);
    assert!(rig.reports.is_empty(), "it ended without its chain");
    rig.until("it is closed", |rig| has_come(rig, |report| matches!(report, ShardReport::Closed { .. })));
    rig.note_commits();
    assert_eq!(rig.records[&key].resume.offset(), text(1, 0, "k").len() as u64);
    assert_eq!(rig.arrived(), tokens(1, 0, "k"));
}

#[test]
fn the_entry_says_something_new() {
    let replans = |rig: &mut Rig, key: &StreamKey| {
        for version in 1..3 {
            let armed = rig.armed("dear", &[Fake { version, ..fakes()[0].clone() }], version == 2);
            rig.say(ShardCommand::Replan { entry: key.entry.clone(), armed });
        }
    };
    check(
        "all has arrived",
        replans,
        |rig| {
            let is_new = rig.shard.streams.iter().all(|(_, stream)| stream.at_end && stream.next_armed.is_none());
            is_new && rig.pending("dear") == 0
        },
        &[],
    );
}

#[test]
fn the_shard_stops() {
    let (mut rig, key) = away();
    rig.say(ShardCommand::Stop { deadline: Instant::now() + HANG });
    rig.rounds(20);
    assert!(!rig.shard.is_drained(), "it does not wait for the chain");
    rig.until("it is drained", |rig| rig.shard.is_drained());
    rig.shard.finish();
    rig.note_commits();
    assert_arrived(&rig, tokens(1, 0, &LINES[..8]));
    let first_batch = text(1, 0, &LINES[..8]).len() as u64;
    assert!(matches!(rig.records[&key].resume, ResumePoint::Snapshot { offset, .. } if offset == first_batch));
}

#[test]
fn the_shard_stops_and_cannot_wait() {
    let (mut rig, key) = away();
    rig.say(ShardCommand::Stop { deadline: Instant::now() });
    rig.rounds(1);
    assert!(rig.shard.is_drained());
    rig.shard.finish();
    rig.note_commits();
    assert_eq!(rig.records[&key].resume, ResumePoint::Position { offset: 0 }, "what is away comes again");
    let armed = rig.armed("dear", &fakes(), true);
    rig.crash();
    rig.open(1, &armed);
    rig.until("all has arrived", |rig| {
        rig.shard.streams.iter().any(|(_, stream)| stream.at_end) && rig.pending("dear") == 0
    });
    assert_arrived(&rig, tokens(1, 0, LINES));
}

#[test]
fn the_producer_fails_for_good() {
    let fails = |rig: &mut Rig, _: &StreamKey| rig.shard.replace_producer(&Arc::from("default"));
    check(
        "all has arrived",
        fails,
        |rig| rig.shard.streams.iter().all(|(_, stream)| stream.at_end) && rig.pending("dear") == 0,
        &[],
    );
}

#[test]
fn the_file_is_renamed() {
    let moves = |rig: &mut Rig, key: &StreamKey| {
        std::fs::rename(rig.path(1), rig.path(77)).expect("it is there");
        rig.say(ShardCommand::Moved { key: key.clone(), to: rig.path(77) });
    };
    check(
        "all has arrived",
        moves,
        |rig| rig.shard.streams.iter().all(|(_, stream)| stream.at_end) && rig.pending("dear") == 0,
        &[],
    );
}

#[test]
fn the_state_of_dear_filters_is_saved_on_the_lane_and_written_down() {
    let (mut rig, key) = away();
    rig.until("all has arrived", |rig| {
        rig.shard.streams.iter().all(|(_, stream)| stream.at_end) && rig.pending("dear") == 0
    });
    rig.shard.take_snapshots();
    assert_eq!(rig.shard.services.lane.away(), 1);
    rig.shard.commit_marks(false);
    rig.until("it is back", |rig| rig.shard.services.lane.away() == 0);
    rig.rounds(3);
    rig.shard.take_snapshots();
    assert_eq!(rig.shard.services.lane.away(), 0, "nothing has happened since");
    rig.shard.commit_marks(false);
    rig.note_commits();
    let all = text(1, 0, LINES).len() as u64;
    assert!(matches!(rig.records[&key].resume, ResumePoint::Snapshot { offset, .. } if offset == all));
}

#[test]
fn a_stream_that_is_away_whenever_somebody_looks_has_its_resume_points_all_the_same() {
    let mut rig = Rig::new();
    let armed = rig.armed("dear", &fakes(), true);
    rig.write(1, 0, &"k".repeat(400));
    let key = rig.open(1, &armed);
    let mut resumes = Vec::new();
    for _ in 0..30 {
        rig.until_away(1);
        let hang = Instant::now() + HANG;
        // A state is a resume point once all that came before it is acknowledged.
        while rig.pending("dear") > 8 {
            assert!(Instant::now() < hang, "no acknowledgement came");
            rig.rounds(1);
        }
        rig.shard.take_snapshots();
        rig.shard.commit_marks(false);
        rig.note_commits();
        resumes.push(rig.records.get(&key).map_or(0, |record| match &record.resume {
            ResumePoint::Snapshot { offset, .. } => *offset,
            ResumePoint::Position { .. } => 0,
        }));
        rig.trip();
        rig.rounds(1);
    }
    assert!(resumes.last() > Some(&0), "no state was written down: {resumes:?}");
}

#[test]
fn a_stream_that_is_away_whenever_somebody_looks_has_lines_called_in_that_are_held_for_too_long() {
    let mut rig = Rig::new();
    let held = HeldPlan { time: Duration::ZERO, ..HeldPlan::STANDARD };
    let armed = rig.armed("dear", &[Fake { held, ..Fake::default() }], true);
    rig.write(1, 0, &format!("h{}", "k".repeat(400)));
    rig.open(1, &armed);
    let mut calls = 0;
    while rig.shard.streams.iter().all(|(_, stream)| stream.chain.oldest_held() == Some(0) || calls == 0) {
        calls += 1;
        assert!(calls < 40, "the first line is still held");
        rig.until_away(1);
        rig.shard.call_in();
        rig.trip();
        rig.rounds(1);
    }
}

#[test]
fn faults_of_a_filter_are_told_a_few_times_and_then_counted() {
    let told = Told::default();
    let to = told.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut rig = Rig::new();
        let armed = rig.armed("bad", &[Fake { on_error: OnError::Pass, ..fakes()[0].clone() }], false);
        rig.write(1, 0, &"x".repeat(300));
        rig.open(1, &armed);
        rig.until("all has arrived", |rig| rig.arrived_so_far("bad") == 300);
        rig.shard.tell_untold(true);
    });
    let log = told.text();
    assert_eq!(log.matches("the filter failed and was replaced").count() as u64, TOLD, "{log}");
    assert_eq!(log.matches(" more faults of filter fake in the last").count(), 1, "{log}");
    // Each line failed with others, and twice alone.
    let more = log.split(" more faults").next().and_then(|before| before.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(more >= Some(600 - TOLD), "{log}");
}

/// What the log said.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Write for Told {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_few_streams_of_a_dear_entry_have_a_batch_on_the_lane_and_all_get_their_turn() {
    const FILES: u128 = 40;
    let lines = "k".repeat(50);
    let mut rig = Rig::new();
    let armed = rig.armed("dear", &fakes(), true);
    for file in 1..=FILES {
        rig.write(file, 0, &lines);
        rig.open(file, &armed);
    }
    let (mut most, mut least_behind) = (0, 0);
    rig.until("all has arrived", |rig| {
        rig.rounds(8);
        most = most.max(rig.shard.services.lane.away());
        let read = |(_, stream): (_, &super::super::stream::Stream)| stream.counts.read.lines;
        let (first, last) = (rig.shard.streams.iter().map(read).min(), rig.shard.streams.iter().map(read).max());
        least_behind = least_behind.max(last.unwrap_or(0) - first.unwrap_or(0));
        rig.shard.streams.iter().count() == FILES as usize
            && rig.shard.streams.iter().all(|(_, stream)| stream.at_end)
            && rig.pending("dear") == 0
    });
    assert_eq!(most, 4);
    assert!(least_behind <= 16, "a stream read {least_behind} lines more than another, in batches of 8");
    assert_arrived(&rig, (1..=FILES).flat_map(|file| tokens(file, 0, &lines)).collect());
    assert!(!rig.shard.services.lane.is_in_use(), "all places were given back");
}

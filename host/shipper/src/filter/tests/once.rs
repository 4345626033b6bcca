//! Whatever happens to a stream, in whatever order: every line comes out once, in order, and the mark never passes one
//! that has not.
//!
//! Chains change into any other, also while a line blocks them; calls of every kind fail; processes end without notice
//! and go on from the last snapshot or, without one, from the mark. The oracle knows nothing of filters: it looks for the
//! number of each line among the records and dead letters. What a process sent after the snapshot that its successor
//! goes on from is forgotten: it comes again. After a return to a mark lines may come twice, but none may be missing.

use super::bench::{Bench, End};
use super::fake::{Fake, NamesLine, World, armed};
use super::random::scripts;
use crate::checkpoint::StageSnapshot;
use crate::filter::RestWhy;
use crate::filter::stage::Stage;
use crate::model::{BreakerPlan, BreakerThen, OnError};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tailmill_tail::FileOffset;

/// One thing that happens to a stream.
#[derive(Clone, Debug)]
enum Action {
    /// Lines are written and read, as one batch.
    Feed(Vec<String>),
    /// The stream's next turn while it is blocked.
    Retry,
    Tick,
    Flush,
    /// The next calls of this kind fail, so many.
    Fail(Call, u32),
    /// Another plan.
    Swap(Vec<Fake>),
    Snapshot,
    /// Nothing came for a while.
    Rest {
        too_many: bool,
    },
    /// The process ends without notice. The next one takes states at once, or when they are needed.
    Crash {
        eager: bool,
        batch_lines: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Start,
    Tick,
    Flush,
    Save,
    Load,
}

/// What a successor would go on from.
struct Saved {
    at: FileOffset,
    stages: Vec<StageSnapshot>,
    records: usize,
    dead: usize,
}

struct Run {
    bench: Bench,
    fakes: Vec<Fake>,
    /// Every line of the file, with its offset.
    file: Vec<(FileOffset, String)>,
    saved: Option<Saved>,
    is_blocked: bool,
    /// A process went back to a mark: lines may come twice.
    repeats: bool,
    checked_records: usize,
    /// Records from here on keep the order of the file.
    ordered_from: usize,
}

fn fake() -> impl Strategy<Value = Fake> {
    let policy = prop_oneof![2 => Just(OnError::Block), 1 => Just(OnError::Pass), 1 => Just(OnError::DeadLetter)];
    let breaker = prop_oneof![
        2 => Just(None),
        1 => Just(Some((BreakerThen::Hold, Duration::ZERO))),
        1 => Just(Some((BreakerThen::Bypass, Duration::ZERO))),
        1 => Just(Some((BreakerThen::Bypass, Duration::from_secs(3600)))),
    ];
    let names_line = prop_oneof![Just(NamesLine::Never), Just(NamesLine::Truly), Just(NamesLine::Falsely)];
    let can = (0..4u8, any::<bool>(), prop::bool::weighted(0.7));
    (prop_oneof![Just("a"), Just("b")], 0..2u32, 0..3usize, can, (policy, breaker), names_line).prop_map(
        |(name, version, byte, (kind, ticks, finish), (on_error, breaker), names_line)| Fake {
            name,
            version,
            stateless: kind == 0,
            has_state: kind >= 2,
            ticks: ticks && kind != 0,
            finish,
            byte: Some(byte),
            on_error,
            breaker: breaker
                .filter(|_| on_error != OnError::Block)
                // Lines that are in a restored state cannot go past it: they would wait for an hour.
                .map(|(then, rest)| (then, if kind >= 2 { Duration::ZERO } else { rest }))
                .map(|(then, rest)| BreakerPlan {
                    faults: 2,
                    within: Duration::from_secs(3600),
                    percent: 50,
                    rest,
                    then,
                }),
            names_line,
            ..Fake::default()
        },
    )
}

/// Lines that are dropped are neither held nor joined anywhere, so that no other line can go with them.
fn line() -> impl Strategy<Value = String> {
    let command = prop_oneof![
        8 => Just('k'), 4 => Just('h'), 2 => Just('r'), 1 => Just('p'),
        1 => Just('e'), 2 => Just('x'), 1 => Just('o'), 1 => Just('n'),
    ];
    let kept = vec(command, 3).prop_map(|commands| commands.into_iter().collect());
    let dropped = prop_oneof![Just("dkk"), Just("kdk"), Just("kkd")].prop_map(str::to_owned);
    prop_oneof![9 => kept, 1 => dropped]
}

fn action() -> impl Strategy<Value = Action> {
    let call = prop_oneof![Just(Call::Start), Just(Call::Tick), Just(Call::Flush), Just(Call::Save), Just(Call::Load)];
    prop_oneof![
        10 => vec(line(), 0..8).prop_map(Action::Feed),
        2 => Just(Action::Retry),
        2 => Just(Action::Tick),
        1 => Just(Action::Flush),
        2 => (call, 1..4u32).prop_map(|(call, times)| Action::Fail(call, times)),
        2 => vec(fake(), 0..=3).prop_map(Action::Swap),
        2 => Just(Action::Snapshot),
        2 => any::<bool>().prop_map(|too_many| Action::Rest { too_many }),
        1 => (any::<bool>(), 1..9usize).prop_map(|(eager, batch_lines)| Action::Crash { eager, batch_lines }),
    ]
}

impl Run {
    fn new(fakes: Vec<Fake>, one_call_a_step: bool) -> Run {
        let mut bench = Bench::new(&fakes);
        bench.one_call_a_step = one_call_a_step;
        Run {
            bench,
            fakes,
            file: Vec::new(),
            saved: None,
            is_blocked: false,
            repeats: false,
            checked_records: 0,
            ordered_from: 0,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Feed(lines) => {
                self.unblock();
                self.write(lines);
                self.read(usize::MAX);
            }
            Action::Retry => self.after(|bench| bench.drive()),
            Action::Tick => {
                self.unblock();
                self.after(Bench::tick);
            }
            Action::Flush => {
                self.unblock();
                self.after(Bench::flush);
            }
            Action::Fail(call, times) => {
                let mut world = self.bench.world.lock().expect("no panic");
                *match call {
                    Call::Start => &mut world.start_faults,
                    Call::Tick => &mut world.tick_faults,
                    Call::Flush => &mut world.flush_faults,
                    Call::Save => &mut world.save_faults,
                    Call::Load => &mut world.load_faults,
                } = times;
            }
            Action::Swap(fakes) => {
                let armed = armed(&fakes, &self.bench.world);
                if self.bench.chain.swap(armed, &mut self.bench.shared, &mut self.bench.ledger).is_ok() {
                    self.fakes = fakes;
                }
                self.after(Bench::drive);
            }
            Action::Snapshot => self.snapshot(),
            Action::Rest { too_many } => {
                if self.bench.chain.is_idle() {
                    let why = if too_many { RestWhy::TooMany } else { RestWhy::Idle };
                    self.bench.chain.rest(&mut self.bench.ledger, self.bench.now, why);
                }
            }
            Action::Crash { eager, batch_lines } => {
                self.crash(eager);
                self.read(batch_lines);
            }
        }
    }

    fn write(&mut self, lines: Vec<String>) {
        for line in lines {
            let offset = self.file.last().map_or(0, |(offset, line)| offset + line.len() as u64 + 1);
            self.file.push((offset, format!("{line}:{}", self.file.len())));
        }
    }

    /// Reads the file to its end.
    fn read(&mut self, batch_lines: usize) {
        let from = self.file.partition_point(|(offset, _)| *offset < self.bench.at);
        let lines: Vec<String> = self.file[from..].iter().map(|(_, line)| line.clone()).collect();
        for batch in lines.chunks(batch_lines.min(lines.len().max(1))) {
            self.unblock();
            let batch: Vec<&str> = batch.iter().map(|line| &**line).collect();
            self.after(|bench| bench.feed(&batch));
        }
    }

    fn after(&mut self, work: impl FnOnce(&mut Bench) -> End) {
        self.is_blocked = work(&mut self.bench) != End::Done;
    }

    /// What blocks is healed, as an operator would, and tried again.
    fn unblock(&mut self) {
        let mut tries = 0;
        while self.is_blocked {
            tries += 1;
            assert!(tries < 100, "the chain stays blocked: {}", self.bench.why);
            self.bench.world.lock().expect("no panic").heal_all = true;
            self.after(Bench::drive);
        }
        self.bench.world.lock().expect("no panic").heal_all = false;
    }

    fn snapshot(&mut self) {
        if self.bench.chain.is_idle()
            && let Ok(Some(stages)) = self.bench.chain.snapshot(&mut self.bench.ledger)
        {
            let (records, dead) = (self.bench.out.len(), self.bench.dead.len());
            self.saved = Some(Saved { at: self.bench.at, stages, records, dead });
        }
        self.after(Bench::drive);
    }

    fn crash(&mut self, eager: bool) {
        let fresh = Bench::new(&[]);
        let old = std::mem::replace(&mut self.bench, fresh);
        let armed = armed(&self.fakes, &old.world);
        self.is_blocked = false;
        let mark = old.chain.oldest_held().unwrap_or(old.at);
        let Some(saved) = self.saved.take() else { return self.begin_at(old, mark) };
        let mut next = old.reopened(armed, saved.at);
        let restored = match eager {
            true => next.chain.restore(&saved.stages, saved.at, &mut next.ledger),
            false => next.chain.restore_later(&saved.stages, saved.at),
        };
        if restored.is_err() {
            let oldest = saved.stages.iter().filter_map(|stage| stage.oldest_held).min();
            return self.begin_at(next, oldest.unwrap_or(saved.at));
        }
        next.out.truncate(saved.records);
        next.dead.truncate(saved.dead);
        self.checked_records = self.checked_records.min(saved.records);
        self.saved = Some(saved);
        self.bench = next;
    }

    /// Begins anew at a mark.
    fn begin_at(&mut self, old: Bench, mark: FileOffset) {
        let armed = armed(&self.fakes, &old.world);
        self.repeats = true;
        self.ordered_from = old.out.len();
        self.bench = old.reopened(armed, mark);
    }

    /// The file is finished and nothing fails any more: as a stream does it, flushes and ticks until nothing is held.
    fn finish(&mut self) {
        let mut world = self.bench.world.lock().expect("no panic");
        *world = World { healed: std::mem::take(&mut world.healed), ..World::default() };
        drop(world);
        self.unblock();
        for _ in 0..=self.fakes.len() {
            for work in [Bench::flush, Bench::tick] {
                self.after(work);
                self.unblock();
            }
        }
    }

    fn check(&self) {
        let offset = |id: &str| self.file[number(id)].0;
        let mut seen = BTreeMap::<&str, u32>::new();
        let records = self.bench.out.iter().map(|record| &record.text);
        for id in records.chain(&self.bench.dead).flat_map(|text| text.split('+')) {
            *seen.entry(id).or_default() += 1;
        }
        let twice = seen.iter().find(|(_, times)| **times > 1);
        assert!(self.repeats || twice.is_none(), "{twice:?} came more than once");
        let held = self.bench.chain.oldest_held();
        for (offset, id) in self.file.iter().filter(|(offset, id)| *offset < self.bench.at && !id.contains('d')) {
            let is_kept = seen.contains_key(&**id) || held.is_some_and(|held| held <= *offset);
            assert!(is_kept, "{id} at {offset} did not come out, and the mark is {held:?} of {}", self.bench.at);
        }
        for record in &self.bench.out[self.checked_records..] {
            let oldest = record.text.split('+').map(offset).min();
            assert!(Some(record.source) <= oldest, "{record:?} has a line from {oldest:?}");
        }
        // What is never held, joined or dropped comes in the order of the file.
        let free = |text: &&String| !text[..3].contains(['h', 'r', 'p', 'n', 'd']) && !text.contains('+');
        let texts = self.bench.out[self.ordered_from.min(self.bench.out.len())..].iter().map(|record| &record.text);
        let free: Vec<_> = texts.filter(free).collect();
        assert!(free.is_sorted_by_key(|id| number(id)), "out of order: {free:?}");
    }
}

fn number(id: &str) -> usize {
    id.split(':').nth(1).and_then(|number| number.parse().ok()).expect("a line ends with its number")
}

proptest! {
    #![proptest_config(scripts(600))]

    #[test]
    fn every_line_comes_out_once_whatever_happens(
        fakes in vec(fake(), 0..=3),
        actions in vec(action(), 1..25),
        one_call_a_step in any::<bool>(),
    ) {
        let mut run = Run::new(fakes, one_call_a_step);
        for action in actions {
            run.act(action);
            run.check();
            run.checked_records = run.bench.out.len();
        }
        run.finish();
        run.check();
        if run.bench.chain.oldest_held().is_some() {
            // A state from an earlier process holds lines and its filter has no way to let them go. They are in the file.
            let is_stuck = |(stage, fake): (&Stage, &Fake)| stage.holds_ancient() && !fake.finish && !fake.ticks;
            prop_assert!(run.bench.chain.stages.iter().zip(&run.fakes).any(is_stuck));
            run.saved = None;
            run.crash(false);
            run.read(5);
            run.finish();
        }
        run.check();
        prop_assert_eq!(run.bench.chain.oldest_held(), None);
    }
}

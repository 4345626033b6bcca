//! Random chains, lines, batch sizes, faults, ticks, restarts and flushes against the model.

use super::bench::{Bench, End};
use super::fake::{Fake, NamesLine};
use super::model::{Model, check};
use crate::model::OnError;
use proptest::collection::vec;
use proptest::prelude::*;

/// One thing that happens to a chain.
#[derive(Clone, Debug)]
enum Action {
    /// A batch of lines, each a command for every stage.
    Feed(Vec<String>),
    Tick,
    Flush,
    /// The next call of this kind fails.
    Fail(Call),
    /// A new process goes on from a snapshot.
    Restart,
    /// A new version of one filter takes over.
    Swap(usize),
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Start,
    Tick,
    Save,
    Load,
}

fn fakes() -> impl Strategy<Value = Vec<Fake>> {
    let policy = prop_oneof![Just(OnError::Block), Just(OnError::Pass), Just(OnError::Drop), Just(OnError::DeadLetter)];
    let names = prop_oneof![Just(NamesLine::Never), Just(NamesLine::Truly), Just(NamesLine::Falsely)];
    let fake = (0..4u8, any::<bool>(), policy, names).prop_map(|(kind, ticks, on_error, names_line)| Fake {
        stateless: kind == 0,
        has_state: kind >= 2,
        ticks: ticks && kind != 0,
        on_error,
        names_line,
        ..Fake::default()
    });
    vec(fake, 0..=3)
}

fn line() -> impl Strategy<Value = String> {
    let command = prop_oneof![
        8 => Just('k'), 3 => Just('d'), 3 => Just('h'), 2 => Just('r'), 1 => Just('p'),
        1 => Just('s'), 1 => Just('e'), 2 => Just('x'), 1 => Just('o')
    ];
    vec(command, 3).prop_map(|commands| commands.into_iter().collect())
}

fn action() -> impl Strategy<Value = Action> {
    let call = prop_oneof![Just(Call::Start), Just(Call::Tick), Just(Call::Save), Just(Call::Load)];
    prop_oneof![
        12 => vec(line(), 0..12).prop_map(Action::Feed),
        2 => Just(Action::Tick),
        1 => Just(Action::Flush),
        1 => call.prop_map(Action::Fail),
        1 => Just(Action::Restart),
        1 => (0..3usize).prop_map(Action::Swap),
    ]
}

struct Run {
    bench: Bench,
    model: Model,
    fakes: Vec<Fake>,
    lines: usize,
}

impl Run {
    /// What blocks is healed, as an operator would, and tried again. Returns the first stage that was blocked by a tick
    /// (one that is repeated for a new instance: of the others each is its own last chance).
    fn settle(&mut self, mut end: End) -> usize {
        let (mut tries, mut healed_tick) = (0, usize::MAX);
        while let End::Blocked { stage, .. } = end {
            tries += 1;
            assert!(tries < 100, "stage {stage} stays blocked");
            let mut world = self.bench.world.lock().expect("no panic");
            match &*self.bench.why {
                "scripted: line" => world.heal_all = true,
                "scripted: tick" => {
                    world.ticks_fail = false;
                    healed_tick = healed_tick.min(stage);
                }
                // A filter that does not start stops the stream under any policy; trying again is all it takes here.
                _ => {}
            }
            drop(world);
            end = self.bench.drive();
        }
        self.bench.world.lock().expect("no panic").heal_all = false;
        healed_tick
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Feed(lines) => {
                let lines: Vec<String> = lines
                    .into_iter()
                    .map(|line| {
                        self.lines += 1;
                        // Under `block` a test heals everything at once: such lines must not meet another policy.
                        format!("{}:{}", self.without_mixed_faults(&line), self.lines)
                    })
                    .collect();
                let mut offset = self.bench.at;
                for line in &lines {
                    self.model.feed(line, offset);
                    offset += line.len() as u64 + 1;
                }
                let end = self.bench.feed(&lines.iter().map(|line| &**line).collect::<Vec<_>>());
                self.settle(end);
            }
            Action::Tick => {
                // A stage that nothing has come to yet has no instance that could have asked for ticks.
                let due: Vec<bool> = self.bench.chain.stages.iter().map(|stage| stage.next_tick.is_some()).collect();
                // A stage whose tick fails lets nothing go, and nothing is lost.
                let fail = self.bench.world.lock().expect("no panic").ticks_fail;
                let end = self.bench.tick();
                let healed = self.settle(end);
                self.model.let_go(|stage, _| due[stage] && (!fail || stage >= healed));
                self.bench.world.lock().expect("no panic").ticks_fail = false;
            }
            Action::Flush => {
                self.model.let_go(|_, _| true);
                let end = self.bench.flush();
                self.settle(end);
            }
            Action::Fail(call) => {
                let mut world = self.bench.world.lock().expect("no panic");
                match call {
                    Call::Start => world.start_faults = 1,
                    Call::Tick => world.ticks_fail = true,
                    Call::Save => world.save_faults = 1,
                    Call::Load => world.load_faults = 1,
                }
            }
            Action::Restart => self.restart(),
            Action::Swap(place) => {
                let mut fakes = self.fakes.clone();
                if let Some(fake) = fakes.get_mut(place) {
                    fake.version += 1;
                }
                let armed = super::fake::armed(&fakes, &self.bench.world);
                // A new filter that does not start or does not take the state: the old one goes on.
                if self.bench.chain.swap(armed, &mut self.bench.shared, &mut self.bench.ledger).is_ok() {
                    self.fakes = fakes;
                }
                let end = self.bench.drive();
                self.settle(end);
            }
        }
    }

    fn restart(&mut self) {
        let mut world = self.bench.world.lock().expect("no panic");
        (world.start_faults, world.save_faults, world.load_faults, world.ticks_fail) = (0, 0, 0, false);
        drop(world);
        if !self.bench.chain.wants_snapshots() {
            return;
        }
        // What is repeated on the way to a saved state may hold a line that was healed.
        let blocks = self.fakes.iter().any(|fake| fake.on_error == OnError::Block);
        self.bench.world.lock().expect("no panic").heal_all = blocks;
        let fresh = Bench::new(&[]);
        self.bench = std::mem::replace(&mut self.bench, fresh).restarted();
        self.bench.world.lock().expect("no panic").heal_all = false;
    }

    fn without_mixed_faults(&self, line: &str) -> String {
        let blocks = self.fakes.iter().any(|fake| fake.on_error == OnError::Block);
        let command = |(stage, command): (usize, char)| match self.fakes.get(stage) {
            Some(fake) if command == 'x' && blocks && fake.on_error != OnError::Block => 'k',
            _ => command,
        };
        line.chars().enumerate().map(command).collect()
    }

    fn check(&self) {
        check(&self.bench.out, &self.model);
        assert_eq!(self.bench.dead, self.model.dead, "dead letters, in order");
        assert!(self.bench.chain.is_idle());
        let oldest = self.bench.chain.oldest_held();
        for held in self.model.held() {
            assert!(oldest.is_some_and(|oldest| oldest <= held), "{held} is held, the mark would be {oldest:?}");
        }
        if self.model.held().next().is_none() {
            assert_eq!(oldest, None, "nothing is held");
        }
    }
}

/// So many scripts; `PROPTEST_CASES` asks for another number.
pub(super) fn scripts(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(scripts(600))]

    /// Whatever the batches, the faults, the pauses between calls, the restarts: the records are those of the model, in
    /// its order; every answer balances; nothing that is held is passed by the mark; and at the end nothing is left.
    #[test]
    fn a_chain_comes_to_what_its_lines_say(
        fakes in fakes(),
        actions in vec(action(), 1..25),
        one_call_a_step in any::<bool>(),
    ) {
        let mut bench = Bench::new(&fakes);
        bench.one_call_a_step = one_call_a_step;
        let mut run = Run { bench, model: Model::new(&fakes), fakes, lines: 0 };
        for action in actions {
            run.act(action);
            run.check();
        }
        {
            let mut world = run.bench.world.lock().expect("no panic");
            let healed = std::mem::take(&mut world.healed);
            *world = super::fake::World { healed, ..Default::default() };
        }
        run.model.let_go(|_, _| true);
        let end = run.bench.flush();
        run.settle(end);
        run.check();
        prop_assert_eq!(run.bench.chain.pending().lines, 0);
        prop_assert_eq!(run.bench.chain.oldest_held(), None);
        let restarted = run.bench.passed_lines < run.model.passed_lines;
        prop_assert!(restarted || run.bench.passed_lines == run.model.passed_lines);
    }
}

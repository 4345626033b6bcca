//! A guest that does what the lines say. Stage `p` of a chain looks at byte `p` of a line (or at one of its own):
//!
//! `k` keep · `d` drop · `h` hold · `r` let go: all held lines and this one as one, joined with `+` · `p` let go one by
//! one · `s` two lines out of one · `e` send it on with a key and a header · `x` fail, until healed · `o` fail once ·
//! `n` hold, but only the first time that any instance sees it.
//!
//! It also checks that the lines it gets are numbered without gaps, over its whole life and over saved states.

use crate::filter::armory::{ArmedChain, ArmedStage};
use crate::filter::dear::Dearness;
use crate::filter::guest::{Guest, Starter};
use crate::model::{BreakerPlan, EntryPlan, FilterPlan, HeldPlan, ModuleFile, OnError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tailmill_engine::{
    Answer, Column, Digest, Fault, FaultKind, Header, HostNotes, Limits, Lines, Mask, Origin, Outcome, Output, Released,
};

/// What a fake filter is like.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub name: &'static str,
    /// Stands for the module's bytes and the config.
    #[allow(dead_code)] // Told apart by the swap tests.
    pub version: u32,
    pub stateless: bool,
    pub has_state: bool,
    pub ticks: bool,
    /// It lets go at the end of a file.
    pub finish: bool,
    /// Which byte of a line it looks at. `None`: the one of its place.
    pub byte: Option<usize>,
    pub on_error: OnError,
    pub breaker: Option<BreakerPlan>,
    pub held: HeldPlan,
    pub names_line: NamesLine,
    /// It grows by a MiB with each call.
    pub memory: bool,
}

/// Which line a fault names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NamesLine {
    Never,
    Truly,
    /// Always the first of the call.
    Falsely,
}

impl Default for Fake {
    fn default() -> Self {
        Fake {
            name: "fake",
            version: 0,
            stateless: false,
            has_state: false,
            ticks: false,
            finish: true,
            byte: None,
            on_error: OnError::Block,
            breaker: None,
            // Ticks of a bench come after hours.
            held: HeldPlan { time: Duration::from_secs(1 << 40), ..HeldPlan::STANDARD },
            names_line: NamesLine::Never,
            memory: false,
        }
    }
}

/// What all instances of a test share: faults that pass, and how often things happened.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Texts of `x` lines that are healed and of `o` lines that had their fault.
    pub healed: BTreeSet<Vec<u8>>,
    pub heal_all: bool,
    /// Faults still to come, at any stage.
    pub start_faults: u32,
    pub tick_faults: u32,
    /// Every tick fails, also one that is repeated for a new instance.
    pub ticks_fail: bool,
    /// A tick is not the one that lets go.
    pub ticks_wait: bool,
    pub flush_faults: u32,
    pub save_faults: u32,
    pub load_faults: u32,
    pub starts: u32,
    pub runs: u32,
    pub lines: usize,
    pub faults: u32,
    /// Whoever runs lines passes it first.
    pub gate: Gate,
}

/// What a test does in the middle of a call, given its first line.
#[derive(Clone, Default)]
pub(crate) struct Gate(Option<Arc<Pass>>);

type Pass = dyn Fn(&[u8]) + Send + Sync;

impl Gate {
    pub(crate) fn new(body: impl Fn(&[u8]) + Send + Sync + 'static) -> Gate {
        Gate(Some(Arc::new(body)))
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gate")
    }
}

pub(crate) type Shared = Arc<Mutex<World>>;

/// An armed chain of fakes.
pub(crate) fn armed(fakes: &[Fake], world: &Shared) -> Arc<ArmedChain> {
    armed_with_topics(fakes, world, &["main", "side"])
}

pub(crate) fn armed_with_topics(fakes: &[Fake], world: &Shared, topics: &[&str]) -> Arc<ArmedChain> {
    let stages: Vec<ArmedStage> = fakes.iter().enumerate().map(|(place, fake)| stage(place, fake, world)).collect();
    let topics: Vec<Arc<str>> = topics.iter().map(|topic| (*topic).into()).collect();
    let entry = Arc::new(entry(topics, stages.iter().map(|s| s.plan.clone()).collect()));
    Arc::new(ArmedChain { entry, stages, dearness: Dearness::starting_in(Duration::ZERO) })
}

/// An armed chain of fakes for this entry, whose filters took so long to start.
pub(crate) fn armed_entry(
    entry: EntryPlan,
    fakes: &[Fake],
    world: &Shared,
    longest_start: Duration,
) -> Arc<ArmedChain> {
    let stages: Vec<ArmedStage> = fakes.iter().enumerate().map(|(place, fake)| stage(place, fake, world)).collect();
    let filters = stages.iter().map(|stage| stage.plan.clone()).collect();
    let entry = Arc::new(EntryPlan { filters, ..entry });
    Arc::new(ArmedChain { entry, stages, dearness: Dearness::starting_in(longest_start) })
}

fn stage(place: usize, fake: &Fake, world: &Shared) -> ArmedStage {
    let bytes: Arc<[u8]> = format!("{fake:?}").into_bytes().into();
    let plan = FilterPlan {
        name: fake.name.into(),
        module: Arc::new(ModuleFile { digest: Digest::of(&bytes), source: "test".into(), bytes }),
        with: "{}".into(),
        limits: Limits::STANDARD,
        held: fake.held,
        on_error: fake.on_error,
        breaker: fake.breaker,
        stateless: fake.stateless,
    };
    ArmedStage {
        plan,
        starter: Arc::new(FakeStarter { place: fake.byte.unwrap_or(place), fake: fake.clone(), world: world.clone() }),
        traits: Arc::default(),
        stateless: fake.stateless,
        has_ticks: fake.ticks,
        has_finish: fake.finish && !fake.stateless,
        has_state: fake.has_state,
        start_took: Duration::ZERO,
    }
}

pub(crate) fn entry(topics: Vec<Arc<str>>, filters: Vec<FilterPlan>) -> EntryPlan {
    EntryPlan { filters, ..EntryPlan::sample(topics) }
}

struct FakeStarter {
    place: usize,
    fake: Fake,
    world: Shared,
}

impl Starter for FakeStarter {
    fn start(&self) -> Result<Box<dyn Guest>, Fault> {
        let mut world = self.world.lock().expect("no panic holds it");
        world.starts += 1;
        take(&mut world.start_faults).map_err(|()| fault("start", None))?;
        drop(world);
        let (place, fake, world) = (self.place, self.fake.clone(), self.world.clone());
        Ok(Box::new(FakeGuest { place, fake, world, state: State::default(), runs: 0 }))
    }
}

struct FakeGuest {
    place: usize,
    fake: Fake,
    world: Shared,
    state: State,
    runs: usize,
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    next: Option<u64>,
    held: Vec<(u64, Vec<u8>)>,
}

/// Lines going out, one by one.
#[derive(Default)]
struct Out {
    output: Output,
    keys: Vec<Option<String>>,
}

fn take(count: &mut u32) -> Result<(), ()> {
    if *count == 0 {
        return Ok(());
    }
    *count -= 1;
    Err(())
}

fn fault(what: &str, line: Option<u64>) -> Fault {
    Fault { kind: FaultKind::Trap, line, message: format!("scripted: {what}") }
}

impl FakeGuest {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().expect("no panic holds it")
    }

    /// Whether this line fails now (for `n`: is held now).
    fn is_struck(&self, command: u8, line: &[u8]) -> bool {
        let mut world = self.world();
        let known = [line, &[b'#', self.place as u8]].concat();
        match command {
            b'x' => !world.heal_all && !world.healed.contains(&known) && !world.healed.contains(line),
            b'o' | b'n' => world.healed.insert(known),
            _ => false,
        }
    }

    fn let_go(&mut self) -> Option<Output> {
        let held = std::mem::take(&mut self.state.held);
        let first = held.first()?.0;
        let mut out = Out::default();
        out.push(first, &join(held.iter().map(|(_, line)| &line[..])), None);
        Some(out.done(self.place))
    }

    fn oldest_held(&self) -> Option<u64> {
        self.state.held.first().map(|(seq, _)| *seq)
    }

    fn released(&mut self) -> Released {
        Released { output: self.let_go(), oldest_held: None }
    }
}

pub(crate) fn join<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    lines.collect::<Vec<_>>().join(&b'+')
}

impl Guest for FakeGuest {
    fn run(&mut self, first: u64, lines: Lines<'_>, _: &Origin) -> Result<Answer, Fault> {
        self.runs += 1;
        self.world().runs += 1;
        self.world().lines += lines.len();
        let Gate(gate) = self.world().gate.clone();
        gate.iter().for_each(|gate| gate(lines.line(0)));
        if !self.fake.stateless {
            assert!(
                self.state.next.is_none_or(|next| next == first),
                "stage {}: lines are numbered with a gap",
                self.place
            );
            self.state.next = Some(first + lines.len() as u64);
        }
        let mut out = Out::default();
        let mut mask = Mask { words: vec![0; lines.len().div_ceil(64)], len: lines.len() };
        let mut rewrites = false;
        for i in 0..lines.len() {
            let (seq, line) = (first + i as u64, lines.line(i));
            let command = line.get(self.place).copied().unwrap_or(b'k');
            let is_struck = self.is_struck(command, line);
            if is_struck && command != b'n' {
                self.world().faults += 1;
                let named = match self.fake.names_line {
                    NamesLine::Never => None,
                    NamesLine::Truly => Some(seq),
                    NamesLine::Falsely => Some(first),
                };
                return Err(fault("line", named));
            }
            match command {
                b'd' => {}
                b'n' if is_struck && !self.fake.stateless => self.state.held.push((seq, line.to_vec())),
                b'h' if !self.fake.stateless => self.state.held.push((seq, line.to_vec())),
                b'r' if !self.state.held.is_empty() => {
                    rewrites = true;
                    let source = self.state.held[0].0;
                    let held = std::mem::take(&mut self.state.held);
                    out.push(source, &join(held.iter().map(|(_, line)| &line[..]).chain([line])), None);
                }
                b'p' if !self.state.held.is_empty() => {
                    rewrites = true;
                    for (source, held) in std::mem::take(&mut self.state.held) {
                        out.push(source, &held, None);
                    }
                    out.push(seq, line, None);
                }
                b's' => {
                    rewrites = true;
                    out.push(seq, line, None);
                    out.push(seq, &[line, b"'"].concat(), None);
                }
                b'e' => {
                    rewrites = true;
                    out.push(seq, line, Some(format!("key {}", self.place)));
                }
                _ => {
                    mask.words[i / 64] |= 1 << (i % 64);
                    out.push(seq, line, None);
                }
            }
        }
        let kept = mask.words.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        let outcome = match kept {
            _ if rewrites => Outcome::Emit(out.done(self.place)),
            0 => Outcome::DropAll,
            n if n == lines.len() => Outcome::KeepAll,
            _ => Outcome::Keep(mask),
        };
        Ok(Answer { outcome, oldest_held: self.oldest_held() })
    }

    fn every_ms(&mut self) -> Result<Option<u32>, Fault> {
        Ok(self.fake.ticks.then_some(1000))
    }

    fn tick(&mut self, _: &Origin) -> Result<Released, Fault> {
        if self.world().ticks_fail {
            return Err(fault("tick", None));
        }
        take(&mut self.world().tick_faults).map_err(|()| fault("tick", None))?;
        if self.world().ticks_wait {
            return Ok(Released { output: None, oldest_held: self.oldest_held() });
        }
        Ok(self.released())
    }

    fn flush(&mut self, _: &Origin) -> Result<Released, Fault> {
        take(&mut self.world().flush_faults).map_err(|()| fault("flush", None))?;
        Ok(self.released())
    }

    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        take(&mut self.world().save_faults).map_err(|()| fault("save", None))?;
        Ok(self.fake.has_state.then(|| serde_json::to_vec(&self.state).expect("it serializes")))
    }

    fn load_state(&mut self, saved: &[u8], next: u64, oldest_held: Option<u64>) -> Result<(), Fault> {
        take(&mut self.world().load_faults).map_err(|()| fault("load", None))?;
        self.state = serde_json::from_slice(saved).map_err(|_| fault("state", None))?;
        assert!(self.state.next.is_none_or(|mine| mine == next), "a state comes back with another number");
        assert!(oldest_held <= self.oldest_held(), "a state comes back with less held than is in it");
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.state.held.len() * 1000 + if self.fake.memory { self.runs << 20 } else { 0 }
    }

    fn take_notes(&mut self) -> HostNotes {
        HostNotes::default()
    }
}

impl Out {
    fn push(&mut self, source: u64, line: &[u8], key: Option<String>) {
        let output = &mut self.output;
        // A byte between the lines, so that nobody takes `ends` for `starts`.
        output.data.push(b'\n');
        output.starts.push(output.data.len() as u32);
        output.data.extend_from_slice(line);
        output.ends.push(output.data.len() as u32);
        output.sources.push(source);
        self.keys.push(key);
    }

    fn done(mut self, place: usize) -> Output {
        if self.keys.iter().any(Option::is_some) {
            self.output.keys = Some(column(&self.keys));
            self.output.headers = vec![Header { name: format!("header {place}"), values: column(&self.keys) }];
        }
        self.output
    }
}

/// A column with these values.
pub(crate) fn column(values: &[Option<String>]) -> Column {
    let mut column = Column::default();
    for value in values {
        let start = column.data.len() as u32;
        column.data.extend_from_slice(value.as_deref().unwrap_or("").as_bytes());
        column.spans.push(value.as_ref().map(|_| (start, column.data.len() as u32)));
    }
    column
}

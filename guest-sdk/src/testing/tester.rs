//! One filter under test, called as the host calls it: needles first, then packed batches.

use super::unpack::{Sent, unpack};
use super::world::{World, inside};
use crate::{Answer, Fault, Filter, Lines, Outcome, Released, Runner, Traits};

/// A started filter.
pub struct Tester<F: Filter> {
    /// The filter's surroundings: set the clock here, read logs and counters here.
    pub world: World,
    runner: Runner<F>,
    traits: Traits,
    next: u64,
    oldest_held: Option<u64>,
}

impl<F: Filter> Tester<F> {
    pub(super) fn start(mut world: World, config: &str) -> Result<Tester<F>, String> {
        let (runner, traits) = inside(&mut world, || Runner::start(config.as_bytes()))?;
        Ok(Tester { world, runner, traits, next: 0, oldest_held: None })
    }

    /// What the filter said about itself.
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// The oldest line still inside the filter, after the last call.
    pub fn oldest_held(&self) -> Option<u64> {
        self.oldest_held
    }

    /// One batch of lines: what goes on. Lines without a needle are skipped, as by the host.
    pub fn run(&mut self, lines: &[impl AsRef<[u8]>]) -> Result<Vec<Sent>, Fault> {
        let first = self.next;
        let reaches: Vec<bool> = lines.iter().map(|line| self.has_needle(line.as_ref())).collect();
        let mut sent = self.skipped(first, lines, &reaches);
        let entering = lines.iter().zip(&reaches).enumerate().filter(|(_, (_, reaches))| **reaches);
        let (numbers, entering): (Vec<usize>, Vec<&[u8]>) = entering.map(|(at, (line, _))| (at, line.as_ref())).unzip();
        if !entering.is_empty() {
            let answer = self.answer(&entering)?;
            let judged = self.judged(first, &entering, answer.outcome);
            let real = |line: Sent| Sent { source: first + numbers[(line.source - first) as usize] as u64, ..line };
            // Sources of held lines lie in earlier batches; needles are for stateless filters, where there are none.
            let exact = self.traits.needles.is_empty();
            sent.extend(judged.into_iter().map(|line| if exact { line } else { real(line) }));
        }
        self.next = first + lines.len() as u64;
        if !self.traits.needles.is_empty() {
            sent.sort_by_key(|line| line.source);
        }
        Ok(sent)
    }

    /// One batch of lines, the answer as it is: to see that a clean batch is only a bit, for example.
    pub fn answer(&mut self, lines: &[impl AsRef<[u8]>]) -> Result<Answer, Fault> {
        let (mut data, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            starts.extend_from_slice(&(data.len() as u32).to_le_bytes());
            data.extend_from_slice(line.as_ref());
            ends.extend_from_slice(&(data.len() as u32).to_le_bytes());
            data.push(b'\n');
        }
        let lines = Lines { data: &data, starts: &starts, ends: &ends };
        let first = self.next;
        let answer = inside(&mut self.world, || self.runner.run(first, lines))?;
        self.next += lines.len() as u64;
        self.oldest_held = answer.oldest_held;
        Ok(answer)
    }

    /// How often the filter wants ticks.
    pub fn every_ms(&mut self) -> u32 {
        inside(&mut self.world, || self.runner.every_ms())
    }

    /// Time has passed (set [`World::now_ns`] first).
    pub fn tick(&mut self) -> Result<Vec<Sent>, Fault> {
        let released = inside(&mut self.world, || self.runner.tick())?;
        Ok(self.released(released))
    }

    /// The file is finished.
    pub fn flush(&mut self) -> Result<Vec<Sent>, Fault> {
        let released = inside(&mut self.world, || self.runner.flush())?;
        Ok(self.released(released))
    }

    /// The filter's state.
    pub fn save(&mut self) -> Result<Vec<u8>, String> {
        inside(&mut self.world, || self.runner.save())
    }

    /// Puts a new instance with the same lines behind it in place of this one, as a swap or a restart does.
    pub fn reload(&mut self, config: &str) -> Result<(), String> {
        let saved = self.save()?;
        let world = std::mem::take(&mut self.world);
        let mut fresh = Tester::<F>::start(world, config)?;
        inside(&mut fresh.world, || fresh.runner.load(&saved))?;
        fresh.next = self.next;
        fresh.oldest_held = self.oldest_held;
        *self = fresh;
        Ok(())
    }

    /// Gives the filter a state that was saved before.
    pub fn load(&mut self, saved: &[u8]) -> Result<(), String> {
        inside(&mut self.world, || self.runner.load(saved))
    }

    fn has_needle(&self, line: &[u8]) -> bool {
        let needles = &self.traits.needles;
        needles.is_empty() || needles.iter().any(|needle| line.windows(needle.len()).any(|part| part == needle))
    }

    fn skipped(&self, first: u64, lines: &[impl AsRef<[u8]>], reaches: &[bool]) -> Vec<Sent> {
        let kept =
            lines.iter().zip(reaches).enumerate().filter(|(_, (_, reaches))| !**reaches && self.traits.keep_skipped);
        kept.map(|(at, (line, _))| Sent::as_it_came(line.as_ref(), first + at as u64, &self.world.topics)).collect()
    }

    fn judged(&self, first: u64, lines: &[&[u8]], outcome: Outcome) -> Vec<Sent> {
        let topics = &self.world.topics;
        let kept = |keeps: &dyn Fn(usize) -> bool| {
            let lines = lines.iter().enumerate().filter(|(at, _)| keeps(*at));
            lines.map(|(at, line)| Sent::as_it_came(line, first + at as u64, topics)).collect()
        };
        match outcome {
            Outcome::KeepAll => kept(&|_| true),
            Outcome::DropAll => Vec::new(),
            Outcome::Keep(mask) => {
                assert_eq!(mask.len(), lines.len().div_ceil(8), "a bit for each line");
                kept(&|at| mask[at / 8] >> (at % 8) & 1 == 1)
            }
            Outcome::Emit(output) => unpack(&output, topics),
        }
    }

    fn released(&mut self, released: Released) -> Vec<Sent> {
        self.oldest_held = released.oldest_held;
        released.output.map_or_else(Vec::new, |output| unpack(&output, &self.world.topics))
    }
}

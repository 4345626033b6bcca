//! Runs a filter over batches: takes the contract's calls, gives its answers. The same code in wasm and in native tests.

use crate::answer::{Answer, Fault, Lines, Released, u32_at};
use crate::ctx::{Ctx, Facts};
use crate::filter::{Filter, parse_config};
use crate::verdict::Traits;

/// One instance of a filter.
pub struct Runner<F> {
    filter: F,
    facts: Facts,
    /// Number of the next line.
    next: u64,
}

impl<F: Filter> Runner<F> {
    /// Starts a filter with the entry's config as JSON.
    pub fn start(config: &[u8]) -> Result<(Runner<F>, Traits), String> {
        let filter = F::start(parse_config(config)?)?;
        let traits = filter.traits();
        if let Some(problem) = traits.problem() {
            return Err(problem);
        }
        let facts = Facts { stateless: traits.stateless, ..Facts::default() };
        Ok((Runner { filter, facts, next: 0 }, traits))
    }

    /// Judges a batch whose first line has the number `first`.
    pub fn run(&mut self, first: u64, lines: Lines<'_>) -> Result<Answer, Fault> {
        let mut ctx = Ctx::new(first, lines, &self.facts);
        for at in 0..lines.len() {
            // Not `Lines::line`: the loop is the hot path and knows that both columns are long enough.
            let line = &lines.data[u32_at(lines.starts, at)..u32_at(lines.ends, at)];
            ctx.begin(at);
            let settled = self.filter.line(line, &mut ctx).and_then(|verdict| ctx.settle(verdict));
            if let Err(message) = settled {
                return Err(Fault { line: Some(first + at as u64), message });
            }
        }
        self.next = first + lines.len() as u64;
        let outcome = ctx.finish();
        Ok(Answer { outcome, oldest_held: self.oldest_held() })
    }

    /// How often ticks are wanted; 0: never.
    pub fn every_ms(&self) -> u32 {
        if self.facts.stateless { 0 } else { self.filter.every_ms() }
    }

    /// Time has passed.
    pub fn tick(&mut self) -> Result<Released, Fault> {
        self.release(F::tick)
    }

    /// The file is finished.
    pub fn flush(&mut self) -> Result<Released, Fault> {
        self.release(F::flush)
    }

    fn release(&mut self, call: impl FnOnce(&mut F, &mut Ctx<'_>) -> Result<(), String>) -> Result<Released, Fault> {
        let mut ctx = Ctx::new(self.next, Lines::NONE, &self.facts);
        self.facts.held.forget_let_go();
        let output = call(&mut self.filter, &mut ctx)
            .and_then(|()| ctx.finish_release())
            .map_err(|message| Fault { line: None, message })?;
        Ok(Released { output, oldest_held: self.oldest_held() })
    }

    /// The filter's state, behind a line with the number of the next line: a tick right after `load` may have to name the
    /// last one that was seen.
    pub fn save(&self) -> Result<Vec<u8>, String> {
        let mut saved = format!("{}\n", self.next).into_bytes();
        saved.extend(self.filter.save()?);
        Ok(saved)
    }

    /// Goes on from a saved state.
    pub fn load(&mut self, saved: &[u8]) -> Result<(), String> {
        let (next, state) = split_saved(saved).ok_or("while loading the state: it was not saved by this SDK")?;
        let Runner { filter, facts, .. } = self;
        facts.held.while_loading(|| filter.load(state))?;
        self.next = next;
        Ok(())
    }

    fn oldest_held(&self) -> Option<u64> {
        self.facts.held.oldest()
    }
}

fn split_saved(saved: &[u8]) -> Option<(u64, &[u8])> {
    let end = saved.iter().position(|byte| *byte == b'\n')?;
    let next = std::str::from_utf8(&saved[..end]).ok()?.parse().ok()?;
    Some((next, &saved[end + 1..]))
}

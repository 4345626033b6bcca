//! The engine's clock: epochs move on while a guest runs, and rest when none does.
//!
//! A thread of the owner runs it. Calls count themselves in and out; the first one after a rest wakes the clock, so that no
//! guest ever runs without it, and an idle agent is not woken two hundred times a second.

use crate::tools::Tools;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

/// So many steps without any call, then the clock rests: a steady trickle of calls does not put it to sleep each time.
const IDLE_STEPS: u32 = 20;
/// The longest rest: whoever stops the clock waits no longer.
const REST_MAX: Duration = Duration::from_millis(250);

/// Which calls are running, and whether the clock rests.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    running: AtomicUsize,
    resting: AtomicBool,
    clock: OnceLock<Thread>,
    /// Instances that live.
    instances: AtomicUsize,
    instances_max: usize,
    /// What the workbench wants of the same calls.
    pub(crate) tools: Tools,
}

/// An instance that lives; it ends when this is dropped.
pub(crate) struct Living(Arc<Pace>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that is running; it ends when this is dropped.
pub(crate) struct Running(Arc<Pace>);

impl Pace {
    pub(crate) fn new(tools: Tools, instances_max: usize) -> Pace {
        Pace { tools, instances_max, ..Pace::default() }
    }

    /// One more instance. `Err`: there are so many already.
    pub(crate) fn bear(self: &Arc<Self>) -> Result<Living, usize> {
        let living = self.instances.fetch_add(1, Ordering::Relaxed);
        let one = Living(self.clone());
        if living < self.instances_max { Ok(one) } else { Err(self.instances_max) }
    }

    /// Instances that live.
    pub(crate) fn living(&self) -> usize {
        self.instances.load(Ordering::Relaxed)
    }

    /// A call begins.
    pub(crate) fn enter(self: &Arc<Self>) -> Running {
        // Ordering: sequential, so that of this and the clock's going to rest one sees the other.
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.resting.swap(false, Ordering::SeqCst) {
            self.clock.get().map(Thread::unpark);
        }
        Running(self.clone())
    }

    /// Calls `step` every `every` while calls run, until `stop`. On one thread only.
    pub(crate) fn run(&self, every: Duration, stop: &AtomicBool, step: impl Fn()) {
        let _ = self.clock.set(thread::current());
        let mut idle = 0;
        while !stop.load(Ordering::Relaxed) {
            idle = if self.running.load(Ordering::SeqCst) == 0 { (idle + 1).min(IDLE_STEPS + 1) } else { 0 };
            if idle > IDLE_STEPS {
                self.rest();
                if self.running.load(Ordering::SeqCst) == 0 {
                    continue;
                }
                idle = 0;
            }
            thread::sleep(every);
            step();
        }
    }

    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 {
            thread::park_timeout(REST_MAX);
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn the_clock_rests_without_calls_and_a_call_wakes_it() {
        let (pace, stop, steps) = (Arc::new(Pace::default()), Arc::new(AtomicBool::new(false)), Arc::default());
        let clock = {
            let (pace, stop, steps): (Arc<Pace>, Arc<AtomicBool>, Arc<AtomicU64>) =
                (pace.clone(), stop.clone(), Arc::clone(&steps));
            thread::spawn(move || {
                pace.run(Duration::from_micros(100), &stop, || {
                    steps.fetch_add(1, Ordering::SeqCst);
                });
            })
        };
        for _ in 0..3 {
            while !pace.resting.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let running = pace.enter();
            let before = steps.load(Ordering::SeqCst);
            while steps.load(Ordering::SeqCst) < before + u64::from(2 * IDLE_STEPS) {
                thread::yield_now();
            }
            assert!(!pace.resting.load(Ordering::SeqCst), "it rests while a call runs");
            drop(running);
        }
        stop.store(true, Ordering::SeqCst);
        clock.join().expect("the clock ends");
    }
}

//! The one way a store is made, with every limit on. What a guest may use is counted here and nowhere else.

use crate::limits::Limits;
use crate::notes::Notes;
use crate::pace::{Pace, Running};
use crate::surroundings::{Origin, Surroundings};
use crate::tools::FUEL;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};

/// On a busy machine a call may take so much longer on the clock than on the CPU. Generous: a guest has no call that waits, so
/// this is reached only where its thread is given less than a twentieth of a core.
const WALL_FACTOR: u32 = 20;
/// Core instances of one component. Python has some 20.
const INSTANCES_MAX: usize = 200;
const MEMORIES_MAX: usize = 16;
const TABLES_MAX: usize = 64;
/// Handles to WASI's pretended resources.
const HANDLES_MAX: usize = 1_000;

/// What belongs to one instance and its calls.
pub(crate) struct State {
    pace: Arc<Pace>,
    pub(crate) usage: Usage,
    pub(crate) clock: CallClock,
    pub(crate) notes: Notes,
    pub(crate) origin: Origin,
    pub(crate) surroundings: Surroundings,
    /// WASI's monotonic clock and its random numbers: each answer is the next one.
    pub(crate) ticks_ns: u64,
    pub(crate) random: u64,
}

/// A store for one instance.
pub(crate) fn new_store(
    engine: &Engine,
    pace: &Arc<Pace>,
    limits: &Limits,
    surroundings: &Surroundings,
) -> Store<State> {
    let state = State {
        pace: pace.clone(),
        usage: Usage::new(limits),
        clock: CallClock::new(),
        notes: Notes::new(),
        origin: Origin::default(),
        surroundings: surroundings.clone(),
        ticks_ns: 1_000_000_000,
        random: 88_172_645_463_325_252,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.usage);
    store.set_max_component_handles(HANDLES_MAX);
    store.epoch_deadline_callback(|mut store| Ok(store.data_mut().clock.at_epoch()));
    store
}

impl State {
    /// Lines were answered without the guest.
    pub(crate) fn count_skipped(&self, lines: usize) {
        self.pace.tools.tally.iter().for_each(|tally| tally.skipped(lines));
    }

    /// Nanoseconds since the Unix epoch; the clock stands still during a call.
    pub(crate) fn now_ns(&mut self) -> u64 {
        if let Some(clock) = &self.pace.tools.clock {
            return clock.now_ns();
        }
        *self.clock.now_ns.get_or_insert_with(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
    }
}

/// Begins a call that may take `time` and hand over `answer_bytes`. The clock runs as long as what is returned lives.
#[must_use]
pub(crate) fn begin_call(store: &mut Store<State>, time: Duration, answer_bytes: usize) -> Running {
    // Room for what a call says beside its answer (prints through WASI come as values of 40 bytes each).
    const SLACK: usize = 1 << 20;
    store.set_hostcall_fuel(answer_bytes.saturating_add(SLACK));
    store.set_epoch_deadline(1);
    if store.data().pace.tools.tally.is_some() {
        // An error would say that the engine does not count, and it does.
        let _ = store.set_fuel(FUEL);
    }
    let state = store.data_mut();
    state.usage.refused = None;
    state.clock.begin(time);
    state.pace.enter()
}

/// The call is over, however it went: what it executed is counted where that is wanted.
pub(crate) fn end_call(store: &mut Store<State>) {
    if store.data().pace.tools.tally.is_some() {
        let left = store.get_fuel().unwrap_or(FUEL);
        store.data().pace.tools.tally.iter().for_each(|tally| tally.fuel_left(left));
    }
}

/// How long the call has been going on.
pub(crate) struct CallClock {
    limit: Duration,
    cpu_at_start: Duration,
    begun: Instant,
    now_ns: Option<u64>,
    /// The call was stopped because its time was up.
    pub(crate) is_over: bool,
}

impl CallClock {
    fn new() -> CallClock {
        CallClock {
            limit: Duration::ZERO,
            cpu_at_start: Duration::ZERO,
            begun: Instant::now(),
            now_ns: None,
            is_over: false,
        }
    }

    fn begin(&mut self, limit: Duration) {
        *self =
            CallClock { limit, cpu_at_start: thread_cpu_time(), begun: Instant::now(), now_ns: None, is_over: false };
    }

    /// Called in the middle of the guest, on the thread that runs it, each time the epoch has moved on.
    fn at_epoch(&mut self) -> UpdateDeadline {
        let used = thread_cpu_time().saturating_sub(self.cpu_at_start);
        self.is_over = used >= self.limit || self.begun.elapsed() >= self.limit.saturating_mul(WALL_FACTOR);
        if self.is_over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
    }
}

fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Counts memory and table elements of an instance, all of its memories and tables together.
pub(crate) struct Usage {
    memory_max: usize,
    table_max: usize,
    pub(crate) memory: usize,
    table: usize,
    /// What the last permitted growth added, in case it fails after all.
    last_memory: usize,
    last_table: usize,
    /// What was refused in this call: a guest usually traps after it.
    pub(crate) refused: Option<String>,
}

impl Usage {
    fn new(limits: &Limits) -> Usage {
        Usage {
            memory_max: limits.memory_bytes,
            table_max: limits.table_elements,
            memory: 0,
            table: 0,
            last_memory: 0,
            last_table: 0,
            refused: None,
        }
    }
}

impl ResourceLimiter for Usage {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let total = self.memory.saturating_add(more);
        if total > self.memory_max {
            self.refused = Some(format!("wanted {} KiB of memory and may have {}", total >> 10, self.memory_max >> 10));
            return Ok(false);
        }
        (self.memory, self.last_memory) = (total, more);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory = self.memory.saturating_sub(std::mem::take(&mut self.last_memory));
        self.refused.get_or_insert_with(|| format!("memory could not grow: {error:#}"));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let total = self.table.saturating_add(more);
        if total > self.table_max {
            self.refused = Some(format!("wanted {total} table elements and may have {}", self.table_max));
            return Ok(false);
        }
        (self.table, self.last_table) = (total, more);
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table = self.table.saturating_sub(std::mem::take(&mut self.last_table));
        self.refused.get_or_insert_with(|| format!("a table could not grow: {error:#}"));
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a call with a limit of a minute that began so long ago, and has used no CPU to speak of, is stopped.
    fn is_stopped(seconds_ago: u64) -> bool {
        let mut clock = CallClock::new();
        clock.begin(Duration::from_secs(60));
        clock.begun =
            clock.begun.checked_sub(Duration::from_secs(seconds_ago)).expect("the machine runs for that long");
        matches!(clock.at_epoch(), UpdateDeadline::Interrupt)
    }

    #[test]
    fn a_call_that_is_given_no_cpu_may_take_twenty_times_its_limit_on_the_clock() {
        assert_eq!([0, 19 * 60, 20 * 60].map(is_stopped), [false, false, true]);
    }

    #[test]
    fn a_call_that_has_used_its_cpu_time_is_stopped_whatever_the_clock_says() {
        let mut clock = CallClock::new();
        clock.begin(Duration::from_secs(60));
        assert!(matches!(clock.at_epoch(), UpdateDeadline::Continue(1)));
        clock.limit = Duration::ZERO;
        assert!(matches!(clock.at_epoch(), UpdateDeadline::Interrupt) && clock.is_over);
    }
}

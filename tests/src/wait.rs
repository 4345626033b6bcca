//! Waiting for a condition by polling it. The only place with a sleep in it.

use std::time::{Duration, Instant};

/// How long a condition may take to come true before the test fails. Long: a busy machine must not fail a good build.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Polls until `condition` gives something. Panics with `what` and the last word of `explain` when it never does.
pub fn until<T>(what: &str, explain: impl Fn() -> String, condition: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, condition) {
        Some(found) => found,
        None => panic!("waited {} s in vain until {what}\n{}", PATIENCE.as_secs(), explain()),
    }
}

/// Polls until `condition` gives something or the time is over.
pub fn within<T>(time: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! How long to wait before etcd is asked again. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 250 ms to 30 s with every attempt in a row; half of it at random, so that a fleet that lost etcd together
/// does not come back together. `random`: any number, equally distributed.
pub(in super::super) fn backoff(attempt: u32, random: u64) -> Duration {
    let whole = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
    let half = whole / 2;
    let part = u32::try_from(random % 1000).unwrap_or(0);
    half + half * part / 1000
}

/// A number that differs from agent to agent.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Early at boot: the process number is enough for a delay.
        _ => u64::from(std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_limit_and_never_leaves_the_upper_half() {
        for (attempt, least_ms, most_ms) in
            [(0, 125, 250), (1, 250, 500), (6, 8_000, 16_000), (7, 15_000, 30_000), (4_000_000_000, 15_000, 30_000)]
        {
            assert_eq!(backoff(attempt, 0), Duration::from_millis(least_ms));
            let longest = backoff(attempt, 999);
            assert!(
                longest > Duration::from_millis(most_ms * 9 / 10) && longest < Duration::from_millis(most_ms),
                "{longest:?}"
            );
        }
    }
}

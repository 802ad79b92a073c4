//! How long to wait before trying again.

use rand::RngExt as _;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Exponential, with jitter, capped: workers that lost Postgres together don't come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = exponential(FIRST, self.tries);
        self.tries = self.tries.saturating_add(1);
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// How often it was asked.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }
}

/// How long a batch rests after so many failures by its own fault.
pub(crate) fn rest_after(failures: u32) -> Duration {
    exponential(Duration::from_millis(200), failures.saturating_sub(1))
}

fn exponential(first: Duration, tries: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(tries.min(16))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_stay() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[20..].iter().all(|wait| *wait >= LONGEST / 2 && *wait <= LONGEST));
        assert_eq!(rest_after(1), Duration::from_millis(200));
        assert_eq!(rest_after(4), Duration::from_millis(1_600));
        assert_eq!(rest_after(u32::MAX), LONGEST);
    }
}

//! How long to wait after one more failure: exponential, with jitter. The only file that knows `backoff`.
//!
//! ```text
//! interval   first, 2·first, 4·first, … cap
//! wait       anywhere between (1 − jitter)·interval and interval, by the random number that is passed in
//! ```
//!
//! The crate is unmaintained (RUSTSEC-2025-0012), so only its policy is used: no clock, no randomness and no loop of
//! its own. Invariants: a wait is never longer than the cap and never shorter than [`SHORTEST`]; there is no end.

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use std::time::Duration;

/// Full jitter may choose zero; this keeps a failing collector from being asked in a tight loop.
pub(crate) const SHORTEST: Duration = Duration::from_millis(50);

/// The waits of one row of failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: ExponentialBackoff,
    cap: Duration,
    jitter: f64,
}

impl Backoff {
    /// `jitter` is the part of each interval that is left to chance: 1 is full jitter.
    pub(crate) fn new(first: Duration, cap: Duration, jitter: f64) -> Self {
        let mut policy = ExponentialBackoff {
            initial_interval: first,
            max_interval: cap,
            multiplier: 2.0,
            // The chance is passed in, so the crate's own is off.
            randomization_factor: 0.0,
            // For ever.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        policy.reset();
        Self { policy, cap, jitter: jitter.clamp(0.0, 1.0) }
    }

    /// The next wait; `random` is between 0 and 1.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let interval = self.policy.next_backoff().unwrap_or(self.cap).min(self.cap);
        let part = 1.0 - self.jitter * (1.0 - random.clamp(0.0, 1.0));
        interval.mul_f64(part).clamp(SHORTEST.min(self.cap), self.cap)
    }

    /// The row of failures has ended.
    pub(crate) fn reset(&mut self) {
        self.policy.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_millis(250);
    const CAP: Duration = Duration::from_secs(60);

    #[test]
    fn the_interval_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(FIRST, CAP, 1.0);
        let longest: Vec<u128> = (0..10).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(longest, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        backoff.reset();
        assert_eq!(backoff.next(1.0), FIRST);
    }

    #[test]
    fn it_never_ends() {
        let mut backoff = Backoff::new(FIRST, CAP, 1.0);
        assert!((0..100_000).all(|_| backoff.next(0.5) <= CAP));
    }

    #[test]
    fn half_the_jitter_keeps_half_the_interval() {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300), 0.5);
        assert_eq!(backoff.next(0.0), Duration::from_secs(5));
        assert_eq!(backoff.next(1.0), Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(randoms in proptest::collection::vec(0.0f64..1.0, 1..40), jitter in 0.0f64..=1.0) {
            let mut backoff = Backoff::new(FIRST, CAP, jitter);
            let mut interval = FIRST;
            for random in randoms {
                let wait = backoff.next(random);
                let least = interval.mul_f64(1.0 - jitter).max(SHORTEST);
                let rounding = Duration::from_micros(1);
                prop_assert!(wait + rounding >= least && wait <= interval + rounding, "{wait:?} of {interval:?}");
                interval = (interval * 2).min(CAP);
            }
        }
    }
}

//! `--max-rate`: events per second that leave this machine, through a leaky bucket.
//!
//! The bucket holds one second's worth. A batch that is larger is paid in parts as they flow in, so it waits longer,
//! but never for ever. Each batch pays once: an attempt that is repeated brings no new events.

use crate::metrics::Metrics;
use leaky_bucket::RateLimiter;
use std::time::Duration;
use tokio::time::Instant;

/// The largest rate: far beyond what a machine can send, and no product of it overflows.
pub(crate) const MAX_RATE: u64 = 1 << 40;
/// How often the bucket is refilled.
const REFILL: Duration = Duration::from_millis(50);
/// The bucket counts thousandths, so that every rate is a whole number of them in each refill.
const SCALE: u64 = 1_000;
const PER_REFILL: u64 = 50;

/// The limit.
#[derive(Debug)]
pub(crate) struct MaxRate {
    bucket: RateLimiter,
    rate: u64,
}

impl MaxRate {
    /// A full bucket.
    pub(crate) fn new(events_per_s: u64) -> Self {
        let rate = events_per_s.clamp(1, MAX_RATE);
        let tokens = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bucket = RateLimiter::builder()
            .initial(tokens(rate * SCALE))
            .max(tokens(rate * SCALE))
            .refill(tokens(rate * PER_REFILL))
            .interval(REFILL)
            .build();
        Self { bucket, rate }
    }

    /// Waits until so many events may leave. Cancel safe; what was paid until then is gone.
    pub(crate) async fn pay(&self, events: u64, metrics: &Metrics) {
        let mut left = events;
        while left > 0 {
            let part = left.min(self.rate);
            let begun = Instant::now();
            self.bucket.acquire(usize::try_from(part * SCALE).unwrap_or(usize::MAX)).await;
            metrics.held("max_rate", begun.elapsed().as_secs_f64());
            left -= part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(rate: u64, batches: &[u64]) -> f64 {
        let (limit, metrics, begun) = (MaxRate::new(rate), Metrics::new().0, Instant::now());
        for events in batches {
            limit.pay(*events, &metrics).await;
        }
        begun.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_the_first_second_is_free() {
        let took = seconds_for(1_000, &[500; 22]).await;
        assert!((9.9..10.6).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_larger_than_the_bucket_waits_longer_but_not_for_ever() {
        let took = seconds_for(3, &[30]).await;
        assert!((8.9..9.6).contains(&took), "{took}");
        let took = seconds_for(MAX_RATE, &[5_000; 10]).await;
        assert!(took < 0.1, "{took}");
    }
}

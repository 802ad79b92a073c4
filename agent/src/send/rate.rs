//! How much leaves this machine: `--max-rate` and, once the collector has refused a batch for it, the quota that it has
//! told; each through a leaky bucket.
//!
//! A batch that is larger than a bucket is paid in parts as they flow in, so it waits longer, but never for ever. Each
//! batch pays once: an attempt that is repeated brings no new events.

use crate::metrics::Metrics;
use crate::send::limits::{Flow, Quota};
use leaky_bucket::RateLimiter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The largest rate: far beyond what a machine can send, and no product of it overflows.
pub(crate) const MAX_RATE: u64 = 1 << 40;
/// How often a bucket is refilled.
const REFILL: Duration = Duration::from_millis(50);
/// A bucket counts thousandths, so that every rate is a whole number of them in each refill.
const SCALE: u64 = 1_000;
const PER_REFILL: u64 = 50;
/// The part of a quota that is used, so that two clocks that differ a little cause no refusals; in hundredths.
const OF_QUOTA: u64 = 98;

/// All limits on the rate.
#[derive(Debug)]
pub(crate) struct Rates {
    own: Option<Bucket>,
    /// Another one whenever the collector says something new.
    told: Mutex<Option<Told>>,
    /// Whether the collector has refused a batch for the quota: before that, it is the judge alone.
    run_into: AtomicBool,
}

#[derive(Debug, Clone)]
struct Told {
    quota: Quota,
    events: Arc<Bucket>,
    bytes: Arc<Bucket>,
}

impl Rates {
    /// With `--max-rate`, in events a second, if there is one.
    pub(crate) fn new(max_rate: Option<u64>) -> Self {
        let own = max_rate.map(|rate| Bucket::new(Flow { rate, burst: rate }, "max_rate"));
        Self { own, told: Mutex::new(None), run_into: AtomicBool::new(false) }
    }

    /// The collector says what this agent may send.
    pub(crate) fn told(&self, quota: Quota) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_some_and(|told| told.quota == quota) {
            return;
        }
        let bucket = |flow: Flow| {
            let rate = (flow.rate.min(MAX_RATE) * OF_QUOTA / 100).max(1);
            Arc::new(Bucket::new(Flow { rate, ..flow }, "quota"))
        };
        *told = Some(Told { quota, events: bucket(quota.events), bytes: bucket(quota.bytes) });
    }

    /// The collector refused a batch for the quota: from now on that is kept to here, beginning with empty buckets.
    pub(crate) fn refused(&self) {
        self.run_into.store(true, Ordering::Relaxed);
        if let Some(told) = self.told.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            told.events.drain();
            told.bytes.drain();
        }
    }

    /// Waits until a batch may leave. Cancel safe; what was paid until then is gone.
    pub(crate) async fn pay(&self, events: u64, bytes: u64, metrics: &Metrics) {
        if let Some(own) = &self.own {
            own.pay(events, metrics).await;
        }
        self.pay_quota(events, bytes, metrics).await;
    }

    /// Waits until the quota has room for a batch. One that was refused for it pays again: what it paid before, or went
    /// without paying, is what the collector didn't have.
    pub(crate) async fn pay_quota(&self, events: u64, bytes: u64, metrics: &Metrics) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(told) = told.filter(|_| self.run_into.load(Ordering::Relaxed)) {
            told.events.pay(events, metrics).await;
            told.bytes.pay(bytes, metrics).await;
        }
    }
}

#[derive(Debug)]
struct Bucket {
    bucket: RateLimiter,
    burst: u64,
    reason: &'static str,
}

impl Bucket {
    /// A full one.
    fn new(flow: Flow, reason: &'static str) -> Self {
        let (rate, burst) = (flow.rate.clamp(1, MAX_RATE), flow.burst.clamp(1, MAX_RATE));
        let tokens = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bucket = RateLimiter::builder()
            .initial(tokens(burst * SCALE))
            .max(tokens(burst * SCALE))
            .refill(tokens(rate * PER_REFILL))
            .interval(REFILL)
            .build();
        Self { bucket, burst, reason }
    }

    /// Empties it.
    fn drain(&self) {
        // Another one may have taken some of it meanwhile: then there is less, which is as well.
        let _emptied = self.bucket.try_acquire(self.bucket.balance());
    }

    async fn pay(&self, amount: u64, metrics: &Metrics) {
        let mut left = amount;
        while left > 0 {
            let part = left.min(self.burst);
            let begun = Instant::now();
            self.bucket.acquire(usize::try_from(part * SCALE).unwrap_or(usize::MAX)).await;
            metrics.held(self.reason, begun.elapsed().as_secs_f64());
            left -= part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(rates: &Rates, batches: &[(u64, u64)]) -> f64 {
        let (metrics, begun) = (Metrics::new().0, Instant::now());
        for (events, bytes) in batches {
            rates.pay(*events, *bytes, &metrics).await;
        }
        begun.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_the_first_second_is_free() {
        let took = seconds_for(&Rates::new(Some(1_000)), &[(500, 0); 22]).await;
        assert!((9.9..10.6).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_larger_than_the_bucket_waits_longer_but_not_for_ever() {
        let took = seconds_for(&Rates::new(Some(3)), &[(30, 0)]).await;
        assert!((8.9..9.6).contains(&took), "{took}");
        let took = seconds_for(&Rates::new(Some(MAX_RATE)), &[(5_000, 0); 10]).await;
        assert!(took < 0.1, "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_collector_tells_is_kept_in_events_and_in_bytes() {
        let flow = |rate, burst| Flow { rate, burst };
        let rates = Rates::new(None);
        assert!(seconds_for(&rates, &[(1_000_000, 1 << 30)]).await < 0.1, "nothing is known yet");
        rates.told(Quota { events: flow(100, 200), bytes: flow(1 << 20, 2 << 20) });
        assert!(seconds_for(&rates, &[(1_000, 1_000)]).await < 0.1, "the collector is the judge");
        rates.refused();
        let took = seconds_for(&rates, &[(100, 1_000); 22]).await;
        assert!((22.0..23.5).contains(&took), "22 s at the full quota, and a little more: {took}");
        rates.told(Quota { events: flow(MAX_RATE, MAX_RATE), bytes: flow(1_000, 2_000) });
        rates.refused();
        let took = seconds_for(&rates, &[(1, 1_000); 22]).await;
        assert!((22.0..23.5).contains(&took), "{took}");
    }
}

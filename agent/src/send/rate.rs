//! How much leaves this machine: `--max-rate` and, once the collector has refused a batch for it, the quota that it has
//! told; each through a leaky bucket.
//!
//! A batch that is larger than a bucket is paid in parts as they flow in, so it waits longer, but never for ever. Each
//! batch pays once: an attempt that is repeated brings no new events.

use crate::metrics::Metrics;
use crate::send::gate::{HeldBack, millis};
use crate::send::limits::{Flow, Quota};
use leaky_bucket::RateLimiter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
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
    /// Another one whenever `--max-rate` changes.
    own: watch::Sender<Option<Arc<Bucket>>>,
    /// Another one whenever the collector says something new.
    told: watch::Sender<Option<Told>>,
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
        let own = watch::Sender::new(max_rate.map(own_bucket));
        Self { own, told: watch::Sender::new(None), run_into: AtomicBool::new(false) }
    }

    /// `--max-rate` is this now, also for a batch that waits.
    pub(crate) fn set_max_rate(&self, max_rate: Option<u64>) {
        self.own.send_replace(max_rate.map(own_bucket));
    }

    /// The collector says what this agent may send.
    pub(crate) fn told(&self, quota: Quota) {
        if self.told.borrow().as_ref().is_some_and(|told| told.quota == quota) {
            return;
        }
        let bucket = |flow: Flow, unit: &str| {
            let rate = (flow.rate.min(MAX_RATE) * OF_QUOTA / 100).max(1);
            let detail = format!("the collector's quota is {} {unit} a second", flow.rate);
            Arc::new(Bucket::new(Flow { rate, ..flow }, "quota", detail))
        };
        let (events, bytes) = (bucket(quota.events, "events"), bucket(quota.bytes, "bytes"));
        self.told.send_replace(Some(Told { quota, events, bytes }));
    }

    /// What was told isn't of this collector.
    pub(crate) fn forget_told(&self) {
        self.run_into.store(false, Ordering::Relaxed);
        self.told.send_replace(None);
    }

    /// The collector refused a batch for the quota: from now on that is kept to here, beginning with empty buckets.
    pub(crate) fn refused(&self) {
        self.run_into.store(true, Ordering::Relaxed);
        if let Some(told) = self.told.borrow().as_ref() {
            told.events.drain();
            told.bytes.drain();
        }
    }

    /// Waits until a batch may leave. Cancel safe; what was paid until then is gone.
    pub(crate) async fn pay(&self, events: u64, bytes: u64, metrics: &Metrics) {
        let mut own = self.own.subscribe();
        loop {
            let Some(bucket) = own.borrow_and_update().clone() else { break };
            tokio::select! {
                () = bucket.pay(events, metrics) => break,
                _ = own.changed() => {}
            }
        }
        self.pay_quota(events, bytes, metrics).await;
    }

    /// Waits until the quota has room for a batch. One that was refused for it pays again: what it paid before, or went
    /// without paying, is what the collector didn't have.
    pub(crate) async fn pay_quota(&self, events: u64, bytes: u64, metrics: &Metrics) {
        let mut told = self.told.subscribe();
        while self.run_into.load(Ordering::Relaxed) {
            let Some(now) = told.borrow_and_update().clone() else { return };
            let both = async {
                now.events.pay(events, metrics).await;
                now.bytes.pay(bytes, metrics).await;
            };
            tokio::select! {
                () = both => return,
                _ = told.changed() => {}
            }
        }
    }

    /// What a batch waits for, and until when; of several what lasts longest.
    pub(crate) fn held_back(&self) -> Option<HeldBack> {
        let own = self.own.borrow().clone();
        let told = self.told.borrow().clone();
        let told = told.into_iter().flat_map(|told| [told.events, told.bytes]);
        own.into_iter().chain(told).filter_map(|bucket| bucket.held_back()).max_by_key(|held| held.for_ms)
    }
}

fn own_bucket(rate: u64) -> Arc<Bucket> {
    let detail = format!("--max-rate is {rate} events a second");
    Arc::new(Bucket::new(Flow { rate, burst: rate }, "max_rate", detail))
}

#[derive(Debug)]
struct Bucket {
    bucket: RateLimiter,
    flow: Flow,
    reason: &'static str,
    /// For people.
    detail: String,
    waiting: Mutex<Option<Waiting>>,
}

/// Those who wait for one bucket.
#[derive(Debug)]
struct Waiting {
    count: usize,
    since: Instant,
    /// When the last of them will have what it needs.
    until: Instant,
}

impl Bucket {
    /// A full one.
    fn new(flow: Flow, reason: &'static str, detail: String) -> Self {
        let flow = Flow { rate: flow.rate.clamp(1, MAX_RATE), burst: flow.burst.clamp(1, MAX_RATE) };
        let tokens = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bucket = RateLimiter::builder()
            .initial(tokens(flow.burst * SCALE))
            .max(tokens(flow.burst * SCALE))
            .refill(tokens(flow.rate * PER_REFILL))
            .interval(REFILL)
            .build();
        Self { bucket, flow, reason, detail, waiting: Mutex::new(None) }
    }

    /// Empties it.
    fn drain(&self) {
        // Another one may have taken some of it meanwhile: then there is less, which is as well.
        let _emptied = self.bucket.try_acquire(self.bucket.balance());
    }

    async fn pay(&self, amount: u64, metrics: &Metrics) {
        let _turn = self.wait_for(amount, metrics);
        let mut left = amount;
        while left > 0 {
            let part = left.min(self.flow.burst);
            self.bucket.acquire(usize::try_from(part * SCALE).unwrap_or(usize::MAX)).await;
            left -= part;
        }
    }

    /// Notes that somebody waits, until what it returns is dropped.
    fn wait_for<'a>(&'a self, amount: u64, metrics: &'a Metrics) -> Turn<'a> {
        let begun = Instant::now();
        let mut waiting = self.lock();
        let before = waiting.take().unwrap_or(Waiting { count: 0, since: begun, until: begun });
        let there = if before.count == 0 { self.balance() } else { 0 };
        let ms = amount.saturating_sub(there).saturating_mul(1_000) / self.flow.rate;
        let until = before.until.max(begun).checked_add(Duration::from_millis(ms)).unwrap_or(before.until);
        *waiting = Some(Waiting { count: before.count + 1, until, ..before });
        Turn { bucket: self, metrics, begun }
    }

    fn balance(&self) -> u64 {
        // Never granted, but it makes the bucket look at the clock.
        let _refreshed = self.bucket.try_acquire(usize::MAX >> 1);
        crate::batch::length(self.bucket.balance()) / SCALE
    }

    fn held_back(&self) -> Option<HeldBack> {
        let waiting = self.lock();
        let Waiting { since, until, .. } =
            waiting.as_ref().filter(|waiting| waiting.until > waiting.since)?;
        Some(HeldBack {
            reason: self.reason.to_owned(),
            is_pressure: true,
            detail: self.detail.clone(),
            since_ms: millis(since.elapsed()),
            for_ms: millis(until.saturating_duration_since(Instant::now())),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits. However that ends, it is counted.
struct Turn<'a> {
    bucket: &'a Bucket,
    metrics: &'a Metrics,
    begun: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.metrics.held(self.bucket.reason, self.begun.elapsed().as_secs_f64());
        let mut waiting = self.bucket.lock();
        *waiting = waiting
            .take()
            .filter(|waiting| waiting.count > 1)
            .map(|waiting| Waiting { count: waiting.count - 1, ..waiting });
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

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_shown_with_why_and_until_when() {
        let flow = |rate, burst| Flow { rate, burst };
        let (rates, metrics) = (Rates::new(Some(100)), Metrics::new().0);
        rates.pay(100, 0, &metrics).await;
        assert_eq!(rates.held_back(), None, "there was enough");
        {
            let mut waits = std::pin::pin!(rates.pay(1_000, 0, &metrics));
            for _ in 0..2 {
                assert!(tokio::time::timeout(Duration::from_secs(2), &mut waits).await.is_err());
            }
            let held = rates.held_back().unwrap();
            assert_eq!((held.reason.as_str(), held.is_pressure), ("max_rate", true));
            assert!(held.detail.contains("--max-rate is 100 events"), "{held:?}");
            assert!((3_990..4_010).contains(&held.since_ms), "{held:?}");
            assert!((5_900..6_100).contains(&held.for_ms), "{held:?}");
            waits.await;
        }
        assert_eq!(rates.held_back(), None);
        rates.told(Quota { events: flow(100, 200), bytes: flow(1_000, 2_000) });
        rates.refused();
        rates.set_max_rate(None);
        // Two at once: the second has to wait for the first, too.
        let two = async { tokio::join!(rates.pay(1, 5_000, &metrics), rates.pay(1, 5_000, &metrics)) };
        assert!(tokio::time::timeout(Duration::from_secs(1), two).await.is_err());
        assert_eq!(rates.held_back(), None, "who is gone waits no more");
        let two = async { tokio::join!(rates.pay(1, 5_000, &metrics), rates.pay(1, 5_000, &metrics)) };
        let look = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            rates.held_back().unwrap()
        };
        let (begun, (_, held)) = (Instant::now(), tokio::join!(two, look));
        assert_eq!(held.reason, "quota");
        assert!(held.detail.contains("1000 bytes a second"), "{held:?}");
        let (said, took) = (held.since_ms + held.for_ms, millis(begun.elapsed()));
        assert!(said.abs_diff(took) < took / 10, "{held:?}, and it took {took} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_is_for_the_batch_that_waits_too() {
        let (rates, metrics, begun) = (Rates::new(Some(1)), Metrics::new().0, Instant::now());
        let change = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            rates.set_max_rate(Some(1_000));
        };
        tokio::join!(rates.pay(3_000, 0, &metrics), change);
        let took = begun.elapsed().as_secs_f64();
        assert!((2.9..3.3).contains(&took), "a second at the old rate, two at the new one: {took}");
    }
}

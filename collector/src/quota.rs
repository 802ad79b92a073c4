//! How much each agent may send: a leaky bucket of events and one of bytes, by agent ID.
//!
//! ```text
//!                 refill, each 50 ms
//!                        ▼
//!   admit(n) ──► │ balance − owed │ ≥ min(n, burst)?  yes: charge n, go on
//!                └────────────────┘                   soon enough: charge n now, go on after that time
//!                                                     else: refuse, and say when
//! ```
//!
//! `leaky-bucket` counts what flows in; it can neither go below zero nor say how long something takes, so what
//! is owed (a batch larger than the burst, a request that waits) is kept beside it. Whoever waits has been
//! charged already: so the times that others are told are true, and the order of arrival is kept.
//!
//! Limits: [`Limiters`] keeps `--max-agents` agents, and forgets the least recently seen, whose bucket is full
//! when it comes back.

use leaky_bucket::RateLimiter;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a bucket is refilled. `leaky-bucket` drops what is left of a millisecond at each refill, so this
/// keeps an agent within 2 % of its quota; and a time that is told is at most this much too long.
const REFILL: Duration = Duration::from_millis(50);
const REFILL_MS: u64 = 50;
/// The buckets count thousandths, so that every rate is a whole number for each millisecond.
const SCALE: u64 = 1_000;

/// What may flow through one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    /// For each second.
    pub(crate) rate: u64,
    /// At once, after a pause.
    pub(crate) burst: u64,
}

impl Quota {
    /// The largest rate and burst: far beyond what a machine can send, and no product of it overflows.
    pub(crate) const MAX_RATE: u64 = 1 << 40;

    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        Self { rate: rate.clamp(1, Self::MAX_RATE), burst: burst.clamp(1, Self::MAX_RATE) }
    }

    /// In how many seconds an empty bucket is full again, rounded up.
    pub(crate) fn window_s(self) -> u64 {
        self.burst.div_ceil(self.rate)
    }
}

/// The quotas of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quotas {
    pub(crate) events: Quota,
    pub(crate) bytes: Quota,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Charged: go on after that time (zero: at once).
    After(Duration, Charge),
    /// Not charged.
    Refused(Denial),
}

/// When it would be possible, and what there is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Until the buckets hold this batch.
    pub(crate) wait: Duration,
    /// Events that could be sent now.
    pub(crate) events_left: u64,
    /// Bytes that could be sent now.
    pub(crate) bytes_left: u64,
}

struct Bucket {
    flow: RateLimiter,
    quota: Quota,
    /// What was charged beyond the balance, less what was refunded; in thousandths.
    owed: i128,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        let flow = RateLimiter::builder()
            // What is owed may take longer to flow in than the burst: this bucket is trimmed by `settle`.
            .max(usize::MAX >> 2)
            .initial(units(quota.burst))
            .refill(usize::try_from(quota.rate * REFILL_MS).unwrap_or(usize::MAX >> 3))
            .interval(REFILL)
            .build();
        Self { flow, quota, owed: 0 }
    }

    /// Brings balance and debts together: afterwards `owed` is zero or the balance is. Returns what is free
    /// (negative: still owed), in thousandths.
    fn settle(&mut self) -> i128 {
        // Never granted, but it makes the bucket look at the clock.
        let _refreshed = self.flow.try_acquire(usize::MAX >> 1);
        let balance = signed(self.flow.balance());
        let free = (balance - self.owed).min(thousandths(self.quota.burst));
        let surplus = balance - free.max(0);
        self.owed = match usize::try_from(surplus) {
            // A refund that the bucket itself can't take back.
            Err(_) => surplus,
            Ok(surplus) if surplus == 0 || self.flow.try_acquire(surplus) => (-free).max(0),
            Ok(_) => self.owed,
        };
        free
    }

    /// How long until `amount` may pass; what exceeds the burst passes on credit.
    fn wait(&mut self, amount: u64) -> Duration {
        let needed = thousandths(amount.min(self.quota.burst));
        time_until(needed - self.settle(), self.quota.rate)
    }

    fn charge(&mut self, amount: u64) {
        self.owed += thousandths(amount);
    }

    fn refund(&mut self, amount: u64) {
        self.owed -= thousandths(amount);
    }

    fn left(&mut self) -> u64 {
        u64::try_from(self.settle() / thousandths(1)).unwrap_or(0)
    }
}

/// How long `missing` thousandths take to flow in, at `rate` whole ones per second: never too short.
fn time_until(missing: i128, rate: u64) -> Duration {
    if missing <= 0 {
        return Duration::ZERO;
    }
    // As many thousandths a millisecond as whole ones a second.
    let each = i128::from(rate) * i128::from(REFILL_MS);
    let refills = u64::try_from((missing + each - 1) / each).unwrap_or(u64::MAX);
    // One more millisecond for what the bucket drops.
    Duration::from_millis(refills.saturating_mul(REFILL_MS).saturating_add(1))
}

fn units(amount: u64) -> usize {
    usize::try_from(amount.saturating_mul(SCALE)).unwrap_or(usize::MAX >> 3)
}

fn thousandths(amount: u64) -> i128 {
    i128::from(amount) * i128::from(SCALE)
}

fn signed(balance: usize) -> i128 {
    i128::try_from(balance).unwrap_or(i128::MAX)
}

struct Agent {
    events: Bucket,
    bytes: Bucket,
}

impl Agent {
    fn wait(&mut self, events: u64, bytes: u64) -> Duration {
        self.events.wait(events).max(self.bytes.wait(bytes))
    }
}

type Shared = Arc<Mutex<Agent>>;

/// What was charged for one request. Dropped without [`Charge::keep`], it is refunded: the batch was not taken.
pub(crate) struct Charge {
    agent: Option<Shared>,
    events: u64,
    bytes: u64,
}

impl Charge {
    /// The batch was taken.
    pub(crate) fn keep(mut self) {
        self.agent = None;
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Charge").field("events", &self.events).field("bytes", &self.bytes).finish()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            let mut agent = agent.lock().unwrap_or_else(PoisonError::into_inner);
            agent.events.refund(self.events);
            agent.bytes.refund(self.bytes);
        }
    }
}

/// The buckets of all agents.
pub(crate) struct Limiters {
    agents: Mutex<LruCache<Arc<str>, Shared>>,
    quotas: Quotas,
}

impl Limiters {
    pub(crate) fn new(max_agents: usize, quotas: Quotas) -> Self {
        let max = NonZeroUsize::new(max_agents).unwrap_or(NonZeroUsize::MIN);
        // `sparse`: the table grows with the agents that come.
        Self { agents: Mutex::new(LruCache::sparse(max)), quotas }
    }

    pub(crate) fn quotas(&self) -> Quotas {
        self.quotas
    }

    /// Whether `agent` may send a batch of so many events and bytes, when it is ready to wait for `patience`.
    /// Must be called within a Tokio runtime, whose clock the buckets use.
    pub(crate) fn admit(&self, agent: &Arc<str>, events: u64, bytes: u64, patience: Duration) -> Admission {
        let shared = self.of(agent);
        let mut buckets = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = buckets.wait(events, bytes);
        if wait > patience {
            let (events_left, bytes_left) = (buckets.events.left(), buckets.bytes.left());
            return Admission::Refused(Denial { wait, events_left, bytes_left });
        }
        buckets.events.charge(events);
        buckets.bytes.charge(bytes);
        drop(buckets);
        Admission::After(wait, Charge { agent: Some(shared), events, bytes })
    }

    fn of(&self, agent: &Arc<str>) -> Shared {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let events = Bucket::new(self.quotas.events);
            Arc::new(Mutex::new(Agent { events, bytes: Bucket::new(self.quotas.bytes) }))
        };
        agents.get_or_insert(agent.clone(), make).clone()
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.agents.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, advance, sleep};

    const PLENTY: Quota = Quota { rate: 1 << 30, burst: 1 << 31 };

    fn limiters(rate: u64, burst: u64) -> Limiters {
        Limiters::new(100, Quotas { events: Quota::new(rate, burst), bytes: PLENTY })
    }

    fn refused(admission: &Admission) -> Duration {
        match admission {
            Admission::Refused(denial) => denial.wait,
            Admission::After(wait, _) => panic!("admitted after {wait:?}"),
        }
    }

    fn admitted(admission: Admission) -> Duration {
        match admission {
            Admission::After(wait, charge) => {
                charge.keep();
                wait
            }
            Admission::Refused(denial) => panic!("refused: {denial:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_burst_passes_and_then_the_rate() {
        let limiters = limiters(100, 200);
        let a: Arc<str> = "a".into();
        assert_eq!(admitted(limiters.admit(&a, 200, 0, Duration::ZERO)), Duration::ZERO);
        let wait = refused(&limiters.admit(&a, 50, 0, Duration::ZERO));
        assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_millis(551), "{wait:?}");
        // Another agent has its own.
        assert_eq!(admitted(limiters.admit(&"b".into(), 200, 0, Duration::ZERO)), Duration::ZERO);
        advance(wait).await;
        assert_eq!(admitted(limiters.admit(&a, 50, 0, Duration::ZERO)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_told_is_true_at_any_moment() {
        for (rate, burst, batch) in
            [(7, 3, 2), (100, 200, 150), (1_000, 10, 10), (50_000, 100_000, 9_999), (3, 1, 40)]
        {
            let limiters = limiters(rate, burst);
            let a: Arc<str> = "a".into();
            for round in 0..200_u64 {
                let wait = match limiters.admit(&a, batch, 0, Duration::ZERO) {
                    Admission::After(_, charge) => {
                        charge.keep();
                        // Odd steps, so that the refills are met at any phase.
                        advance(Duration::from_micros(round * 7_919 % 30_011)).await;
                        continue;
                    }
                    Admission::Refused(denial) => denial.wait,
                };
                // A good deal earlier it is refused, and that changes nothing.
                let early = wait.saturating_sub(REFILL + Duration::from_millis(5));
                advance(early).await;
                if early > Duration::ZERO {
                    refused(&limiters.admit(&a, batch, 0, Duration::ZERO));
                }
                advance(wait - early + Duration::from_millis(1)).await;
                admitted(limiters.admit(&a, batch, 0, Duration::ZERO));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_settles_at_its_quota() {
        let limiters = limiters(1_000, 100);
        let a: Arc<str> = "a".into();
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < Duration::from_secs(60) {
            match limiters.admit(&a, 37, 0, Duration::ZERO) {
                Admission::After(_, charge) => {
                    charge.keep();
                    sent += 37;
                }
                Admission::Refused(denial) => sleep(denial.wait).await,
            }
        }
        assert!((55_000..=60_300).contains(&sent), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn asking_all_the_time_costs_little_of_the_quota() {
        let limiters = limiters(1_000, 100);
        let a: Arc<str> = "a".into();
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < Duration::from_secs(20) {
            if let Admission::After(_, charge) = limiters.admit(&a, 5, 0, Duration::ZERO) {
                charge.keep();
                sent += 5;
            }
            advance(Duration::from_micros(1_900)).await;
        }
        assert!((19_400..=20_200).contains(&sent), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_larger_than_the_burst_passes_on_credit() {
        let limiters = limiters(100, 100);
        let a: Arc<str> = "a".into();
        assert_eq!(admitted(limiters.admit(&a, 1_000, 0, Duration::ZERO)), Duration::ZERO);
        // 900 are owed, and one more is wanted.
        let wait = refused(&limiters.admit(&a, 1, 0, Duration::ZERO));
        assert!(wait >= Duration::from_millis(9_010) && wait <= Duration::from_millis(9_062), "{wait:?}");
        advance(wait).await;
        admitted(limiters.admit(&a, 1, 0, Duration::ZERO));
        // A long pause fills the bucket up to the burst, and no further.
        advance(Duration::from_secs(3_600)).await;
        admitted(limiters.admit(&a, 100, 0, Duration::ZERO));
        refused(&limiters.admit(&a, 10, 0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_charged_at_once_and_refunded_when_it_goes() {
        let limiters = limiters(100, 100);
        let a: Arc<str> = "a".into();
        admitted(limiters.admit(&a, 100, 0, Duration::ZERO));
        let Admission::After(first, charge) = limiters.admit(&a, 40, 0, Duration::from_secs(1)) else {
            panic!("must wait")
        };
        assert!(first >= Duration::from_millis(400) && first <= Duration::from_millis(451), "{first:?}");
        let second = refused(&limiters.admit(&a, 40, 0, Duration::from_millis(700)));
        assert!(second >= Duration::from_millis(800), "{second:?}");
        drop(charge);
        let third = refused(&limiters.admit(&a, 40, 0, Duration::ZERO));
        assert!(third <= Duration::from_millis(451), "{third:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_too() {
        let quotas = Quotas { events: PLENTY, bytes: Quota::new(1_000, 1_000) };
        let limiters = Limiters::new(1, quotas);
        let a: Arc<str> = "a".into();
        admitted(limiters.admit(&a, 1, 1_000, Duration::ZERO));
        let Admission::Refused(denial) = limiters.admit(&a, 1, 500, Duration::ZERO) else {
            panic!("refused")
        };
        assert!(denial.wait >= Duration::from_millis(500), "{denial:?}");
        assert_eq!(denial.bytes_left, 0);
        assert!(denial.events_left > 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_map_is_bounded() {
        let limiters = limiters(1, 1);
        for n in 0..1_000 {
            admitted(limiters.admit(&format!("agent-{n}").into(), 1, 0, Duration::ZERO));
        }
        assert_eq!(limiters.known(), 100);
    }
}

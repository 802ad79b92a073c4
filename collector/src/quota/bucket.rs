//! One leaky bucket, with what is owed beside it.
//!
//! `leaky-bucket` counts what flows in; it can neither go below zero nor say how long something takes, so what
//! is owed (a batch larger than the burst, a request that waits, a promise) is kept beside it.

use super::Quota;
use leaky_bucket::RateLimiter;
use std::time::Duration;

/// How often a bucket is refilled. `leaky-bucket` drops what is left of a millisecond at each refill, so this
/// keeps an agent within 2 % of its quota; and a time that is told is at most this much too long.
pub(super) const REFILL: Duration = Duration::from_millis(50);
const REFILL_MS: u64 = 50;
/// The buckets count thousandths, so that every rate is a whole number for each millisecond.
const SCALE: u64 = 1_000;

pub(super) struct Bucket {
    flow: RateLimiter,
    quota: Quota,
    /// What was charged beyond the balance, less what was refunded; in thousandths.
    owed: i128,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(quota: Quota) -> Self {
        Self { flow: flow(quota, units(quota.burst)), quota, owed: 0 }
    }

    /// Goes on with another quota, as full as it is: what is left keeps its share of the burst, and what is owed
    /// takes as long as it would have taken.
    pub(super) fn change(&mut self, quota: Quota) {
        if quota == self.quota {
            return;
        }
        let free = self.settle();
        let scaled = |amount: i128, new: u64, old: u64| amount * i128::from(new) / i128::from(old);
        let (left, owed) = if free >= 0 {
            (scaled(free, quota.burst, self.quota.burst), 0)
        } else {
            (0, scaled(-free, quota.rate, self.quota.rate))
        };
        *self = Self { flow: flow(quota, usize::try_from(left).unwrap_or(0)), quota, owed };
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
    pub(super) fn wait(&mut self, amount: u64) -> Duration {
        let needed = thousandths(amount.min(self.quota.burst));
        time_until(needed - self.settle(), self.quota.rate)
    }

    pub(super) fn charge(&mut self, amount: u64) {
        self.owed += thousandths(amount);
    }

    pub(super) fn refund(&mut self, amount: u64) {
        self.owed -= thousandths(amount);
    }

    /// What could pass at once.
    pub(super) fn left(&mut self) -> u64 {
        u64::try_from(self.settle() / thousandths(1)).unwrap_or(0)
    }

    /// In what time an empty one is full.
    pub(super) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.quota.burst as f64 / self.quota.rate as f64)
    }
}

fn flow(quota: Quota, initial: usize) -> RateLimiter {
    RateLimiter::builder()
        // What is owed may take longer to flow in than the burst: this bucket is trimmed by `settle`.
        .max(usize::MAX >> 2)
        .initial(initial)
        .refill(usize::try_from(quota.rate * REFILL_MS).unwrap_or(usize::MAX >> 3))
        .interval(REFILL)
        .build()
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

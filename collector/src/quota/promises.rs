//! What refused requests of one agent were told: "after that time your batch fits". Its tokens are set aside, so
//! that it does, whatever else the agent sends meanwhile. Pure: the time is passed in.
//!
//! A request with an identity of its own (Logweir-Batch, Idempotency-Key) finds its own promise again. Without one,
//! nobody can say which request comes back, so any promise that is due and large enough will do.

use std::time::Duration;
use tokio::time::Instant;

/// The most promises to one agent: as many requests as a client usually has on their way. Who is refused beyond
/// that is told a time as well, but nothing is set aside.
const MOST: usize = 16;
/// How long after its time a promise is kept: half as long again as the wait, since clients add jitter, and no
/// less and no more than this.
const KEPT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// What a batch takes from the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct Promise {
    key: Option<u64>,
    due: Instant,
    until: Instant,
    amounts: Amounts,
}

/// The promises of one agent.
#[derive(Debug, Default)]
pub(super) struct Promises(Vec<Promise>);

/// A promise that fits a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    place: usize,
    /// Until it is due.
    pub(super) wait: Duration,
}

impl Promises {
    /// Makes one for a batch that will fit after `wait`, and whose sender was told to come back after `told`. Says
    /// whether it was made: then the amounts must be charged.
    pub(super) fn make(
        &mut self,
        now: Instant,
        (wait, told): (Duration, Duration),
        key: Option<u64>,
        amounts: Amounts,
    ) -> bool {
        let kept = (told / 2).clamp(KEPT.0, KEPT.1);
        let (Some(due), Some(until)) = (now.checked_add(wait), now.checked_add(told.saturating_add(kept)))
        else {
            return false;
        };
        if self.0.len() >= MOST {
            return false;
        }
        self.0.push(Promise { key, due, until, amounts });
        true
    }

    /// The promise that this request may redeem.
    pub(super) fn find(&self, now: Instant, key: Option<u64>, amounts: Amounts) -> Option<Found> {
        let place = match key {
            Some(_) => self.0.iter().position(|p| p.key == key)?,
            None => {
                let fits = |p: &Promise| {
                    p.key.is_none()
                        && p.due <= now
                        && p.amounts.events >= amounts.events
                        && p.amounts.bytes >= amounts.bytes
                };
                // The first that will be forgotten.
                let all = self.0.iter().enumerate().filter(|(_, p)| fits(p));
                all.min_by_key(|(_, p)| p.until)?.0
            }
        };
        let wait = self.0.get(place)?.due.saturating_duration_since(now);
        Some(Found { place, wait })
    }

    /// Takes a promise away, and returns what was set aside for it.
    pub(super) fn redeem(&mut self, found: Found) -> Amounts {
        self.0.swap_remove(found.place).amounts
    }

    /// Takes one away that was kept for long enough, and returns what was set aside for it.
    pub(super) fn forget_one(&mut self, now: Instant) -> Option<Amounts> {
        let place = self.0.iter().position(|p| p.until < now)?;
        Some(self.0.swap_remove(place).amounts)
    }
}

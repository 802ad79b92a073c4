//! When those who were refused will come back. Who comes alone is told the exact time; where many would come together,
//! later ones are told a time at which fewer will. Pure: the time is passed in.
//!
//! Limits: [`SLOTS`] of [`SLOT`] each; who must wait longer than they reach is told the exact time.

use std::time::Duration;
use tokio::time::Instant;

/// Returns within such a time come together.
const SLOT: Duration = Duration::from_millis(250);
/// How far ahead returns are known: 64 s.
const SLOTS: usize = 256;
/// So many at a time are no crowd.
const FEW: u32 = 4;

/// How many will come back in each slot of time.
#[derive(Debug)]
pub(super) struct Returns {
    begun: Instant,
    /// The first slot that isn't over, counted from the beginning.
    first: u64,
    /// A ring: slot n is at n modulo its length.
    counts: [u32; SLOTS],
}

impl Returns {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, first: 0, counts: [0; SLOTS] }
    }

    /// A time between `wait` and `wait + span` for one more. `within` chooses a moment of the slot, 0 to 1.
    pub(super) fn place(&mut self, now: Instant, wait: Duration, span: Duration, within: f64) -> Duration {
        self.forget_before(now);
        let since = now.saturating_duration_since(self.begun);
        let slot_of =
            |time: Duration| u64::try_from((since + time).as_millis() / SLOT.as_millis()).unwrap_or(u64::MAX);
        let (from, to) = (slot_of(wait), slot_of(wait.saturating_add(span)));
        let end = self.first + u64::try_from(SLOTS).unwrap_or(u64::MAX);
        if from >= end {
            return wait;
        }
        let choices = from..=to.min(end - 1);
        let free = choices.clone().find(|slot| *self.count(*slot) < FEW);
        let Some(chosen) = free.or_else(|| choices.min_by_key(|slot| *self.count(*slot))) else {
            return wait;
        };
        *self.count(chosen) += 1;
        if chosen == from {
            return wait;
        }
        let begin = SLOT.saturating_mul(u32::try_from(chosen).unwrap_or(u32::MAX)).saturating_sub(since);
        (begin + SLOT.mul_f64(within)).clamp(wait, wait.saturating_add(span))
    }

    fn count(&mut self, slot: u64) -> &mut u32 {
        let length = u64::try_from(SLOTS).unwrap_or(u64::MAX);
        &mut self.counts[usize::try_from(slot % length).unwrap_or(0)]
    }

    fn forget_before(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.begun);
        let first = u64::try_from(since.as_millis() / SLOT.as_millis()).unwrap_or(u64::MAX);
        if first - self.first.min(first) >= u64::try_from(SLOTS).unwrap_or(u64::MAX) {
            self.counts = [0; SLOTS];
        } else {
            for slot in self.first..first {
                *self.count(slot) = 0;
            }
        }
        self.first = self.first.max(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn who_comes_alone_is_told_the_exact_time_and_a_crowd_is_spread() {
        let mut returns = Returns::new(Instant::now());
        let mut slots = [0_u32; 9];
        for n in 0..90 {
            let told = returns.place(Instant::now(), WAIT, WAIT, 0.5);
            assert!(told >= WAIT && told <= WAIT * 2, "{told:?}");
            assert!(n >= FEW || told == WAIT, "{told:?}");
            slots[usize::try_from((told - WAIT).as_millis() / SLOT.as_millis()).unwrap()] += 1;
        }
        assert_eq!(slots, [10; 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_forgotten_and_what_is_far_is_exact() {
        let mut returns = Returns::new(Instant::now());
        for _ in 0..3 {
            for _ in 0..FEW {
                assert_eq!(returns.place(Instant::now(), WAIT, WAIT, 0.5), WAIT);
            }
            assert!(returns.place(Instant::now(), WAIT, WAIT, 0.5) > WAIT);
            tokio::time::advance(WAIT * 2 + SLOT).await;
        }
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert_eq!(returns.place(Instant::now(), WAIT, WAIT, 0.5), WAIT);
        let far = Duration::from_secs(100);
        for _ in 0..10 {
            assert_eq!(returns.place(Instant::now(), far, far, 0.5), far);
        }
    }
}

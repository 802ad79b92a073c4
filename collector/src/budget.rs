//! The memory for the bodies of all requests in hand: one budget, reserved before it is used, of which no agent gets
//! so much that nothing is left for others.

use crate::hands::Hand;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for. Smaller would overflow the semaphore's 32-bit counts for large budgets.
const UNIT: u64 = 1024;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    /// One agent may have so much in any case, in units.
    one: u64,
}

/// Some of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    hand: Arc<Hand>,
    permit: OwnedSemaphorePermit,
}

impl Budget {
    /// The largest budget that can be counted: 4 TiB less one unit.
    pub(crate) const MAX_BYTES: u64 = u32::MAX as u64 * UNIT;

    /// So many `bytes` for all, and `one` body's for each.
    pub(crate) fn new(bytes: u64, one: u64) -> Self {
        let units = usize::try_from(bytes / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Self { free, one: one.div_ceil(UNIT) }
    }

    /// Reserves nothing yet, for an agent.
    pub(crate) fn open(&self, hand: &Arc<Hand>) -> Option<Reservation> {
        let permit = self.free.clone().try_acquire_many_owned(0).ok()?;
        Some(Reservation { budget: self.clone(), hand: hand.clone(), permit })
    }

    /// Bytes that nobody has reserved.
    #[cfg(test)]
    pub(crate) fn free(&self) -> u64 {
        u64::try_from(self.free.available_permits()).unwrap() * UNIT
    }
}

impl Reservation {
    /// Makes it `bytes` large. Returns `false`, and changes nothing, when there is not enough left, or the agent has
    /// as much as is left already.
    #[must_use]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let units = u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(UNIT);
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        let have = self.permit.num_permits();
        if units <= have {
            drop(self.permit.split(have - units));
            self.hand.take(wide(have - units));
            return true;
        }
        let Ok(more) = u32::try_from(units - have) else { return false };
        let free = wide(self.budget.free.available_permits());
        if !self.hand.may_have(u64::from(more), free.saturating_sub(u64::from(more)), self.budget.one) {
            return false;
        }
        match self.budget.free.clone().try_acquire_many_owned(more) {
            Ok(permit) => {
                self.permit.merge(permit);
                self.hand.add(u64::from(more));
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.hand.take(wide(self.permit.num_permits()));
    }
}

fn wide(units: usize) -> u64 {
    u64::try_from(units).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back() {
        let budget = Budget::new(10 * UNIT, 10 * UNIT);
        let mut a = budget.open(&Arc::default()).unwrap();
        let mut b = budget.open(&Arc::default()).unwrap();
        assert!(a.resize(6 * 1024));
        assert!(!b.resize(4 * 1024 + 1));
        assert_eq!(budget.free(), 4 * UNIT);
        assert!(b.resize(4 * 1024));
        assert!(a.resize(1));
        assert_eq!(budget.free(), 5 * UNIT);
        drop(a);
        drop(b);
        assert_eq!(budget.free(), 10 * UNIT);
    }
    #[test]
    fn one_agent_leaves_something_to_the_others() {
        let budget = Budget::new(12 * UNIT, 2 * UNIT);
        let (greedy, other) = (Arc::default(), Arc::default());
        let mut held = Vec::new();
        for _ in 0..12 {
            let mut one = budget.open(&greedy).unwrap();
            if one.resize(1024) {
                held.push(one);
            }
        }
        assert_eq!((held.len(), budget.free()), (6, 6 * UNIT));
        let mut one = budget.open(&other).unwrap();
        assert!(one.resize(3 * 1024) && !one.resize(6 * 1024));
        drop(held);
        assert!(one.resize(6 * 1024));
        drop(one);
        let mut again = budget.open(&greedy).unwrap();
        assert!(again.resize(6 * 1024));
        assert_eq!(budget.free(), 6 * UNIT);
    }
}

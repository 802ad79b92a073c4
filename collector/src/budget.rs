//! The memory for the bodies of all requests in hand: one budget, reserved before it is used.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for. Smaller would overflow the semaphore's 32-bit counts for large budgets.
const UNIT: u64 = 1024;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// Some of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    permit: OwnedSemaphorePermit,
}

impl Budget {
    /// The largest budget that can be counted: 4 TiB less one unit.
    pub(crate) const MAX_BYTES: u64 = u32::MAX as u64 * UNIT;

    pub(crate) fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Reserves nothing yet.
    pub(crate) fn open(&self) -> Option<Reservation> {
        let permit = self.0.clone().try_acquire_many_owned(0).ok()?;
        Some(Reservation { budget: self.clone(), permit })
    }

    /// Bytes that nobody has reserved.
    #[cfg(test)]
    pub(crate) fn free(&self) -> u64 {
        u64::try_from(self.0.available_permits()).unwrap() * UNIT
    }
}

impl Reservation {
    /// Makes it `bytes` large. Returns `false`, and changes nothing, when there is not enough left.
    #[must_use]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let units = u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(UNIT);
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        let have = self.permit.num_permits();
        if units <= have {
            drop(self.permit.split(have - units));
            return true;
        }
        let Ok(more) = u32::try_from(units - have) else { return false };
        match self.budget.0.clone().try_acquire_many_owned(more) {
            Ok(permit) => {
                self.permit.merge(permit);
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back() {
        let budget = Budget::new(10 * UNIT);
        let mut a = budget.open().unwrap();
        let mut b = budget.open().unwrap();
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
}

//! How large a body the way to the collector carries within `--request-timeout`.
//!
//! ```text
//! two attempts in a row timed out, and the collector answers something small ──► half of that body, and of the next ones
//! one that is nearly as large as that went ──► a little more
//! ```
//!
//! Limits: never less than [`SMALLEST`]; a single event is sent whatever its size.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many attempts at one body must time out in a row: one alone may be chance.
pub(crate) const TIMEOUTS: u32 = 2;
/// Smaller bodies aren't the trouble: an answer to one takes about as long as to an empty one.
const SMALLEST: u64 = 1 << 10;
/// No body is larger; from here on nothing is known to be too large.
const LARGEST: u64 = 64 << 20;
/// What is added for each that went, as a part of it: it takes some 45 to double.
const STEP: u64 = 64;

/// What was learnt, in bytes as they are sent.
#[derive(Debug)]
pub(crate) struct Fit(AtomicU64);

impl Fit {
    /// Nothing is known to be too large.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Whether a body of so many bytes may be tried.
    pub(crate) fn allows(&self, bytes: usize) -> bool {
        crate::batch::length(bytes) <= self.0.load(Ordering::Relaxed)
    }

    /// A body of so many bytes takes too long.
    pub(crate) fn is_too_slow(&self, bytes: usize) {
        self.0.fetch_min((crate::batch::length(bytes) / 2).max(SMALLEST), Ordering::Relaxed);
    }

    /// One of so many bytes went.
    pub(crate) fn went(&self, bytes: usize) {
        let more = |fits: u64| {
            let near = fits < u64::MAX && crate::batch::length(bytes) >= fits / 2;
            let more = fits.saturating_add(fits / STEP);
            near.then_some(if more >= LARGEST { u64::MAX } else { more })
        };
        // Nothing to add is no error.
        let _unchanged = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// The way is another.
    pub(crate) fn forget(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_by_halves_and_rises_in_small_steps_until_nothing_is_known() {
        let fit = Fit::new();
        assert!(fit.allows(usize::MAX));
        fit.went(1 << 20);
        fit.is_too_slow(1 << 20);
        assert!(fit.allows(1 << 19) && !fit.allows((1 << 19) + 1));
        fit.is_too_slow(1 << 30);
        assert!(!fit.allows(1 << 20), "another one that is larger says nothing new");
        fit.went(1 << 10);
        assert!(!fit.allows((1 << 19) + 1), "one that is much smaller says nothing");
        let mut went = 0;
        while !fit.allows(1 << 20) {
            fit.went(1 << 19);
            went += 1;
        }
        assert!((40..60).contains(&went), "{went}");
        for _ in 0..500 {
            fit.went(1 << 30);
        }
        assert!(fit.allows(usize::MAX));
        for _ in 0..30 {
            fit.is_too_slow(10);
        }
        assert!(fit.allows(1 << 10) && !fit.allows((1 << 10) + 1));
    }
}

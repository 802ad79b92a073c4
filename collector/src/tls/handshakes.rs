//! The handshakes under way: bounded, and the oldest makes room.
//!
//! An honest client is done within two round trips; one that only opens connections, or says hello and nothing more,
//! is the oldest soon. So a flood of those holds up nobody else, as it would if new ones had to wait.

use prometheus_client::metrics::gauge::Gauge;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Handshakes {
    most: usize,
    under_way: Arc<Mutex<UnderWay>>,
    count: Gauge,
}

#[derive(Debug, Default)]
struct UnderWay {
    begun: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    number: u64,
    evicted: CancellationToken,
    all: Handshakes,
}

impl Handshakes {
    /// At most so many; at least one.
    pub(crate) fn new(most: usize, count: Gauge) -> Self {
        Self { most: most.max(1), under_way: Arc::default(), count }
    }

    /// Begins one. When there are too many, the oldest is given up.
    pub(crate) fn begin(&self) -> Handshake {
        let evicted = CancellationToken::new();
        let mut under_way = self.lock();
        under_way.begun += 1;
        let number = under_way.begun;
        under_way.by_age.insert(number, evicted.clone());
        if under_way.by_age.len() > self.most
            && let Some((_, oldest)) = under_way.by_age.pop_first()
        {
            oldest.cancel();
        }
        self.show(&under_way);
        Handshake { number, evicted, all: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, under_way: &UnderWay) {
        self.count.set(i64::try_from(under_way.by_age.len()).unwrap_or(i64::MAX));
    }
}

impl Handshake {
    /// Waits until it had to make room. Cancel safe.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut under_way = self.all.lock();
        under_way.by_age.remove(&self.number);
        self.all.show(&under_way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let gauge = Gauge::default();
        let handshakes = Handshakes::new(2, gauge.clone());
        let (first, second) = (handshakes.begin(), handshakes.begin());
        let third = handshakes.begin();
        first.evicted().await;
        assert!(!second.evicted.is_cancelled() && !third.evicted.is_cancelled());
        assert_eq!(gauge.get(), 2);
        drop((first, second));
        assert_eq!(gauge.get(), 1);
        let _fourth = handshakes.begin();
        assert!(!third.evicted.is_cancelled(), "one had ended by itself");
    }
}

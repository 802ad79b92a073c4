//! What a lane holds of the queue, and how it keeps it: leases are renewed while work is under way.

use logweir_queue::{EntryId, QueueError, Reader};
use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::unknown::Unknown;
use crate::wait::Backoff;

/// A call to Redis.
pub(crate) type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueueError>> + Send + 'a>>;

/// The reader of one lane, with the entries that it has and isn't finished with.
pub(crate) struct Grip {
    pub(crate) reader: Reader,
    held: BTreeSet<EntryId>,
    every: Duration,
    renew_at: Instant,
    metrics: Metrics,
    unknown: Arc<Unknown>,
    lane: usize,
}

impl Grip {
    /// Renews what it holds three times a lease.
    pub(crate) fn new(
        reader: Reader,
        lease: Duration,
        metrics: Metrics,
        unknown: Arc<Unknown>,
        lane: usize,
    ) -> Self {
        let every = lease / 3;
        Self {
            reader,
            held: BTreeSet::new(),
            every,
            renew_at: Instant::now() + every,
            metrics,
            unknown,
            lane,
        }
    }

    pub(crate) fn hold(&mut self, id: &EntryId) {
        if self.held.insert(id.clone()) {
            self.metrics.in_hand.inc();
        }
    }

    /// It is finished with, or left to whoever reclaims it.
    pub(crate) fn release(&mut self, id: &EntryId) {
        if self.held.remove(id) {
            self.metrics.in_hand.dec();
        }
    }

    /// Does `work`, and renews the leases meanwhile. A renewal that `work` outruns is cut off, which harms nothing.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.renew_in_time() => {}
            }
        }
    }

    async fn renew_in_time(&mut self) {
        sleep_until(self.renew_at).await;
        self.renew().await;
    }

    /// Renews the leases, if it is time to.
    pub(crate) async fn renew_if_due(&mut self) {
        if Instant::now() >= self.renew_at {
            self.renew().await;
        }
    }

    async fn renew(&mut self) {
        self.renew_at = Instant::now() + self.every;
        if self.held.is_empty() {
            return;
        }
        let ids: Vec<EntryId> = self.held.iter().cloned().collect();
        // Without its lease a batch may be taken over by another: twice the work, and counted once all the same.
        match self.reader.renew(&ids).await {
            Ok(kept) if usize::try_from(kept).is_ok_and(|kept| kept == ids.len()) => {}
            Ok(kept) => tracing::debug!(kept, held = ids.len(), "some batches have been taken over"),
            Err(error) => {
                self.unknown.redis(self.lane, &error, "renew leases");
                tracing::debug!(%error, "leases are not renewed");
            }
        }
    }

    /// Asks Redis until it answers; `None` when the lane is to stop, or when waiting wouldn't help.
    pub(crate) async fn insist<'a, T>(
        &mut self,
        stop: &CancellationToken,
        what: &str,
        call: impl Fn() -> Asking<'a, T> + Send,
    ) -> Option<T> {
        let mut backoff = Backoff::default();
        loop {
            match call().await {
                Ok(answer) => return Some(answer),
                Err(error @ (QueueError::Protocol(_) | QueueError::Usage(_))) => {
                    self.unknown.redis(self.lane, &error, what);
                    return None;
                }
                Err(error) => {
                    tracing::debug!(%error, "can't {what} just now");
                    if stop.is_cancelled() {
                        return None;
                    }
                    let wait = stop.run_until_cancelled(tokio::time::sleep(backoff.next()));
                    self.during(wait).await;
                }
            }
        }
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        for _ in &self.held {
            self.metrics.in_hand.dec();
        }
    }
}

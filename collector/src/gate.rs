//! The shared view of the queue, the task that keeps it fresh, and waiting for room.

use crate::metrics::Metrics;
use crate::pressure::{Drain, DrainMeter, Room, Sample, View};
use logweir_queue::{Depth, Queue, QueueError, ServerInfo, Shard, Shards};
use logweir_telemetry::admin::Readiness;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often idempotency keys whose time is over are looked for.
const FORGET: Duration = Duration::from_secs(1);
/// The name of the check in `/readyz`.
pub(crate) const REDIS_CHECK: &str = "redis";

/// The views, one of each shard of the queue, shared by all requests.
pub(crate) struct Gate {
    shards: Vec<Part>,
    /// Of each shard.
    room: Room,
    /// An enqueue has failed; whether Redis takes writes is looked at next.
    doubtful: AtomicBool,
}

/// What concerns one shard.
#[derive(Default)]
struct Part {
    view: watch::Sender<View>,
    added_entries: AtomicU64,
    added_bytes: AtomicU64,
}

impl Gate {
    pub(crate) fn new(shards: Shards, room: Room) -> Self {
        let shards = shards.all().map(|_| Part::default()).collect();
        Self { shards, room, doubtful: AtomicBool::new(true) }
    }

    fn part(&self, shard: Shard) -> &Part {
        &self.shards[usize::from(shard.number()) % self.shards.len()]
    }

    pub(crate) fn room(&self) -> Room {
        self.room
    }

    pub(crate) fn view(&self, shard: Shard) -> View {
        self.part(shard).view.borrow().clone()
    }

    /// Notes what an enqueue said of a shard; `body` is the size of the batch that was added, if it was.
    pub(crate) fn note(&self, shard: Shard, entries: u64, bytes: u64, body: Option<usize>) {
        let part = self.part(shard);
        if let Some(body) = body {
            part.added_entries.fetch_add(1, Ordering::Relaxed);
            part.added_bytes.fetch_add(u64::try_from(body).unwrap_or(0), Ordering::Relaxed);
        }
        part.view.send_modify(|view| {
            view.entries = entries;
            view.bytes = bytes;
        });
    }

    /// Notes that a call to the queue has failed; not if that was this program's own mistake, which says nothing of Redis.
    pub(crate) fn doubt(&self, error: &QueueError) {
        if !matches!(error, QueueError::Usage(_)) {
            self.doubtful.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until there seems to be room in a shard, or the queue can't be used any more, at most until `deadline`. Returns
    /// whether there is room.
    pub(crate) async fn wait_for_room(&self, shard: Shard, deadline: Instant) -> bool {
        let mut views = self.part(shard).view.subscribe();
        let changed = views.wait_for(|view| !view.is_full(self.room) || view.unavailable().is_some());
        match timeout_at(deadline, changed).await {
            Ok(Ok(view)) => !view.is_full(self.room),
            _ => false,
        }
    }

    fn seen(&self, shard: Shard, depth: Depth, drain: Drain) {
        self.part(shard).view.send_modify(|view| {
            *view = View {
                trouble: Some(Ok(())),
                entries: depth.entries,
                bytes: depth.bytes,
                oldest_age_ms: depth.oldest_age_ms.unwrap_or(0),
                drain,
            };
        });
    }

    fn lost(&self, why: &str) {
        let why: Arc<str> = why.into();
        for part in &self.shards {
            part.view.send_modify(|view| view.trouble = Some(Err(Arc::clone(&why))));
        }
    }
}

/// Looks at the queue until `stop`, and says when it is lost, found, full and not full any more.
pub(crate) struct Watcher {
    pub(crate) gate: Arc<Gate>,
    pub(crate) queue: Queue,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
}

impl Watcher {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let begun = Instant::now();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut meters = vec![DrainMeter::default(); self.gate.shards.len()];
        let mut up = None;
        let mut full = false;
        let mut forget_at = begun;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let looked = async {
                let server = if up == Some(true) { None } else { Some(self.queue.check().await?) };
                let depths = self.queue.depths().await?;
                if self.gate.doubtful.swap(false, Ordering::Relaxed) {
                    self.queue.check_writing().await?;
                }
                Ok((server, depths))
            };
            match looked.await {
                Ok((server, depths)) => {
                    if let Some(server) = server {
                        self.say_found(&server);
                    }
                    // What lies in shards beyond --shards takes nobody's room there.
                    for ((shard, depth), meter) in depths.iter().zip(&mut meters) {
                        let drain = meter.observe(self.sample(begun.elapsed(), *shard, *depth));
                        self.gate.seen(*shard, *depth, drain);
                    }
                    let depth = Depth::of_all(depths.iter().map(|(_, depth)| depth));
                    self.gauges(depth);
                    // What has been forgotten may be a piece only, of which the next is due at the next look.
                    if Instant::now() >= forget_at && !self.forget_old_keys().await {
                        forget_at = Instant::now() + FORGET;
                    }
                    up = Some(true);
                    full = self.say_full(full, depth);
                }
                Err(error) => {
                    self.gate.doubt(&error);
                    meters.iter_mut().for_each(DrainMeter::interrupt);
                    self.say_lost(up, &error);
                    up = Some(false);
                }
            }
        }
    }

    /// Also while nothing is added: what they take may be the very memory that Redis lacks. Returns whether there were
    /// some.
    async fn forget_old_keys(&self) -> bool {
        match self.queue.forget_old_keys().await {
            Ok(forgotten) => forgotten > 0,
            Err(error) => {
                tracing::debug!(%error, "old idempotency keys are forgotten later");
                false
            }
        }
    }

    fn sample(&self, at: Duration, shard: Shard, depth: Depth) -> Sample {
        let part = self.gate.part(shard);
        Sample {
            at,
            entries: depth.entries,
            bytes: depth.bytes,
            added_entries: part.added_entries.load(Ordering::Relaxed),
            added_bytes: part.added_bytes.load(Ordering::Relaxed),
        }
    }

    /// After each time without Redis.
    fn say_found(&self, server: &ServerInfo) {
        self.readiness.set(REDIS_CHECK, Ok(()));
        self.metrics.redis_up.set(1);
        tracing::info!(version = %server.version, "the queue can be used");
        for warning in &server.warnings {
            tracing::warn!("{warning}");
        }
    }

    fn say_lost(&self, up: Option<bool>, error: &QueueError) {
        let why = error.to_string();
        let known = self.gate.view(Shard::default()).unavailable();
        if up != Some(false) || known.as_deref() != Some(why.as_str()) {
            if matches!(error, QueueError::Unfit(_) | QueueError::Usage(_)) {
                tracing::error!(%error, "the queue can't be used until somebody mends this; answering 503");
            } else if up != Some(false) {
                tracing::warn!(%error, "the queue can't be used; answering 503 until it is back");
            }
        }
        self.gate.lost(&why);
        self.metrics.redis_up.set(0);
        self.readiness.set(REDIS_CHECK, Err(why));
    }

    fn say_full(&self, was: bool, depth: Depth) -> bool {
        let is = self.gate.shards.iter().any(|part| part.view.borrow().is_full(self.gate.room()));
        if is && !was {
            tracing::warn!(entries = depth.entries, bytes = depth.bytes, "the queue is full; answering 503");
        } else if was && !is {
            tracing::info!(entries = depth.entries, bytes = depth.bytes, "the queue has room again");
        }
        is
    }

    fn gauges(&self, depth: Depth) {
        self.metrics.queue_entries.set(depth.entries);
        self.metrics.queue_bytes.set(depth.bytes);
        self.metrics.queue_oldest_age.set(depth.oldest_age_ms.unwrap_or(0) as f64 / 1_000.0);
        self.metrics.queue_dead.set(depth.dead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_the_queues_fault_makes_it_doubtful() {
        let gate = Gate::new(Shards::default(), Room { entries: 1, bytes: 1 });
        let doubts = |error| {
            gate.doubtful.store(false, Ordering::Relaxed);
            gate.doubt(&error);
            gate.doubtful.load(Ordering::Relaxed)
        };
        assert!(doubts(QueueError::Timeout(LOOK)) && doubts(QueueError::Protocol(String::new())));
        assert!(!doubts(QueueError::Usage(String::new())));
    }
}

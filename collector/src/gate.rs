//! The shared view of the queue, the task that keeps it fresh, and waiting for room.

use crate::metrics::Metrics;
use crate::pressure::{Drain, DrainMeter, Room, Sample, View};
use logweir_queue::{Depth, Queue, QueueError, ServerInfo};
use logweir_telemetry::admin::Readiness;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The name of the check in `/readyz`.
pub(crate) const REDIS_CHECK: &str = "redis";

/// The view, shared by all requests.
pub(crate) struct Gate {
    view: watch::Sender<View>,
    room: Room,
    added_entries: AtomicU64,
    added_bytes: AtomicU64,
    /// An enqueue has failed; whether Redis takes writes is looked at next.
    doubtful: AtomicBool,
}

impl Gate {
    pub(crate) fn new(room: Room) -> Self {
        let (view, _) = watch::channel(View::default());
        Self {
            view,
            room,
            added_entries: AtomicU64::new(0),
            added_bytes: AtomicU64::new(0),
            doubtful: AtomicBool::new(true),
        }
    }

    pub(crate) fn room(&self) -> Room {
        self.room
    }

    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Notes what an enqueue said of the queue; `body` is the size of the batch that was added, if it was.
    pub(crate) fn note(&self, entries: u64, bytes: u64, body: Option<usize>) {
        if let Some(body) = body {
            self.added_entries.fetch_add(1, Ordering::Relaxed);
            self.added_bytes.fetch_add(u64::try_from(body).unwrap_or(0), Ordering::Relaxed);
        }
        self.view.send_modify(|view| {
            view.entries = entries;
            view.bytes = bytes;
        });
    }

    /// Notes that an enqueue has failed by the queue's fault.
    pub(crate) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }

    /// Waits until there seems to be room, or the queue can't be used any more, at most until `deadline`. Returns
    /// whether there is room.
    pub(crate) async fn wait_for_room(&self, deadline: Instant) -> bool {
        let mut views = self.view.subscribe();
        let changed = views.wait_for(|view| !view.is_full(self.room) || view.unavailable().is_some());
        match timeout_at(deadline, changed).await {
            Ok(Ok(view)) => !view.is_full(self.room),
            _ => false,
        }
    }

    fn seen(&self, depth: Depth, drain: Drain) {
        self.view.send_modify(|view| {
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
        self.view.send_modify(|view| view.trouble = Some(Err(why.into())));
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
        let mut meter = DrainMeter::default();
        let mut up = None;
        let mut full = false;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let looked = async {
                let server = if up == Some(true) { None } else { Some(self.queue.check().await?) };
                let depth = self.queue.depth().await?;
                if self.gate.doubtful.swap(false, Ordering::Relaxed) {
                    self.queue.check_writing().await?;
                }
                Ok((server, depth))
            };
            match looked.await {
                Ok((server, depth)) => {
                    if let Some(server) = server {
                        self.say_found(&server);
                    }
                    let drain = meter.observe(self.sample(begun.elapsed(), depth));
                    self.gate.seen(depth, drain);
                    self.gauges(depth);
                    self.forget_old_keys().await;
                    up = Some(true);
                    full = self.say_full(full, depth);
                }
                Err(error) => {
                    self.gate.doubt();
                    meter.interrupt();
                    self.say_lost(up, &error);
                    up = Some(false);
                }
            }
        }
    }

    /// Also while nothing is added: what they take may be the very memory that Redis lacks.
    async fn forget_old_keys(&self) {
        if let Err(error) = self.queue.forget_old_keys().await {
            tracing::debug!(%error, "old idempotency keys are forgotten later");
        }
    }

    fn sample(&self, at: Duration, depth: Depth) -> Sample {
        Sample {
            at,
            entries: depth.entries,
            bytes: depth.bytes,
            added_entries: self.gate.added_entries.load(Ordering::Relaxed),
            added_bytes: self.gate.added_bytes.load(Ordering::Relaxed),
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
        let known = self.gate.view().unavailable();
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
        let is = self.gate.view().is_full(self.gate.room());
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

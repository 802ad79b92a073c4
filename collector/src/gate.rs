//! The shared view of the queue, the task that keeps it fresh, and waiting for room.

use crate::line::{Line, Turn, Who};
use crate::metrics::Metrics;
use crate::pressure::{self, Drain, DrainMeter, FURTHEST, Room, Sample, View};
use logweir_queue::{Depth, Queue, QueueError, ServerInfo, Shard, Shards};
use logweir_telemetry::admin::Readiness;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// What Redis said to the last enqueue that no wait will mend.
    strange: Mutex<Option<String>>,
}

/// What concerns one shard.
struct Part {
    view: watch::Sender<View>,
    line: Mutex<Line>,
    added_entries: AtomicU64,
    added_bytes: AtomicU64,
}

impl Part {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is being added: while it is, nobody else takes its room.
pub(crate) struct Claim<'a>(&'a Part);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.line().arrived();
    }
}

impl Gate {
    /// With `max_promises` places in the lines of all shards together.
    pub(crate) fn new(shards: Shards, room: Room, max_promises: usize) -> Self {
        let each = max_promises.div_ceil(usize::from(shards.count()));
        let part = |_| Part {
            view: watch::Sender::default(),
            line: Mutex::new(Line::new(each)),
            added_entries: AtomicU64::default(),
            added_bytes: AtomicU64::default(),
        };
        let shards = shards.all().map(part).collect();
        Self { shards, room, doubtful: AtomicBool::new(true), strange: Mutex::default() }
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

    /// Whether a batch may come to a shard.
    pub(crate) fn look(&self, shard: Shard, who: &Who) -> Turn {
        let part = self.part(shard);
        let free = part.view.borrow().free(self.room);
        part.line().look(Instant::now(), who, free)
    }

    /// The same, for a batch that is added at once if it may.
    pub(crate) fn claim(&self, shard: Shard, who: &Who) -> Option<Claim<'_>> {
        let part = self.part(shard);
        let free = part.view.borrow().free(self.room);
        let turn = part.line().claim(Instant::now(), who, free);
        (turn == Turn::Now).then(|| Claim(part))
    }

    /// Gives a batch a place in the line that is due within `patience`, and says when.
    pub(crate) fn stand_in_line(&self, shard: Shard, who: &Who, patience: Duration) -> Option<Duration> {
        let part = self.part(shard);
        let view = part.view.borrow().clone();
        let mut line = part.line();
        let wait = view.room_in(self.room, line.ahead()).filter(|wait| *wait <= patience)?;
        line.promise(Instant::now(), who, wait, patience).then_some(wait)
    }

    /// Gives up the place of a batch, if it has one.
    pub(crate) fn leave_line(&self, shard: Shard, who: &Who) {
        self.part(shard).line().remove(Instant::now(), who);
    }

    /// When a batch that is refused should come back. If that is known, a place is kept for it.
    pub(crate) fn turn_away(&self, shard: Shard, who: &Who) -> Duration {
        let part = self.part(shard);
        let view = part.view.borrow().clone();
        let now = Instant::now();
        let mut line = part.line();
        if let Turn::Early(wait) = line.look(now, who, 0) {
            return wait;
        }
        // It came at its time and the queue has refused it: it has another place now.
        line.remove(now, who);
        let place = view.place_in(self.room, line.ahead());
        let told = pressure::told(place, &who.agent, line.next_turn());
        let wait = match place {
            Some(wait) => Some(wait).filter(|wait| *wait <= FURTHEST),
            // Nobody knows whether anything will drain; but who has waited comes before who hasn't.
            None => Some(told).filter(|_| !line.knows(&who.agent)),
        };
        if let Some(wait) = wait {
            // Where there is no place left, it is told a time as well; there just may be no room then.
            line.promise(now, who, wait, told);
        }
        told
    }

    /// How many places are kept in the lines.
    fn promised(&self) -> usize {
        self.shards.iter().map(|part| part.line().promised()).sum()
    }

    /// Notes that a call to the queue has failed; not if that was this program's own mistake, which says nothing of Redis.
    pub(crate) fn doubt(&self, error: &QueueError) {
        if !matches!(error, QueueError::Usage(_)) {
            self.doubtful.store(true, Ordering::Relaxed);
        }
        if let QueueError::Protocol(why) = error {
            *self.strange.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
        }
    }

    fn take_strange(&self) -> Option<String> {
        self.strange.lock().unwrap_or_else(PoisonError::into_inner).take()
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
        self.part(shard).line().forget(Instant::now());
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
        let mut strange = None;
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
                    strange = self.say_strange(strange);
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

    /// Once, not for each batch.
    fn say_strange(&self, told: Option<String>) -> Option<String> {
        let Some(why) = self.gate.take_strange() else { return told };
        if told.as_ref() != Some(&why) {
            tracing::error!(
                error = why,
                "Redis refuses batches, and no wait will mend that; answering them 503"
            );
        }
        Some(why)
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
        self.metrics.promised.set(u64::try_from(self.gate.promised()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_the_queues_fault_makes_it_doubtful() {
        let gate = Gate::new(Shards::default(), Room { entries: 1, bytes: 1 }, 1);
        let doubts = |error| {
            gate.doubtful.store(false, Ordering::Relaxed);
            gate.doubt(&error);
            gate.doubtful.load(Ordering::Relaxed)
        };
        assert!(doubts(QueueError::Timeout(LOOK)) && doubts(QueueError::Protocol(String::new())));
        assert!(!doubts(QueueError::Usage(String::new())));
    }
}

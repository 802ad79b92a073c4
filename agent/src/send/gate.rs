//! One gate for all attempts: what one is told, the others heed.
//!
//! ```text
//!          held(reason, wait)                    the time is over: one goes first
//!   open ─────────────────────► closed ────────────────────────────────────────► probing
//!     ▲                           ▲                      held                       │
//!     │                           └─────────────────────────────────────────────────┤
//!     └─────────────────────────────────────── went ────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - while the gate is closed no attempt begins before the time that the collector said; while one probes, no other;
//! - who waits longest goes first, so a batch that fails each time can't keep the others from being tried;
//! - a probe that is dropped leaves the gate as it was, so cancelling an attempt can't lock it.
//!
//! All that is known of the collector's state goes through here, so here it is logged (once per change), measured
//! (`held_seconds`) and told to `/readyz`.

use crate::metrics::Metrics;
use crate::retry::Backoff;
use crate::send::policy::{Hold, Reason, Wait};
use crate::send::voice::Voice;
use logweir_proto::BatchId;
use logweir_telemetry::admin::Readiness;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The name of the check in `/readyz`.
pub(crate) const CHECK: &str = "collector";

/// Backoff where the collector fails: DESIGN's cap, with full jitter.
const FAILING: (Duration, Duration, f64) = (Duration::from_millis(250), Duration::from_secs(60), 1.0);
/// Backoff where people must mend something.
const MENDING: (Duration, Duration, f64) = (Duration::from_secs(10), Duration::from_secs(300), 0.5);
/// What is added to a time that was told: at most this part of it, and at most [`MOST_JITTER`].
const JITTER: f64 = 0.25;
const MOST_JITTER: Duration = Duration::from_secs(2);

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// The gate moved: whoever waits looks again.
    moved: Notify,
    /// Held by the one who waits in front; the others queue behind, in order.
    front: tokio::sync::Mutex<()>,
    metrics: Metrics,
    readiness: Readiness,
}

#[derive(Debug)]
struct State {
    closed: Option<Closed>,
    failing: Backoff,
    mending: Backoff,
    voice: Voice,
    /// The last trouble that was no pressure, and when it was last met.
    last: Option<(Reason, String, Instant)>,
}

#[derive(Debug)]
struct Closed {
    reason: Reason,
    /// What was said.
    detail: String,
    until: Instant,
    probing: bool,
    /// Up to when `held_seconds` has been counted.
    counted: Instant,
}

impl Closed {
    fn by(hold: &Hold, until: Instant, now: Instant) -> Self {
        Self { reason: hold.reason, detail: hold.detail.clone(), until, probing: false, counted: now }
    }
}

/// What holds sending back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldBack {
    pub(crate) reason: String,
    /// The collector is in order, and asks for patience.
    pub(crate) is_pressure: bool,
    pub(crate) detail: String,
    /// For how long already, in milliseconds.
    pub(crate) since_ms: u64,
    /// For how long still, in milliseconds; 0 while somebody is trying.
    pub(crate) for_ms: u64,
}

/// What went wrong last, whether or not it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastError {
    pub(crate) reason: String,
    pub(crate) detail: String,
    /// How long ago, in milliseconds.
    pub(crate) ago_ms: u64,
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Which attempt it was, for the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) batch: BatchId,
    pub(crate) trace: &'a str,
}

impl Gate {
    /// An open gate.
    pub(crate) fn new(metrics: Metrics, readiness: Readiness) -> Arc<Self> {
        // With nothing to send there is nothing to know; not ready only after an attempt that failed.
        readiness.set(CHECK, Ok(()));
        let backoff = |(first, cap, jitter)| Backoff::new(first, cap, jitter);
        let state = State {
            closed: None,
            failing: backoff(FAILING),
            mending: backoff(MENDING),
            voice: Voice::default(),
            last: None,
        };
        let (state, moved, front) = (Mutex::new(state), Notify::new(), tokio::sync::Mutex::new(()));
        Arc::new(Self { state, moved, front, metrics, readiness })
    }

    /// Waits until an attempt may begin. Cancel safe.
    pub(crate) async fn enter(self: &Arc<Self>) -> Pass {
        let _front = self.front.lock().await;
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // Before looking, so that nothing is missed in between.
            moved.as_mut().enable();
            match self.look() {
                Ok(probe) => return Pass { gate: Arc::clone(self), probe, done: false },
                Err(None) => moved.await,
                Err(Some(until)) => tokio::select! {
                    () = moved => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    /// Whether to go (as the probe?), or until when to wait.
    fn look(&self) -> Result<bool, Option<Instant>> {
        let mut state = self.lock();
        let Some(closed) = &mut state.closed else { return Ok(false) };
        if closed.probing {
            return Err(None);
        }
        if Instant::now() < closed.until {
            return Err(Some(closed.until));
        }
        closed.probing = true;
        Ok(true)
    }

    fn held(&self, probe: bool, hold: &Hold, whose: Whose<'_>) {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        // Those that were on their way when the gate closed tell nothing new: they don't prolong the backoff.
        let news = probe || state.closed.is_none();
        let chance = rand::random::<f64>();
        let until = match hold.wait {
            Wait::Told(told) => Some(now + told + told.mul_f64(JITTER * chance).min(MOST_JITTER)),
            Wait::Backoff if news => Some(now + state.failing.next(chance)),
            Wait::Long if news => Some(now + state.mending.next(chance)),
            Wait::Backoff | Wait::Long => None,
        };
        let until = until.or_else(|| state.closed.as_ref().map(|closed| closed.until)).unwrap_or(now);
        match &mut state.closed {
            None => {
                state.closed = Some(Closed::by(hold, until, now));
            }
            Some(closed) if probe => {
                self.count(closed, now);
                *closed = Closed::by(hold, until, now);
            }
            Some(closed) => closed.until = closed.until.max(until),
        }
        let say = news && state.voice.held(hold.reason, now);
        if !hold.reason.is_pressure() {
            state.last = Some((hold.reason, hold.detail.clone(), now));
        }
        drop(guard);
        self.moved.notify_waiters();
        let well = hold.reason.is_pressure();
        self.readiness.set(CHECK, if well { Ok(()) } else { Err(hold.detail.clone()) });
        say_held(say, hold, whose, until.duration_since(now));
    }

    fn went(&self, probe: bool, whose: Whose<'_>) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.closed.is_some() && !probe {
            // It began before the gate closed.
            return;
        }
        if let Some(mut closed) = state.closed.take() {
            self.count(&mut closed, now);
        }
        state.failing.reset();
        state.mending.reset();
        let back = state.voice.went(now);
        drop(state);
        self.moved.notify_waiters();
        self.readiness.set(CHECK, Ok(()));
        if let Some((reason, lasted)) = back {
            let (reason, seconds) = (reason.as_str(), lasted.as_secs());
            tracing::info!(batch = %whose.batch, trace_id = %whose.trace, reason, seconds, "the collector takes batches again");
        }
    }

    fn abandoned(&self) {
        if let Some(closed) = &mut self.lock().closed {
            closed.probing = false;
        }
        self.moved.notify_waiters();
    }

    /// There is a new token: tries at once where the old one was the trouble.
    pub(crate) fn token_changed(&self) {
        self.try_at_once(Reason::is_about_the_token);
    }

    /// The collectors are others: whatever the old ones said is nothing to them.
    pub(crate) fn target_changed(&self) {
        self.try_at_once(|_| true);
    }

    fn try_at_once(&self, after: impl Fn(Reason) -> bool) {
        let mut state = self.lock();
        if let Some(closed) = state.closed.as_mut().filter(|closed| after(closed.reason)) {
            closed.until = Instant::now();
            state.failing.reset();
        }
        state.mending.reset();
        drop(state);
        self.moved.notify_waiters();
    }

    /// Brings `held_seconds` up to date while the gate is closed.
    pub(crate) fn refresh_metrics(&self) {
        if let Some(closed) = &mut self.lock().closed {
            self.count(closed, Instant::now());
        }
    }

    /// What holds sending back just now, and until when.
    pub(crate) fn held_back(&self) -> Option<HeldBack> {
        let state = self.lock();
        let closed = state.closed.as_ref()?;
        let since = state.voice.trouble().map_or(closed.counted, |(_, since)| since);
        Some(HeldBack {
            reason: closed.reason.as_str().to_owned(),
            is_pressure: closed.reason.is_pressure(),
            detail: closed.detail.clone(),
            since_ms: millis(since.elapsed()),
            for_ms: millis(closed.until.saturating_duration_since(Instant::now())),
        })
    }

    /// The last error, of this run.
    pub(crate) fn last_error(&self) -> Option<LastError> {
        let state = self.lock();
        let (reason, detail, at) = state.last.as_ref()?;
        let (reason, detail) = (reason.as_str().to_owned(), detail.clone());
        Some(LastError { reason, detail, ago_ms: millis(at.elapsed()) })
    }

    /// What holds sending back, and for how long already.
    pub(crate) fn trouble(&self) -> Option<(Reason, Duration)> {
        self.lock().voice.trouble().map(|(reason, since)| (reason, since.elapsed()))
    }

    fn count(&self, closed: &mut Closed, now: Instant) {
        self.metrics.held(closed.reason.as_str(), now.duration_since(closed.counted).as_secs_f64());
        closed.counted = now;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say_held(say: bool, hold: &Hold, whose: Whose<'_>, wait: Duration) {
    let (batch, trace_id, reason) = (whose.batch, whose.trace, hold.reason.as_str());
    let (detail, wait_ms) = (hold.detail.as_str(), millis(wait));
    match (say, hold.wait) {
        (false, _) => {
            tracing::debug!(%batch, %trace_id, reason, wait_ms, detail, "held back");
        }
        (true, Wait::Long) => {
            tracing::error!(%batch, %trace_id, reason, wait_ms, detail, "the collector refuses this agent; nothing is lost, but somebody must mend the configuration");
        }
        (true, Wait::Backoff) => {
            tracing::warn!(%batch, %trace_id, reason, wait_ms, detail, "the collector doesn't answer as it should; trying again until it does");
        }
        (true, Wait::Told(_)) => {
            tracing::info!(%batch, %trace_id, reason, wait_ms, detail, "the collector says to come back later");
        }
    }
}

/// The right to make one attempt; say how it ended.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    probe: bool,
    done: bool,
}

impl Pass {
    /// The collector has judged the batch.
    pub(crate) fn went(mut self, whose: Whose<'_>) {
        self.done = true;
        self.gate.went(self.probe, whose);
    }

    /// It has to wait, and so have all.
    pub(crate) fn held(mut self, hold: &Hold, whose: Whose<'_>) {
        self.done = true;
        self.gate.held(self.probe, hold, whose);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe && !self.done {
            self.gate.abandoned();
        }
    }
}

#[cfg(test)]
mod tests;

//! What one connection is doing, and until when it may go on like that.
//!
//! ```text
//! accepted ─► (bytes of a request) ─► a request ─► its answer ─► taken by the client ─► idle ─► …
//! └─ header timeout ───────────────┘  └ the body's ┘ └─ STALLED ──────────────────────┘ └─ idle timeout
//! ```
//!
//! With HTTP/2 requests overlap: the oldest answer counts, and the connection is idle when there is none. Frames that
//! are no request don't prolong anything.
//!
//! Each byte that comes costs credit, and bodies and answered requests earn it. So a connection that brings control
//! frames, empty frames, or requests that it takes back at once, ends when its credit does, and costs no more than the
//! bandwidth that its sender has paid for.

use bytes::Bytes;
use http::Version;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a client may take to take an answer.
pub(crate) const STALLED: Duration = Duration::from_secs(30);
/// The most credit, and what a connection begins with: far more than [`super::connection`] lets be in flight.
const CREDIT: usize = 4 << 20;
/// What an answered request earns: its headers, and what may have come of a body that was refused.
const ANSWERED: usize = 128 << 10;
/// What a request costs that the client took back before it was answered.
const TAKEN_BACK: usize = 64 << 10;
/// What each byte of a body earns: framing may cost several for each.
const PER_BYTE: usize = 8;

/// How long a connection may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until the first request, and within the headers of any.
    pub(crate) headers: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
}

/// Why a connection is ended before its client ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// No request came, or not to the end of its headers.
    Headers,
    /// It was idle; that is no fault.
    Idle,
    /// The client doesn't take its answer.
    Stalled,
}

/// One connection's; shared by all that see something of it.
#[derive(Debug)]
pub(crate) struct Pulse {
    patience: Patience,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    http2: bool,
    /// Requests so far.
    begun: u64,
    /// Requests in hand, and since when their answers are ready.
    open: BTreeMap<u64, Option<Instant>>,
    /// Since when no request is in hand.
    quiet_since: Instant,
    /// Since when bytes of a next one come.
    arriving_since: Option<Instant>,
    credit: usize,
}

impl Pulse {
    pub(crate) fn new(patience: Patience) -> Arc<Self> {
        let state = State {
            http2: false,
            begun: 0,
            open: BTreeMap::new(),
            quiet_since: Instant::now(),
            arriving_since: None,
            credit: CREDIT,
        };
        Arc::new(Self { patience, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was read. Returns whether there is credit left.
    pub(super) fn came(&self, bytes: usize) -> bool {
        let mut state = self.state();
        if state.open.is_empty() && !state.http2 {
            state.arriving_since.get_or_insert_with(Instant::now);
        }
        state.credit = state.credit.saturating_sub(bytes);
        state.credit > 0
    }

    /// Notes that so much of a body was taken.
    pub(crate) fn earn(&self, body_bytes: usize) {
        self.state().earn(body_bytes.saturating_mul(PER_BYTE));
    }

    /// Whether the connection ended because its credit did.
    pub(super) fn is_spent(&self) -> bool {
        self.state().credit == 0
    }

    /// Whether it is known to speak HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.state().http2
    }

    /// Notes that the client has chosen HTTP/2.
    pub(super) fn speaks_http2(&self) {
        self.state().http2 = true;
    }

    /// Notes a request; it is in hand until what is returned, or the answer that it goes along with, is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Exchange {
        let mut state = self.state();
        state.http2 = version >= Version::HTTP_2;
        state.arriving_since = None;
        state.begun += 1;
        let number = state.begun;
        state.open.insert(number, None);
        Exchange { pulse: Arc::clone(self), number }
    }

    fn deadline(&self) -> Option<(Instant, Expired)> {
        let Patience { headers, idle } = self.patience;
        let state = self.state();
        if !state.open.is_empty() {
            let oldest = state.open.values().flatten().min()?;
            return Some((*oldest + STALLED, Expired::Stalled));
        }
        Some(match state.arriving_since {
            Some(since) => (since + headers, Expired::Headers),
            None if state.begun == 0 => (state.quiet_since + headers, Expired::Headers),
            None => (state.quiet_since + idle, Expired::Idle),
        })
    }

    /// Waits until the connection has been silent for too long. Cancel safe.
    pub(super) async fn expired(&self) -> Expired {
        // What begins from now on has at least so much time, so one look in each such time is enough.
        let look = self.patience.headers.min(self.patience.idle).min(STALLED);
        loop {
            let now = Instant::now();
            let next = match self.deadline() {
                Some((at, why)) if at <= now => return why,
                Some((at, _)) => at.min(now + look),
                None => now + look,
            };
            sleep_until(next).await;
        }
    }
}

impl State {
    fn earn(&mut self, credit: usize) {
        // What is spent stays spent.
        if self.credit > 0 {
            self.credit = self.credit.saturating_add(credit).min(CREDIT);
        }
    }
}

/// A request in hand.
#[derive(Debug)]
pub(super) struct Exchange {
    pulse: Arc<Pulse>,
    number: u64,
}

impl Exchange {
    /// Its answer is ready, and the client has to take it.
    pub(super) fn answered(self, body: Full<Bytes>) -> AnswerBody {
        if let Some(since) = self.pulse.state().open.get_mut(&self.number) {
            *since = Some(Instant::now());
        }
        AnswerBody { body, _exchange: Some(self) }
    }

    /// The client has taken it back meanwhile: nobody waits for this answer.
    pub(super) fn taken_back(self, body: Full<Bytes>) -> AnswerBody {
        AnswerBody { body, _exchange: None }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.pulse.state();
        match state.open.remove(&self.number) {
            Some(Some(_)) => state.earn(ANSWERED),
            _ => state.credit = state.credit.saturating_sub(TAKEN_BACK),
        }
        if state.open.is_empty() {
            state.quiet_since = Instant::now();
            state.arriving_since = None;
        }
    }
}

/// The body of an answer; its request is in hand until the connection has taken it over.
#[derive(Debug)]
pub(super) struct AnswerBody {
    body: Full<Bytes>,
    _exchange: Option<Exchange>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const PATIENCE: Patience = Patience { headers: Duration::from_secs(10), idle: Duration::from_secs(60) };

    async fn expires_after(pulse: &Pulse, seconds: u64, why: Expired) {
        let begun = Instant::now();
        assert_eq!(pulse.expired().await, why);
        let waited = begun.elapsed();
        assert!(
            waited >= Duration::from_secs(seconds) && waited < Duration::from_millis(seconds * 1_000 + 10),
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_silence_has_its_time() {
        let pulse = Pulse::new(PATIENCE);
        expires_after(&pulse, 10, Expired::Headers).await;

        let pulse = Pulse::new(PATIENCE);
        advance(Duration::from_secs(8)).await;
        // A byte now and then makes the first request's time no longer than it would be from its first byte.
        assert!(pulse.came(1));
        advance(Duration::from_secs(8)).await;
        assert!(pulse.came(1));
        expires_after(&pulse, 2, Expired::Headers).await;

        let pulse = Pulse::new(PATIENCE);
        let exchange = pulse.begin(Version::HTTP_11);
        let working = tokio::time::timeout(Duration::from_secs(3_600), pulse.expired());
        assert!(working.await.is_err(), "a request in hand has times of its own");
        let answer = exchange.answered(Full::default());
        expires_after(&pulse, 30, Expired::Stalled).await;
        drop(answer);
        expires_after(&pulse, 60, Expired::Idle).await;
        assert!(pulse.came(1));
        expires_after(&pulse, 10, Expired::Headers).await;
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_are_no_request_prolong_nothing() {
        let pulse = Pulse::new(PATIENCE);
        drop(pulse.begin(Version::HTTP_2).answered(Full::default()));
        advance(Duration::from_secs(59)).await;
        assert!(pulse.came(17));
        expires_after(&pulse, 1, Expired::Idle).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answer_counts() {
        let pulse = Pulse::new(PATIENCE);
        let first = pulse.begin(Version::HTTP_2).answered(Full::default());
        for _ in 0..20 {
            advance(Duration::from_secs(1)).await;
            drop(pulse.begin(Version::HTTP_2).answered(Full::default()));
        }
        expires_after(&pulse, 10, Expired::Stalled).await;
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_request_ends_with_its_credit() {
        let pulse = Pulse::new(PATIENCE);
        assert!(pulse.came(CREDIT - 1));
        pulse.earn(1);
        assert!(pulse.came(PER_BYTE) && !pulse.is_spent());
        assert!(!pulse.came(1) && pulse.is_spent());
        pulse.earn(1 << 20);
        assert!(pulse.is_spent(), "too late");

        let pulse = Pulse::new(PATIENCE);
        for _ in 0..CREDIT / TAKEN_BACK - 1 {
            drop(pulse.begin(Version::HTTP_2));
        }
        assert!(pulse.came(1));
        drop(pulse.begin(Version::HTTP_2).answered(Full::default()));
        drop(pulse.begin(Version::HTTP_2));
        assert!(pulse.came(1));
        for _ in 0..2 {
            drop(pulse.begin(Version::HTTP_2));
        }
        assert!(!pulse.came(1));
    }
}

//! Reading a body: bounded in size, in time and in memory.

use crate::budget::{Budget, Reservation};
use crate::hands::Hand;
use crate::server::pulse::Pulse;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A body begins slowly (handshakes, congestion windows); so long it has before its speed is judged.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// By how much the memory is reserved ahead of what has come.
const STEP: usize = 64 << 10;

/// How fast a body must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Bytes per second, after [`GRACE`].
    pub(crate) speed: u64,
    /// For the whole body.
    pub(crate) total: Duration,
}

impl Pace {
    /// How long after its beginning the next byte of a body must have come.
    fn patience(self, received: usize) -> Duration {
        let received = u64::try_from(received).unwrap_or(u64::MAX);
        let earned = Duration::from_millis(received.saturating_mul(1_000) / self.speed.max(1));
        GRACE.saturating_add(earned).min(self.total)
    }
}

/// Why a body wasn't read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// More than the limit.
    TooLarge,
    /// Below the minimum speed.
    TooSlow,
    /// The client cut it off, or garbled its framing.
    Cut,
    /// There is no memory for it just now.
    NoMemory,
}

/// A request's body, which remembers whether it was read to its end.
pub(crate) struct Upload {
    body: Incoming,
    finished: bool,
    broken_off: bool,
    pulse: Arc<Pulse>,
}

/// A body in memory, with its share of the budget.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) reserved: Reservation,
}

impl Upload {
    /// Of a request on the connection with this pulse.
    pub(crate) fn new(body: Incoming, pulse: Arc<Pulse>) -> Self {
        let finished = body.is_end_stream();
        Self { body, finished, broken_off: false, pulse }
    }

    /// Whether nothing of it is left on the connection.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the client took it back half-way.
    pub(crate) fn is_broken_off(&self) -> bool {
        self.broken_off
    }

    /// Reads all of it, at most `limit` bytes. The first call makes the connection send `100 Continue` to a
    /// client that waits for that.
    ///
    /// # Errors
    /// See [`Broken`]; the rest stays unread.
    pub(crate) async fn read(
        &mut self,
        pace: Pace,
        limit: usize,
        budget: &Budget,
        hand: &Arc<Hand>,
    ) -> Result<Received, Broken> {
        let begun = Instant::now();
        let mut reserved = budget.open(hand).ok_or(Broken::NoMemory)?;
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        loop {
            let received = first.len() + rest.len();
            let frame = match timeout_at(begun + pace.patience(received), self.body.frame()).await {
                Err(_) => return Err(Broken::TooSlow),
                Ok(None) => break,
                Ok(Some(Err(_))) => {
                    self.finished = true;
                    self.broken_off = true;
                    return Err(Broken::Cut);
                }
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else { continue };
            self.pulse.earn(data.len());
            let total = received + data.len();
            if total > limit {
                return Err(Broken::TooLarge);
            }
            let capacity = if total <= rest.capacity() {
                rest.capacity()
            } else {
                (rest.capacity() * 2).min(limit).max(total).next_multiple_of(STEP)
            };
            if !reserved.resize(capacity) {
                return Err(Broken::NoMemory);
            }
            // Most bodies come in one piece, which needs no copy.
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            rest.reserve_exact(capacity - rest.len());
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
        self.finished = true;
        rest.shrink_to_fit();
        let bytes = if rest.is_empty() { first } else { rest.into() };
        let _shrunk = reserved.resize(bytes.len());
        Ok(Received { bytes, reserved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_must_keep_its_speed_and_end_in_time() {
        let pace = Pace { speed: 1_000, total: Duration::from_secs(60) };
        assert_eq!(pace.patience(0), Duration::from_secs(5));
        assert_eq!(pace.patience(2_500), Duration::from_millis(7_500));
        assert_eq!(pace.patience(1 << 40), Duration::from_secs(60));
        let short = Pace { speed: 1_000, total: Duration::from_secs(2) };
        assert_eq!(short.patience(0), Duration::from_secs(2));
    }
}

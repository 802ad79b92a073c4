//! The public address: accepting, how many at a time, and the orderly end.
//!
//! ```text
//! stop ──► /readyz is 503; for --drain-grace, requests are still taken
//!           ▼
//!         draining: new requests get 503 and Connection: close, or GOAWAY
//!           │ requests in hand finish, at least LAST_ANSWERS passes
//!           ▼
//!         the listener closes; idle connections close, others after their answer
//!           │ at most --shutdown-timeout after stop
//!           ▼
//!         what is left is cut off
//! ```

mod addresses;
mod connection;
pub(crate) mod pulse;
mod socket;

use crate::service::Shared;
use addresses::{Addresses, Place};
use connection::Ending;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// After an accept that failed (no file descriptors left, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So long, at least, new requests are answered `draining`, so that those on their way see an answer.
const LAST_ANSWERS: Duration = Duration::from_millis(250);
/// How often the end of the requests in hand is looked for.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// How often it is said that some address has too many connections.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// File descriptors for everything that is no client: logs, Redis, the admin address.
const OTHER_FILES: u64 = 64;

/// Asks the system for as many file descriptors as `--max-connections` needs. The usual soft limit of 1,024 is
/// there for programs that use select(2).
pub(crate) fn allow_connections(max: usize) {
    let wanted = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    let raised = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    if raised.is_err() || current < Some(wanted) {
        tracing::warn!(
            max_connections = max, files = ?limit.maximum,
            "the limit of open files is lower than --max-connections; clients beyond it wait"
        );
    }
}

/// Why the collector ends a connection before its client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The TLS handshake failed.
    Handshake,
    /// It took too long.
    HandshakeTimeout,
    /// There were too many, and it was the oldest.
    HandshakeEvicted,
    /// No request came, or not to the end of its headers.
    HeaderTimeout,
    /// It was idle for too long.
    Idle,
    /// The client doesn't take its answer.
    Stalled,
    /// Too much came that is no request.
    Flood,
}

impl Cut {
    /// The label in the metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeEvicted => "handshake_evicted",
            Self::HeaderTimeout => "header_timeout",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Flood => "flood",
        }
    }
}

/// Accepts and serves until `stop`, then drains.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let ending = Ending::default();
    let mut connections = JoinSet::new();
    let deadline = {
        let accepting = accept(&shared, &listener, &ending, &mut connections);
        tokio::pin!(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = stop.cancelled() => {}
        }
        let now = Instant::now();
        let deadline = now + shared.args.transport.shutdown_timeout;
        let grace = shared.args.transport.drain_grace;
        if !grace.is_zero() {
            tokio::select! {
                () = &mut accepting => {}
                () = sleep_until(deadline.min(now + grace)) => {}
            }
        }
        shared.draining.store(true, Ordering::Relaxed);
        ending.draining.cancel();
        tokio::select! {
            () = &mut accepting => {}
            () = in_hand_finished(&shared, deadline) => {}
        }
        deadline
    };
    drop(listener);
    ending.closing.cancel();
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if timeout_at(deadline, all_closed).await.is_err() {
        tracing::warn!(connections = connections.len(), "not finished within --shutdown-timeout, cut off");
        connections.shutdown().await;
    }
}

/// Accepts for as long as it is polled. Cancel safe: a connection that was accepted is in `connections`.
async fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    ending: &Ending,
    connections: &mut JoinSet<()>,
) {
    let mut failing = false;
    let mut crowd =
        Crowd { addresses: Addresses::new(shared.args.transport.max_connections_per_address), said: None };
    let slots = Arc::new(Semaphore::new(shared.args.transport.max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                let Some(place) = crowd.let_in(shared, &stream, peer) else { continue };
                let connection = connection::serve(shared.clone(), stream, peer, ending.clone());
                connections.spawn(async move {
                    connection.await;
                    drop((slot, place));
                });
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "connections can't be accepted; trying on");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections by address, and when it was last said that one has too many.
struct Crowd {
    addresses: Addresses,
    said: Option<Instant>,
}

impl Crowd {
    fn let_in(&mut self, shared: &Shared, stream: &TcpStream, peer: SocketAddr) -> Option<Place> {
        let place = self.addresses.enter(peer.ip());
        if place.is_none() {
            shared.metrics.transport.refused.inc();
            if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                self.said = Some(Instant::now());
                tracing::warn!(
                    address = %peer.ip(), most = shared.args.transport.max_connections_per_address,
                    "connections are refused: their address has --max-connections-per-address already"
                );
            }
            // Whatever it has sent is not read, so it is reset: nothing of it lingers in the system.
            if let Err(error) = stream.set_zero_linger() {
                tracing::debug!(%error, "SO_LINGER was not set");
            }
        }
        place
    }
}

async fn in_hand_finished(shared: &Shared, deadline: Instant) {
    sleep_until((Instant::now() + LAST_ANSWERS).min(deadline)).await;
    let all = shared.args.max_in_flight;
    while shared.in_flight.available_permits() < all && Instant::now() < deadline {
        sleep(DRAIN_LOOK).await;
    }
}

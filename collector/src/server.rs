//! The public address: accepting, the limits of a connection, and the orderly end.
//!
//! ```text
//! stop ──► draining: new requests get 503 and Connection: close
//!           │ requests in hand finish, at least GRACE passes
//!           ▼
//!         the listener closes; idle connections close, others after their answer
//!           │ at most --shutdown-timeout after stop
//!           ▼
//!         what is left is cut off
//! ```

use crate::metrics::Living;
use crate::service::{self, Shared};
use crate::socket::{Socket, Unread};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// The most headers of one request.
const MAX_HEADERS: usize = 64;
/// The buffer of a connection; a header section that doesn't fit gets a bare 431.
const BUFFER: usize = 64 << 10;
/// After an accept that failed (no file descriptors left, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So long, at least, new requests are answered `draining`, so that those on their way see an answer.
const GRACE: Duration = Duration::from_millis(250);
/// How often the end of the requests in hand is looked for.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

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

/// Accepts and serves until `stop`, then drains.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let closing = CancellationToken::new();
    let mut connections = JoinSet::new();
    let deadline = {
        let accepting = accept(&shared, &listener, &closing, &mut connections);
        tokio::pin!(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = stop.cancelled() => {}
        }
        let deadline = Instant::now() + shared.args.shutdown_timeout;
        shared.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            () = &mut accepting => {}
            () = in_hand_finished(&shared, deadline) => {}
        }
        deadline
    };
    drop(listener);
    closing.cancel();
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
    closing: &CancellationToken,
    connections: &mut JoinSet<()>,
) {
    let mut failing = false;
    let slots = Arc::new(Semaphore::new(shared.args.max_connections));
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                let connection = serve(shared.clone(), stream, peer, closing.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
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

async fn in_hand_finished(shared: &Shared, deadline: Instant) {
    sleep_until((Instant::now() + GRACE).min(deadline)).await;
    let all = shared.args.max_in_flight;
    while shared.in_flight.available_permits() < all && Instant::now() < deadline {
        sleep(DRAIN_LOOK).await;
    }
}

/// Serves one connection until it ends, or finishes its request after `closing`.
async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, closing: CancellationToken) {
    let _living = Living::new(&shared.metrics.connections);
    // Answers are small and written at once; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let header_timeout = shared.args.header_timeout;
    let peer: IpAddr = peer.ip();
    let unread = Unread::new();
    let noted = unread.clone();
    let service = service_fn(move |request| {
        let (shared, noted) = (shared.clone(), noted.clone());
        async move {
            let answered = service::answer(&shared, peer, request).await;
            noted.set(answered.unread);
            Ok::<_, Infallible>(answered.reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER)
        // A client that has ended its own direction still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Socket::new(stream, unread.clone())), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            // An idle client has nothing to say; a request in hand will say it better.
            unread.set(false);
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended with an error");
    }
}

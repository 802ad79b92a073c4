//! One connection: its handshake, its protocol, its limits, its end.
//!
//! ```text
//! TCP ─► TLS, if there is any ─► HTTP/2 by ALPN, or by its preface without TLS; else HTTP/1.1 ─► service
//! ```
//!
//! A connection of HTTP/2 holds at most [`CONNECTION_WINDOW`] bytes that nobody has read, as one of HTTP/1.1 holds at
//! most [`BUFFER`]: no limit on bodies depends on what clients please to send ahead.

use super::Cut;
use super::pulse::{AnswerBody, Expired, Patience, Pulse, STALLED};
use super::socket::{Socket, Unread};
use crate::metrics::Living;
use crate::service::{self, Caller, Shared};
use crate::tls::names::Certificate;
use http::{Response, Version};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The most headers of one request of HTTP/1.1.
const MAX_HEADERS: usize = 64;
/// The buffer of a connection of HTTP/1.1; a header section that doesn't fit gets a bare 431.
const BUFFER: usize = 64 << 10;
/// The most that the headers of a request of HTTP/2 may take, with 32 bytes each as RFC 9113 counts them: a little
/// more than what is answered with a problem.
const HEADER_LIST: u32 = 20 << 10;
/// So much of a body a client of HTTP/2 may send before it is read, on one stream and on all together.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 128 << 10;
/// The largest frame, the least that the protocol allows.
const FRAME: u32 = 16 << 10;
/// So many requests may be taken back before anybody has looked at them (CVE-2023-44487).
const RESETS: usize = 20;
/// So many streams may be reset because of the client's errors.
const ERRORS: usize = 64;
/// What is kept of an answer's body that the client doesn't take, per stream.
const SEND_BUFFER: usize = 64 << 10;

/// Plain or encrypted.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// When to begin to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    /// New requests are refused: HTTP/2 can say so in advance.
    pub(super) draining: CancellationToken,
    /// Nothing new is read any more.
    pub(super) closing: CancellationToken,
}

/// Serves one connection until it ends, or has answered what it had in hand.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, ending: Ending) {
    let _living = Living::new(&shared.metrics.transport.connections);
    // Answers are small and written at once; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let args = &shared.args.transport;
    let patience = Patience {
        headers: spread(args.header_timeout, peer.port()),
        idle: spread(args.idle_timeout, peer.port()),
    };
    let cut = match &shared.tls {
        None => http(&shared, Box::new(stream), peer, None, None, patience, &ending).await,
        Some(_) => match secure(&shared, stream, peer, &ending).await {
            Err(cut) => cut,
            Ok(stream) => {
                let (_, session) = stream.get_ref();
                let certificate = session.peer_certificates().and_then(<[_]>::first).map(Certificate::read);
                let version = match session.alpn_protocol() {
                    Some(b"h2") => Version::HTTP_2,
                    _ => Version::HTTP_11,
                };
                http(&shared, Box::new(stream), peer, certificate, Some(version), patience, &ending).await
            }
        },
    };
    if let Some(cut) = cut {
        tracing::debug!(%peer, reason = cut.as_str(), "a connection was cut off");
        shared.metrics.transport.cut(cut);
    }
}

/// Up to an eighth longer, by the client's port: thousands that came together don't all end together.
fn spread(timeout: Duration, port: u16) -> Duration {
    timeout + timeout / 8 * u32::from(port % 256) / 256
}

/// Shakes hands. The error is why not, `None` when the collector ends.
async fn secure(
    shared: &Shared,
    stream: TcpStream,
    peer: SocketAddr,
    ending: &Ending,
) -> Result<TlsStream<TcpStream>, Option<Cut>> {
    let Some(tls) = &shared.tls else { return Err(None) };
    let under_way = shared.handshakes.begin();
    let accepting = TlsAcceptor::from(tls.config()).accept(stream);
    tokio::select! {
        accepted = timeout(shared.args.transport.handshake_timeout, accepting) => match accepted {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a TLS handshake failed");
                Err(Some(Cut::Handshake))
            }
            Err(_) => Err(Some(Cut::HandshakeTimeout)),
        },
        () = under_way.evicted() => Err(Some(Cut::HandshakeEvicted)),
        () = ending.closing.cancelled() => Err(None),
    }
}

/// Speaks HTTP. Returns why it was cut off, if it was.
async fn http(
    shared: &Arc<Shared>,
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    certificate: Option<Certificate>,
    version: Option<Version>,
    patience: Patience,
    ending: &Ending,
) -> Option<Cut> {
    let pulse = Pulse::new(patience);
    if version == Some(Version::HTTP_2) {
        pulse.speaks_http2();
    }
    let unread = Unread::new();
    let caller = Arc::new(Caller { ip: peer.ip(), certificate, pulse: Arc::clone(&pulse) });
    let (answering, noted) = (Arc::clone(shared), unread.clone());
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (shared, noted, caller) = (Arc::clone(&answering), noted.clone(), Arc::clone(&caller));
        let exchange = caller.pulse.begin(request.version());
        async move {
            let http2 = request.version() >= Version::HTTP_2;
            let answered = service::answer(&shared, &caller, request).await;
            // With HTTP/2 others of the connection may have something unread as well.
            if !http2 || answered.unread {
                noted.set(answered.unread);
            }
            let (head, body) = answered.reply.into_parts();
            let body = if answered.broken_off { exchange.taken_back(body) } else { exchange.answered(body) };
            Ok::<Response<AnswerBody>, Infallible>(Response::from_parts(head, body))
        }
    });
    let builder = builder(shared.args.transport.max_streams, version);
    let connection = builder
        .serve_connection(TokioIo::new(Socket::new(stream, Arc::clone(&pulse), unread.clone())), service);
    tokio::pin!(connection);
    let expired = pulse.expired();
    tokio::pin!(expired);
    let (mut drained, mut closed) = (false, false);
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            why = expired.as_mut() => {
                if why == Expired::Idle && !closed {
                    // Nothing is wrong with it: HTTP/2 says GOAWAY first, and whoever was faster is answered.
                    unread.set(false);
                    connection.as_mut().graceful_shutdown();
                    if let Ok(ended) = timeout(STALLED, connection.as_mut()).await {
                        break ended;
                    }
                }
                return Some(why.into());
            }
            () = ending.draining.cancelled(), if !drained => {
                drained = true;
                if pulse.is_http2() {
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = ending.closing.cancelled(), if !closed => {
                closed = true;
                // An idle client has nothing to say; a request in hand will say it better.
                if !pulse.is_http2() {
                    unread.set(false);
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if pulse.is_spent() {
        return Some(Cut::Flood);
    }
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended with an error");
    }
    None
}

fn builder(max_streams: u32, version: Option<Version>) -> Builder<Streams> {
    let mut builder = Builder::new(Streams::default());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The pulse knows better.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER)
        // A client that has ended its own direction still gets its answer.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams)
        .max_header_list_size(HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(ERRORS)
        .max_send_buf_size(SEND_BUFFER);
    match version {
        Some(Version::HTTP_2) => builder.http2_only(),
        Some(_) => builder.http1_only(),
        None => builder,
    }
}

impl From<Expired> for Cut {
    fn from(expired: Expired) -> Self {
        match expired {
            Expired::Headers => Self::HeaderTimeout,
            Expired::Idle => Self::Idle,
            Expired::Stalled => Self::Stalled,
        }
    }
}

/// Runs the streams of one connection; none of them outlives it.
#[derive(Debug, Clone, Default)]
struct Streams {
    tasks: TaskTracker,
    gone: Arc<Gone>,
}

/// Cancels its token when the last one lets go.
#[derive(Debug)]
struct Gone(CancellationToken, #[expect(dead_code, reason = "it is there to be dropped")] DropGuard);

impl Default for Gone {
    fn default() -> Self {
        let token = CancellationToken::new();
        Self(token.clone(), token.drop_guard())
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn(self.gone.0.clone().run_until_cancelled_owned(stream));
    }
}

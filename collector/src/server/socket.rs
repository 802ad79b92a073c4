//! A client's connection, closed so that the client sees the answer.
//!
//! A socket that is closed while the client is still sending is reset, and the reset may overtake the answer
//! that the client hasn't read yet. So where something may be unread, this one only ends its own direction after
//! the answer, and throws away what comes, for a bounded time and a bounded number of bytes. A client that doesn't
//! read its answer is cut off after [`STALLED`]. What is read is noted in the connection's [`Pulse`].

use crate::server::pulse::{Pulse, STALLED};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long what still comes is thrown away.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
const LINGER_BYTES: usize = 16 << 20;

/// The connection.
pub(crate) struct Socket<T> {
    io: T,
    pulse: Arc<Pulse>,
    unread: Unread,
    farewell: Option<Farewell>,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Whether the client may be sending something that nobody will read. Clones share the answer.
#[derive(Debug, Clone)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// True before the first request: it may be one that can't even be parsed.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(crate) fn set(&self, unread: bool) {
        self.0.store(unread, Ordering::Relaxed);
    }
}

struct Farewell {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl<T> Socket<T> {
    pub(crate) fn new(io: T, pulse: Arc<Pulse>, unread: Unread) -> Self {
        Self { io, pulse, unread, farewell: None, stalled: None }
    }

    /// Ends a write that makes no progress.
    fn watch<D>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<D>>) -> Poll<io::Result<D>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let came = buf.filled().len() - before;
        if came > 0 && !self.pulse.came(came) {
            return Poll::Ready(Err(io::Error::other("too much came that is no request")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With TLS this is where it stalls.
        let done = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.farewell.is_none() {
            let done = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.watch(cx, done))?;
            if !this.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let farewell = this
            .farewell
            .get_or_insert_with(|| Farewell { until: Box::pin(sleep(LINGER)), left: LINGER_BYTES });
        let mut scratch = [0; 16 << 10];
        loop {
            if farewell.until.as_mut().poll(cx).is_ready() || farewell.left == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    farewell.left = farewell.left.saturating_sub(buf.filled().len());
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::pulse::Patience;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn pulse() -> Arc<Pulse> {
        Pulse::new(Patience { headers: STALLED, idle: STALLED })
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_client_still_sends_is_thrown_away_until_it_ends() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let client = async move {
            far.write_all(&[7; 100_000]).await.unwrap();
            let mut answer = Vec::new();
            far.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let server = async move {
            let mut socket = Socket::new(near, pulse(), Unread::new());
            socket.write_all(b"no").await.unwrap();
            socket.shutdown().await.unwrap();
        };
        let (answer, ()) = tokio::join!(client, server);
        assert_eq!(answer, b"no");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_not_waited_for() {
        let (near, far) = tokio::io::duplex(1_024);
        let begun = tokio::time::Instant::now();
        Socket::new(near, pulse(), Unread::new()).shutdown().await.unwrap();
        assert!(begun.elapsed() >= LINGER && begun.elapsed() < LINGER * 2);
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_when_all_was_read() {
        let (near, far) = tokio::io::duplex(1_024);
        let unread = Unread::new();
        let mut socket = Socket::new(near, pulse(), unread.clone());
        unread.set(false);
        let begun = tokio::time::Instant::now();
        socket.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off() {
        let (near, far) = tokio::io::duplex(16);
        let error = Socket::new(near, pulse(), Unread::new()).write_all(&[0; 1_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(far);
    }
}

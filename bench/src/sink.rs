//! A stand-in for a collector that takes everything at once, so that it is the agent that limits.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What it has taken.
#[derive(Debug, Default)]
struct Taken {
    events: AtomicU64,
    batches: AtomicU64,
}

/// It listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Where.
    pub(crate) address: SocketAddr,
    taken: Arc<Taken>,
    _tasks: JoinSet<()>,
}

impl Sink {
    /// Begins to listen.
    ///
    /// # Errors
    /// When it can't.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let taken = Arc::new(Taken::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&taken)));
        Ok(Self { address, taken, _tasks: tasks })
    }

    /// How many events it has taken.
    pub(crate) fn events(&self) -> u64 {
        self.taken.events.load(Ordering::Relaxed)
    }

    /// In how many batches.
    pub(crate) fn batches(&self) -> u64 {
        self.taken.batches.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, taken: Arc<Taken>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let taken = Arc::clone(&taken);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&taken)));
            // One that breaks off is opened again.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, taken: Arc<Taken>) -> anyhow::Result<Response<Full<Bytes>>> {
    if request.uri().path() != "/v1/events" {
        return Ok(Response::builder().status(StatusCode::NOT_FOUND).body(Full::default())?);
    }
    let batch = request.headers().get("Logweir-Batch").context("no batch")?.to_str()?.to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let events = lines(&body)?;
    taken.events.fetch_add(events, Ordering::Relaxed);
    taken.batches.fetch_add(1, Ordering::Relaxed);
    let said = json!({ "batch": batch, "accepted": events, "rejected": [] }).to_string();
    let answer = Response::builder().status(StatusCode::ACCEPTED).header("Logweir-Pressure", "0.00");
    Ok(answer.header("Content-Type", "application/json").body(Full::from(said))?)
}

/// How many lines a body of zstd has.
fn lines(body: &[u8]) -> anyhow::Result<u64> {
    let mut decoder = zstd::Decoder::with_buffer(body)?;
    let (mut lines, mut part) = (0, vec![0; 128 << 10]);
    loop {
        let read = decoder.read(&mut part)?;
        if read == 0 {
            return Ok(lines);
        }
        lines += u64::try_from(part[..read].iter().filter(|byte| **byte == b'\n').count())?;
    }
}

//! HTTP/1.1 over connections that are kept alive, one request at a time on each.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection, closed when dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The sender hears of it.
            connection.await.ok();
        });
        Ok(Self { sender, host: to.to_string(), _driver: driver })
    }

    /// Sends an agent's zstd NDJSON, and waits for the answer.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn post(&mut self, agent: &str, batch: &str, body: Bytes) -> anyhow::Result<StatusCode> {
        let request = Request::post("/v1/events")
            .header("Host", &self.host)
            .header("Content-Type", "application/x-ndjson")
            .header("Content-Encoding", "zstd")
            .header("Logweir-Agent", agent)
            .header("Logweir-Batch", batch)
            .body(Full::new(body))?;
        Ok(self.send(request).await?.0)
    }

    async fn get(&mut self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::get(path).header("Host", &self.host).body(Full::default())?;
        self.send(request).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let answer = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(LIMIT, answer).await.context("no answer")?
    }
}

/// Whether a service says that it can do its job.
pub(crate) async fn is_ready(admin: SocketAddr) -> bool {
    let answer = async { Connection::open(admin).await?.get("/readyz").await };
    answer.await.is_ok_and(|(status, _)| status == StatusCode::OK)
}

/// What stands there.
///
/// # Errors
/// When there is no such answer.
pub(crate) async fn get(from: SocketAddr, path: &str) -> anyhow::Result<String> {
    let (status, body) = Connection::open(from).await?.get(path).await?;
    anyhow::ensure!(status == StatusCode::OK, "{path} is answered with {status}");
    Ok(String::from_utf8_lossy(&body).into_owned())
}

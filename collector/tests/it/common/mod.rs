//! What the tests of the whole collector share: a private Redis, a collector in this process, and an HTTP client
//! that does exactly what it is told.

pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod redis;

use self::http::{Answer, Client, get};
use self::redis::Redis;
use logweir_collector::Collector;
use logweir_collector::config::Args;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const BATCH: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10";
pub(crate) const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");
pub(crate) const ZSTD: (&str, &str) = ("Content-Encoding", "zstd");
pub(crate) const GZIP: (&str, &str) = ("Content-Encoding", "gzip");

/// A collector that serves in this process until it is dropped.
pub(crate) struct Running {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Running {
    /// Starts on free ports and waits until it is ready.
    pub(crate) async fn start(redis: &Redis, flags: &[&str]) -> Self {
        let running = Self::start_unready(&redis.url(), flags).await;
        running.ready(true).await;
        running
    }

    pub(crate) async fn start_unready(redis: &str, flags: &[&str]) -> Self {
        let fixed = ["logweir-collector", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--redis", redis];
        let argv: Vec<OsString> = fixed.iter().chain(flags).map(Into::into).collect();
        let args: Args = logweir_telemetry::config::try_parse(argv, |_| None).unwrap();
        let collector = Collector::bind(args).await.unwrap();
        let (public, admin) = (collector.public_addr(), collector.admin_addr());
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(collector.serve(stop.clone()));
        Self { public, admin, stop, task }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.public).await
    }

    /// One POST on a connection of its own.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.client().await.post(headers, body).await
    }

    pub(crate) async fn ready(&self, wanted: bool) -> String {
        let admin = self.admin;
        let status = if wanted { 200 } else { 503 };
        wait_for("readiness", async || {
            let answer = get(admin, "/readyz").await;
            (answer.status == status).then(|| answer.text())
        })
        .await
    }

    /// The value of one series, 0 when there is none.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = get(self.admin, "/metrics").await.text();
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops and waits for the end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap();
    }
}

/// Asks until there is an answer; fails after ten seconds.
pub(crate) async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A valid event.
pub(crate) fn event(message: &str) -> String {
    event_at(now_ms(), message)
}

pub(crate) fn event_at(timestamp_ms: i64, message: &str) -> String {
    format!(r#"{{"timestamp":{timestamp_ms},"service":"api","level":"info","message":"{message}"}}"#)
}

/// So many valid events, one a line.
pub(crate) fn events(n: usize) -> String {
    (0..n).map(|n| event(&n.to_string()) + "\n").collect()
}

pub(crate) fn zstd(body: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(body, 3).unwrap()
}

pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(body).unwrap();
    out.finish().unwrap()
}

//! A small proxy between agents and collectors, which loses answers, cuts connections, repeats requests and says
//! 413, and which knows what became of each attempt.
//!
//! An attempt goes on although the agent that made it is gone, as bytes on their way do. Where it stays unknown
//! whether an attempt with events of [`crate::lines::FUTURE`] was taken, the proxy repeats it at the wide collector until it is
//! known: so the truth about them is exact.

use crate::client::http;
use crate::lines::{self, FUTURE};
use crate::ports::free_port;
use crate::truth::Truth;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

/// How often each fault happens to a request, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// The request is taken by the collector, and its answer lost.
    pub drop_answer: f64,
    /// The connection is cut before the collector sees anything.
    pub cut_request: f64,
    /// The request goes to two collectors at once (or twice to the only one).
    pub repeat: f64,
    /// A batch that comes again after its answer was lost is answered 413.
    pub too_large: f64,
}

/// How often each fault happened.
#[derive(Debug, Default)]
pub struct Happened {
    /// Requests.
    pub requests: AtomicU64,
    /// Lost answers.
    pub dropped: AtomicU64,
    /// Cut connections.
    pub cut: AtomicU64,
    /// Repeated requests.
    pub repeated: AtomicU64,
    /// Answers 413.
    pub too_large: AtomicU64,
}

struct Shared {
    upstreams: Vec<SocketAddr>,
    faults: Faults,
    calm: AtomicBool,
    /// The answers to everything that gets through are lost, while this is set.
    swallow: AtomicBool,
    happened: Happened,
    rng: Mutex<StdRng>,
    unanswered: Mutex<HashSet<String>>,
    truth: Arc<Truth>,
    taken: Mutex<HashSet<String>>,
    attempts: TaskTracker,
}

/// The proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _listener: JoinSet<()>,
}

#[derive(Clone)]
struct Attempt {
    headers: hyper::HeaderMap,
    body: Bytes,
}

struct Passed {
    status: u16,
    headers: hyper::HeaderMap,
    body: Bytes,
}

/// The connection is closed without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

impl Proxy {
    /// Listens. The first of `upstreams` is the wide one.
    ///
    /// # Panics
    /// When it can't.
    pub async fn start(upstreams: Vec<SocketAddr>, faults: Faults, seed: u64, truth: Arc<Truth>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = TcpListener::bind(address).await.expect("a free port");
        let shared = Arc::new(Shared {
            upstreams,
            faults,
            calm: AtomicBool::new(false),
            swallow: AtomicBool::new(false),
            happened: Happened::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            unanswered: Mutex::default(),
            truth,
            taken: Mutex::default(),
            attempts: TaskTracker::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, shared.clone()));
        Self { address, shared, _listener: tasks }
    }

    /// For `--collector`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on everything is passed on faithfully.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::Relaxed);
        self.shared.swallow.store(false, Ordering::Relaxed);
    }

    /// From now on, until it is calmed, every answer is lost.
    pub fn swallow_answers(&self) {
        self.shared.swallow.store(true, Ordering::Relaxed);
    }

    /// What happened so far.
    #[must_use]
    pub fn happened(&self) -> &Happened {
        &self.shared.happened
    }

    /// Waits until the outcome of each attempt is known.
    ///
    /// # Panics
    /// When it is not within `limit`.
    pub async fn settled(&self, limit: Duration) {
        self.shared.attempts.close();
        let settled = tokio::time::timeout(limit, self.shared.attempts.wait()).await;
        self.shared.attempts.reopen();
        assert!(settled.is_ok(), "attempts through the proxy are not settled within {limit:?}");
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(connection(stream, shared.clone()));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| handle(request, shared.clone()));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A cut connection ends in an error, by intent.
    let _ended = served.await;
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Cut> {
    shared.happened.requests.fetch_add(1, Ordering::Relaxed);
    let batch = request
        .headers()
        .get("logweir-batch")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let faults = if shared.calm.load(Ordering::Relaxed) { Faults::default() } else { shared.faults };
    if shared.chance(faults.cut_request) {
        shared.happened.cut.fetch_add(1, Ordering::Relaxed);
        return Err(Cut);
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let attempt = Attempt { headers: parts.headers, body };

    let seen_before = lock(&shared.unanswered).remove(&batch);
    if seen_before && shared.chance(faults.too_large) && attempt.lines().len() > 1 {
        shared.happened.too_large.fetch_add(1, Ordering::Relaxed);
        return Ok(too_large());
    }
    if shared.chance(faults.repeat) {
        shared.happened.repeated.fetch_add(1, Ordering::Relaxed);
        shared.attempts.spawn(forward(shared.clone(), attempt.clone()));
    }
    let passed = shared.attempts.spawn(forward(shared.clone(), attempt)).await.map_err(|_| Cut)?;
    let Some(passed) = passed else { return Err(Cut) };
    if shared.chance(faults.drop_answer) || shared.swallow.load(Ordering::Relaxed) {
        shared.happened.dropped.fetch_add(1, Ordering::Relaxed);
        if passed.status == 202 {
            lock(&shared.unanswered).insert(batch);
        }
        return Err(Cut);
    }
    let mut response = Response::new(Full::new(passed.body));
    *response.status_mut() = hyper::StatusCode::from_u16(passed.status).map_err(|_| Cut)?;
    for (name, value) in &passed.headers {
        if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding") {
            response.headers_mut().append(name, value.clone());
        }
    }
    Ok(response)
}

fn too_large() -> Response<Full<Bytes>> {
    let problem = r#"{"type":"urn:logweir:problem:too_large","title":"The body is too large","status":413,"detail":"says the proxy"}"#;
    let mut response = Response::new(Full::new(Bytes::from_static(problem.as_bytes())));
    *response.status_mut() = hyper::StatusCode::PAYLOAD_TOO_LARGE;
    let kind = hyper::header::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// To one of the collectors, or to another one when it is down. `None` when nobody answered.
async fn forward(shared: Arc<Shared>, attempt: Attempt) -> Option<Passed> {
    let first = shared.pick(shared.upstreams.len());
    let mut passed = None;
    for n in 0..shared.upstreams.len() {
        let to = shared.upstreams[(first + n) % shared.upstreams.len()];
        match attempt.send(to).await {
            Ok(answer) => passed = Some(answer),
            Err(e) if e.is_connect() => continue,
            Err(_) => {}
        }
        shared.learn(&attempt, passed.as_ref()).await;
        break;
    }
    passed
}

impl Attempt {
    async fn send(&self, to: SocketAddr) -> Result<Passed, reqwest::Error> {
        let mut request = http().post(format!("http://{to}/v1/events")).body(self.body.clone());
        for (name, value) in &self.headers {
            if !matches!(
                name.as_str(),
                "host" | "content-length" | "connection" | "expect" | "transfer-encoding"
            ) {
                request = request.header(name, value);
            }
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Passed { status, headers, body: response.bytes().await? })
    }

    fn lines(&self) -> Vec<String> {
        let encoded = self.headers.get("content-encoding").is_some_and(|value| value == "zstd");
        let text = if encoded {
            zstd::bulk::decompress(&self.body, 64 << 20).unwrap_or_default()
        } else {
            self.body.to_vec()
        };
        String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl Shared {
    fn chance(&self, p: f64) -> bool {
        p > 0.0 && lock(&self.rng).random_bool(p)
    }

    fn pick(&self, n: usize) -> usize {
        lock(&self.rng).random_range(0..n)
    }

    /// Adds the events of [`FUTURE`] that were taken to the truth, once each.
    async fn learn(&self, attempt: &Attempt, passed: Option<&Passed>) {
        let lines = attempt.lines();
        if !lines.iter().any(|line| line.contains(FUTURE)) {
            return;
        }
        let rejected = match passed {
            Some(answer) if answer.status == 202 => rejected(&answer.body),
            Some(answer) if answer.status < 500 => return,
            // Perhaps it was taken: make it sure.
            _ => loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if let Ok(answer) = attempt.send(self.upstreams[0]).await
                    && answer.status == 202
                {
                    break rejected(&answer.body);
                }
            },
        };
        for (index, line) in (0u64..).zip(&lines) {
            if line.contains(FUTURE) && !rejected.contains(&index) && lock(&self.taken).insert(line.clone()) {
                let event: serde_json::Value = serde_json::from_str(line).expect("future lines are JSON");
                let ms = event["timestamp"].as_i64().expect("and have milliseconds");
                let service = event["service"].as_str().expect("and a service");
                self.truth.add(lines::cell(ms, service, "warn"), event["message"].as_str().unwrap_or(""));
            }
        }
    }
}

fn rejected(body: &[u8]) -> HashSet<u64> {
    let body: serde_json::Value = serde_json::from_slice(body).expect("a 202 is JSON");
    let rejected = body["rejected"].as_array().expect("a 202 says which events were rejected");
    rejected.iter().map(|r| r["index"].as_u64().expect("an index")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

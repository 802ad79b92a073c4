//! A collector in this process: it keeps what it takes by number, and can be told to refuse.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use logweir_proto::answer::{Accepted, Problem, ProblemCode, RejectedEvent};
use logweir_proto::encoding::{self, Encoding};
use logweir_proto::{BatchId, headers, ndjson};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Takes events; a line with the word `bad` is rejected.
#[derive(Clone, Default)]
pub(crate) struct Taken {
    /// By `PRODUCER/NUMBER`.
    events: Arc<Mutex<BTreeMap<String, String>>>,
    /// What is answered instead, while it is there.
    refusal: Arc<Mutex<Option<Problem>>>,
    asked: Arc<AtomicUsize>,
    newest: Arc<Mutex<Option<String>>>,
}

fn message(event: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    event["message"].as_str().unwrap().trim_start_matches("INFO ").to_owned()
}

impl Taken {
    /// The messages of all events, in order.
    pub(crate) fn messages(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let mut messages: Vec<String> = events.values().map(|event| message(event)).collect();
        messages.sort();
        messages
    }

    /// The message that came last.
    pub(crate) fn newest(&self) -> Option<String> {
        self.newest.lock().unwrap().as_deref().map(message)
    }

    /// The event that came last.
    pub(crate) fn newest_event(&self) -> String {
        self.newest.lock().unwrap().clone().unwrap_or_default()
    }

    /// The event with this message.
    pub(crate) fn event_of(&self, text: &str) -> String {
        let events = self.events.lock().unwrap();
        events.values().find(|event| message(event) == text).cloned().unwrap_or_default()
    }

    /// How many posts there were.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    pub(crate) fn refuse(&self, problem: Option<Problem>) {
        *self.refusal.lock().unwrap() = problem;
    }
}

/// It ends when it is dropped.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) taken: Taken,
    _task: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Taken::default());
        let router = Router::new().route("/v1/events", axum::routing::post(take)).with_state(taken.clone());
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, taken, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn take(State(taken): State<Taken>, head: HeaderMap, body: Bytes) -> Response {
    taken.asked.fetch_add(1, Ordering::Relaxed);
    if let Some(problem) = taken.refusal.lock().unwrap().clone() {
        return refused(problem);
    }
    let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(text("content-type"), headers::NDJSON);
    let encoding = Encoding::parse(text("content-encoding")).unwrap();
    let batch: BatchId = text(headers::BATCH).parse().unwrap();
    let plain = encoding::decode(encoding, &body, 8 << 20).unwrap();
    let lines: Vec<&[u8]> = ndjson::lines(&plain).collect();
    let mut rejected = Vec::new();
    let mut events = taken.events.lock().unwrap();
    for (index, line) in (0..).zip(&lines) {
        let line = String::from_utf8(line.to_vec()).unwrap();
        let number = batch.seq.plus(index).unwrap();
        if line.contains("bad") {
            rejected.push(RejectedEvent { index, code: "too_old".into(), detail: "it is bad".into() });
        } else if let Some(before) = events.insert(format!("{}/{number}", batch.producer), line.clone()) {
            assert_eq!(before, line, "a number is never used for other content");
        }
    }
    *taken.newest.lock().unwrap() = lines.last().map(|line| String::from_utf8(line.to_vec()).unwrap());
    let count = u64::try_from(lines.len() - rejected.len()).unwrap();
    if count == 0 {
        let mut problem = Problem::new(ProblemCode::AllRejected, "all are bad");
        problem.rejected = Some(rejected);
        return refused(problem);
    }
    let answer = Accepted { batch: batch.to_string(), accepted: count, rejected };
    (StatusCode::ACCEPTED, serde_json::to_string(&answer).unwrap()).into_response()
}

fn refused(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, [("content-type", headers::PROBLEM_JSON)], serde_json::to_string(&problem).unwrap())
        .into_response()
}

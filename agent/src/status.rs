//! How the agent is, for people: `GET /status` at the admin address, and `logweir-agent status`, which asks for it.
//!
//! ```text
//! status ──► /status ──► Wake::Report ──► reader      files, losses, what is unsettled
//!                   └──► gate, rates, collectors     what holds sending back, and until when
//! ```
//!
//! Limits: the reader answers between two turns, within [`PATIENCE`]; the answer has no more files than it follows.

pub(crate) mod command;

use crate::handoff::{Report, Wake};
use crate::reload::{ConfigStatus, SharedStatus};
use crate::send::delivery::Shared;
use crate::send::gate::{HeldBack, LastError};
use crate::send::http::Http;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the reader may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The document. Members may be added; none is renamed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) agent: String,
    pub(crate) version: String,
    /// In the order of preference.
    pub(crate) collectors: Vec<CollectorStatus>,
    /// How many batches may wait for their answer at a time, just now.
    pub(crate) window_batches: usize,
    /// By how much the linger is stretched, just now.
    pub(crate) linger_factor: u32,
    /// How `--config` stands to what runs.
    #[serde(default)]
    pub(crate) config: ConfigStatus,
    /// `null` while batches go out.
    pub(crate) held_back: Option<HeldBack>,
    /// What went wrong last when batches were sent, whether or not it is over; `null` while nothing has.
    pub(crate) last_error: Option<LastError>,
    #[serde(flatten)]
    pub(crate) reading: Report,
}

/// One collector.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CollectorStatus {
    pub(crate) url: String,
    /// Whether it failed, and isn't asked for a while.
    pub(crate) down: bool,
}

/// What answers.
#[derive(Clone)]
struct Asked {
    shared: Arc<Shared<Http>>,
    wake: mpsc::Sender<Wake>,
    config: SharedStatus,
}

/// The route.
pub(crate) fn routes(shared: Arc<Shared<Http>>, wake: mpsc::Sender<Wake>, config: SharedStatus) -> Router {
    Router::new().route("/status", get(answer)).with_state(Asked { shared, wake, config })
}

async fn answer(State(asked): State<Asked>) -> Response {
    let Ok(Some(reading)) = tokio::time::timeout(PATIENCE, report(&asked.wake)).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the reader doesn't answer just now\n").into_response();
    };
    let Shared { post, collectors, pace, rates, guidance, gate, .. } = &*asked.shared;
    let down = collectors.which_are_down();
    let urls = post.addresses().into_iter().zip(down);
    let status = Status {
        agent: post.id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        collectors: urls.map(|(url, down)| CollectorStatus { url: url.to_string(), down }).collect(),
        window_batches: pace.window(),
        linger_factor: guidance.stretch(),
        config: asked.config.get(),
        held_back: gate.held_back().or_else(|| rates.held_back()),
        last_error: gate.last_error(),
        reading,
    };
    axum::Json(status).into_response()
}

async fn report(wake: &mpsc::Sender<Wake>) -> Option<Report> {
    let (send, receive) = oneshot::channel();
    wake.send(Wake::Report(send)).await.ok()?;
    receive.await.ok()
}

//! The admin address: `/metrics`, `/healthz`, `/readyz`. It is never the public address.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the service needs for its job, and what of it is missing just now. Clones share one state.
///
/// A check that was declared with [`Readiness::require`] counts as failed until somebody says otherwise, so a
/// service is never ready before it has looked.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Checks>>);

#[derive(Debug, Default)]
struct Checks {
    outcomes: BTreeMap<&'static str, Result<(), String>>,
    remarks: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Declares a check, not passed yet.
    pub fn require(&self, check: &'static str) {
        self.set(check, Err("not checked yet".to_owned()));
    }

    /// Notes the outcome of a check. Returns whether it changed between passed and failed, so that the
    /// caller can log each change once.
    pub fn set(&self, check: &'static str, outcome: Result<(), String>) -> bool {
        let mut checks = self.lock();
        let was_ok = checks.outcomes.get(check).map(Result::is_ok);
        let is_ok = outcome.is_ok();
        checks.outcomes.insert(check, outcome);
        was_ok != Some(is_ok)
    }

    /// Says something that a person should know and that doesn't make the service unready, under a name that is no
    /// check's; `None` takes it back. Returns what was said before.
    pub fn remark(&self, about: &'static str, detail: Option<String>) -> Option<String> {
        let mut checks = self.lock();
        match detail {
            Some(detail) => checks.remarks.insert(about, detail),
            None => checks.remarks.remove(about),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all checks pass.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().outcomes.values().all(Result::is_ok)
    }

    /// `{"ready": …, "checks": [{"check", "ok", "detail"}]}`; a remark is a check that passes, with a detail.
    fn to_json(&self) -> (bool, String) {
        let checks = self.lock();
        let ready = checks.outcomes.values().all(Result::is_ok);
        let outcomes = checks.outcomes.iter().map(|(check, outcome)| {
            let detail = outcome.as_ref().err();
            serde_json::json!({"check": check, "ok": outcome.is_ok(), "detail": detail})
        });
        let remarks = checks
            .remarks
            .iter()
            .map(|(about, detail)| serde_json::json!({"check": about, "ok": true, "detail": detail}));
        let list: Vec<serde_json::Value> = outcomes.chain(remarks).collect();
        (ready, serde_json::json!({"ready": ready, "checks": list}).to_string())
    }
}

/// Called before each scrape, to bring gauges up to date.
pub type BeforeScrape = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    readiness: Readiness,
    before_scrape: Option<BeforeScrape>,
}

/// The admin server: bound, not yet serving.
pub struct Admin {
    listener: TcpListener,
    router: Router,
}

impl Admin {
    /// Binds `address` (port 0 picks a free one). `extra` are further routes of the service, such as a
    /// status page; they must not take the three names.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(
        address: SocketAddr,
        registry: Registry,
        readiness: Readiness,
        before_scrape: Option<BeforeScrape>,
        extra: Router,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Shared { registry: Arc::new(registry), readiness, before_scrape };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz))
            .with_state(shared)
            .merge(extra);
        Ok(Self { listener, router })
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// When the operating system doesn't tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// When accepting fails for good.
    pub async fn serve(self, stop: CancellationToken) -> std::io::Result<()> {
        axum::serve(self.listener, self.router).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    if let Some(refresh) = &shared.before_scrape {
        refresh();
    }
    let mut text = String::new();
    match encode(&mut text, &shared.registry) {
        Ok(()) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let (ready, body) = shared.readiness.to_json();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_not_ready_before_it_has_looked() {
        let readiness = Readiness::default();
        readiness.require("redis");
        assert!(!readiness.is_ready());
        assert!(readiness.set("redis", Ok(())));
        assert!(!readiness.set("redis", Ok(())));
        assert!(readiness.is_ready());
        assert_eq!(readiness.remark("dead_letters", Some("full".into())), None);
        let (ready, json) = readiness.to_json();
        assert!(ready && json.contains(r#"{"check":"dead_letters","detail":"full","ok":true}"#), "{json}");
        assert_eq!(readiness.remark("dead_letters", None).as_deref(), Some("full"));
        assert!(readiness.set("redis", Err("gone".into())));
        let (ready, json) = readiness.to_json();
        assert!(!ready);
        assert_eq!(json, r#"{"checks":[{"check":"redis","detail":"gone","ok":false}],"ready":false}"#);
    }
}

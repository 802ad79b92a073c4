//! Asking the services' admin addresses.

use std::net::SocketAddr;
use std::time::Duration;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// A client for loopback.
#[derive(Debug, Clone)]
pub(super) struct Http(reqwest::Client);

impl Http {
    pub(super) fn new() -> anyhow::Result<Self> {
        // The client wants one even where it speaks plain HTTP; who installed one before was as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        Ok(Self(client))
    }

    /// Whether a service says that it is ready, else why not.
    pub(super) async fn ready(&self, admin: SocketAddr) -> Result<(), String> {
        let answer = self.0.get(format!("http://{admin}/readyz")).send().await.map_err(|e| e.to_string())?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(answer.text().await.map_err(|e| e.to_string())?.trim().to_owned())
    }

    /// The text of a service's metrics; `None` when it gives none.
    pub(super) async fn metrics(&self, admin: SocketAddr) -> Option<String> {
        let answer = self.0.get(format!("http://{admin}/metrics")).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }
}

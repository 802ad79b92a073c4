//! One attempt over HTTP: the only file that knows reqwest's client.
//!
//! ```text
//! Request ──► POST BASE/v1/events ──► status, headers, body up to a limit ──► Outcome
//! ```
//!
//! Invariants: an attempt ends within `--request-timeout`, however slowly the other side drips; redirects are never
//! followed (a POST would become a GET, or events would go where nobody said), and proxies of the environment are not
//! used; the token goes into no log.

use crate::send::policy::{Answer, Outcome};
use crate::send::token::{TokenError, TokenFile};
use bytes::Bytes;
use logweir_proto::BatchId;
use logweir_proto::encoding::Encoding;
use logweir_proto::headers;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, Url, redirect};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The longest body of an answer: 10,000 verdicts with a sentence each are about 3 MiB.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// An idle connection is closed before the collector closes it (after 30 s), so that none breaks under an attempt.
const IDLE: Duration = Duration::from_secs(20);

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: BatchId,
    pub(crate) body: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) traceparent: String,
}

/// What makes attempts. The sender knows only this, so its tests need neither sockets nor time.
pub(crate) trait Post: Send + Sync + 'static {
    /// Makes one attempt.
    fn post(&self, request: Request) -> impl Future<Output = Outcome> + Send;

    /// Looks for new credentials, and says whether there are any.
    fn new_credentials(&self) -> impl Future<Output = bool> + Send;
}

/// How the collector is reached.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The base of its URLs.
    pub(crate) collector: Url,
    /// The agent's ID, where there is no token.
    pub(crate) id: String,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// Attempts at a time, and so connections.
    pub(crate) concurrency: usize,
}

/// Why there can be no client. A person must mend it.
#[derive(Debug, Error)]
pub(crate) enum TargetError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("--ca-file {}: {detail}", path.display())]
    CaFile { path: PathBuf, detail: String },
    #[error(
        "TLS can't be set up: {0} (are the system's root certificates installed? --ca-file gives others)"
    )]
    Client(String),
}

/// The client.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    url: Url,
    id: String,
    token: Option<Arc<TokenFile>>,
    request_timeout: Duration,
}

/// `BASE/v1/events`.
pub(crate) fn events_url(base: &Url) -> Url {
    let mut url = base.clone();
    let path = format!("{}/v1/events", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

impl Http {
    /// Reads the files that it needs; connects to nothing yet.
    ///
    /// # Errors
    /// When a file is wrong, or the system has no root certificates and the URL needs them.
    pub(crate) fn new(target: &Target) -> Result<Self, TargetError> {
        let token = target.token_file.as_deref().map(TokenFile::open).transpose()?.map(Arc::new);
        let mut builder = Client::builder()
            .user_agent(concat!("logweir-agent/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(target.connect_timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(target.concurrency);
        // What reqwest finds here is what it uses; that there is one already is as good.
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider had been installed before");
        }
        let extra = target.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        builder = if target.collector.scheme() == "https" {
            builder.tls_certs_merge(extra)
        } else {
            // No TLS at all: a machine without root certificates shall do.
            builder.tls_certs_only([])
        };
        let client = builder.build().map_err(|e| TargetError::Client(chain(&e)))?;
        let url = events_url(&target.collector);
        Ok(Self { client, url, id: target.id.clone(), token, request_timeout: target.request_timeout })
    }

    async fn attempt(&self, request: Request) -> Outcome {
        let mut builder = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, headers::NDJSON)
            .header(headers::BATCH, request.id.to_string())
            .header(headers::TRACEPARENT, request.traceparent);
        if request.encoding != Encoding::Identity {
            builder = builder.header(CONTENT_ENCODING, request.encoding.as_str());
        }
        builder = match &self.token {
            Some(token) => builder.header(AUTHORIZATION, token.header()),
            None => builder.header(headers::AGENT, &self.id),
        };
        match builder.body(request.body).send().await {
            Ok(response) => Outcome::Answer(read(response).await),
            Err(error) => Outcome::Failed(chain(&error.without_url())),
        }
    }
}

impl Post for Http {
    async fn post(&self, request: Request) -> Outcome {
        let limit = self.request_timeout;
        match tokio::time::timeout(limit, self.attempt(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(format!("no answer within {}", humantime::format_duration(limit))),
        }
    }

    async fn new_credentials(&self) -> bool {
        let Some(token) = self.token.clone() else { return false };
        // A network file system may take its time.
        tokio::task::spawn_blocking(move || token.refresh()).await.unwrap_or(false)
    }
}

/// What of the answer is needed; a body that breaks off is none.
async fn read(mut response: Response) -> Answer {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let mut answer = Answer {
        status: response.status().as_u16(),
        retry_after: text(RETRY_AFTER.as_str()).map(str::to_owned),
        pressure: text(headers::PRESSURE).and_then(|value| value.parse().ok()),
        body: None,
    };
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => body.extend_from_slice(&chunk),
            Ok(Some(_)) | Err(_) => return answer,
            Ok(None) => break,
        }
    }
    answer.body = Some(body);
    answer
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, TargetError> {
    let wrong = |detail: String| TargetError::CaFile { path: path.to_owned(), detail };
    let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(chain(&e)))?;
    if certificates.is_empty() {
        return Err(wrong("there is no certificate in it; it must be in PEM form".to_owned()));
    }
    Ok(certificates)
}

/// The error with its causes, since reqwest's own words are only "error sending request".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;

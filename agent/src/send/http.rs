//! One attempt over HTTP.
//!
//! ```text
//! Request ──► POST BASE/v1/events ──► status, headers, body up to a limit ──► Outcome
//! ```
//!
//! Invariants: an attempt ends within `--request-timeout`, however slowly the other side drips; the token goes into no
//! log.

use crate::send::client::{ClientError, Connecting, TlsClient, chain};
use crate::send::limits::{self, OwnLimits};
use crate::send::policy::{Answer, Outcome};
use crate::send::token::{TokenError, TokenFile};
use bytes::Bytes;
use logweir_proto::BatchId;
use logweir_proto::encoding::Encoding;
use logweir_proto::headers;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use thiserror::Error;

/// The longest body of an answer: 10,000 verdicts with a sentence each are about 3 MiB.
const MAX_ANSWER_BYTES: usize = 8 << 20;

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
    /// How many collectors there are.
    fn collectors(&self) -> usize;

    /// Makes one attempt at the collector with this index.
    fn post(&self, to: usize, request: Request) -> impl Future<Output = Outcome> + Send;

    /// What this collector takes, if it says so.
    fn limits(&self, to: usize) -> impl Future<Output = Option<OwnLimits>> + Send;

    /// Whether there are credentials in files, which may become others.
    fn has_credentials(&self) -> bool;

    /// Whether this collector answers anything at all to a question without a body.
    fn answers(&self, to: usize) -> impl Future<Output = bool> + Send;

    /// Looks for new credentials, and says whether there are any.
    fn new_credentials(&self) -> impl Future<Output = bool> + Send;
}

/// How the collectors are reached.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The bases of their URLs, in the order of preference; at least one.
    pub(crate) collectors: Vec<Url>,
    /// The agent's ID, where there is no token.
    pub(crate) id: String,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) connecting: Connecting,
    pub(crate) request_timeout: Duration,
}

/// Why there can be no client. A person must mend it.
#[derive(Debug, Error)]
pub(crate) enum TargetError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The client; it may be told to go elsewhere.
#[derive(Debug)]
pub(crate) struct Http(RwLock<Arc<Way>>);

/// The way to the collectors.
#[derive(Debug)]
struct Way {
    client: TlsClient,
    /// For each collector where events go, and where its limits stand.
    urls: Vec<(Url, Url)>,
    id: String,
    token: Option<TokenFile>,
    request_timeout: Duration,
}

/// `BASE/v1/…`.
pub(crate) fn url_of(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    let path = format!("{}/v1/{name}", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

impl Http {
    /// Reads the files that it needs; connects to nothing yet.
    ///
    /// # Errors
    /// When a file is wrong, or the system has no root certificates and the URL needs them.
    pub(crate) fn new(target: &Target) -> Result<Self, TargetError> {
        let token = target.token_file.as_deref().map(TokenFile::open).transpose()?;
        let client = TlsClient::new(target.connecting.clone(), &target.collectors)?;
        let urls =
            target.collectors.iter().map(|base| (url_of(base, "events"), url_of(base, "limits"))).collect();
        let (id, request_timeout) = (target.id.clone(), target.request_timeout);
        Ok(Self(RwLock::new(Arc::new(Way { client, urls, id, token, request_timeout }))))
    }

    /// From now on attempts go where the other one's went; those on their way end where they are.
    pub(crate) fn go_as(&self, other: &Self) {
        let way = other.way();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = way;
    }

    /// The agent's ID, as it was set.
    pub(crate) fn id(&self) -> String {
        self.way().id.clone()
    }

    /// Where each collector takes events.
    pub(crate) fn addresses(&self) -> Vec<Url> {
        self.way().urls.iter().map(|(events, _)| events.clone()).collect()
    }

    fn way(&self) -> Arc<Way> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Way {
    async fn attempt(&self, to: usize, request: Request) -> Outcome {
        let Some((url, _)) = self.urls.get(to) else {
            return Outcome::Failed("there is no such collector".to_owned());
        };
        let mut builder = self
            .client
            .get()
            .post(url.clone())
            .header(CONTENT_TYPE, headers::NDJSON)
            .header(headers::BATCH, request.id.to_string())
            .header(headers::TRACEPARENT, request.traceparent);
        if request.encoding != Encoding::Identity {
            builder = builder.header(CONTENT_ENCODING, request.encoding.as_str());
        }
        builder = self.identified(builder);
        match builder.body(request.body).send().await {
            Ok(response) => Outcome::Answer(read(response, MAX_ANSWER_BYTES).await),
            Err(error) => Outcome::Failed(chain(&error.without_url())),
        }
    }

    fn ask_limits(&self, to: usize) -> Option<RequestBuilder> {
        let (_, url) = self.urls.get(to)?;
        Some(self.identified(self.client.get().get(url.clone())).timeout(self.request_timeout))
    }

    fn identified(&self, builder: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => builder.header(AUTHORIZATION, token.header()),
            None => builder.header(headers::AGENT, &self.id),
        }
    }
}

impl Post for Http {
    fn collectors(&self) -> usize {
        self.way().urls.len()
    }

    async fn post(&self, to: usize, request: Request) -> Outcome {
        let way = self.way();
        let limit = way.request_timeout;
        match tokio::time::timeout(limit, way.attempt(to, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::TimedOut(format!("no answer within {}", humantime::format_duration(limit))),
        }
    }

    async fn answers(&self, to: usize) -> bool {
        match self.way().ask_limits(to) {
            Some(request) => request.send().await.is_ok(),
            None => false,
        }
    }

    async fn limits(&self, to: usize) -> Option<OwnLimits> {
        match self.way().ask_limits(to)?.send().await {
            Ok(response) if response.status().is_success() => {
                OwnLimits::parse(&read(response, limits::MAX_BYTES).await.body?)
            }
            Ok(response) => {
                tracing::debug!(status = response.status().as_u16(), "the collector doesn't say its limits");
                None
            }
            Err(error) => {
                tracing::debug!(error = chain(&error.without_url()), "the collector's limits are not known");
                None
            }
        }
    }

    fn has_credentials(&self) -> bool {
        let way = self.way();
        way.token.is_some() || way.client.has_files()
    }

    async fn new_credentials(&self) -> bool {
        let way = self.way();
        // A network file system may take its time.
        let look = move || way.client.refresh() | way.token.as_ref().is_some_and(TokenFile::refresh);
        tokio::task::spawn_blocking(look).await.unwrap_or(false)
    }
}

/// What of the answer is needed; a body that breaks off is none.
async fn read(mut response: Response, max_bytes: usize) -> Answer {
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
            Ok(Some(chunk)) if body.len() + chunk.len() <= max_bytes => body.extend_from_slice(&chunk),
            Ok(Some(_)) | Err(_) => return answer,
            Ok(None) => break,
        }
    }
    answer.body = Some(body);
    answer
}

#[cfg(test)]
mod tests;

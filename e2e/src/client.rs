//! HTTP as a poster without an agent speaks it.

use serde_json::Value;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;
use uuid::Uuid;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body, or null when it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The code in which a problem's `type` ends.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["type"].as_str().and_then(|kind| kind.rsplit([':', '/']).next()).unwrap_or("")
    }

    /// A header's value, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Which events were rejected, and why.
    #[must_use]
    pub fn rejected(&self) -> Vec<(u64, String)> {
        let rejected = self.body["rejected"].as_array().into_iter().flatten();
        rejected
            .map(|r| (r["index"].as_u64().expect("an index"), r["code"].as_str().expect("a code").to_owned()))
            .collect()
    }
}

/// One client for all: it pools connections, and goes through no proxy but ours.
///
/// # Panics
/// When TLS can't be set up.
#[must_use]
pub fn http() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Another test may have been first.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            // Each test has a runtime of its own, and a pooled connection dies with the one that made it.
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client")
    })
}

/// A POST that is not sent yet.
#[derive(Debug, Clone)]
pub struct Post {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Post {
    /// NDJSON, not compressed.
    #[must_use]
    pub fn ndjson(body: impl Into<Vec<u8>>) -> Self {
        Self { headers: Vec::new(), body: body.into() }.header("Content-Type", "application/x-ndjson")
    }

    /// JSON: an object or an array.
    #[must_use]
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self { headers: Vec::new(), body: body.into() }.header("Content-Type", "application/json")
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Under this identity.
    #[must_use]
    pub fn batch(self, producer: Uuid, seq: u64) -> Self {
        self.header("Logweir-Batch", &format!("{producer}/{seq}"))
    }

    /// From this agent.
    #[must_use]
    pub fn agent(self, id: &str) -> Self {
        self.header("Logweir-Agent", id)
    }

    /// Compressed.
    ///
    /// # Panics
    /// Never: memory can be compressed.
    #[must_use]
    pub fn zstd(mut self) -> Self {
        self.body = zstd::bulk::compress(&self.body, 1).expect("memory can be compressed");
        self.header("Content-Encoding", "zstd")
    }

    /// Sends it once.
    ///
    /// # Errors
    /// Why there was no answer; whether it was taken is unknown then.
    pub async fn send(&self, to: SocketAddr) -> Result<Answer, String> {
        let mut request = http().post(format!("http://{to}/v1/events")).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        answer(request).await
    }

    /// Sends it until it is taken.
    ///
    /// # Panics
    /// When it is not within `limit`, or is refused for good.
    pub async fn send_until_taken(&self, to: SocketAddr, limit: Duration) -> Answer {
        let start = std::time::Instant::now();
        loop {
            let answered = self.send(to).await;
            match &answered {
                Ok(answer) if answer.status == 202 => return answer.clone(),
                Ok(answer) if !matches!(answer.status, 429 | 503) => panic!("refused for good: {answer:?}"),
                _ => {}
            }
            assert!(start.elapsed() < limit, "not taken within {limit:?}; the last answer: {answered:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// GET, such as of `/readyz` or `/metrics`: the status and the text.
///
/// # Errors
/// Why there was no answer.
pub async fn get(from: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let response = http().get(format!("http://{from}{path}")).send().await.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    Ok((status, response.text().await.map_err(|e| e.to_string())?))
}

/// The sum of a metric over its labels; `None` when the service doesn't answer or has none of that name.
pub async fn metric(from: SocketAddr, name: &str) -> Option<f64> {
    let (_, text) = get(from, "/metrics").await.ok()?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let response = request.send().await.map_err(|e| format!("{e:?}"))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.map_err(|e| format!("{e:?}"))?;
    Ok(Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

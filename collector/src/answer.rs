//! How requests are answered: 202, or a problem with its headers.

use crate::pressure::LONGEST;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use logweir_proto::answer::{Problem, ProblemCode, RejectedEvent};
use logweir_proto::{BatchId, headers};
use std::borrow::Cow;
use std::time::Duration;

/// What goes back.
pub(crate) type Reply = Response<Full<Bytes>>;

/// A request that is not taken.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ProblemCode,
    /// Instead of the code's own.
    pub(crate) status: Option<u16>,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) rejected: Option<Vec<RejectedEvent>>,
    pub(crate) headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: None,
            detail: detail.into(),
            retry_after: None,
            rejected: None,
            headers: Vec::new(),
        }
    }

    /// Says when to come back.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status that is answered.
    pub(crate) fn status(&self) -> u16 {
        self.status.unwrap_or_else(|| self.code.status())
    }

    pub(crate) fn into_reply(self) -> Reply {
        let status = self.status();
        let mut problem = Problem::new(self.code, self.detail);
        problem.status = status;
        problem.rejected = self.rejected;
        problem.retry_after_ms = self.retry_after.map(whole_millis);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut reply = reply(status, headers::PROBLEM_JSON, body.into());
        let map = reply.headers_mut();
        if let Some(after) = self.retry_after {
            map.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                map.insert(name, value);
            }
        }
        if self.code == ProblemCode::Unauthenticated {
            map.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        reply
    }
}

/// 200: what a 202 would say, of events that were not put into the queue.
pub(crate) fn dry_run(batch: Option<BatchId>, accepted: u64, rejected: &[RejectedEvent]) -> Reply {
    let batch = batch.map(|batch| batch.to_string());
    json(&serde_json::json!({"dry_run": true, "batch": batch, "accepted": accepted, "rejected": rejected}))
}

/// 202 with this body.
pub(crate) fn accepted(body: Bytes, pressure: f64) -> Reply {
    let mut reply = reply(202, headers::JSON, body);
    if let Ok(value) = HeaderValue::try_from(format!("{pressure:.2}")) {
        reply.headers_mut().insert(HeaderName::from_static(headers::PRESSURE), value);
    }
    reply
}

/// 200 with this, as JSON.
pub(crate) fn json(body: &impl serde::Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(body) => reply(200, headers::JSON, body.into()),
        Err(_) => Refusal::new(ProblemCode::Internal, "the collector failed on its own answer").into_reply(),
    }
}

/// Says that the connection ends with this answer.
pub(crate) fn closing(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// An answer with a body of this media type.
pub(crate) fn reply(status: u16, kind: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// Rounded up, so that nobody comes back too early.
fn whole_millis(after: Duration) -> u64 {
    u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Rounded up, and 1 to 30.
fn whole_seconds(after: Duration) -> u64 {
    whole_millis(after).div_ceil(1_000).clamp(1, LONGEST.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::SERVER;

    #[test]
    fn retry_after_is_rounded_up_and_bounded() {
        for (ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (29_001, 30), (100_000, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds);
        }
        assert_eq!(whole_millis(Duration::from_micros(1_500_001)), 1_501);
    }

    #[test]
    fn a_refusal_bears_what_its_code_asks_for() {
        let refusal =
            Refusal::new(ProblemCode::RateLimited, "too much").retry_after(Duration::from_millis(1_500));
        let reply = Refusal { status: Some(503), ..refusal }.into_reply();
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.headers()["retry-after"], "2");
        assert_eq!(reply.headers()["content-type"], "application/problem+json");
        let reply = Refusal::new(ProblemCode::Unauthenticated, "who?").into_reply();
        assert_eq!(reply.headers()["www-authenticate"], "Bearer");
        assert!(reply.headers().get("retry-after").is_none());
        let reply = Refusal::new(ProblemCode::NotFound, "where?").header(SERVER, "a\nb".into()).into_reply();
        assert!(reply.headers().get("server").is_none(), "what is no header's value is left out");
    }
}

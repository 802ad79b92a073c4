//! What a POST is answered: 202 with a verdict for each rejected event, or RFC 9457 problem details.

use serde::{Deserialize, Serialize};

/// The body of a 202.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// `PRODUCER/SEQ`
    pub batch: String,
    /// How many events are in the queue now.
    pub accepted: u64,
    /// The others.
    pub rejected: Vec<RejectedEvent>,
}

/// One event that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedEvent {
    /// Its place in the batch, from 0.
    pub index: u64,
    /// One of [`crate::Code`]'s.
    pub code: String,
    /// Which field, and what would be right.
    pub detail: String,
}

/// The codes of the answers that are not 202; a problem's `type` ends in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemCode {
    /// 400
    Malformed,
    /// 401
    Unauthenticated,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408: the body came slower than the minimum speed.
    TooSlow,
    /// 413
    TooLarge,
    /// 415
    Unsupported,
    /// 422
    AllRejected,
    /// 429 (or what `--quota-status` says)
    RateLimited,
    /// 431: the header section is too large.
    HeadersTooLarge,
    /// 500
    Internal,
    /// 503
    QueueFull,
    /// 503
    QueueUnavailable,
    /// 503
    Overloaded,
    /// 503
    Draining,
}

impl ProblemCode {
    /// All codes.
    pub const ALL: [ProblemCode; 16] = [
        ProblemCode::Malformed,
        ProblemCode::Unauthenticated,
        ProblemCode::Forbidden,
        ProblemCode::NotFound,
        ProblemCode::MethodNotAllowed,
        ProblemCode::TooSlow,
        ProblemCode::TooLarge,
        ProblemCode::Unsupported,
        ProblemCode::AllRejected,
        ProblemCode::RateLimited,
        ProblemCode::HeadersTooLarge,
        ProblemCode::Internal,
        ProblemCode::QueueFull,
        ProblemCode::QueueUnavailable,
        ProblemCode::Overloaded,
        ProblemCode::Draining,
    ];

    /// The code, its status, and a title for people.
    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            ProblemCode::Malformed => ("malformed", 400, "The request can't be read"),
            ProblemCode::Unauthenticated => ("unauthenticated", 401, "A valid token is needed"),
            ProblemCode::Forbidden => ("forbidden", 403, "Not with this token"),
            ProblemCode::NotFound => ("not_found", 404, "There is nothing at this path"),
            ProblemCode::MethodNotAllowed => ("method_not_allowed", 405, "Not with this method"),
            ProblemCode::TooSlow => ("too_slow", 408, "The request came too slowly"),
            ProblemCode::TooLarge => ("too_large", 413, "The body is too large"),
            ProblemCode::Unsupported => ("unsupported", 415, "This type or encoding is not understood"),
            ProblemCode::AllRejected => ("all_rejected", 422, "Every event was rejected"),
            ProblemCode::RateLimited => ("rate_limited", 429, "Over the quota; come back later"),
            ProblemCode::HeadersTooLarge => ("headers_too_large", 431, "The headers are too large"),
            ProblemCode::Internal => ("internal", 500, "The collector failed"),
            ProblemCode::QueueFull => ("queue_full", 503, "The queue is full; come back later"),
            ProblemCode::QueueUnavailable => {
                ("queue_unavailable", 503, "The queue can't be reached; come back later")
            }
            ProblemCode::Overloaded => ("overloaded", 503, "The collector is overloaded; come back later"),
            ProblemCode::Draining => {
                ("draining", 503, "The collector is stopping; come back, or go to another")
            }
        }
    }

    /// The code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// A title for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// The code that a problem's `type` ends in, or `None` when it is not one of ours (a proxy's answer).
    #[must_use]
    pub fn of_type(problem_type: &str) -> Option<Self> {
        let code = problem_type.rsplit([':', '/', '#']).next()?;
        Self::ALL.into_iter().find(|p| p.as_str() == code)
    }
}

/// RFC 9457 problem details. Any member may be absent from what is read (§3.1 there).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:logweir:problem:` and the code.
    #[serde(default)]
    pub r#type: String,
    /// A title for people, the same for each problem of this code.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What was wrong this time, and what to do next.
    #[serde(default)]
    pub detail: String,
    /// When to come back, in milliseconds; on 429 and 503.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
    /// The verdicts; on 422.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rejected: Option<Vec<RejectedEvent>>,
}

impl Problem {
    /// A problem of this code.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:logweir:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            retry_after_ms: None,
            rejected: None,
        }
    }
}

//! The names of logweir's own headers, in the lower case of HTTP/2.

/// The agent's ID where no tokens are configured.
pub const AGENT: &str = "logweir-agent";
/// The batch's identity, `PRODUCER/SEQ`; see [`crate::BatchId`].
pub const BATCH: &str = "logweir-batch";
/// How full the queue is, `0.00`–`1.00`, on every 202.
pub const PRESSURE: &str = "logweir-pressure";
/// The key under which a POST without identity is enqueued only once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// The media type of a body with one event a line.
pub const NDJSON: &str = "application/x-ndjson";
/// The media type of a body with one event, or an array of events.
pub const JSON: &str = "application/json";
/// The media type of RFC 9457 problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

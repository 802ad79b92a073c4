//! One event: validation that borrows from the line and allocates nothing for a good one.

use crate::{Level, Rejection};

/// What is asked of an event beyond its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The longest event, in bytes.
    pub max_bytes: usize,
    /// The clock and the window around it; `None` asks nothing of the time (the worker, and the agent).
    pub window: Option<Window>,
}

/// The times that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The judge's clock, in Unix milliseconds.
    pub now_ms: i64,
    /// The oldest age, in milliseconds; an event of exactly this age is accepted.
    pub max_age_ms: i64,
    /// The furthest ahead, in milliseconds; exactly this far is accepted.
    pub max_ahead_ms: i64,
}

/// What counts of a valid event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Unix milliseconds, rounded down.
    pub timestamp_ms: i64,
    /// The service's name.
    pub service: ServiceName<'a>,
    /// The level, synonyms folded.
    pub level: Level,
}

impl Event<'_> {
    /// The start of the event's minute, in Unix milliseconds.
    #[must_use]
    pub fn minute_ms(&self) -> i64 {
        self.timestamp_ms.div_euclid(60_000) * 60_000
    }
}

/// A valid service name: borrowed from the line, or decoded in place when it was written with escapes.
#[derive(Debug, Clone)]
pub struct ServiceName<'a>(Name<'a>);

#[derive(Debug, Clone)]
enum Name<'a> {
    Borrowed(&'a str),
    Decoded([u8; crate::limits::MAX_SERVICE_CHARS], u8),
}

/// Validates one event.
///
/// `line` is one JSON text without its line end.
///
/// # Errors
/// The first reason found, in the order: `too_long`, `not_json`, `not_object`, `too_deep`, `duplicate_field`,
/// `missing_field`, then the fields in the order of the table (timestamp, service, level, message, trace_id,
/// span_id, attributes), then `in_future` and `too_old`.
pub fn check<'a>(line: &'a [u8], rules: &Rules) -> Result<Event<'a>, Rejection> {
    let _ = (line, rules);
    todo!()
}

impl ServiceName<'_> {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Borrowed(name) => name,
            Name::Decoded(bytes, len) => std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default(),
        }
    }
}

impl PartialEq for ServiceName<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ServiceName<'_> {}

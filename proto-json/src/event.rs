//! One event: validation that borrows from the line and allocates nothing for a good one.
//!
//! ```text
//! line ──fields──► the seven known fields, or why it is no object ──check──► minute, service, level, or the reason
//! ```
//!
//! Strings are compared as what they mean: a key or value written with escapes (`"lev\u0065l"`) is the same.
//! Half a surrogate pair (`"\ud800"`), anywhere in the event, makes it `not_json`: it is no Unicode text, and most
//! parsers refuse it. Numbers in unknown fields may be of any size.

mod detail;
mod fields;
mod time;

use crate::limits::{MAX_ATTRIBUTES_DEPTH, MAX_DEPTH, MAX_SERVICE_CHARS};
use crate::scan::{Kind, Text, Value};
use crate::{Code, Level, Rejection};
use fields::{Field, Fields};

/// The published JSON Schema of an event (draft 2020-12). [`check`] comes to the same verdict, and asks what a
/// schema can't say besides; see the schema's `$comment`.
pub const EVENT_SCHEMA: &str = include_str!("../schema/event.v1.schema.json");

/// The service under which a collector counts events whose services are too many. No client can send it: a
/// service begins with a letter or digit.
pub const OVERFLOW_SERVICE: &str = "__overflow__";

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
    /// Unix milliseconds, rounded down. They span the years 0000 to 9999, and with an offset a day more.
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

/// Validates one event.
///
/// `line` is one JSON text without its line end.
///
/// # Errors
/// The first reason found, in the order: `too_long`, `not_json`, `not_object`, `too_deep`, `duplicate_field`,
/// `missing_field`, then the fields in the order of the table (timestamp, service, level, message, trace_id,
/// span_id, attributes), then `in_future` and `too_old`.
pub fn check<'a>(line: &'a [u8], rules: &Rules) -> Result<Event<'a>, Rejection> {
    check_as(line, rules, None)
}

/// [`check`] for what a collector has put into the queue: there the service may be [`OVERFLOW_SERVICE`] as well.
///
/// # Errors
/// As [`check`].
pub fn check_queued<'a>(line: &'a [u8], rules: &Rules) -> Result<Event<'a>, Rejection> {
    check_as(line, rules, Some(OVERFLOW_SERVICE))
}

/// Appends a valid event with another service, and everything else as it stands. Says whether it could: not when the
/// line is no object with one service.
pub fn push_with_service(out: &mut Vec<u8>, line: &[u8], service: &str) -> bool {
    let mut fields = Fields::new();
    if fields.scan(line).is_err() || fields.duplicate().is_some() {
        return false;
    }
    let Some(old) = fields.get(Field::Service) else { return false };
    let from = old.json.as_ptr().addr() - line.as_ptr().addr();
    out.extend_from_slice(&line[..from]);
    out.push(b'"');
    out.extend_from_slice(service.as_bytes());
    out.push(b'"');
    out.extend_from_slice(&line[from + old.json.len()..]);
    true
}

#[inline]
fn check_as<'a>(line: &'a [u8], rules: &Rules, also: Option<&str>) -> Result<Event<'a>, Rejection> {
    if line.len() > rules.max_bytes {
        return Err(detail::too_long(line.len(), rules.max_bytes));
    }
    let mut fields = Fields::new();
    fields.scan(line)?;
    if fields.depth > MAX_DEPTH {
        return Err(detail::too_deep(None, MAX_DEPTH));
    }
    if fields.attributes_depth > MAX_ATTRIBUTES_DEPTH {
        return Err(detail::too_deep(Some(Field::Attributes), MAX_ATTRIBUTES_DEPTH));
    }
    if let Some(field) = fields.duplicate() {
        return Err(detail::duplicate(field));
    }
    let time = fields.required(Field::Timestamp)?;
    let service = fields.required(Field::Service)?;
    let level = fields.required(Field::Level)?;
    let message = fields.required(Field::Message)?;

    let event = Event {
        timestamp_ms: timestamp(&time).ok_or_else(|| detail::timestamp(&time))?,
        service: ServiceName::of(&service, also).ok_or_else(|| detail::service(&service))?,
        level: level_of(&level).ok_or_else(|| detail::level(&level))?,
    };
    if !matches!(message.kind, Kind::String(_)) {
        return Err(detail::message(&message));
    }
    for (field, digits) in [(Field::TraceId, 32), (Field::SpanId, 16)] {
        if let Some(value) = fields.get(field).filter(|value| !is_hex(value, digits)) {
            return Err(detail::trace(field, &value));
        }
    }
    if let Some(value) = fields.get(Field::Attributes).filter(|value| value.kind != Kind::Object) {
        return Err(detail::attributes(&value));
    }
    match rules.window {
        Some(window) => in_window(event.timestamp_ms, &window).map(|()| event),
        None => Ok(event),
    }
}

fn in_window(timestamp_ms: i64, window: &Window) -> Result<(), Rejection> {
    let ahead_ms = timestamp_ms.saturating_sub(window.now_ms);
    let age_ms = window.now_ms.saturating_sub(timestamp_ms);
    if ahead_ms > window.max_ahead_ms {
        return Err(detail::outside(Code::InFuture, timestamp_ms, ahead_ms, window.max_ahead_ms));
    }
    if age_ms > window.max_age_ms {
        return Err(detail::outside(Code::TooOld, timestamp_ms, age_ms, window.max_age_ms));
    }
    Ok(())
}

fn timestamp(value: &Value<'_>) -> Option<i64> {
    match value.kind {
        Kind::String(text) => match text.plain() {
            Some(plain) => time::rfc3339(plain.iter().copied()),
            None => time::rfc3339(text.ascii()),
        },
        Kind::Number => time::integer(value.json),
        _ => None,
    }
}

fn level_of(value: &Value<'_>) -> Option<Level> {
    let Kind::String(text) = value.kind else { return None };
    if let Some(plain) = text.plain() {
        return Level::parse_bytes(plain);
    }
    // Longer than any name.
    let mut buffer = [0; 16];
    collect(text, &mut buffer).and_then(Level::parse_bytes)
}

fn is_hex(value: &Value<'_>, digits: usize) -> bool {
    let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let Kind::String(text) = value.kind else { return false };
    if let Some(plain) = text.plain() {
        return plain.len() == digits && plain.iter().all(is_digit);
    }
    let mut buffer = [0; 33];
    collect(text, &mut buffer).is_some_and(|b| b.len() == digits && b.iter().all(is_digit))
}

/// Decodes a string that is no longer than the buffer.
fn collect<'b>(text: Text<'_>, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut len = 0;
    for byte in text.ascii() {
        *buffer.get_mut(len)? = byte;
        len += 1;
    }
    buffer.get(..len)
}

/// A valid service name: borrowed from the line, or decoded in place when it was written with escapes.
#[derive(Debug, Clone)]
pub struct ServiceName<'a>(Name<'a>);

#[derive(Debug, Clone)]
enum Name<'a> {
    Borrowed(&'a str),
    Decoded([u8; MAX_SERVICE_CHARS], u8),
}

impl<'a> ServiceName<'a> {
    fn of(value: &Value<'a>, also: Option<&str>) -> Option<Self> {
        let Kind::String(text) = value.kind else { return None };
        if let Some(plain) = text.plain() {
            if also.is_some_and(|also| also.as_bytes() == plain) {
                return std::str::from_utf8(plain).ok().map(|name| Self(Name::Borrowed(name)));
            }
            return service(plain).map(|name| Self(Name::Borrowed(name)));
        }
        let mut buffer = [0; MAX_SERVICE_CHARS];
        let len = service(collect(text, &mut buffer)?)?.len();
        Some(Self(Name::Decoded(buffer, u8::try_from(len).ok()?)))
    }
}

/// Whether a value is a valid service.
pub(crate) fn is_service(value: &Value<'_>) -> bool {
    ServiceName::of(value, None).is_some()
}

/// Whether this is a valid service's name.
pub(crate) fn is_service_name(name: &[u8]) -> bool {
    service(name).is_some()
}

/// The name, when it is a valid one.
fn service(name: &[u8]) -> Option<&str> {
    let is_valid = name.len() <= MAX_SERVICE_CHARS
        && name.first()?.is_ascii_alphanumeric()
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b':' | b'-'));
    if is_valid { std::str::from_utf8(name).ok() } else { None }
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

#[cfg(test)]
mod tests;

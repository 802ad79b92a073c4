//! The sentences that say what would be right.
//!
//! They are printed in terminals and logs, so nothing of the event gets in that isn't printable, and no more than
//! 64 bytes of it.

use super::fields::{Field, kind_in_words};
use crate::scan::{Broken, Kind, Value};
use crate::{Code, Rejection};
use std::borrow::Cow;

/// The most that is quoted, in bytes.
const QUOTED: usize = 64;

/// Numbers below this are rather seconds than milliseconds, in which they would be times before March 1973.
const SECONDS_BELOW_MS: i64 = 100_000_000_000;

fn reject(code: Code, field: Option<Field>, detail: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection { code, field: field.map(Field::as_str), detail: detail.into() }
}

pub(super) fn too_long(bytes: usize, limit: usize) -> Rejection {
    reject(Code::TooLong, None, format!("the event has {bytes} bytes, and at most {limit} are accepted"))
}

pub(super) fn not_json(broken: Broken) -> Rejection {
    let Broken { offset, what } = broken;
    reject(Code::NotJson, None, format!("the event must be JSON in UTF-8, but at byte {offset} {what}"))
}

pub(super) fn not_object(value: &Value<'_>) -> Rejection {
    let found = kind_in_words(value.kind);
    reject(Code::NotObject, None, format!("the event must be a JSON object, and is {found}"))
}

pub(super) fn too_deep(field: Option<Field>, limit: usize) -> Rejection {
    let what = field.map_or("the event", |_| "`attributes`");
    reject(Code::TooDeep, field, format!("{what} may be nested at most {limit} deep, itself included"))
}

pub(super) fn duplicate(field: Field) -> Rejection {
    reject(Code::DuplicateField, Some(field), format!("`{}` stands twice; send it once", field.as_str()))
}

pub(super) fn missing(field: Field) -> Rejection {
    reject(Code::MissingField, Some(field), format!("`{}` is missing; {}", field.as_str(), right(field)))
}

pub(super) fn timestamp(value: &Value<'_>) -> Rejection {
    wrong(Code::InvalidTimestamp, Field::Timestamp, value)
}

pub(super) fn service(value: &Value<'_>) -> Rejection {
    wrong(Code::InvalidService, Field::Service, value)
}

pub(super) fn level(value: &Value<'_>) -> Rejection {
    wrong(Code::InvalidLevel, Field::Level, value)
}

pub(super) fn message(value: &Value<'_>) -> Rejection {
    wrong(Code::InvalidMessage, Field::Message, value)
}

pub(super) fn trace(field: Field, value: &Value<'_>) -> Rejection {
    wrong(Code::InvalidTrace, field, value)
}

pub(super) fn attributes(value: &Value<'_>) -> Rejection {
    wrong(Code::InvalidAttributes, Field::Attributes, value)
}

/// Too far ahead or too old, by how much.
pub(super) fn outside(code: Code, timestamp_ms: i64, by_ms: i64, limit_ms: i64) -> Rejection {
    let time = jiff::Timestamp::from_millisecond(timestamp_ms)
        .map_or_else(|_| format!("{timestamp_ms} ms"), |time| time.to_string());
    let (by, limit) = (by_ms / 1_000, limit_ms / 1_000);
    let mut detail = if code == Code::InFuture {
        format!(
            "`timestamp` is {time}, {by} s ahead of the collector's clock; at most {limit} s are accepted"
        )
    } else {
        format!("`timestamp` is {time}, {by} s ago; at most {limit} s are accepted")
    };
    if code == Code::TooOld && (1..SECONDS_BELOW_MS).contains(&timestamp_ms) {
        detail.push_str("; is it in seconds? Unix time is taken in milliseconds");
    }
    reject(code, Some(Field::Timestamp), detail)
}

/// What would be right.
const fn right(field: Field) -> &'static str {
    match field {
        Field::Timestamp => {
            "it must be RFC 3339 with an offset, such as \"2026-11-24T10:03:00Z\", or an integer of Unix milliseconds"
        }
        Field::Service => {
            "it must be a string of 1 to 128 letters, digits and . _ / : - that begins with a letter or digit"
        }
        Field::Level => {
            "it must be trace, debug, info, warn, error or fatal, or a usual synonym, as a string"
        }
        Field::Message => "it must be a string, and may be empty",
        Field::TraceId => "it must be a string of 32 lowercase hex digits, or absent",
        Field::SpanId => "it must be a string of 16 lowercase hex digits, or absent",
        Field::Attributes => "it must be an object, or absent",
    }
}

fn wrong(code: Code, field: Field, value: &Value<'_>) -> Rejection {
    let found = match value.kind {
        Kind::String(_) | Kind::Number => quoted(value.json),
        other => kind_in_words(other).to_owned(),
    };
    reject(code, Some(field), format!("`{}` is {found}; {}", field.as_str(), right(field)))
}

/// The JSON text of a value as far as it fits, without anything that a terminal would act on.
fn quoted(json: &[u8]) -> String {
    let mut out = String::with_capacity(QUOTED);
    // Longer prefixes don't fit anyway.
    let head = String::from_utf8_lossy(&json[..json.len().min(QUOTED * 4)]);
    for c in head.chars() {
        let before = out.len();
        // Backslashes and quotes are JSON's own here, and say what was sent.
        if matches!(c, ' '..='~') {
            out.push(c)
        } else {
            out.extend(c.escape_debug())
        }
        if out.len() > QUOTED {
            let mut cut = before.min(QUOTED - '…'.len_utf8());
            while !out.is_char_boundary(cut) {
                cut -= 1;
            }
            out.truncate(cut);
            out.push('…');
            break;
        }
    }
    out
}

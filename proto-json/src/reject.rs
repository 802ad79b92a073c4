//! Why an event is not counted.

use std::borrow::Cow;
use std::fmt;

/// The reason for a rejection, in the words of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Not a JSON text in UTF-8.
    NotJson,
    /// JSON, but no object.
    NotObject,
    /// A required field is absent.
    MissingField,
    /// A field of the schema stands twice.
    DuplicateField,
    /// `timestamp` is neither RFC 3339 with an offset nor an integer of Unix milliseconds.
    InvalidTimestamp,
    /// `timestamp` is too far ahead of the collector's clock.
    InFuture,
    /// `timestamp` is older than what is retained.
    TooOld,
    /// `service` breaks its rule.
    InvalidService,
    /// `level` is no level and no synonym.
    InvalidLevel,
    /// `message` is no string.
    InvalidMessage,
    /// `trace_id` or `span_id` breaks its rule.
    InvalidTrace,
    /// `attributes` is no object.
    InvalidAttributes,
    /// Nested deeper than allowed.
    TooDeep,
    /// Longer than one event may be.
    TooLong,
}

impl Code {
    /// All codes.
    pub const ALL: [Code; 14] = [
        Code::NotJson,
        Code::NotObject,
        Code::MissingField,
        Code::DuplicateField,
        Code::InvalidTimestamp,
        Code::InFuture,
        Code::TooOld,
        Code::InvalidService,
        Code::InvalidLevel,
        Code::InvalidMessage,
        Code::InvalidTrace,
        Code::InvalidAttributes,
        Code::TooDeep,
        Code::TooLong,
    ];

    /// The code as it stands in answers, metrics and the rejects file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::NotJson => "not_json",
            Code::NotObject => "not_object",
            Code::MissingField => "missing_field",
            Code::DuplicateField => "duplicate_field",
            Code::InvalidTimestamp => "invalid_timestamp",
            Code::InFuture => "in_future",
            Code::TooOld => "too_old",
            Code::InvalidService => "invalid_service",
            Code::InvalidLevel => "invalid_level",
            Code::InvalidMessage => "invalid_message",
            Code::InvalidTrace => "invalid_trace",
            Code::InvalidAttributes => "invalid_attributes",
            Code::TooDeep => "too_deep",
            Code::TooLong => "too_long",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One event's rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub code: Code,
    /// The field that it concerns, where there is one.
    pub field: Option<&'static str>,
    /// A sentence that names the field and says what would be right. It never quotes more than 64 bytes of the event.
    pub detail: Cow<'static, str>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

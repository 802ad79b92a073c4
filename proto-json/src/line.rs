//! From log lines to events as JSON, as the agent sends them.
//!
//! ```text
//! line ── assembly ─┬─ container  the runtime's wrapping off, parts of a line joined
//!                   ├─ json       valid as it is ──► copied byte for byte, else ──► rebuilt under the wire's names
//!                   ├─ logfmt     key=value …
//!                   └─ text       time, place: time at the beginning, level by its place, the rest is the message
//!                      └─ continuation: stack traces and lines without a time belong to the event before
//! event ── rules   left out, or what is to be redacted in it is replaced
//! ```
//!
//! Invariants: the same settings, lines and [`Carry`] always give the same events, since lines are read again after
//! a crash; an event is exactly one line; no line is refused here. What is absent gets a default, what is
//! present but wrong goes out as it is, so that the collector rejects it with its reason. All of it takes a time that is
//! linear in the lines' length.
//!
//! Limits: an event can be longer than its lines (bytes that are not UTF-8 triple, control characters become six),
//! so lines within the limit can still be rejected as `too_long`.

mod assembly;
mod container;
mod continuation;
mod encoding;
mod extra;
mod facts;
mod fields;
mod json;
mod keys;
mod logfmt;
mod out;
mod place;
pub mod rules;
mod service;
mod state;
mod text;
mod time;
mod words;

pub use assembly::{Assembly, Next};
pub use container::Origin;
pub use encoding::Encoding;
pub use facts::{By, Facts};
pub use keys::Keys;
pub use rules::{Filter, Rules};
pub use service::service_of_path;
pub use state::{Carry, Kind, State};

use jiff::tz::TimeZone;
use regex::bytes::Regex;
use std::sync::Arc;

/// The format of a file's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Each line says by its form what it is; the majority of the last lines says what the file is.
    Auto,
    /// Each line is JSON; one that isn't goes out as it is, and is rejected with its reason.
    Json,
    /// Each line is text.
    Text,
    /// Each line is `key=value …`; one that isn't is text.
    Logfmt,
    /// Each line is wrapped by a container's runtime; one that isn't is taken as with [`Format::Auto`].
    Container,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] =
        [Format::Auto, Format::Json, Format::Text, Format::Logfmt, Format::Container];

    /// Its name, as `--format` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Json => "json",
            Format::Text => "text",
            Format::Logfmt => "logfmt",
            Format::Container => "container",
        }
    }
}

/// Longer events of several lines are cut: as much JSON as may come of it still fits into an event.
pub const MAX_EVENT_BYTES: usize = 128 << 10;

/// What the parser must know besides the lines.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lines' format.
    pub format: Format,
    /// The service of every line (`--service`); without it a JSON line may carry its own.
    pub service: Option<String>,
    /// The service of lines that carry none: the file's name without its endings; see [`service_of_path`].
    pub file_service: String,
    /// The container whose file it is.
    pub origin: Option<Origin>,
    /// Fields that are the parts of an event before all others.
    pub keys: Keys,
    /// The level of lines that carry none.
    pub default_level: crate::Level,
    /// The zone of times that carry none.
    pub timezone: TimeZone,
    /// In text, lines that match begin an event, and all others continue it.
    pub multiline_start: Option<Regex>,
    /// An event of several lines that is longer, in bytes, is cut.
    pub max_event_bytes: usize,
    /// Which events are left out, and what is replaced in the others.
    pub rules: Arc<Rules>,
}

impl Settings {
    /// The service of a line that carries none of its own, or isn't asked.
    fn own_service(&self) -> &str {
        self.service.as_deref().unwrap_or(&self.file_service)
    }

    /// Where that comes from.
    fn service_by(&self) -> By {
        if self.service.is_some() { By::Setting } else { By::FileName }
    }
}

#[cfg(test)]
mod tests;

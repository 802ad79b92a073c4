//! From a log line to one event as JSON, as the agent sends it.

use jiff::tz::TimeZone;

/// The format of a file's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line that is a JSON object is JSON, any other is text.
    Auto,
    /// Each line is JSON; one that isn't goes out as it is, and is rejected with its reason.
    Json,
    /// Each line is text that begins with a time.
    Text,
}

/// What the parser must know besides the line. The same settings, line and [`Carry`] always give the same event.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lines' format.
    pub format: Format,
    /// The service of every line (`--service`); without it a JSON line may carry its own.
    pub service: Option<String>,
    /// The service of lines that carry none: the file's name without its endings; see [`service_of_path`].
    pub file_service: String,
    /// The level of lines that carry none.
    pub default_level: crate::Level,
    /// The zone of times that carry none.
    pub timezone: TimeZone,
}

/// What a file's lines inherit from the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carry {
    /// The time of a line without one, in Unix milliseconds: the last time seen in this file or, before any,
    /// a time that the caller chose.
    pub timestamp_ms: i64,
}

/// Appends the event of `line` (without its line end, and not blank) to `out`, as one JSON text and a `\n`,
/// and carries the line's time on.
pub fn to_event(line: &[u8], settings: &Settings, carry: &mut Carry, out: &mut Vec<u8>) {
    let _ = (line, settings, carry, out);
    todo!()
}

/// The service of a file: its name without its endings (`/var/log/api.log` and `api.log.1` are `api`), with
/// characters that a service name can't have replaced by `-`.
#[must_use]
pub fn service_of_path(path: &std::path::Path) -> String {
    let _ = path;
    todo!()
}

//! From a log line to one event as JSON, as the agent sends it.
//!
//! ```text
//! line ─┬─ a JSON object ─┬─ valid as it is ──► copied byte for byte        json
//!       │                 └─ else ──► rebuilt: its own fields under the wire's names
//!       └─ text ──► time at the beginning, level by its place, the rest is the message        text, time, place
//! ```
//!
//! Invariants: the same settings, line and [`Carry`] always give the same event, since a line is read again after
//! a crash; the output is exactly one line; no line is refused here. What is absent gets a default, what is
//! present but wrong goes out as it is, so that the collector rejects it with its reason.
//!
//! Limits: an event can be longer than its line (bytes that are not UTF-8 triple, control characters become six),
//! so a line within the limit can still be rejected as `too_long`.

mod json;
mod place;
mod service;
mod text;
mod time;

pub use service::service_of_path;

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

impl Settings {
    /// The service of a line that carries none of its own, or isn't asked.
    fn own_service(&self) -> &str {
        self.service.as_deref().unwrap_or(&self.file_service)
    }
}

/// What a file's lines inherit from the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carry {
    /// The time of a line without one, in Unix milliseconds: the last time seen in this file or, before any,
    /// a time that the caller chose.
    pub timestamp_ms: i64,
}

/// Appends the event of `line` (without its line end, and not blank) to `out`, as one JSON text and a `\n`,
/// and carries the line's time on. A byte order mark at the beginning is left out.
pub fn to_event(line: &[u8], settings: &Settings, carry: &mut Carry, out: &mut Vec<u8>) {
    let start = out.len();
    let body = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let done = match settings.format {
        Format::Json => json::object_to_event(body, settings, carry, out),
        Format::Auto => {
            body.trim_ascii_start().starts_with(b"{") && json::object_to_event(body, settings, carry, out)
        }
        Format::Text => false,
    };
    if !done {
        match settings.format {
            Format::Json => out.extend_from_slice(line),
            Format::Auto | Format::Text => text::to_event(body, settings, carry, out),
        }
    }
    // Between the tokens of a JSON text a line break is white space, and `line` should hold none anyway.
    if memchr::memchr(b'\n', line).is_some() {
        out[start..].iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b' ');
    }
    out.push(b'\n');
}

/// Appends a JSON string; what is no UTF-8 in `bytes` becomes U+FFFD.
fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut copied = 0;
        for (at, byte) in valid.iter().enumerate() {
            if !matches!(byte, b'"' | b'\\' | 0..=0x1f) {
                continue;
            }
            out.extend_from_slice(&valid[copied..at]);
            copied = at + 1;
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                _ => {
                    let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                }
            }
        }
        out.extend_from_slice(&valid[copied..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;

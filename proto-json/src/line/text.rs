//! A text line: the time at its beginning, the level by its place, the rest as the message.

use super::{Carry, Settings, place, push_string, time};
use std::borrow::Cow;

/// Appends the event of a text line, without a line end.
pub(super) fn to_event(line: &[u8], settings: &Settings, carry: &mut Carry, out: &mut Vec<u8>) {
    let plain = without_colours(line);
    let found = find_time(&plain, settings, carry.timestamp_ms);
    if let Some(ms) = found.ms {
        carry.timestamp_ms = ms;
    }
    let level = found.level_from.and_then(|at| place::level(&plain[at..], found.ms.is_some()));
    out.extend_from_slice(b"{\"timestamp\":");
    out.extend_from_slice(carry.timestamp_ms.to_string().as_bytes());
    out.extend_from_slice(b",\"service\":");
    push_string(out, settings.own_service().as_bytes());
    out.extend_from_slice(b",\"level\":\"");
    out.extend_from_slice(level.unwrap_or(settings.default_level).as_str().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    push_string(out, &plain[found.message_from..]);
    out.push(b'}');
}

struct Found {
    ms: Option<i64>,
    /// Where the level may stand; `None` when the form has no place for it.
    level_from: Option<usize>,
    message_from: usize,
}

fn find_time(line: &[u8], settings: &Settings, near_ms: i64) -> Found {
    let zone = &settings.timezone;
    let indent = line.len() - line.trim_ascii_start().len();
    let bracket = usize::from(line.get(indent) == Some(&b'['));
    let start = indent + bracket;
    let timed = &line[start..];
    if let Some((ms, len)) = time::dated(timed, zone) {
        return found(line, ms, start + len, bracket == 1, false);
    }
    if let Some((ms, len)) = time::syslog(timed, zone, near_ms) {
        return found(line, ms, start + len, bracket == 1, bracket == 0);
    }
    if let Some((ms, len)) = time::epoch_prefix(line) {
        return found(line, ms, len, false, false);
    }
    match time::access(line) {
        Some((at, ms, len)) if at == indent => found(line, ms, at + len, false, false),
        // The time stands in the middle, and what precedes it belongs to the message.
        Some((_, ms, _)) => Found { ms: Some(ms), level_from: None, message_from: 0 },
        None => Found { ms: None, level_from: Some(0), message_from: 0 },
    }
}

/// The message begins after the time, its bracket and the white space; the level after a host, if there is one.
fn found(line: &[u8], ms: i64, after_time: usize, in_bracket: bool, has_host: bool) -> Found {
    let closed = usize::from(in_bracket && line.get(after_time) == Some(&b']'));
    let rest = line[after_time + closed..].trim_ascii_start();
    let message_from = line.len() - rest.len();
    let host = if has_host { rest.iter().take_while(|b| !b.is_ascii_whitespace()).count() } else { 0 };
    Found { ms: Some(ms), level_from: Some(message_from + host), message_from }
}

/// Without the escape sequences that colour a terminal (CSI) or name its window and links (OSC).
fn without_colours(line: &[u8]) -> Cow<'_, [u8]> {
    const ESC: u8 = 0x1b;
    if memchr::memchr(ESC, line).is_none() {
        return Cow::Borrowed(line);
    }
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memchr(ESC, rest) {
        plain.extend_from_slice(&rest[..at]);
        let sequence = &rest[at..];
        match sequence_len(sequence) {
            Some(len) => rest = &sequence[len..],
            None => {
                plain.push(ESC);
                rest = &sequence[1..];
            }
        }
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

fn sequence_len(sequence: &[u8]) -> Option<usize> {
    match sequence.get(1)? {
        b'[' => {
            let inner = sequence[2..].iter().take_while(|b| (0x20..0x40).contains(*b)).count();
            sequence.get(2 + inner).filter(|b| (0x40..0x7f).contains(*b)).map(|_| 3 + inner)
        }
        b']' => {
            let end = memchr::memchr2(0x07, 0x1b, &sequence[2..])? + 2;
            match sequence[end] {
                0x07 => Some(end + 1),
                _ => (sequence.get(end + 1) == Some(&b'\\')).then_some(end + 2),
            }
        }
        _ => None,
    }
}

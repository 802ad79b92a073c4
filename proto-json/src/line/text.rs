//! A text line: the time at its beginning, the level by its place, the rest as the message.

use super::{Settings, place, time};
use crate::Level;

/// What stands at the beginning of a line of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// In Unix milliseconds.
    pub(super) ms: Option<i64>,
    pub(super) time_by: &'static str,
    /// And the rule that found it.
    pub(super) level: Option<(Level, &'static str)>,
    /// Where the message begins.
    pub(super) message_from: usize,
    /// Whether nothing can follow that belongs to it.
    pub(super) is_whole: bool,
}

/// Looks at a line; `near_ms` is the time before it.
pub(super) fn head(line: &[u8], settings: &Settings, near_ms: i64) -> Head {
    let found = find_time(line, settings, near_ms);
    let level = found.level_from.and_then(|at| place::level(&line[at..], found.ms.is_some()));
    Head {
        ms: found.ms,
        time_by: "time",
        level: level.map(|level| (level, "place")),
        message_from: found.message_from,
        is_whole: false,
    }
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

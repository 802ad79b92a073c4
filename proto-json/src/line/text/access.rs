//! Access logs: the level of a request is that of its status, which stands where each server puts it.

use super::Found;
use crate::Level;
use crate::line::{logfmt, time};
use jiff::tz::TimeZone;

type Told = (Level, &'static str);

/// The rule's name.
pub(super) const STATUS: &str = "status";

/// `10.0.0.1 - bob [24/Nov/2026:11:03:00 +0100] "GET / HTTP/1.1" 200 7`: the time in brackets behind the client. HAProxy's
/// lines begin likewise.
pub(super) fn find(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let (start, ms, len) = time::access(line, zone)?;
    let level = cups(&line[..start]).or_else(|| status(&line[start + len..]));
    Some(Found { inside: start > 0, level, ..Found::new("access log", ms, start + len) })
}

/// Of what follows the time in an access log.
pub(super) fn status(after: &[u8]) -> Option<Told> {
    let rest = after.trim_ascii_start();
    request(rest).or_else(|| haproxy(rest))
}

/// 5xx is an error, 4xx a warning.
pub(super) fn of_code(code: &[u8]) -> Option<Told> {
    let level = match code {
        [b'5', b'0'..=b'9', b'0'..=b'9'] => Level::Error,
        [b'4', b'0'..=b'9', b'0'..=b'9'] => Level::Warn,
        [b'0'..=b'3', b'0'..=b'9', b'0'..=b'9'] => Level::Info,
        _ => return None,
    };
    Some((level, STATUS))
}

/// `"GET / HTTP/1.1" 200 7`: behind the request in quotes.
pub(super) fn request(rest: &[u8]) -> Option<Told> {
    let after = rest.get(quoted_len(rest)?..)?.strip_prefix(b" ")?;
    first_word(after).and_then(of_code)
}

/// `http-in~ static/srv1 10/0/30/69/109 200 2750 …`: behind the five timers of HAProxy's HTTP log. Its TCP log has three,
/// and no status.
fn haproxy(rest: &[u8]) -> Option<Told> {
    if !rest.first()?.is_ascii_alphanumeric() {
        return None;
    }
    let mut words = rest[..rest.len().min(512)].split(|b| *b == b' ');
    let (_frontend, server, timers, code) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_timer = |timer: &[u8]| {
        !timer.is_empty() && timer.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+'))
    };
    let is_http = server.contains(&b'/')
        && timers.split(|b| *b == b'/').count() == 5
        && timers.split(|b| *b == b'/').all(is_timer);
    if is_http { of_code(code) } else { None }
}

/// `    192 10.0.0.1 TCP_MISS/503 4123 GET …`: what follows the time in squid's log.
pub(super) fn squid(after: &[u8]) -> Option<Told> {
    let mut words = after[..after.len().min(128)].split(|b| *b == b' ').filter(|word| !word.is_empty());
    let is_number = words.next()?.iter().all(u8::is_ascii_digit);
    let (_client, result) = (words.next()?, words.next()?);
    let slash = memchr::memchr(b'/', result).filter(|_| is_number)?;
    let is_code = result[..slash].iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
    if is_code && slash > 2 { of_code(&result[slash + 1..]) } else { None }
}

/// `GET / 200 3.123 ms - 7`, `GET / 200 7 - 3.123 ms`: morgan's `dev` and `tiny`, without a time.
pub(super) fn morgan(line: &[u8]) -> Option<Found> {
    let mut words = line.split(|b| *b == b' ');
    let method = words.next().filter(|word| (3..=7).contains(&word.len()))?;
    let is_request = method.iter().all(u8::is_ascii_uppercase) && words.next()?.starts_with(b"/");
    let level = words.next().filter(|_| is_request).and_then(of_code)?;
    let is_number = |word: &[u8]| word.first().is_some_and(u8::is_ascii_digit) || word == b"-";
    let (a, b, c, d) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_dev = is_number(a) && b == b"ms" && c == b"-" && is_number(d);
    let is_tiny = is_number(a) && b == b"-" && is_number(c) && d == b"ms";
    let found = Found { level: Some(level), inside: true, is_whole: true, ..Found::undated("morgan", 0) };
    (is_dev || is_tiny).then_some(found)
}

/// `E [24/Nov/2026:10:03:00 +0000] …`: a letter before the time, in CUPS' error log.
fn cups(before: &[u8]) -> Option<Told> {
    let level = match before {
        [b'A' | b'C' | b'X', b' '] => Level::Fatal,
        [b'E', b' '] => Level::Error,
        [b'W', b' '] => Level::Warn,
        [b'I' | b'N', b' '] => Level::Info,
        [b'D' | b'd', b' '] => Level::Debug,
        _ => return None,
    };
    Some((level, "CUPS"))
}

/// How long the string in quotes is with which a text begins.
pub(super) fn quoted_len(text: &[u8]) -> Option<usize> {
    if text.first() == Some(&b'"') { logfmt::quoted_len(text) } else { None }
}

fn first_word(text: &[u8]) -> Option<&[u8]> {
    text.split(|b| matches!(b, b' ' | b'\t')).next()
}

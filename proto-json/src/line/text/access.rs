//! Access logs: the time stands in brackets behind the client, the status behind the request.

use super::Found;
use crate::Level;
use crate::line::time;
use jiff::tz::TimeZone;

/// `10.0.0.1 - bob [24/Nov/2026:11:03:00 +0100] "GET / HTTP/1.1" 200 7`
pub(super) fn find(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let (start, ms, len) = time::access(line, zone)?;
    Some(Found { inside: start > 0, ..Found::new("access log", ms, start + len) })
}

/// The level of a request, when `rest` begins with one in quotes and its status: 5xx is an error, 4xx a warning.
pub(super) fn status(rest: &[u8]) -> Option<(Level, &'static str)> {
    let request = rest.strip_prefix(b"\"")?;
    let mut at = 0;
    let end = loop {
        at += memchr::memchr2(b'"', b'\\', request.get(at..)?)?;
        if request[at] == b'"' {
            break at;
        }
        at += 2;
    };
    let [b' ', hundreds @ b'1'..=b'5', b'0'..=b'9', b'0'..=b'9', after @ ..] = &request[end + 1..] else {
        return None;
    };
    if !matches!(after.first(), None | Some(b' ' | b'\t')) {
        return None;
    }
    let level = match hundreds {
        b'5' => Level::Error,
        b'4' => Level::Warn,
        _ => Level::Info,
    };
    Some((level, "status"))
}

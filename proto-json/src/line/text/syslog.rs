//! What stands behind the time in syslog's lines: a host, a program, and its message, which has a level where the
//! program's own lines have it.

use super::{Context, access, programs};
use crate::Level;
use crate::line::{logfmt, words};

/// The longest host's or program's name.
const LONGEST: usize = 128;

/// Whether a host and a program follow, as in `journalctl -o short-iso`: `… web1 app[7]: …`. Without a process's number,
/// only where `surely` nothing else writes such a time.
pub(super) fn follows(after: &[u8], surely: bool) -> bool {
    let host_is = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let program_is = |b: u8| host_is(b) || matches!(b, b'/' | b'(' | b')' | b'@');
    let (host, rest) = name(after.trim_ascii_start(), host_is);
    let (program, rest) = name(rest.strip_prefix(b" ").unwrap_or_default(), program_is);
    if host.is_empty() || program.is_empty() {
        return false;
    }
    let ends = match rest {
        [b'[', pid @ ..] => {
            let digits = pid.iter().take(10).take_while(|b| b.is_ascii_digit()).count();
            digits > 0 && pid[digits..].starts_with(b"]:")
        }
        [b':', ..] => surely || program == b"kernel",
        _ => false,
    };
    // Where a level stands, there is no host.
    ends && words::level(host).is_none()
}

/// The name that a text begins with, and what follows it.
fn name(text: &[u8], is_part: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let head = &text[..text.len().min(LONGEST)];
    text.split_at(head.iter().position(|b| !is_part(*b)).unwrap_or(head.len()))
}

/// Whether a time is one that rsyslog writes, and hardly anyone else: `2026-11-24T10:03:00.123456+00:00`
pub(super) fn is_rsyslogs(time: &[u8]) -> bool {
    time.len() == 32 && time[10] == b'T' && time[19] == b'.' && matches!(time[26], b'+' | b'-')
}

/// How long the host is, with which the rest of a line begins; 0 where something else stands there: a level in capitals
/// (slog), something in brackets (Tor), a message's name (Cisco).
pub(super) fn host_len(rest: &[u8]) -> usize {
    let len = rest.iter().take_while(|b| !b.is_ascii_whitespace()).count();
    let word = &rest[..len];
    let none = matches!(word.first(), Some(b'[' | b'(' | b'<' | b'%' | b'*'))
        || word.ends_with(b":")
        || words::in_text(word).is_some()
            && word.iter().all(u8::is_ascii_uppercase)
            && !has_tag(&rest[len..]);
    if none { 0 } else { len }
}

/// Whether the first word ends like a program's name.
fn has_tag(after: &[u8]) -> bool {
    let word = after.trim_ascii_start().split(|b| *b == b' ').next().unwrap_or_default();
    word.ends_with(b":")
}

/// The level that a message has by its own form: an access log's status, glog's letter, logfmt's `level=`.
pub(super) fn level(after_host: &[u8], context: &Context<'_>) -> Option<(Level, &'static str)> {
    let head = &after_host[..after_host.len().min(128)];
    let colon = memchr::memchr_iter(b':', head).find(|at| head.get(at + 1) == Some(&b' '))?;
    let message = after_host[colon + 2..].trim_ascii_start();
    match message.first()? {
        b'I' | b'W' | b'E' | b'F' if message.get(1)?.is_ascii_digit() => {
            programs::glog(message, context)?.level
        }
        b'a'..=b'z' if logfmt::begins(message) => logfmt::level(message).map(|level| (level, "level=")),
        _ => None,
    }
    .or_else(|| access::find(message, context.zone)?.level)
}

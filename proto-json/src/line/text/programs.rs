//! Forms of single programs and libraries.

use super::{Context, Found};
use crate::Level;
use crate::line::time::{self, Cursor};
use crate::line::words;
use jiff::tz::TimeZone;

/// `I0629 10:03:00.123456    7 trace.go:897] …` (glog, klog), or with the year: `I20260629 10:03:00.123456`.
pub(super) fn glog(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let [letter @ (b'I' | b'W' | b'E' | b'F'), rest @ ..] = line else { return None };
    let digits = rest.iter().take(9).take_while(|b| b.is_ascii_digit()).count();
    let (ms, len) = match digits {
        4 => time::month_day(rest, context.zone, context.near)?,
        8 => time::compact(rest, context.zone)?,
        _ => return None,
    };
    let level = words::letter(*letter).map(|level| (level, "glog"));
    Some(Found { level, ..Found::new("glog", ms, 1 + len) })
}

/// `7:M 24 Nov 2026 10:03:00.123 * Ready to accept connections`: a sign stands for the level.
pub(super) fn redis(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let digits = line.iter().take(11).take_while(|b| b.is_ascii_digit()).count();
    let [b':', b'M' | b'S' | b'C' | b'X', b' ', rest @ ..] = line.get(digits..)? else { return None };
    let (ms, len) = time::day_month_year(rest, zone)?;
    let level = match rest.get(len..len + 3) {
        Some([b' ', sign, b' ']) => match sign {
            b'.' | b'-' => Some(Level::Debug),
            b'*' => Some(Level::Info),
            b'#' => Some(Level::Warn),
            _ => None,
        },
        _ => None,
    };
    let sign = if level.is_some() { 2 } else { 0 };
    let level = level.map(|level| (level, "Redis"));
    Some(Found { level, ..Found::new("Redis", ms, digits + 3 + len + sign) })
}

/// `11-24 10:03:00.123  1702  2395 D WindowManager: …`
pub(super) fn logcat(line: &[u8], context: &Context<'_>) -> Option<Found> {
    if line.get(2) != Some(&b'-') {
        return None;
    }
    let (ms, len) = time::month_day(line, context.zone, context.near)?;
    let mut words = line[len..].split(|b| *b == b' ').filter(|word| !word.is_empty());
    let is_number = |word: Option<&[u8]>| word.is_some_and(|word| word.iter().all(u8::is_ascii_digit));
    let level = if is_number(words.next()) && is_number(words.next()) {
        words.next().filter(|word| word.len() == 1).and_then(|word| words::letter(word[0]))
    } else {
        None
    };
    Some(Found { level: level.map(|level| (level, "logcat")), ..Found::new("month and day", ms, len) })
}

/// `E, [2026-11-24T10:03:00.123456 #7] ERROR -- app: …`
pub(super) fn ruby(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let [letter, b',', b' ', b'[', rest @ ..] = line else { return None };
    let (ms, len) = time::dated(rest, zone)?;
    let close = memchr::memchr(b']', &rest[..rest.len().min(len + 24)])?;
    let level = words::letter(*letter).map(|level| (level, "Ruby"));
    Some(Found { level, ..Found::new("Ruby", ms, 4 + close + 1) })
}

/// `[   12.345678] usb 1-1: …`: seconds since the machine began, which is no time that can be told.
pub(super) fn kernel_clock(line: &[u8]) -> Option<Found> {
    let mut at = Cursor::new(line);
    at.one_of(b"[")?;
    at.spaces();
    let digits = line[at.at..].iter().take(9).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 8 {
        return None;
    }
    at.digits(digits)?;
    at.one_of(b".")?;
    at.digits(6)?;
    at.one_of(b"]")?;
    let is_syslog = is_syslog(&line[at.at..]);
    Some(Found { ms: None, is_syslog, ..Found::new("seconds since the boot", 0, at.at) })
}

/// `kern  :err   : [   12.345678] …`, as `dmesg -x` writes it.
pub(super) fn dmesg(line: &[u8]) -> Option<Found> {
    const FACILITIES: [&[u8]; 5] = [b"kern", b"user", b"daemon", b"syslog", b"auth"];
    let mut parts = line.splitn(3, |b| *b == b':');
    let facility = parts.next()?.trim_ascii();
    let word = parts.next()?.trim_ascii();
    if !FACILITIES.contains(&facility) || facility.len() + word.len() > 20 {
        return None;
    }
    let rest = parts.next()?;
    let level = words::level(word).map(|level| (level, "dmesg"))?;
    let start = line.len() - rest.trim_ascii_start().len();
    let found = kernel_clock(&line[start..])?;
    Some(Found { level: Some(level), after: start + found.after, ..found })
}

/// `type=SYSCALL msg=audit(1795514580.123:456): …`
pub(super) fn audit(line: &[u8]) -> Option<Found> {
    if !line.starts_with(b"type=") {
        return None;
    }
    let head = &line[..line.len().min(64)];
    let start = memchr::memmem::find(head, b" msg=audit(")? + 11;
    let colon = memchr::memchr(b':', &line[start..line.len().min(start + 20)])?;
    let ms = time::epoch(std::str::from_utf8(&line[start..start + colon]).ok()?)?;
    let close = memchr::memchr(b')', &line[start..line.len().min(start + 40)])?;
    Some(Found { inside: true, is_whole: true, ..Found::new("auditd", ms, start + close + 1) })
}

/// Whether a host and a program follow, as in `journalctl -o short-iso`: `… web1 app[7]: …`
pub(super) fn is_syslog(after: &[u8]) -> bool {
    let rest = after.trim_ascii_start();
    let head = &rest[..rest.len().min(160)];
    let Some(space) = memchr::memchr(b' ', head) else { return false };
    let host = &head[..space];
    let tag = &head[space + 1..];
    let Some(colon) = memchr::memchr(b':', tag) else { return false };
    let tag = &tag[..colon];
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    let (name, pid) = match memchr::memchr(b'[', tag) {
        Some(open) => (&tag[..open], tag[open + 1..].strip_suffix(b"]")),
        None => (tag, None),
    };
    !host.is_empty()
        && host.iter().all(is_name)
        // A level stands there, and no host.
        && words::level(host).is_none()
        && !name.is_empty()
        && name.iter().all(|b| is_name(b) || b"/()@".contains(b))
        && (pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit)) || name == b"kernel")
}

/// How long the host is, with which the rest of a syslog line begins.
pub(super) fn host_len(rest: &[u8]) -> usize {
    rest.iter().take_while(|b| !b.is_ascii_whitespace()).count()
}

/// How long a zone's short name is that stands before a process in brackets, as Postgres has it: ` CET [7] LOG: …`. Which
/// zone it is can't be told by it; times without one are in that of the settings.
pub(super) fn zone_name_len(after: &[u8]) -> usize {
    let Some(rest) = after.strip_prefix(b" ") else { return 0 };
    let len = rest.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count();
    let follows = rest.get(len..).is_some_and(|rest| rest.starts_with(b" ["));
    if (3..=5).contains(&len) && follows && words::level(&rest[..len]).is_none() { len + 1 } else { 0 }
}

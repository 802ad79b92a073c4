//! Forms of single programs and libraries.

use super::{Context, Found, access, syslog};
use crate::Level;
use crate::line::time::{self, Cursor};
use crate::line::words;
use jiff::tz::TimeZone;

/// `I0629 10:03:00.123456    7 trace.go:897] …` (glog, klog), or with the year: `I20260629 10:03:00.123456`, and
/// `I260629 10:03:00.123456` (CockroachDB).
pub(super) fn glog(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let [letter @ (b'I' | b'W' | b'E' | b'F'), rest @ ..] = line else { return None };
    let digits = rest.iter().take(9).take_while(|b| b.is_ascii_digit()).count();
    let (ms, len) = match digits {
        4 => time::month_day(rest, context.zone, context.near)?,
        6 => time::two_digit_year(rest, context.zone)?,
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

/// `11-24 10:03:00.123  1702  2395 D WindowManager: …`, `11-24 10:03:00.123 D/WindowManager( 1702): …`
pub(super) fn logcat(line: &[u8], context: &Context<'_>) -> Option<Found> {
    if line.get(2) != Some(&b'-') {
        return None;
    }
    let (ms, len) = time::month_day(line, context.zone, context.near)?;
    if let [b' ', letter, b'/', ..] = line[len..] {
        let level = words::letter(letter).map(|level| (level, "logcat"));
        return Some(Found { level, ..Found::new("month and day", ms, len) });
    }
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
    let is_syslog = syslog::follows(&line[at.at..], false);
    Some(Found { is_syslog, ..Found::undated("seconds since the boot", at.at) })
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

/// `type=SYSCALL msg=audit(1795514580.123:456): …`, `node=web1 type=SYSCALL msg=audit(…`
pub(super) fn audit(line: &[u8]) -> Option<Found> {
    if !line.starts_with(b"type=") && !line.starts_with(b"node=") {
        return None;
    }
    let head = &line[..line.len().min(192)];
    let start = memchr::memmem::find(head, b" msg=audit(")? + 11;
    let colon = memchr::memchr(b':', &line[start..line.len().min(start + 20)])?;
    let ms = time::epoch(std::str::from_utf8(&line[start..start + colon]).ok()?)?;
    let close = memchr::memchr(b')', &line[start..line.len().min(start + 40)])?;
    Some(Found { inside: true, is_whole: true, ..Found::new("auditd", ms, start + close + 1) })
}

/// `[E 261124 10:03:00 web:7] …` (Tornado), `[W 2026-11-24 10:03:00.123 ServerApp] …` (Jupyter), `[ N 2026-11-24 …`
/// (Passenger): the letter stands before the time. `inner` is what follows the bracket.
pub(super) fn lettered(inner: &[u8], context: &Context<'_>) -> Option<Found> {
    let space = usize::from(inner.first() == Some(&b' '));
    let [letter @ b'A'..=b'Z', b' ', rest @ ..] = &inner[space..] else { return None };
    let level = words::letter(*letter).map(|level| (level, "letter"))?;
    let (ms, len) = time::dated(rest, context.zone)
        .or_else(|| time::two_digit_year(rest, context.zone))
        .or_else(|| time::clock(rest, context.zone, context.near))?;
    Some(Found { level: Some(level), ..Found::new("letter and time", ms, 1 + space + 2 + len) })
}

/// `[2026/11/24 10:03:00.123456,  0] ../source3/smbd/server.c:7(main)`: how verbose Samba must be to write it, as a
/// number. Source: `DBGLVL_…` in Samba's lib/util/debug.h.
pub(super) fn samba(after: &[u8]) -> Option<(Level, &'static str)> {
    let number = after.strip_prefix(b", ")?.trim_ascii_start();
    let len = number.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
    if !matches!(number.get(len), Some(b',' | b']')) {
        return None;
    }
    let level = match &number[..len] {
        b"0" => Level::Error,
        b"1" => Level::Warn,
        b"2" | b"3" | b"4" | b"5" => Level::Info,
        [_] | [_, _] => Level::Debug,
        _ => return None,
    };
    Some((level, "Samba"))
}

/// `=ERROR REPORT==== 24-Nov-2026::10:03:00.123456 ===`
pub(super) fn erlang(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let head = &line[..line.len().min(48)];
    let end = memchr::memmem::find(head, b" REPORT==== ")?;
    let (ms, len) = time::day_month_year(&line[end + 12..], zone)?;
    let level = match line.get(1..end)? {
        b"CRASH" | b"SUPERVISOR" => Some(Level::Error),
        b"PROGRESS" => Some(Level::Info),
        word => words::in_text(word),
    };
    let level = level.map(|level| (level, "Erlang"));
    Some(Found { level, inside: true, ..Found::new("Erlang", ms, end + 12 + len) })
}

/// `<Nov 24, 2026 10:03:00 AM UTC> <Error> …`, `####<Nov 24, …`
pub(super) fn weblogic(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let hashes = line.iter().take(4).take_while(|b| **b == b'#').count();
    let inner = line[hashes..].strip_prefix(b"<")?;
    let (ms, len) = time::java_util_logging(inner, zone)?;
    (inner.get(len) == Some(&b'>')).then(|| Found::new("WebLogic", ms, hashes + 1 + len + 1))
}

/// `7:20261124:100300.123 …`: Zabbix puts the process before the time.
pub(super) fn zabbix(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let digits = line.iter().take(11).take_while(|b| b.is_ascii_digit()).count();
    let (ms, len) = time::compact(line.get(digits + 1..)?, zone)?;
    Some(Found::new("Zabbix", ms, digits + 1 + len))
}

/// `Started GET "/orders" for 127.0.0.1 at 2026-11-24 10:03:00 +0000`: Rails' first line of a request.
pub(super) fn rails(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let rest = line.strip_prefix(b"Started ")?;
    let method = rest.iter().take(8).take_while(|b| b.is_ascii_uppercase()).count();
    let path = rest.get(method..)?.strip_prefix(b" ")?;
    let behind = path.get(access::quoted_len(path)?..)?.strip_prefix(b" for ")?;
    let client = behind.iter().take(64).position(|b| *b == b' ')?;
    let at = behind[client..].strip_prefix(b" at ")?;
    let (ms, len) = time::dated(at, zone)?;
    Some(Found { inside: true, ..Found::new("Rails", ms, line.len() - at.len() + len) })
}

//! A text line: the time at its beginning, the level by its place, the rest as the message.
//!
//! The first bytes say which forms are worth a try, so that a line is looked at by one or two of them only:
//!
//! ```text
//! <  PRI, then what follows it; WebLogic     [  a time in brackets, or the kernel's clock
//! 0  by how many digits, and what follows    A  by its first three letters: months, weekdays, programs
//! -  clusters    =  Erlang    #  MySQL's slow log; W3C's header is no event
//! else, and if none of them fits: an access log, or a time behind a level, a name or a thread
//! ```

mod access;
mod clusters;
mod programs;
mod syslog;
mod w3c;

pub(super) use w3c::{Columns, directive};

use super::words;
use super::{Settings, place, time};
use crate::Level;
use jiff::tz::TimeZone;
use time::{Cursor, Near};

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
    /// Whether it begins an event although it has no time that can be told.
    pub(super) begins: bool,
    /// Whether nothing can follow that belongs to it.
    pub(super) is_whole: bool,
    /// Whether the level stands in the next line.
    pub(super) level_follows: bool,
}

/// Where a line's time stands, and what stands behind it.
#[derive(Debug, Clone, Copy)]
struct Found {
    form: &'static str,
    ms: Option<i64>,
    /// Where the time, and what belongs to it, ends.
    after: usize,
    /// What the form itself says of the level.
    level: Option<(Level, &'static str)>,
    /// Whether a host and a program's name follow, as in syslog.
    is_syslog: bool,
    /// Whether the time stands in the middle, so that what precedes it belongs to the message.
    inside: bool,
    is_whole: bool,
    level_follows: bool,
}

impl Found {
    const fn new(form: &'static str, ms: i64, after: usize) -> Self {
        Self {
            form,
            ms: Some(ms),
            after,
            level: None,
            is_syslog: false,
            inside: false,
            is_whole: false,
            level_follows: false,
        }
    }

    /// Without a time that can be told.
    const fn undated(form: &'static str, after: usize) -> Self {
        Self { ms: None, ..Self::new(form, 0, after) }
    }
}

/// What the forms must know besides the line.
struct Context<'a> {
    zone: &'a TimeZone,
    near: Near,
}

/// Looks at a line; `near` is the time before it, and `columns` what a header before it has named.
pub(super) fn head(line: &[u8], settings: &Settings, near: Near, columns: Option<Columns>) -> Head {
    let context = Context { zone: &settings.timezone, near };
    let indent = line.len() - line.trim_ascii_start().len();
    let by_columns = columns.and_then(|columns| w3c::line(&line[indent..], columns));
    match by_columns.or_else(|| find(&line[indent..], &context)) {
        Some(found) => with_time(line, indent, found, &context),
        None => Head {
            ms: None,
            time_by: "",
            level: place::level(line, false).map(|level| (level, "place")),
            message_from: 0,
            begins: false,
            is_whole: false,
            level_follows: false,
        },
    }
}

fn with_time(line: &[u8], indent: usize, found: Found, context: &Context<'_>) -> Head {
    let after = indent + found.after;
    let rest = line[after..].trim_ascii_start();
    let from = line.len() - rest.len();
    let by_place = |rest: &[u8]| place::level(rest, true).map(|level| (level, "place"));
    let level = if found.is_syslog {
        let message = &rest[syslog::host_len(rest)..];
        let own = syslog::level(message, context);
        // What a server sends says the same of every request.
        let status = own.filter(|(_, by)| *by == access::STATUS);
        status.or(found.level).or(own).or_else(|| by_place(message))
    } else {
        found.level.or_else(|| access::request(rest)).or_else(|| by_place(rest))
    };
    Head {
        ms: found.ms,
        time_by: found.form,
        level,
        message_from: if found.inside { 0 } else { from },
        begins: true,
        is_whole: found.is_whole || level.is_some_and(|(_, by)| by == access::STATUS),
        level_follows: found.level_follows,
    }
}

fn find(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let by_form = match line.first()? {
        b'<' => priority(line, context).or_else(|| programs::weblogic(line, context.zone)),
        b'[' => bracketed(line, context),
        b'0'..=b'9' => digits(line, context),
        b'A'..=b'Z' | b'a'..=b'z' => letters(line, context),
        b'-' => clusters::labelled(line),
        b'=' => programs::erlang(line, context.zone),
        b'#' => hash(line, context.zone),
        _ => None,
    };
    by_form.or_else(|| access::find(line, context.zone)).or_else(|| near(line, context))
}

fn hash(line: &[u8], zone: &TimeZone) -> Option<Found> {
    let Some(time) = line.strip_prefix(b"# Time: ") else { return programs::weblogic(line, zone) };
    let (ms, len) = time::dated(time, zone)?;
    Some(Found::new("MySQL's slow log", ms, 8 + len))
}

/// `<13>…`: facility and severity, as in syslog, or the severity alone, as systemd reads it.
fn priority(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let mut at = Cursor::new(line);
    at.one_of(b"<")?;
    let width = line[1..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
    let number = at.digits(width).filter(|n| width > 0 && *n < 192)?;
    at.one_of(b">")?;
    let level = words::syslog(u64::from(number & 7)).map(|level| (level, "PRI"));
    let start = at.at;
    // RFC 5424 has its version here.
    if at.text(b"1 ").is_some() {
        let inner = Cursor { bytes: line, at: at.at };
        if let Some((ms, len)) = time::dated(&line[at.at..], context.zone) {
            return Some(Found { level, is_syslog: true, ..Found::new("RFC 5424", ms, inner.at + len) });
        }
        if at.text(b"- ").is_some() {
            return Some(Found { level, is_syslog: true, ..Found::undated("RFC 5424", at.at) });
        }
    }
    let rest = &line[start..];
    let inner = match rest.first() {
        Some(b'[') => bracketed(rest, context),
        Some(b'0'..=b'9') => digits(rest, context),
        Some(b'A'..=b'Z') => letters(rest, context),
        _ => None,
    };
    let found = inner.unwrap_or(Found::undated("PRI", 0));
    Some(Found { after: start + found.after, level: found.level.or(level), ..found })
}

/// `[2026-11-24 10:03:00]`, `[Tue Nov 24 10:03:00 2026]`, `[10:03:00 INF]`, `[   12.345678]`
fn bracketed(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let inner = &line[1..];
    let Context { zone, near } = *context;
    let (form, (ms, len)) = match inner.first()? {
        b'0'..=b'9' => {
            if let Some(found) = time::dated(inner, zone) {
                ("ISO 8601", found)
            } else if let Some(found) = time::day_month_year(inner, zone) {
                ("day, month, year", found)
            } else if let Some(found) = time::clock(inner, zone, near) {
                ("time of day", found)
            } else if let Some(found) = time::month_day(inner, zone, near) {
                ("month and day", found)
            } else if let Some(found) = time::epoch_prefix(inner) {
                ("Unix time", found)
            } else {
                return programs::kernel_clock(line);
            }
        }
        b' ' => return programs::kernel_clock(line).or_else(|| programs::lettered(inner, context)),
        b'A'..=b'Z' if inner.get(1) == Some(&b' ') => return programs::lettered(inner, context),
        _ if time::is_weekday(inner) => time::ctime(inner, zone)
            .map(|found| ("ctime", found))
            .or_else(|| time::day_month_year(inner, zone).map(|found| ("day, month, year", found)))?,
        _ => ("RFC 3164", time::syslog(inner, zone, near)?),
    };
    let after = &inner[len..];
    let level = programs::samba(after).filter(|_| inner.get(4) == Some(&b'/'));
    let closed = match level {
        Some(_) => memchr::memchr(b']', after).map_or(0, |end| end + 1),
        None => usize::from(after.first() == Some(&b']')),
    };
    Some(Found { level, ..Found::new(form, ms, 1 + len + closed) })
}

/// By how many digits the line begins with, and what follows them.
fn digits(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let Context { zone, near } = *context;
    let len = line.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let simple =
        |form: &'static str, found: Option<(i64, usize)>| found.map(|(ms, len)| Found::new(form, ms, len));
    match (len, line.get(len)?) {
        (4, b'-' | b'/' | b'.') => {
            let (ms, len) = time::dated(line, zone)?;
            let is_syslog = syslog::follows(&line[len..], syslog::is_rsyslogs(&line[..len]));
            Some(Found { is_syslog, ..Found::new("ISO 8601", ms, len + zone_name_len(&line[len..])) })
        }
        (10 | 13 | 16 | 19, b'.' | b' ' | b'\t' | b',') => {
            let (ms, len) = time::epoch_prefix(line)?;
            let (level, is_syslog) = (access::squid(&line[len..]), syslog::follows(&line[len..], false));
            Some(Found { level, is_syslog, ..Found::new("Unix time", ms, len) })
        }
        (1 | 2, b':') => simple("time of day", time::clock(line, zone, near))
            .or_else(|| simple("time of day", time::kitchen(line, zone, near)))
            .or_else(|| programs::redis(line, zone))
            .or_else(|| programs::zabbix(line, zone)),
        (1 | 2, b' ' | b'-' | b'/') => simple("day, month, year", time::day_month_year(line, zone))
            .or_else(|| simple("two digits of year", time::two_digit_year(line, zone)))
            .or_else(|| programs::logcat(line, context)),
        (8, b'T' | b' ' | b'-' | b'_' | b':') => simple("ISO 8601, compact", time::compact(line, zone)),
        (6, b' ') => simple("two digits of year", time::two_digit_year(line, zone))
            .or_else(|| clusters::numbered(line)),
        (_, b' ') => clusters::numbered(line),
        (_, b':') => programs::redis(line, zone).or_else(|| programs::zabbix(line, zone)),
        _ => None,
    }
}

/// How long a zone's name is that says nothing, and stands before a process in brackets, as Postgres has it: ` IST [7] …`
fn zone_name_len(after: &[u8]) -> usize {
    let Some(rest) = after.strip_prefix(b" ") else { return 0 };
    let len = rest.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count();
    let follows = rest.get(len..).is_some_and(|rest| rest.starts_with(b" ["));
    if (3..=5).contains(&len) && follows && words::level(&rest[..len]).is_none() { len + 1 } else { 0 }
}

/// By the first letters.
fn letters(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let Context { zone, near } = *context;
    match line {
        [b'I' | b'W' | b'E' | b'F', b'0'..=b'9', ..] => programs::glog(line, context),
        [_, b',', ..] => programs::ruby(line, zone),
        [b't', b'y', b'p', ..] | [b'n', b'o', b'd', ..] => programs::audit(line),
        [b'k', b'e', b'r', ..]
        | [b'u', b's', b'e', ..]
        | [b'd', b'a', b'e', ..]
        | [b's', b'y', b's', ..]
        | [b'a', b'u', b't', ..] => programs::dmesg(line),
        [b'S', b't', b'a', ..] => programs::rails(line, zone),
        _ if time::month(line).is_some() => match time::syslog(line, zone, near) {
            Some((ms, len)) => Some(Found { is_syslog: true, ..Found::new("RFC 3164", ms, len) }),
            None => time::java_util_logging(line, zone)
                .map(|(ms, len)| Found { level_follows: true, ..Found::new("java.util.logging", ms, len) }),
        },
        _ if time::is_weekday(line) => match time::ctime(line, zone) {
            Some((ms, len)) => {
                let is_syslog = syslog::follows(&line[len..], false);
                Some(Found { is_syslog, ..Found::new("weekday and date", ms, len) })
            }
            None => time::day_month_year(line, zone).map(|(ms, len)| Found::new("day, month, year", ms, len)),
        },
        [b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9' | b'_', ..] => {
            access::morgan(line).or_else(|| clusters::labelled(line))
        }
        _ => None,
    }
}

/// A time behind up to three tokens that loggers put before it: a level, a name with a colon, a thread in brackets.
fn near(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let mut from = 0;
    // Most lines have no time of day anywhere, and then only a number can be one.
    let head = &line[..line.len().min(192)];
    let is_digit = |at: usize| head.get(at).is_some_and(u8::is_ascii_digit);
    let has_clock = memchr::memchr_iter(b':', head).any(|at| at > 0 && is_digit(at - 1) && is_digit(at + 1));
    for _ in 0..if has_clock { 3 } else { 1 } {
        let (len, leads) = place::leading(&line[from..])?;
        if !leads {
            return None;
        }
        from += len;
        if from > 128 {
            return None;
        }
        let rest = &line[from..];
        let bracket = usize::from(rest.first() == Some(&b'['));
        let timed = &rest[bracket..];
        let is_closed = |(_, len): &(i64, usize)| bracket == 0 || timed.get(*len) == Some(&b']');
        let dated = match timed.first() {
            Some(b'0'..=b'9') => time::dated(timed, context.zone)
                .or_else(|| time::day_month_year(timed, context.zone))
                .or_else(|| time::epoch_prefix(timed).filter(is_closed))
                .or_else(|| geth(timed, bracket, context)),
            _ if time::is_weekday(timed) => time::day_month_year(timed, context.zone),
            _ => None,
        };
        if let Some((ms, len)) = dated {
            let level = place::level(&line[..from], false).map(|level| (level, "place"));
            let closed = usize::from(bracket == 1 && timed.get(len) == Some(&b']'));
            let after = from + bracket + len + closed;
            return Some(Found { level, inside: true, ..Found::new("ISO 8601, near", ms, after) });
        }
    }
    None
}

/// `INFO [11-24|10:03:00.123] …`, as geth writes it.
fn geth(timed: &[u8], bracket: usize, context: &Context<'_>) -> Option<(i64, usize)> {
    let is_it = bracket == 1 && timed.get(5) == Some(&b'|');
    if is_it { time::month_day(timed, context.zone, context.near) } else { None }
}

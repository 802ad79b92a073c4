//! A text line: the time at its beginning, the level by its place, the rest as the message.
//!
//! The first byte says which forms are worth a try, so that a line is looked at by a few of them only:
//!
//! ```text
//! <  PRI, then what follows it          [  a time in brackets, or the kernel's clock
//! 0  dates, numbers, Redis, logcat      A  glog, syslog, weekdays, Ruby
//! else, and if none of them fits: an access log, or a time behind a level, a name or a thread
//! ```

mod access;
mod programs;

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
}

/// What the forms must know besides the line.
struct Context<'a> {
    zone: &'a TimeZone,
    near: Near,
}

/// Looks at a line; `near` is the time before it.
pub(super) fn head(line: &[u8], settings: &Settings, near: Near) -> Head {
    let context = Context { zone: &settings.timezone, near };
    let indent = line.len() - line.trim_ascii_start().len();
    match find(&line[indent..], &context) {
        Some(found) => with_time(line, indent, found),
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

fn with_time(line: &[u8], indent: usize, found: Found) -> Head {
    let after = indent + found.after;
    let rest = line[after..].trim_ascii_start();
    let from = line.len() - rest.len();
    let level_from = from + if found.is_syslog { programs::host_len(rest) } else { 0 };
    let by_place = || place::level(&line[level_from..], true).map(|level| (level, "place"));
    let status = if found.level.is_none() { access::status(rest) } else { None };
    let level = found.level.or(status).or_else(by_place);
    Head {
        ms: found.ms,
        time_by: found.form,
        level,
        message_from: if found.inside { 0 } else { from },
        begins: true,
        is_whole: found.is_whole || status.is_some(),
        level_follows: found.level_follows,
    }
}

fn find(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let by_form = match line.first()? {
        b'<' => priority(line, context),
        b'[' => bracketed(line, context),
        b'0'..=b'9' => digits(line, context),
        b'A'..=b'Z' | b'a'..=b'z' => letters(line, context),
        b'#' => {
            let (ms, len) = time::dated(line.strip_prefix(b"# Time: ")?, context.zone)?;
            Some(Found::new("MySQL's slow log", ms, 8 + len))
        }
        _ => None,
    };
    by_form.or_else(|| access::find(line, context.zone)).or_else(|| near(line, context))
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
            return Some(Found { ms: None, level, is_syslog: true, ..Found::new("RFC 5424", 0, at.at) });
        }
    }
    let rest = &line[start..];
    let inner = match rest.first() {
        Some(b'[') => bracketed(rest, context),
        Some(b'0'..=b'9') => digits(rest, context),
        Some(b'A'..=b'Z') => letters(rest, context),
        _ => None,
    };
    let found = inner.unwrap_or(Found { ms: None, ..Found::new("PRI", 0, 0) });
    Some(Found { after: start + found.after, level: found.level.or(level), ..found })
}

/// `[2026-11-24 10:03:00]`, `[Tue Nov 24 10:03:00 2026]`, `[10:03:00 INF]`, `[   12.345678]`
fn bracketed(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let inner = &line[1..];
    let Context { zone, near } = *context;
    if let Some(found) = programs::kernel_clock(line) {
        return Some(found);
    }
    let (form, (ms, len)) = if let Some(found) = time::dated(inner, zone) {
        ("ISO 8601", found)
    } else if let Some(found) = time::day_month_year(inner, zone) {
        ("day, month, year", found)
    } else if let Some(found) = time::ctime(inner, zone) {
        ("ctime", found)
    } else if let Some(found) = time::clock(inner, zone, near) {
        ("time of day", found)
    } else if let Some(found) = time::syslog(inner, zone, near) {
        ("RFC 3164", found)
    } else if let Some(found) = time::month_day(inner, zone, near) {
        ("month and day", found)
    } else if let Some(found) = time::epoch_prefix(inner) {
        ("Unix time", found)
    } else {
        return None;
    };
    let closed = usize::from(line.get(1 + len) == Some(&b']'));
    Some(Found::new(form, ms, 1 + len + closed))
}

fn digits(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let Context { zone, near } = *context;
    if let Some((ms, len)) = time::dated(line, zone) {
        let is_syslog = programs::is_syslog(&line[len..]);
        let after = len + programs::zone_name_len(&line[len..]);
        return Some(Found { is_syslog, ..Found::new("ISO 8601", ms, after) });
    }
    if let Some((ms, len)) = time::epoch_prefix(line) {
        let is_syslog = programs::is_syslog(&line[len..]);
        return Some(Found { is_syslog, ..Found::new("Unix time", ms, len) });
    }
    if let Some((ms, len)) = time::clock(line, zone, near) {
        return Some(Found::new("time of day", ms, len));
    }
    let simple = time::compact(line, zone)
        .map(|found| ("ISO 8601, compact", found))
        .or_else(|| time::day_month_year(line, zone).map(|found| ("day, month, year", found)))
        .or_else(|| time::two_digit_year(line, zone).map(|found| ("two digits of year", found)));
    if let Some((form, (ms, len))) = simple {
        return Some(Found::new(form, ms, len));
    }
    programs::redis(line, zone).or_else(|| programs::logcat(line, context))
}

fn letters(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let Context { zone, near } = *context;
    if let Some(found) = programs::glog(line, context) {
        return Some(found);
    }
    if let Some((ms, len)) = time::syslog(line, zone, near) {
        return Some(Found { is_syslog: true, ..Found::new("RFC 3164", ms, len) });
    }
    if let Some((ms, len)) = time::ctime(line, zone) {
        let is_syslog = programs::is_syslog(&line[len..]);
        return Some(Found { is_syslog, ..Found::new("weekday and date", ms, len) });
    }
    if let Some((ms, len)) = time::day_month_year(line, zone) {
        return Some(Found::new("day, month, year", ms, len));
    }
    if let Some((ms, len)) = time::java_util_logging(line, zone) {
        return Some(Found { level_follows: true, ..Found::new("java.util.logging", ms, len) });
    }
    programs::ruby(line, zone).or_else(|| programs::dmesg(line)).or_else(|| programs::audit(line))
}

/// A time behind up to three tokens that loggers put before it: a level, a name with a colon, a thread in brackets.
fn near(line: &[u8], context: &Context<'_>) -> Option<Found> {
    let mut from = 0;
    for _ in 0..3 {
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
        let dated = time::dated(timed, context.zone)
            .or_else(|| time::day_month_year(timed, context.zone))
            .or_else(|| if bracket == 0 { time::epoch_prefix(timed) } else { None });
        if let Some((ms, len)) = dated {
            let level = place::level(&line[..from], false).map(|level| (level, "place"));
            let closed = usize::from(bracket == 1 && timed.get(len) == Some(&b']'));
            let after = from + bracket + len + closed;
            return Some(Found { level, inside: true, ..Found::new("ISO 8601, near", ms, after) });
        }
    }
    None
}

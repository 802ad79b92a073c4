//! Times that lack the year, its century, or the whole date.

use super::cursor::Cursor;
use super::{Near, civil, instant, plausible, zones};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// How far ahead of the time before it a time without a year may be. The window is a year wide, and so reaches
/// about nine months back: log lines come in order, but a quiet service may log nothing for weeks.
const AHEAD_MS: i64 = 90 * DAY_MS;

const DAY_MS: i64 = 86_400_000;

/// A year is longer than this, wherever it begins and whatever the clocks do.
const SHORTEST_YEAR_MS: i64 = 364 * DAY_MS;

/// The same for a time without a date: half a day either way.
const HALF_DAY_MS: i64 = 43_200_000;

/// A time without a year: the latest one is taken that puts it at most 90 days after the time before it, or a day (clocks and
/// zones differ) after the file's.
fn nearest(near: Near, zone: &TimeZone, civil: impl Fn(i16) -> Option<DateTime>) -> Option<i64> {
    let latest = near.ms.saturating_add(if near.of_a_line { AHEAD_MS } else { DAY_MS });
    let this_year = zone.to_datetime(Timestamp::from_millisecond(near.ms).ok()?).year();
    let in_year = |year| {
        let ms = zone.to_ambiguous_timestamp(civil(year)?).compatible().ok()?.as_millisecond();
        (ms <= latest).then_some(ms)
    };
    // The next year's is near only for those that are long past in this one.
    let this = in_year(this_year).filter(|ms| latest - ms < SHORTEST_YEAR_MS);
    // Eight years back there was a 29 February for certain.
    let years = (this_year.saturating_sub(8)..=this_year.saturating_add(1)).rev();
    plausible(this.or_else(|| years.into_iter().find_map(in_year))?)
}

/// `Nov 24 10:03:00`, as in RFC 3164.
pub(in super::super) fn syslog(line: &[u8], zone: &TimeZone, near: Near) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let month = at.month()?;
    at.one_of(b" ")?;
    at.one_of(b" ");
    let day = at.one_or_two()?;
    at.one_of(b" ")?;
    // Cisco and others write the year where they know it.
    let with_year = at;
    let year = at.digits(4).and_then(|year| i16::try_from(year).ok()).filter(|_| at.one_of(b" ").is_some());
    if year.is_none() {
        at = with_year;
    }
    let (hour, minute, second) = (at.two()?, at.after(b':')?, at.after(b':')?);
    let millis = at.fraction_ms();
    if !matches!(at.peek(0), None | Some(b' ' | b'\t' | b':' | b']')) {
        return None;
    }
    let civil = |year| civil(year, month, day, hour, minute, second, millis);
    let ms = match year {
        Some(year) => instant(civil(year)?, None, zone)?,
        None => nearest(near, zone, civil)?,
    };
    Some(with_zone(at, ms, zone).unwrap_or((ms, at.at)))
}

/// Where a host stands otherwise, Cisco's routers name the zone, and end it with a colon: `Nov 24 10:03:00.123 UTC: %…`
fn with_zone(mut at: Cursor<'_>, ms: i64, zone: &TimeZone) -> Option<(i64, usize)> {
    let rest = at.bytes.get(at.at..)?.strip_prefix(b" ")?;
    let len = rest.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count();
    if rest.get(len) != Some(&b':') {
        return None;
    }
    let civil = zone.to_datetime(Timestamp::from_millisecond(ms).ok()?);
    let offset = zones::take(&mut at, civil, zone)?;
    Some((instant(civil, Some(offset), zone)?, at.at))
}

/// `Nov 24, 2026 10:03:00 AM`, as java.util.logging writes it, and `Nov 24, 2026 10:03:00,123 AM UTC` (WebLogic).
pub(in super::super) fn java_util_logging(line: &[u8], zone: &TimeZone) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let month = at.month()?;
    at.one_of(b" ")?;
    let day = at.one_or_two()?;
    at.text(b", ")?;
    let year = i16::try_from(at.digits(4)?).ok()?;
    at.one_of(b",");
    at.one_of(b" ")?;
    let (hour, minute, second) = (at.one_or_two()?, at.after(b':')?, at.after(b':')?);
    let millis = at.fraction_ms();
    let civil = civil(year, month, day, hour, minute, second, millis)?;
    let civil = at.half_of_day(civil)?;
    let offset = zones::take(&mut at, civil, zone);
    Some((instant(civil, offset, zone)?, at.at))
}

/// `11-24 10:03:00.123`, `11-24|10:03:00.123`, `1124 10:03:00.123456`: no year.
pub(in super::super) fn month_day(line: &[u8], zone: &TimeZone, near: Near) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let month = at.two()?;
    at.one_of(b"-.");
    let day = at.two()?;
    at.one_of(b" |")?;
    let (hour, minute, second) = (at.two()?, at.after(b':')?, at.after(b':')?);
    let millis = at.fraction_ms();
    if at.peek(0).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    Some((nearest(near, zone, |year| civil(year, month, day, hour, minute, second, millis))?, at.at))
}

/// `26/11/24 10:03:00` (Spark), `261124 10:03:00` (old MySQL), `261124 100300` (HDFS): a year of two digits is of this
/// century.
pub(in super::super) fn two_digit_year(line: &[u8], zone: &TimeZone) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let year = 2_000 + i16::from(at.two()?);
    let slash = at.one_of(b"/").is_some();
    let month = at.two()?;
    if slash {
        at.one_of(b"/")?;
    }
    let day = at.two()?;
    if at.spaces() == 0 {
        return None;
    }
    let hour = if slash { at.two()? } else { at.one_or_two()? };
    let colon = at.peek(0) == Some(b':');
    let (minute, second) = if colon { (at.after(b':')?, at.after(b':')?) } else { (at.two()?, at.two()?) };
    let millis = at.fraction_ms();
    if !matches!(at.peek(0), Some(b' ' | b'\t')) {
        return None;
    }
    Some((instant(civil(year, month, day, hour, minute, second, millis)?, None, zone)?, at.at))
}

/// `10:03:00.123` alone: on the day that puts it nearest to the time before it.
pub(in super::super) fn clock(line: &[u8], zone: &TimeZone, near: Near) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let (hour, minute, second) = (at.two()?, at.after(b':')?, at.after(b':')?);
    let millis = at.fraction_ms();
    if !matches!(at.peek(0), None | Some(b' ' | b'\t' | b']' | b'|')) {
        return None;
    }
    // Of a leap second the date is of no account.
    let time = civil(2_000, 1, 1, hour, minute, second, millis)?.time();
    Some((nearest_day(near, zone, time)?, at.at))
}

/// `10:03AM` alone, as zerolog's console has it.
pub(in super::super) fn kitchen(line: &[u8], zone: &TimeZone, near: Near) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let (hour, minute) = (at.one_or_two()?, at.after(b':')?);
    let half = if at.text(b"AM ").is_some() { 0 } else { at.text(b"PM ").map(|()| 12)? };
    let hour = (1..=12).contains(&hour).then_some(hour % 12 + half)?;
    Some((nearest_day(near, zone, Time::new(hour, minute, 0, 0).ok()?)?, at.at - 1))
}

/// On the day that puts it nearest to `near`.
fn nearest_day(near: Near, zone: &TimeZone, time: Time) -> Option<i64> {
    let same = zone.to_datetime(Timestamp::from_millisecond(near.ms).ok()?).date();
    let on = |day: Date| instant(day.to_datetime(time), None, zone);
    match on(same) {
        Some(ms) if ms - near.ms > HALF_DAY_MS => on(same.yesterday().ok()?),
        Some(ms) if near.ms - ms > HALF_DAY_MS => on(same.tomorrow().ok()?),
        same_day => same_day,
    }
}

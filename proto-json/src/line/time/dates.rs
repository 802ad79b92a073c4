//! Times with a year.

use super::cursor::Cursor;
use super::{civil, instant, zones};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How far into the first bytes of a line an access log's time is looked for.
const ACCESS_WITHIN: usize = 256;

/// `2026-11-24T10:03:00` and its kin: `T`, `_`, a space, `, ` (Airflow) or `][` (fern), `/` or `.` for `-`, an hour of
/// one digit after two spaces, seconds and a fraction or not, with a zone or without.
pub(in super::super) fn dated(line: &[u8], zone: &TimeZone) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let year = i16::try_from(at.digits(4)?).ok()?;
    let separator = at.one_of(b"-/.")?;
    let month = at.two()?;
    at.one_of(&[separator])?;
    let day = at.two()?;
    if at.one_of(b"T ").is_none() {
        let kin = separator == b'-'
            && (at.one_of(b"t_").is_some() || at.text(b", ").is_some() || at.text(b"][").is_some());
        kin.then_some(())?;
    }
    let padded = at.one_of(b" ").is_some();
    let hour = if padded { at.one_or_two()? } else { at.two()? };
    let (minute, second) = (at.after(b':')?, at.after(b':').unwrap_or(0));
    let millis = at.fraction_ms();
    ended(at, civil(year, month, day, hour, minute, second, millis)?, zone)
}

/// Half of the day and the zone that may follow, and the end of the time: no letter or digit goes on from there.
fn ended(mut at: Cursor<'_>, civil: DateTime, zone: &TimeZone) -> Option<(i64, usize)> {
    let offset = match at.bytes.get(at.at..)? {
        [b' ', b'A' | b'P', b'M', ..] => return half_of_day(at, civil, zone),
        [b' ', b'A'..=b'Z', b'A'..=b'Z', ..] => zones::take(&mut at, civil, zone),
        [b' ', b'A'..=b'Z', b'a'..=b'z', ..] => {
            zones::pass_region(&mut at);
            None
        }
        _ => at.zone(),
    };
    if at.peek(0).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    Some((instant(civil, offset, zone)?, at.at))
}

fn half_of_day(mut at: Cursor<'_>, civil: DateTime, zone: &TimeZone) -> Option<(i64, usize)> {
    let civil = at.half_of_day(civil)?;
    let offset = zones::take(&mut at, civil, zone);
    Some((instant(civil, offset, zone)?, at.at))
}

/// `20261124T100300Z`, `20261124 10:03:00`, `20261124-10:3:0:606`, `20261124:100300.123`
pub(in super::super) fn compact(line: &[u8], zone: &TimeZone) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    let year = i16::try_from(at.digits(4)?).ok().filter(|year| (1970..2200).contains(year))?;
    let (month, day) = (at.two()?, at.two()?);
    at.one_of(b"T -_:")?;
    let hour = at.one_or_two()?;
    let mut next = || if at.one_of(b":").is_some() { at.one_or_two() } else { at.two() };
    let (minute, second) = (next()?, next()?);
    let mut millis = at.fraction_ms();
    if at.peek(0) == Some(b':') && at.peek(1).is_some_and(|b| b.is_ascii_digit()) {
        at.one_of(b":")?;
        let digits = line[at.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        millis = i32::try_from(at.digits(digits.min(3))?).ok()?;
    }
    ended(at, civil(year, month, day, hour, minute, second, millis)?, zone)
}

/// `24 Nov 2026 10:03:00.123`, `24-Nov-2026 10:03:00`, `24/Nov/2026:10:03:00 +0000`, `24-Nov-2026::10:03:00` (Erlang),
/// `Tue, 24 Nov 2026 10:03:00 GMT`
pub(in super::super) fn day_month_year(line: &[u8], zone: &TimeZone) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    if at.weekday().is_some() {
        at.text(b", ")?;
    }
    let day = at.one_or_two()?;
    let separator = at.one_of(b" -/")?;
    let month = at.month()?;
    at.one_of(&[separator])?;
    let year = i16::try_from(at.digits(4)?).ok()?;
    if at.one_of(b" :")? == b':' {
        at.one_of(b":");
    }
    let (hour, minute, second) = (at.two()?, at.after(b':')?, at.after(b':')?);
    let millis = at.fraction_ms();
    ended(at, civil(year, month, day, hour, minute, second, millis)?, zone)
}

/// `Tue Nov 24 10:03:00.123456 2026`, as C's `ctime` and Apache write it, and `Tue 2026-11-24 10:03:00 UTC`, as
/// `journalctl -o short-full` does.
pub(in super::super) fn ctime(line: &[u8], zone: &TimeZone) -> Option<(i64, usize)> {
    let mut at = Cursor::new(line);
    at.weekday()?;
    at.one_of(b" ")?;
    let Some(month) = at.month() else {
        let (ms, len) = dated(line.get(at.at..)?, zone)?;
        return Some((ms, at.at + len));
    };
    at.spaces();
    let day = at.one_or_two()?;
    at.one_of(b" ")?;
    let (hour, minute, second) = (at.two()?, at.after(b':')?, at.after(b':')?);
    let millis = at.fraction_ms();
    // The zone's name stands before the year, on which what it means depends.
    let (mut named, offset) = (at, at.zone());
    if offset.is_none() && at.peek(0) == Some(b' ') && at.peek(1).is_some_and(|b| b.is_ascii_uppercase()) {
        let len = at.bytes[at.at + 1..].iter().take_while(|b| b.is_ascii_uppercase()).count();
        at.at += 1 + len;
    }
    at.one_of(b" ")?;
    let year = i16::try_from(at.digits(4)?).ok()?;
    let civil = civil(year, month, day, hour, minute, second, millis)?;
    let offset = offset.or_else(|| zones::take(&mut named, civil, zone));
    Some((instant(civil, offset, zone)?, at.at))
}

/// `[24/Nov/2026:10:03:00 +0000]`, as nginx and Apache write it, or `[24/Nov/2026 10:03:00]`: where its bracket opens,
/// the time, and how long it is with both brackets.
pub(in super::super) fn access(line: &[u8], zone: &TimeZone) -> Option<(usize, i64, usize)> {
    let head = &line[..line.len().min(ACCESS_WITHIN)];
    memchr::memchr_iter(b'[', head).find_map(|start| {
        // Nearly all brackets are closed for this form by the third byte in them.
        if line.get(start + 3) != Some(&b'/') {
            return None;
        }
        let (ms, len) = day_month_year(&line[start + 1..], zone)?;
        (line.get(start + 1 + len) == Some(&b']')).then_some((start, ms, len + 2))
    })
}

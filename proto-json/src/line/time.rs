//! Times as they stand in log lines, as Unix milliseconds, rounded down.
//!
//! Prefix parsers give the time and how many bytes it takes. All of them take only times of the years 1970 to
//! 9999: anything else is no time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// The last millisecond of the year 9999.
const MAX_MS: i64 = 253_402_300_799_999;

/// How far into the first bytes of a line an access log's time is looked for.
const ACCESS_WITHIN: usize = 256;

/// How far ahead of the time before it a time without a year may be. The window is a year wide, and so reaches
/// about nine months back: log lines come in order, but a quiet service may log nothing for weeks.
const SYSLOG_AHEAD_MS: i64 = 90 * 86_400_000;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

fn plausible(ms: i64) -> Option<i64> {
    (0..=MAX_MS).contains(&ms).then_some(ms)
}

/// A number since 1970 in seconds, milliseconds, microseconds or nanoseconds, told apart by magnitude: below
/// 10¹¹ seconds (to the year 5138), below 10¹⁴ milliseconds (from 1973 on), and so on. Decimal and exact, so
/// that 1764000000.123 is not 122 ms.
pub(super) fn epoch(text: &str) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() <= 40)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let whole_digits = whole.trim_start_matches('0');
    if whole.is_empty() || whole_digits.len() > 20 || !digits(whole) || !digits(fraction) {
        return None;
    }
    // 18 more digits are finer than a nanosecond, and 38 fit into 128 bits.
    let fraction = &fraction[..fraction.len().min(18)];
    let all: u128 = format!("0{whole_digits}{fraction}").parse().ok()?;
    let exponent = exponent - i32::try_from(fraction.len()).ok()?;
    let shift = match scaled(all, exponent)? {
        0..100_000_000_000 => 3,
        100_000_000_000..100_000_000_000_000 => 0,
        100_000_000_000_000..100_000_000_000_000_000 => -3,
        _ => -6,
    };
    plausible(i64::try_from(scaled(all, exponent + shift)?).ok()?)
}

/// `number` · 10^`exponent`, rounded down.
fn scaled(number: u128, exponent: i32) -> Option<u128> {
    let power = 10u128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 { number.checked_mul(power?) } else { Some(power.map_or(0, |power| number / power)) }
}

/// The time that a JSON string holds: any of the forms with a year, or a number.
pub(super) fn whole(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim_ascii();
    match dated(text.as_bytes(), zone) {
        Some((ms, len)) if len == text.len() => Some(ms),
        _ => epoch(text),
    }
}

/// Ten digits of seconds (with or without a fraction) or thirteen of milliseconds, and a space.
pub(super) fn epoch_prefix(line: &[u8]) -> Option<(i64, usize)> {
    let len = memchr::memchr2(b' ', b'\t', &line[..line.len().min(32)])?;
    let text = std::str::from_utf8(&line[..len]).ok()?;
    let whole = text.split('.').next().unwrap_or(text);
    let known = whole.len() == 10 || text.len() == 13;
    let number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    epoch(text).filter(|_| known && number).map(|ms| (ms, len))
}

/// `2026-11-24T10:03:00` and its kin: `T` or a space, `/` for `-` with a space, seconds and a fraction or not,
/// with a zone or without.
pub(super) fn dated(line: &[u8], zone: &TimeZone) -> Option<(i64, usize)> {
    let mut at = Cursor { bytes: line, at: 0 };
    let year = i16::try_from(at.digits(4)?).ok()?;
    let separator = at.one_of(b"-/")?;
    let month = at.two()?;
    at.one_of(&[separator])?;
    let day = at.two()?;
    at.one_of(if separator == b'/' { b" " } else { b"Tt " })?;
    let (hour, minute, second) = (at.two()?, at.after(b':')?, at.after(b':').unwrap_or(0));
    let millis = at.fraction_ms();
    let civil = civil(year, month, day, hour, minute, second, millis)?;
    let offset = at.zone();
    if at.peek(0).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let time = match offset {
        Some(offset) => offset.to_timestamp(civil).ok()?,
        None => zone.to_ambiguous_timestamp(civil).compatible().ok()?,
    };
    Some((plausible(time.as_millisecond())?, at.at))
}

/// `Nov 24 10:03:00`, as in RFC 3164. It bears no year: the latest one is taken that puts it at most 90 days
/// after `near_ms`, the time before it.
pub(super) fn syslog(line: &[u8], zone: &TimeZone, near_ms: i64) -> Option<(i64, usize)> {
    let mut at = Cursor { bytes: line, at: 0 };
    let month = at.month()?;
    at.one_of(b" ")?;
    // The day is padded by a space.
    let padded = at.one_of(b" ").is_some();
    let day = match at.two().filter(|_| !padded) {
        Some(day) => day,
        None => i8::try_from(at.digits(1)?).ok()?,
    };
    at.one_of(b" ")?;
    let (hour, minute, second) = (at.two()?, at.after(b':')?, at.after(b':')?);
    let millis = at.fraction_ms();
    if !matches!(at.peek(0), None | Some(b' ' | b'\t' | b':')) {
        return None;
    }
    let near = Timestamp::from_millisecond(near_ms).ok()?;
    let this_year = zone.to_datetime(near).year();
    // Eight years back there was a 29 February for certain.
    let ms = (this_year.saturating_sub(8)..=this_year.saturating_add(1)).rev().find_map(|year| {
        let civil = civil(year, month, day, hour, minute, second, millis)?;
        let ms = zone.to_ambiguous_timestamp(civil).compatible().ok()?.as_millisecond();
        (ms <= near_ms.saturating_add(SYSLOG_AHEAD_MS)).then_some(ms)
    })?;
    Some((plausible(ms)?, at.at))
}

/// `[24/Nov/2026:10:03:00 +0000]`, as nginx and Apache write it: where its bracket opens, the time, and how long
/// it is with both brackets.
pub(super) fn access(line: &[u8]) -> Option<(usize, i64, usize)> {
    let head = &line[..line.len().min(ACCESS_WITHIN)];
    memchr::memchr_iter(b'[', head).find_map(|start| {
        let mut at = Cursor { bytes: line, at: start + 1 };
        let day = at.two()?;
        at.one_of(b"/")?;
        let month = at.month()?;
        at.one_of(b"/")?;
        let year = i16::try_from(at.digits(4)?).ok()?;
        let (hour, minute, second) = (at.after(b':')?, at.after(b':')?, at.after(b':')?);
        at.one_of(b" ")?;
        let offset = at.offset()?;
        at.one_of(b"]")?;
        let civil = civil(year, month, day, hour, minute, second, 0)?;
        Some((start, plausible(offset.to_timestamp(civil).ok()?.as_millisecond())?, at.at - start))
    })
}

fn civil(year: i16, month: i8, day: i8, hour: i8, minute: i8, second: i8, millis: i32) -> Option<DateTime> {
    // A leap second belongs to the minute that it ends.
    let second = if second == 60 { 59 } else { second };
    DateTime::new(year, month, day, hour, minute, second, millis * 1_000_000).ok()
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn one_of(&mut self, set: &[u8]) -> Option<u8> {
        let byte = self.peek(0).filter(|b| set.contains(b))?;
        self.at += 1;
        Some(byte)
    }

    /// Exactly so many digits; nothing is taken when there are fewer.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + count)?;
        let number = digits
            .iter()
            .try_fold(0u32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))?;
        self.at += count;
        Some(number)
    }

    fn two(&mut self) -> Option<i8> {
        self.digits(2).and_then(|n| i8::try_from(n).ok())
    }

    /// Two digits after `mark`; nothing is taken otherwise.
    fn after(&mut self, mark: u8) -> Option<i8> {
        let start = self.at;
        self.one_of(&[mark])?;
        let number = self.two();
        if number.is_none() {
            self.at = start;
        }
        number
    }

    fn month(&mut self) -> Option<i8> {
        let name = self.bytes.get(self.at..self.at + 3)?;
        let index = MONTHS.iter().position(|m| m.as_slice() == name)?;
        self.at += 3;
        i8::try_from(index + 1).ok()
    }

    /// Digits after `.` or `,`, as whole milliseconds; 0 when there are none.
    fn fraction_ms(&mut self) -> i32 {
        let digits = self.bytes.get(self.at + 1..).unwrap_or_default();
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 || self.one_of(b".,").is_none() {
            return 0;
        }
        self.at += count;
        [100, 10, 1].iter().zip(&digits[..count]).map(|(weight, b)| weight * i32::from(b - b'0')).sum()
    }

    /// `Z`, an offset, or one of ` UTC`, ` GMT`, ` +0000` a space away. Nothing is taken when there is none.
    fn zone(&mut self) -> Option<Offset> {
        if self.one_of(b"Zz").is_some() {
            return Some(Offset::UTC);
        }
        let start = self.at;
        if let Some(offset) = self.offset() {
            return Some(offset);
        }
        if self.one_of(b" ").is_some() {
            let word = self.bytes.get(self.at..self.at + 3);
            let found = if matches!(word, Some(b"UTC" | b"GMT")) {
                self.at += 3;
                Some(Offset::UTC)
            } else {
                self.offset().filter(|_| self.at - start > 4)
            };
            if found.is_some() && !self.peek(0).is_some_and(|b| b.is_ascii_alphanumeric()) {
                return found;
            }
        }
        self.at = start;
        None
    }

    /// `+01:00`, `+0100` or `+01`. Nothing is taken when there is none.
    fn offset(&mut self) -> Option<Offset> {
        let start = self.at;
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let seconds = self.two().filter(|h| *h < 24).and_then(|hours| {
            let minutes = self.after(b':').or_else(|| self.two()).unwrap_or(0);
            (minutes < 60).then(|| sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
        });
        let offset = seconds.and_then(|s| Offset::from_seconds(s).ok());
        if offset.is_none() {
            self.at = start;
        }
        offset
    }
}

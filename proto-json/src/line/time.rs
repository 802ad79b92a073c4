//! Times as they stand in log lines, as Unix milliseconds, rounded down.
//!
//! Prefix parsers give the time and how many bytes it takes. All of them take only times of the years 1970 to
//! 9999: anything else is no time.

mod cursor;
mod dates;
mod short;
mod zones;

pub(super) use cursor::{Cursor, is_weekday, month};
pub(super) use dates::{access, compact, ctime, dated, day_month_year};
pub(super) use short::{clock, java_util_logging, kitchen, month_day, syslog, two_digit_year};

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// The time before a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near {
    pub(super) ms: i64,
    /// Whether a line of the file had it. Before any has one it is that of the file, which is after them all.
    pub(super) of_a_line: bool,
}

/// The last millisecond of the year 9999.
const MAX_MS: i64 = 253_402_300_799_999;

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

/// The time that a field's text holds: any of the forms with a year, or a number.
pub(super) fn whole(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim_ascii();
    let bytes = text.as_bytes();
    let all = |found: Option<(i64, usize)>| found.filter(|(_, len)| *len == text.len()).map(|(ms, _)| ms);
    all(dated(bytes, zone))
        .or_else(|| epoch(text))
        .or_else(|| all(compact(bytes, zone)))
        .or_else(|| all(day_month_year(bytes, zone)))
        .or_else(|| all(ctime(bytes, zone)))
}

/// A time in a zone of its own, or in `zone`.
fn instant(civil: DateTime, offset: Option<Offset>, zone: &TimeZone) -> Option<i64> {
    let time = match offset {
        Some(offset) => offset.to_timestamp(civil).ok()?,
        None => zone.to_ambiguous_timestamp(civil).compatible().ok()?,
    };
    plausible(time.as_millisecond())
}

/// Ten digits of seconds (with or without a fraction) or thirteen of milliseconds, and a space, a comma or a bracket.
pub(super) fn epoch_prefix(line: &[u8]) -> Option<(i64, usize)> {
    let is_digit = |b: &u8| b.is_ascii_digit() || *b == b'.';
    let len = line.iter().take(32).take_while(|b| is_digit(b)).count();
    if !matches!(line.get(len), Some(b' ' | b'\t' | b',' | b']')) {
        return None;
    }
    let text = std::str::from_utf8(&line[..len]).ok()?;
    let whole = text.split('.').next().unwrap_or(text);
    let known = whole.len() == 10 || (whole.len() == text.len() && matches!(text.len(), 13 | 16 | 19));
    epoch(text).filter(|_| known).map(|ms| (ms, len))
}

fn civil(year: i16, month: i8, day: i8, hour: i8, minute: i8, second: i8, millis: i32) -> Option<DateTime> {
    // A leap second belongs to the minute that it ends.
    let second = if second == 60 { 59 } else { second };
    DateTime::new(year, month, day, hour, minute, second, millis * 1_000_000).ok()
}

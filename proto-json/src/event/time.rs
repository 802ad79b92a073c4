//! The two forms of `timestamp`, as Unix milliseconds.
//!
//! - RFC 3339: four digits of year, `T` and `Z` in either case, any number of digits after the second, an offset
//!   of at most 23:59. A leap second only where RFC 3339 has one, at 23:59:60 UTC; it belongs to the minute that
//!   it ends. What is finer than a millisecond is cut off.
//! - A number whose value is an integer, however it is written (`1764000000000`, `1.764e12`), as JSON Schema
//!   has it. It is exact: `1764000000000.00000000001` is none.

/// 0000-01-01T00:00:00Z
pub(super) const FIRST_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z
pub(super) const LAST_MS: i64 = 253_402_300_799_999;

/// So many digits have the largest numbers.
const MOST_DIGITS: i64 = 15;

/// The time of an RFC 3339 text. Its year is 0000–9999 as written, so with its offset it may lie up to a day
/// outside of these years.
pub(super) fn rfc3339(text: impl Iterator<Item = u8>) -> Option<i64> {
    let mut text = Digits { text };
    let year = text.two()? * 100 + text.two()?;
    text.mark(b'-')?;
    let month = text.two()?;
    text.mark(b'-')?;
    let day = text.two()?;
    if !matches!(text.next()?, b'T' | b't')
        || !(1..=12).contains(&month)
        || day < 1
        || day > days(year, month)
    {
        return None;
    }
    let hour = text.two()?;
    text.mark(b':')?;
    let minute = text.two()?;
    text.mark(b':')?;
    let second = text.two()?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millis, zone) = match text.next()? {
        b'.' => text.fraction()?,
        other => (0, other),
    };
    let offset = match zone {
        b'Z' | b'z' => 0,
        b'+' => text.offset()?,
        b'-' => -text.offset()?,
        _ => return None,
    };
    if text.next().is_some() {
        return None;
    }
    let minutes = day_number(year, month, day) * 1_440 + hour * 60 + minute - offset;
    if second == 60 && minutes.rem_euclid(1_440) != 1_439 {
        return None;
    }
    Some((minutes * 60 + second.min(59)) * 1_000 + millis)
}

/// The number of a JSON number's text, when it is an integer from [`FIRST_MS`] to [`LAST_MS`].
pub(super) fn integer(json: &[u8]) -> Option<i64> {
    let (negative, digits) = match json.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, json),
    };
    let number = if digits.len() <= 15 && digits.iter().all(u8::is_ascii_digit) {
        digits.iter().fold(0, |sum, d| sum * 10 + i64::from(d - b'0'))
    } else {
        decimal(digits)?
    };
    let number = if negative { -number } else { number };
    (FIRST_MS..=LAST_MS).contains(&number).then_some(number)
}

/// A number with a fraction, an exponent, or more digits than any that fits.
fn decimal(json: &[u8]) -> Option<i64> {
    let mut halves = json.splitn(2, |b| matches!(b, b'e' | b'E'));
    let mantissa = halves.next()?;
    let exponent = halves.next().map_or(0, exponent);
    let mut parts = mantissa.splitn(2, |b| *b == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    let digits = || whole.iter().chain(fraction);
    let zeros = digits().rev().take_while(|d| **d == b'0').count();
    let all = whole.len() + fraction.len();
    if zeros == all {
        return Some(0);
    }
    let leading = digits().take_while(|d| **d == b'0').count();
    let count = |n: usize| i64::try_from(n).ok();
    // The number is its significant digits times ten to this power.
    let power = exponent.checked_sub(count(fraction.len())?)?.checked_add(count(zeros)?)?;
    let significant = all - zeros - leading;
    if power < 0 || power.checked_add(count(significant)?)? > MOST_DIGITS {
        return None;
    }
    let number = digits().skip(leading).take(significant).fold(0, |sum, d| sum * 10 + i64::from(d - b'0'));
    Some(number * 10_i64.pow(u32::try_from(power).ok()?))
}

/// The digits after the `e`; those that are too large stay large.
fn exponent(text: &[u8]) -> i64 {
    let (sign, digits) = match text.split_first() {
        Some((b'-', rest)) => (-1, rest),
        Some((b'+', rest)) => (1, rest),
        _ => (1, text),
    };
    // Large enough for any text in memory, small enough to add lengths to it.
    const LARGE: i64 = 1 << 60;
    sign * digits
        .iter()
        .fold(0_i64, |sum, d| sum.saturating_mul(10).saturating_add(i64::from(d - b'0')).min(LARGE))
}

struct Digits<I> {
    text: I,
}

impl<I: Iterator<Item = u8>> Digits<I> {
    fn next(&mut self) -> Option<u8> {
        self.text.next()
    }

    fn mark(&mut self, mark: u8) -> Option<()> {
        (self.next()? == mark).then_some(())
    }

    fn digit(&mut self) -> Option<i64> {
        let digit = self.next()?.wrapping_sub(b'0');
        (digit < 10).then_some(i64::from(digit))
    }

    fn two(&mut self) -> Option<i64> {
        Some(self.digit()? * 10 + self.digit()?)
    }

    /// `01:30`, in minutes.
    fn offset(&mut self) -> Option<i64> {
        let hours = self.two()?;
        self.mark(b':')?;
        let minutes = self.two()?;
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    }

    /// The digits after the point, as whole milliseconds, and the byte that follows them.
    fn fraction(&mut self) -> Option<(i64, u8)> {
        let mut millis = self.digit()? * 100;
        let mut weight = 10;
        loop {
            let byte = self.next()?;
            if !byte.is_ascii_digit() {
                return Some((millis, byte));
            }
            millis += i64::from(byte - b'0') * weight;
            weight /= 10;
        }
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the leap day comes last.
const fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn every_day_has_its_number() {
        let mut day = date(0, 1, 1);
        let epoch = date(1970, 1, 1);
        while day.year() < 9_999 || day.day_of_year() < 365 {
            let (year, month, number) = (i64::from(day.year()), i64::from(day.month()), i64::from(day.day()));
            assert_eq!(day_number(year, month, number), i64::from((day - epoch).get_days()), "{day}");
            assert_eq!(days(year, month), i64::from(day.days_in_month()), "{day}");
            day = day.tomorrow().unwrap();
        }
    }

    #[test]
    fn integers_are_exact_however_they_are_written() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("0.0", 0),
            ("-0e0", 0),
            ("0e99999999999999999999", 0),
            ("1764000000000", 1_764_000_000_000),
            ("1764000000000.0", 1_764_000_000_000),
            ("1764000000000.000000000000000000000000", 1_764_000_000_000),
            ("1.764e12", 1_764_000_000_000),
            ("1764E+9", 1_764_000_000_000),
            ("0.000000000001764e24", 1_764_000_000_000),
            ("17640000000000000000000000e-13", 1_764_000_000_000),
            ("-1.5e1", -15),
            ("253402300799999", LAST_MS),
            ("2534023007999990e-1", LAST_MS),
            ("-62167219200000", FIRST_MS),
        ] {
            assert_eq!(integer(text.as_bytes()), Some(number), "{text}");
        }
        for text in [
            "0.5",
            "1764000000000.00000000001",
            "17640000000005e-1",
            "1e-1",
            "1e15",
            "1e400",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "253402300800000",
            "-62167219200001",
            "99999999999999999999999999999999",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }
}

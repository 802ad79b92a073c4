//! Taking a line apart from left to right.

use jiff::civil::DateTime;
use jiff::tz::Offset;

/// A place in a line; what doesn't fit is not taken.
#[derive(Clone, Copy)]
pub(in super::super) struct Cursor<'a> {
    pub(in super::super) bytes: &'a [u8],
    pub(in super::super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(in super::super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(in super::super) fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    pub(in super::super) fn one_of(&mut self, set: &[u8]) -> Option<u8> {
        let byte = self.peek(0).filter(|b| set.contains(b))?;
        self.at += 1;
        Some(byte)
    }

    /// Exactly so many digits; nothing is taken when there are fewer.
    pub(in super::super) fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + count)?;
        let number = digits
            .iter()
            .try_fold(0u32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))?;
        self.at += count;
        Some(number)
    }

    /// One or two digits.
    pub(in super::super) fn one_or_two(&mut self) -> Option<i8> {
        self.two().or_else(|| self.digits(1).and_then(|n| i8::try_from(n).ok()))
    }

    /// Takes `text`.
    pub(in super::super) fn text(&mut self, text: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(text).then(|| self.at += text.len())
    }

    /// Takes spaces, and says how many.
    pub(in super::super) fn spaces(&mut self) -> usize {
        let start = self.at;
        while self.one_of(b" ").is_some() {}
        self.at - start
    }

    /// Takes the name of a day of the week, shortened to three letters.
    pub(in super::super) fn weekday(&mut self) -> Option<()> {
        is_weekday(self.bytes.get(self.at..)?).then(|| self.at += 3)
    }

    pub(in super::super) fn two(&mut self) -> Option<i8> {
        self.digits(2).and_then(|n| i8::try_from(n).ok())
    }

    /// Two digits after `mark`; nothing is taken otherwise.
    pub(in super::super) fn after(&mut self, mark: u8) -> Option<i8> {
        let start = self.at;
        self.one_of(&[mark])?;
        let number = self.two();
        if number.is_none() {
            self.at = start;
        }
        number
    }

    pub(in super::super) fn month(&mut self) -> Option<i8> {
        let month = month(self.bytes.get(self.at..)?)?;
        self.at += 3;
        Some(month)
    }

    /// Digits after `.` or `,`, as whole milliseconds; 0 when there are none.
    pub(in super::super) fn fraction_ms(&mut self) -> i32 {
        let digits = self.bytes.get(self.at + 1..).unwrap_or_default();
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 || self.one_of(b".,").is_none() {
            return 0;
        }
        self.at += count;
        [100, 10, 1].iter().zip(&digits[..count]).map(|(weight, b)| weight * i32::from(b - b'0')).sum()
    }

    /// `Z`, or an offset, which may be a space away. Nothing is taken when there is none.
    pub(in super::super) fn zone(&mut self) -> Option<Offset> {
        if self.one_of(b"Zz").is_some() {
            return Some(Offset::UTC);
        }
        let start = self.at;
        if let Some(offset) = self.offset() {
            return Some(offset);
        }
        if self.one_of(b" ").is_some() {
            let found = self.offset().filter(|_| self.at - start > 4);
            if found.is_some() && !self.peek(0).is_some_and(|b| b.is_ascii_alphanumeric()) {
                return found;
            }
        }
        self.at = start;
        None
    }

    /// The time in `civil` with the ` AM` or ` PM` that may follow; newer Java has a narrow no-break space there.
    pub(in super::super) fn half_of_day(&mut self, civil: DateTime) -> Option<DateTime> {
        let rest = self.bytes.get(self.at..)?;
        let word = rest.strip_prefix(b" ").or_else(|| rest.strip_prefix("\u{202f}".as_bytes()));
        let (add, after) = match word {
            Some([b'A', b'M', after @ ..]) => (0, after),
            Some([b'P', b'M', after @ ..]) => (12, after),
            _ => return Some(civil),
        };
        if after.first().is_some_and(u8::is_ascii_alphanumeric) {
            return Some(civil);
        }
        self.at = self.bytes.len() - after.len();
        // Some write a whole day's hours, and say so all the same.
        let hour = if civil.hour() <= 12 { civil.hour() % 12 + add } else { civil.hour() };
        civil.with().hour(hour).build().ok()
    }

    /// `+01:00`, `+0100` or `+01`. Nothing is taken when there is none.
    pub(in super::super) fn offset(&mut self) -> Option<Offset> {
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

/// The month whose name, shortened to three letters, a text begins with.
pub(in super::super) const fn month(text: &[u8]) -> Option<i8> {
    Some(match text {
        [b'J', b'a', b'n', ..] => 1,
        [b'F', b'e', b'b', ..] => 2,
        [b'M', b'a', b'r', ..] => 3,
        [b'A', b'p', b'r', ..] => 4,
        [b'M', b'a', b'y', ..] => 5,
        [b'J', b'u', b'n', ..] => 6,
        [b'J', b'u', b'l', ..] => 7,
        [b'A', b'u', b'g', ..] => 8,
        [b'S', b'e', b'p', ..] => 9,
        [b'O', b'c', b't', ..] => 10,
        [b'N', b'o', b'v', ..] => 11,
        [b'D', b'e', b'c', ..] => 12,
        _ => return None,
    })
}

/// Whether a text begins with the name of a day of the week, shortened to three letters.
pub(in super::super) const fn is_weekday(text: &[u8]) -> bool {
    matches!(
        text,
        [b'M', b'o', b'n', ..]
            | [b'T', b'u', b'e', ..]
            | [b'W', b'e', b'd', ..]
            | [b'T', b'h', b'u', ..]
            | [b'F', b'r', b'i', ..]
            | [b'S', b'a', b't', ..]
            | [b'S', b'u', b'n', ..]
    )
}

//! Taking a line apart from left to right.

use jiff::tz::Offset;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

const WEEKDAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

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
        let name = self.bytes.get(self.at..self.at + 3)?;
        WEEKDAYS.contains(&name).then(|| self.at += 3)
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
        let name = self.bytes.get(self.at..self.at + 3)?;
        let index = MONTHS.iter().position(|m| m.as_slice() == name)?;
        self.at += 3;
        i8::try_from(index + 1).ok()
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

    /// `Z`, an offset, or one of ` UTC`, ` GMT`, ` +0000` a space away. Nothing is taken when there is none.
    pub(in super::super) fn zone(&mut self) -> Option<Offset> {
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

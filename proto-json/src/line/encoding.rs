//! How a file's characters are written, where its lines end, and what is taken off a line before it is read.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How characters are written. UTF-16 is known by its byte order mark at the file's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// UTF-8, or anything else in which a line ends with the byte 0x0A; what is no UTF-8 is replaced.
    #[default]
    Utf8,
    /// The lower byte first.
    Utf16Le,
    /// The higher byte first.
    Utf16Be,
}

const BOM: &[u8] = b"\xef\xbb\xbf";

impl Encoding {
    /// The encoding of a file that begins with these bytes.
    #[must_use]
    pub fn of(first_bytes: &[u8]) -> Self {
        match first_bytes {
            [0xff, 0xfe, ..] => Self::Utf16Le,
            [0xfe, 0xff, ..] => Self::Utf16Be,
            _ => Self::Utf8,
        }
    }

    /// Whether it is UTF-8.
    #[must_use]
    pub const fn is_utf8(&self) -> bool {
        matches!(self, Self::Utf8)
    }

    /// The first line in `bytes`, which begin at a line's beginning: how long it is without its `\n`, and with it.
    #[must_use]
    pub fn line_end(self, bytes: &[u8]) -> Option<(usize, usize)> {
        let unit: [u8; 2] = match self {
            Self::Utf8 => return memchr::memchr(b'\n', bytes).map(|at| (at, at + 1)),
            Self::Utf16Le => [b'\n', 0],
            Self::Utf16Be => [0, b'\n'],
        };
        // A unit begins at an even place; U+0A0A and its kin hold the byte, too.
        memchr::memmem::find_iter(bytes, &unit).find(|at| at % 2 == 0).map(|at| (at, at + 2))
    }

    /// The line as UTF-8, as far as it is that: without a byte order mark, the `\r` of its end, NUL bytes before it
    /// (the hole that copytruncate leaves in a file), and sequences that colour a terminal.
    pub(super) fn plain(self, line: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Utf8 => {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let nul = line.iter().take_while(|b| **b == 0).count();
                let line = &line[nul..];
                without_colours(line.strip_prefix(BOM).unwrap_or(line))
            }
            Self::Utf16Le => Cow::Owned(Self::Utf8.plain(&decode(line, u16::from_le_bytes)).into_owned()),
            Self::Utf16Be => Cow::Owned(Self::Utf8.plain(&decode(line, u16::from_be_bytes)).into_owned()),
        }
    }
}

/// Half a surrogate pair, and half a unit at the end, become U+FFFD.
fn decode(line: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let (units, rest) = line.as_chunks::<2>();
    let text = char::decode_utf16(units.iter().map(|u| unit(*u)));
    let mut out = String::with_capacity(line.len());
    out.extend(text.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    if !rest.is_empty() {
        out.push(char::REPLACEMENT_CHARACTER);
    }
    out.into_bytes()
}

/// Without the escape sequences that colour a terminal (CSI) or name its window and links (OSC).
fn without_colours(line: &[u8]) -> Cow<'_, [u8]> {
    const ESC: u8 = 0x1b;
    if memchr::memchr(ESC, line).is_none() {
        return Cow::Borrowed(line);
    }
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memchr(ESC, rest) {
        plain.extend_from_slice(&rest[..at]);
        let sequence = &rest[at..];
        match sequence_len(sequence) {
            Some(len) => rest = &sequence[len..],
            None => {
                plain.push(ESC);
                rest = &sequence[1..];
            }
        }
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

/// No sequence is longer; so a line full of their beginnings takes no longer than any other.
const LONGEST: usize = 512;

fn sequence_len(sequence: &[u8]) -> Option<usize> {
    let sequence = &sequence[..sequence.len().min(LONGEST)];
    match sequence.get(1)? {
        b'[' => {
            let inner = sequence[2..].iter().take_while(|b| (0x20..0x40).contains(*b)).count();
            sequence.get(2 + inner).filter(|b| (0x40..0x7f).contains(*b)).map(|_| 3 + inner)
        }
        b']' => {
            let end = memchr::memchr2(0x07, 0x1b, &sequence[2..])? + 2;
            match sequence[end] {
                0x07 => Some(end + 1),
                _ => (sequence.get(end + 1) == Some(&b'\\')).then_some(end + 2),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    proptest! {
        #[test]
        fn lines_of_utf16_are_those_of_the_text(text in "[a\u{0a0a}\u{0a00}\u{10a}\u{1f980}\n]{0,30}") {
            let bytes = [utf16(&text, u16::to_le_bytes), utf16(&text, u16::to_be_bytes)];
            for (encoding, bytes) in [Encoding::Utf16Le, Encoding::Utf16Be].into_iter().zip(bytes) {
                let (mut rest, mut lines) = (bytes.as_slice(), Vec::new());
                while let Some((len, taken)) = encoding.line_end(rest) {
                    lines.push(String::from_utf8(encoding.plain(&rest[..len]).into_owned()).unwrap());
                    rest = &rest[taken..];
                }
                lines.push(String::from_utf8(encoding.plain(rest).into_owned()).unwrap());
                prop_assert_eq!(lines, text.split('\n').collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_is_no_part_of_a_line_is_taken_off() {
        for (line, plain) in [
            ("\u{feff}a\r", "a"),
            ("\0\0\0a\0b", "a\0b"),
            ("\u{1b}[2m2026\u{1b}[0m \u{1b}[32mhi\u{1b}[0m", "2026 hi"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{7}", "link"),
            ("\u{1b}(B \u{1b}[", "\u{1b}(B \u{1b}["),
        ] {
            assert_eq!(Encoding::Utf8.plain(line.as_bytes()), plain.as_bytes(), "{line:?}");
        }
        assert_eq!(Encoding::of(b"\xff\xfea\0"), Encoding::Utf16Le);
        assert_eq!(Encoding::Utf16Le.plain(b"\xff\xfea\0\r\0"), b"a".as_slice());
        assert_eq!(Encoding::Utf16Be.plain(b"\xd8\x00\0a\0"), "\u{fffd}a\u{fffd}".as_bytes());
    }
}

//! The lines of a file, in bounded memory.

use logweir_proto::line::Encoding;
use std::io::{self, BufRead, BufReader, Read};

/// One line, without its `\n`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Within the limit.
    Whole(&'a [u8]),
    /// Longer than the limit; it was passed over.
    TooLong,
}

/// Reads lines that end in `\n`, or at the end of the file.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    max_bytes: usize,
    encoding: Encoding,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(file: R, max_bytes: usize) -> Self {
        let reader = BufReader::with_capacity(128 << 10, file);
        Self { reader, line: Vec::new(), max_bytes, encoding: Encoding::Utf8 }
    }

    /// The file's first bytes, which say how its characters are written. To be asked before the first line.
    ///
    /// # Errors
    /// The file's.
    pub(super) fn begin(&mut self) -> io::Result<&[u8]> {
        let first = self.reader.fill_buf()?;
        self.encoding = Encoding::of(first);
        Ok(first)
    }

    /// The next line, or `None` at the end.
    ///
    /// # Errors
    /// The file's.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut too_long = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if buffer.is_empty() {
                if self.line.is_empty() && !too_long {
                    return Ok(None);
                }
                break;
            }
            let (len, taken) = match self.encoding.line_end(buffer) {
                Some((len, taken)) => (len, taken),
                // Whole units of UTF-16; a file's reads are short at its end only.
                None if !self.encoding.is_utf8() && buffer.len() > 1 => {
                    (buffer.len() & !1, buffer.len() & !1)
                }
                None => (buffer.len(), buffer.len()),
            };
            too_long |= self.line.len() + len > self.max_bytes;
            if !too_long {
                self.line.extend_from_slice(&buffer[..len]);
            }
            self.reader.consume(taken);
            if taken > len {
                break;
            }
        }
        Ok(Some(if too_long { Line::TooLong } else { Line::Whole(&self.line) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8], max_bytes: usize, buffer: usize) -> Vec<Option<Vec<u8>>> {
        let reader = BufReader::with_capacity(buffer, text);
        let mut lines = Lines { reader, line: Vec::new(), max_bytes, encoding: Encoding::Utf8 };
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
        }
        all
    }

    proptest! {
        #[test]
        fn as_splitting_the_whole_text(text in "[ab\r\n]{0,60}", max_bytes in 1usize..8, buffer in 1usize..9) {
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            let expected: Vec<Option<Vec<u8>>> = expected
                .into_iter()
                .map(|l| l.as_bytes().to_vec())
                .map(|l| (l.len() <= max_bytes).then_some(l))
                .collect();
            prop_assert_eq!(all(text.as_bytes(), max_bytes, buffer), expected);
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut lines = Lines::new(io::repeat(b'x').take(16 << 20), 1024);
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong));
        assert!(lines.line.capacity() < 4096, "{}", lines.line.capacity());
        assert_eq!(lines.next().unwrap(), None);
    }
}

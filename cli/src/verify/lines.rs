//! The lines of a file, in bounded memory.

use std::io::{self, BufRead, BufReader, Read};

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Within the limit.
    Whole(&'a [u8]),
    /// Longer than the limit; it was passed over.
    TooLong,
}

/// Reads lines that end in `\n` or `\r\n`, or at the end of the file.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    max_bytes: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(file: R, max_bytes: usize) -> Self {
        Self { reader: BufReader::with_capacity(128 << 10, file), line: Vec::new(), max_bytes }
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
            let end = buffer.iter().position(|b| *b == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            // One byte more for a carriage return that will be stripped.
            too_long |= self.line.len() + part.len() > self.max_bytes + 1;
            if !too_long {
                self.line.extend_from_slice(part);
            }
            let taken = part.len() + usize::from(end.is_some());
            self.reader.consume(taken);
            if end.is_some() {
                break;
            }
        }
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        too_long |= line.len() > self.max_bytes;
        Ok(Some(if too_long { Line::TooLong } else { Line::Whole(line) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8], max_bytes: usize, buffer: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines { reader: BufReader::with_capacity(buffer, text), line: Vec::new(), max_bytes };
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
                .map(|l| l.strip_suffix('\r').unwrap_or(l).as_bytes().to_vec())
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

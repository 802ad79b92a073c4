//! From the bytes of a file to its lines, with bounded memory.
//!
//! ```text
//! bytes ─► Line | Blank | TooLong        a whole line, with the offset where the next begins
//!          Skipped                       a part of a line that is too long already: drop it, bring what follows
//!          Need                          not a whole line yet: bring more of it
//! ```
//!
//! Pure. A line that is longer than the limit is passed over in parts, so no more than the limit and a byte are
//! ever needed at once.

use logweir_proto::line::Encoding;
use logweir_proto::ndjson;
use twox_hash::XxHash3_128;

/// Where a file's reading stands between two lines, or inside one that is too long.
#[derive(Debug)]
pub(crate) struct Splitter {
    max: usize,
    long: Option<Long>,
}

/// The line that is being passed over.
struct Long {
    start: u64,
    hasher: Box<twox_hash::xxhash3_128::Hasher>,
}

impl std::fmt::Debug for Long {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Long").field("start", &self.start).finish_non_exhaustive()
    }
}

/// What the bytes begin with. `end` is where the next line begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A line, without its `\n` or (in UTF-8) `\r\n`.
    Line {
        /// The line.
        bytes: &'a [u8],
        /// How many of the bytes it takes, its end included.
        taken: usize,
    },
    /// A line that takes no number.
    Blank {
        /// As above.
        taken: usize,
    },
    /// A line that is over the limit has come to its end.
    TooLong {
        /// Where it began in the file.
        start: u64,
        /// How many of the bytes it takes.
        taken: usize,
        /// The checksum of the whole line, without its `\n`.
        hash: u128,
    },
    /// So many of the bytes belong to a line that is over the limit, and don't end it.
    Skipped {
        /// All of them, or all whole units of UTF-16.
        taken: usize,
    },
    /// There is no whole line yet.
    Need,
}

impl Splitter {
    /// For lines of at most `max` bytes, without their end.
    pub(crate) const fn new(max: usize) -> Self {
        Self { max, long: None }
    }

    /// Whether the place is inside a line that is too long.
    pub(crate) const fn is_skipping(&self) -> bool {
        self.long.is_some()
    }

    /// The content is another: what was being passed over is gone.
    pub(crate) fn reset(&mut self) {
        self.long = None;
    }

    /// Looks at `bytes`, which stand at `at` in the file. With `ended` nothing will follow them, so that what is
    /// left is a line.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8], at: u64, ended: bool, encoding: Encoding) -> Step<'a> {
        let newline = encoding.line_end(bytes);
        let (len, taken) = newline.unwrap_or((bytes.len(), bytes.len()));
        let line = &bytes[..len];
        let whole = newline.is_some() || (ended && (!bytes.is_empty() || self.long.is_some()));
        if self.long.is_none() {
            if line.len() <= self.max {
                // In UTF-16 it may be the half of a unit, and the parser takes it off.
                let bare = if encoding.is_utf8() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
                return match (whole, ndjson::is_blank(line)) {
                    (false, _) => Step::Need,
                    (true, true) => Step::Blank { taken },
                    (true, false) => Step::Line { bytes: bare, taken },
                };
            }
            self.long = Some(Long { start: at, hasher: Box::new(twox_hash::xxhash3_128::Hasher::new()) });
        }
        let Some(long) = &mut self.long else { return Step::Need };
        if !whole {
            let taken = if encoding.is_utf8() { bytes.len() } else { bytes.len() & !1 };
            long.hasher.write(&bytes[..taken]);
            return if taken == 0 { Step::Need } else { Step::Skipped { taken } };
        }
        long.hasher.write(line);
        let (start, hash) = (long.start, long.hasher.finish_128());
        self.long = None;
        Step::TooLong { start, taken, hash }
    }
}

/// The checksum of bytes as they come: the same as that of all at once.
pub(crate) fn checksum(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out when the file is read in chunks that grow while a line isn't whole.
    fn split(content: &[u8], max: usize, chunk: usize) -> Vec<Result<Vec<u8>, (u64, u64, u128)>> {
        let mut splitter = Splitter::new(max);
        let (mut at, mut want, mut out) = (0, chunk, Vec::new());
        loop {
            let end = content.len().min(at + want);
            let bytes = &content[at..end];
            assert!(bytes.len() <= max + 1 || want == chunk, "no more than a line and a byte is asked for");
            let taken = match splitter.next(bytes, at as u64, end == content.len(), Encoding::Utf8) {
                Step::Line { bytes, taken } => {
                    out.push(Ok(bytes.to_vec()));
                    taken
                }
                Step::Blank { taken } => taken,
                Step::TooLong { start, taken, hash } => {
                    out.push(Err((start, (at + taken) as u64, hash)));
                    taken
                }
                Step::Skipped { taken } => taken,
                Step::Need if end == content.len() => return out,
                Step::Need => {
                    want = (want * 2).min(max + 1).max(want + 1);
                    continue;
                }
            };
            at += taken;
            want = chunk;
        }
    }

    fn obvious(content: &[u8], max: usize) -> Vec<Result<Vec<u8>, (u64, u64, u128)>> {
        let (mut at, mut out) = (0, Vec::new());
        for line in content.split_inclusive(|b| *b == b'\n') {
            let end = at + line.len() as u64;
            let bare = line.strip_suffix(b"\n").unwrap_or(line);
            if bare.len() > max {
                out.push(Err((at, end, checksum(bare))));
            } else if !ndjson::is_blank(bare) {
                out.push(Ok(bare.strip_suffix(b"\r").unwrap_or(bare).to_vec()));
            }
            at = end;
        }
        out
    }

    proptest! {
        #[test]
        fn chunks_give_the_same_lines(content in "[ab \r\n]{0,200}", max in 1_usize..12, chunk in 1_usize..20) {
            prop_assert_eq!(split(content.as_bytes(), max, chunk), obvious(content.as_bytes(), max));
        }
    }

    #[test]
    fn a_partial_line_waits_for_its_end() {
        let mut splitter = Splitter::new(100);
        assert_eq!(splitter.next(b"half", 0, false, Encoding::Utf8), Step::Need);
        assert_eq!(splitter.next(b"half", 0, true, Encoding::Utf8), Step::Line { bytes: b"half", taken: 4 });
        assert_eq!(splitter.next(b"", 4, true, Encoding::Utf8), Step::Need);
    }
}

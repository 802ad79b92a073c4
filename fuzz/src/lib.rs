//! What all fuzz targets run on.
//!
//! ```text
//!               ┌─ cargo test ──► the corpus, then some thousand inputs mutated from it, always the same ones
//! target(check) ┤
//!               └─ libFuzzer ───► millions of inputs, guided by coverage        ./test fuzz
//! ```
//!
//! A target is an ordinary test beside the code that it tests, so that it sees what is private there. Its name is
//! `fuzz_` and the target's, by which scripts/fuzz.sh finds it. README.md tells how to add one.
//!
//! This crate knows nothing of logweir.

#[cfg(not(fuzzing_libfuzzer))]
mod corpus;
#[cfg(fuzzing_libfuzzer)]
mod libfuzzer;
#[cfg(not(fuzzing_libfuzzer))]
mod mutate;
mod work;

pub use work::{Work, bounded};

/// Runs a target: `check` panics on an input that breaks an invariant. `name` is `CRATE/TARGET`, the folder of
/// its corpus.
///
/// # Panics
/// When an input makes `check` panic, after that input is written where it can be tried again; and when the
/// corpus can't be read, or is empty.
pub fn target(name: &str, check: fn(&[u8])) {
    #[cfg(fuzzing_libfuzzer)]
    libfuzzer::run(name, check);
    #[cfg(not(fuzzing_libfuzzer))]
    corpus::run(name, check);
}

/// An input that is taken apart from its beginning, for targets that need several things of it. What is missing at
/// the end is zero or empty.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it is left.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Two bytes as a number.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Up to `len` bytes.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_zero() {
        let mut input = Input::new(&[1, 2, 3, 4, 5]);
        assert_eq!((input.byte(), input.short(), input.take(9)), (1, 0x0302, &[4, 5][..]));
        assert_eq!((input.byte(), input.short(), input.rest()), (0, 0, &[][..]));
        assert!(input.is_empty());
    }
}

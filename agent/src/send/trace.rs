//! W3C trace context: one trace for each batch, from its first attempt to the worker's commit.

use std::fmt;

/// The trace of a batch; all attempts, and its halves, are spans of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace(String);

impl Trace {
    /// From a random number.
    pub(crate) fn new(random: u128) -> Self {
        // All zeros is the invalid one.
        Self(format!("{:032x}", random.max(1)))
    }

    /// The 32 hex digits.
    pub(crate) fn id(&self) -> &str {
        &self.0
    }

    /// The header of one attempt, from another random number.
    pub(crate) fn parent(&self, random: u64) -> String {
        format!("00-{}-{:016x}-01", self.0, random.max(1))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_the_w3c() {
        let trace = Trace::new(0xab << 64);
        assert_eq!(trace.parent(7), "00-00000000000000ab0000000000000000-0000000000000007-01");
        assert_eq!(Trace::new(0).parent(0), "00-00000000000000000000000000000001-0000000000000001-01");
    }
}

//! The names of the keys of one shard.

use std::fmt;

/// One queue of possibly many. Its keys share the hash tag `{n}`, so that they lie on one node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shard(pub u16);

impl Shard {
    /// The stream of batches.
    #[must_use]
    pub fn queue(self) -> String {
        self.key("queue")
    }

    /// The stream of dead letters.
    #[must_use]
    pub fn dead(self) -> String {
        self.key("dead")
    }

    /// The sum of the bodies in the stream, in bytes.
    #[must_use]
    pub fn bytes(self) -> String {
        self.key("bytes")
    }

    /// Failed attempts by entry.
    #[must_use]
    pub fn attempts(self) -> String {
        self.key("attempts")
    }

    fn key(self, name: &str) -> String {
        format!("logweir:{self}:{name}")
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

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

    /// The sum of all that the dead letters hold, in bytes.
    #[must_use]
    pub fn dead_bytes(self) -> String {
        self.key("dead:bytes")
    }

    /// The sum of the bodies in the stream, in bytes.
    #[must_use]
    pub fn bytes(self) -> String {
        self.key("bytes")
    }

    /// Failed attempts by entry: a hash from the entry's ID to JSON.
    #[must_use]
    pub fn attempts(self) -> String {
        self.key("attempts")
    }

    /// When each idempotency key will be forgotten: a sorted set from the hash of agent and key to Unix
    /// milliseconds by Redis' clock.
    #[must_use]
    pub fn idem(self) -> String {
        self.key("idem")
    }

    /// What each idempotency key was answered: a hash with the members of [`Shard::idem`].
    #[must_use]
    pub fn idem_answers(self) -> String {
        self.key("idem:answers")
    }

    /// The sum of these answers, in bytes.
    #[must_use]
    pub fn idem_bytes(self) -> String {
        self.key("idem:bytes")
    }

    /// Written to before waiting for the disk or the replicas: what was written earlier is there too then.
    #[must_use]
    pub fn fence(self) -> String {
        self.key("fence")
    }

    /// Written to when it must be known whether Redis takes writes; it goes by itself.
    #[must_use]
    pub fn probe(self) -> String {
        self.key("probe")
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

/// The names, made once.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) queue: String,
    pub(crate) dead: String,
    pub(crate) dead_bytes: String,
    pub(crate) bytes: String,
    pub(crate) attempts: String,
    pub(crate) idem: String,
    pub(crate) idem_answers: String,
    pub(crate) idem_bytes: String,
}

impl From<Shard> for Keys {
    fn from(shard: Shard) -> Self {
        Self {
            queue: shard.queue(),
            dead: shard.dead(),
            dead_bytes: shard.dead_bytes(),
            bytes: shard.bytes(),
            attempts: shard.attempts(),
            idem: shard.idem(),
            idem_answers: shard.idem_answers(),
            idem_bytes: shard.idem_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_others_rely_on() {
        let shard = Shard(3);
        assert_eq!(shard.queue(), "logweir:{3}:queue");
        assert_eq!(shard.dead(), "logweir:{3}:dead");
        assert_eq!(shard.dead_bytes(), "logweir:{3}:dead:bytes");
        assert_eq!(shard.bytes(), "logweir:{3}:bytes");
        assert_eq!(shard.attempts(), "logweir:{3}:attempts");
    }
}

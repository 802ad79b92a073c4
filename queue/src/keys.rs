//! The shards, and the names of their keys.

use logweir_proto::ProducerId;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The most shards that there may be: whoever drains looks for what waits in any of them.
pub const MAX_SHARDS: u16 = 64;

/// One part of the queue. Its keys share the hash tag `{n}`, so that they lie on one node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Shard(u16);

/// Into how many shards batches are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards(u16);

impl Default for Shards {
    fn default() -> Self {
        Self(1)
    }
}

impl Shards {
    /// So many, from 1 to [`MAX_SHARDS`].
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        (1..=MAX_SHARDS).contains(&count).then_some(Self(count))
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u16 {
        self.0
    }

    /// Each of them.
    pub fn all(self) -> impl Iterator<Item = Shard> {
        (0..self.0).map(Shard)
    }

    /// Those that there may be beyond them, when there were more before.
    pub(crate) fn beyond(self) -> impl Iterator<Item = Shard> {
        (self.0..MAX_SHARDS).map(Shard)
    }

    /// Each that there may be.
    pub(crate) fn any() -> impl Iterator<Item = Shard> {
        (0..MAX_SHARDS).map(Shard)
    }

    /// Where a batch goes: by the idempotency key that its agent gave it, whoever numbers it then, or else by its
    /// producer, always.
    #[must_use]
    pub fn of(self, producer: ProducerId, agent: &str, key: Option<&str>) -> Shard {
        match key {
            Some(key) => self.pick(&key_hash(agent, key)),
            None => self.pick(&Sha256::digest(producer.to_string())),
        }
    }

    /// The part of a limit that each shard has; at least 1.
    #[must_use]
    pub fn share(self, of: u64) -> u64 {
        (of / u64::from(self.0)).max(1)
    }

    fn pick(self, hash: &[u8]) -> Shard {
        let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Shard(u16::try_from(number % u64::from(self.0)).unwrap_or(0))
    }
}

/// What stands for an agent's idempotency key: of one length, whatever they hold.
pub(crate) fn key_hash(agent: &str, key: &str) -> [u8; 32] {
    Sha256::new().chain_update(agent).chain_update([0]).chain_update(key).finalize().into()
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = text.parse().ok().and_then(Self::new);
        count.ok_or_else(|| format!("expected a number from 1 to {MAX_SHARDS}"))
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Shard {
    /// This one, counted from 0 and below [`MAX_SHARDS`].
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < MAX_SHARDS).then_some(Self(number))
    }

    /// Counted from 0.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

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

impl Keys {
    /// Those of every shard that there may be.
    pub(crate) fn of_all() -> Vec<Self> {
        Shards::any().map(Self::from).collect()
    }
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

    /// Written down, since what a producer is given must stay its own over all versions.
    #[test]
    fn a_producer_keeps_its_shard() {
        let producer = |n: u128| ProducerId::new(uuid::Uuid::from_u128(n));
        let of = |count: u16| -> Vec<u16> {
            let shards = Shards::new(count).unwrap();
            (1..=8).map(|n| shards.of(producer(n), "web-1", None).number()).collect()
        };
        assert_eq!(of(1), [0; 8]);
        assert_eq!(of(4), [1, 2, 2, 3, 0, 0, 2, 0]);
        assert_eq!(of(64), [13, 46, 18, 11, 12, 36, 2, 44]);
        let shards = Shards::new(4).unwrap();
        assert_eq!(shards.of(producer(1), "web-1", Some("k")).number(), 0);
    }

    #[test]
    fn producers_spread_over_all_shards() {
        let shards = Shards::new(MAX_SHARDS).unwrap();
        let mut seen = std::collections::HashMap::<Shard, u32>::new();
        // As like each other as can be.
        for n in 1..=6_400 {
            let producer = ProducerId::new(uuid::Uuid::from_u128(n));
            *seen.entry(shards.of(producer, "web-1", None)).or_default() += 1;
        }
        assert_eq!(seen.len(), usize::from(MAX_SHARDS));
        assert!(seen.values().all(|count| (50..200).contains(count)), "{seen:?}");
    }

    #[test]
    fn how_many_shards_is_bounded() {
        for (text, count) in [("1", Some(1)), ("64", Some(64)), ("0", None), ("65", None), ("x", None)] {
            assert_eq!(text.parse::<Shards>().ok().map(Shards::count), count, "{text}");
        }
        let four = Shards::new(4).unwrap();
        assert_eq!((four.share(10), four.share(3), Shards::default().share(7)), (2, 1, 7));
        assert_eq!((four.all().count(), four.beyond().count()), (4, 60));
    }
}

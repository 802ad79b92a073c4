//! Identity: producers number their events 1, 2, 3, …; a batch is a run of numbers, named by the first.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use thiserror::Error;
use uuid::Uuid;

/// The largest event number: 2⁶³ − 2, since the exclusive upper bound of a Postgres `int8range` must fit too.
pub const MAX_NUMBER: u64 = (1 << 63) - 2;

/// One run of an agent, or of a collector for posters without an identity.
///
/// A producer ID is a capability: agents and operators see it, nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(Uuid);

impl ProducerId {
    /// From a UUID that was made at random, at the start of the run.
    #[must_use]
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for ProducerId {
    type Err = BatchIdError;

    /// Takes the hyphenated form only, in either case; the nil UUID is no producer.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uuid = Uuid::try_parse(text).map_err(|_| BatchIdError::Producer)?;
        if text.len() != 36 || uuid.is_nil() { Err(BatchIdError::Producer) } else { Ok(Self(uuid)) }
    }
}

/// The number of an event, 1 to [`MAX_NUMBER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(NonZeroU64);

impl Seq {
    /// The first number of every producer.
    pub const FIRST: Seq = Seq(NonZeroU64::MIN);

    /// `None` for 0 and for numbers past [`MAX_NUMBER`].
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).filter(|n| n.get() <= MAX_NUMBER).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The number `events` further on, or `None` when it is past [`MAX_NUMBER`].
    #[must_use]
    pub fn plus(self, events: u64) -> Option<Self> {
        self.get().checked_add(events).and_then(Self::new)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a batch, `PRODUCER/SEQ`. The event with index i has the number SEQ + i.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// Who numbered the events.
    pub producer: ProducerId,
    /// The number of the first event.
    pub seq: Seq,
}

impl BatchId {
    /// Whether `events` numbers beginning with [`BatchId::seq`] all exist.
    #[must_use]
    pub fn holds(&self, events: u64) -> bool {
        events > 0 && self.seq.plus(events - 1).is_some()
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.seq)
    }
}

/// Why a text names no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchIdError {
    /// There is no `/`.
    #[error("a batch is named PRODUCER/SEQ, such as 0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/1")]
    NoSlash,
    /// The part before the slash.
    #[error("the producer must be a UUID in hyphenated form, and not the nil UUID")]
    Producer,
    /// The part after the slash.
    #[error(
        "the sequence number must be a decimal number from 1 to 9223372036854775806, without sign or leading zero"
    )]
    Seq,
}

impl FromStr for BatchId {
    type Err = BatchIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (producer, seq) = text.split_once('/').ok_or(BatchIdError::NoSlash)?;
        let digits = !seq.starts_with('0') && seq.bytes().all(|b| b.is_ascii_digit());
        let number = seq.parse().ok().filter(|_| digits).ok_or(BatchIdError::Seq)?;
        Ok(Self { producer: producer.parse()?, seq: Seq::new(number).ok_or(BatchIdError::Seq)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10";

    #[test]
    fn names_round_trip() {
        for seq in ["1", "42", "9223372036854775806"] {
            let text = format!("{UUID}/{seq}");
            assert_eq!(text.parse::<BatchId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_names_say_which_part() {
        for (text, error) in [
            (UUID.to_owned(), BatchIdError::NoSlash),
            ("x/1".to_owned(), BatchIdError::Producer),
            ("0b6e2a526d0e4b1c9c0a6f4d5c1f7a10/1".to_owned(), BatchIdError::Producer),
            ("00000000-0000-0000-0000-000000000000/1".to_owned(), BatchIdError::Producer),
            (format!("{UUID}/0"), BatchIdError::Seq),
            (format!("{UUID}/01"), BatchIdError::Seq),
            (format!("{UUID}/+1"), BatchIdError::Seq),
            (format!("{UUID}/"), BatchIdError::Seq),
            (format!("{UUID}/9223372036854775807"), BatchIdError::Seq),
            (format!("{UUID}/99999999999999999999"), BatchIdError::Seq),
        ] {
            assert_eq!(text.parse::<BatchId>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_last_number_is_the_last() {
        let last: BatchId = format!("{UUID}/{MAX_NUMBER}").parse().unwrap();
        assert!(last.holds(1));
        assert!(!last.holds(2));
        assert!(!last.holds(0));
    }
}

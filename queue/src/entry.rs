//! One batch as it stands in the stream.

use bytes::Bytes;
use logweir_proto::BatchId;
use logweir_proto::ProducerId;
use logweir_proto::Seq;
use logweir_proto::encoding::Encoding;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use thiserror::Error;

use crate::error::QueueError;
use crate::keys::Shard;

/// The format that is written and read here: the field `v`.
const VERSION: u32 = 1;

/// The ID that Redis gave an entry, such as `1764000000000-0`; with its shard before it unless that is 0, such as
/// `3:1764000000000-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub String);

impl EntryId {
    /// What Redis said of this shard.
    pub(crate) fn of(shard: Shard, id: String) -> Self {
        if shard == Shard::default() { Self(id) } else { Self(format!("{}:{id}", shard.number())) }
    }

    /// The shard, and the ID as Redis has it. Redis takes other things in its place (`-`, `+`, a time alone) to mean
    /// ranges.
    pub(crate) fn parts(&self) -> Result<(Shard, &str), QueueError> {
        let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u64>().is_ok();
        let (shard, id) = match self.0.split_once(':') {
            Some((shard, id)) if number(shard) => (shard.parse().ok().and_then(Shard::new), id),
            Some(_) => (None, ""),
            None => (Some(Shard::default()), self.0.as_str()),
        };
        match (shard, id.split_once('-')) {
            (Some(shard), Some((time, seq))) if number(time) && number(seq) => Ok((shard, id)),
            _ => Err(QueueError::Usage(format!("`{}` is no entry's ID, such as 1764000000000-0", self.0))),
        }
    }

    /// In which shard the entry is; 0 when this is no ID at all.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.parts().map(|(shard, _)| shard).unwrap_or_default()
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EntryId {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Self(text.to_owned());
        id.parts()?;
        Ok(id)
    }
}

/// A batch that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its ID in the stream.
    pub id: EntryId,
    /// Who sent it.
    pub agent: String,
    /// Its identity.
    pub batch: BatchId,
    /// How many numbers it takes, rejected events included.
    pub events: u64,
    /// The indices of the rejected events, ascending; the body leaves them out.
    pub skip: Vec<u64>,
    /// How the body is encoded; never gzip.
    pub enc: Encoding,
    /// When it was enqueued, in Unix milliseconds by the collector's clock.
    pub at_ms: i64,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// NDJSON of the valid events, encoded as `enc` says.
    pub body: Bytes,
}

/// All fields of an entry, as they stand in Redis.
pub type Fields = Vec<(Bytes, Bytes)>;

/// Which event numbers an entry takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The batch: who numbered the events, and the first number.
    pub batch: BatchId,
    /// How many numbers it takes, rejected events included.
    pub events: u64,
    /// The indices of the rejected events, ascending: their numbers may still be used.
    pub skip: Vec<u64>,
}

impl Numbers {
    /// Read from an entry's own fields; what else is wrong with them doesn't matter.
    ///
    /// # Errors
    /// Which field is missing or wrong.
    pub fn of(fields: &Fields) -> Result<Self, String> {
        // The fields are handles on the same bytes.
        RawEntry { id: EntryId(String::new()), fields: fields.clone() }.numbers()
    }

    /// The numbers of its events as half-open ranges, ascending; those of rejected events are not among them.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.batch.seq.get();
        let gaps = self.skip.iter().map(move |index| first + index).chain([first + self.events]);
        gaps.scan(first, |start, gap| {
            let range = *start..gap;
            *start = gap + 1;
            Some(range)
        })
        .filter(|range| !range.is_empty())
    }

    /// Whether this number is among them, as a rejected event's too.
    #[must_use]
    pub fn takes(&self, number: u64) -> bool {
        let first = self.batch.seq.get();
        (first..first + self.events).contains(&number)
    }
}

/// What a read gives for each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A batch of this format version.
    Batch(Entry),
    /// An entry that is no batch: a failure of the batch, not of the world.
    Unreadable(Unreadable),
}

/// An entry whose fields are missing or wrong, or whose `v` is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its ID in the stream.
    pub id: EntryId,
    /// What is wrong with it.
    pub flaw: Flaw,
    /// The length of its `body` field, for the byte counter.
    pub body_bytes: u64,
}

/// Why an entry can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Flaw {
    /// Its format is of a later version, which a newer worker reads: no fault at all.
    #[error("`v` is {version}, and this version reads {VERSION}")]
    Newer {
        /// Its `v`.
        version: u32,
    },
    /// A field is missing or wrong; the sentence names it.
    #[error("{0}")]
    Wrong(String),
}

impl From<String> for Flaw {
    fn from(sentence: String) -> Self {
        Self::Wrong(sentence)
    }
}

/// An entry that is finished with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its ID.
    pub id: EntryId,
    /// The length of its body as it stood in the stream, for the byte counter.
    pub body_bytes: u64,
}

impl Item {
    /// Its ID in the stream.
    #[must_use]
    pub fn id(&self) -> &EntryId {
        match self {
            Item::Batch(entry) => &entry.id,
            Item::Unreadable(unreadable) => &unreadable.id,
        }
    }

    /// The length of its body as it stands in the stream.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        match self {
            Item::Batch(entry) => length(&entry.body),
            Item::Unreadable(unreadable) => unreadable.body_bytes,
        }
    }

    /// What [`crate::Queue::acknowledge`] needs of it.
    #[must_use]
    pub fn done(&self) -> Done {
        Done { id: self.id().clone(), body_bytes: self.body_bytes() }
    }
}

impl Entry {
    /// What [`crate::Queue::acknowledge`] needs of it.
    #[must_use]
    pub fn done(&self) -> Done {
        Done { id: self.id.clone(), body_bytes: length(&self.body) }
    }
}

pub(crate) fn length(body: &[u8]) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

/// An entry before its fields are looked at.
#[derive(Debug)]
pub(crate) struct RawEntry {
    pub(crate) id: EntryId,
    pub(crate) fields: Fields,
}

impl From<RawEntry> for Item {
    fn from(raw: RawEntry) -> Self {
        match raw.parse() {
            Ok(entry) => Item::Batch(entry),
            Err(flaw) => {
                let body_bytes = raw.find("body").map_or(0, |body| length(body));
                Item::Unreadable(Unreadable { id: raw.id, flaw, body_bytes })
            }
        }
    }
}

impl RawEntry {
    fn find(&self, name: &str) -> Option<&Bytes> {
        self.fields.iter().find(|(key, _)| key.as_ref() == name.as_bytes()).map(|(_, value)| value)
    }

    fn bytes(&self, name: &str) -> Result<&Bytes, String> {
        self.find(name).ok_or_else(|| format!("`{name}` is missing"))
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        std::str::from_utf8(self.bytes(name)?).map_err(|_| format!("`{name}` is no UTF-8"))
    }

    fn number<N: FromStr>(&self, name: &str) -> Result<N, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("`{name}` is no number that fits: {}", excerpt(text)))
    }

    fn parse(&self) -> Result<Entry, Flaw> {
        let version = self.text("v")?;
        match version.parse() {
            Ok(VERSION) => {}
            Ok(version) if version > VERSION => return Err(Flaw::Newer { version }),
            _ => {
                let is = excerpt(version);
                return Err(Flaw::Wrong(format!("`v` is {is}, and this version reads {VERSION}")));
            }
        }
        let Numbers { batch, events, skip } = self.numbers()?;
        let enc = match self.text("enc")? {
            "identity" => Encoding::Identity,
            "zstd" => Encoding::Zstd,
            other => return Err(format!("`enc` is {}, not zstd or identity", excerpt(other)).into()),
        };
        Ok(Entry {
            id: self.id.clone(),
            agent: self.text("agent")?.to_owned(),
            batch,
            events,
            skip,
            enc,
            at_ms: self.number("at")?,
            // Only for tracing: a garbled one is no reason not to count.
            traceparent: self.text("traceparent").ok().map(str::to_owned),
            body: self.bytes("body")?.clone(),
        })
    }

    fn numbers(&self) -> Result<Numbers, String> {
        let producer: ProducerId = self.text("producer")?.parse().map_err(|e| format!("`producer`: {e}"))?;
        let seq = Seq::new(self.number("seq")?).ok_or_else(|| {
            format!("`seq` is no event number: {}", excerpt(self.text("seq").unwrap_or("")))
        })?;
        let batch = BatchId { producer, seq };
        let events = self.number("events")?;
        if !batch.holds(events) {
            return Err(format!(
                "`events` is {events}, which is none, or passes the last number after seq {seq}"
            ));
        }
        Ok(Numbers { batch, events, skip: self.skip(events)? })
    }

    fn skip(&self, events: u64) -> Result<Vec<u64>, String> {
        if self.find("skip").is_none() {
            return Ok(Vec::new());
        }
        let mut skip: Vec<u64> = Vec::new();
        for part in self.text("skip")?.split(',') {
            let index = part.parse().map_err(|_| format!("`skip` holds {}, no index", excerpt(part)))?;
            if index >= events || skip.last().is_some_and(|last| *last >= index) {
                return Err(format!("`skip` holds {index}, which is not ascending or not below {events}"));
            }
            skip.push(index);
        }
        Ok(skip)
    }
}

/// Enough of a wrong value to recognise it.
fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() { format!("{start:?}…") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10";

    fn good() -> Vec<(&'static str, &'static [u8])> {
        vec![
            ("v", b"1"),
            ("agent", b"web-1"),
            ("producer", PRODUCER.as_bytes()),
            ("seq", b"7"),
            ("events", b"3"),
            ("skip", b"0,2"),
            ("enc", b"identity"),
            ("at", b"1764000000000"),
            ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("body", b"{}\n\0\xff"),
        ]
    }

    fn item(fields: &[(&'static str, &'static [u8])]) -> Item {
        let fields =
            fields.iter().map(|(k, v)| (Bytes::from_static(k.as_bytes()), Bytes::from_static(v))).collect();
        RawEntry { id: EntryId("5-0".to_owned()), fields }.into()
    }

    fn with(name: &'static str, value: Option<&'static [u8]>) -> Item {
        let mut fields = good();
        fields.retain(|(key, _)| *key != name);
        fields.extend(value.map(|value| (name, value)));
        item(&fields)
    }

    #[test]
    fn a_whole_entry_is_a_batch() {
        let Item::Batch(entry) = item(&good()) else { panic!() };
        assert_eq!(entry.batch.to_string(), format!("{PRODUCER}/7"));
        assert_eq!((entry.events, entry.skip.as_slice(), entry.at_ms), (3, &[0, 2][..], 1_764_000_000_000));
        assert_eq!(entry.body.as_ref(), b"{}\n\0\xff");
        assert_eq!(entry.agent, "web-1");
    }

    #[test]
    fn numbers_can_be_read_where_the_rest_can_not() {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut fields: Fields = good().iter().map(|(k, v)| (bytes(k), Bytes::from_static(v))).collect();
        fields.retain(|(name, _)| !["v", "enc", "body"].iter().any(|gone| name == gone));
        let numbers = Numbers::of(&fields).unwrap();
        assert_eq!(numbers.ranges().collect::<Vec<_>>(), std::slice::from_ref(&(8..9)));
        assert!(numbers.takes(7) && numbers.takes(9) && !numbers.takes(10) && !numbers.takes(6));
        let ranges = |skip: &[u64]| {
            let numbers = Numbers { skip: skip.to_vec(), ..numbers.clone() };
            numbers.ranges().collect::<Vec<_>>()
        };
        assert_eq!(ranges(&[]), std::slice::from_ref(&(7..10)));
        assert_eq!(ranges(&[1]), [7..8, 9..10]);
        assert_eq!(ranges(&[0, 1, 2]), []);
        fields.retain(|(name, _)| name != "seq");
        assert_eq!(Numbers::of(&fields), Err("`seq` is missing".to_owned()));
    }

    #[test]
    fn what_may_be_absent_may_be_absent() {
        for name in ["skip", "traceparent"] {
            assert!(matches!(with(name, None), Item::Batch(_)), "{name}");
        }
        assert!(matches!(with("traceparent", Some(b"\xff")), Item::Batch(Entry { traceparent: None, .. })));
        assert!(matches!(with("new", Some(b"of a later version")), Item::Batch(_)));
    }

    #[test]
    fn each_wrong_field_is_named_and_the_body_is_measured() {
        let cases: [(&str, Option<&'static [u8]>); 27] = [
            ("v", None),
            ("v", Some(b"2")),
            ("v", Some(b"")),
            ("agent", None),
            ("agent", Some(b"\xff")),
            ("producer", None),
            ("producer", Some(b"me")),
            ("producer", Some(b"00000000-0000-0000-0000-000000000000")),
            ("seq", None),
            ("seq", Some(b"0")),
            ("seq", Some(b"-1")),
            ("seq", Some(b"9223372036854775807")),
            ("seq", Some(b"9223372036854775806")),
            ("events", None),
            ("events", Some(b"0")),
            ("events", Some(b"18446744073709551615")),
            ("events", Some(b"3.0")),
            ("skip", Some(b"")),
            ("skip", Some(b"1,1")),
            ("skip", Some(b"2,1")),
            ("skip", Some(b"3")),
            ("skip", Some(b"0, 1")),
            ("enc", None),
            ("enc", Some(b"gzip")),
            ("enc", Some(b"ZSTD")),
            ("at", None),
            ("at", Some(b"yesterday")),
        ];
        for (name, value) in cases {
            let Item::Unreadable(unreadable) = with(name, value) else { panic!("{name} {value:?}") };
            // The last seq is a number by itself, but leaves no room for three events.
            let blamed = if value == Some(b"9223372036854775806") { "events" } else { name };
            let says = unreadable.flaw.to_string();
            assert!(says.contains(&format!("`{blamed}`")), "{name} {value:?}: {says}");
            assert_eq!(unreadable.body_bytes, 5, "{name}");
        }
        let Item::Unreadable(bodyless) = with("body", None) else { panic!() };
        assert_eq!((bodyless.flaw, bodyless.body_bytes), (Flaw::Wrong("`body` is missing".to_owned()), 0));
    }

    #[test]
    fn only_a_later_version_is_for_a_newer_worker() {
        let flaw = |v: &'static [u8]| match with("v", Some(v)) {
            Item::Unreadable(unreadable) => Some(unreadable.flaw),
            Item::Batch(_) => None,
        };
        assert_eq!(flaw(b"1"), None);
        assert_eq!(flaw(b"2"), Some(Flaw::Newer { version: 2 }));
        assert_eq!(flaw(b"4294967295"), Some(Flaw::Newer { version: u32::MAX }));
        for other in [&b"0"[..], b"x", b"-2", b"2.0", b"4294967296", b""] {
            assert!(matches!(flaw(other), Some(Flaw::Wrong(_))), "{other:?}");
        }
    }

    #[test]
    fn an_id_is_a_whole_id() {
        for good in ["0-1", "1764000000000-0", "18446744073709551615-18446744073709551615", "63:0-1"] {
            assert!(good.parse::<EntryId>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-",
            "+",
            "5",
            "5-",
            "-5",
            "5-0-0",
            "(5-0",
            "5-0 ",
            "+5-0",
            "18446744073709551616-0",
            "$",
            "64:0-1",
            ":0-1",
            "+1:0-1",
            "1:1:0-1",
        ] {
            assert!(matches!(bad.parse::<EntryId>(), Err(QueueError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn an_id_names_its_shard_unless_that_is_the_first() {
        let third = Shard::new(3).unwrap();
        for (shard, text) in [(Shard::default(), "5-0"), (third, "3:5-0")] {
            let id = EntryId::of(shard, "5-0".to_owned());
            assert_eq!(id.to_string(), text);
            assert_eq!(id.parts().unwrap(), (shard, "5-0"));
            assert_eq!(id.shard(), shard);
        }
    }
}

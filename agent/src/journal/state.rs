//! What the journal knows, and how a record changes it.
//!
//! ```text
//! Delta { settled, forgotten, sealed, files } ──► State { batches, files }
//! ```
//!
//! Pure. Invariants: a batch's pieces hold exactly its events, in the order of their numbers; no batch is sealed
//! twice; one record is applied whole or, when it is torn, not at all. A snapshot is records on an empty state: they
//! stand in a file that was durable before it got its name, so none of them is torn.

use crate::files::identity::{Checksum, Key, hex};
use crate::files::trail::Trail;
use logweir_proto::line::rules::RuleTexts;
use logweir_proto::line::{Format, Keys, Origin, State as ParserState};
use logweir_proto::{BatchId, Level};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file, and up to where its lines are sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    pub(crate) key: Key,
    /// Where it was last seen.
    #[serde(with = "path")]
    pub(crate) path: PathBuf,
    /// Where that led, when there was a link on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) real: Option<RealPath>,
    /// The service of its lines that carry none. It stays when the file is renamed.
    pub(crate) service: String,
    /// What comes after this is not sealed.
    pub(crate) offset: u64,
    /// Its first bytes.
    pub(crate) fingerprint: Checksum,
    /// The bytes just before `offset`.
    pub(crate) guard: Checksum,
    /// The same of a few places before it.
    #[serde(default, skip_serializing_if = "Trail::is_empty")]
    pub(crate) trail: Trail,
    /// The time of the next line that has none, in Unix milliseconds.
    pub(crate) carry_ms: i64,
    /// Whether `carry_ms` comes from a line; else it is the time of reading.
    pub(crate) timed: bool,
    /// What else the parser knows before the next line.
    #[serde(default, skip_serializing_if = "ParserState::is_first")]
    pub(crate) parser: ParserState,
    /// Its container. It stays when the file is renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    /// Which fields are the parts of its events.
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    pub(crate) keys: Keys,
    /// More of the first bytes, where it was not begun with: that nothing is read of it for a while must not let other content
    /// with the same few first bytes take its place unnoticed. A copy of the file may have less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unread: Option<Checksum>,
    /// Whether it is compressed: all offsets are those of what is in it, and so are the checksums.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) packed: bool,
    /// When the file was made, in Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) born: Option<i64>,
    /// Since when it has been left alone, in Unix milliseconds: it matches no pattern any more, and was read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed_ms: Option<i64>,
    /// Whether it had been read to its end when an agent stopped in order, so that its deletion since then is no loss
    /// for all that is known; a new run takes that back at first sight.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) at_end: bool,
}

/// A path without links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RealPath(#[serde(with = "path")] PathBuf);

impl RealPath {
    /// Where `path` leads, when that is elsewhere.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        std::fs::canonicalize(path).ok().filter(|real| real != path).map(Self)
    }
}

impl FileEntry {
    /// Where it was last seen: under its name, and where that led.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(self.path.as_path()), self.real.as_ref().map(|real| real.0.as_path())].into_iter().flatten()
    }

    /// Whether a file with these first bytes may hold what was seen and not begun with.
    pub(crate) fn may_be_unread(&self, head: &[u8]) -> bool {
        self.unread.is_none_or(|unread| unread.begins(head))
    }

    /// Whether nothing of the content is unread for all that is known: it was read to its end and left alone, or was
    /// empty when it was last seen.
    pub(crate) const fn has_no_rest(&self) -> bool {
        self.closed_ms.is_some() || (self.offset == 0 && self.fingerprint.len() == 0)
    }
}

/// A run of lines of one file, whose events have consecutive numbers. It begins and ends between two events: that an
/// event ended because nothing followed for a while is told by nothing but the end of its piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Piece {
    pub(crate) key: Key,
    #[serde(with = "path")]
    pub(crate) path: PathBuf,
    pub(crate) service: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) events: u64,
    /// The checksum of the bytes from start to end.
    #[serde(with = "hex")]
    pub(crate) hash: u128,
    /// The parser's state at the start: the time of a line that has none, in Unix milliseconds, and the rest.
    pub(crate) carry_ms: i64,
    #[serde(default, skip_serializing_if = "ParserState::is_first")]
    pub(crate) parser: ParserState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    pub(crate) keys: Keys,
}

/// How a batch's lines were parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parsing {
    #[serde(with = "format_name")]
    pub(crate) format: Format,
    pub(crate) service: Option<String>,
    #[serde(with = "level_name")]
    pub(crate) default_level: Level,
    pub(crate) timezone: String,
    /// Lines of text that match begin an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) multiline_start: Option<String>,
    /// A longer event of several lines was cut. A journal of before there were such events knows none.
    #[serde(default = "multiline_bytes")]
    pub(crate) multiline_bytes: usize,
    /// Which events were left out, and what was replaced in the others.
    #[serde(default, skip_serializing_if = "RuleTexts::is_empty")]
    pub(crate) rules: RuleTexts,
}

const fn multiline_bytes() -> usize {
    logweir_proto::line::MAX_EVENT_BYTES
}

/// An unsettled batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    #[serde(with = "name")]
    pub(crate) id: BatchId,
    pub(crate) parsing: Parsing,
    pub(crate) pieces: Vec<Piece>,
}

impl Batch {
    /// How many numbers it takes.
    pub(crate) fn events(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.events).sum()
    }

    fn check(&self) -> Result<(), String> {
        let good = self.pieces.iter().all(|p| p.start < p.end && p.events > 0 && p.events <= p.end - p.start);
        // Damage that a checksum doesn't see could add up to more than there are numbers.
        let events = self.pieces.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.events));
        if good && events.is_some_and(|events| self.id.holds(events)) {
            Ok(())
        } else {
            Err(format!("batch {} has impossible pieces", self.id))
        }
    }
}

/// One record: a change that happens whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Delta {
    /// Batches that nobody needs to send again.
    #[serde(with = "names", skip_serializing_if = "Vec::is_empty")]
    pub(crate) settled: Vec<BatchId>,
    /// Files that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) forgotten: Vec<Key>,
    /// Batches that may be sent once this record is durable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sealed: Vec<Batch>,
    /// Files whose place is another now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<FileEntry>,
}

impl Delta {
    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How many files are in one record of a snapshot.
const FILES: usize = 32;

/// All that the journal knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) batches: BTreeMap<BatchId, Batch>,
    pub(crate) files: BTreeMap<Key, FileEntry>,
}

impl State {
    /// Applies one record. What is settled or forgotten goes first, so that one record can put parts in a batch's place.
    ///
    /// # Errors
    /// A sentence that says which rule it breaks; the state is then to be thrown away.
    pub(crate) fn apply(&mut self, delta: &Delta) -> Result<(), String> {
        for id in &delta.settled {
            self.batches.remove(id).ok_or_else(|| format!("batch {id} is settled but was not sealed"))?;
        }
        for key in &delta.forgotten {
            self.files.remove(key);
        }
        for batch in &delta.sealed {
            batch.check()?;
            if self.batches.insert(batch.id, batch.clone()).is_some() {
                return Err(format!("batch {} is sealed twice", batch.id));
            }
        }
        for file in &delta.files {
            self.files.insert(file.key, file.clone());
        }
        Ok(())
    }

    /// Records that give this state when they are applied to an empty one, each of them small.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Delta> {
        let sealed =
            self.batches.values().map(|batch| Delta { sealed: vec![batch.clone()], ..Delta::default() });
        let mut files = self.files.values();
        let files = std::iter::from_fn(move || {
            let part: Vec<FileEntry> = files.by_ref().take(FILES).cloned().collect();
            (!part.is_empty()).then(|| Delta { files: part, ..Delta::default() })
        });
        sealed.chain(files)
    }
}

/// A path: as text, or as bytes where it is none.
mod path {
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => PathBuf::from(text),
            Either::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        })
    }
}

mod name {
    use logweir_proto::BatchId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &BatchId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BatchId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod names {
    use logweir_proto::BatchId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(ids: &[BatchId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(BatchId::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BatchId>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

mod format_name {
    use logweir_proto::line::Format;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(format: &Format, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Format, D::Error> {
        let name = String::deserialize(deserializer)?;
        let format = Format::ALL.into_iter().find(|format| format.as_str() == name);
        format.ok_or_else(|| D::Error::custom(format_args!("unknown format {name}")))
    }
}

mod level_name {
    use logweir_proto::Level;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(level.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
        let name = String::deserialize(deserializer)?;
        let level = Level::ALL.into_iter().find(|level| level.as_str() == name);
        level.ok_or_else(|| D::Error::custom(format_args!("unknown level {name}")))
    }
}

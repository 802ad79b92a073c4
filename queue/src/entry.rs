//! One batch as it stands in the stream.

use bytes::Bytes;
use logweir_proto::BatchId;
use logweir_proto::encoding::Encoding;
use std::fmt;

/// The ID that Redis gave an entry, such as `1764000000000-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub String);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
    /// Which field, and what is wrong with it.
    pub reason: String,
    /// The length of its `body` field, for the byte counter.
    pub body_bytes: u64,
}

/// An entry that is finished with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its ID.
    pub id: EntryId,
    /// The length of its body as it stood in the stream, for the byte counter.
    pub body_bytes: u64,
}

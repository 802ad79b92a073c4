//! What passes between the two halves of the agent: the reading half numbers events and seals batches, the sending
//! half gets them acknowledged.
//!
//! ```text
//! reader thread ── Sealed ──► sender          bounded by the reader's window of unsettled batches
//!       ▲                       │
//!       └── Wake::Settled ──────┘             every sealed batch comes back exactly once
//! ```
//!
//! A batch is durably in the journal before it is handed over, so losing what is in these channels loses nothing.

use crate::settings::Reading;
use bytes::Bytes;
use logweir_proto::{BatchId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Of zstd: higher levels cost several times the CPU for a few percent.
const LEVEL: i32 = 3;

/// A batch whose numbers are fixed for ever; the journal holds it.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    /// Its name.
    pub(crate) id: BatchId,
    /// How many events it holds: lines of the body, and numbers that it takes.
    pub(crate) events: u64,
    /// NDJSON, one event a line, compressed with zstd.
    pub(crate) body: Bytes,
    /// The length of the body before compression, in bytes.
    pub(crate) plain_bytes: u64,
}

impl Sealed {
    /// Compresses a body: NDJSON, one event a line.
    pub(crate) fn new(id: BatchId, events: u64, body: &[u8]) -> Self {
        let plain_bytes = crate::batch::length(body.len());
        Self { id, events, body: logweir_proto::encoding::encode_zstd(body, LEVEL).into(), plain_bytes }
    }
}

/// A batch that nobody needs to send again: each of its events is in the queue or rejected for good.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    /// Its name, as it was sealed (also when it was sent in halves).
    pub(crate) id: BatchId,
    /// The events that were not taken; ascending by number.
    pub(crate) rejects: Vec<Reject>,
}

/// An event that was refused for good.
#[derive(Debug, Clone)]
pub(crate) struct Reject {
    /// The number that it keeps.
    pub(crate) number: Seq,
    /// The reason: one of [`logweir_proto::Code`]'s, or the problem's code that refused the whole batch.
    pub(crate) code: String,
    /// Which field, and what would be right.
    pub(crate) detail: String,
    /// The event as it was sent, without its line end.
    pub(crate) event: Vec<u8>,
}

/// What the sending half has learnt of the collector, and the reading half heeds when it builds batches. Clones share
/// it; before anything is learnt it changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Guidance(Arc<Learnt>);

#[derive(Debug)]
struct Learnt {
    stretch: AtomicU32,
    batch_events: AtomicU64,
    batch_bytes: AtomicU64,
}

impl Default for Guidance {
    fn default() -> Self {
        let (stretch, most) = (AtomicU32::new(1), || AtomicU64::new(u64::MAX));
        Self(Arc::new(Learnt { stretch, batch_events: most(), batch_bytes: most() }))
    }
}

impl Guidance {
    /// By how much the linger is stretched, 1 or more.
    pub(crate) fn stretch(&self) -> u32 {
        self.0.stretch.load(Ordering::Relaxed)
    }

    /// Stretches the linger by this factor from now on.
    pub(crate) fn set_stretch(&self, factor: u32) {
        self.0.stretch.store(factor.max(1), Ordering::Relaxed);
    }

    /// The most events that the collector takes in one batch.
    pub(crate) fn batch_events(&self) -> u64 {
        self.0.batch_events.load(Ordering::Relaxed)
    }

    /// The most bytes (before compression) that it takes in one batch.
    pub(crate) fn batch_bytes(&self) -> u64 {
        self.0.batch_bytes.load(Ordering::Relaxed)
    }

    /// The collector's limits are these.
    pub(crate) fn set_limits(&self, batch_events: u64, batch_bytes: u64) {
        self.0.batch_events.store(batch_events.max(1), Ordering::Relaxed);
        self.0.batch_bytes.store(batch_bytes.max(1), Ordering::Relaxed);
    }
}

/// What wakes the reader thread.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The sender is done with a batch.
    Settled(Settled),
    /// A name came or went in a watched folder, or stdin brought something: look sooner than the next scan.
    Look,
    /// A file in a watched folder has grown; which one stands beside.
    Grown,
    /// Other settings, which are valid.
    Settings(Box<Reading>),
    /// Somebody wants to know how it is.
    Report(oneshot::Sender<Report>),
    /// Read nothing more; seal what has been read, and wait until all is settled.
    Stop,
    /// End now, whatever is unsettled: the next run sends it.
    End,
}

/// What the reading half can say of itself, for people.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Each followed file.
    pub(crate) files: Vec<FileReport>,
    /// Batches that are sealed and not settled.
    pub(crate) unsettled_batches: usize,
    /// Their bytes, after compression.
    pub(crate) unsettled_bytes: u64,
    /// Why nothing is read just now, if so.
    pub(crate) reading_stopped: Option<String>,
    /// How many events each rule has left out since the agent was started.
    #[serde(default)]
    pub(crate) filtered_events: BTreeMap<String, u64>,
    /// In how many places each rule has replaced something.
    #[serde(default)]
    pub(crate) redactions: BTreeMap<String, u64>,
    /// The last losses, as `losses.ndjson` has them, the newest last.
    pub(crate) losses: Vec<Value>,
}

/// One followed file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FileReport {
    pub(crate) file: String,
    /// Up to where it is read, in bytes.
    pub(crate) position: u64,
    pub(crate) size: u64,
    /// What is not yet read, in bytes.
    pub(crate) behind_bytes: u64,
    /// For how long it has not been read to its end, in milliseconds.
    pub(crate) behind_ms: u64,
    /// How fast it is read, of late.
    pub(crate) bytes_per_second: u64,
    /// Which format its lines have.
    pub(crate) format: String,
    /// Why it can't be read.
    pub(crate) error: Option<String>,
    /// What has become of it: `deleted` or `renamed`, or nothing.
    pub(crate) gone: Option<String>,
}

/// How the reading half is, after each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Whether the state directory can be written, and else why not.
    pub(crate) state: Result<(), String>,
    /// Whether stdin, whose end is the agent's, has come to it.
    pub(crate) stdin_ended: bool,
}

/// How the reading half ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Batches that are sealed and not settled: they are sent by the next run.
    pub(crate) unsettled: usize,
    /// Whether stdin brought more than what was sealed: the next run reads it from the spool.
    pub(crate) spooled: bool,
    /// Events and lines that were rejected during this run.
    pub(crate) rejected: u64,
    /// Byte ranges that were lost for sure, or may have been counted, as this run found.
    pub(crate) losses: u64,
    /// Lines of stdin that were dropped.
    pub(crate) dropped: u64,
}

/// Why the reading half can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A person must mend it: the state directory is locked, or the journal is of a newer version or damaged.
    #[error("{0}")]
    State(String),
    /// The state directory can't be written or read.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `cannot write`.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

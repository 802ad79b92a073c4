//! Putting a batch into the queue.

use crate::connection::Queue;
use crate::entry::EntryId;
use crate::error::QueueError;
use logweir_proto::BatchId;
use logweir_proto::encoding::Encoding;
use std::time::Duration;

/// A batch to be enqueued; see [`crate::Entry`] for the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry<'a> {
    /// Who sent it.
    pub agent: &'a str,
    /// Its identity.
    pub batch: BatchId,
    /// How many numbers it takes, rejected events included.
    pub events: u64,
    /// The indices of the rejected events, ascending.
    pub skip: &'a [u64],
    /// How the body is encoded; never gzip.
    pub enc: Encoding,
    /// The collector's clock, in Unix milliseconds.
    pub at_ms: i64,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// NDJSON of the valid events, encoded as `enc` says.
    pub body: &'a [u8],
}

/// How full the queue may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most entries.
    pub entries: u64,
    /// The largest sum of bodies, in bytes.
    pub bytes: u64,
}

/// A poster's own key against double posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey<'a> {
    /// The key, as it came; hashed together with the agent before it becomes part of anything in Redis.
    pub key: &'a str,
    /// How long it is remembered.
    pub window: Duration,
    /// The most keys that are remembered at a time.
    pub max_keys: u64,
    /// What to remember with it: the answer's body, to be given again.
    pub answer: &'a str,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue, as durably as the settings say.
    Added {
        /// The ID that it got.
        id: EntryId,
        /// Entries now, this one included.
        entries: u64,
        /// Bytes now, this one included.
        bytes: u64,
    },
    /// Nothing was added: a limit is reached.
    Full {
        /// Entries now.
        entries: u64,
        /// Bytes now.
        bytes: u64,
    },
    /// Nothing was added: this key has been enqueued before; here is the answer that it got.
    Repeated {
        /// As it was remembered.
        answer: String,
    },
    /// Nothing was added: too many keys are remembered.
    KeysFull,
}

impl Queue {
    /// Enqueues one batch, atomically, and waits until it is as durable as [`crate::Settings::ack`] says. The
    /// limits refuse a batch when they are reached already, so one batch may pass them.
    ///
    /// # Errors
    /// [`QueueError`]; whether the batch is in the queue is then unknown, and it must be sent again under the
    /// same identity.
    pub async fn enqueue(
        &self,
        entry: &NewEntry<'_>,
        limits: QueueLimits,
        idempotency: Option<&IdempotencyKey<'_>>,
    ) -> Result<Enqueued, QueueError> {
        let _ = (entry, limits, idempotency);
        todo!()
    }
}

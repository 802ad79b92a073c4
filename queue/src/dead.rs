//! Dead letters: entries that failed for good, with all that is known of them.

use crate::connection::Queue;
use crate::entry::{EntryId, Fields};
use crate::error::QueueError;

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its ID in the stream of dead letters.
    pub id: EntryId,
    /// The ID that it had in the queue.
    pub entry_id: EntryId,
    /// The error of the last attempt.
    pub error: String,
    /// How many attempts failed.
    pub attempts: u32,
    /// Which worker gave it up.
    pub worker: String,
    /// When its first attempt failed, in Unix milliseconds by Redis' clock.
    pub first_seen_ms: i64,
    /// When it was given up, likewise.
    pub dead_at_ms: i64,
    /// All fields that the entry had in the queue, byte for byte.
    pub fields: Fields,
}

/// What became of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// It is in the queue again, with all its fields, under this ID.
    Queued(EntryId),
    /// There is no such dead letter (any more).
    Unknown,
}

impl DeadLetter {
    /// The value of one of the original fields.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(key, _)| key.as_ref() == name.as_bytes()).map(|(_, value)| value.as_ref())
    }
}

impl Queue {
    /// Moves an entry to the dead letters, atomically: adds it there with all its fields and what is known of
    /// its attempts, and acknowledges it. Returns `None` when the entry is gone already.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letter(
        &self,
        id: &EntryId,
        worker: &str,
        error: &str,
    ) -> Result<Option<EntryId>, QueueError> {
        let _ = (id, worker, error);
        todo!()
    }

    /// Up to `count` dead letters after `after` (exclusive; `None` from the beginning), the oldest first.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letters(
        &self,
        after: Option<&EntryId>,
        count: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let _ = (after, count);
        todo!()
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letter_by_id(&self, id: &EntryId) -> Result<Option<DeadLetter>, QueueError> {
        let _ = id;
        todo!()
    }

    /// Puts a dead letter back into the queue with all its original fields, and so under its old identity,
    /// atomically; its attempts start anew.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn replay(&self, id: &EntryId) -> Result<Replay, QueueError> {
        let _ = id;
        todo!()
    }
}

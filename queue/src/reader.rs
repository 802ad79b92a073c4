//! Reading as one consumer of the group, and what is remembered of failed attempts.

use crate::connection::Queue;
use crate::entry::{EntryId, Item};
use crate::error::QueueError;
use std::time::Duration;

/// The group's name.
pub(crate) const GROUP: &str = "workers";

/// One consumer, on a connection of its own. Dropping it leaves its pending entries to be reclaimed.
pub struct Reader {
    _private: (),
}

/// What is remembered of an entry that failed. It outlives the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    /// How many failed, this one included.
    pub count: u32,
    /// When the first failed, in Unix milliseconds by Redis' clock.
    pub first_at_ms: i64,
    /// The error of the last.
    pub last_error: String,
}

impl Reader {
    /// Up to `count` entries that nobody has read, waiting up to `block` for the first. Makes group and stream
    /// when they don't exist (at 0, so that nothing that waits is passed over).
    ///
    /// # Errors
    /// [`QueueError`]; what Redis may have handed out meanwhile will be reclaimed.
    pub async fn read(&mut self, count: usize, block: Duration) -> Result<Vec<Item>, QueueError> {
        let _ = (count, block);
        todo!()
    }

    /// Takes over up to `count` entries that some consumer (also this one) has held for longer than `lease`.
    /// Goes round the whole pending list, a piece each call; entries that were deleted meanwhile are cleared.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn reclaim(&mut self, lease: Duration, count: usize) -> Result<Vec<(Item, u64)>, QueueError> {
        let _ = (lease, count);
        todo!()
    }

    /// Keeps the lease of those of `ids` that this consumer still holds. Returns how many these are.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn renew(&mut self, ids: &[EntryId]) -> Result<u64, QueueError> {
        let _ = ids;
        todo!()
    }

    /// Removes the group's consumers that have been idle for `idle` and hold nothing, by one atomic script
    /// (XGROUP DELCONSUMER would throw away what has just become pending). Returns how many.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn remove_dead_consumers(&mut self, idle: Duration) -> Result<u64, QueueError> {
        let _ = idle;
        todo!()
    }

    /// Removes this consumer if it holds nothing; for a clean stop.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn leave(&mut self) -> Result<(), QueueError> {
        todo!()
    }
}

impl Queue {
    /// Notes a failed attempt of an entry, with the error, time and worker, and returns the sum so far.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn note_attempt(
        &self,
        id: &EntryId,
        worker: &str,
        error: &str,
    ) -> Result<Attempts, QueueError> {
        let _ = (id, worker, error);
        todo!()
    }

    /// Takes the last noted attempt back, when what failed was the world and not the batch.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn forgive_attempt(&self, id: &EntryId) -> Result<(), QueueError> {
        let _ = id;
        todo!()
    }

    /// What is remembered of an entry.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn attempts(&self, id: &EntryId) -> Result<Option<Attempts>, QueueError> {
        let _ = id;
        todo!()
    }
}

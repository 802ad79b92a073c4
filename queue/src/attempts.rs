//! What is remembered of failed attempts, in Redis, so that it outlives the worker.

use crate::connection::Queue;
use crate::entry::EntryId;
use crate::error::QueueError;
use crate::link::Request;
use crate::{reply, scripts};
use redis::{Cmd, Value, cmd};
use serde::Deserialize;

/// The longest error that is kept, in bytes.
const ERROR_BYTES: usize = 1024;

/// What is remembered of an entry that failed. It outlives the worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attempts {
    /// How many failed, this one included.
    pub count: u32,
    /// When the first failed, in Unix milliseconds by Redis' clock.
    pub first_at_ms: i64,
    /// The error of the last, cut at 1 KiB.
    pub last_error: String,
}

/// The beginning of an error that is too long.
pub(crate) fn shortened(error: &str) -> &str {
    let mut end = error.len().min(ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

fn parsed(note: Value) -> Result<Attempts, QueueError> {
    serde_json::from_slice(&reply::bytes(note)?)
        .map_err(|error| QueueError::Protocol(format!("a note of attempts can't be read: {error}")))
}

impl Queue {
    /// Notes a failed attempt of an entry, with the error, time and worker, and returns the sum so far. Of an entry
    /// that is gone meanwhile nothing is kept.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn note_attempt(
        &self,
        id: &EntryId,
        worker: &str,
        error: &str,
    ) -> Result<Attempts, QueueError> {
        let id = id.checked()?;
        let keys = [self.keys().queue.as_str(), &self.keys().attempts];
        let fill = |call: &mut Cmd| {
            call.arg(id).arg(worker).arg(shortened(error));
        };
        parsed(self.link().ask(Request::Script(&scripts::NOTE_ATTEMPT, &keys, &fill)).await?)
    }

    /// Takes the last noted attempt back, when what failed was the world and not the batch.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn forgive_attempt(&self, id: &EntryId) -> Result<(), QueueError> {
        let id = id.checked()?;
        let keys = [self.keys().attempts.as_str()];
        let fill = |call: &mut Cmd| {
            call.arg(id);
        };
        self.link().ask(Request::Script(&scripts::FORGIVE_ATTEMPT, &keys, &fill)).await.map(drop)
    }

    /// What is remembered of an entry.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn attempts(&self, id: &EntryId) -> Result<Option<Attempts>, QueueError> {
        let mut get = cmd("HGET");
        get.arg(&self.keys().attempts).arg(id.checked()?);
        match self.link().ask(Request::Command(get)).await? {
            Value::Nil => Ok(None),
            note => parsed(note).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = format!("x{}", "é".repeat(ERROR_BYTES));
        let cut = shortened(&long);
        assert_eq!(cut.len(), ERROR_BYTES - 1);
        assert!(long.starts_with(cut));
    }
}

//! What is remembered of failed attempts, in Redis, so that it outlives the worker.

use crate::connection::Queue;
use crate::entry::EntryId;
use crate::error::QueueError;
use crate::request::Request;
use crate::{reply, scripts};
use redis::{Cmd, Value, cmd};
use serde::{Deserialize, Serialize};

/// The longest error that is kept, in bytes.
const ERROR_BYTES: usize = 1024;

/// How many attempts are kept one by one, the last ones; the sum counts all.
const KEPT: usize = 10;

/// What is remembered of an entry that failed. It outlives the worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attempts {
    /// How many failed, this one included.
    pub count: u32,
    /// When the first failed, in Unix milliseconds by Redis' clock.
    pub first_at_ms: i64,
    /// The last ones, up to ten, the oldest first.
    #[serde(default)]
    pub log: Vec<Attempt>,
}

/// One attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When, in Unix milliseconds by Redis' clock.
    pub at_ms: i64,
    /// Which worker tried.
    pub worker: String,
    /// Why it failed, in one line, cut at 1 KiB.
    pub error: String,
}

impl Attempts {
    /// The error of the last attempt.
    #[must_use]
    pub fn last_error(&self) -> &str {
        self.log.last().map_or("", |attempt| &attempt.error)
    }
}

/// An error in one line, and its beginning only when it is too long.
pub(crate) fn in_one_line(error: &str) -> String {
    let words = error.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::with_capacity(error.len().min(ERROR_BYTES));
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > ERROR_BYTES {
            let mut end = ERROR_BYTES;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            break;
        }
    }
    line
}

fn parsed(note: Value) -> Result<Attempts, QueueError> {
    // Its errors may be of others' making, and no UTF-8.
    serde_json::from_str(&String::from_utf8_lossy(&reply::bytes(note)?))
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
        let ((shard, id), error) = (id.parts()?, in_one_line(error));
        let keys = [self.keys(shard).queue.as_str(), &self.keys(shard).attempts];
        let fill = |call: &mut Cmd| {
            call.arg(id).arg(worker).arg(&error).arg(KEPT);
        };
        parsed(self.link().ask(Request::Script(&scripts::NOTE_ATTEMPT, &keys, &fill)).await?)
    }

    /// Takes the last noted attempt back, when what failed was the world and not the batch.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn forgive_attempt(&self, id: &EntryId) -> Result<(), QueueError> {
        let (shard, id) = id.parts()?;
        let keys = [self.keys(shard).attempts.as_str()];
        let fill = |call: &mut Cmd| {
            call.arg(id);
        };
        self.link().ask(Request::Script(&scripts::FORGIVE_ATTEMPT, &keys, &fill)).await.map(drop)
    }

    /// What is remembered of an entry; a note that makes no sense, which is not logweir's, is none.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn attempts(&self, id: &EntryId) -> Result<Option<Attempts>, QueueError> {
        let mut get = cmd("HGET");
        let (shard, id) = id.parts()?;
        get.arg(&self.keys(shard).attempts).arg(id);
        match self.link().ask(Request::Command(get)).await? {
            Value::Nil => Ok(None),
            note => Ok(parsed(note).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(in_one_line("short"), "short");
        let long = format!("x{}", "é".repeat(ERROR_BYTES));
        let cut = in_one_line(&long);
        assert_eq!(cut.len(), ERROR_BYTES - 1);
        assert!(long.starts_with(&cut));
        assert_eq!(in_one_line(&"word ".repeat(ERROR_BYTES)).len(), ERROR_BYTES);
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(in_one_line("  broke \"it\"\r\n\tbecause:\u{0}é\u{85}x\n"), "broke \"it\" because: é x");
        assert_eq!(in_one_line("\n"), "");
    }
}

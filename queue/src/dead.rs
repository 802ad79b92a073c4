//! Dead letters: entries that failed for good, with all that is known of them.

use crate::attempts::shortened;
use crate::connection::Queue;
use crate::entry::{EntryId, Fields, RawEntry};
use crate::error::QueueError;
use crate::link::Request;
use crate::reader::GROUP;
use crate::{reply, scripts};
use redis::{Cmd, cmd};

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

/// The fields that the dead-letter script puts before an entry's own, in its order.
const ABOUT: [&str; 6] =
    ["dead_entry", "dead_error", "dead_attempts", "dead_worker", "dead_first_seen", "dead_at"];

impl TryFrom<RawEntry> for DeadLetter {
    type Error = QueueError;

    fn try_from(mut raw: RawEntry) -> Result<Self, Self::Error> {
        let ours = raw.fields.len() >= ABOUT.len()
            && raw.fields.iter().zip(ABOUT).all(|((name, _), ours)| name.as_ref() == ours.as_bytes());
        if !ours {
            return Err(QueueError::Protocol(format!(
                "{} among the dead letters is none of logweir's",
                raw.id
            )));
        }
        let fields = raw.fields.split_off(ABOUT.len());
        let mut about = raw.fields.into_iter().map(|(_, value)| String::from_utf8_lossy(&value).into_owned());
        let mut next = || about.next().unwrap_or_default();
        Ok(Self {
            id: raw.id,
            entry_id: EntryId(next()),
            error: next(),
            attempts: next().parse().unwrap_or(0),
            worker: next(),
            first_seen_ms: next().parse().unwrap_or(0),
            dead_at_ms: next().parse().unwrap_or(0),
            fields,
        })
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
        let id = id.checked()?;
        let keys = self.keys();
        let keys = [keys.queue.as_str(), &keys.dead, &keys.bytes, &keys.attempts];
        let fill = |call: &mut Cmd| {
            call.arg(GROUP).arg(id).arg(worker).arg(shortened(error));
        };
        reply::optional_id(self.link().ask(Request::Script(&scripts::DEAD_LETTER, &keys, &fill)).await?)
    }

    /// Up to `count` dead letters after `after` (exclusive; `None` from the beginning), the oldest first. They come
    /// with their bodies, so a small `count` keeps the answer small.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letters(
        &self,
        after: Option<&EntryId>,
        count: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let from = match after {
            Some(id) => format!("({}", id.checked()?),
            None => "-".to_owned(),
        };
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut range = cmd("XRANGE");
        range.arg(&self.keys().dead).arg(from).arg("+").arg("COUNT").arg(count);
        let found = reply::entries(self.link().ask(Request::Command(range)).await?)?;
        found.into_iter().map(DeadLetter::try_from).collect()
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letter_by_id(&self, id: &EntryId) -> Result<Option<DeadLetter>, QueueError> {
        let id = id.checked()?;
        let mut range = cmd("XRANGE");
        range.arg(&self.keys().dead).arg(id).arg(id);
        let found = reply::entries(self.link().ask(Request::Command(range)).await?)?;
        found.into_iter().next().map(DeadLetter::try_from).transpose()
    }

    /// Puts a dead letter back into the queue with all its original fields, and so under its old identity,
    /// atomically; its attempts start anew. The queue's limits don't hold it back.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn replay(&self, id: &EntryId) -> Result<Replay, QueueError> {
        let id = id.checked()?;
        let keys = self.keys();
        let keys = [keys.queue.as_str(), &keys.dead, &keys.bytes];
        let fill = |call: &mut Cmd| {
            call.arg(id);
        };
        let answer = self.link().ask_durably(Request::Script(&scripts::REPLAY, &keys, &fill)).await?;
        Ok(reply::optional_id(answer)?.map_or(Replay::Unknown, Replay::Queued))
    }
}

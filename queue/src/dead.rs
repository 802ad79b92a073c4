//! Dead letters: entries that failed for good, with all that is known of them.

use crate::attempts::{Attempt, in_one_line};
use crate::connection::Queue;
use crate::entry::{EntryId, Fields, RawEntry};
use crate::error::QueueError;
use crate::reader::GROUP;
use crate::request::Request;
use crate::{reply, scripts};
use bytes::Bytes;
use redis::{Cmd, cmd};

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its ID in the stream of dead letters.
    pub id: EntryId,
    /// The ID that it had in the queue.
    pub entry_id: EntryId,
    /// Why it was given up: the error of the last attempt, in one line.
    pub error: String,
    /// How many attempts failed.
    pub attempts: u32,
    /// The last of them one by one, up to ten, the oldest first.
    pub log: Vec<Attempt>,
    /// Which worker gave it up.
    pub worker: String,
    /// When its first attempt failed, in Unix milliseconds by Redis' clock.
    pub first_seen_ms: i64,
    /// When it was given up, likewise.
    pub dead_at_ms: i64,
    /// All fields that the entry had in the queue, byte for byte.
    pub fields: Fields,
}

/// How much the dead letters may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLimits {
    /// The most letters.
    pub letters: u64,
    /// The most bytes of all that they hold; the one that passes it is still kept.
    pub bytes: u64,
}

impl DeadLimits {
    /// None at all.
    pub const NONE: Self = Self { letters: u64::MAX, bytes: u64::MAX };
}

/// What became of an entry that was to be a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Burial {
    /// It is one, under this ID.
    Dead(EntryId),
    /// It was no longer in the queue.
    Gone,
    /// Nothing was changed: a limit is reached.
    Full {
        /// Letters now.
        letters: u64,
        /// Their bytes now.
        bytes: u64,
    },
}

/// What became of a letter that was to be put back among the dead ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// It is there, under this new ID.
    Added(EntryId),
    /// Nothing was changed: others came since the caller looked, up to this ID.
    Moved(EntryId),
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
const ABOUT: [&str; 7] =
    ["dead_entry", "dead_error", "dead_attempts", "dead_worker", "dead_first_seen", "dead_at", "dead_log"];
/// How many strings these are, names and values.
pub(crate) const ABOUT_STRINGS: usize = 2 * ABOUT.len();

impl DeadLetter {
    /// The values of [`ABOUT`].
    fn about(&self) -> Result<[String; 7], QueueError> {
        let log = serde_json::to_string(&self.log)
            .map_err(|error| QueueError::Usage(format!("its attempts can't be written: {error}")))?;
        Ok([
            self.entry_id.parts()?.1.to_owned(),
            in_one_line(&self.error),
            self.attempts.to_string(),
            self.worker.clone(),
            self.first_seen_ms.to_string(),
            self.dead_at_ms.to_string(),
            log,
        ])
    }
}

impl TryFrom<RawEntry> for DeadLetter {
    type Error = QueueError;

    fn try_from(mut raw: RawEntry) -> Result<Self, Self::Error> {
        let ours = raw.fields.len() >= ABOUT.len()
            && raw.fields.iter().zip(ABOUT).all(|((name, _), ours)| name.as_ref() == ours.as_bytes());
        if !ours {
            return Err(QueueError::Protocol(format!(
                "{0} among the dead letters is none of logweir's: `redis-cli XDEL` with the stream's name and {0} \
                 removes it",
                raw.id
            )));
        }
        let fields = raw.fields.split_off(ABOUT.len());
        let text = |value: Bytes| String::from_utf8_lossy(&value).into_owned();
        let mut about = raw.fields.into_iter().map(|(_, value)| text(value));
        let mut next = || about.next().unwrap_or_default();
        let shard = raw.id.shard();
        Ok(Self {
            id: raw.id,
            entry_id: EntryId::of(shard, next()),
            error: next(),
            attempts: next().parse().unwrap_or(0),
            worker: next(),
            first_seen_ms: next().parse().unwrap_or(0),
            dead_at_ms: next().parse().unwrap_or(0),
            log: serde_json::from_str(&next()).unwrap_or_default(),
            fields,
        })
    }
}

impl Queue {
    /// Moves an entry to the dead letters, atomically: adds it there with all its fields and what is known of
    /// its attempts, and acknowledges it. When the dead letters are full, nothing changes.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letter(
        &self,
        id: &EntryId,
        worker: &str,
        error: &str,
        limits: DeadLimits,
    ) -> Result<Burial, QueueError> {
        let ((shard, id), error) = (id.parts()?, in_one_line(error));
        let keys = self.keys(shard);
        let keys = [keys.queue.as_str(), &keys.dead, &keys.bytes, &keys.attempts, &keys.dead_bytes];
        let fill = |call: &mut Cmd| {
            call.arg(GROUP).arg(id).arg(worker).arg(&error).arg(limits.letters).arg(limits.bytes);
        };
        let answer = self.link().ask(Request::Script(&scripts::DEAD_LETTER, &keys, &fill)).await?;
        let mut parts = reply::array(answer)?.into_iter();
        let what = reply::text(parts.next().unwrap_or_default())?;
        let mut next = || parts.next().unwrap_or_default();
        match what.as_str() {
            "dead" => Ok(Burial::Dead(EntryId::of(shard, reply::text(next())?))),
            "gone" => Ok(Burial::Gone),
            "full" => Ok(Burial::Full { letters: reply::count(&next())?, bytes: reply::count(&next())? }),
            other => Err(QueueError::Protocol(format!("the dead-letter script said `{other}`"))),
        }
    }

    /// Up to `count` dead letters after `after` (exclusive; `None` from the beginning), shard after shard, the oldest
    /// first. They come with their bodies, so a small `count` keeps the answer small.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letters(
        &self,
        after: Option<&EntryId>,
        count: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = Vec::new();
        for (shard, after) in self.shards_after(after).await? {
            if letters.len() >= count {
                break;
            }
            let from = after.map_or("-".to_owned(), |id| format!("({id}"));
            let mut range = cmd("XRANGE");
            range.arg(&self.keys(shard).dead).arg(from).arg("+").arg("COUNT").arg(count - letters.len());
            let found = self.link().ask(Request::Command(range)).await.map_err(|error| error.of(shard))?;
            for raw in reply::entries(shard, found)? {
                letters.push(raw.try_into()?);
            }
        }
        Ok(letters)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead_letter_by_id(&self, id: &EntryId) -> Result<Option<DeadLetter>, QueueError> {
        let (shard, id) = id.parts()?;
        let mut range = cmd("XRANGE");
        range.arg(&self.keys(shard).dead).arg(id).arg(id);
        let found = reply::entries(shard, self.link().ask(Request::Command(range)).await?)?;
        found.into_iter().next().map(DeadLetter::try_from).transpose()
    }

    /// Puts a dead letter back into the queue with all its original fields, and so under its old identity,
    /// atomically; its attempts start anew. The queue's limits don't hold it back.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn replay(&self, id: &EntryId) -> Result<Replay, QueueError> {
        let (shard, id) = id.parts()?;
        let keys = self.keys(shard);
        let keys = [keys.queue.as_str(), &keys.dead, &keys.bytes, &keys.dead_bytes];
        let fill = |call: &mut Cmd| {
            call.arg(id);
        };
        let answer = self.link().ask_durably(Request::Script(&scripts::REPLAY, &keys, &fill)).await?;
        Ok(reply::optional_id(shard, answer)?.map_or(Replay::Unknown, Replay::Queued))
    }

    /// Removes a dead letter for good. Returns whether it was there. What it held is not counted anywhere by this:
    /// whoever drops a batch notes its numbers in the ledger before.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn remove_dead_letter(&self, id: &EntryId) -> Result<bool, QueueError> {
        let (shard, id) = id.parts()?;
        let keys = [self.keys(shard).dead.as_str(), &self.keys(shard).dead_bytes];
        let fill = |call: &mut Cmd| {
            call.arg(id);
        };
        let answer = self.link().ask(Request::Script(&scripts::DROP_LETTER, &keys, &fill)).await?;
        Ok(reply::count(&answer)? > 0)
    }

    /// Puts a letter that was exported back among the dead ones, with all that it says of itself but its ID. `seen`
    /// is the last ID that the caller knows of (`None` before any): when others came since, nothing changes, so that
    /// the caller can look first whether it is one of them. It is put into the shard in which it was an entry, and
    /// `seen` is to be of that shard. No limit holds it back.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn restore_dead_letter(
        &self,
        letter: &DeadLetter,
        seen: Option<&EntryId>,
    ) -> Result<Restored, QueueError> {
        let about = letter.about()?;
        let shard = letter.entry_id.shard();
        let seen = seen.map_or(Ok((shard, "0-0")), EntryId::parts)?;
        let seen = if seen.0 == shard { seen.1 } else { "0-0" };
        let keys = [self.keys(shard).dead.as_str(), &self.keys(shard).dead_bytes];
        let fill = |call: &mut Cmd| {
            call.arg(seen);
            for (name, value) in ABOUT.iter().zip(&about) {
                call.arg(name).arg(value);
            }
            for (name, value) in &letter.fields {
                call.arg(name.as_ref()).arg(value.as_ref());
            }
        };
        let answer = self.link().ask_durably(Request::Script(&scripts::RESTORE_LETTER, &keys, &fill)).await?;
        let [what, id] = reply::tuple(answer)?;
        let id = EntryId::of(shard, reply::text(id)?);
        match reply::text(what)?.as_str() {
            "restored" => Ok(Restored::Added(id)),
            "moved" => Ok(Restored::Moved(id)),
            other => Err(QueueError::Protocol(format!("the restoring script said `{other}`"))),
        }
    }
}

//! How full the queue is.

use crate::connection::Queue;
use crate::error::QueueError;
use crate::keys::Shard;
use crate::reader::GROUP;
use crate::request::Request;
use crate::{reply, scripts};

/// The state of the queue, or of one shard, which is from one script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Entries that are not acknowledged (XLEN).
    pub entries: u64,
    /// The sum of their bodies, in bytes.
    pub bytes: u64,
    /// Those of them that a worker holds.
    pub pending: u64,
    /// The age of the oldest, in milliseconds by Redis' clock; `None` when there is none.
    pub oldest_age_ms: Option<u64>,
    /// Dead letters.
    pub dead: u64,
    /// All that they hold, in bytes.
    pub dead_bytes: u64,
}

/// A byte counter that was wrong, and has been set right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recounted {
    /// Whose it is.
    pub shard: Shard,
    /// What it said.
    pub was: String,
    /// The sum of the bodies in the stream.
    pub is: u64,
}

/// The most entries that are counted at once.
const RECOUNT_ENTRIES: u64 = 500;
/// The most bytes, give or take an entry: Redis copies what a script looks at.
const RECOUNT_BYTES: u64 = 16 * 1024 * 1024;

impl Depth {
    /// Entries that no worker has been handed yet. Redis' own `lag` of the group isn't used: it is unknown after
    /// entries were deleted, which is what acknowledging does (manual of XINFO GROUPS).
    #[must_use]
    pub const fn unread(&self) -> u64 {
        self.entries.saturating_sub(self.pending)
    }

    /// All of them together: sums, and the age of the oldest.
    #[must_use]
    pub fn of_all<'a>(depths: impl IntoIterator<Item = &'a Self>) -> Self {
        depths.into_iter().fold(Self::default(), |sum, one| Self {
            entries: sum.entries + one.entries,
            bytes: sum.bytes + one.bytes,
            pending: sum.pending + one.pending,
            oldest_age_ms: sum.oldest_age_ms.max(one.oldest_age_ms),
            dead: sum.dead + one.dead,
            dead_bytes: sum.dead_bytes + one.dead_bytes,
        })
    }
}

impl Queue {
    /// How full the whole queue is; all zero when nothing has been enqueued yet.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(Depth::of_all(self.depths().await?.iter().map(|(_, depth)| depth)))
    }

    /// How full each shard is: first the settings' own, in their order, then those beyond them that hold something.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn depths(&self) -> Result<Vec<(Shard, Depth)>, QueueError> {
        let fill = |call: &mut redis::Cmd| {
            call.arg(GROUP);
        };
        let answers = self.of_each(self.shards().await?, &scripts::DEPTH, &fill, |keys| {
            vec![&keys.queue, &keys.bytes, &keys.dead, &keys.dead_bytes]
        });
        answers.await?.into_iter().map(|(shard, answer)| Ok((shard, depth(answer?)?))).collect()
    }

    /// Compares the byte counter of each shard with the bodies in its stream, and sets it right, atomically. A stream of
    /// more than 500 entries or 16 MiB is left for another time. Nothing of logweir's makes a counter wrong, but whoever
    /// removes entries by hand may; and a counter that is too high refuses batches for nothing.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn recount(&self) -> Result<Vec<Recounted>, QueueError> {
        let mut mended = Vec::new();
        let mut refusal = None;
        for shard in self.shards().await? {
            match self.recount_shard(shard).await {
                Ok(one) => mended.extend(one),
                Err(error) if error.is_refusal() => refusal = refusal.or(Some(error.of(shard))),
                // What was mended before is told; an error that stays comes again.
                Err(_) if !mended.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        match refusal {
            Some(error) if mended.is_empty() => Err(error),
            _ => Ok(mended),
        }
    }

    async fn recount_shard(&self, shard: Shard) -> Result<Option<Recounted>, QueueError> {
        let keys = self.keys(shard);
        let keys = [keys.queue.as_str(), &keys.bytes, &keys.attempts];
        let fill = |call: &mut redis::Cmd| {
            call.arg(RECOUNT_ENTRIES).arg(RECOUNT_BYTES);
        };
        let answer = self.link().ask(Request::Script(&scripts::RECOUNT, &keys, &fill)).await?;
        let mut parts = reply::array(answer)?.into_iter();
        let mut next = || reply::text(parts.next().unwrap_or_default());
        if next()? != "mended" {
            return Ok(None);
        }
        let (was, is) = (next()?, next()?.parse().unwrap_or(0));
        Ok(Some(Recounted { shard, was, is }))
    }
}

fn depth(answer: redis::Value) -> Result<Depth, QueueError> {
    let [entries, bytes, pending, age, dead, dead_bytes] = reply::tuple(answer)?;
    Ok(Depth {
        entries: reply::count(&entries)?,
        bytes: reply::count(&bytes)?,
        pending: reply::count(&pending)?,
        oldest_age_ms: u64::try_from(reply::number(&age)?).ok(),
        dead: reply::count(&dead)?,
        dead_bytes: reply::count(&dead_bytes)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_and_gone_makes_nothing_negative() {
        // An entry that somebody deleted by hand stays in the pending list until it is reclaimed.
        let depth = |entries, pending| Depth { entries, pending, ..Depth::default() };
        assert_eq!([depth(5, 2).unread(), depth(2, 2).unread(), depth(1, 2).unread()], [3, 0, 0]);
    }
}

//! Looking through the streams without fetching their bodies: thousands of entries cost little memory here, and a
//! bounded piece of Redis' time each call.

use crate::connection::Queue;
use crate::dead::{ABOUT_STRINGS, DeadLetter};
use crate::entry::{EntryId, Fields, RawEntry};
use crate::error::QueueError;
use crate::keys::Keys;
use crate::reader::GROUP;
use crate::request::Request;
use crate::{reply, scripts};
use logweir_proto::ProducerId;
use redis::{Cmd, cmd};

/// The most entries that one call looks at.
const ENTRIES: usize = 250;
/// When it has looked at so many bytes it looks at no more: Redis copies what a script looks at.
const BYTES: usize = 8 * 1024 * 1024;

/// What one call has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked<T> {
    /// In the order of their IDs.
    pub found: Vec<T>,
    /// After which ID to go on; `None` at the end.
    pub next: Option<EntryId>,
}

/// An entry of the queue, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its ID.
    pub id: EntryId,
    /// All fields but the body.
    pub fields: Fields,
}

/// Who holds an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The consumer's name, in which the worker's machine stands.
    pub consumer: String,
    /// For how long, in milliseconds; a living one begins anew three times a lease.
    pub idle_ms: u64,
    /// How often the entry has been handed out.
    pub deliveries: u64,
}

impl Queue {
    /// A piece of the dead letters after `after` (exclusive; `None` from the beginning), shard after shard, the oldest
    /// first, without their bodies; with a producer only those of its.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn look_at_dead(
        &self,
        after: Option<&EntryId>,
        producer: Option<ProducerId>,
    ) -> Result<Looked<DeadLetter>, QueueError> {
        let (found, next) = self.look(|keys| &keys.dead, ABOUT_STRINGS, after, producer).await?;
        let found = found.into_iter().map(DeadLetter::try_from).collect::<Result<_, _>>()?;
        Ok(Looked { found, next })
    }

    /// The same of the batches in the queue.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn look_at_queue(
        &self,
        after: Option<&EntryId>,
        producer: Option<ProducerId>,
    ) -> Result<Looked<Queued>, QueueError> {
        let (found, next) = self.look(|keys| &keys.queue, 0, after, producer).await?;
        let found = found.into_iter().map(|RawEntry { id, fields }| Queued { id, fields }).collect();
        Ok(Looked { found, next })
    }

    async fn look(
        &self,
        stream: impl Fn(&Keys) -> &str,
        own: usize,
        after: Option<&EntryId>,
        producer: Option<ProducerId>,
    ) -> Result<(Vec<RawEntry>, Option<EntryId>), QueueError> {
        let producer = producer.map(|producer| producer.to_string()).unwrap_or_default();
        let mut shards = self.shards_after(after).await?.into_iter().peekable();
        while let Some((shard, after)) = shards.next() {
            let keys = [stream(self.keys(shard))];
            let fill = |call: &mut Cmd| {
                call.arg(after.unwrap_or("")).arg(ENTRIES).arg(BYTES).arg(own).arg(&producer);
            };
            let answer = self.link().ask(Request::Script(&scripts::LOOK, &keys, &fill)).await;
            let answer = answer.map_err(|error| error.of(shard))?;
            let [next, found] = reply::tuple(answer)?;
            let found = reply::entries(shard, found)?;
            let next = reply::text(next)?;
            if !next.is_empty() {
                return Ok((found, Some(EntryId::of(shard, next))));
            }
            // The end of this shard: the call after the last of them goes on with the next.
            if let Some(last) = found.last() {
                let next = shards.peek().map(|_| last.id.clone());
                return Ok((found, next));
            }
        }
        Ok((Vec::new(), None))
    }

    /// Who holds an entry; `None` when nobody does.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn holder(&self, id: &EntryId) -> Result<Option<Holder>, QueueError> {
        let (shard, id) = id.parts()?;
        let mut pending = cmd("XPENDING");
        pending.arg(&self.keys(shard).queue).arg(GROUP).arg(id).arg(id).arg(1);
        let answer = match self.link().ask(Request::Command(pending)).await {
            // Without a group nobody has read anything yet.
            Err(QueueError::Protocol(why)) if why.contains("NOGROUP") => return Ok(None),
            answer => answer?,
        };
        let Some(held) = reply::array(answer)?.into_iter().next() else { return Ok(None) };
        let [_, consumer, idle, deliveries] = reply::tuple(held)?;
        Ok(Some(Holder {
            consumer: reply::text(consumer)?,
            idle_ms: reply::count(&idle)?,
            deliveries: reply::count(&deliveries)?,
        }))
    }
}

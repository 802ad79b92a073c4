//! Reading as one consumer of the group.
//!
//! The blocking read has a connection of its own, since whatever stood behind it would wait too; all else goes over
//! the queue's shared one.
//!
//! None of it loses an entry, but no method is cancel-safe: what Redis hands out to a call that was dropped belongs
//! to this consumer and is seen by nobody, until it is reclaimed after the lease. So block for a short while and
//! look for the stop signal in between, rather than dropping a read.

mod sweep;

use crate::connection::Queue;
use crate::entry::{EntryId, Item, RawEntry};
use crate::error::{QueueError, has_code};
use crate::keys::{Shard, Shards};
use crate::link::Link;
use crate::request::Request;
use crate::shards::Sum;
use crate::{reply, scripts};
use redis::{Cmd, cmd};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The group's name.
pub(crate) const GROUP: &str = "workers";

/// The most entries that are asked for before it is known how large they are.
const FIRST_PIECE: usize = 8;
/// When a read holds so many bytes of bodies it asks for no more.
const READ_BYTES: u64 = 32 * 1024 * 1024;

/// One consumer, with a connection of its own. Dropping it leaves its pending entries to be reclaimed.
pub struct Reader {
    queue: Queue,
    link: Link,
    consumer: String,
    /// Which shard is next to be read.
    turn: usize,
    /// Which is next to be looked through for what others have held for long.
    reclaim_turn: usize,
    /// Where the round of each pending list goes on.
    cursors: BTreeMap<Shard, String>,
    /// Shards that refuse to be read, each told once.
    ailing: BTreeSet<Shard>,
    /// Set while a read is under way: still set at the next, it was dropped, and Redis may still answer it.
    reading: bool,
}

impl Reader {
    pub(crate) fn new(queue: Queue, link: Link, consumer: &str) -> Self {
        // Several readers begin at different shards.
        let turn = queue.next_reader();
        Self {
            queue,
            link,
            consumer: consumer.to_owned(),
            turn,
            reclaim_turn: turn,
            cursors: BTreeMap::new(),
            ailing: BTreeSet::new(),
            reading: false,
        }
    }

    /// Up to `count` entries that nobody has read, waiting up to `block` for the first; fewer when their bodies
    /// reach 32 MiB. Makes group and stream when they don't exist (at 0, so that nothing that waits is passed over).
    ///
    /// Of several shards, each has its turn to be the first that is read, so that one with a long backlog keeps none
    /// of the others waiting. A wait is at one of them, 50 ms long at most, and then all are looked at again.
    ///
    /// Not cancel-safe: see the module's words.
    ///
    /// # Errors
    /// [`QueueError`]; what Redis may have handed out meanwhile will be reclaimed.
    pub async fn read(&mut self, count: usize, block: Duration) -> Result<Vec<Item>, QueueError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.reading {
            self.link.reset();
        }
        self.reading = true;
        let items = self.read_shards(count, block).await;
        self.reading = false;
        items
    }

    /// From one shard; `bytes` are in hand already.
    async fn read_pieces(
        &self,
        shard: Shard,
        count: usize,
        bytes: u64,
        block: Duration,
    ) -> Result<Vec<Item>, QueueError> {
        let first = self.read_piece(shard, count.min(FIRST_PIECE), block).await?;
        let mut full = first.len() == FIRST_PIECE;
        let mut items: Vec<Item> = first.into_iter().map(Item::from).collect();
        let room = READ_BYTES.saturating_sub(bytes);
        let mut bytes: u64 = items.iter().map(Item::body_bytes).sum();
        while full && items.len() < count && bytes < room {
            let seen = u64::try_from(items.len()).unwrap_or(u64::MAX);
            let fitting = (room - bytes) / (bytes / seen.max(1)).max(1);
            let piece = (count - items.len()).min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1);
            // What is in hand must not be lost to an error, which the next read will meet again.
            let Ok(more) = self.read_piece(shard, piece, Duration::ZERO).await else { break };
            full = more.len() == piece;
            for item in more.into_iter().map(Item::from) {
                bytes += item.body_bytes();
                items.push(item);
            }
        }
        Ok(items)
    }

    async fn read_piece(
        &self,
        shard: Shard,
        count: usize,
        block: Duration,
    ) -> Result<Vec<RawEntry>, QueueError> {
        let begun = Instant::now();
        match self.read_group(shard, count, block).await {
            Err(error) if group_is_gone(&error) => {
                self.make_group(shard).await?;
                self.read_group(shard, count, block.saturating_sub(begun.elapsed())).await
            }
            answer => answer,
        }
    }

    async fn read_group(
        &self,
        shard: Shard,
        count: usize,
        block: Duration,
    ) -> Result<Vec<RawEntry>, QueueError> {
        let read = self.read_command(shard, count, block);
        reply::read(shard, self.link.ask_for(block, Request::Command(read)).await?)
    }

    fn read_command(&self, shard: Shard, count: usize, block: Duration) -> Cmd {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(count);
        // Redis takes 0 for ever, so no wait is no BLOCK.
        if !block.is_zero() {
            read.arg("BLOCK").arg(millis(block).max(1));
        }
        read.arg("STREAMS").arg(&self.queue.keys(shard).queue).arg(">");
        read
    }

    async fn make_group(&self, shard: Shard) -> Result<(), QueueError> {
        let queue = self.queue.keys(shard).queue.as_str();
        let keys = [queue, &self.queue.keys(shard).attempts];
        let fill = |call: &mut Cmd| {
            call.arg(GROUP);
        };
        let made = self.link.ask(Request::Script(&scripts::MAKE_GROUP, &keys, &fill)).await?;
        if reply::count(&made)? > 0 {
            tracing::info!(group = GROUP, stream = queue, "made the group, at 0");
        }
        Ok(())
    }

    /// Takes over up to `count` entries that some consumer (also this one) has held for longer than `lease`, each
    /// with how often it has been handed out, this time included. Goes round the whole pending list of each shard, a
    /// piece of each until one has some; entries that were deleted meanwhile are cleared.
    ///
    /// Not cancel-safe: see the module's words.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn reclaim(&mut self, lease: Duration, count: usize) -> Result<Vec<(Item, u64)>, QueueError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let shards = self.queue.shards().await?;
        if let [only] = shards.as_slice() {
            return self.reclaim_piece(*only, lease, count).await;
        }
        let (mut refusal, mut refused) = (None, 0);
        for _ in 0..shards.len() {
            let shard = shards[self.reclaim_turn % shards.len()];
            self.reclaim_turn = self.reclaim_turn.wrapping_add(1);
            match self.reclaim_piece(shard, lease, count).await {
                Ok(claimed) if claimed.is_empty() => {}
                Ok(claimed) => return Ok(claimed),
                Err(error) if error.is_refusal() => {
                    self.ails(shard, &error);
                    refused += 1;
                    refusal = Some(error.of(shard));
                }
                Err(error) => return Err(error),
            }
        }
        match refusal {
            Some(error) if refused == shards.len() => Err(error),
            _ => Ok(Vec::new()),
        }
    }

    async fn reclaim_piece(
        &mut self,
        shard: Shard,
        lease: Duration,
        count: usize,
    ) -> Result<Vec<(Item, u64)>, QueueError> {
        let cursor = self.cursors.get(&shard).map_or("0-0", String::as_str);
        let fill = |call: &mut Cmd| {
            call.arg(GROUP).arg(&self.consumer).arg(millis(lease)).arg(cursor).arg(count);
        };
        let (cursor, claimed) = reply::reclaimed(shard, self.script(shard, &scripts::RECLAIM, &fill).await?)?;
        self.cursors.insert(shard, cursor);
        Ok(claimed.into_iter().map(|(raw, deliveries)| (raw.into(), deliveries)).collect())
    }

    /// Keeps the lease of those of `ids` that this consumer still holds. Returns how many these are.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn renew(&mut self, ids: &[EntryId]) -> Result<u64, QueueError> {
        let mut by_shard: BTreeMap<Shard, Vec<&str>> = BTreeMap::new();
        for id in ids {
            let (shard, id) = id.parts()?;
            by_shard.entry(shard).or_default().push(id);
        }
        let mut kept = Sum::default();
        for (shard, ids) in by_shard {
            let fill = |call: &mut Cmd| {
                call.arg(GROUP).arg(&self.consumer).arg(&ids);
            };
            let answer = self.script(shard, &scripts::RENEW, &fill).await;
            kept.add(shard, answer.and_then(|answer| reply::count(&answer)))?;
        }
        kept.end()
    }

    /// Removes the group's consumers that have been idle for `idle` and hold nothing, by one atomic script
    /// (XGROUP DELCONSUMER would throw away what has just become pending). Returns how many.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn remove_dead_consumers(&mut self, idle: Duration) -> Result<u64, QueueError> {
        self.remove_consumers(idle, "").await
    }

    /// Removes this consumer if it holds nothing; for a clean stop.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn leave(&mut self) -> Result<(), QueueError> {
        // A read that was dropped may still be waiting in Redis, and would make the consumer again.
        self.link.reset();
        self.remove_consumers(Duration::ZERO, &self.consumer).await.map(drop)
    }

    async fn remove_consumers(&self, idle: Duration, only: &str) -> Result<u64, QueueError> {
        let fill = |call: &mut Cmd| {
            call.arg(GROUP).arg(millis(idle)).arg(only);
        };
        // Any, since it may have been in one beyond --shards that is empty by now.
        let shards = Shards::any().collect();
        let answers = self.queue.of_each(shards, &scripts::REMOVE_CONSUMERS, &fill, |keys| vec![&keys.queue]);
        reply::sum(answers.await?)
    }

    async fn script(
        &self,
        shard: Shard,
        script: &scripts::ScriptText,
        fill: &(dyn Fn(&mut Cmd) + Send + Sync),
    ) -> Result<redis::Value, QueueError> {
        let keys = [self.queue.keys(shard).queue.as_str()];
        self.queue.link().ask(Request::Script(script, &keys, fill)).await
    }
}

/// Whether group or stream vanished, before the read or under a waiting one.
fn group_is_gone(error: &QueueError) -> bool {
    match error {
        QueueError::Protocol(why) => why.contains("NOGROUP"),
        QueueError::Unavailable(error) => {
            has_code(error, "UNBLOCKED") && error.detail().is_some_and(|why| why.contains("no longer exists"))
        }
        _ => false,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! Reading as one consumer of the group.
//!
//! The blocking read has a connection of its own, since whatever stood behind it would wait too; all else goes over
//! the queue's shared one.
//!
//! None of it loses an entry, but no method is cancel-safe: what Redis hands out to a call that was dropped belongs
//! to this consumer and is seen by nobody, until it is reclaimed after the lease. So block for a short while and
//! look for the stop signal in between, rather than dropping a read.

use crate::connection::Queue;
use crate::entry::{EntryId, Item, RawEntry};
use crate::error::{QueueError, has_code};
use crate::link::{Link, Request};
use crate::{reply, scripts};
use redis::{Cmd, cmd};
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
    /// Where the round of the pending list goes on.
    cursor: String,
    /// Set while a read is under way: still set at the next, it was dropped, and Redis may still answer it.
    reading: bool,
}

impl Reader {
    pub(crate) fn new(queue: Queue, link: Link, consumer: &str) -> Self {
        Self { queue, link, consumer: consumer.to_owned(), cursor: "0-0".to_owned(), reading: false }
    }

    /// Up to `count` entries that nobody has read, waiting up to `block` for the first; fewer when their bodies
    /// reach 32 MiB. Makes group and stream when they don't exist (at 0, so that nothing that waits is passed over).
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
        let items = self.read_pieces(count, block).await;
        self.reading = false;
        items
    }

    async fn read_pieces(&self, count: usize, block: Duration) -> Result<Vec<Item>, QueueError> {
        let first = self.read_piece(count.min(FIRST_PIECE), block).await?;
        let mut full = first.len() == FIRST_PIECE;
        let mut items: Vec<Item> = first.into_iter().map(Item::from).collect();
        let mut bytes: u64 = items.iter().map(Item::body_bytes).sum();
        while full && items.len() < count && bytes < READ_BYTES {
            let seen = u64::try_from(items.len()).unwrap_or(u64::MAX);
            let fitting = (READ_BYTES - bytes) / (bytes / seen.max(1)).max(1);
            let piece = (count - items.len()).min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1);
            // What is in hand must not be lost to an error, which the next read will meet again.
            let Ok(more) = self.read_piece(piece, Duration::ZERO).await else { break };
            full = more.len() == piece;
            for item in more.into_iter().map(Item::from) {
                bytes += item.body_bytes();
                items.push(item);
            }
        }
        Ok(items)
    }

    async fn read_piece(&self, count: usize, block: Duration) -> Result<Vec<RawEntry>, QueueError> {
        let begun = Instant::now();
        match self.read_group(count, block).await {
            Err(error) if group_is_gone(&error) => {
                self.make_group().await?;
                self.read_group(count, block.saturating_sub(begun.elapsed())).await
            }
            answer => answer,
        }
    }

    async fn read_group(&self, count: usize, block: Duration) -> Result<Vec<RawEntry>, QueueError> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(count);
        // Redis takes 0 for ever, so no wait is no BLOCK.
        if !block.is_zero() {
            read.arg("BLOCK").arg(millis(block).max(1));
        }
        read.arg("STREAMS").arg(&self.queue.keys().queue).arg(">");
        reply::read(self.link.ask_for(block, Request::Command(read)).await?)
    }

    async fn make_group(&self) -> Result<(), QueueError> {
        let queue = self.queue.keys().queue.as_str();
        let keys = [queue, &self.queue.keys().attempts];
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
    /// with how often it has been handed out, this time included. Goes round the whole pending list, a piece each
    /// call; entries that were deleted meanwhile are cleared.
    ///
    /// Not cancel-safe: see the module's words.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn reclaim(&mut self, lease: Duration, count: usize) -> Result<Vec<(Item, u64)>, QueueError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let fill = |call: &mut Cmd| {
            call.arg(GROUP).arg(&self.consumer).arg(millis(lease)).arg(&self.cursor).arg(count);
        };
        let (cursor, claimed) = reply::reclaimed(self.script(&scripts::RECLAIM, &fill).await?)?;
        self.cursor = cursor;
        Ok(claimed.into_iter().map(|(raw, deliveries)| (raw.into(), deliveries)).collect())
    }

    /// Keeps the lease of those of `ids` that this consumer still holds. Returns how many these are.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn renew(&mut self, ids: &[EntryId]) -> Result<u64, QueueError> {
        for id in ids {
            id.checked()?;
        }
        let fill = |call: &mut Cmd| {
            call.arg(GROUP).arg(&self.consumer);
            for id in ids {
                call.arg(&id.0);
            }
        };
        reply::count(&self.script(&scripts::RENEW, &fill).await?)
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
        reply::count(&self.script(&scripts::REMOVE_CONSUMERS, &fill).await?)
    }

    async fn script(
        &self,
        script: &scripts::ScriptText,
        fill: &(dyn Fn(&mut Cmd) + Send + Sync),
    ) -> Result<redis::Value, QueueError> {
        let keys = [self.queue.keys().queue.as_str()];
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

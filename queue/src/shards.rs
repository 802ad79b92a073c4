//! Which shards there are: those of the settings, and those beyond them that still hold something, since there were
//! more before. So the number of shards may be changed while batches wait.
//!
//! No list of them is kept: now and then it is asked what lies under the keys of each shard that there may be.

use crate::connection::Queue;
use crate::entry::EntryId;
use crate::error::QueueError;
use crate::keys::Shard;
use crate::link::Request;
use crate::reply;
use redis::Pipeline;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);

/// What is known of the shards beyond the settings' own; a bit for each shard.
#[derive(Debug, Default)]
pub(crate) struct Beyond {
    found: AtomicU64,
    told: AtomicU64,
    look_at: Mutex<Option<Instant>>,
    readers: AtomicUsize,
}

impl Beyond {
    fn is_due(&self) -> bool {
        let mut look_at = self.look_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = look_at.is_none_or(|at| now >= at);
        if due {
            *look_at = Some(now + EVERY);
        }
        due
    }

    /// For whoever was told too little by a look that failed.
    fn forget(&self) {
        *self.look_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn bit(shard: Shard) -> u64 {
    1 << shard.number()
}

impl Queue {
    /// All shards, ascending, of which those of the settings come first.
    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, QueueError> {
        let shards = self.settings().shards;
        if self.beyond().is_due()
            && let Err(error) = self.look_beyond().await
        {
            self.beyond().forget();
            return Err(error);
        }
        let found = self.beyond().found.load(Ordering::Relaxed);
        Ok(shards.all().chain(shards.beyond().filter(|shard| found & bit(*shard) != 0)).collect())
    }

    /// The shards from the one of `after` on, and the ID after which to go on in it.
    pub(crate) async fn shards_after<'a>(
        &self,
        after: Option<&'a EntryId>,
    ) -> Result<Vec<(Shard, Option<&'a str>)>, QueueError> {
        let from = after.map(EntryId::parts).transpose()?;
        let shards = self.shards().await?.into_iter();
        let Some((first, after)) = from else { return Ok(shards.map(|shard| (shard, None)).collect()) };
        // The first may have been emptied meanwhile.
        let rest = shards.filter(|shard| *shard > first).map(|shard| (shard, None));
        Ok([(first, Some(after))].into_iter().chain(rest).collect())
    }

    /// Counts the readers.
    pub(crate) fn next_reader(&self) -> usize {
        self.beyond().readers.fetch_add(1, Ordering::Relaxed)
    }

    async fn look_beyond(&self) -> Result<(), QueueError> {
        let shards: Vec<Shard> = self.settings().shards.beyond().collect();
        if shards.is_empty() {
            return Ok(());
        }
        let mut ask = Pipeline::new();
        for shard in &shards {
            let keys = self.keys(*shard);
            ask.cmd("XLEN").arg(&keys.queue).cmd("XLEN").arg(&keys.dead).cmd("ZCARD").arg(&keys.idem);
        }
        let answers = reply::array(self.link().ask(Request::Commands(&ask)).await?)?;
        let (mut found, mut news) = (0, 0);
        for (shard, held) in shards.iter().zip(answers.chunks_exact(3)) {
            let [batches, letters, keys] = held else { continue };
            let (batches, letters) = (reply::count(batches)?, reply::count(letters)?);
            if batches > 0 || letters > 0 || reply::count(keys)? > 0 {
                found |= bit(*shard);
            }
            if batches > 0 {
                news |= bit(*shard);
            }
        }
        self.beyond().found.store(found, Ordering::Relaxed);
        if news & !self.beyond().told.fetch_or(news, Ordering::Relaxed) != 0 {
            let beyond: Vec<u16> =
                shards.iter().filter(|shard| news & bit(**shard) != 0).map(|shard| shard.number()).collect();
            tracing::info!(
                shards = ?beyond, own = %self.settings().shards,
                "there are batches in shards beyond --shards, which belong to the queue as well"
            );
        }
        Ok(())
    }
}

//! Which shards there are: those of the settings, and those beyond them that still hold something, since there were
//! more before. So the number of shards may be changed while batches wait.
//!
//! No list of them is kept: now and then it is asked what lies under the keys of each shard that there may be.

use crate::connection::Queue;
use crate::entry::EntryId;
use crate::error::QueueError;
use crate::keys::{Keys, Shard};
use crate::reply;
use crate::request::{Fill, Request};
use crate::scripts::ScriptText;
use redis::{Pipeline, Value};
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
    strange: AtomicU64,
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

fn numbers(shards: &[Shard], bits: u64) -> Vec<u16> {
    shards.iter().filter(|shard| bits & bit(**shard) != 0).map(|shard| shard.number()).collect()
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

    /// Runs one script on each of these shards, in one go. Each has its own answer, so that one that refuses keeps none
    /// of the others waiting.
    pub(crate) async fn of_each(
        &self,
        shards: Vec<Shard>,
        script: &ScriptText,
        fill: Fill<'_>,
        keys: impl Fn(&Keys) -> Vec<&str>,
    ) -> Result<Vec<(Shard, Result<Value, QueueError>)>, QueueError> {
        let keys: Vec<Vec<&str>> = shards.iter().map(|shard| keys(self.keys(*shard))).collect();
        let answers = reply::each(self.link().ask(Request::Scripts(script, &keys, fill)).await?)?;
        let of = |(shard, answer): (Shard, Result<Value, QueueError>)| {
            (shard, answer.map_err(|error| error.of(shard)))
        };
        Ok(shards.into_iter().zip(answers).map(of).collect())
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
        let mut answers = reply::each(self.link().ask(Request::Commands(ask)).await?)?;
        if let Some(at) = answers.iter().position(|answer| answer.as_ref().is_err_and(|e| !e.is_refusal())) {
            answers.swap_remove(at)?;
        }
        let (mut found, mut news, mut strange) = (0, 0, 0);
        let mut why = None;
        for (shard, held) in shards.iter().zip(answers.chunks_exact(3)) {
            let holds = |at: usize| matches!(held.get(at), Some(Ok(Value::Int(1..))));
            if holds(0) || holds(1) || holds(2) {
                found |= bit(*shard);
            }
            if holds(0) {
                news |= bit(*shard);
            }
            if let Some(error) = held.iter().find_map(|answer| answer.as_ref().err()) {
                strange |= bit(*shard);
                why.get_or_insert(error);
            }
        }
        // What is none of logweir's must not keep what is from being read.
        let known = self.beyond().strange.swap(strange, Ordering::Relaxed);
        if let Some(error) = why.filter(|_| strange & !known != 0) {
            tracing::warn!(shards = ?numbers(&shards, strange), %error, "shards beyond --shards can't be looked at");
        }
        self.beyond().found.store(found, Ordering::Relaxed);
        if news & !self.beyond().told.fetch_or(news, Ordering::Relaxed) != 0 {
            tracing::info!(
                shards = ?numbers(&shards, news), own = %self.settings().shards,
                "there are batches in shards beyond --shards, which belong to the queue as well"
            );
        }
        Ok(())
    }
}

/// What several shards counted. One that refuses keeps none of the others from their turn.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    sum: u64,
    refusal: Option<QueueError>,
}

impl Sum {
    /// Takes one in; fails when the next needn't be asked.
    pub(crate) fn add(&mut self, shard: Shard, counted: Result<u64, QueueError>) -> Result<(), QueueError> {
        match counted {
            Ok(count) => self.sum += count,
            Err(error) if error.is_refusal() => {
                self.refusal.get_or_insert(error.of(shard));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The sum, or the first refusal.
    pub(crate) fn end(self) -> Result<u64, QueueError> {
        self.refusal.map_or(Ok(self.sum), Err)
    }
}

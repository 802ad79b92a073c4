//! Reading from several shards, in turn. One that refuses keeps none of the others waiting.

use super::{FIRST_PIECE, READ_BYTES, Reader, group_is_gone};
use crate::entry::Item;
use crate::error::QueueError;
use crate::keys::Shard;
use crate::reply;
use crate::request::Request;
use redis::Pipeline;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long it waits at one of several shards before it looks at the others again.
const WAIT_AT_ONE: Duration = Duration::from_millis(50);

impl Reader {
    pub(super) async fn read_shards(
        &mut self,
        count: usize,
        block: Duration,
    ) -> Result<Vec<Item>, QueueError> {
        let until = Instant::now() + block;
        loop {
            let shards = self.queue.shards().await?;
            if let [only] = shards.as_slice() {
                return self.read_pieces(*only, count, 0, block).await;
            }
            let items = self.sweep(&shards, count).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !items.is_empty() || left.is_zero() {
                return Ok(items);
            }
            let own = usize::from(self.queue.settings().shards.count());
            let well = |shard: &&Shard| !self.ailing.contains(shard);
            let Some(shard) = self.in_turn(&shards[..own]).find(well) else {
                sleep(left.min(WAIT_AT_ONE)).await;
                continue;
            };
            let read = self.read_pieces(*shard, count, 0, left.min(WAIT_AT_ONE)).await;
            match self.heard(*shard, read)? {
                Some(items) if !items.is_empty() => return Ok(items),
                _ => {}
            }
        }
    }

    /// These shards, from the one whose turn it is on.
    fn in_turn<'a>(&self, shards: &'a [Shard]) -> impl Iterator<Item = &'a Shard> + use<'a> {
        let (before, from) = shards.split_at(self.turn % shards.len().max(1));
        from.iter().chain(before)
    }

    /// What there is in all of them, from the one whose turn it is on: first one entry of each, several shards in one
    /// go, then more of those that had some. Fails only when none of them can be read.
    async fn sweep(&mut self, shards: &[Shard], count: usize) -> Result<Vec<Item>, QueueError> {
        let order: Vec<Shard> = self.in_turn(shards).copied().collect();
        let (mut items, mut bytes) = (Vec::new(), 0);
        let (mut busy, mut refusal, mut refused) = (Vec::new(), None, 0);
        let mut rest = order.as_slice();
        while !rest.is_empty() && items.len() < count && bytes < READ_BYTES {
            let (some, others) = rest.split_at(rest.len().min(FIRST_PIECE).min(count - items.len()));
            rest = others;
            let firsts = match self.read_firsts(some).await {
                Ok(firsts) => firsts,
                Err(error) if items.is_empty() => return Err(error),
                // What is in hand must not be lost to an error, which the next read will meet again.
                Err(_) => return Ok(items),
            };
            let mut broken = None;
            for (shard, first) in some.iter().zip(firsts) {
                match first {
                    Ok(first) => {
                        self.heals(*shard);
                        busy.extend((!first.is_empty()).then_some(*shard));
                        bytes += first.iter().map(Item::body_bytes).sum::<u64>();
                        items.extend(first);
                    }
                    Err(error) if error.is_refusal() => {
                        self.ails(*shard, &error);
                        refused += 1;
                        refusal = Some(error.of(*shard));
                    }
                    Err(error) => broken = Some(error),
                }
            }
            match broken {
                Some(error) if items.is_empty() => return Err(error),
                Some(_) => return Ok(items),
                None => {}
            }
        }
        let mut last = rest.first().map(|_| order[order.len() - rest.len() - 1]);
        for shard in busy {
            if items.len() >= count || bytes >= READ_BYTES {
                break;
            }
            last = Some(shard);
            let Ok(more) = self.read_pieces(shard, count - items.len(), bytes, Duration::ZERO).await else {
                break;
            };
            bytes += more.iter().map(Item::body_bytes).sum::<u64>();
            items.extend(more);
        }
        if (items.len() >= count || bytes >= READ_BYTES)
            && let Some(at) = last.and_then(|last| shards.iter().position(|shard| *shard == last))
        {
            self.turn = (at + 1) % shards.len();
        }
        match refusal {
            Some(error) if refused == shards.len() => Err(error),
            _ => Ok(items),
        }
    }

    /// Up to one entry of each of these, without a wait.
    async fn read_firsts(
        &mut self,
        shards: &[Shard],
    ) -> Result<Vec<Result<Vec<Item>, QueueError>>, QueueError> {
        let mut all = Pipeline::new();
        for shard in shards {
            all.add_command(self.read_command(*shard, 1, Duration::ZERO));
        }
        let answers = reply::each(self.link.ask(Request::Commands(all)).await?)?;
        let mut firsts = Vec::with_capacity(shards.len());
        for (shard, answer) in shards.iter().zip(answers) {
            let read = match answer.and_then(|answer| reply::read(*shard, answer)) {
                Err(error) if group_is_gone(&error) => self.read_piece(*shard, 1, Duration::ZERO).await,
                read => read,
            };
            firsts.push(read.map(|raw| raw.into_iter().map(Item::from).collect()));
        }
        Ok(firsts)
    }

    /// Notes what a shard said; a refusal is noted, and is nothing to fail by.
    fn heard<T>(&mut self, shard: Shard, said: Result<T, QueueError>) -> Result<Option<T>, QueueError> {
        match said {
            Ok(said) => {
                self.heals(shard);
                Ok(Some(said))
            }
            Err(error) if error.is_refusal() => {
                self.ails(shard, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn ails(&mut self, shard: Shard, error: &QueueError) {
        if self.ailing.insert(shard) {
            let key = &self.queue.keys(shard).queue;
            tracing::error!(key, %error, "this shard can't be read until somebody mends it; the others are");
        }
    }

    fn heals(&mut self, shard: Shard) {
        if self.ailing.remove(&shard) {
            tracing::info!(key = self.queue.keys(shard).queue, "this shard can be read again");
        }
    }
}

//! One lane: a reader of the queue and a connection to Postgres, and one group in hand.
//!
//! ```text
//!            ┌─ due again ──────────► alone ─┐
//!  take ─────┼─ taken over ─► suspect ───────┼─► decode ─► one transaction ─► acknowledge
//!            └─ new ────────► group ─────────┘      │            ├─ the world ─► wait, the same again
//!                                                   └─ the batch ┴─► narrow, note an attempt ─► due again, or dead letter
//! ```
//!
//! Invariants: nothing is acknowledged before its commit; while the world is down nothing more is read; a batch's own
//! failure delays no other batch; what the lane holds has a living lease.
//! Limits: one group of at most `--group` batches and 32 MiB as it came, and [`RESTING`] failed ones.

use crate::Shared;
use crate::failure::{Failure, Trouble, What};
use crate::grip::Grip;
use crate::metrics::BatchResult;
use crate::narrow::Narrowing;
use crate::portion::{Countable, decode_all, portions};
use crate::settle::Verdict;
use crate::transaction::Store;
use crate::wait::{Backoff, rest_after};
use jiff::Timestamp;
use logweir_queue::{Done, Entry, EntryId, Item};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The longest wait for a new batch; the stop signal is looked at in between.
const BLOCK: Duration = Duration::from_millis(500);
/// How many entries are taken over at a time: their bodies may be large.
const RECLAIM: usize = 8;
/// How many pieces of the pending list are looked at, at a time.
const RECLAIM_PIECES: usize = 4;
/// How many failed batches rest in a lane; more are left to be taken over after the lease.
const RESTING: usize = 32;
/// For how long of its transaction a suspect is suspected: a batch kills when it is decoded or sent, not while
/// Postgres is slow.
const SUSPICION: Duration = Duration::from_secs(1);

/// The lane is to stop, and leaves what it holds to others.
struct Stopped;

/// A batch that failed by its own fault, and is tried again alone.
struct Resting {
    item: Item,
    failures: u32,
    due: Instant,
}

/// A batch's own failure.
struct Failed {
    item: Item,
    failures: u32,
    error: String,
}

pub(crate) struct Lane {
    shared: Arc<Shared>,
    number: usize,
    /// Its name as a consumer, and in notes of attempts.
    name: String,
    grip: Grip,
    store: Store,
    resting: Vec<Resting>,
    reclaim_at: Instant,
    /// How many batches go into one transaction: fewer after a timeout.
    most: usize,
    stop: CancellationToken,
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>, number: usize, stop: CancellationToken) -> Self {
        let name = crate::consumer_name(&number.to_string());
        let reader = shared.queue.reader(&name);
        let grip = Grip::new(reader, shared.args.lease, shared.metrics.clone());
        let (store, most) = (Store::new(shared.database.clone()), shared.args.group);
        Self {
            shared,
            number,
            name,
            grip,
            store,
            resting: Vec::new(),
            reclaim_at: Instant::now(),
            most,
            stop,
        }
    }

    /// Works until the stop, then finishes what is in hand.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.stop.is_cancelled() {
            let stop = self.stop.clone();
            let schema = Arc::clone(&self.shared);
            let ready = stop.run_until_cancelled(schema.schema.ready());
            if self.grip.during(ready).await.is_none() {
                break;
            }
            match self.turn().await {
                Ok(()) => backoff = Backoff::default(),
                Err(error) => {
                    tracing::debug!(%error, lane = self.number, "nothing can be read just now");
                    let wait = backoff.next();
                    self.grip.during(stop.run_until_cancelled(sleep(wait))).await;
                }
            }
        }
        if let Err(error) = self.grip.reader.leave().await {
            tracing::debug!(%error, consumer = %self.name, "the consumer stays until housekeeping removes it");
        }
    }

    /// One piece of work. An error is the queue's, met before anything was in hand.
    async fn turn(&mut self) -> Result<(), logweir_queue::QueueError> {
        self.grip.renew_if_due().await;
        if let Some(at) = self.resting.iter().position(|resting| resting.due <= Instant::now()) {
            let Resting { item, failures, .. } = self.resting.swap_remove(at);
            self.work(vec![(item, failures)], false).await;
            return Ok(());
        }
        if Instant::now() >= self.reclaim_at && self.reclaim().await? {
            return Ok(());
        }
        let items = self.grip.reader.read(self.shared.args.group, self.block()).await?;
        if items.is_empty() {
            // Idle is a good time to look for what others have left.
            self.reclaim_at = Instant::now();
        } else {
            self.work(items.into_iter().map(|item| (item, 0)).collect(), false).await;
        }
        Ok(())
    }

    fn block(&self) -> Duration {
        let due = self.resting.iter().map(|resting| resting.due).min();
        let until_due = due.map_or(BLOCK, |due| due.saturating_duration_since(Instant::now()));
        BLOCK.min(self.shared.args.lease / 3).min(until_due).max(Duration::from_millis(1))
    }

    /// Takes over what has been held for longer than the lease. Returns whether there was anything.
    async fn reclaim(&mut self) -> Result<bool, logweir_queue::QueueError> {
        for _ in 0..RECLAIM_PIECES {
            let claimed = self.grip.reader.reclaim(self.shared.args.lease, RECLAIM).await?;
            if claimed.is_empty() {
                continue;
            }
            for (item, _) in &claimed {
                self.grip.hold(item.id());
                self.resting.retain(|resting| resting.item.id() != item.id());
                self.shared.metrics.reclaimed.inc();
            }
            for (item, deliveries) in claimed {
                self.suspect(item, deliveries).await;
            }
            return Ok(true);
        }
        self.reclaim_at = Instant::now() + self.shared.args.lease / 3;
        Ok(false)
    }

    /// Tries a batch alone whose holder fell silent: perhaps by the batch's fault, so an attempt is noted before,
    /// and forgiven as soon as it is clear that it wasn't.
    async fn suspect(&mut self, item: Item, deliveries: u64) {
        let (shared, stop, id) = (Arc::clone(&self.shared), self.stop.clone(), item.id().clone());
        let known =
            self.grip.insist(&stop, "ask for attempts", || Box::pin(shared.queue.attempts(&id))).await;
        let Some(known) = known else {
            self.grip.release(&id);
            return;
        };
        if let Some(known) = known.filter(|known| known.count >= shared.args.max_attempts) {
            self.bury(item, known.count, &known.last_error).await;
            return;
        }
        let why = format!("the worker that held it died or fell silent (delivery {deliveries})");
        if self
            .grip
            .insist(&stop, "note an attempt", || Box::pin(shared.queue.note_attempt(&id, &self.name, &why)))
            .await
            .is_none()
        {
            self.grip.release(&id);
            return;
        }
        self.work(vec![(item, 0)], true).await;
    }

    async fn forgive(&mut self, id: &EntryId) {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.grip.insist(&stop, "forgive an attempt", || Box::pin(shared.queue.forgive_attempt(id))).await;
    }

    /// Does what can be done with these batches now; each is acknowledged, resting, a dead letter, or left to others.
    async fn work(&mut self, items: Vec<(Item, u32)>, suspect: bool) {
        let mut failed: Vec<Failed> = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        let mut failures: std::collections::HashMap<EntryId, u32> = std::collections::HashMap::new();
        for (item, before) in items {
            self.grip.hold(item.id());
            failures.insert(item.id().clone(), before);
            match item {
                Item::Batch(entry) => entries.push(entry),
                Item::Unreadable(unreadable) if is_newer(&unreadable.reason) => {
                    tracing::warn!(
                        entry = %unreadable.id, error = %unreadable.reason,
                        "a batch is left in the queue for a newer worker"
                    );
                    if suspect {
                        self.forgive(&unreadable.id).await;
                    }
                    self.grip.release(&unreadable.id);
                }
                Item::Unreadable(unreadable) => {
                    let error = unreadable.reason.clone();
                    failed.push(Failed { item: Item::Unreadable(unreadable), failures: before, error });
                }
            }
        }
        let max_bytes = usize::try_from(self.shared.args.max_batch_bytes).unwrap_or(usize::MAX);
        let mut portions = portions(entries).into_iter();
        while let Some(portion) = portions.next() {
            let mut countable = Vec::with_capacity(portion.len());
            for (entry, decoded) in self.grip.during(decode_all(portion, max_bytes)).await {
                match decoded {
                    Ok(batch) => countable.push(Countable { entry, batch }),
                    Err(error) => failed.push(Failed { item: Item::Batch(entry), failures: 0, error }),
                }
            }
            let rest = portions.as_slice().iter().flatten();
            let ids: Vec<EntryId> =
                countable.iter().map(|c| &c.entry.id).chain(rest.map(|e| &e.id)).cloned().collect();
            let result = self.commit(countable, suspect, &mut failed).await;
            if let Err(Stopped) = result {
                ids.iter().for_each(|id| self.grip.release(id));
                break;
            }
        }
        for mut one in failed {
            one.failures = failures.get(one.item.id()).copied().unwrap_or(0);
            if suspect {
                // What is noted now is the real reason.
                self.forgive(&one.item.id().clone()).await;
            }
            self.failed(one).await;
        }
    }

    /// Counts these batches, in as few transactions as their own failures allow, and acknowledges them.
    async fn commit(
        &mut self,
        countable: Vec<Countable>,
        suspect: bool,
        failed: &mut Vec<Failed>,
    ) -> Result<(), Stopped> {
        let mut noted = suspect.then(|| countable.first().map(|c| c.entry.id.clone())).flatten();
        let mut narrowing = Narrowing::of(countable.len());
        let mut backoff = Backoff::default();
        while let Some(range) = narrowing.next(self.most) {
            let part = countable.get(range.clone()).unwrap_or_default();
            match self.transaction(part, &mut noted).await {
                Ok(verdicts) => {
                    backoff = Backoff::default();
                    self.most = self.most.saturating_mul(2).min(self.shared.args.group);
                    self.finish(part, verdicts, failed).await;
                }
                Err(Failure::Batch(error)) => {
                    self.shared.metrics.transaction_failed();
                    // Postgres can be used, if not for this.
                    self.shared.health.lane(self.number, None);
                    match narrowing.failed(range).and_then(|one| countable.get(one)) {
                        Some(one) => {
                            failed.push(Failed { item: Item::Batch(one.entry.clone()), failures: 0, error });
                        }
                        None => {
                            tracing::debug!(%error, batches = part.len(), "narrowing down a failed group")
                        }
                    }
                }
                Err(Failure::World(trouble)) => {
                    if let Some(id) = noted.take() {
                        self.forgive(&id).await;
                    }
                    self.shared.metrics.transaction_failed();
                    if trouble.what == What::Timeout {
                        self.most = (part.len() / 2).max(1);
                    }
                    narrowing.again(range);
                    self.wait_for_the_world(&trouble, &mut backoff).await?;
                }
            }
        }
        Ok(())
    }

    /// One transaction. While a suspect's takes long, that is Postgres: its noted attempt is forgiven.
    async fn transaction(
        &mut self,
        part: &[Countable],
        noted: &mut Option<EntryId>,
    ) -> Result<Vec<Verdict>, Failure> {
        let begun = Instant::now();
        let batches: Vec<_> = part.iter().map(|countable| &countable.batch).collect();
        let oldest_ms = now_ms().saturating_sub(self.shared.args.retention_ms());
        let queue = &self.shared.queue;
        let applying = async {
            let mut applying = Box::pin(self.store.apply(&batches, oldest_ms));
            if let Some(id) = noted.as_ref() {
                tokio::select! {
                    biased;
                    applied = &mut applying => return applied,
                    () = sleep(SUSPICION) => {}
                }
                match queue.forgive_attempt(id).await {
                    Ok(()) => *noted = None,
                    Err(error) => tracing::debug!(%error, "an attempt is not forgiven yet"),
                }
            }
            applying.await
        };
        let committed = self.grip.during(applying).await?;
        self.shared.metrics.committed(begun.elapsed(), committed.most_ranges);
        self.shared.health.lane(self.number, None);
        Ok(committed.verdicts)
    }

    async fn wait_for_the_world(&mut self, trouble: &Trouble, backoff: &mut Backoff) -> Result<(), Stopped> {
        let shared = Arc::clone(&self.shared);
        shared.metrics.world_retry(trouble.what);
        tracing::debug!(error = %trouble, what = trouble.what.as_str(), lane = self.number, "trying again");
        // A deadlock now and then is no news; one that stays is.
        if !trouble.what.passes_by_itself() || backoff.tries() >= 5 {
            shared.health.lane(self.number, Some(trouble.detail.clone()));
        }
        if trouble.what == What::Schema {
            shared.schema.is_missing();
        }
        if self.stop.is_cancelled() && !trouble.what.passes_by_itself() {
            return Err(Stopped);
        }
        let wait = sleep(backoff.next());
        if trouble.what.passes_by_itself() {
            self.grip.during(wait).await;
            return Ok(());
        }
        let stop = self.stop.clone();
        let waited = stop.run_until_cancelled(async {
            wait.await;
            shared.schema.ready().await;
        });
        // After the signal there is one try more.
        self.grip.during(waited).await;
        Ok(())
    }

    /// After the commit: metrics, and the acknowledgement.
    async fn finish(&mut self, part: &[Countable], verdicts: Vec<Verdict>, failed: &mut Vec<Failed>) {
        let now = now_ms();
        let mut done: Vec<Done> = Vec::with_capacity(part.len());
        for (Countable { entry, batch }, verdict) in part.iter().zip(verdicts) {
            if let Verdict::Refused(error) = verdict {
                failed.push(Failed { item: Item::Batch(entry.clone()), failures: 0, error });
                continue;
            }
            let from_event = batch.oldest_ms.map(|oldest| now.saturating_sub(oldest));
            self.shared.metrics.done(&verdict, from_event, now.saturating_sub(entry.at_ms));
            if let Verdict::Done { too_old: too_old @ 1.., .. } = verdict {
                tracing::warn!(
                    batch = %entry.batch, agent = %entry.agent, events = too_old,
                    "events older than --retention are not counted, but noted in losses"
                );
            }
            tracing::debug!(
                batch = %entry.batch, agent = %entry.agent, traceparent = entry.traceparent.as_deref(), ?verdict,
                "committed"
            );
            done.push(Item::Batch(entry.clone()).done());
        }
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        // What isn't acknowledged comes again, and is found to be counted.
        self.grip.insist(&stop, "acknowledge", || Box::pin(shared.queue.acknowledge(&done))).await;
        for one in &done {
            self.grip.release(&one.id);
        }
    }

    /// Notes an attempt; the batch rests, or goes to the dead letters.
    async fn failed(&mut self, Failed { item, failures, error }: Failed) {
        let (shared, stop, id) = (Arc::clone(&self.shared), self.stop.clone(), item.id().clone());
        shared.metrics.batch(BatchResult::Failed);
        let Some(noted) = self
            .grip
            .insist(&stop, "note an attempt", || Box::pin(shared.queue.note_attempt(&id, &self.name, &error)))
            .await
        else {
            self.grip.release(&id);
            return;
        };
        // An entry that is gone has no note any more; what this lane saw of it is enough.
        let attempts = noted.count.max(failures.saturating_add(1));
        let (batch, agent, traceparent) = about(&item);
        tracing::warn!(
            entry = %id, batch, agent, traceparent, %error, attempt = attempts, of = shared.args.max_attempts,
            "a batch can't be counted"
        );
        if attempts >= shared.args.max_attempts {
            self.bury(item, attempts, &error).await;
        } else if self.resting.len() < RESTING {
            self.resting.push(Resting {
                item,
                failures: attempts,
                due: Instant::now() + rest_after(attempts),
            });
        } else {
            self.grip.release(&id);
        }
    }

    async fn bury(&mut self, item: Item, attempts: u32, error: &str) {
        let (shared, stop, id) = (Arc::clone(&self.shared), self.stop.clone(), item.id().clone());
        let buried = self
            .grip
            .insist(&stop, "move a batch to the dead letters", || {
                Box::pin(shared.queue.dead_letter(&id, &self.name, error))
            })
            .await;
        self.grip.release(&id);
        if let Some(Some(letter)) = buried {
            shared.metrics.batch(BatchResult::DeadLettered);
            let (batch, agent, traceparent) = about(&item);
            tracing::error!(
                entry = %id, dead_letter = %letter, batch, agent, traceparent, error, attempts,
                "a batch went to the dead letters: `logweir dlq show {letter}` has it"
            );
        }
    }
}

fn about(item: &Item) -> (Option<String>, Option<&str>, Option<&str>) {
    match item {
        Item::Batch(entry) => {
            (Some(entry.batch.to_string()), Some(entry.agent.as_str()), entry.traceparent.as_deref())
        }
        Item::Unreadable(_) => (None, None, None),
    }
}

/// Whether an entry can't be read because its format is of a later version.
fn is_newer(reason: &str) -> bool {
    let version = reason.strip_prefix("`v` is \"").and_then(|rest| rest.split('"').next());
    version.and_then(|version| version.parse::<u32>().ok()).is_some_and(|version| version > 1)
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_version_is_left_for_a_newer_worker() {
        assert!(is_newer("`v` is \"2\", and this version reads 1"));
        for other in [
            "`v` is \"x\", and this version reads 1",
            "`v` is \"0\", and",
            "`v` is missing",
            "`seq` is \"2\"",
        ] {
            assert!(!is_newer(other), "{other}");
        }
    }
}

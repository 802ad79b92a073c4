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
//! Limits: one group of at most `--group` batches and 32 MiB as it came, and [`fail::RESTING`] failed ones.

mod commit;
mod fail;

use crate::Shared;
use crate::grip::Grip;
use crate::portion::{Countable, decode_all, portions};
use crate::transaction::Store;
use crate::wait::Backoff;
use logweir_queue::{Entry, EntryId, Flaw, Item, Unreadable};
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
/// The lane is to stop, and leaves what it holds to others.
struct Stopped;

/// A batch that failed by its own fault, and is tried again alone.
struct Resting {
    item: Item,
    failures: u32,
    due: Instant,
}

/// A batch that failed by its own fault, and why.
struct Failed {
    item: Item,
    error: String,
}

impl Failed {
    fn of(entry: &Entry, error: String) -> Self {
        Self { item: Item::Batch(entry.clone()), error }
    }
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
        let grip =
            Grip::new(reader, shared.args.lease, shared.metrics.clone(), Arc::clone(&shared.unknown), number);
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
                    self.shared.unknown.redis(self.number, &error, "read");
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
            self.work(vec![item], failures, None).await;
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
            self.work(items, 0, None).await;
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
        let (mut newer, mut stuck) = (0u32, false);
        for _ in 0..RECLAIM_PIECES {
            let claimed = self.grip.reader.reclaim(self.shared.args.lease, RECLAIM).await?;
            stuck = !claimed.is_empty();
            for (item, _) in &claimed {
                self.grip.hold(item.id());
                self.resting.retain(|resting| resting.item.id() != item.id());
                self.shared.metrics.reclaimed.inc();
            }
            let mut done = false;
            for (item, deliveries) in claimed {
                if is_newer(&item) {
                    self.grip.release(item.id());
                    newer += 1;
                } else {
                    done |= self.suspect(item, deliveries).await;
                }
            }
            // What is for a newer worker, or what the dead letters have no room for, must not keep the lane from what
            // can be counted.
            if done {
                return Ok(true);
            }
        }
        if newer > 0 {
            tracing::warn!(
                batches = newer,
                "batches of a later format are left in the queue for a newer worker"
            );
        }
        // Many of those may stand before one that can be counted: something is read in between, and it goes on.
        let rest = if stuck { Duration::ZERO } else { self.shared.args.lease / 3 };
        self.reclaim_at = Instant::now() + rest;
        Ok(false)
    }

    /// Tries a batch alone whose holder fell silent: perhaps by the batch's fault, so an attempt is noted before,
    /// and forgiven as soon as it is clear that it wasn't. Returns whether anything could be done.
    async fn suspect(&mut self, item: Item, deliveries: u64) -> bool {
        let (shared, stop, id) = (Arc::clone(&self.shared), self.stop.clone(), item.id().clone());
        let known =
            self.grip.insist(&stop, "ask for attempts", || Box::pin(shared.queue.attempts(&id))).await;
        let Some(known) = known else {
            self.grip.release(&id);
            return true;
        };
        if let Some(known) = known.filter(|known| known.count >= shared.args.max_attempts) {
            return self.bury(item, known.count, known.last_error()).await;
        }
        let why = format!("the worker that held it died or fell silent (delivery {deliveries})");
        if self
            .grip
            .insist(&stop, "note an attempt", || Box::pin(shared.queue.note_attempt(&id, &self.name, &why)))
            .await
            .is_none()
        {
            self.grip.release(&id);
            return true;
        }
        self.work(vec![item], 0, Some(id)).await;
        true
    }

    async fn forgive(&mut self, id: &EntryId) {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.grip.insist(&stop, "forgive an attempt", || Box::pin(shared.queue.forgive_attempt(id))).await;
    }

    /// Does what can be done with these batches now; each is acknowledged, resting, a dead letter, or left to others.
    /// `failures` is how often they have failed in this lane; `noted` is the suspect whose attempt was noted before.
    async fn work(&mut self, items: Vec<Item>, failures: u32, mut noted: Option<EntryId>) {
        let mut failed: Vec<Failed> = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        for item in items {
            self.grip.hold(item.id());
            match item {
                Item::Batch(entry) => entries.push(entry),
                Item::Unreadable(unreadable) => match &unreadable.flaw {
                    Flaw::Newer { .. } => {
                        tracing::warn!(
                            entry = %unreadable.id, why = %unreadable.flaw,
                            "a batch is left in the queue for a newer worker"
                        );
                        self.grip.release(&unreadable.id);
                    }
                    Flaw::Wrong(error) => {
                        let error = error.clone();
                        failed.push(Failed { item: Item::Unreadable(unreadable), error });
                    }
                },
            }
        }
        let (bounds, limit) = (self.shared.args.batch_bounds(), self.shared.args.batch_timeout);
        let mut portions = portions(entries).into_iter();
        while let Some(portion) = portions.next() {
            let mut countable = Vec::with_capacity(portion.len());
            for (entry, decoded) in self.grip.during(decode_all(portion, bounds, limit)).await {
                match decoded {
                    Ok(batch) => countable.push(Countable { entry, batch }),
                    Err(error) => failed.push(Failed::of(&entry, error)),
                }
            }
            if let Err(Stopped) = self.commit(&countable, &mut noted, &mut failed).await {
                for entry in countable
                    .iter()
                    .map(|countable| &*countable.entry)
                    .chain(portions.as_slice().iter().flatten())
                {
                    self.grip.release(&entry.id);
                }
                break;
            }
        }
        // Whatever it was, it didn't kill; what is noted below is the real reason.
        if let Some(id) = noted {
            self.forgive(&id).await;
        }
        for one in failed {
            self.failed(one, failures).await;
        }
    }
}

/// Whether only a newer worker can read it.
fn is_newer(item: &Item) -> bool {
    matches!(item, Item::Unreadable(Unreadable { flaw: Flaw::Newer { .. }, .. }))
}

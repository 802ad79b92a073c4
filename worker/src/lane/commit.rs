//! From decoded batches to acknowledged ones: transactions, whose fault it was when one failed, and waiting for the
//! world.

use super::{Failed, Lane, Stopped};
use crate::failure::{Failure, Trouble, What};
use crate::narrow::Narrowing;
use crate::portion::Countable;
use crate::settle::Verdict;
use crate::wait::Backoff;
use jiff::Timestamp;
use logweir_queue::{Done, EntryId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// For how long of its transaction a suspect is suspected: a batch kills when it is decoded or sent, not while
/// Postgres is slow.
const SUSPICION: Duration = Duration::from_secs(1);
/// How many conflicts in a row are no news.
const USUAL_CONFLICTS: u32 = 5;

impl Lane {
    /// Counts these batches, in as few transactions as their own failures allow, and acknowledges them. Those that
    /// can't be counted go to `failed`. `noted` is the suspect among them, until its attempt is forgiven.
    ///
    /// # Errors
    /// The lane is to stop, while the world is in trouble: what is neither counted nor failed is still held.
    pub(super) async fn commit(
        &mut self,
        countable: &[Countable],
        noted: &mut Option<EntryId>,
        failed: &mut Vec<Failed>,
    ) -> Result<(), Stopped> {
        let mut narrowing = Narrowing::of(countable.len());
        let mut backoff = Backoff::default();
        while let Some(range) = narrowing.next(self.most) {
            let part = countable.get(range.clone()).unwrap_or_default();
            match self.transaction(part, noted).await {
                Ok(verdicts) => {
                    backoff = Backoff::default();
                    self.most = self.most.saturating_mul(2).min(self.shared.args.group);
                    let refused = failed.len();
                    let acknowledged = self.finish(part, verdicts, failed).await;
                    if acknowledged && failed.len() == refused {
                        // The acknowledgement took the note along.
                        *noted = None;
                    }
                }
                Err(Failure::Batch(error)) => {
                    self.shared.metrics.transaction_failed();
                    // Postgres can be used, if not for this.
                    self.shared.health.lane(self.number, None);
                    match narrowing.failed(range).and_then(|one| countable.get(one)) {
                        Some(one) => failed.push(Failed::of(&one.entry, error)),
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
        self.shared.unknown.committed(self.number);
        Ok(committed.verdicts)
    }

    async fn wait_for_the_world(&mut self, trouble: &Trouble, backoff: &mut Backoff) -> Result<(), Stopped> {
        let shared = Arc::clone(&self.shared);
        shared.metrics.world_retry(trouble.what);
        shared.unknown.postgres(self.number, trouble);
        tracing::debug!(error = %trouble, what = trouble.what.as_str(), lane = self.number, "trying again");
        // A deadlock now and then is no news; one that stays is.
        if !trouble.what.passes_by_itself() || backoff.tries() >= USUAL_CONFLICTS {
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

    /// After the commit: metrics, and the acknowledgement. Returns whether it was made.
    async fn finish(&mut self, part: &[Countable], verdicts: Vec<Verdict>, failed: &mut Vec<Failed>) -> bool {
        let now = now_ms();
        let mut done: Vec<Done> = Vec::with_capacity(part.len());
        for (Countable { entry, batch }, verdict) in part.iter().zip(verdicts) {
            if let Verdict::Refused(error) = verdict {
                failed.push(Failed::of(entry, error));
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
            done.push(entry.done());
        }
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        // What isn't acknowledged comes again, and is found to be counted.
        let acknowledging =
            self.grip.insist(&stop, "acknowledge", || Box::pin(shared.queue.acknowledge(&done))).await;
        for one in &done {
            self.grip.release(&one.id);
        }
        acknowledging.is_some()
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

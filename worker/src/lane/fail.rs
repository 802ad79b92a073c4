//! What becomes of a batch that failed by its own fault.

use super::{Failed, Lane, Resting};
use crate::metrics::BatchResult;
use crate::wait::rest_after;
use logweir_queue::{Burial, Item};
use std::sync::Arc;
use tokio::time::Instant;

/// How many failed batches rest in a lane; more are left to be taken over after the lease.
pub(super) const RESTING: usize = 32;

impl Lane {
    /// Notes an attempt; the batch rests, or goes to the dead letters. `failures` is how often it has failed in this
    /// lane before.
    pub(super) async fn failed(&mut self, Failed { item, error }: Failed, failures: u32) {
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

    /// Moves a batch to the dead letters. When they are full it is left pending, and so taken over after the lease and
    /// tried to be moved again. Returns whether the lane is done with it.
    pub(super) async fn bury(&mut self, item: Item, attempts: u32, error: &str) -> bool {
        let (shared, stop, id) = (Arc::clone(&self.shared), self.stop.clone(), item.id().clone());
        let limits = shared.args.dead_limits();
        let buried = self
            .grip
            .insist(&stop, "move a batch to the dead letters", || {
                Box::pin(shared.queue.dead_letter(&id, &self.name, error, limits))
            })
            .await;
        self.grip.release(&id);
        let (batch, agent, traceparent) = about(&item);
        match buried {
            Some(Burial::Dead(letter)) => {
                shared.metrics.batch(BatchResult::DeadLettered);
                tracing::error!(
                    entry = %id, dead_letter = %letter, batch, agent, traceparent, error, attempts,
                    "a batch went to the dead letters: `logweir dlq show {letter}` has it"
                );
                true
            }
            Some(Burial::Full { letters, bytes }) => {
                shared.health.dead_letters(letters, bytes, limits);
                tracing::debug!(
                    entry = %id, batch, agent, traceparent, error, attempts,
                    "the dead letters are full; a batch that can't be counted stays in the queue"
                );
                false
            }
            Some(Burial::Gone) | None => true,
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

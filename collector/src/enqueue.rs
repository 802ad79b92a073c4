//! From a judged batch to the queue's yes: 202 is said here, and nowhere else.

use crate::answer::{Refusal, Reply, accepted};
use crate::auth::Agent;
use crate::line::Who;
use crate::request::Identity;
use crate::room;
use crate::service::{Shared, queue_unavailable, shard_of, soon};
use crate::verdict::Judged;
use logweir_proto::BatchId;
use logweir_proto::answer::{Accepted, ProblemCode, RejectedEvent};
use logweir_queue::{Enqueued, IdempotencyKey, NewEntry, QueueError, Shard};
use tokio::time::Instant;

/// A judged batch on its way into the queue.
pub(crate) struct Batch<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) agent: &'a Agent,
    pub(crate) judged: Judged,
    pub(crate) now_ms: i64,
    pub(crate) traceparent: Option<String>,
    /// Until when it may wait for room.
    pub(crate) hold_until: Instant,
    /// Stands for its identity, if it has one.
    pub(crate) mark: Option<u64>,
    /// As whom it stands in the line for room.
    pub(crate) who: Who,
}

/// The answer that this key got when its events were valid still: they may have become too old meanwhile.
///
/// # Errors
/// 503: whoever was told that its events are invalid would give them up.
pub(crate) async fn first_answer(
    shared: &Shared,
    agent: &Agent,
    identity: &Identity,
) -> Result<Option<Reply>, Refusal> {
    let Identity::Key(key) = identity else { return Ok(None) };
    let shard = shard_of(shared, agent, identity);
    let known = shared.queue.answer_of(shard, &agent.id, key).await.map_err(|error| {
        tracing::debug!(agent = %agent.id, %error, "an Idempotency-Key can't be looked up");
        shared.gate.doubt(&error);
        queue_unavailable(agent)
    })?;
    let pressure = shared.gate.view(shard).pressure(shared.gate.room());
    Ok(known.map(|answer| accepted(answer.into(), pressure)))
}

/// What is known of a batch after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Queued,
    NotQueued,
    Unknown,
}

impl Batch<'_> {
    /// Enqueues it, and answers.
    pub(crate) async fn enqueue(mut self, identity: &Identity) -> Result<Reply, Refusal> {
        let rejected = std::mem::take(&mut self.judged.rejected);
        match identity {
            Identity::Batch(batch) => self.add(*batch, rejected, None).await.1,
            Identity::Key(key) => self.add_numbered(rejected, Some(key)).await,
            Identity::None => self.add_numbered(rejected, None).await,
        }
    }

    /// Enqueues it under numbers of the collector's own.
    async fn add_numbered(self, rejected: Vec<RejectedEvent>, key: Option<&str>) -> Result<Reply, Refusal> {
        let given = self.shared.numbers.take(self.judged.events, &self.judged.skip);
        let (fate, reply) = self.add(given.batch(), rejected, key).await;
        match fate {
            Fate::Queued => given.added(),
            Fate::NotQueued => given.unused(),
            // Dropped, the numbers become a gap.
            Fate::Unknown => {}
        }
        reply
    }

    async fn add(
        &self,
        batch: BatchId,
        rejected: Vec<RejectedEvent>,
        key: Option<&str>,
    ) -> (Fate, Result<Reply, Refusal>) {
        let answer = Accepted { batch: batch.to_string(), accepted: self.judged.accepted(), rejected };
        let Ok(answer) = serde_json::to_string(&answer) else {
            let internal = Refusal::new(ProblemCode::Internal, "the collector failed on its own answer");
            return (Fate::NotQueued, Err(internal));
        };
        let (shared, judged) = (self.shared, &self.judged);
        let entry = NewEntry {
            agent: &self.agent.id,
            batch,
            events: judged.events,
            skip: &judged.skip,
            enc: judged.encoding,
            at_ms: self.now_ms,
            traceparent: self.traceparent.as_deref(),
            body: &judged.body,
        };
        let shard = shared.args.shards.of(batch.producer, &self.agent.id, key);
        let key = key.map(|key| IdempotencyKey {
            key,
            window: shared.args.idempotency_window,
            max_keys: shared.args.shards.share(shared.args.max_idempotency_keys),
            max_bytes: shared.args.shards.share(shared.args.max_idempotency_bytes),
            answer: &answer,
        });
        // Where it is held, it has a place of its own; refused, it comes back as what it is.
        let mut who = self.who.clone();
        loop {
            let Some(claim) = shared.gate.claim(shard, &who) else {
                if room::hold(shared, shard, &mut who, self.hold_until).await {
                    continue;
                }
                return (Fate::NotQueued, Err(self.full(shard)));
            };
            let outcome = shared.queue.enqueue(&entry, shared.args.queue_limits(), key.as_ref()).await;
            match outcome {
                Ok(Enqueued::Added { id, entries, bytes }) => {
                    tracing::debug!(
                        %batch, agent = %self.agent.id, traceparent = self.traceparent.as_deref(), entry = %id,
                        accepted = judged.accepted(), rejected = judged.skip.len(), "enqueued"
                    );
                    shared.gate.note(shard, entries, bytes, Some(judged.body.len()));
                    shared.metrics.accepted(judged.accepted());
                    return (Fate::Queued, Ok(self.accepted(shard, answer)));
                }
                Ok(Enqueued::Full { entries, bytes }) => {
                    shared.gate.note(shard, entries, bytes, None);
                    drop(claim);
                    if !room::hold(shared, shard, &mut who, self.hold_until).await {
                        return (Fate::NotQueued, Err(self.full(shard)));
                    }
                }
                Ok(Enqueued::Repeated { answer }) => {
                    let traceparent = self.traceparent.as_deref();
                    tracing::debug!(agent = %self.agent.id, traceparent, "an Idempotency-Key was repeated");
                    return (Fate::NotQueued, Ok(self.accepted(shard, answer)));
                }
                Ok(Enqueued::KeysFull) => {
                    let detail =
                        "too many Idempotency-Keys are remembered; come back later, or post without one";
                    return (Fate::NotQueued, Err(soon(ProblemCode::Overloaded, detail, self.agent)));
                }
                Err(error) => return self.failed(batch, &error),
            }
        }
    }

    fn full(&self, shard: Shard) -> Refusal {
        room::full(self.shared, shard, &Who { agent: self.agent.id.clone(), mark: self.mark })
    }

    fn failed(&self, batch: BatchId, error: &QueueError) -> (Fate, Result<Reply, Refusal>) {
        let traceparent = self.traceparent.as_deref();
        tracing::debug!(%batch, agent = %self.agent.id, traceparent, %error, "not enqueued");
        self.shared.gate.doubt(error);
        let fate = match error {
            QueueError::Unfit(_) | QueueError::Usage(_) => Fate::NotQueued,
            QueueError::Unavailable(_) | QueueError::Timeout(_) | QueueError::Protocol(_) => Fate::Unknown,
        };
        (fate, Err(queue_unavailable(self.agent)))
    }

    fn accepted(&self, shard: Shard, answer: String) -> Reply {
        let pressure = self.shared.gate.view(shard).pressure(self.shared.gate.room());
        accepted(answer.into(), pressure)
    }
}

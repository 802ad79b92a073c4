//! One batch, from its first attempt until each of its events is in the queue or rejected for good.
//!
//! ```text
//! Sealed ─► [ part ] ─► gate ─► attempt ─► policy ─┬─ Settled, RejectAll ─► next part ─► … ─► Settled
//!              ▲                                   ├─ Hold, Identity ─► the same part again
//!              └── second half, first half ────────┴─ Halve; Hold, as it times out again and again
//! ```
//!
//! Invariants: the event with index i of the batch is always sent under SEQ + i, in whatever part; the parts are
//! settled one after the other, from the first to the last, so the rejects come out in order; the batch is reported
//! once, when no part is left.
//!
//! Limits: a batch that must be taken apart (413, 415, rejects) is decoded in memory, up to what it was before
//! compression; that happens on the runtime's thread, since it is rare and takes milliseconds.

mod parts;

use crate::handoff::{Guidance, Reject, Sealed, Settled};
use crate::metrics::Metrics;
use crate::send::collectors::{Asked, Collectors};
use crate::send::fit::{Fit, TIMEOUTS};
use crate::send::gate::{Gate, Whose};
use crate::send::http::{Post, Request};
use crate::send::pace::Pace;
use crate::send::policy::{self, Action, Outcome, Reason};
use crate::send::rate::Rates;
use crate::send::trace::Trace;
use jiff::Timestamp;
use logweir_proto::BatchId;
use logweir_proto::answer::{ProblemCode, RejectedEvent};
use logweir_proto::encoding::{DecodeError, Encoding};
use parts::{Part, TooLarge};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;
use tokio::sync::watch;

/// What all deliveries share.
#[derive(Debug)]
pub(crate) struct Shared<P> {
    pub(crate) post: P,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Metrics,
    /// The collector (or something before it) doesn't take zstd, and has taken a batch without.
    pub(crate) identity: AtomicBool,
    /// Which collector is asked.
    pub(crate) collectors: Collectors,
    /// How many at a time.
    pub(crate) pace: Pace,
    /// How much a second.
    pub(crate) rates: Rates,
    /// How large a body.
    pub(crate) fit: Fit,
    /// What the reading half heeds.
    pub(crate) guidance: Guidance,
    /// Which collector has taken a batch last.
    pub(crate) taker: watch::Sender<usize>,
    /// Tells when the collectors are others.
    pub(crate) target_changed: watch::Sender<()>,
}

impl<P: Post> Shared<P> {
    /// What is shared, with all collectors up and nothing learnt of them.
    pub(crate) fn new(post: P, gate: Arc<Gate>, metrics: Metrics, speed: Speed) -> Arc<Self> {
        let Speed { concurrency, max_rate, guidance } = speed;
        Arc::new(Self {
            collectors: Collectors::new(post.collectors()),
            post,
            gate,
            metrics,
            identity: AtomicBool::new(false),
            pace: Pace::new(concurrency, guidance.clone()),
            rates: Rates::new(max_rate),
            fit: Fit::new(),
            guidance,
            taker: watch::Sender::new(0),
            target_changed: watch::Sender::new(()),
        })
    }

    /// The collectors are others now, or the way to them is: nothing that was learnt of the old ones holds.
    pub(crate) fn target_has_changed(&self) {
        self.collectors.reset(self.post.collectors());
        self.identity.store(false, Ordering::Relaxed);
        self.rates.forget_told();
        self.fit.forget();
        self.guidance.set_limits(u64::MAX, u64::MAX);
        self.gate.target_changed();
        self.target_changed.send_replace(());
    }
}

/// How fast batches may be sent.
#[derive(Debug)]
pub(crate) struct Speed {
    /// The most at a time.
    pub(crate) concurrency: usize,
    /// The most events a second.
    pub(crate) max_rate: Option<u64>,
    /// Shared with the reading half.
    pub(crate) guidance: Guidance,
}

/// A body that isn't what the journal says. Nothing is given up for it: the next run reads the events anew.
#[derive(Debug, Error)]
pub(crate) enum Damaged {
    #[error("the body of batch {id} was damaged in memory: {source}")]
    Decode { id: BatchId, source: DecodeError },
    #[error("the body of batch {id} has {lines} lines, and {events} events were numbered")]
    Lines { id: BatchId, lines: usize, events: u64 },
    #[error("batch {id} holds numbers past the last one")]
    Numbers { id: BatchId },
}

/// Sends a batch until it is settled, however long that takes. Cancelling it loses nothing: it is in the journal.
///
/// # Errors
/// When the batch isn't what it should be.
pub(crate) async fn deliver<P: Post>(shared: Arc<Shared<P>>, sealed: Sealed) -> Result<Settled, Damaged> {
    let delivery = Delivery { shared: &shared, trace: Trace::new(rand::random()), sealed: &sealed };
    let rejects = delivery.run().await?;
    Ok(Settled { id: sealed.id, rejects })
}

struct Delivery<'a, P> {
    shared: &'a Shared<P>,
    sealed: &'a Sealed,
    trace: Trace,
}

impl<P: Post> Delivery<'_, P> {
    async fn run(&self) -> Result<Vec<Reject>, Damaged> {
        let mut rejects = Vec::new();
        let whole = Part {
            first: 0,
            events: usize::try_from(self.sealed.events).unwrap_or(usize::MAX),
            body: self.sealed.body.clone(),
            encoding: Encoding::Zstd,
        };
        let mut left = vec![whole];
        let mut tries = 0;
        while let Some(mut part) = left.pop() {
            if self.shared.identity.load(Ordering::Relaxed) {
                self.uncompress(&mut part)?;
            }
            if part.events > 1 && !self.shared.fit.allows(part.body.len()) {
                left.extend(self.halves(&part, TooLarge::Slow)?);
                continue;
            }
            let mut timeouts = 0;
            loop {
                let action = self.attempt(&part, &mut tries).await?;
                let timed_out = matches!(&action, Action::Hold(hold) if hold.reason == Reason::TimedOut);
                timeouts = if timed_out { timeouts + 1 } else { 0 };
                match action {
                    Action::Hold(_)
                        if part.events > 1 && timeouts >= TIMEOUTS && self.is_too_slow(&part).await =>
                    {
                        left.extend(self.halves(&part, TooLarge::Slow)?);
                    }
                    Action::Hold(hold) => {
                        if hold.reason == Reason::RateLimited {
                            let events = u64::try_from(part.events).unwrap_or(u64::MAX);
                            let bytes =
                                self.sealed.plain_bytes.saturating_mul(events) / self.sealed.events.max(1);
                            self.shared.rates.pay_quota(events, bytes, &self.shared.metrics).await;
                        }
                        continue;
                    }
                    Action::Identity => {
                        self.uncompress(&mut part)?;
                        continue;
                    }
                    Action::Halve => left.extend(self.halves(&part, TooLarge::Refused)?),
                    Action::Settled { rejected } => self.settled(&part, &rejected, &mut rejects)?,
                    Action::RejectAll { code, detail } => {
                        self.rejected(&part, code, &detail, &mut rejects)?;
                    }
                }
                break;
            }
        }
        Ok(rejects)
    }

    /// Whether it is its size that makes this part time out: something small is answered.
    async fn is_too_slow(&self, part: &Part) -> bool {
        let answers = self.shared.post.answers(self.shared.collectors.preferred()).await;
        if answers {
            self.shared.fit.is_too_slow(part.body.len());
        }
        answers
    }

    /// Waits for its turn, asks one collector after the other until one of them says more than that it can't, and tells
    /// the gate how it went.
    async fn attempt(&self, part: &Part, tries: &mut u64) -> Result<Action, Damaged> {
        let id = self.id_of(part)?;
        let whose = Whose { batch: id, trace: self.trace.id() };
        let pass = self.shared.gate.enter().await;
        let mut asked = Asked::default();
        let mut action = None;
        while let Some(to) = self.shared.collectors.next(&mut asked) {
            let next = self.ask(to, part, id, tries).await;
            let elsewhere = match &next {
                Action::Hold(hold) => self.shared.collectors.held(to, hold),
                _ => {
                    self.shared.collectors.went(to);
                    false
                }
            };
            action = Some(next);
            if !elsewhere {
                break;
            }
        }
        let action = action.ok_or(Damaged::Numbers { id })?;
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.shared.metrics.collectors_down.set(gauge(self.shared.collectors.down()));
        match &action {
            Action::Hold(hold) => {
                if hold.reason.is_pressure() {
                    self.shared.pace.refused();
                }
                if hold.reason == Reason::RateLimited {
                    self.shared.rates.refused();
                }
                pass.held(hold, whose);
            }
            _ => pass.went(whose),
        }
        self.shared.metrics.window.set(gauge(self.shared.pace.window()));
        Ok(action)
    }

    /// One attempt at one collector.
    async fn ask(&self, to: usize, part: &Part, id: BatchId, tries: &mut u64) -> Action {
        let metrics = &self.shared.metrics;
        let events = u64::try_from(part.events).unwrap_or(u64::MAX);
        let request = Request {
            id,
            body: part.body.clone(),
            encoding: part.encoding,
            traceparent: self.trace.parent(rand::random()),
        };
        if *tries > 0 {
            metrics.retries.inc();
        }
        *tries += 1;
        metrics.sent_bytes.inc_by(u64::try_from(part.body.len()).unwrap_or(u64::MAX));
        metrics.in_flight.inc();
        let outcome = self.shared.post.post(to, request).await;
        metrics.in_flight.dec();
        metrics.answered(match &outcome {
            Outcome::Answer(answer) => Some(answer.status),
            Outcome::Failed(_) | Outcome::TimedOut(_) => None,
        });
        let asked = policy::Asked { id, events, encoding: part.encoding };
        let action = policy::decide(&asked, &outcome, Timestamp::now());
        if let (Outcome::Answer(answer), Action::Settled { .. }) = (&outcome, &action) {
            self.shared.pace.taken(answer.pressure.unwrap_or(0.0));
            self.shared.fit.went(part.body.len());
            self.shared.taker.send_if_modified(|last| std::mem::replace(last, to) != to);
            self.shared.identity.store(part.encoding == Encoding::Identity, Ordering::Relaxed);
        }
        tracing::debug!(batch = %id, trace_id = %self.trace, collector = to, events, attempt = *tries, ?action, "attempted");
        action
    }

    fn settled(
        &self,
        part: &Part,
        rejected: &[RejectedEvent],
        rejects: &mut Vec<Reject>,
    ) -> Result<(), Damaged> {
        let accepted = part.events.saturating_sub(rejected.len());
        self.shared.metrics.events_sent.inc_by(u64::try_from(accepted).unwrap_or(u64::MAX));
        if rejected.is_empty() {
            return Ok(());
        }
        let plain = self.plain(part)?;
        let lines = self.lines(part, &plain)?;
        for event in rejected {
            let index = usize::try_from(event.index).unwrap_or(usize::MAX);
            let line = lines.get(index).copied().unwrap_or_default();
            rejects.push(self.reject(part, index, &event.code, &event.detail, line)?);
        }
        let (batch, first) = (self.id_of(part)?, &rejected[0]);
        tracing::warn!(%batch, trace_id = %self.trace, events = rejected.len(), code = first.code, detail = first.detail, "events were rejected; they are kept in rejects.ndjson");
        Ok(())
    }

    fn rejected(
        &self,
        part: &Part,
        code: ProblemCode,
        detail: &str,
        rejects: &mut Vec<Reject>,
    ) -> Result<(), Damaged> {
        let plain = self.plain(part)?;
        for (index, line) in self.lines(part, &plain)?.into_iter().enumerate() {
            rejects.push(self.reject(part, index, code.as_str(), detail, line)?);
        }
        let (batch, code) = (self.id_of(part)?, code.as_str());
        tracing::error!(%batch, trace_id = %self.trace, events = part.events, code, detail, "the collector will never take this batch; its events are kept in rejects.ndjson");
        Ok(())
    }

    fn reject(
        &self,
        part: &Part,
        index: usize,
        code: &str,
        detail: &str,
        line: &[u8],
    ) -> Result<Reject, Damaged> {
        let id = self.id_at(part.first.saturating_add(index))?;
        Ok(Reject { number: id.seq, code: code.to_owned(), detail: detail.to_owned(), event: line.to_vec() })
    }
}

#[cfg(test)]
mod tests;

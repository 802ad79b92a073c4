//! The sending half: gets every sealed batch acknowledged, for ever if need be.
//!
//! ```text
//! reader ── Sealed ──► Sender ──► rates ──►    delivery, up to --concurrency at a time ──► HTTP
//!    ▲                   │                        each asks the one gate before an attempt
//!    └── Wake::Settled ──┘
//! ```
//!
//! policy (pure): what an answer means · voice (pure): when to speak · retry_after (pure) · gate: what one is told,
//! all heed · collectors: which one is asked · pace: how many at a time · fit: how large a body · delivery: one batch until it is settled ·
//! client, http, token, trace, rate
//!
//! Invariants: each batch that came in is reported once; reporting never keeps the sender from taking batches in, so
//! the two halves can't block each other. At most `--concurrency` batches are in memory here besides those that wait
//! in the channel, and the reader's window bounds both.

pub(crate) mod client;
mod collectors;
pub(crate) mod delivery;
pub(crate) mod fit;
pub(crate) mod gate;
pub(crate) mod http;
mod limits;
pub(crate) mod pace;
pub(crate) mod policy;
pub(crate) mod rate;
pub(crate) mod retry_after;
#[cfg(test)]
mod testing;
pub(crate) mod token;
mod trace;
mod voice;

use crate::handoff::{Sealed, Settled, Wake};
use crate::retry::Backoff;
use delivery::{Damaged, Shared, deliver};
use http::Post;
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::mpsc::{Receiver, Sender as Channel};
use tokio::task::{JoinError, JoinSet};

/// Why sending stopped before its end. The journal has what was not settled.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("a delivery broke off: {0}")]
    Panicked(JoinError),
    #[error("the reading half has gone")]
    ReaderGone,
}

/// The sender.
pub(crate) struct Sender<P> {
    shared: Arc<Shared<P>>,
    deliveries: JoinSet<Result<Settled, Damaged>>,
    /// Settled, and not yet reported; no more than the reader's window.
    settled: VecDeque<Settled>,
}

impl<P: Post> Sender<P> {
    /// Nothing is sent yet.
    pub(crate) fn new(shared: Arc<Shared<P>>) -> Self {
        Self { shared, deliveries: JoinSet::new(), settled: VecDeque::new() }
    }

    /// Sends until the channel of batches has ended and all of them are reported. Dropping it ends all attempts.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(crate) async fn run(self, sealed: Receiver<Sealed>, wakes: Channel<Wake>) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            result = self.deliver_all(sealed, wakes) => result,
            () = watch_credentials(&shared) => Ok(()),
            () = learn_limits(&shared) => Ok(()),
        }
    }

    async fn deliver_all(
        mut self,
        mut sealed: Receiver<Sealed>,
        wakes: Channel<Wake>,
    ) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        let pay = async |events, bytes| shared.rates.pay(events, bytes, &shared.metrics).await;
        // One batch at a time pays its part of the rates.
        let mut paying: Option<Sealed> = None;
        let mut payment = Box::pin(pay(0, 0));
        let mut ended = false;
        while !ended || paying.is_some() || !self.deliveries.is_empty() || !self.settled.is_empty() {
            let room = self.deliveries.len() < shared.pace.window();
            tokio::select! {
                permit = wakes.reserve(), if !self.settled.is_empty() => {
                    let permit = permit.map_err(|_| SendError::ReaderGone)?;
                    if let Some(settled) = self.settled.pop_front() {
                        permit.send(Wake::Settled(settled));
                    }
                }
                Some(done) = self.deliveries.join_next() => {
                    self.settled.push_back(done.map_err(SendError::Panicked)??);
                }
                () = &mut payment, if paying.is_some() => {
                    if let Some(batch) = paying.take() {
                        self.deliveries.spawn(deliver(Arc::clone(&self.shared), batch));
                    }
                }
                batch = sealed.recv(), if !ended && room && paying.is_none() => match batch {
                    None => ended = true,
                    Some(batch) => {
                        payment.set(pay(batch.events, batch.plain_bytes));
                        paying = Some(batch);
                    }
                },
            }
        }
        Ok(())
    }
}

/// For ever: tries at once when there is a new token.
async fn watch_credentials<P: Post>(shared: &Shared<P>) {
    let mut target = shared.target_changed.subscribe();
    loop {
        // Whoever has none isn't woken each second for them.
        if !shared.post.has_credentials() && target.changed().await.is_ok() {
            continue;
        }
        tokio::time::sleep(token::LOOK).await;
        if shared.post.new_credentials().await {
            shared.gate.token_changed();
        }
    }
}

/// For ever: asks now and then what the collector takes; soon again where it doesn't say, since it may have come up only
/// after the agent, and at once when another one takes over.
async fn learn_limits<P: Post>(shared: &Shared<P>) {
    let (mut target, mut taker) = (shared.target_changed.subscribe(), shared.taker.subscribe());
    let mut unsaid = Backoff::new(limits::SOON, limits::EVERY, 0.5);
    let mut to = shared.collectors.preferred();
    loop {
        let wait = match shared.post.limits(to).await {
            Some(limits) => {
                limits.guide(&shared.guidance);
                shared.rates.told(limits.quota);
                unsaid.reset();
                limits::EVERY
            }
            None => unsaid.next(rand::random()),
        };
        to = tokio::select! {
            () = tokio::time::sleep(wait) => shared.collectors.preferred(),
            _ = target.changed() => shared.collectors.preferred(),
            _ = taker.changed() => *taker.borrow_and_update(),
        };
    }
}

#[cfg(test)]
mod tests;

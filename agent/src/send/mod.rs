//! The sending half: gets every sealed batch acknowledged, for ever if need be.
//!
//! ```text
//! reader ── Sealed ──► Sender ──► max-rate ──► delivery, up to --concurrency at a time ──► HTTP
//!    ▲                   │                        each asks the one gate before an attempt
//!    └── Wake::Settled ──┘
//! ```
//!
//! policy (pure): what an answer means · voice (pure): when to speak · retry_after (pure) · gate: what one is told,
//! all heed · delivery: one batch until it is settled · http, token, trace, rate
//!
//! Invariants: each batch that came in is reported once; reporting never keeps the sender from taking batches in, so
//! the two halves can't block each other. At most `--concurrency` batches are in memory here besides those that wait
//! in the channel, and the reader's window bounds both.

pub(crate) mod delivery;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod policy;
pub(crate) mod rate;
mod retry_after;
#[cfg(test)]
mod testing;
pub(crate) mod token;
mod trace;
mod voice;

use crate::handoff::{Sealed, Settled, Wake};
use delivery::{Damaged, Shared, deliver};
use http::Post;
use rate::MaxRate;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
    concurrency: usize,
    max_rate: Option<MaxRate>,
    deliveries: JoinSet<Result<Settled, Damaged>>,
    /// Settled, and not yet reported; no more than the reader's window.
    settled: VecDeque<Settled>,
}

impl<P: Post> Sender<P> {
    /// Nothing is sent yet.
    pub(crate) fn new(shared: Arc<Shared<P>>, concurrency: usize, max_rate: Option<MaxRate>) -> Self {
        Self { shared, concurrency, max_rate, deliveries: JoinSet::new(), settled: VecDeque::new() }
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
        }
    }

    async fn deliver_all(
        mut self,
        mut sealed: Receiver<Sealed>,
        wakes: Channel<Wake>,
    ) -> Result<(), SendError> {
        let (shared, max_rate) = (Arc::clone(&self.shared), self.max_rate.take());
        let pay = async |events: u64| {
            if let Some(rate) = &max_rate {
                rate.pay(events, &shared.metrics).await;
            }
        };
        // One batch at a time pays its part of --max-rate.
        let mut paying: Option<Sealed> = None;
        let mut payment = Box::pin(pay(0));
        let mut ended = false;
        while !ended || paying.is_some() || !self.deliveries.is_empty() || !self.settled.is_empty() {
            let room = self.deliveries.len() < self.limit();
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
                        payment.set(pay(batch.events));
                        paying = Some(batch);
                    }
                },
            }
        }
        Ok(())
    }

    /// How many deliveries at a time, just now.
    fn limit(&self) -> usize {
        if self.shared.pressed.load(Ordering::Relaxed) { 1 } else { self.concurrency }
    }
}

/// For ever: tries at once when there is a new token.
async fn watch_credentials<P: Post>(shared: &Shared<P>) {
    loop {
        tokio::time::sleep(token::LOOK).await;
        if shared.post.new_credentials().await {
            shared.gate.token_changed();
        }
    }
}

#[cfg(test)]
mod tests;

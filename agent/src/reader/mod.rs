//! The reading half's thread: files are tailed, lines become numbered events, batches are sealed and handed over.
//!
//! ```text
//! notify, stdin, sender ── Wake ─► handle ─► step ─► wait ─┐
//!                                    ▲                     │
//!                                    └─────────────────────┘        Sealed ─► sender, without ever waiting for it
//! ```
//!
//! Invariants: one agent per state directory (a lock on `lock`, which ends with the process); the thread never waits
//! for the sender, which may be waiting to hand back a settled batch.

mod archives;
mod copies;
mod core;
mod dropped;
mod events;
mod handles;
mod locate;
mod notes;
mod recover;
mod refused;
mod remount;
mod report;
mod round;
mod scan;
mod settings;
mod skim;
mod start;
#[cfg(test)]
mod tests;
mod watch;

use self::core::{Core, Moment};
use crate::handoff::{Condition, Ended, ReadError, Sealed, Wake};
use crate::metrics::Metrics;
use crate::settings::Reading;
use std::fs::File;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use watch::Watch;

/// Steps that something wakes are at least so far apart, so that many small writes are read together.
const GATHER: Duration = Duration::from_millis(10);

/// The reading half.
#[derive(Debug)]
pub(crate) struct Reader {
    core: Core,
    watch: Watch,
    wakes: Receiver<Wake>,
    /// Held as long as the reader lives.
    _lock: File,
}

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to be done at once.
    Again,
    /// Nothing, for so long, unless something wakes it.
    Wait(Duration),
    /// It is over.
    Ended(Ended),
}

impl Reader {
    /// Makes and locks the state directory, reads the journal, and finds again what an earlier run left.
    ///
    /// # Errors
    /// When another agent uses the directory, or a person must mend something.
    pub(crate) fn open(
        settings: Reading,
        metrics: Metrics,
        wakes: Receiver<Wake>,
        wake: Sender<Wake>,
    ) -> Result<Reader, ReadError> {
        let stdin = settings.stdin.then(start::stdin).transpose()?;
        let watch = Watch::new(wake.clone(), &settings.state_dir);
        let (core, lock) = start::open(settings, metrics, wake, stdin, wall(Duration::ZERO))?;
        Ok(Reader { core, watch, wakes, _lock: lock })
    }

    /// Runs on a thread that may block, inside a runtime, until it is told to end; with `once` until all inputs are
    /// read and all is settled. `tell` hears after each step how it is.
    ///
    /// # Errors
    /// None at present: what fails while it runs is tried again.
    pub(crate) fn run(
        mut self,
        sealed: Sender<Sealed>,
        tell: impl Fn(Condition),
    ) -> Result<Ended, ReadError> {
        let begin = Instant::now();
        let runtime = Handle::current();
        loop {
            let now = wall(begin.elapsed());
            while let Ok(wake) = self.wakes.try_recv() {
                self.core.handle(wake, now);
            }
            self.core.told(self.watch.told.take());
            let next = self.core.step(now);
            if let Some(folders) = self.core.folders.take() {
                let told = self.watch.folders(&folders);
                self.core.skim.set_told(told);
            }
            self.hand_over(&sealed, now);
            tell(self.core.condition());
            match next {
                Next::Ended(ended) => return Ok(ended),
                Next::Again => {}
                Next::Wait(wait) => {
                    std::thread::sleep(GATHER.min(wait));
                    self.wait(&runtime, wait, &sealed, begin);
                }
            }
        }
    }

    /// Waits for a wake, for room in the sender's queue where something is to be handed over, or for a while.
    fn wait(&mut self, runtime: &Handle, wait: Duration, sealed: &Sender<Sealed>, begin: Instant) {
        let (wakes, waiting) = (&mut self.wakes, !self.core.outbox.is_empty());
        let wake = runtime.block_on(async {
            tokio::select! {
                // Nobody is left who could wake it: the sending half has failed.
                wake = wakes.recv() => Some(wake.unwrap_or(Wake::End)),
                // Without a permit being kept: it is asked for again.
                permit = sealed.reserve(), if waiting => permit.is_err().then_some(Wake::End),
                () = tokio::time::sleep(wait) => None,
            }
        });
        if let Some(wake) = wake {
            self.core.handle(wake, wall(begin.elapsed()));
        }
    }

    fn hand_over(&mut self, sealed: &Sender<Sealed>, now: Moment) {
        while let Some(batch) = self.core.outbox.pop_front() {
            match sealed.try_send(batch) {
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => return self.core.outbox.push_front(batch),
                // It is in the journal; the next run sends it.
                Err(TrySendError::Closed(_)) => return self.core.handle(Wake::End, now),
            }
        }
    }
}

fn wall(mono: Duration) -> Moment {
    Moment { mono, unix_ms: jiff::Timestamp::now().as_millisecond() }
}

/// The bytes of a body as they count in the window.
fn body_bytes(sealed: &Sealed) -> u64 {
    crate::batch::length(sealed.body.len())
}

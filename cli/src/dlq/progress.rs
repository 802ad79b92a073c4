//! Signs of life while many letters are worked on.

use crate::output;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(3);

/// Says on stderr how far it is, every few seconds.
pub(super) struct Progress {
    done: usize,
    total: usize,
    said: Instant,
}

impl Progress {
    pub(super) fn of(total: usize) -> Self {
        Self { done: 0, total, said: Instant::now() }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.said.elapsed() >= EVERY && self.done < self.total {
            self.said = Instant::now();
            output::note(&format!("{} of {} dead letters …", self.done, self.total));
        }
    }
}

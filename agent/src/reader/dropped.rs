//! Lines of stdin that were dropped, since the spool was full (`--spool-full drop`).
//!
//! ```text
//! spool ─ lines, bytes ─► counted at once ─► a record each [`EVERY`] ─► until nothing was dropped for [`QUIET`]
//! ```
//!
//! Invariants: each dropped line is in the metric, and in one record of the losses once the agent has ended in order. A
//! kill takes along what was dropped since the last record.

use super::core::{Core, Moment};
use super::notes;
use crate::spool::Dropped;
use std::time::Duration;

/// When nothing was dropped for so long, it is over: a spool that is emptied slowly is full again and again.
const QUIET: Duration = Duration::from_secs(5);

/// While it goes on, there is a record so often.
const EVERY: Duration = Duration::from_secs(10);

/// While lines are dropped.
#[derive(Debug)]
pub(super) struct Dropping {
    all: Dropped,
    begun: Moment,
    last: Duration,
    /// What stands in no record yet, and since when.
    new: Dropped,
    since: Moment,
}

impl Core {
    /// Counts what was dropped since the last time, and says when it begins and when it is over. With `ends` nothing
    /// will follow.
    pub(super) fn note_dropped(&mut self, now: Moment, ends: bool) {
        let dropped = self.spool.as_ref().map(|spool| spool.take_dropped()).unwrap_or_default();
        if dropped != Dropped::default() {
            self.metrics.dropped(dropped.lines, dropped.bytes);
            self.ended.dropped += dropped.lines;
            let dropping = self.dropping.get_or_insert_with(|| {
                tracing::warn!(
                    spool_bytes = self.settings.spool_bytes,
                    "the spool is full, and the collector takes no more: lines of stdin are dropped (--spool-full)"
                );
                let none = Dropped::default();
                Dropping { all: none, begun: now, last: now.mono, new: none, since: now }
            });
            dropping.last = now.mono;
            dropping.all = sum(dropping.all, dropped);
            dropping.new = sum(dropping.new, dropped);
        }
        let Some(dropping) = &mut self.dropping else { return };
        let over = ends || now.mono.saturating_sub(dropping.last) >= QUIET;
        let due = over || now.mono.saturating_sub(dropping.since.mono) >= EVERY;
        if due && dropping.new != Dropped::default() {
            self.lost.push(notes::dropped(dropping.new, dropping.since, now));
            self.ended.losses += 1;
            (dropping.new, dropping.since) = (Dropped::default(), now);
        }
        if over {
            let Dropped { lines, bytes } = dropping.all;
            let seconds = dropping.last.saturating_sub(dropping.begun.mono).as_secs();
            tracing::warn!(lines, bytes, seconds, "no lines of stdin are dropped any more; these were");
            self.dropping = None;
        }
    }

    /// When there is something to be noted of it, whatever happens.
    pub(super) fn dropped_due(&self) -> Option<Duration> {
        let dropping = self.dropping.as_ref()?;
        Some((dropping.last + QUIET).min(dropping.since.mono + EVERY))
    }
}

const fn sum(a: Dropped, b: Dropped) -> Dropped {
    Dropped { lines: a.lines + b.lines, bytes: a.bytes + b.bytes }
}

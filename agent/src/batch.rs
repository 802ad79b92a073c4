//! The open batch: events gather until there are enough of them, or the first has waited long enough.
//!
//! ```text
//! push(event of a line) ──► body, pieces ──► is_full │ is_due(now) ──► take()
//! ```
//!
//! Pure: numbers are given when the batch is sealed, and time is passed in.
//!
//! Invariants: a piece is a run of whole lines of one content of one file, and the events of the body stand in the
//! order of the pieces and their lines. So whoever reads the pieces again gets the same body.
//!
//! Limits: a batch holds at most `bytes` bytes, or one event that is larger; at most [`MAX_PIECES`] pieces, each of
//! at most [`MAX_PIECE_BYTES`] of the file (or one line).

use crate::files::identity::Key;
use crate::handoff::Guidance;
use crate::journal::state::Piece;
use logweir_proto::line::{Carry, Keys, Origin};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use twox_hash::xxhash3_128::Hasher;

/// More would make the journal's records larger than the bodies.
const MAX_PIECES: usize = 512;

/// What is read at once when a batch is built again.
const MAX_PIECE_BYTES: u64 = 16 << 20;

/// When a batch is sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// With so many events,
    pub(crate) events: u64,
    /// or before it would hold more bytes than this,
    pub(crate) bytes: u64,
    /// or when its first event has waited so long.
    pub(crate) linger: Duration,
}

/// Where a line comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Which content: another one whenever a file is found truncated or replaced.
    pub(crate) content: u64,
    pub(crate) key: Key,
    pub(crate) path: Arc<Path>,
    pub(crate) service: Arc<str>,
    pub(crate) origin: Option<Arc<Origin>>,
    pub(crate) keys: Arc<Keys>,
}

/// The lines of one event, as they stand in the file, and the event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Where it begins in the file.
    pub(crate) start: u64,
    /// The bytes, line end included.
    pub(crate) raw: &'a [u8],
    /// The event, `\n` included; empty for lines that have none. Only [`Batcher::push`] looks at it.
    pub(crate) event: &'a [u8],
    /// The parser's state before it.
    pub(crate) before: Carry,
    /// The parser's state after it.
    pub(crate) after: Carry,
    /// Whether it ended because nothing followed, so that only the end of its piece can tell.
    pub(crate) last: bool,
}

/// A batch that is full or due.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) events: u64,
    pub(crate) body: Vec<u8>,
    pub(crate) pieces: Vec<Piece>,
}

/// The open batch.
#[derive(Debug)]
pub(crate) struct Batcher {
    limits: Limits,
    /// What the collector takes, and how patiently.
    guidance: Guidance,
    body: Vec<u8>,
    events: u64,
    pieces: Vec<Building>,
    since: Option<Duration>,
}

struct Building {
    source: Source,
    start: u64,
    end: u64,
    events: u64,
    before: Carry,
    after: Carry,
    /// Whether nothing may be added.
    closed: bool,
    hasher: Box<Hasher>,
}

impl std::fmt::Debug for Building {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Building").field("start", &self.start).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Batcher {
    /// Nothing is open.
    pub(crate) const fn new(limits: Limits, guidance: Guidance) -> Self {
        Self { limits, guidance, body: Vec::new(), events: 0, pieces: Vec::new(), since: None }
    }

    /// From now on these limits hold.
    pub(crate) const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether an event of so many bytes must wait for the next batch.
    pub(crate) fn is_full_for(&self, event: usize) -> bool {
        let after = length(self.body.len()).saturating_add(length(event));
        self.events > 0 && (self.is_full() || after > self.most_bytes())
    }

    /// Whether it should be sealed at once.
    pub(crate) fn is_full(&self) -> bool {
        self.events >= self.limits.events.min(self.guidance.batch_events()).max(1)
            || length(self.body.len()) >= self.most_bytes()
            || self.pieces.len() >= MAX_PIECES
    }

    /// How long its first event may still wait; `None` when nothing is open.
    pub(crate) fn remaining(&self, now: Duration) -> Option<Duration> {
        let linger = self.limits.linger.saturating_mul(self.guidance.stretch());
        self.since.map(|since| since.saturating_add(linger).saturating_sub(now))
    }

    fn most_bytes(&self) -> u64 {
        self.limits.bytes.min(self.guidance.batch_bytes())
    }

    /// Whether nothing is open.
    pub(crate) const fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Adds an event; the caller has asked [`Batcher::is_full_for`].
    pub(crate) fn push(&mut self, source: &Source, line: Line<'_>, now: Duration) {
        if !self.extends(source, line) {
            self.pieces.push(Building {
                source: source.clone(),
                start: line.start,
                end: line.start,
                events: 0,
                before: line.before,
                after: line.before,
                closed: false,
                hasher: Box::new(Hasher::new()),
            });
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.take(line);
            piece.events += 1;
        }
        self.body.extend_from_slice(line.event);
        self.events += 1;
        self.since.get_or_insert(now);
    }

    /// Passes over lines without an event, or whose event is left out: the piece that they follow goes on after them.
    pub(crate) fn skip(&mut self, source: &Source, line: Line<'_>) {
        if self.extends(source, line)
            && let Some(piece) = self.pieces.last_mut()
        {
            piece.take(line);
        }
    }

    /// The batch, whose place is empty then; `None` when nothing is open.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        self.since = None;
        let events = std::mem::take(&mut self.events);
        let body = std::mem::take(&mut self.body);
        let pieces = std::mem::take(&mut self.pieces).into_iter().map(Building::done).collect();
        (events > 0).then_some(Taken { events, body, pieces })
    }

    fn extends(&self, source: &Source, line: Line<'_>) -> bool {
        self.pieces.last().is_some_and(|piece| {
            piece.source.content == source.content
                && piece.end == line.start
                && !piece.closed
                && piece.after == line.before
                && (piece.end - piece.start).saturating_add(length(line.raw.len())) <= MAX_PIECE_BYTES
        })
    }
}

impl Building {
    fn take(&mut self, line: Line<'_>) {
        self.hasher.write(line.raw);
        self.end += length(line.raw.len());
        self.after = line.after;
        self.closed = line.last;
    }

    fn done(self) -> Piece {
        Piece {
            key: self.source.key,
            path: self.source.path.to_path_buf(),
            service: self.source.service.as_ref().to_owned(),
            start: self.start,
            end: self.end,
            events: self.events,
            hash: self.hasher.finish_128(),
            carry_ms: self.before.timestamp_ms,
            parser: self.before.state,
            origin: self.source.origin.as_deref().cloned(),
            keys: self.source.keys.as_ref().clone(),
        }
    }
}

/// A length in memory as one in a file.
pub(crate) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

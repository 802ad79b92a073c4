//! The reading half without its thread: one step at a time, and time passed in.
//!
//! ```text
//! step:  settle ─► scan ─► turns (read, parse, batch, seal) ─► commit (rejects, spool, journal, fsync) ─► outbox
//! ```
//!
//! Invariants:
//! - a batch is in the outbox only after the journal holds it durably;
//! - `moved` holds the places of files whose lines before them are all in a sealed batch or in the open one, so it
//!   is journaled together with the open batch, or when there is none;
//! - while something could not be written, nothing is read: what is read must be able to become durable.

use super::Next;
use super::dropped::Dropping;
use super::skim::Skim;
use crate::batch::Batcher;
use crate::files::discover::{Match, Patterns};
use crate::files::identity::{Key, Stamp};
use crate::files::tail::{Handles, Tail};
use crate::handoff::{Condition, Ended, Sealed, Settled, Wake};
use crate::journal::Journal;
use crate::journal::state::{Delta, FileEntry, Parsing};
use crate::metrics::Metrics;
use crate::records::Records;
use crate::settings::Reading;
use crate::spool::Spool;
use logweir_proto::{BatchId, ProducerId, Seq};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// How long a file that matches no pattern any more is followed after it was last seen to change: applications
/// write to it until they open the new one.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// After a failed write or read.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// How long settled batches, and places that moved without an event, may wait for the journal.
const TIDY: Duration = Duration::from_secs(2);

/// Scans that something wakes are at least so far apart; files that are open are looked at with each step.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// One part of the time in so many is spent on scans at most.
const SCAN_SHARE: u32 = 20;

/// However long a scan takes.
const LONGEST_GAP: Duration = Duration::from_secs(60);

/// Further on another producer is begun: a gap costs the ledger 21 bytes.
const MAX_GAPS: u64 = 500;

/// Now: from any fixed moment, for measuring, and as the world tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) mono: Duration,
    pub(crate) unix_ms: i64,
}

/// How far scans are apart, so that their cost is bounded however many files and folders there are.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long a scan takes of late; the first one, with nothing in the system's caches, says nothing.
    cost: Option<Duration>,
}

impl Pace {
    /// A scan took so long: how long the next one has to wait. One that was interrupted hardly counts.
    pub(super) fn after(&mut self, took: Duration) -> Duration {
        let cost = self.cost.map_or(Duration::ZERO, |cost| took.min((cost * 3 + took) / 4));
        self.cost = Some(cost);
        (cost * SCAN_SHARE).clamp(LOOK, LONGEST_GAP)
    }
}

/// What it is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Reading,
    /// Nothing is read any more; what is sealed waits to be settled.
    Stopping,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) settings: Reading,
    pub(super) metrics: Metrics,
    pub(super) patterns: Patterns,
    pub(super) parsing: Parsing,
    pub(super) journal: Journal,
    pub(super) rejects: Records,
    pub(super) losses: Records,
    pub(super) spool: Option<Spool>,
    pub(super) mode: Mode,
    pub(super) is_first_run: bool,

    pub(super) tails: BTreeMap<Key, Tail>,
    pub(super) handles: Handles,
    /// Whose turn was the last.
    pub(super) cursor: Option<Key>,
    /// With `once`: what was read to its end, and what waits for a handle.
    pub(super) done: BTreeSet<Key>,
    pub(super) pending: BTreeMap<Key, Match>,
    pub(super) contents: u64,
    pub(super) scan_at: Duration,
    /// Before this nothing makes it scan.
    pub(super) may_scan_at: Duration,
    pub(super) pace: Pace,
    pub(super) scans_are_slow: bool,
    /// How many there were.
    pub(super) scans: u64,
    /// Whether the last round found a file whose content is another.
    pub(super) found_change: bool,
    pub(super) named: BTreeSet<PathBuf>,
    /// Files that match and are left alone, since they were found to be compressed when they looked so.
    pub(super) alone: BTreeMap<Key, Stamp>,
    /// Whether all must be looked up.
    pub(super) skim: Skim,
    /// The folders to be watched, after each scan.
    pub(super) folders: Option<BTreeSet<PathBuf>>,

    pub(super) batcher: Batcher,
    pub(super) moved: BTreeMap<Key, FileEntry>,
    producer: ProducerId,
    next: Option<Seq>,
    gaps: u64,

    pub(super) staged: Delta,
    pub(super) staged_files: BTreeMap<Key, FileEntry>,
    staged_sealed: Vec<Sealed>,
    /// Records of lines that are too long, and of losses, that are not yet written.
    pub(super) noted: Vec<Value>,
    pub(super) lost: Vec<Value>,
    undurable: Vec<Sealed>,
    pub(super) outbox: VecDeque<Sealed>,
    /// Batches that are sealed and not settled, and the bytes of their bodies.
    pub(super) unsettled: BTreeMap<BatchId, u64>,
    settling: VecDeque<Settled>,
    retry_at: Option<Duration>,
    /// Why the state directory can't be written, while that is so.
    pub(super) trouble: Option<String>,
    tidy_at: Option<Duration>,
    pub(super) ended: Ended,
    /// Lines of stdin are dropped, or were not long ago.
    pub(super) dropping: Option<Dropping>,
    pub(super) buffer: Vec<u8>,
}

/// What a core begins with.
pub(super) struct Parts {
    pub(super) settings: Reading,
    pub(super) metrics: Metrics,
    pub(super) patterns: Patterns,
    pub(super) journal: Journal,
    pub(super) rejects: Records,
    pub(super) losses: Records,
    pub(super) spool: Option<Spool>,
    pub(super) recovered: Vec<Sealed>,
    /// Whether there was no journal.
    pub(super) is_first_run: bool,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { settings, metrics, patterns, journal, rejects, losses, spool, recovered, is_first_run } =
            parts;
        let batcher = Batcher::new(settings.limits(), settings.guidance.clone());
        metrics.rules(&settings.rules);
        Self {
            parsing: settings.parsing(),
            settings,
            metrics,
            patterns,
            journal,
            rejects,
            losses,
            spool,
            mode: Mode::Reading,
            is_first_run,
            tails: BTreeMap::new(),
            handles: Handles::default(),
            cursor: None,
            done: BTreeSet::new(),
            pending: BTreeMap::new(),
            contents: 0,
            scan_at: Duration::ZERO,
            may_scan_at: Duration::ZERO,
            pace: Pace::default(),
            scans_are_slow: false,
            scans: 0,
            found_change: false,
            named: BTreeSet::new(),
            alone: BTreeMap::new(),
            skim: Skim::default(),
            folders: None,
            batcher,
            moved: BTreeMap::new(),
            producer: ProducerId::new(Uuid::new_v4()),
            next: Some(Seq::FIRST),
            gaps: 0,
            staged: Delta::default(),
            staged_files: BTreeMap::new(),
            staged_sealed: Vec::new(),
            noted: Vec::new(),
            lost: Vec::new(),
            undurable: Vec::new(),
            unsettled: recovered.iter().map(|sealed| (sealed.id, super::body_bytes(sealed))).collect(),
            outbox: recovered.into(),
            settling: VecDeque::new(),
            retry_at: None,
            trouble: None,
            tidy_at: None,
            ended: Ended { unsettled: 0, spooled: false, rejected: 0, losses: 0, dropped: 0 },
            dropping: None,
            buffer: Vec::new(),
        }
    }

    /// Takes in what woke the thread.
    pub(crate) fn handle(&mut self, wake: Wake, now: Moment) {
        match wake {
            Wake::Settled(settled) => self.settling.push_back(settled),
            Wake::Look => {
                self.skim.force();
                self.scan_at = self.scan_at.min(now.mono.max(self.may_scan_at));
            }
            Wake::Settings(settings) => self.take_settings(*settings, now),
            // Which ones stands in what the watcher has heard.
            Wake::Grown => {}
            Wake::Report(reply) => {
                // Whoever asked may have gone.
                let _gone = reply.send(self.report(now));
            }
            Wake::Stop => self.stop(),
            Wake::End => self.mode = Mode::Over,
        }
    }

    /// Whether it was told to stop, so that it reads nothing more.
    #[cfg(test)]
    pub(super) fn is_stopping(&self) -> bool {
        self.mode != Mode::Reading
    }

    fn stop(&mut self) {
        if self.mode == Mode::Reading {
            self.mode = Mode::Stopping;
        }
    }

    /// Does what can be done now, without waiting.
    pub(crate) fn step(&mut self, now: Moment) -> Next {
        self.settle(now);
        let mut busy = false;
        if self.mode == Mode::Reading {
            // Also while reading stands still, so that a file is held before it can vanish.
            if self.scan_at <= now.mono && !self.skim(now) {
                self.scan(now);
            }
            self.follow_pending(now);
            self.follow_segments(now);
            busy = self.round(now);
            if std::mem::take(&mut self.found_change) {
                self.scan(now);
                busy |= self.round(now);
            }
            if self.settings.stdin && !self.settings.once && self.stdin_is_over() {
                self.stop();
            }
        }
        let complete = self.settings.once && self.inputs_are_read();
        let due = self.batcher.remaining(now.mono).is_some_and(|rest| rest.is_zero());
        if due || complete || self.mode == Mode::Stopping {
            self.seal();
        }
        self.close_files(now);
        self.note_dropped(now, false);
        self.commit(now);
        self.show();
        let ends = self.mode == Mode::Over
            || ((complete || self.mode == Mode::Stopping) && self.unsettled.is_empty() && self.rests());
        if ends && self.finish(now) {
            let (unsettled, spooled) = (self.unsettled.len(), self.spool_is_left());
            return Next::Ended(Ended { unsettled, spooled, ..self.ended });
        }
        if busy && !self.held(now) { Next::Again } else { Next::Wait(self.wait(now)) }
    }

    /// Writes the last places down. Whether it is over.
    fn finish(&mut self, now: Moment) -> bool {
        // It wakes this thread as soon as it has.
        let halted = self.spool.as_ref().is_none_or(Spool::halt);
        if !halted && self.mode != Mode::Over {
            return false;
        }
        self.note_dropped(now, true);
        if self.batcher.is_empty() {
            self.staged_files.append(&mut self.moved);
            self.leave_files(now);
        }
        self.commit(now);
        let synced = self.journal.sync();
        if let Err(error) = &synced {
            self.failed("the journal", error, now);
        }
        (synced.is_ok() && self.rests()) || self.mode == Mode::Over
    }

    /// Whether all is written that must be.
    fn rests(&self) -> bool {
        self.batcher.is_empty()
            && self.settling.is_empty()
            && self.noted.is_empty()
            && self.lost.is_empty()
            && self.undurable.is_empty()
            && self.staged_sealed.is_empty()
            && self.journal.is_sound()
    }

    /// Whether nothing may be read just now.
    pub(super) fn held(&self, now: Moment) -> bool {
        let unwritten = !self.journal.is_sound()
            || !self.noted.is_empty()
            || !self.lost.is_empty()
            || !self.undurable.is_empty();
        self.is_window_full() || unwritten || self.waits(now)
    }

    /// Whether the state directory could not be written not long ago.
    pub(super) fn waits(&self, now: Moment) -> bool {
        self.retry_at.is_some_and(|at| at > now.mono)
    }

    /// Whether so much is unsettled that reading stands still.
    pub(super) fn is_window_full(&self) -> bool {
        self.unsettled.len() >= self.settings.window_batches.max(1)
            || self.unsettled.values().sum::<u64>() >= self.settings.window_bytes.max(1)
    }

    /// Gives the open batch its numbers.
    pub(super) fn seal(&mut self) {
        let Some(taken) = self.batcher.take() else { return };
        let id = self.number(taken.events);
        let sealed = Sealed::new(id, taken.events, &taken.body);
        self.metrics.events_sealed.inc_by(taken.events);
        self.unsettled.insert(id, super::body_bytes(&sealed));
        self.staged.sealed.push(crate::journal::state::Batch {
            id,
            parsing: self.parsing.clone(),
            pieces: taken.pieces,
        });
        self.staged_sealed.push(sealed);
        self.staged_files.append(&mut self.moved);
    }

    fn number(&mut self, events: u64) -> BatchId {
        let room = self.next.filter(|next| self.gaps < MAX_GAPS && next.plus(events).is_some());
        let seq = room.unwrap_or_else(|| {
            self.producer = ProducerId::new(Uuid::new_v4());
            self.gaps = 0;
            Seq::FIRST
        });
        self.next = seq.plus(events);
        BatchId { producer: self.producer, seq }
    }

    /// Notes rejects, and forgets the batches.
    fn settle(&mut self, now: Moment) {
        if self.waits(now) {
            return;
        }
        while let Some(settled) = self.settling.front() {
            if let Some(batch) = self.journal.state().batches.get(&settled.id)
                && self.unsettled.contains_key(&settled.id)
            {
                let records = self.rejected(batch, &settled.rejects, now);
                if let Err(error) = self.rejects.append(&records) {
                    self.failed("the rejects file", &error, now);
                    return;
                }
                for reject in &settled.rejects {
                    self.metrics.rejected(&reject.code);
                    self.ended.rejected += 1;
                    self.gaps += u64::from(settled.id.producer == self.producer);
                }
                self.unsettled.remove(&settled.id);
                self.staged.settled.push(settled.id);
            } else {
                tracing::warn!(batch = %settled.id, "a batch was settled that is not waiting");
            }
            self.settling.pop_front();
        }
    }

    /// Makes all that is staged durable, in the order in which it depends on each other.
    fn commit(&mut self, now: Moment) {
        if self.waits(now) && self.mode != Mode::Over {
            return;
        }
        self.retry_at = None;
        if let Err((what, error)) = self.try_commit(now) {
            self.failed(what, &error, now);
        } else if self.trouble.take().is_some() {
            tracing::info!("the state directory can be written again; reading goes on");
        }
    }

    fn try_commit(&mut self, now: Moment) -> Result<(), (&'static str, std::io::Error)> {
        self.rejects.append(&self.noted).map_err(|error| ("the rejects file", error))?;
        self.noted.clear();
        self.losses.append(&self.lost).map_err(|error| ("the losses file", error))?;
        self.lost.clear();
        if self.batcher.is_empty() && self.tidy_at.is_some_and(|at| at <= now.mono) {
            self.staged_files.append(&mut self.moved);
        }
        for batch in &self.staged.sealed {
            let spooled =
                batch.pieces.iter().filter_map(|piece| self.tails.get(&piece.key)).filter(|t| t.spooled);
            for tail in spooled {
                tail.sync().map_err(|error| ("the spool", error))?;
            }
        }
        let mut delta = std::mem::take(&mut self.staged);
        delta.files = std::mem::take(&mut self.staged_files).into_values().collect();
        self.undurable.append(&mut self.staged_sealed);
        let journal = |error| ("the journal", error);
        self.journal.commit(&delta).map_err(journal)?;
        let tidy = self.tidy_at.is_some_and(|at| at <= now.mono);
        if !self.undurable.is_empty() || tidy || !self.journal.is_sound() {
            self.journal.sync().map_err(journal)?;
            self.outbox.extend(self.undurable.drain(..));
            self.tidy_at = None;
        }
        self.journal.compact().map_err(journal)?;
        self.drop_segments(now).map_err(journal)?;
        if !self.moved.is_empty() || self.journal.is_behind() {
            self.tidy_at.get_or_insert(now.mono + TIDY);
        }
        Ok(())
    }

    /// The state directory can't be written: nothing is read until it can.
    pub(super) fn failed(&mut self, what: &str, error: &std::io::Error, now: Moment) {
        let trouble =
            format!("cannot write {what}: {error}; reading stands still, and it is tried again each second");
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!(state_dir = %self.settings.state_dir.display(), "{trouble}");
        }
        self.trouble = Some(trouble);
        self.retry_at = Some(now.mono + RETRY);
    }

    /// Why the state directory can't be written, journal or spool, while that is so.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone().or_else(|| self.spool.as_ref().and_then(Spool::trouble))
    }

    /// How it is, for who started it.
    pub(super) fn condition(&self) -> Condition {
        let ends_with_stdin = self.settings.stdin && !self.settings.once;
        let stdin_ended = ends_with_stdin && self.spool.as_ref().is_some_and(Spool::has_ended);
        Condition { state: self.trouble().map_or(Ok(()), Err), stdin_ended }
    }

    fn show(&mut self) {
        let syncs = self.journal.take_syncs();
        self.metrics.journal_syncs.inc_by(syncs.count);
        self.metrics.journal_sync_time.inc_by(syncs.time.as_secs_f64());
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.unsettled_batches.set(count(self.unsettled.len()));
        self.metrics.files.set(count(self.tails.len()));
        self.metrics.open_files.set(count(self.handles.count()));
        self.metrics.journal_bytes.set(i64::try_from(self.journal.len()).unwrap_or(i64::MAX));
        self.metrics.state_writable.set(i64::from(self.trouble().is_none()));
        let stopped = self.is_window_full() || self.retry_at.is_some();
        self.metrics
            .reading_stopped
            .set(i64::from(stopped || self.spool.as_ref().is_some_and(Spool::is_full)));
        if let Some(spool) = &self.spool {
            self.metrics.spool_bytes.set(i64::try_from(spool.bytes()).unwrap_or(i64::MAX));
        }
    }

    /// How long nothing will have to be done if nothing wakes it.
    fn wait(&self, now: Moment) -> Duration {
        let at = |at: Option<Duration>| at.map(|at| at.saturating_sub(now.mono));
        let scan = (self.mode == Mode::Reading).then(|| self.scan_at.saturating_sub(now.mono));
        let due = if self.waits(now) {
            // Whatever else is due waits for this.
            [at(self.retry_at), scan, None, None, None]
        } else {
            let rests = self.tails.values().filter_map(|tail| tail.left_due(&self.settings.patience));
            let quiet = rests.filter(|at| self.mode == Mode::Reading && *at > now.mono).min();
            [at(self.tidy_at), scan, self.batcher.remaining(now.mono), at(quiet), at(self.dropped_due())]
        };
        // The floor keeps whatever is due, and can't be done, from becoming a busy loop.
        due.into_iter().flatten().min().unwrap_or(RETRY).max(Duration::from_millis(1))
    }
}

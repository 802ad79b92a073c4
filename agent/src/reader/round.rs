//! Reading: each file that has something new gets its turn.
//!
//! ```text
//! file ─ fill ─► bytes ─► events (see there) ─► open batch ─ full? ─► seal
//! ```
//!
//! Limits: a turn reads [`CHUNK`] bytes, or one event where that is longer; a round has [`TURNS`] turns, so that what
//! wakes the thread in between is taken in.

use super::core::{Core, GRACE, Moment, RETRY};
use super::events::{Ended, Progress};
use super::notes::Loss;
use crate::batch::length;
use crate::files::identity::Key;
use crate::files::tail::{Fill, Patience, Tail};
use crate::spool::Spool;
use logweir_proto::line::service_of_path;
use std::ops::Bound::{Excluded, Unbounded};
use std::path::Path;

const CHUNK: usize = 256 << 10;
const TURNS: usize = 16;

impl Core {
    /// Gives the files their turns, beginning after the one that had the last. Whether there may be more to read.
    pub(super) fn round(&mut self, now: Moment) -> bool {
        let mut keys: Vec<Key> = Vec::with_capacity(self.tails.len());
        if let Some(cursor) = self.cursor {
            keys.extend(self.tails.range((Excluded(cursor), Unbounded)).map(|(key, _)| *key));
            keys.extend(self.tails.range(..=cursor).map(|(key, _)| *key));
        } else {
            keys.extend(self.tails.keys());
        }
        let decoding = self.decoding();
        let mut turns = 0;
        for key in keys {
            if turns == TURNS {
                return true;
            }
            if self.tails.get(&key).is_some_and(|tail| self.is_quiet(tail)) {
                continue;
            }
            // The tail is out of the map during its turn, which needs all the rest.
            let Some(mut tail) = self.tails.remove(&key) else { continue };
            let waits = tail.entry.packed && tail.error.is_none() && !decoding.contains(&key);
            if !tail.waits(now.mono) && !waits {
                match self.look_and_read(&mut tail, now) {
                    Ok(false) => {}
                    Ok(true) => {
                        turns += 1;
                        self.cursor = Some(key);
                    }
                    Err(error) => self.unreadable(&mut tail, &error, now),
                }
            }
            if tail.dirty {
                self.journal_place(&mut tail);
            }
            tail.note_whether_behind(now.mono);
            if tail.shown != Some(tail.behind()) {
                tail.shown = Some(tail.behind());
                self.metrics.behind(&tail.entry.path.to_string_lossy(), tail.behind());
            }
            self.tails.insert(key, tail);
        }
        self.looked_at_all();
        turns > 0
    }

    /// One file's turn, if it has something new. Whether it has had it.
    fn look_and_read(&mut self, tail: &mut Tail, now: Moment) -> std::io::Result<bool> {
        let ending = self.is_ending(tail, now);
        self.look_where_told(tail, now);
        if tail.is_open() {
            tail.look(now.mono)?;
        }
        if self.held(now) {
            if self.is_window_full() {
                self.check(tail, now)?;
            }
            return Ok(false);
        }
        let due = ending || tail.left_due(&self.settings.patience).is_some_and(|at| at <= now.mono);
        if tail.finished || !(tail.has_news() || due) {
            return Ok(false);
        }
        if !tail.is_open() && !self.reopen(tail, now)? {
            return Ok(false);
        }
        if tail.changed.is_some_and(|(scan, _)| scan == self.scans) || self.may_be_copy(tail, now)? {
            return Ok(false);
        }
        let before = tail.read_at;
        self.turn(tail, ending, now)?;
        if tail.flaw().is_none() {
            tail.error = None;
        }
        if tail.read_at != before {
            tail.read_on = now.mono;
            tail.speed.passed(tail.entry.offset, now.mono);
        }
        Ok(true)
    }

    /// What can't be read for a while is checked at least, so that each content that comes and goes meanwhile is known, and
    /// named when it is gone.
    fn check(&mut self, tail: &mut Tail, now: Moment) -> std::io::Result<()> {
        if tail.spooled || !(tail.needs_check() || tail.changed.is_some()) {
            return Ok(());
        }
        if (tail.is_open() || self.reopen(tail, now)?) && !tail.check()? {
            self.changed(tail, now)?;
        }
        Ok(())
    }

    /// The system can't read the file. It is tried again for ever, except where the inputs have an end.
    fn unreadable(&mut self, tail: &mut Tail, error: &std::io::Error, now: Moment) {
        if tail.error.replace(error.to_string()).is_none() {
            let file = tail.entry.path.display();
            tracing::warn!(%file, offset = tail.entry.offset, "cannot read: {error}; it is tried again each second");
        }
        tail.retry_at = Some(now.mono + RETRY);
        tail.release();
        let ended = tail.spooled && self.spool.as_ref().is_some_and(Spool::has_ended);
        if self.settings.once || ended {
            let (path, start, end) = (tail.entry.path.as_path(), tail.entry.offset, Some(tail.size));
            let detail = format!("cannot read: {error}; the next run goes on from there");
            self.lose(&Loss { reason: "unreadable", path, start, end, batch: None, detail: &detail }, now);
            tail.finished = true;
        }
    }

    /// The place of this file goes into the journal with the open batch.
    pub(super) fn journal_place(&mut self, tail: &mut Tail) {
        self.moved.insert(tail.entry.key, tail.place());
    }

    /// Whether what stands at its end without a line end is a line, since nothing more is expected.
    fn is_ending(&self, tail: &Tail, now: Moment) -> bool {
        if tail.spooled {
            return self.spool.as_ref().is_none_or(|spool| spool.is_complete(&tail.entry.path));
        }
        let left = !tail.matched || tail.unlinked;
        self.settings.once || tail.entry.packed || (left && now.mono.saturating_sub(tail.active) >= GRACE)
    }

    fn turn(&mut self, tail: &mut Tail, ending: bool, now: Moment) -> std::io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.turn_with(tail, ending, now, &mut buffer);
        // One long line must not keep its memory.
        buffer.truncate(2 * CHUNK);
        buffer.shrink_to(2 * CHUNK);
        self.buffer = buffer;
        result
    }

    fn turn_with(
        &mut self,
        tail: &mut Tail,
        ending: bool,
        now: Moment,
        buffer: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        if !tail.entry.timed {
            tail.entry.carry_ms = tail.modified_ms().clamp(0, now.unix_ms);
        }
        let settings = self.settings.parser(&tail.entry);
        let mut want = CHUNK;
        loop {
            let Fill::Bytes(guard) = tail.fill(buffer, want)? else { return self.changed(tail, now) };
            if let Some((start, end)) = tail.take_cut() {
                self.lose_cut(&tail.entry.path, start, end, now);
            }
            let at_end = buffer.len() - guard < want;
            let ended = self.ended(tail, at_end, ending, buffer.len() - guard, now);
            match self.events(tail, (buffer, guard), ended, &settings, now) {
                Progress::Full => return Ok(()),
                Progress::None if !at_end => {
                    // One event fills the buffer; at one byte over the limit a line will be passed over.
                    let most = self.settings.most_open_bytes();
                    want = want.saturating_mul(2).min(most).max(want + 1);
                    continue;
                }
                Progress::None | Progress::Some => {}
            }
            if at_end && let Some(flaw) = tail.flaw() {
                self.flawed(tail, &flaw, now);
            } else if at_end {
                tail.set_drained();
                tail.finished = ending && !tail.splitter.is_skipping();
                tail.release();
            }
            return Ok(());
        }
    }

    /// What is whole at the end of the bytes that were read, although nothing follows it.
    fn ended(&self, tail: &Tail, at_end: bool, ending: bool, read: usize, now: Moment) -> Ended {
        // Nothing has come since the look that found it quiet.
        let is_all = at_end && tail.read_at + length(read) == tail.size && !tail.splitter.is_skipping();
        let still = now.mono.saturating_sub(tail.active);
        let Patience { event, line } = self.settings.patience;
        if let Some(flaw) = tail.flaw().filter(|_| at_end) {
            // A line that is cut off is none.
            return Ended { event: self.is_flaw_final(tail, &flaw, now), line: false };
        }
        Ended {
            event: at_end && (ending || (is_all && still >= event)),
            line: at_end && (ending || (is_all && still >= line)),
        }
    }

    fn lose_cut(&mut self, path: &Path, start: u64, end: u64, now: Moment) {
        let detail = "the file was truncated or written over before these bytes were read";
        self.lose(&Loss { reason: "truncated", path, start, end: Some(end), batch: None, detail }, now);
    }

    /// What was read is no longer there: the file was truncated or written over. What was read of it stays valid.
    fn changed(&mut self, tail: &mut Tail, now: Moment) -> std::io::Result<()> {
        if tail.entry.packed && !self.settings.once {
            self.lose_archive(tail, now);
            return Ok(());
        }
        if tail.changed.is_none() && !self.settings.once {
            // Where there is a copy of the old content, a scan finds it.
            tail.changed = Some((self.scans, tail.seen()));
            self.found_change = true;
            return Ok(());
        }
        let (old, seen) = (tail.place(), tail.seen());
        tracing::info!(
            file = %tail.entry.path.display(),
            offset = old.offset,
            "the file was truncated or written over; it is read from the beginning"
        );
        let rest = self.leave_to_copy(&old, &tail.trail, now);
        let rest = rest.or_else(|| self.leave_to_archive(&old, now));
        let start = rest.unwrap_or(old.offset);
        if seen > start {
            self.lose_cut(&old.path, start, seen, now);
        }
        self.contents += 1;
        tail.restart(self.contents)?;
        // Another file's content belongs to whom its name says.
        tail.set_service(&service_of_path(&tail.entry.path));
        // Journaled at once, and with it what was read of the old content: else a new run would take the file for
        // one that was truncated while no agent ran.
        self.journal_place(tail);
        self.seal();
        self.staged_files.append(&mut self.moved);
        Ok(())
    }
}

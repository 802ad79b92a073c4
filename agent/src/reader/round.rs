//! Reading: each file that has something new gets its turn.
//!
//! ```text
//! file ─ fill ─► bytes ─ splitter ─► line ─ parser ─► event ─► open batch ─ full? ─► seal
//! ```
//!
//! Limits: a turn reads [`CHUNK`] bytes, or one line where that is longer; a round has [`TURNS`] turns, so that what
//! wakes the thread in between is taken in.

use super::core::{Core, GRACE, Moment, RETRY};
use super::notes::{self, Loss};
use crate::batch::{Line, length};
use crate::files::identity::Key;
use crate::files::lines::Step;
use crate::files::tail::{Fill, Tail};
use crate::spool::Spool;
use logweir_proto::line::{self, Carry, Settings, service_of_path};
use std::ops::Bound::{Excluded, Unbounded};

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
        let mut turns = 0;
        for key in keys {
            if turns == TURNS {
                return true;
            }
            // The tail is out of the map during its turn, which needs all the rest.
            let Some(mut tail) = self.tails.remove(&key) else { continue };
            if !tail.waits(now.mono) {
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
            if tail.shown != Some(tail.behind()) {
                tail.shown = Some(tail.behind());
                self.metrics.behind(&tail.entry.path.to_string_lossy(), tail.behind());
            }
            self.tails.insert(key, tail);
        }
        turns > 0
    }

    /// One file's turn, if it has something new. Whether it has had it.
    fn look_and_read(&mut self, tail: &mut Tail, now: Moment) -> std::io::Result<bool> {
        let ending = self.is_ending(tail, now);
        if tail.is_open() {
            tail.look(now.mono)?;
        }
        if self.held(now) || tail.finished || !(tail.has_news() || ending) {
            return Ok(false);
        }
        if !tail.is_open() && !self.reopen(tail)? {
            return Ok(false);
        }
        if tail.changed.is_some_and(|(scan, _)| scan == self.scans) || self.may_be_copy(tail, now)? {
            return Ok(false);
        }
        self.turn(tail, ending, now)?;
        tail.failing = false;
        Ok(true)
    }

    /// The system can't read the file. It is tried again for ever, except where the inputs have an end.
    fn unreadable(&mut self, tail: &mut Tail, error: &std::io::Error, now: Moment) {
        if !std::mem::replace(&mut tail.failing, true) {
            let file = tail.entry.path.display();
            tracing::warn!(%file, offset = tail.entry.offset, "cannot read: {error}; it is tried again each second");
        }
        tail.retry_at = Some(now.mono + RETRY);
        let ended = tail.spooled && self.spool.as_ref().is_some_and(Spool::has_ended);
        if self.settings.once || ended {
            let (path, start, end) = (tail.entry.path.as_path(), tail.entry.offset, Some(tail.size));
            let detail = format!("cannot read: {error}; the next run goes on from there");
            self.lose(&Loss { reason: "unreadable", path, start, end, batch: None, detail: &detail }, now);
            tail.finished = true;
        }
    }

    /// The place of this file goes into the journal with the open batch.
    fn journal_place(&mut self, tail: &mut Tail) {
        self.moved.insert(tail.entry.key, tail.place());
    }

    /// Whether what stands at its end without a line end is a line, since nothing more is expected.
    fn is_ending(&self, tail: &Tail, now: Moment) -> bool {
        if tail.spooled {
            return self.spool.as_ref().is_none_or(|spool| spool.is_complete(&tail.entry.path));
        }
        let left = !tail.matched || tail.unlinked;
        self.settings.once || (left && now.mono.saturating_sub(tail.active) >= GRACE)
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
            tail.entry.carry_ms = now.unix_ms;
        }
        let settings = Settings {
            format: self.settings.format,
            service: self.settings.service.clone(),
            file_service: tail.entry.service.clone(),
            default_level: self.settings.default_level,
            timezone: self.settings.timezone.clone(),
        };
        let mut want = CHUNK;
        loop {
            let Fill::Bytes(guard) = tail.fill(buffer, want)? else { return self.changed(tail, now) };
            let at_end = buffer.len() - guard < want;
            let mut at = guard;
            let whole = loop {
                match tail.splitter.next(&buffer[at..], tail.read_at, at_end && ending) {
                    Step::Line { bytes, taken } => {
                        let raw = &buffer[at..at + taken];
                        if !self.take_line(tail, bytes, raw, &settings, now) {
                            return Ok(());
                        }
                        at += taken;
                        tail.advance(&buffer[..at], taken, true);
                        if self.batcher.is_full() {
                            self.journal_place(tail);
                            self.seal();
                            if self.is_window_full() {
                                return Ok(());
                            }
                        }
                    }
                    Step::Blank { taken } => {
                        let (start, carry_ms) = (tail.read_at, tail.entry.carry_ms);
                        let raw = &buffer[at..at + taken];
                        let line = Line { start, raw, event: b"", before_ms: carry_ms, after_ms: carry_ms };
                        self.batcher.skip(&tail.source, line);
                        self.metrics.bytes_read.inc_by(length(taken));
                        at += taken;
                        tail.advance(&buffer[..at], taken, true);
                    }
                    Step::TooLong { start, taken, hash } => {
                        at += taken;
                        tail.advance(&buffer[..at], taken, true);
                        self.too_long(tail, start, hash, now);
                    }
                    Step::Skipped => {
                        let taken = buffer.len() - at;
                        tail.advance(&buffer[..], taken, false);
                        break true;
                    }
                    Step::Need => break at > guard || at_end,
                }
            };
            if !whole {
                // One line fills the buffer; at one byte over the limit it will be passed over.
                want =
                    want.saturating_mul(2).min(self.settings.max_line_bytes.saturating_add(1)).max(want + 1);
                continue;
            }
            if at_end {
                tail.set_drained();
                tail.finished = ending && !tail.splitter.is_skipping();
            }
            return Ok(());
        }
    }

    /// Adds a line's event to the open batch; `false` when there is no room for it in the window, so that it must
    /// be read again.
    fn take_line(
        &mut self,
        tail: &mut Tail,
        bytes: &[u8],
        raw: &[u8],
        settings: &Settings,
        now: Moment,
    ) -> bool {
        let before_ms = tail.entry.carry_ms;
        let mut carry = Carry { timestamp_ms: before_ms };
        let mut event = std::mem::take(&mut self.event);
        event.clear();
        line::to_event(bytes, settings, &mut carry, &mut event);
        if self.batcher.is_full_for(event.len()) {
            // All up to the line before this one.
            self.journal_place(tail);
            self.seal();
            if self.is_window_full() {
                self.event = event;
                return false;
            }
        }
        let after_ms = carry.timestamp_ms;
        let line = Line { start: tail.read_at, raw, event: &event, before_ms, after_ms };
        self.batcher.push(&tail.source, line, now.mono);
        tail.entry.timed |= after_ms != before_ms;
        tail.entry.carry_ms = after_ms;
        self.metrics.lines_read.inc();
        self.metrics.bytes_read.inc_by(length(raw.len()));
        self.event = event;
        true
    }

    fn too_long(&mut self, tail: &Tail, start: u64, hash: u128, now: Moment) {
        let (path, end) = (&tail.entry.path, tail.entry.offset);
        tracing::warn!(file = %path.display(), start, end, "a line is too long, and is not sent");
        self.noted.push(notes::too_long(path, start, end, hash, self.settings.max_line_bytes, now));
        self.metrics.lines_read.inc();
        self.metrics.bytes_read.inc_by(end - start);
        self.metrics.rejected("too_long");
        self.ended.rejected += 1;
    }

    /// What was read is no longer there: the file was truncated or written over. What was read of it stays valid.
    fn changed(&mut self, tail: &mut Tail, now: Moment) -> std::io::Result<()> {
        if tail.changed.is_none() && !self.settings.once {
            // Where there is a copy of the old content, a scan finds it.
            tail.changed = Some((self.scans, tail.seen()));
            self.scan_at = self.scan_at.min(now.mono.max(self.may_scan_at));
            return Ok(());
        }
        let (old, seen) = (tail.place(), tail.seen());
        tracing::info!(
            file = %tail.entry.path.display(),
            offset = old.offset,
            "the file was truncated or written over; it is read from the beginning"
        );
        self.leave_to_copy(&old, seen, now)?;
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

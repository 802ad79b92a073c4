//! From the bytes of a turn to events in the open batch.
//!
//! ```text
//! bytes ─ splitter ─► line ─ assembly ─┬─ it begins another event ──► the one before goes into the batch
//!                                      ├─ it is part of the open event ──► on
//!                                      └─ nothing follows ──► the open event stays unread, until it is quiet
//! ```
//!
//! Invariants: the tail's place is always between two events, and an event that isn't complete is read again with the
//! next turn. So which lines are one event never depends on how the bytes came, but for one thing: that nothing
//! followed for a while. Then a piece of the batch ends there, and the journal's pieces tell a new run the same.

use super::core::{Core, Moment};
use super::notes;
use crate::batch::{Line, length};
use crate::files::lines::Step;
use crate::files::tail::{Left, Tail};
use logweir_proto::line::{Assembly, Facts, Kind, Next, Settings};

/// So often it is said that a file's lines are of another kind.
const MOST_CHANGES: u8 = 3;

/// What has become of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing: there is no whole event.
    None,
    /// The place has moved.
    Some,
    /// There is no room for more.
    Full,
}

/// What is whole at the end of the bytes, although nothing follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// An event of whole lines.
    pub(super) event: bool,
    /// A line without its end, too.
    pub(super) line: bool,
}

/// Which bytes of a buffer are an event's.
struct Span<'a> {
    buffer: &'a [u8],
    from: usize,
    to: usize,
}

impl Core {
    /// Takes the events in `buffer` from `guard` on.
    pub(super) fn events(
        &mut self,
        tail: &mut Tail,
        (buffer, guard): (&[u8], usize),
        ended: Ended,
        settings: &Settings,
        now: Moment,
    ) -> Progress {
        let mut carry = tail.carry();
        if tail.read_at == 0 {
            carry.begin(&buffer[guard..]);
        }
        let mut assembly = Assembly::new(settings, carry);
        let (mut from, mut to) = (guard, guard);
        loop {
            let place = tail.read_at + length(to - from);
            let step = tail.splitter.next(&buffer[to..], place, ended.line, assembly.encoding());
            let (line, taken) = match step {
                Step::Line { bytes, taken } => (bytes, taken),
                Step::Blank { taken } => (&[][..], taken),
                Step::TooLong { .. } | Step::Skipped { .. } | Step::Need => {
                    // A line that is too long is no part of an event, and nothing joins one over it.
                    let last = step == Step::Need;
                    let whole = !last || ended.line || (ended.event && to == buffer.len());
                    if assembly.is_open() && whole {
                        let span = Span { buffer, from, to };
                        if !self.take_event(tail, &mut assembly, &span, last, now) {
                            tail.splitter.reset();
                            return Progress::Full;
                        }
                        from = to;
                    }
                    match step {
                        Step::TooLong { start, taken, hash } => {
                            (from, to) = (to + taken, to + taken);
                            tail.advance(&buffer[..to], taken, true);
                            self.too_long(tail, start, hash, now);
                            continue;
                        }
                        Step::Skipped { taken } => {
                            tail.left = Left::Nothing;
                            tail.advance(&buffer[..to + taken], taken, false);
                            return Progress::Some;
                        }
                        _ => {
                            tail.left = match (to < buffer.len(), assembly.is_open()) {
                                (true, _) => Left::Line,
                                (false, true) => Left::Event,
                                (false, false) => Left::Nothing,
                            };
                            return if from > guard { Progress::Some } else { Progress::None };
                        }
                    }
                }
            };
            let next = assembly.line(line);
            if next != Next::Complete {
                to += taken;
            }
            match next {
                Next::Open => continue,
                Next::Nothing => {
                    self.metrics.lines_read.inc_by((!line.is_empty()).into());
                    self.pass_over(tail, &assembly, &Span { buffer, from, to });
                }
                Next::Complete | Next::Whole => {
                    let span = Span { buffer, from, to };
                    if !self.take_event(tail, &mut assembly, &span, false, now) {
                        return Progress::Full;
                    }
                    if self.is_window_full() {
                        return Progress::Full;
                    }
                }
            }
            from = to;
        }
    }

    /// Adds the open event to the open batch, unless it is left out, and moves the place on; `false` when there is no room
    /// for it in the window, so that it must be read again.
    fn take_event(
        &mut self,
        tail: &mut Tail,
        assembly: &mut Assembly<'_>,
        span: &Span<'_>,
        last: bool,
        now: Moment,
    ) -> bool {
        let before = assembly.before();
        let Some(facts) = assembly.take() else { return true };
        let event = assembly.event();
        let is_kept = facts.filtered.is_none();
        if is_kept && self.batcher.is_full_for(event.len()) {
            // All up to the event before this one.
            self.journal_place(tail);
            self.seal();
            if self.is_window_full() {
                return false;
            }
        }
        let (after, raw) = (assembly.after(), &span.buffer[span.from..span.to]);
        let line = Line { start: tail.read_at, raw, event, before, after, last };
        if is_kept {
            self.batcher.push(&tail.source, line, now.mono);
        } else {
            // The piece that it follows goes on after it, and a new run leaves it out again.
            self.batcher.skip(&tail.source, line);
        }
        tail.entry.timed |= after.timestamp_ms != before.timestamp_ms || !facts.is_undated();
        if let Some(kind) = after.state.kind.filter(|kind| tail.said != Some(*kind)) {
            say_kind(tail, kind, &facts, after.state.is_settled());
        }
        tail.set_carry(after);
        self.note(&facts, assembly.redacted(), raw.len());
        tail.advance(&span.buffer[..span.to], raw.len(), true);
        if self.batcher.is_full() {
            self.journal_place(tail);
            self.seal();
        }
        true
    }

    /// Moves the place on over lines that are no event.
    fn pass_over(&mut self, tail: &mut Tail, assembly: &Assembly<'_>, span: &Span<'_>) {
        let raw = &span.buffer[span.from..span.to];
        let (before, after) = (tail.carry(), assembly.after());
        let line = Line { start: tail.read_at, raw, event: b"", before, after, last: false };
        self.batcher.skip(&tail.source, line);
        tail.set_carry(after);
        self.metrics.bytes_read.inc_by(length(raw.len()));
        tail.advance(&span.buffer[..span.to], raw.len(), true);
    }

    fn note(&self, facts: &Facts, redacted: &[u32], bytes: usize) {
        self.metrics.lines_read.inc_by(facts.lines.into());
        self.metrics.bytes_read.inc_by(length(bytes));
        if let Some(filter) = facts.filtered {
            return self.metrics.filtered(filter);
        }
        self.metrics.redacted(self.settings.rules.redactions().zip(redacted.iter().copied()));
        self.metrics.undated_events.inc_by(facts.is_undated().into());
        self.metrics.cut_events.inc_by(facts.cut.into());
        self.metrics.replaced_bytes.inc_by(facts.replaced.into());
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
}

/// Says what the lines of a file are found to be, and why: first by its first line that tells, later when enough lines in a row
/// have told another, and not for ever where they keep changing.
fn say_kind(tail: &mut Tail, kind: Kind, facts: &Facts, settled: bool) {
    let (file, offset, format, why) =
        (tail.entry.path.display(), tail.entry.offset, kind.as_str(), kind.sign());
    let (time, level) = (facts.time.to_string(), facts.level.to_string());
    match tail.said {
        None => {
            tracing::info!(%file, offset, format, time, level, "its lines are taken for {format}: one is {why}")
        }
        Some(_) if !settled || tail.changes >= MOST_CHANGES => return,
        Some(was) => {
            tail.changes += 1;
            let was = was.as_str();
            tracing::info!(%file, offset, format, was, time, level, "its lines are taken for {format} now: the last are {why}");
            if tail.changes == MOST_CHANGES {
                tracing::info!(%file, "its lines have changed {MOST_CHANGES} times; further changes are not said");
            }
        }
    }
    tail.said = Some(kind);
}

//! From lines to events: which lines are one event, and what it says.
//!
//! ```text
//! line ─► plain text ─► container's wrapping off ─┬─ JSON object, logfmt ──────────► an event, whole at once
//!                                                 └─ text ─┬─ begins ──► open ─┐
//!                                                          └─ continues ───────┴─ the next begins, or the end ─► an event
//! ```
//!
//! Invariants: which lines are one event depends on the settings, the [`Carry`] before them and the lines, and on
//! nothing else; the first line after [`Assembly::new`] begins an event, unless it continues one that was cut. So
//! whoever reads the bytes of some events again, with the same settings and the same carry, gets the same events.
//!
//! Limits: an open event holds at most [`Settings::max_event_bytes`] of lines, or one line that is longer.

use super::container::{self, Outer};
use super::continuation::Trace;
use super::encoding::Encoding;
use super::facts::Facts;
use super::rules::Filter;
use super::state::{Carry, Cut, Kind};
use super::text;
use super::{Format, Settings, json, logfmt};

mod open;
mod write;

use open::{Open, Seen};

/// What becomes of a line that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It begins another event, and wasn't taken: [`Assembly::take`] the one before, and show the line again.
    Complete,
    /// It is part of the open event, to which more may belong.
    Open,
    /// It ends the open event: [`Assembly::take`] it.
    Whole,
    /// It is no part of any event: blank, or the rest of one that was cut.
    Nothing,
}

/// Puts a file's events together.
#[derive(Debug)]
pub struct Assembly<'s> {
    settings: &'s Settings,
    /// Before the open event.
    before: Carry,
    /// After what was shown.
    after: Carry,
    open: Option<Open>,
    /// A line that was copied as it is, and is to be taken.
    copied: bool,
    /// Why that is left out.
    copied_filter: Option<Filter>,
    /// What the next line says, where it was shown and not taken.
    seen: Option<Seen>,
    /// The open event's lines, without what was wrapped around them.
    text: Vec<u8>,
    /// What a container's runtime has wrapped into the line.
    inner: Vec<u8>,
    /// The event that was taken, and how much of it was replaced, by rule.
    event: Vec<u8>,
    redacted: Vec<u32>,
}

impl<'s> Assembly<'s> {
    /// Begins between two events of a file, with what the lines before left.
    #[must_use]
    pub fn new(settings: &'s Settings, carry: Carry) -> Self {
        Self {
            settings,
            before: carry,
            after: carry,
            open: None,
            copied: false,
            copied_filter: None,
            seen: None,
            text: Vec::new(),
            inner: Vec::new(),
            event: Vec::new(),
            redacted: Vec::new(),
        }
    }

    /// What the lines before the open event left, or all lines if none is open.
    #[must_use]
    pub const fn before(&self) -> Carry {
        self.before
    }

    /// What the lines that were taken leave.
    #[must_use]
    pub const fn after(&self) -> Carry {
        self.after
    }

    /// Whether an event is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.copied || self.open.is_some()
    }

    /// How the file's characters are written.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.after.state.encoding
    }

    /// Looks at the next line, without its `\n`.
    pub fn line(&mut self, line: &[u8]) -> Next {
        if self.open.is_none() && self.copy(line) {
            return Next::Whole;
        }
        let plain = self.after.state.encoding.plain(line);
        if crate::ndjson::is_blank(&plain) {
            return self.blank(line.len());
        }
        let mut inner = std::mem::take(&mut self.inner);
        inner.clear();
        let outer = match self.settings.format {
            Format::Container | Format::Auto => container::open(&plain, &mut inner),
            Format::Json | Format::Text | Format::Logfmt => None,
        };
        let next = match outer {
            Some(outer) => self.inside(line.len(), &inner, Some(outer)),
            None => self.inside(line.len(), &plain, None),
        };
        self.inner = inner;
        next
    }

    /// Copies a line that is a valid event already. What was sent so by an application is not looked at any further.
    fn copy(&mut self, line: &[u8]) -> bool {
        let json = matches!(self.settings.format, Format::Json | Format::Auto | Format::Container);
        if !json
            || line.trim_ascii_start().first() != Some(&b'{')
            || self.settings.origin.is_some()
            || !self.encoding().is_utf8()
        {
            return false;
        }
        self.event.clear();
        self.copied = json::copy(line, self.settings, &mut self.after, &mut self.event);
        if self.copied {
            self.copied_filter = self.settings.rules.filter(line);
            self.seen = None;
            self.after.state.cut = Cut::No;
            self.after.state.vote(Kind::Json);
            self.end_event();
        }
        self.copied
    }

    fn blank(&mut self, len: usize) -> Next {
        let max = self.settings.max_event_bytes;
        match &mut self.open {
            None => {
                self.before = self.after;
                Next::Nothing
            }
            Some(open) if open.bytes + len < max => {
                open.bytes += len + 1;
                self.text.push(b'\n');
                Next::Open
            }
            // Blank lines at its end are no part of an event, and so nothing is cut.
            Some(_) => Next::Complete,
        }
    }

    /// The line without what was wrapped around it.
    fn inside(&mut self, len: usize, line: &[u8], outer: Option<Outer>) -> Next {
        if self.open.as_ref().is_some_and(|open| open.is_in_part()) {
            return self.rest_of_line(len, line, outer);
        }
        if outer.is_some_and(|outer| !outer.partial) && crate::ndjson::is_blank(line) {
            return self.blank(len);
        }
        let beside_cut = self.after.state.cut_of == outer.and_then(|outer| outer.stream);
        if self.after.state.cut == Cut::Line && self.open.is_none() && beside_cut {
            // Nothing is open: the line goes on that was cut, until the runtime says that it ends.
            self.after.state.cut = Cut::Event;
            if let Some(outer) = outer {
                if outer.partial {
                    self.after.state.cut = Cut::Line;
                }
                // It may have been looked at already, while another event was open.
                self.seen = None;
                self.before = self.after;
                return Next::Nothing;
            }
        }
        if outer.is_none()
            && line.first() == Some(&b'#')
            && self.settings.format != Format::Json
            && let Some(columns) = text::directive(line, self.after.state.columns)
        {
            return self.header(columns);
        }
        let seen = self.seen.take().unwrap_or_else(|| self.look(line));
        let begins = match &self.open {
            None => self.after.state.cut == Cut::No || !beside_cut || self.begins(seen, line, Trace::Not),
            Some(open) => !open.is_beside(outer) || self.begins(seen, line, open.trace),
        };
        match (&mut self.open, begins) {
            (Some(_), true) => {
                self.seen = Some(seen);
                Next::Complete
            }
            (None, true) => self.begin(seen, len, line, outer),
            (None, false) => {
                self.passed(line, Trace::Not);
                self.before = self.after;
                Next::Nothing
            }
            (Some(open), false) if open.bytes + len < self.settings.max_event_bytes => {
                let trace = open.trace;
                open.bytes += len + 1;
                open.lines += 1;
                open.trace = trace.after(line);
                open.second_line(line);
                if let (Some(own), Some(outer)) = (&mut open.outer, outer) {
                    own.partial = outer.partial;
                }
                self.text.push(b'\n');
                self.text.extend_from_slice(line);
                self.passed(line, trace);
                Next::Open
            }
            (Some(open), false) => {
                open.cut = true;
                self.after.state.cut_off(Cut::Event, open.outer);
                self.seen = Some(seen);
                Next::Complete
            }
        }
    }

    /// A line that says which columns the next ones have, and is none itself.
    fn header(&mut self, columns: Option<text::Columns>) -> Next {
        if self.open.is_some() {
            return Next::Complete;
        }
        self.after.state.columns = columns;
        self.after.state.cut_off(Cut::No, None);
        self.before = self.after;
        Next::Nothing
    }

    fn look(&self, line: &[u8]) -> Seen {
        let format = self.settings.format;
        let json = matches!(format, Format::Json | Format::Auto | Format::Container);
        if json && json::may_be_object(line) {
            return Seen::Object;
        }
        let sure = self.after.state.kind == Some(Kind::Logfmt) || format == Format::Logfmt;
        if matches!(format, Format::Logfmt | Format::Auto | Format::Container)
            && logfmt::is_line(line, &self.settings.keys, sure)
        {
            return Seen::Logfmt;
        }
        Seen::Text(text::head(line, self.settings, self.after.near(), self.after.state.columns))
    }

    /// Whether the line begins an event, where it could continue one.
    fn begins(&self, seen: Seen, line: &[u8], trace: Trace) -> bool {
        let Seen::Text(head) = seen else { return true };
        if self.settings.format == Format::Json {
            return true;
        }
        if let Some(start) = &self.settings.multiline_start {
            return start.is_match(line);
        }
        head.begins || !(self.after.state.is_dated() || trace.takes(line))
    }

    /// A line continued an event.
    fn passed(&mut self, line: &[u8], trace: Trace) {
        if !trace.takes(line) {
            self.after.state.saw_time(false);
        }
    }

    fn begin(&mut self, seen: Seen, len: usize, line: &[u8], outer: Option<Outer>) -> Next {
        if self.after.state.cut_of == outer.and_then(|outer| outer.stream) {
            self.after.state.cut_off(Cut::No, None);
        }
        self.text.clear();
        let trace = Trace::Not.after(line);
        self.open =
            Some(Open { seen: None, outer, trace, bytes: len + 1, lines: 1, cut: false, facts: None });
        if outer.is_some_and(|outer| outer.partial) {
            self.text.extend_from_slice(line);
            return Next::Open;
        }
        self.first_line_is_there(seen, line)
    }

    /// More of a line that the container's runtime has written in parts.
    fn rest_of_line(&mut self, len: usize, line: &[u8], outer: Option<Outer>) -> Next {
        let max = self.settings.max_event_bytes;
        let Some(open) = &mut self.open else { return Next::Nothing };
        let Some(outer) = outer.filter(|outer| open.is_beside(Some(*outer))) else {
            // Its end is missing.
            return Next::Complete;
        };
        let cut = open.bytes + len >= max;
        if cut {
            // What follows of this line is dropped, since it doesn't begin an event.
            open.cut = true;
            self.after.state.cut_off(if outer.partial { Cut::Line } else { Cut::Event }, Some(outer));
            open.bytes += len + 1;
        } else {
            open.bytes += len + 1;
            self.text.extend_from_slice(line);
        }
        if let Some(own) = &mut open.outer {
            own.partial = outer.partial && !cut;
        }
        if cut {
            return Next::Whole;
        }
        if outer.partial || open.seen.is_some() {
            return Next::Open;
        }
        let text = std::mem::take(&mut self.text);
        self.first_line_is_there(self.look(&text), &text)
    }

    /// The open event's first line has come to its end. What is no text is whole at once.
    fn first_line_is_there(&mut self, seen: Seen, line: &[u8]) -> Next {
        let Some(open) = &mut self.open else { return Next::Nothing };
        open.seen = Some(seen);
        if self.settings.format == Format::Json && !matches!(seen, Seen::Object) {
            return self.as_it_is(line);
        }
        let head = match seen {
            Seen::Text(head) => head,
            Seen::Object | Seen::Logfmt if self.write_fields(seen, line) => return Next::Whole,
            Seen::Object if self.settings.format == Format::Json => return self.as_it_is(line),
            Seen::Object | Seen::Logfmt => {
                text::head(line, self.settings, self.after.near(), self.after.state.columns)
            }
        };
        // Only text is kept: more lines may follow it.
        self.text.extend_from_slice(line);
        let Some(open) = &mut self.open else { return Next::Nothing };
        open.seen = Some(Seen::Text(head));
        let outer = open.outer;
        let state = &mut self.after.state;
        state.saw_time(head.begins);
        if outer.is_some() {
            state.vote(Kind::Container);
        } else if head.begins || head.level.is_some() {
            state.vote(Kind::Text);
        }
        // At once, since the next line may be looked at before this event is taken.
        if let Some(ms) = head.ms.or_else(|| outer.and_then(|outer| outer.ms)) {
            self.after.found(ms);
        }
        if head.is_whole { Next::Whole } else { Next::Open }
    }

    /// Takes the open event as it is; `None` when none is open. [`Assembly::event`] is its text. One that is
    /// [filtered](Facts::filtered) is none for anybody, but the lines after it are read as if it were.
    pub fn take(&mut self) -> Option<Facts> {
        let facts = self.written()?;
        self.settings.rules.redact(&mut self.event, &mut self.redacted);
        Some(facts)
    }

    /// The event that was taken last: one JSON text and a `\n`.
    #[must_use]
    pub fn event(&self) -> &[u8] {
        &self.event
    }

    /// In how many places of it something was replaced, in the order of [`super::Rules::redactions`].
    #[must_use]
    pub fn redacted(&self) -> &[u32] {
        &self.redacted
    }
}

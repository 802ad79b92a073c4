//! The event that is open: what its first line looks like, and which lines belong to it so far.

use crate::line::container::Outer;
use crate::line::continuation::Trace;
use crate::line::facts::Facts;
use crate::line::place;
use crate::line::text::Head;

#[derive(Debug)]
pub(super) struct Open {
    /// `None` for a line that has come in part only.
    pub(super) seen: Option<Seen>,
    pub(super) outer: Option<Outer>,
    pub(super) trace: Trace,
    pub(super) bytes: usize,
    pub(super) lines: u32,
    pub(super) cut: bool,
    /// What its event says, where that is written already.
    pub(super) facts: Option<Facts>,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    Object,
    Logfmt,
    Text(Head),
}

impl Open {
    /// Whether the last line has not come to its end.
    pub(super) fn is_in_part(&self) -> bool {
        self.outer.is_some_and(|outer| outer.partial)
    }

    /// Some write the level into the line after the time.
    pub(super) fn second_line(&mut self, line: &[u8]) {
        if let Some(Seen::Text(head)) = &mut self.seen
            && std::mem::take(&mut head.level_follows)
            && head.level.is_none()
        {
            head.level = place::level(line, false).map(|level| (level, "place, next line"));
        }
    }

    /// Whether a line was written where this event was written.
    pub(super) fn is_beside(&self, outer: Option<Outer>) -> bool {
        self.outer.map(|own| own.stream) == outer.map(|other| other.stream)
    }
}

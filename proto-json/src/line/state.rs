//! What a line inherits from the lines before it in its file, and nothing else: it stands in the agent's journal.

use super::container::{Outer, Stream};
use super::encoding::Encoding;
use super::text::Columns;
use super::time::Near;
use serde::{Deserialize, Serialize};

/// What a file's lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Each line is a JSON object.
    Json,
    /// Each line is `key=value …`.
    Logfmt,
    /// Lines of text.
    Text,
    /// Lines that a container's runtime has wrapped (docker's json-file, CRI).
    Container,
}

impl Kind {
    /// Its name, as `--format` knows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Json => "json",
            Kind::Logfmt => "logfmt",
            Kind::Text => "text",
            Kind::Container => "container",
        }
    }

    /// What shows that a line is of it; to be read after "is".
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Kind::Json => "a JSON object",
            Kind::Logfmt => "pairs of key=value",
            Kind::Text => "text with a time or a level where loggers put them",
            Kind::Container => "wrapped by a container's runtime",
        }
    }
}

/// So many lines in a row that are of another kind change what a file is taken for.
const MOST_VOTES: u8 = 5;

/// A line with a time lets so many later ones do without, and at most so many.
const DATED: u8 = 16;
const MOST_DATED: u8 = 240;

/// What a file's lines inherit from the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carry {
    /// The time of a line without one, in Unix milliseconds: the last time seen in this file or, before any,
    /// a time that the caller chose.
    pub timestamp_ms: i64,
    /// All the rest.
    pub state: State,
}

impl Carry {
    /// Before a file's first line.
    #[must_use]
    pub fn at(timestamp_ms: i64) -> Self {
        Self { timestamp_ms, state: State::default() }
    }

    /// At a file's beginning its first bytes say how its characters are written.
    pub fn begin(&mut self, first_bytes: &[u8]) {
        self.state.encoding = Encoding::of(first_bytes);
    }

    /// A line had this time.
    pub(super) fn found(&mut self, timestamp_ms: i64) {
        self.timestamp_ms = timestamp_ms;
        self.state.timed = true;
    }

    /// What a time that lacks its year or date is near to.
    pub(super) const fn near(&self) -> Near {
        Near { ms: self.timestamp_ms, of_a_line: self.state.timed || self.state.dated > 0 }
    }
}

/// What the parser knows about a file besides the time. It is a function of the lines before, and of nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// How its characters are written.
    #[serde(skip_serializing_if = "Encoding::is_utf8")]
    pub encoding: Encoding,
    /// What its lines look like, where that is for the parser to find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// How many of the last lines were of that kind, less those of another.
    #[serde(skip_serializing_if = "is_zero")]
    votes: u8,
    /// How many lines without a time may follow until its lines are said to have none.
    #[serde(skip_serializing_if = "is_zero")]
    dated: u8,
    /// Whether a line had a time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    timed: bool,
    /// Whether the event before was cut, so that lines that continue it are dropped.
    #[serde(skip_serializing_if = "Cut::is_no")]
    pub(super) cut: Cut,
    /// On which of a container's streams that was: what the other one brings is no part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cut_of: Option<Stream>,
    /// What W3C's header has named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<Columns>,
}

/// What was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cut {
    /// Nothing.
    #[default]
    No,
    /// The lines that continue an event.
    Event,
    /// Those, and the rest of a line that a container's runtime writes in parts.
    Line,
}

impl Cut {
    const fn is_no(&self) -> bool {
        matches!(self, Self::No)
    }
}

const fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl State {
    /// Whether nothing is known, as at the beginning of a file.
    #[must_use]
    pub fn is_first(&self) -> bool {
        *self == Self::default()
    }

    /// Whether at least the last few lines were of the kind that [`State::kind`] says.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.votes == MOST_VOTES
    }

    /// The same file, and nothing known of its lines but how their characters are written, whether one had a time, and what a
    /// header has named.
    #[must_use]
    pub fn afresh(self) -> Self {
        Self { encoding: self.encoding, timed: self.timed, columns: self.columns, ..Self::default() }
    }

    /// A line is of this kind for sure.
    pub(super) fn vote(&mut self, kind: Kind) {
        if self.kind == Some(kind) {
            self.votes = self.votes.saturating_add(1).min(MOST_VOTES);
        } else if self.votes <= 1 {
            (self.kind, self.votes) = (Some(kind), 1);
        } else {
            self.votes -= 1;
        }
    }

    /// Something was cut off an event that was written there.
    pub(super) fn cut_off(&mut self, cut: Cut, outer: Option<Outer>) {
        (self.cut, self.cut_of) = (cut, outer.and_then(|outer| outer.stream));
    }

    /// Whether the file's lines usually have a time.
    pub(super) const fn is_dated(&self) -> bool {
        self.dated > 0
    }

    /// A line had a time, or had none and looks like no part of anything.
    pub(super) fn saw_time(&mut self, has_time: bool) {
        self.dated = if has_time {
            self.dated.saturating_add(DATED).min(MOST_DATED)
        } else {
            self.dated.saturating_sub(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_of_the_last_lines_says_what_a_file_is() {
        let mut state = State::default();
        state.vote(Kind::Text);
        // A banner is outvoted at once.
        state.vote(Kind::Json);
        assert_eq!(state.kind, Some(Kind::Json));
        for _ in 0..20 {
            state.vote(Kind::Json);
        }
        for changed in [false, false, false, false, true] {
            state.vote(Kind::Logfmt);
            assert_eq!(state.kind == Some(Kind::Logfmt), changed);
        }
        state.vote(Kind::Text);
        assert_eq!(state.kind, Some(Kind::Text));
    }

    #[test]
    fn it_is_written_briefly_and_read_again() {
        assert_eq!(serde_json::to_string(&State::default()).unwrap(), "{}");
        let mut state = State { encoding: Encoding::Utf16Le, cut: Cut::Event, ..State::default() };
        state.vote(Kind::Container);
        state.saw_time(true);
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(json, r#"{"encoding":"utf16le","kind":"container","votes":1,"dated":16,"cut":"event"}"#);
        assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
    }
}

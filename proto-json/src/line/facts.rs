//! Which rule found what in a line.

use super::rules::Filter;
use super::state::Kind;
use std::fmt;

/// Where a part of an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// There is none.
    #[default]
    Nothing,
    /// A field of this name.
    Key(&'static str),
    /// The field that the settings name (`--time-key` and its kin).
    MappedKey,
    /// A form of text.
    Form(&'static str),
    /// What the container's runtime wrote.
    Runtime,
    /// The time of the line before or, before any, that of the file or of reading.
    Before,
    /// The settings (`--service`).
    Setting,
    /// The file's name.
    FileName,
    /// `--default-level`
    Default,
    /// All that is left of the line.
    Rest,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Nothing => f.write_str("none"),
            By::Key(name) => write!(f, "field {name}"),
            By::MappedKey => f.write_str("field by its --…-key"),
            By::Form(name) => f.write_str(name),
            By::Runtime => f.write_str("container runtime"),
            By::Before => f.write_str("none, so the line before"),
            By::Setting => f.write_str("--service"),
            By::FileName => f.write_str("file name"),
            By::Default => f.write_str("none, so --default-level"),
            By::Rest => f.write_str("rest of the line"),
        }
    }
}

/// What is known of an event besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// What its first line looks like.
    pub kind: Option<Kind>,
    /// Where its time comes from.
    pub time: By,
    /// Where its level comes from.
    pub level: By,
    /// Where its service comes from.
    pub service: By,
    /// Where its message comes from.
    pub message: By,
    /// How many runs of bytes were no UTF-8, and were replaced by U+FFFD.
    pub replaced: u32,
    /// How many lines of text it has.
    pub lines: u32,
    /// Whether it was cut, since it would have been too long.
    pub cut: bool,
    /// Why it is left out: then it is no event, and takes no number.
    pub filtered: Option<Filter>,
}

impl Facts {
    /// Of a line that is a valid event as it is.
    pub(super) const COPIED: Self = Self {
        kind: Some(Kind::Json),
        time: By::Key("timestamp"),
        level: By::Key("level"),
        service: By::Key("service"),
        message: By::Key("message"),
        replaced: 0,
        lines: 1,
        cut: false,
        filtered: None,
    };

    /// Whether its time is not its own.
    #[must_use]
    pub fn is_undated(&self) -> bool {
        self.time == By::Before
    }
}

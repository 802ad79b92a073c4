//! Levels and the synonyms that are folded into them.

use std::fmt;

/// How grave an event is. The order is the gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The finest detail.
    Trace,
    /// For developers.
    Debug,
    /// The normal course.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// The service can't go on.
    Fatal,
}

impl Level {
    /// All levels, from trace to fatal.
    pub const ALL: [Level; 6] =
        [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];

    /// The name as it stands in Postgres.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

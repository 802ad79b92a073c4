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

    /// The other names that are folded, in lower case.
    pub const SYNONYMS: [(&str, Level); 18] = [
        ("trc", Level::Trace),
        ("dbg", Level::Debug),
        ("verbose", Level::Debug),
        ("inf", Level::Info),
        ("information", Level::Info),
        ("informational", Level::Info),
        ("notice", Level::Info),
        ("wrn", Level::Warn),
        ("warning", Level::Warn),
        ("err", Level::Error),
        ("severe", Level::Error),
        ("alert", Level::Fatal),
        ("crit", Level::Fatal),
        ("critical", Level::Fatal),
        ("emerg", Level::Fatal),
        ("emergency", Level::Fatal),
        ("ftl", Level::Fatal),
        ("panic", Level::Fatal),
    ];

    /// The level of a name or synonym, in any case; spaces around it are not taken off.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::parse_bytes(name.as_bytes())
    }

    /// As [`Level::parse`], for bytes that need not be text.
    pub(crate) fn parse_bytes(name: &[u8]) -> Option<Self> {
        let name = packed(name)?;
        NAMES.iter().chain(&SYNONYMS).find(|(known, _)| *known == name).map(|(_, level)| *level)
    }

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

/// Names as numbers, since this is asked of nearly every line.
const NAMES: [(u128, Level); 6] = {
    let mut names = [(0, Level::Info); 6];
    let mut at = 0;
    while at < names.len() {
        names[at] = (pack(Level::ALL[at].as_str().as_bytes()), Level::ALL[at]);
        at += 1;
    }
    names
};

const SYNONYMS: [(u128, Level); Level::SYNONYMS.len()] = table(Level::SYNONYMS);

/// A table of words in lower case as numbers, for [`packed`].
pub(crate) const fn table<const N: usize>(words: [(&str, Level); N]) -> [(u128, Level); N] {
    let mut table = [(0, Level::Info); N];
    let mut at = 0;
    while at < N {
        table[at] = (pack(words[at].0.as_bytes()), words[at].1);
        at += 1;
    }
    table
}

/// A word in lower case as a number; `None` when it is longer than any name, or ends in what fills a number up.
pub(crate) fn packed(word: &[u8]) -> Option<u128> {
    if matches!(word.last(), None | Some(0)) {
        return None;
    }
    let mut bytes = [0; 16];
    bytes.get_mut(..word.len())?.copy_from_slice(word);
    bytes.make_ascii_lowercase();
    Some(u128::from_le_bytes(bytes))
}

const fn pack(word: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.split_at_mut(word.len()).0.copy_from_slice(word);
    u128::from_le_bytes(bytes)
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_synonyms_in_any_case() {
        let names = Level::ALL.map(|level| (level.as_str(), level));
        for (name, level) in names.iter().chain(&Level::SYNONYMS) {
            assert_eq!(*name, name.to_lowercase());
            let mut chars = name.chars();
            let first = chars.next().unwrap().to_ascii_uppercase();
            for form in [(*name).to_owned(), name.to_uppercase(), format!("{first}{}", chars.as_str())] {
                assert_eq!(Level::parse(&form), Some(*level), "{form}");
            }
        }
    }

    #[test]
    fn each_name_stands_once() {
        let mut names: Vec<_> = Level::ALL.iter().map(|level| level.as_str()).collect();
        names.extend(Level::SYNONYMS.iter().map(|(name, _)| name));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn anything_else_is_no_level() {
        for name in [
            "",
            " info",
            "info ",
            "informations",
            "e",
            "error:",
            "30",
            "ınfo",
            "warnıng",
            "fatale",
            "info\0",
            "\0info",
        ] {
            assert_eq!(Level::parse(name), None, "{name:?}");
        }
    }
}

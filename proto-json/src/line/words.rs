//! Names and numbers of levels as loggers write them, beyond those that the wire knows.

use crate::Level;
use crate::level::{packed, table};

/// Names besides the wire's, in lower case: of java.util.logging, .NET, npm, loguru, zap, Postgres and others.
const WORDS: [(&str, Level); 26] = [
    ("finest", Level::Trace),
    ("finer", Level::Trace),
    ("trce", Level::Trace),
    ("silly", Level::Trace),
    ("fine", Level::Debug),
    ("config", Level::Debug),
    ("dbug", Level::Debug),
    ("debug1", Level::Debug),
    ("debug2", Level::Debug),
    ("debug3", Level::Debug),
    ("debug4", Level::Debug),
    ("debug5", Level::Debug),
    ("http", Level::Info),
    ("success", Level::Info),
    ("default", Level::Info),
    ("log", Level::Info),
    ("note", Level::Info),
    ("fail", Level::Error),
    ("dpanic", Level::Error),
    ("system", Level::Info),
    // logrus and charm shorten to four letters.
    ("trac", Level::Trace),
    ("debu", Level::Debug),
    ("erro", Level::Error),
    ("err!", Level::Error),
    ("fata", Level::Fatal),
    ("pani", Level::Fatal),
];

const PACKED: [(u128, Level); WORDS.len()] = table(WORDS);

/// Those of them that are also written so: by .NET, npm and MySQL.
const MIXED: [&str; 6] = ["trce", "dbug", "fail", "silly", "Note", "System"];

/// Whether a word is as long as those above and the wire's, and has their first letters.
fn may_be(word: &[u8]) -> bool {
    let [first, .., last] = word else { return false };
    // A bit for each letter.
    const FIRST: u32 = bits(b"acdefhilnpstvw");
    let first = first.to_ascii_lowercase().wrapping_sub(b'a');
    let begins = first < 26 && FIRST >> first & 1 == 1;
    begins
        && (3..=13).contains(&word.len())
        && (last.is_ascii_alphabetic() || matches!(last, b'!' | b'1'..=b'5'))
}

const fn bits(letters: &[u8]) -> u32 {
    let (mut bits, mut at) = (0, 0);
    while at < letters.len() {
        bits |= 1 << (letters[at] - b'a');
        at += 1;
    }
    bits
}

/// The level of a word that stands where levels stand in text. The wire's names are taken in any case, others only in
/// capitals: `config` and `fine` are words of prose.
pub(super) fn in_text(word: &[u8]) -> Option<Level> {
    match word {
        // As nearly all of them are written.
        b"INFO" => return Some(Level::Info),
        b"WARN" => return Some(Level::Warn),
        b"DEBUG" => return Some(Level::Debug),
        b"ERROR" => return Some(Level::Error),
        _ if !may_be(word) => return None,
        _ => {}
    }
    Level::parse_bytes(word).or_else(|| {
        let capitals = !word.iter().any(u8::is_ascii_lowercase);
        let special = || MIXED.iter().any(|name| word == name.as_bytes());
        if capitals || special() { other(word) } else { None }
    })
}

fn other(word: &[u8]) -> Option<Level> {
    let word = packed(word)?;
    PACKED.iter().find(|(known, _)| *known == word).map(|(_, level)| *level)
}

/// The level of a field's value or of a word that stands where levels stand; any case.
pub(super) fn level(word: &[u8]) -> Option<Level> {
    if !may_be(word) {
        return None;
    }
    Level::parse_bytes(word).or_else(|| other(word))
}

/// The value of a level's field: a name, one with a distance (`INFO+2`, as Go's slog writes it), or one letter.
pub(super) fn value(text: &[u8]) -> Option<Level> {
    let text = text.trim_ascii();
    if let [letter] = text {
        return self::letter(letter.to_ascii_uppercase());
    }
    // MongoDB's degrees of debug.
    if let [b'D', b'1'..=b'5'] = text {
        return Some(Level::Debug);
    }
    let name = match memchr::memchr2(b'+', b'-', text) {
        Some(at) if at > 0 && at + 1 < text.len() && text[at + 1..].iter().all(u8::is_ascii_digit) => {
            &text[..at]
        }
        _ => text,
    };
    level(name)
}

/// The letters that stand for levels: `I0629`, `[W]`, ` E `.
pub(super) const fn letter(letter: u8) -> Option<Level> {
    match letter {
        b'T' | b'V' => Some(Level::Trace),
        b'D' => Some(Level::Debug),
        b'I' | b'N' => Some(Level::Info),
        b'W' => Some(Level::Warn),
        b'E' => Some(Level::Error),
        b'F' | b'C' | b'A' => Some(Level::Fatal),
        _ => None,
    }
}

/// RFC 5424: 0 (emergency) to 7 (debug).
pub(super) const fn syslog(number: u64) -> Option<Level> {
    match number {
        0..=2 => Some(Level::Fatal),
        3 => Some(Level::Error),
        4 => Some(Level::Warn),
        5 | 6 => Some(Level::Info),
        7 => Some(Level::Debug),
        _ => None,
    }
}

/// pino and bunyan: 10 (trace) to 60 (fatal), and what lies between.
pub(super) fn pino(number: u64) -> Option<Level> {
    let index = usize::try_from(number).ok().filter(|number| (10..=69).contains(number))?;
    Level::ALL.get(index / 10 - 1).copied()
}

/// Python: 10 (debug) to 50 (critical).
pub(super) const fn python(number: u64) -> Option<Level> {
    match number {
        1..=9 => Some(Level::Trace),
        10..=19 => Some(Level::Debug),
        20..=29 => Some(Level::Info),
        30..=39 => Some(Level::Warn),
        40..=49 => Some(Level::Error),
        50..=59 => Some(Level::Fatal),
        _ => None,
    }
}

/// Logback: 5000 (trace) to 40000 (error).
pub(super) const fn logback(number: u64) -> Option<Level> {
    match number {
        5_000 => Some(Level::Trace),
        10_000 => Some(Level::Debug),
        20_000 => Some(Level::Info),
        30_000 => Some(Level::Warn),
        40_000 => Some(Level::Error),
        50_000 => Some(Level::Fatal),
        _ => None,
    }
}

/// OpenTelemetry: 1 (trace) to 24 (fatal).
pub(super) fn otel(number: u64) -> Option<Level> {
    let index = usize::try_from(number).ok().filter(|number| (1..=24).contains(number))?;
    Level::ALL.get((index - 1) / 4).copied()
}

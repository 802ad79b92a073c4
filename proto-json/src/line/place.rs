//! A text line's level, found by its place and form, never by looking for the word: `GET /search?level=error`
//! has none, and neither has `failed to load error.html`.
//!
//! The level is the first token, or comes after at most two tokens that look like a thread, a process, a logger
//! or a tag: in brackets, before a colon, between dashes, with a dot, or with a digit.

use super::words;
use crate::Level;

/// How many tokens may precede the level.
const SKIPPED: usize = 2;

/// A level and its decoration are shorter than this; so a long token costs nothing.
const LONGEST: usize = 32;

/// What PHP writes.
const SENTENCES: [(&[u8], Level); 5] = [
    (b"PHP Fatal error:", Level::Error),
    (b"PHP Parse error:", Level::Error),
    (b"PHP Warning:", Level::Warn),
    (b"PHP Deprecated:", Level::Warn),
    (b"PHP Notice:", Level::Info),
];

/// `I NETWORK  [listener] …` (MongoDB), `E | etcdserver: …`: a letter before a bar or a word in capitals.
fn letter(rest: &[u8]) -> Option<Level> {
    let [letter @ b'A'..=b'Z', b' ', after @ ..] = rest.trim_ascii_start() else { return None };
    let follows = matches!(after, [b'|', ..] | [b'A'..=b'Z', b'A'..=b'Z', ..]);
    if follows { words::letter(*letter) } else { None }
}

/// The level in `rest`, what follows the time. In a line without a time a bare word must be in capitals, since
/// such a line is more often prose.
pub(super) fn level(rest: &[u8], has_time: bool) -> Option<Level> {
    let mut rest = rest;
    if let Some((_, level)) = SENTENCES.iter().find(|(text, _)| rest.starts_with(text)) {
        return Some(*level);
    }
    if has_time && let Some(level) = letter(rest) {
        return Some(level);
    }
    let mut bare_any_case = has_time;
    for _ in 0..=SKIPPED {
        let separated = skip_separators(&mut rest);
        let token = next_token(&mut rest)?;
        if let Some(level) = level_of(&token, bare_any_case || (separated && token.is_delimited(rest))) {
            return Some(level);
        }
        if !token.may_precede(separated && token.is_delimited(rest)) {
            return None;
        }
        bare_any_case &= token.form == Form::Bracketed;
    }
    None
}

/// How long the first token of `line` is with what separates it from the next, and whether loggers put such a one before
/// the time.
pub(super) fn leading(line: &[u8]) -> Option<(usize, bool)> {
    let mut rest = line;
    if rest.first()?.is_ascii_whitespace() {
        return None;
    }
    let token = next_token(&mut rest)?;
    let leads = token.form == Form::Bracketed
        || level_of(&token, false).is_some()
        || token.text == b"-"
        || token.may_precede(token.is_delimited(rest));
    skip_separators(&mut rest);
    Some((line.len() - rest.len(), leads))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `[main]`, `(main)`, `<main>`
    Bracketed,
    /// A word up to white space or `|`
    Bare,
    /// A word up to and without a colon: `ERROR:root:`, `app[7]:`
    BeforeColon,
}

struct Token<'a> {
    text: &'a [u8],
    form: Form,
}

impl Token<'_> {
    /// Whether a dash or a bar follows: ` - api - ERROR - …`
    fn is_delimited(&self, rest: &[u8]) -> bool {
        let mut after = rest;
        skip_separators(&mut after)
    }

    fn may_precede(&self, delimited: bool) -> bool {
        let name = !self.text.is_empty()
            && self.text.iter().all(|b| b.is_ascii_alphanumeric() || b"._-/$#@[]*=+".contains(b));
        match self.form {
            Form::Bracketed => true,
            Form::BeforeColon => name,
            // A thread, process, address or qualified name; a plain word is the beginning of prose.
            Form::Bare => {
                name && (delimited
                    || self.text.iter().any(|b| b.is_ascii_digit() || matches!(b, b'@' | b'='))
                    || self.text[..self.text.len() - 1].contains(&b'.'))
            }
        }
    }
}

/// Takes white space, bars, and dashes that stand alone. Whether there was more than white space.
fn skip_separators(rest: &mut &[u8]) -> bool {
    let mut separated = false;
    loop {
        let trimmed = rest.trim_ascii_start();
        let taken = match trimmed {
            [b'|' | b',' | b';', ..] => 1,
            [b'-' | b':', next, ..] if next.is_ascii_whitespace() => 1,
            [0xe2, 0x80, 0x93 | 0x94, next, ..] if next.is_ascii_whitespace() => 3,
            _ => {
                *rest = trimmed;
                return separated;
            }
        };
        separated = true;
        *rest = &trimmed[taken..];
    }
}

fn next_token<'a>(rest: &mut &'a [u8]) -> Option<Token<'a>> {
    let line: &'a [u8] = rest;
    let close = match line.first()? {
        b'[' => Some(b']'),
        b'(' => Some(b')'),
        b'<' => Some(b'>'),
        _ => None,
    };
    if let Some(close) = close {
        let end = memchr::memchr(close, line)?;
        *rest = &line[end + 1..];
        return Some(Token { text: line[1..end].trim_ascii(), form: Form::Bracketed });
    }
    let is_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'|' | b':' | b',' | b';');
    // Brackets inside a word belong to it: app[7], [7]:
    let len = line.iter().position(is_end).unwrap_or(line.len());
    let colon = line.get(len) == Some(&b':');
    *rest = &line[len + usize::from(colon)..];
    Some(Token { text: &line[..len], form: if colon { Form::BeforeColon } else { Form::Bare } })
}

fn level_of(token: &Token<'_>, bare_any_case: bool) -> Option<Level> {
    if token.text.len() > LONGEST {
        return None;
    }
    let assigned =
        [&b"level="[..], b"lvl=", b"severity="].iter().find_map(|key| token.text.strip_prefix(*key));
    if let Some(value) = assigned {
        return words::value(
            value.trim_ascii().strip_prefix(b"\"").map_or(value, |v| v.strip_suffix(b"\"").unwrap_or(v)),
        );
    }
    // Something like INFO] closes a bracket that the time opened.
    let mut word = token.text;
    while let Some(shorter) = word.strip_suffix(b"]") {
        word = shorter;
    }
    if token.form == Form::Bracketed {
        // `[core:error]` (Apache), `[E]`
        if let [letter] = word {
            return words::letter(*letter).filter(|_| letter.is_ascii_uppercase());
        }
        return words::in_text(word).or_else(|| words::in_text(word.rsplit(|b| *b == b':').next()?));
    }
    let capitals = !word.iter().any(u8::is_ascii_lowercase);
    if token.form == Form::Bare && !bare_any_case && !capitals {
        return None;
    }
    words::in_text(word).or_else(|| compound(token, word))
}

/// A level as a part of a word: `production.ERROR:` (Monolog), `ERROR/MainProcess]` (Celery).
fn compound(token: &Token<'_>, word: &[u8]) -> Option<Level> {
    let capitals = |word: &[u8]| words::in_text(word).filter(|_| word.iter().all(u8::is_ascii_uppercase));
    match token.form {
        Form::BeforeColon => {
            capitals(word.rsplit(|b| *b == b'.').next().filter(|part| part.len() < word.len())?)
        }
        Form::Bare if token.text.ends_with(b"]") => capitals(word.split(|b| *b == b'/').next()?),
        Form::Bare | Form::Bracketed => None,
    }
}

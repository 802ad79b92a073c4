//! A text line's level, found by its place and form, never by looking for the word: `GET /search?level=error`
//! has none, and neither has `failed to load error.html`.
//!
//! The level is the first token, or comes after at most two tokens that look like a thread, a process, a logger
//! or a tag: in brackets, before a colon, between dashes, with a dot, or with a digit.

use super::words;
use crate::Level;

/// How many tokens may precede the level, and how many more of `key=value` (Sidekiq).
const SKIPPED: usize = 2;
const SKIPPED_PAIRS: usize = 6;

/// A level and its decoration are shorter than this; so a long token costs nothing.
const LONGEST: usize = 32;

/// What stands in braces before a level: a place in the source, a query's ID.
const LONGEST_BRACED: usize = 64;

/// What PHP and npm write.
const SENTENCES: [(&[u8], Level); 7] = [
    (b"PHP Fatal error:", Level::Error),
    (b"PHP Parse error:", Level::Error),
    (b"PHP Warning:", Level::Warn),
    (b"PHP Deprecated:", Level::Warn),
    (b"PHP Notice:", Level::Info),
    (b"npm ERR! ", Level::Error),
    (b"npm WARN ", Level::Warn),
];

/// `I NETWORK  [listener] …`, `D2 COMMAND  [conn1] …` (MongoDB), `E | etcdserver: …`: a letter before a bar or a word in
/// capitals. `7f12ab34cd56 -1 …` (Ceph): a thread, and how verbose it must be to write it.
fn code(rest: &[u8]) -> Option<Level> {
    let rest = rest.trim_ascii_start();
    match rest {
        [letter @ b'A'..=b'Z', b' ', after @ ..] => {
            let follows = matches!(after.trim_ascii_start(), [b'|', ..] | [b'A'..=b'Z', b'A'..=b'Z', ..]);
            if follows { words::letter(*letter) } else { None }
        }
        [b'D', b'1'..=b'5', b' ', b'A'..=b'Z', b'A'..=b'Z', ..] => Some(Level::Debug),
        [b'0'..=b'9' | b'a'..=b'f', ..] => {
            let thread = rest.iter().take(17).take_while(|b| b.is_ascii_hexdigit()).count();
            let is_error = (12..=16).contains(&thread) && rest[thread..].starts_with(b" -1 ");
            is_error.then_some(Level::Error)
        }
        _ => None,
    }
}

/// The level in `rest`, what follows the time. In a line without a time a bare word must be in capitals, since
/// such a line is more often prose.
pub(super) fn level(rest: &[u8], has_time: bool) -> Option<Level> {
    let mut rest = rest;
    if matches!(rest.first(), Some(b'P' | b'n'))
        && let Some((_, level)) = SENTENCES.iter().find(|(text, _)| rest.starts_with(text))
    {
        return Some(*level);
    }
    if has_time && let Some(level) = code(rest) {
        return Some(level);
    }
    let (mut bare_any_case, mut after_colon) = (has_time, false);
    let (mut skipped, mut pairs) = (0, 0);
    while skipped <= SKIPPED && pairs <= SKIPPED_PAIRS {
        let separated = skip_separators(&mut rest) || after_colon;
        let token = next_token(&mut rest)?;
        let delimited = separated && token.is_delimited(rest);
        if let Some(level) = level_of(&token, bare_any_case || delimited) {
            return Some(level);
        }
        if !token.may_precede(delimited) {
            return None;
        }
        if token.is_pair() {
            pairs += 1
        } else {
            skipped += 1
        }
        bare_any_case &= matches!(token.form, Form::Bracketed | Form::Braced);
        after_colon = token.form == Form::BeforeColon;
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
    /// `{main.py:7}`, which never is a level
    Braced,
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

    /// `pid=7`
    fn is_pair(&self) -> bool {
        self.form == Form::Bare && memchr::memchr(b'=', self.text).is_some_and(|at| at > 0)
    }

    fn may_precede(&self, delimited: bool) -> bool {
        let name = || !self.text.is_empty() && self.text.iter().all(|b| is_part_of_name(*b));
        match self.form {
            Form::Bracketed => true,
            Form::Braced => self.text.len() <= LONGEST_BRACED && !self.text.contains(&b'"'),
            // `imap(bob)<7><x>:`
            Form::BeforeColon => {
                self.text.first().is_some_and(u8::is_ascii_alphabetic)
                    && self.text.iter().all(|b| is_part_of_name(*b) || matches!(b, b'(' | b')' | b'<' | b'>'))
                    || name()
            }
            // A thread, process, address or qualified name; a plain word is the beginning of prose.
            Form::Bare => {
                (delimited
                    || self.text.iter().any(|b| b.is_ascii_digit() || matches!(b, b'@' | b'='))
                    || self.text.split_last().is_some_and(|(_, text)| text.contains(&b'.')))
                    && name()
            }
        }
    }
}

const fn is_part_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'.' | b'_' | b'-' | b'/' | b'$' | b'#' | b'@' | b'[' | b']' | b'*' | b'=' | b'+' | b'%'
        )
}

/// Takes white space, bars, dashes and arrows that stand alone. Whether there was more than white space.
fn skip_separators(rest: &mut &[u8]) -> bool {
    let mut separated = false;
    loop {
        let trimmed = rest.trim_ascii_start();
        let taken = match trimmed {
            [b'|' | b',' | b';', ..] => 1,
            [b'-' | b':', next, ..] if next.is_ascii_whitespace() => 1,
            [b'-', b'>', b' ', ..] => 2,
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
        b'{' => Some(b'}'),
        _ => None,
    };
    if let Some(close) = close {
        let end = memchr::memchr(close, line)?;
        *rest = &line[end + 1..];
        let form = if close == b'}' { Form::Braced } else { Form::Bracketed };
        return Some(Token { text: line[1..end].trim_ascii(), form });
    }
    let is_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'|' | b':' | b',' | b';');
    // Brackets inside a word belong to it: app[7], [7]:
    let len = line.iter().position(is_end).unwrap_or(line.len());
    let colon = line.get(len) == Some(&b':');
    *rest = &line[len + usize::from(colon)..];
    Some(Token { text: &line[..len], form: if colon { Form::BeforeColon } else { Form::Bare } })
}

fn level_of(token: &Token<'_>, bare_any_case: bool) -> Option<Level> {
    if token.text.len() > LONGEST || token.form == Form::Braced {
        return None;
    }
    let assigned = match token.text.first() {
        Some(b'l' | b's') => {
            [&b"level="[..], b"lvl=", b"severity="].iter().find_map(|key| token.text.strip_prefix(*key))
        }
        Some(b'%') => return cisco(token),
        _ => None,
    };
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
        return words::in_text(word)
            .or_else(|| words::in_text(word.rsplit(|b| *b == b':').next()?))
            .or_else(|| capitals(word.rsplit(|b| *b == b'/').next()?));
    }
    let capitals = !word.iter().any(u8::is_ascii_lowercase);
    if token.form == Form::Bare && !bare_any_case && !capitals {
        return None;
    }
    words::in_text(word).or_else(|| compound(token, word))
}

/// A level in capitals.
fn capitals(word: &[u8]) -> Option<Level> {
    words::in_text(word).filter(|_| word.iter().all(u8::is_ascii_uppercase))
}

/// A level as a part of a word: `production.ERROR:` (Monolog), `ERROR/MainProcess]` (Celery), `critical/ApiListener:`
/// (Icinga), `ERRO[0012]` (logrus), `ERROR[7][C-0001]:` (Asterisk).
fn compound(token: &Token<'_>, word: &[u8]) -> Option<Level> {
    if let Some(open) = memchr::memchr(b'[', token.text) {
        return capitals(&token.text[..open])
            .filter(|_| token.text[open + 1..].first().is_some_and(u8::is_ascii_digit));
    }
    match token.form {
        Form::BeforeColon => {
            let (first, last) = (memchr::memchr(b'/', word), memchr::memrchr(b'.', word));
            let is_component = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric);
            match (first, last) {
                (Some(at), _) => words::in_text(&word[..at]).filter(|_| is_component(&word[at + 1..])),
                (None, Some(at)) => capitals(&word[at + 1..]),
                (None, None) => None,
            }
        }
        Form::Bare if token.text.ends_with(b"]") => capitals(word.split(|b| *b == b'/').next()?),
        Form::Bare | Form::Bracketed | Form::Braced => None,
    }
}

/// `%LINK-3-UPDOWN:`: the number is that of syslog.
fn cisco(token: &Token<'_>) -> Option<Level> {
    let mut parts = token.text[1..].split(|b| *b == b'-');
    let is_name =
        |name: &[u8]| name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_');
    let _facility = parts.next().filter(|name| is_name(name) && !name.is_empty())?;
    let number = parts.next().filter(|_| token.form == Form::BeforeColon)?;
    match number {
        [digit @ b'0'..=b'7'] => words::syslog(u64::from(digit - b'0')),
        _ => None,
    }
}

//! Lines of `key=value`, as logfmt has them: `level=info ts=2026-11-24T10:03:00Z msg="the cache is warm" took=3ms`

use super::extra::Extra;
use super::facts::{By, Facts};
use super::fields::level_of;
use super::json::MS_MAGNITUDES;
use super::keys::{Keys, Meaning, Scale, Slot};
use super::out::{push_integer, push_string};
use super::state::Carry;
use super::time;
use crate::Level;
use jiff::tz::TimeZone;
use std::borrow::Cow;

/// The most pairs that are looked at; those behind them are kept as they are.
const MOST_PAIRS: usize = 1_000;

/// Whether the whole line is pairs. Unless it is `sure` that the file is logfmt, two of them, or one of a level, must be
/// a part of an event.
pub(super) fn is_line(line: &[u8], keys: &Keys, sure: bool) -> bool {
    // The first byte, and then the first pair, say of nearly every line of text that it is none.
    if line.first().is_none_or(|first| first.is_ascii_digit() || *first == b'[') {
        return false;
    }
    let first = line.iter().take(64).position(|b| matches!(b, b'=' | b' ' | b'"'));
    if first.is_none_or(|at| line[at] != b'=' || at == 0) {
        return false;
    }
    let (mut pairs, mut known, mut level) = (0, 0, false);
    for pair in Pairs::new(line) {
        let Ok(pair) = pair else { return false };
        pairs += 1;
        if let Some(meaning) = keys.of(pair.key).filter(|_| pair.value.is_some()) {
            known += 1;
            level |= meaning.slot == Slot::Level;
        }
    }
    pairs > 0 && (sure || known >= 2 || (level && pairs >= 2))
}

/// Whether a text begins with a pair.
pub(super) fn begins(text: &[u8]) -> bool {
    matches!(Pairs::new(&text[..text.len().min(256)]).next(), Some(Ok(Pair { value: Some(_), .. })))
}

/// The level that a field of a line's pairs says, as far as they go; for lines that are something else on the whole, and
/// so of the surest names only.
pub(super) fn level(text: &[u8]) -> Option<Level> {
    let pairs = Pairs::new(text).take(MOST_PAIRS).map_while(Result::ok);
    let mut time = false;
    for pair in pairs {
        let meaning = super::keys::meaning(pair.key).filter(|meaning| !meaning.weak && pair.value.is_some());
        match meaning.map(|meaning| meaning.slot) {
            Some(Slot::Level) if time => return level_of(&pair.text(), Scale::Pino),
            Some(Slot::Time) => time = true,
            _ => {}
        }
    }
    None
}

#[derive(Debug, Clone, Copy)]
struct Pair<'a> {
    key: &'a [u8],
    /// With its quotes; `None` for a key alone.
    value: Option<&'a [u8]>,
}

impl<'a> Pair<'a> {
    fn text(&self) -> Cow<'a, [u8]> {
        let value = self.value.unwrap_or_default();
        let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
            return Cow::Borrowed(value);
        };
        if memchr::memchr(b'\\', inner).is_none() {
            return Cow::Borrowed(inner);
        }
        let mut out = Vec::with_capacity(inner.len());
        let mut bytes = inner.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => out.push(match bytes.next() {
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'r') => b'\r',
                    Some(other) => *other,
                    None => b'\\',
                }),
                _ => out.push(*byte),
            }
        }
        Cow::Owned(out)
    }
}

struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    const fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }
}

impl<'a> Iterator for Pairs<'a> {
    /// `Err` for what is no pair.
    type Item = Result<Pair<'a>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.is_empty() {
            return None;
        }
        let len = self.rest.iter().position(|b| matches!(b, b'=' | b' ' | b'\t')).unwrap_or(self.rest.len());
        let key = &self.rest[..len];
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"._-/@".contains(b) || *b >= 0x80;
        if key.is_empty() || !key.iter().all(is_name) {
            return Some(Err(()));
        }
        self.rest = &self.rest[len..];
        let Some(rest) = self.rest.strip_prefix(b"=") else {
            return Some(Ok(Pair { key, value: None }));
        };
        let taken = if rest.first() == Some(&b'"') {
            let Some(end) = quoted_len(rest) else { return Some(Err(())) };
            if rest.get(end).is_some_and(|b| !b.is_ascii_whitespace()) {
                return Some(Err(()));
            }
            end
        } else {
            rest.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(rest.len())
        };
        self.rest = &rest[taken..];
        Some(Ok(Pair { key, value: Some(&rest[..taken]) }))
    }
}

/// How long a string is with its quotes.
pub(super) fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Appends the event of such a line, without a line end; `false` when it has no pairs.
pub(super) fn to_event(
    line: &[u8],
    extra: &Extra<'_>,
    carry: &mut Carry,
    out: &mut Vec<u8>,
    facts: &mut Facts,
) -> bool {
    let settings = extra.settings;
    let mut picked: [Option<(Meaning, Pair<'_>)>; 4] = [None; 4];
    for pair in Pairs::new(line).take(MOST_PAIRS) {
        let Ok(pair) = pair else { return false };
        let meaning = settings.keys.of(pair.key).filter(|_| pair.value.is_some());
        let Some(meaning) = meaning else { continue };
        let place = &mut picked[meaning.slot as usize];
        let better = place.is_none_or(|(there, _)| meaning.is_before(there));
        if better && (!meaning.weak || is_good(meaning, pair)) {
            *place = Some((meaning, pair));
        }
    }
    let get = |slot: Slot| picked[slot as usize];
    let by = |(meaning, _): (Meaning, Pair<'_>)| meaning.by();

    let time = get(Slot::Time)
        .and_then(|(_, pair)| time::whole(std::str::from_utf8(&pair.text()).ok()?, &settings.timezone))
        .or_else(|| in_parts(get(Slot::Time)?.1, line, &settings.timezone));
    out.extend_from_slice(b"{\"timestamp\":");
    match (get(Slot::Time), time) {
        (Some(taken), Some(ms)) => {
            (carry.timestamp_ms, facts.time) = (ms, by(taken));
            push_integer(out, ms);
        }
        // What is there but wrong is rejected with its reason.
        (Some(taken), None) => {
            facts.time = by(taken);
            facts.replaced += push_string(out, &taken.1.text());
        }
        (None, _) => {
            extra.time(carry, facts);
            push_integer(out, carry.timestamp_ms);
        }
    }
    out.extend_from_slice(b",\"service\":");
    match get(Slot::Service).filter(|_| settings.service.is_none()) {
        Some(taken) => {
            facts.service = by(taken);
            facts.replaced += push_string(out, &taken.1.text());
        }
        None => {
            facts.service = settings.service_by();
            push_string(out, settings.own_service().as_bytes());
        }
    }
    out.extend_from_slice(b",\"level\":");
    match get(Slot::Level) {
        Some(taken) => {
            facts.level = by(taken);
            let text = taken.1.text();
            match level_of(&text, taken.0.scale) {
                Some(level) => push_string(out, level.as_str().as_bytes()),
                None => push_string(out, &text),
            };
        }
        None => {
            facts.level = By::Default;
            push_string(out, settings.default_level.as_str().as_bytes());
        }
    }
    out.extend_from_slice(b",\"message\":");
    facts.message = get(Slot::Message).map_or(By::Rest, by);
    facts.replaced += match get(Slot::Message) {
        Some((_, pair)) => push_string(out, &pair.text()),
        None => push_string(out, line.trim_ascii()),
    };
    extra.push(out);
    out.push(b'}');
    true
}

/// `date=2026-11-24 time=10:03:00 tz="+0100"`, as FortiGate writes it; `time` is what would be wrong alone.
fn in_parts(time: Pair<'_>, line: &[u8], zone: &TimeZone) -> Option<i64> {
    let named = |name: &[u8]| {
        let pairs = Pairs::new(line).take(MOST_PAIRS).map_while(Result::ok);
        pairs.into_iter().find(|pair| pair.key == name).map(|pair| pair.text())
    };
    if time.key != b"time" || time.text().len() > 16 {
        return None;
    }
    let date = named(b"date").filter(|date| date.len() == 10)?;
    let offset = named(b"tz").filter(|tz| tz.len() <= 6).unwrap_or_default();
    let text = [&date[..], b" ", &time.text(), &offset].concat();
    time::whole(std::str::from_utf8(&text).ok()?, zone)
}

fn is_good(meaning: Meaning, pair: Pair<'_>) -> bool {
    let text = pair.text();
    match meaning.slot {
        Slot::Time => {
            let text = std::str::from_utf8(&text).unwrap_or_default();
            time::whole(text, &TimeZone::UTC).is_some_and(|ms| ms >= MS_MAGNITUDES.start)
        }
        Slot::Level => level_of(&text, meaning.scale).is_some(),
        Slot::Service => crate::event::is_service_name(&text),
        Slot::Message => true,
    }
}

//! Replacing text inside of an event's JSON.
//!
//! Every string that is no key is looked at as what it means, so escapes hide nothing, and every number as it stands; a number
//! in which something is found becomes a string. What else there is stays byte for byte.
//!
//! Invariant: the event is valid exactly when it was before. A valid event's time, service, level and trace are of
//! forms that hold nothing else, and are left alone. In one that isn't valid they hold whatever an application wrote;
//! there, what is found in one makes all of it a text that is valid nowhere.

use super::{MAX_REDACTED_BYTES, Places, Rules, TooLong};
use crate::event::{self, Rules as Form};
use crate::line::logfmt::quoted_len;
use crate::line::out::push_string;
use crate::scan::{Scanner, utf16_unit};
use std::borrow::Cow;

/// Takes the place of a field whose text could become a valid one.
const REDACTED: &str = "[redacted]";

/// Fields whose form is the schema's.
const FORMED: [&str; 5] = ["timestamp", "service", "level", "trace_id", "span_id"];

/// See [`Rules::redact`].
pub(super) fn redact(rules: &Rules, event: &mut Vec<u8>, found: &mut [u32]) {
    let line = event.strip_suffix(b"\n").unwrap_or(event);
    let mut out = Vec::with_capacity(event.len());
    if write(rules, line, Places::Text, &mut out, found).is_err() {
        found.fill(0);
        out.clear();
        // Without the texts nothing grows, so this is never too long.
        if write(rules, line, Places::Nothing, &mut out, found).is_err() {
            out = REDACTED.as_bytes().to_vec();
        }
    }
    if found.iter().any(|count| *count > 0) {
        out.push(b'\n');
        *event = out;
    }
}

fn write(
    rules: &Rules,
    line: &[u8],
    places: Places,
    out: &mut Vec<u8>,
    found: &mut [u32],
) -> Result<(), TooLong> {
    let mut json = Scanner::new(line);
    if json.value().is_ok() && json.end().is_ok() {
        return Walk { rules, places, is_valid: is_valid(line), out, found }.walk(line);
    }
    // It is rejected as it is, and must stay no JSON.
    let text = String::from_utf8_lossy(line);
    match rules.text("", &text, places, found)? {
        // A blank line would be no event at all.
        Some(new) if new.trim().is_empty() || is_valid(new.as_bytes()) => {
            out.extend_from_slice(REDACTED.as_bytes())
        }
        Some(new) => out.extend(new.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte })),
        None => {}
    }
    Ok(())
}

fn is_valid(line: &[u8]) -> bool {
    event::check(line, &Form { max_bytes: usize::MAX, window: None }).is_ok()
}

struct Walk<'a> {
    rules: &'a Rules,
    places: Places,
    /// Whether the event is.
    is_valid: bool,
    out: &'a mut Vec<u8>,
    found: &'a mut [u32],
}

impl Walk<'_> {
    /// Writes a JSON text.
    fn walk(&mut self, json: &[u8]) -> Result<(), TooLong> {
        let (mut at, mut depth) = (0, 0_usize);
        let mut key = Cow::Borrowed("");
        while let Some(byte) = json.get(at) {
            let rest = &json[at..];
            let len = match byte {
                b'"' => {
                    let (string, after) = rest.split_at(quoted_len(rest).unwrap_or(rest.len()));
                    if after.trim_ascii_start().first() == Some(&b':') {
                        key = decoded(string).0;
                        self.out.extend_from_slice(string);
                    } else {
                        self.string(&key, string, depth == 1)?;
                    }
                    string.len()
                }
                b'-' | b'0'..=b'9' => {
                    let is_part =
                        |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
                    let len = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
                    self.number(&key, &rest[..len], depth == 1)?;
                    len
                }
                _ => {
                    depth += usize::from(matches!(byte, b'{' | b'['));
                    depth = depth.saturating_sub(usize::from(matches!(byte, b'}' | b']')));
                    self.out.push(*byte);
                    1
                }
            };
            at += len;
            if self.out.len() > json.len().max(MAX_REDACTED_BYTES) {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn string(&mut self, key: &str, string: &[u8], is_outermost: bool) -> Result<(), TooLong> {
        let is_formed = is_outermost && FORMED.contains(&key);
        if is_formed && self.is_valid {
            self.out.extend_from_slice(string);
            return Ok(());
        }
        let (text, is_half) = decoded(string);
        match self.rules.text(key, &text, self.places, self.found)? {
            None => self.out.extend_from_slice(string),
            Some(new) => {
                push_string(self.out, if is_formed { REDACTED } else { &new }.as_bytes());
                if is_half {
                    // It stays no Unicode text.
                    self.out.pop();
                    self.out.extend_from_slice(b"\\ud800\"");
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, key: &str, number: &[u8], is_outermost: bool) -> Result<(), TooLong> {
        let is_formed = is_outermost && FORMED.contains(&key);
        let text = std::str::from_utf8(number).unwrap_or_default();
        let new = if is_formed && self.is_valid {
            None
        } else {
            self.rules.text(key, text, self.places, self.found)?
        };
        match new {
            None => self.out.extend_from_slice(number),
            // As a string it could be what it should be.
            Some(_) if is_formed || (is_outermost && key == "message") => self.out.extend_from_slice(b"null"),
            Some(_) if self.places == Places::Nothing => self.out.push(b'0'),
            Some(new) => {
                push_string(self.out, new.as_bytes());
            }
        }
        Ok(())
    }
}

/// What a string means, and whether it holds half a surrogate pair, in whose place U+FFFD stands.
fn decoded(string: &[u8]) -> (Cow<'_, str>, bool) {
    let inner = string.get(1..string.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner).is_none() {
        return (String::from_utf8_lossy(inner), false);
    }
    if let Ok(text) = serde_json::from_slice::<String>(string) {
        return (Cow::Owned(text), false);
    }
    let (mut whole, mut at) = (Vec::with_capacity(string.len()), 0);
    while let Some(byte) = string.get(at) {
        let rest = &string[at..];
        let len = match (byte, utf16_unit(rest)) {
            (_, Some(0xd800..=0xdbff))
                if matches!(rest.get(6..).and_then(utf16_unit), Some(0xdc00..=0xdfff)) =>
            {
                12
            }
            (_, Some(0xd800..=0xdfff)) => {
                whole.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            (b'\\', _) => 2,
            _ => 1,
        };
        whole.extend_from_slice(rest.get(..len).unwrap_or(rest));
        at += len;
    }
    (Cow::Owned(serde_json::from_slice(&whole).unwrap_or_default()), true)
}

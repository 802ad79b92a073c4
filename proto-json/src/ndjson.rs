//! Bodies with one event a line, and how the other kind becomes one.

use crate::scan::{Broken, Scanner};

/// The events of a body: its lines without their ends (`\n` or `\r\n`), blank ones (only spaces, tabs and
/// carriage returns) left out. Blank lines take no number, so every part of logweir must split with this
/// function.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    Lines { rest: body }
}

struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let line = match memchr::memchr(b'\n', self.rest) {
                Some(end) => {
                    let line = &self.rest[..end];
                    self.rest = &self.rest[end + 1..];
                    line
                }
                None => std::mem::take(&mut self.rest),
            };
            if !is_blank(line) {
                return Some(line.strip_suffix(b"\r").unwrap_or(line));
            }
        }
        None
    }
}

/// Whether this line takes no number.
#[must_use]
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r'))
}

/// An `application/json` body that can't be taken apart; the whole request is `malformed`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing but white space.
    #[error("the body is empty; send one JSON object, or an array of objects")]
    Empty,
    /// `[]`
    #[error("the array is empty; send at least one event")]
    EmptyArray,
    /// Not a JSON text in UTF-8; the offset is in bytes.
    #[error("the body must be JSON in UTF-8, but at byte {offset} {what}")]
    NotJson {
        /// Where.
        offset: usize,
        /// What was wrong there.
        what: &'static str,
    },
    /// More elements than a batch may have.
    #[error("the array holds more than {limit} events; send smaller batches")]
    TooMany {
        /// The most that a batch may have.
        limit: usize,
    },
}

/// Takes an `application/json` body apart: the text of each element of an array, or the whole body as one
/// event. The elements are JSON texts, and may still hold line breaks between their tokens.
///
/// Half a surrogate pair (`"\ud800"`) concerns only the event that holds it, see [`crate::event::check`].
///
/// # Errors
/// See [`BodyError`].
pub fn json_elements(body: &[u8], max_events: usize) -> Result<Vec<&[u8]>, BodyError> {
    let mut json = Scanner::new(body);
    let mut elements = Vec::new();
    match json.peek() {
        None => return Err(BodyError::Empty),
        Some(b'[') => array(&mut json, max_events, &mut elements)?,
        Some(_) => elements.push(json.value()?.json),
    }
    json.end()?;
    Ok(elements)
}

fn array<'a>(
    json: &mut Scanner<'a>,
    max_events: usize,
    elements: &mut Vec<&'a [u8]>,
) -> Result<(), BodyError> {
    json.take();
    if json.peek() == Some(b']') {
        json.take();
        // Of two faults the worse is said: `[] x` is no JSON at all.
        json.end()?;
        return Err(BodyError::EmptyArray);
    }
    loop {
        let element = json.value()?;
        if elements.len() == max_events {
            return Err(BodyError::TooMany { limit: max_events });
        }
        elements.push(element.json);
        match json.peek() {
            Some(b',') => json.take(),
            Some(b']') => {
                json.take();
                return Ok(());
            }
            Some(_) => return Err(json.broken("a comma or ] was expected").into()),
            None => return Err(json.broken("the text ends inside an array or object").into()),
        }
    }
}

impl From<Broken> for BodyError {
    fn from(broken: Broken) -> Self {
        Self::NotJson { offset: broken.offset, what: broken.what }
    }
}

/// Appends one JSON text as one line: line breaks between tokens become spaces (inside strings there are none).
pub fn push_line(out: &mut Vec<u8>, json: &[u8]) {
    out.extend(json.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
    out.push(b'\n');
}

#[cfg(test)]
mod tests;

//! Bodies with one event a line, and how the other kind becomes one.

/// The events of a body: its lines without their ends (`\n` or `\r\n`), blank ones (only spaces, tabs and
/// carriage returns) left out. Blank lines take no number, so every part of logweir must split with this
/// function.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::once(body).filter(|_| todo!())
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
    #[error("the body is not JSON: {what} at byte {offset}")]
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
/// # Errors
/// See [`BodyError`].
pub fn json_elements(body: &[u8], max_events: usize) -> Result<Vec<&[u8]>, BodyError> {
    let _ = (body, max_events);
    todo!()
}

/// Appends one JSON text as one line: line breaks between tokens become spaces (inside strings there are none).
pub fn push_line(out: &mut Vec<u8>, json: &[u8]) {
    out.extend(json.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
    out.push(b'\n');
}

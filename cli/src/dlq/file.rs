//! A dead letter as a line of a file: NDJSON, so that `jq` and `grep` help.
//!
//! What is needed to put it back stands in `entry_id`, `error`, `attempts`, `worker`, `first_seen_ms`, `dead_at_ms`, `log`
//! and `fields`, byte for byte; the rest is for readers. A field is `[name, value]`; a value that is no text, and the
//! body, is `{"base64": …}`.

use super::letter::{Body, Line, Listed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logweir_queue::{Attempt, DeadLetter, EntryId, Fields};
use serde::{Deserialize, Serialize};

/// Raised when a line means something else than before.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize)]
struct Written<'a> {
    format: u32,
    #[serde(flatten)]
    listed: Listed,
    entry_id: &'a str,
    worker: &'a str,
    first_seen_ms: i64,
    dead_at_ms: i64,
    log: &'a [Attempt],
    fields: Vec<(Value, Value)>,
    /// The events, where the body can be decoded.
    lines: Option<Vec<Line>>,
    body_error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Read {
    format: u32,
    id: EntryText,
    entry_id: EntryText,
    error: String,
    attempts: u32,
    worker: String,
    first_seen_ms: i64,
    dead_at_ms: i64,
    log: Vec<Attempt>,
    fields: Vec<(Value, Value)>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct EntryText(EntryId);

impl TryFrom<String> for EntryText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|error: logweir_queue::QueueError| error.to_string())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes { base64: String },
}

impl Value {
    fn of(bytes: &[u8], as_text: bool) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if as_text => Value::Text(text.to_owned()),
            _ => Value::Bytes { base64: STANDARD.encode(bytes) },
        }
    }

    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Value::Text(text) => Ok(text.into_bytes()),
            Value::Bytes { base64 } => STANDARD.decode(base64).map_err(|error| format!("base64: {error}")),
        }
    }
}

/// One line, with its end.
pub(super) fn write(letter: &DeadLetter) -> serde_json::Result<Vec<u8>> {
    let body = Body::of(letter);
    let field = |(name, value): &(_, _)| field(name, value);
    let written = Written {
        format: FORMAT,
        listed: Listed::of(letter),
        entry_id: &letter.entry_id.0,
        worker: &letter.worker,
        first_seen_ms: letter.first_seen_ms,
        dead_at_ms: letter.dead_at_ms,
        log: &letter.log,
        fields: letter.fields.iter().map(field).collect(),
        lines: body.as_ref().ok().map(|body| body.numbered().collect()),
        body_error: body.err(),
    };
    let mut line = serde_json::to_vec(&written)?;
    line.push(b'\n');
    Ok(line)
}

fn field(name: &bytes::Bytes, value: &bytes::Bytes) -> (Value, Value) {
    (Value::of(name, true), Value::of(value, name != "body"))
}

/// What [`write`] wrote.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn read(line: &[u8]) -> Result<DeadLetter, String> {
    let read: Read = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if read.format != FORMAT {
        return Err(format!("its format is {}, and this version reads {FORMAT}", read.format));
    }
    let pair = |(name, value): (Value, Value)| Ok((name.bytes()?.into(), value.bytes()?.into()));
    let fields: Fields = read.fields.into_iter().map(pair).collect::<Result<_, String>>()?;
    if fields.is_empty() {
        return Err("it has no fields".to_owned());
    }
    Ok(DeadLetter {
        id: read.id.0,
        entry_id: read.entry_id.0,
        error: read.error,
        attempts: read.attempts,
        log: read.log,
        worker: read.worker,
        first_seen_ms: read.first_seen_ms,
        dead_at_ms: read.dead_at_ms,
        fields,
    })
}

#[cfg(test)]
mod tests {
    use super::super::letter::example;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_can_be_read_by_people() {
        let line = write(&example(b"{\"a\":1}\n", &[("events", "1")])).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["format"], 1);
        assert_eq!(json["seq"], 41);
        assert_eq!(json["lines"][0], serde_json::json!({"number": 41, "event": "{\"a\":1}"}));
        assert_eq!(json["fields"][0], serde_json::json!(["v", "1"]));
        assert_eq!(json["fields"][7], serde_json::json!(["body", {"base64": "eyJhIjoxfQo="}]));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn what_is_no_letter_says_why() {
        let line = String::from_utf8(write(&example(b"", &[])).unwrap()).unwrap();
        for (bad, why) in [
            ("nonsense".to_owned(), "expected"),
            ("{}".to_owned(), "format"),
            (line.replace("\"format\":1", "\"format\":2"), "reads 1"),
            (line.replace("1795514580000-7", "-"), "no entry's ID"),
            (line.replace("{\"base64\":\"\"}", "{\"base64\":\"?\"}"), "base64"),
        ] {
            let said = read(bad.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_comes_back(
            fields in prop::collection::vec((".*", prop::collection::vec(any::<u8>(), 0..40)), 1..6),
            body in prop::collection::vec(any::<u8>(), 0..200),
            error in ".*",
        ) {
            let mut letter = example(&body, &[]);
            letter.error = error;
            letter.fields.extend(fields.into_iter().map(|(name, value)| (name.into_bytes().into(), value.into())));
            prop_assert_eq!(read(&write(&letter).unwrap()).unwrap(), letter);
        }
    }
}

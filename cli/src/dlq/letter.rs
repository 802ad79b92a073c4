//! A dead letter in a list.

use crate::output::Column;
use jiff::Timestamp;
use logweir_proto::encoding::{self, Encoding};
use logweir_proto::ndjson;
use logweir_queue::DeadLetter;
use serde::Serialize;
use std::collections::BTreeSet;

pub(super) use crate::output::printable;

/// The most that is decoded of a body, in bytes; eight times what a collector takes by default.
const MAX_DECODED: usize = 64 << 20;

/// One line of the list. What the entry lacked, or bore in a form that can't be read, is null.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) agent: Option<String>,
    pub(super) producer: Option<String>,
    pub(super) seq: Option<u64>,
    pub(super) events: Option<u64>,
    pub(super) attempts: u32,
    pub(super) error: String,
    pub(super) first_seen: String,
    pub(super) dead_at: String,
}

impl Listed {
    pub(super) const COLUMNS: [Column; 9] = [
        ("id", false),
        ("agent", false),
        ("producer", false),
        ("seq", true),
        ("events", true),
        ("attempts", true),
        ("error", false),
        ("first_seen", false),
        ("dead_at", false),
    ];

    pub(super) fn of(letter: &DeadLetter) -> Self {
        Self {
            id: letter.id.to_string(),
            agent: text(letter, "agent"),
            producer: text(letter, "producer"),
            seq: text(letter, "seq").and_then(|n| n.parse().ok()),
            events: text(letter, "events").and_then(|n| n.parse().ok()),
            attempts: letter.attempts,
            error: letter.error.clone(),
            first_seen: time(letter.first_seen_ms),
            dead_at: time(letter.dead_at_ms),
        }
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            self.id.clone(),
            or_dash(self.agent.clone()),
            or_dash(self.producer.clone()),
            or_dash(self.seq.map(|n| n.to_string())),
            or_dash(self.events.map(|n| n.to_string())),
            self.attempts.to_string(),
            self.error.clone(),
            self.first_seen.clone(),
            self.dead_at.clone(),
        ]
    }
}

/// One of the original fields as text; bytes that are no UTF-8 are replaced.
pub(super) fn text(letter: &DeadLetter, name: &str) -> Option<String> {
    letter.field(name).map(lossy)
}

/// What a letter's body holds.
pub(super) struct Body {
    decoded: Vec<u8>,
    seq: Option<u64>,
    skipped: BTreeSet<u64>,
}

/// One event.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// Its number, under which it is counted; null when the entry doesn't say.
    pub(super) number: Option<u64>,
    /// Its text; bytes that are no UTF-8 are replaced.
    pub(super) event: String,
}

impl Body {
    /// Decodes it, or says why that can't be done.
    pub(super) fn of(letter: &DeadLetter) -> Result<Self, String> {
        let body = letter.field("body").ok_or("there is no body")?;
        let name = text(letter, "enc").ok_or("the entry doesn't say how its body is encoded")?;
        let encoding = Encoding::parse(&name).ok_or_else(|| format!("unknown encoding {name:?}"))?;
        let decoded = encoding::decode(encoding, body, MAX_DECODED).map_err(|e| e.to_string())?;
        // The indices that have no line in the body.
        let skip = text(letter, "skip").unwrap_or_default();
        let skipped = skip.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        Ok(Self { decoded, seq: text(letter, "seq").and_then(|n| n.parse().ok()), skipped })
    }

    /// The events as they stand there.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        ndjson::lines(&self.decoded)
    }

    /// The events with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = Line> + '_ {
        let indices = (0u64..).filter(|index| !self.skipped.contains(index));
        let number = |index| self.seq.and_then(|seq| seq.checked_add(index));
        self.lines().zip(indices).map(move |(line, index)| Line { number: number(index), event: lossy(line) })
    }
}

/// Bytes that are no UTF-8 are replaced.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// RFC 3339 in UTC.
pub(super) fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}

#[cfg(test)]
pub(super) fn example(body: &[u8], more: &[(&str, &str)]) -> DeadLetter {
    let owned = |text: &str| text.to_owned().into_bytes().into();
    let fields = [
        ("v", "1"),
        ("agent", "web-1"),
        ("producer", "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10"),
        ("seq", "41"),
        ("events", "3"),
        ("enc", "identity"),
        ("at", "1795514580000"),
    ];
    let fields = fields.iter().filter(|(name, _)| !more.iter().any(|(m, _)| m == name)).chain(more);
    DeadLetter {
        id: logweir_queue::EntryId("1795514590000-0".to_owned()),
        entry_id: logweir_queue::EntryId("1795514580000-7".to_owned()),
        error: "the batch can't be decoded".to_owned(),
        attempts: 5,
        log: vec![logweir_queue::Attempt {
            at_ms: 1_795_514_581_250,
            worker: "worker-1".to_owned(),
            error: "the batch can't be decoded".to_owned(),
        }],
        worker: "worker-1".to_owned(),
        first_seen_ms: 1_795_514_581_250,
        dead_at_ms: 1_795_514_590_000,
        fields: fields
            .map(|(name, value)| (owned(name), owned(value)))
            .chain([(owned("body"), body.to_vec().into())])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_exactly_these_keys() {
        let listed = Listed::of(&example(b"", &[]));
        assert_eq!(
            serde_json::to_string(&listed).unwrap(),
            concat!(
                r#"{"id":"1795514590000-0","agent":"web-1","producer":"0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10","#,
                r#""seq":41,"events":3,"attempts":5,"error":"the batch can't be decoded","#,
                r#""first_seen":"2026-11-24T10:03:01.25Z","dead_at":"2026-11-24T10:03:10Z"}"#,
            )
        );
        assert_eq!(listed.cells().len(), Listed::COLUMNS.len());
    }

    #[test]
    fn what_can_not_be_read_is_null() {
        let mut letter = example(b"", &[("seq", "many")]);
        letter.fields.retain(|(name, _)| name != "agent");
        let listed = Listed::of(&letter);
        assert_eq!((listed.agent, listed.seq, listed.events), (None, None, Some(3)));
    }
}

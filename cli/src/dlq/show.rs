//! All of one dead letter.

use super::letter::{self, Listed};
use crate::output::printable;
use logweir_proto::encoding::{self, Encoding};
use logweir_proto::ndjson;
use logweir_queue::DeadLetter;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The most that is decoded of a body, in bytes; eight times what a collector takes by default.
const MAX_DECODED: usize = 64 << 20;

/// The answer, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    listed: Listed,
    /// The ID that it had in the queue.
    entry_id: String,
    /// The worker that gave it up.
    worker: String,
    /// All original fields but the body, as text.
    fields: BTreeMap<String, String>,
    /// The length of the body as it stood in the queue; null when there was none.
    body_bytes: Option<usize>,
    /// Why the body can't be decoded; null when it can.
    body_error: Option<String>,
    /// How many events the body holds; null when it can't be decoded.
    body_events: Option<usize>,
    /// The first of them.
    lines: Vec<Line>,
}

/// One event.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    /// Its number, under which it is counted; null when the entry doesn't say.
    number: Option<u64>,
    /// Its text; bytes that are no UTF-8 are replaced.
    event: String,
}

impl Shown {
    pub(super) fn of(letter: &DeadLetter, max_events: usize) -> Self {
        let listed = Listed::of(letter);
        let body = letter.field("body");
        let decoded = body.map_or_else(|| Err("there is no body".to_owned()), |body| decode(letter, body));
        let skipped = skipped(letter);
        let lines = decoded.as_deref().map_or_else(
            |_| Vec::new(),
            |text| {
                let indices = (0u64..).filter(|index| !skipped.contains(index));
                let number = |index| listed.seq.and_then(|seq| seq.checked_add(index));
                ndjson::lines(text)
                    .zip(indices)
                    .take(max_events)
                    .map(|(line, index)| Line { number: number(index), event: lossy(line) })
                    .collect()
            },
        );
        Self {
            entry_id: letter.entry_id.to_string(),
            worker: letter.worker.clone(),
            fields: letter
                .fields
                .iter()
                .filter(|(name, _)| name != "body")
                .map(|(name, value)| (lossy(name), lossy(value)))
                .collect(),
            body_bytes: body.map(<[u8]>::len),
            body_events: decoded.as_deref().ok().map(|text| ndjson::lines(text).count()),
            body_error: decoded.err(),
            lines,
            listed,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let listed = &self.listed;
        let mut lines = vec![
            ("id".to_owned(), listed.id.clone()),
            ("error".to_owned(), listed.error.clone()),
            ("attempts".to_owned(), listed.attempts.to_string()),
            ("first_seen".to_owned(), listed.first_seen.clone()),
            ("dead_at".to_owned(), listed.dead_at.clone()),
            ("worker".to_owned(), self.worker.clone()),
            ("entry_id".to_owned(), self.entry_id.clone()),
        ];
        lines.extend(self.fields.iter().map(|(name, value)| (format!("field {name}"), value.clone())));
        let bytes = self.body_bytes.map(|bytes| format!("{bytes} bytes, "));
        let body = match (&self.body_error, self.body_events) {
            (Some(error), _) => error.clone(),
            (None, events) => format!("{} events", events.unwrap_or(0)),
        };
        lines.push(("body".to_owned(), format!("{}{body}", bytes.unwrap_or_default())));
        lines.extend(self.lines.iter().map(|line| {
            let number = line.number.map_or_else(|| "?".to_owned(), |number| number.to_string());
            (format!("event {number}"), line.event.clone())
        }));
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut text: String = lines
            .iter()
            .map(|(name, value)| format!("{:width$}  {}\n", printable(name), printable(value)))
            .collect();
        let more = self.body_events.unwrap_or(0) - self.lines.len();
        if more > 0 {
            text += &format!("… and {more} more events; --events shows more\n");
        }
        text
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn decode(letter: &DeadLetter, body: &[u8]) -> Result<Vec<u8>, String> {
    let name = letter::text(letter, "enc").ok_or("the entry doesn't say how its body is encoded")?;
    let encoding = Encoding::parse(&name).ok_or_else(|| format!("unknown encoding {name:?}"))?;
    encoding::decode(encoding, body, MAX_DECODED).map_err(|e| e.to_string())
}

/// The indices that have no line in the body.
fn skipped(letter: &DeadLetter) -> BTreeSet<u64> {
    let text = letter::text(letter, "skip").unwrap_or_default();
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::letter::example;
    use super::*;

    #[test]
    fn events_bear_the_numbers_under_which_they_count() {
        let letter = example(b"{\"a\":1}\n{\"a\":\"\xff\"}\n{\"a\":3}\n", &[("skip", "1"), ("events", "4")]);
        let shown = Shown::of(&letter, 2);
        assert_eq!(shown.body_events, Some(3));
        assert_eq!(
            shown.lines,
            [
                Line { number: Some(41), event: "{\"a\":1}".to_owned() },
                Line { number: Some(43), event: "{\"a\":\"\u{fffd}\"}".to_owned() },
            ]
        );
        let json: serde_json::Value = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["id"], "1795514590000-0");
        assert_eq!(json["fields"]["skip"], "1");
        assert_eq!(json["fields"].get("body"), None);
        let text = shown.text();
        assert!(text.contains("event 43        {\"a\":\"\u{fffd}\"}\n… and 1 more events"), "{text}");
    }

    #[test]
    fn a_body_that_can_not_be_decoded_says_why() {
        for (more, reason) in [(("enc", "zstd"), "zstd"), (("enc", "rot13"), "rot13")] {
            let shown = Shown::of(&example(b"not zstd at all", &[more]), 20);
            let error = shown.body_error.clone().unwrap();
            assert!(error.contains(reason), "{error}");
            assert_eq!((shown.body_events, shown.lines.len(), shown.body_bytes), (None, 0, Some(15)));
            assert!(shown.text().contains(reason));
        }
    }

    #[test]
    fn nothing_in_it_can_command_the_terminal() {
        let letter = example(b"\x1b[2J\n", &[("agent", "a\x1b]0;x\x07")]);
        assert!(!Shown::of(&letter, 20).text().contains('\x1b'));
    }
}

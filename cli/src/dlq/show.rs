//! `logweir dlq show`: all of one dead letter.

use super::letter::{Body, Line, Listed, lossy, printable, time};
use super::{Letters, unknown};
use crate::args::Shared;
use crate::output;
use logweir_queue::{Attempt, DeadLetter};
use logweir_telemetry::exit::Exit;
use serde::Serialize;
use std::collections::BTreeMap;

/// Show all of one dead letter: its error, its attempts, its fields and its events
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  logweir dlq show 1795514580000-0 --events 100")]
pub(super) struct Args {
    /// Its ID, as `dlq list` shows it
    id: String,
    /// The most events that are shown
    #[arg(long, value_name = "N", default_value_t = 20)]
    events: usize,
}

pub(super) async fn run(letters: &Letters, args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let Some(letter) = letters.find(&args.id).await? else {
        unknown(&args.id);
        return Ok(Exit::Negative);
    };
    let shown = Shown::of(&letter, args.events);
    if shared.json {
        output::json(&shown)?;
    } else {
        output::data(shown.text().as_bytes())?;
    }
    Ok(Exit::Done)
}

/// The answer, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    /// The ID that it had in the queue.
    entry_id: String,
    /// The worker that gave it up.
    worker: String,
    /// The last attempts, the oldest first.
    log: Vec<Tried>,
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

/// One attempt.
#[derive(Debug, Serialize)]
struct Tried {
    at: String,
    worker: String,
    error: String,
}

impl Tried {
    fn of(attempt: &Attempt) -> Self {
        Self { at: time(attempt.at_ms), worker: attempt.worker.clone(), error: attempt.error.clone() }
    }
}

impl Shown {
    fn of(letter: &DeadLetter, max_events: usize) -> Self {
        let listed = Listed::of(letter);
        let body = Body::of(letter);
        let lines =
            body.as_ref().map_or_else(|_| Vec::new(), |body| body.numbered().take(max_events).collect());
        Self {
            entry_id: letter.entry_id.to_string(),
            worker: letter.worker.clone(),
            fields: letter
                .fields
                .iter()
                .filter(|(name, _)| name != "body")
                .map(|(name, value)| (lossy(name), lossy(value)))
                .collect(),
            log: letter.log.iter().map(Tried::of).collect(),
            body_bytes: letter.field("body").map(<[u8]>::len),
            body_events: body.as_ref().ok().map(|body| body.lines().count()),
            body_error: body.err(),
            lines,
            listed,
        }
    }

    /// For people.
    fn text(&self) -> String {
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
        lines.extend(
            self.log.iter().map(|tried| {
                (format!("attempt {}", tried.at), format!("{} ({})", tried.error, tried.worker))
            }),
        );
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
        assert_eq!(json["log"][0]["at"], "2026-11-24T10:03:01.25Z");
        assert!(
            text.contains("attempt 2026-11-24T10:03:01.25Z  the batch can't be decoded (worker-1)"),
            "{text}"
        );
        assert!(
            text.contains("event 43                         {\"a\":\"\u{fffd}\"}\n… and 1 more events"),
            "{text}"
        );
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

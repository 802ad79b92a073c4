//! `--explain FILE`: what the agent sees in the first lines of a file, and which rule found it. Nothing is sent or
//! remembered.

use crate::files::lines::{Splitter, Step};
use comfy_table::Table;
use logweir_proto::Limits;
use logweir_proto::event::{self, Rules};
use logweir_proto::line::{Assembly, Carry, Facts, Next, Settings};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// So many events are shown,
const EVENTS: usize = 20;
/// of so many bytes.
const BYTES: u64 = 1 << 20;
/// A message is shown up to here, in characters.
const MESSAGE_CHARS: usize = 60;

/// One event.
struct Row {
    /// The number of its first line, from 1.
    line: usize,
    event: Vec<u8>,
    facts: Facts,
    /// In how many places something was replaced, by rule.
    redacted: Vec<u32>,
}

/// Prints it.
///
/// # Errors
/// When the file can't be read, or nothing can be written.
pub(crate) fn run(path: &Path, settings: &Settings, as_json: bool) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = if path == Path::new("-") { None } else { Some(File::open(path).map_err(cannot)?) };
    let modified = file.as_ref().and_then(|file| file.metadata().ok()?.modified().ok());
    let modified =
        modified.and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_else(jiff::Timestamp::now);
    let mut head = Vec::new();
    match file {
        Some(file) => file.take(BYTES).read_to_end(&mut head),
        None => io::stdin().lock().take(BYTES).read_to_end(&mut head),
    }
    .map_err(cannot)?;
    let mut carry = Carry::at(modified.as_millisecond());
    carry.begin(&head);
    let (rows, after) = rows(&head, settings, carry);
    let format = after.state.kind.map_or(settings.format.as_str(), |kind| kind.as_str());
    let text =
        if as_json { document(path, format, &rows, settings) + "\n" } else { table(path, format, &rows) };
    io::stdout().lock().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

fn rows(head: &[u8], settings: &Settings, carry: Carry) -> (Vec<Row>, Carry) {
    let mut assembly = Assembly::new(settings, carry);
    let mut splitter = Splitter::new(Limits::default().event_bytes);
    let (mut rows, mut at, mut line, mut first) = (Vec::new(), 0, 1, 1);
    while at < head.len() && rows.len() < EVENTS {
        let (bytes, taken) = match splitter.next(&head[at..], 0, true, assembly.encoding()) {
            Step::Line { bytes, taken } => (bytes, taken),
            Step::Blank { taken } => (&[][..], taken),
            // It is rejected.
            Step::TooLong { taken, .. } | Step::Skipped { taken } => {
                take(&mut assembly, first, &mut rows);
                (at, line, first) = (at + taken, line + 1, line + 1);
                continue;
            }
            Step::Need => break,
        };
        match assembly.line(bytes) {
            Next::Complete => {
                take(&mut assembly, first, &mut rows);
                first = line;
                continue;
            }
            Next::Whole => {
                take(&mut assembly, first, &mut rows);
                first = line + 1;
            }
            Next::Nothing => first = line + 1,
            Next::Open => {}
        }
        (at, line) = (at + taken, line + 1);
    }
    if rows.len() < EVENTS {
        take(&mut assembly, first, &mut rows);
    }
    (rows, assembly.after())
}

fn take(assembly: &mut Assembly<'_>, line: usize, rows: &mut Vec<Row>) {
    if let Some(facts) = assembly.take() {
        let redacted = assembly.redacted().to_vec();
        rows.push(Row { line, event: assembly.event().to_vec(), facts, redacted });
    }
}

impl Row {
    /// Time, level, service and message, or why the collector will refuse it.
    fn seen(&self) -> Result<[String; 4], String> {
        let rules = Rules { max_bytes: Limits::default().event_bytes, window: None };
        let json = self.event.strip_suffix(b"\n").unwrap_or(&self.event);
        let event = event::check(json, &rules).map_err(|rejection| rejection.to_string())?;
        let time = jiff::Timestamp::from_millisecond(event.timestamp_ms);
        let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        Ok([
            time.map_or_else(|_| event.timestamp_ms.to_string(), |time| time.to_string()),
            event.level.to_string(),
            event.service.as_str().to_owned(),
            value["message"].as_str().unwrap_or_default().to_owned(),
        ])
    }

    /// Which rule leaves it out, if any.
    fn left_out(&self) -> String {
        self.facts.filtered.map_or_else(String::new, |rule| format!("left out by {rule}: "))
    }

    fn lines(&self) -> String {
        match self.facts.lines {
            0 | 1 => self.line.to_string(),
            more => format!("{} (+{})", self.line, more - 1),
        }
    }
}

fn table(path: &Path, format: &str, rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["line", "time", "by", "level", "by", "service", "by", "message"]);
    for row in rows {
        let by = [row.facts.time, row.facts.level, row.facts.service].map(|by| by.to_string());
        let [time_by, level_by, service_by] = by;
        match row.seen() {
            Ok([time, level, service, message]) => {
                let message = row.left_out() + &short(&message);
                table.add_row([row.lines(), time, time_by, level, level_by, service, service_by, message])
            }
            Err(why) => {
                let text = short(&String::from_utf8_lossy(&row.event));
                let rejected =
                    if row.facts.filtered.is_none() { format!("rejected: {why}: ") } else { row.left_out() };
                let message = rejected + &text;
                table.add_row([
                    row.lines(),
                    String::new(),
                    time_by,
                    String::new(),
                    level_by,
                    String::new(),
                    service_by,
                    message,
                ])
            }
        };
    }
    let undated = rows.iter().filter(|row| row.facts.is_undated()).count();
    let note = match undated {
        0 => String::new(),
        _ => format!(
            "{undated} of {} have no time of their own; in a file that nobody writes to, --timezone and \
                      --time-key say more about times\n",
            rows.len()
        ),
    };
    format!("{}: {format}\n{}\n{note}", path.display(), table.trim_fmt())
}

/// The first line of a message, as far as it fits, without anything that a terminal would obey.
fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let mut text: String =
        line.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() < message.trim_end().len() {
        text.push('…');
    }
    text
}

fn document(path: &Path, format: &str, rows: &[Row], settings: &Settings) -> String {
    let events: Vec<Value> = rows
        .iter()
        .map(|row| {
            let facts = &row.facts;
            let (seen, rejected) = match row.seen() {
                Ok([time, level, service, message]) => (json!([time, level, service, message]), Value::Null),
                Err(why) => (json!([null, null, null, null]), Value::String(why)),
            };
            let replaced = settings.rules.redactions().zip(&row.redacted).filter(|(_, count)| **count > 0);
            let replaced: Map<String, Value> =
                replaced.map(|(rule, count)| (rule.to_owned(), json!(count))).collect();
            json!({
                "line": row.line,
                "lines": facts.lines,
                "kind": facts.kind.map(|kind| kind.as_str()),
                "time": seen[0],
                "time_by": facts.time.to_string(),
                "level": seen[1],
                "level_by": facts.level.to_string(),
                "service": seen[2],
                "service_by": facts.service.to_string(),
                "message": seen[3],
                "message_by": facts.message.to_string(),
                "rejected": if facts.filtered.is_none() { rejected } else { Value::Null },
                "filtered": facts.filtered.map(|rule| rule.to_string()),
                "redactions": replaced,
            })
        })
        .collect();
    json!({"file": path.to_string_lossy(), "format": format, "events": events}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use logweir_proto::Level;
    use logweir_proto::line::rules::{ReadySet, RuleTexts};
    use logweir_proto::line::{Format, Keys, MAX_EVENT_BYTES, Rules};
    use std::sync::Arc;

    fn settings() -> Settings {
        Settings {
            format: Format::Auto,
            service: None,
            file_service: "api".to_owned(),
            origin: None,
            keys: Keys::default(),
            default_level: Level::Info,
            timezone: jiff::tz::TimeZone::UTC,
            multiline_start: None,
            max_event_bytes: MAX_EVENT_BYTES,
            rules: Arc::default(),
        }
    }

    #[test]
    fn each_event_bears_its_lines_and_its_rules() {
        let settings = settings();
        let head = concat!(
            "\n2026-11-24T10:03:00Z ERROR it broke\n\tat a.B(B.java:7)\n",
            "{\"level\":\"loud\",\"msg\":\"x\"}\n{\"ts\":1795514580,\"lvl\":\"warn\",\"msg\":\"y\"}\nno end",
        );
        let (rows, _) = rows(head.as_bytes(), &settings, Carry::at(0));
        let text = table(Path::new("a.log"), "json", &rows);
        assert_eq!(rows.iter().map(Row::lines).collect::<Vec<_>>(), ["2 (+1)", "4", "5", "6"], "{text}");
        for part in [
            "a.log: json",
            "ISO 8601",
            "place",
            "file name",
            "it broke…",
            "rejected: invalid_level",
            "field ts",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json: Value =
            serde_json::from_str(&document(Path::new("a.log"), "json", &rows, &settings)).unwrap();
        assert_eq!(json["events"][2]["time"], "2026-11-24T10:03:00Z");
        assert_eq!(json["events"][2]["level_by"], "field lvl");
        assert_eq!(json["events"][0]["lines"], 2);
        assert_eq!(
            (&json["events"][0]["filtered"], &json["events"][0]["redactions"]),
            (&Value::Null, &json!({}))
        );
    }

    #[test]
    fn what_is_left_out_is_shown_with_its_rule_and_what_is_redacted_is_not_shown() {
        let texts = RuleTexts {
            exclude: vec!["healthz".to_owned()],
            redact: vec![ReadySet::Email],
            replace: vec!["sid=[0-9]+=>sid=*".parse().unwrap()],
            ..RuleTexts::default()
        };
        let settings = Settings { rules: Arc::new(Rules::new(texts).unwrap()), ..settings() };
        let head = "INFO GET /healthz by a@b.co\nINFO sid=1 sid=2 of a@b.co\n{\"level\":\"loud a@b.co\"}\n";
        let (rows, _) = rows(head.as_bytes(), &settings, Carry::at(0));
        let text = table(Path::new("a.log"), "text", &rows);
        let json: Value =
            serde_json::from_str(&document(Path::new("a.log"), "text", &rows, &settings)).unwrap();
        assert!(!format!("{text}{json}").contains("a@b"), "{text}{json}");
        assert!(text.contains("left out by exclude-1: INFO GET /healthz by [email]"), "{text}");
        assert!(text.contains("INFO sid=* sid=* of [email]"), "{text}");
        let events = json["events"].as_array().unwrap();
        let filtered: Vec<&Value> = events.iter().map(|event| &event["filtered"]).collect();
        assert_eq!(filtered, [&json!("exclude-1"), &Value::Null, &Value::Null]);
        assert_eq!(events[1]["redactions"], json!({"email": 1, "regex-1": 2}));
        assert!(events[2]["rejected"].as_str().unwrap().contains("invalid_level"), "{json}");
    }
}

//! `--explain FILE`: what the agent sees in the first lines of a file, and which rule found it. Nothing is sent or
//! remembered.

use crate::batch::length;
use crate::files::input::Input;
use crate::files::lines::{Splitter, Step};
use comfy_table::Table;
use logweir_proto::Limits;
use logweir_proto::event::{self, Rules};
use logweir_proto::line::{Assembly, Carry, Facts, Format, Kind, Next, Settings};
use serde_json::{Map, Value, json};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write as _};
use std::path::Path;

/// So many events are shown,
const EVENTS: usize = 20;
/// of so many bytes.
const BYTES: usize = 1 << 20;
/// A stream is read in such parts.
const CHUNK: usize = 64 << 10;
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

/// The beginning of a file or stream.
struct Head {
    bytes: Vec<u8>,
    /// Whether more follows.
    cut: bool,
    /// The time of lines without one.
    at: jiff::Timestamp,
}

/// Prints it.
///
/// # Errors
/// When the file can't be read, or nothing can be written.
pub(crate) fn run(path: &Path, settings: &Settings, as_json: bool) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let head = if path == Path::new("-") {
        Head::of_stream(io::stdin().lock(), settings).map_err(cannot)?
    } else {
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_file() {
            Head::of_file(Input::of(file).map_err(cannot)?, &metadata).map_err(cannot)?
        } else {
            Head::of_stream(file, settings).map_err(cannot)?
        }
    };
    let (rows, after) = rows(&head, settings);
    let found = Found { path, format: settings.format, kind: after.state.kind, cut: head.cut, rows: &rows };
    let text = if as_json { found.document(settings) + "\n" } else { found.table() };
    io::stdout().lock().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

impl Head {
    fn of_file(file: Input, metadata: &Metadata) -> io::Result<Self> {
        if let Some(kind) = file.compression()?.filter(|_| !file.is_packed()) {
            return Err(io::Error::other(format!("it is compressed with {kind}, and only gzip can be read")));
        }
        let mut bytes = vec![0; BYTES + 1];
        let mut len = 0;
        while len < bytes.len() {
            match file.read_at(&mut bytes[len..], length(len))? {
                0 => break,
                read => len += read,
            }
        }
        bytes.truncate(len.min(BYTES));
        let modified = metadata.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
        Ok(Self { bytes, cut: len > BYTES, at: modified.unwrap_or_else(jiff::Timestamp::now) })
    }

    /// Reads no more than is shown, since whoever writes may go on for ever.
    fn of_stream(mut stream: impl Read, settings: &Settings) -> io::Result<Self> {
        let mut head = Self { bytes: Vec::new(), cut: true, at: jiff::Timestamp::now() };
        let (mut chunk, mut ends, mut look_at) = (vec![0; CHUNK], 0, EVENTS + 1);
        while head.bytes.len() < BYTES {
            let room = CHUNK.min(BYTES - head.bytes.len());
            let read = match stream.read(&mut chunk[..room]) {
                Ok(0) => {
                    head.cut = false;
                    break;
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            head.bytes.extend_from_slice(&chunk[..read]);
            ends += memchr::memchr_iter(b'\n', &chunk[..read]).count();
            if ends >= look_at {
                if rows(&head, settings).0.len() >= EVENTS {
                    break;
                }
                look_at = ends * 2;
            }
        }
        Ok(head)
    }
}

fn rows(head: &Head, settings: &Settings) -> (Vec<Row>, Carry) {
    let bytes = head.bytes.as_slice();
    let mut carry = Carry::at(head.at.as_millisecond());
    carry.begin(bytes);
    let mut assembly = Assembly::new(settings, carry);
    let mut splitter = Splitter::new(Limits::default().event_bytes);
    let (mut rows, mut at, mut line, mut first) = (Vec::new(), 0, 1, 1);
    while at < bytes.len() && rows.len() < EVENTS {
        let (text, taken) = match splitter.next(&bytes[at..], 0, !head.cut, assembly.encoding()) {
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
        match assembly.line(text) {
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
    // Of what is cut the last event may go on.
    if rows.len() < EVENTS && !head.cut {
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

/// What was found in it.
struct Found<'a> {
    path: &'a Path,
    format: Format,
    kind: Option<Kind>,
    cut: bool,
    rows: &'a [Row],
}

impl Found<'_> {
    /// The format of its lines, and why.
    fn format(&self) -> (&'static str, String) {
        match (self.format, self.kind) {
            (Format::Auto, Some(kind)) => (kind.as_str(), format!("a line is {}", kind.sign())),
            (Format::Auto, None) => (Format::Text.as_str(), "no line tells".to_owned()),
            (format, _) => (format.as_str(), "as --format says".to_owned()),
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["line", "time", "by", "level", "by", "service", "by", "message by", "message"]);
        for row in self.rows {
            let facts = &row.facts;
            let by = [facts.time, facts.level, facts.service, facts.message].map(|by| by.to_string());
            let [time_by, level_by, service_by, message_by] = by;
            let ([time, level, service], message) = match row.seen() {
                Ok([time, level, service, message]) => {
                    ([time, level, service], row.left_out() + &short(&message))
                }
                Err(why) => {
                    let rejected = match facts.filtered {
                        None => format!("rejected: {why}: "),
                        Some(_) => row.left_out(),
                    };
                    (Default::default(), rejected + &short(&String::from_utf8_lossy(&row.event)))
                }
            };
            table.add_row([
                row.lines(),
                time,
                time_by,
                level,
                level_by,
                service,
                service_by,
                message_by,
                message,
            ]);
        }
        let (format, why) = self.format();
        format!("{}: {format} ({why})\n{}\n{}", self.path.display(), table.trim_fmt(), self.notes())
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        let undated = self.rows.iter().filter(|row| row.facts.is_undated()).count();
        if undated > 0 {
            notes += &format!(
                "{undated} of {} have no time of their own; in a file that nobody writes to, --timezone and \
                 --time-key say more about times\n",
                self.rows.len()
            );
        }
        if self.rows.len() == EVENTS {
            notes += &format!("these are the first {EVENTS} events\n");
        } else if self.cut {
            notes += &format!("only the first {} KiB were looked at\n", BYTES >> 10);
        }
        notes
    }

    fn document(&self, settings: &Settings) -> String {
        let events: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let facts = &row.facts;
                let (seen, rejected) = match row.seen() {
                    Ok([time, level, service, message]) => {
                        (json!([time, level, service, message]), Value::Null)
                    }
                    Err(why) => (json!([null, null, null, null]), Value::String(why)),
                };
                let replaced =
                    settings.rules.redactions().zip(&row.redacted).filter(|(_, count)| **count > 0);
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
        let (format, why) = self.format();
        json!({"file": self.path.to_string_lossy(), "format": format, "format_by": why, "events": events})
            .to_string()
    }
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

#[cfg(test)]
mod tests;

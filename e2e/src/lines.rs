//! Lines whose count is known: JSON in the wire's form and in others, and text that begins with a time.

use crate::truth::Cell;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// How a level is written, and what it counts as.
const JSON_LEVELS: [(&str, &str); 12] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("DEBUG", "debug"),
    ("info", "info"),
    ("notice", "info"),
    ("warn", "warn"),
    ("Warning", "warn"),
    ("error", "error"),
    ("err", "error"),
    ("fatal", "fatal"),
    ("critical", "fatal"),
    ("panic", "fatal"),
];
const TEXT_LEVELS: [(&str, &str); 6] = [
    ("TRACE", "trace"),
    ("DEBUG", "debug"),
    ("INFO", "info"),
    ("WARN", "warn"),
    ("ERROR", "error"),
    ("FATAL", "fatal"),
];

/// The service of events that only one of two collectors takes ends so.
pub const FUTURE: &str = "-future";

/// How far ahead those are, in milliseconds: too far for a narrow collector, not for one by default.
pub const FUTURE_MS: i64 = 300_000;

/// A line and what it counts as.
#[derive(Debug, Clone)]
pub struct Line {
    /// With its line end.
    pub bytes: Vec<u8>,
    /// Where it is counted.
    pub cell: Cell,
}

/// Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The cell of an event.
#[must_use]
pub fn cell(ms: i64, service: &str, level: &str) -> Cell {
    Cell { minute: ms.div_euclid(60_000), service: service.to_owned(), level: level.to_owned() }
}

/// RFC 3339 in UTC.
///
/// # Panics
/// When the time is out of all bounds.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).expect("a time of our days").to_string()
}

/// Whether `service` is one of a source's.
#[must_use]
pub fn is_of(source: usize, service: &str) -> bool {
    service
        .strip_prefix(&format!("s{source}"))
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The last five minutes, or the same time of yesterday.
fn some_time(rng: &mut StdRng) -> i64 {
    let back = if rng.random_bool(0.1) { 86_400_000 } else { 0 };
    now_ms() - back - rng.random_range(0..300_000)
}

/// The `n`th line of a source. Text only where the file's name gives the service.
pub fn line(rng: &mut StdRng, source: usize, n: u64, with_text: bool) -> Line {
    let ms = some_time(rng);
    let pad = "x".repeat(rng.random_range(0..80));
    let message = format!("s{source} n={n} {pad}");
    if with_text && rng.random_bool(0.3) {
        let (word, level) = TEXT_LEVELS[rng.random_range(0..TEXT_LEVELS.len())];
        let bytes = format!("{} {word} {message}\n", rfc3339(ms)).into_bytes();
        return Line { bytes, cell: cell(ms, &format!("s{source}"), level) };
    }
    let service = format!("s{source}{}", ["-api", "/web", ".db"][rng.random_range(0..3)]);
    let (word, level) = JSON_LEVELS[rng.random_range(0..JSON_LEVELS.len())];
    let time = if rng.random_bool(0.5) { ms.to_string() } else { format!("\"{}\"", rfc3339(ms)) };
    let json = if rng.random_bool(0.8) {
        format!(r#"{{"timestamp":{time},"service":"{service}","level":"{word}","message":"{message}"}}"#)
    } else {
        format!(
            r#"{{"time":"{}","app":"{service}","severity":"{word}","msg":"{message}","n":{n}}}"#,
            rfc3339(ms)
        )
    };
    Line { bytes: (json + "\n").into_bytes(), cell: cell(ms, &service, level) }
}

/// An event in the wire's form.
#[must_use]
pub fn event(ms: i64, service: &str, level: &str, message: &str) -> Vec<u8> {
    format!(r#"{{"timestamp":{ms},"service":"{service}","level":"{level}","message":"{message}"}}"#)
        .into_bytes()
}

/// The `n`th line of a source, too far ahead for a narrow collector.
#[must_use]
pub fn future_line(source: usize, n: u64) -> Line {
    let ms = now_ms() + FUTURE_MS;
    let service = format!("s{source}{FUTURE}");
    let mut bytes = event(ms, &service, "warn", &format!("s{source} n={n}"));
    bytes.push(b'\n');
    Line { bytes, cell: cell(ms, &service, "warn") }
}

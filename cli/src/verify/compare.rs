//! Both sides, cell by cell.

use super::count::{Cell, Counts};
use crate::output;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// The answer, as `--json` prints it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Whether there is no difference.
    pub(super) equal: bool,
    /// Valid events in the files.
    pub(super) events: u64,
    /// Lines that break the schema or are too long.
    pub(super) rejected: u64,
    /// Events that the rules leave out; absent where there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) left_out: u64,
    /// By minute, service, level.
    pub(super) differences: Vec<Difference>,
}

/// A cell whose counts are not the same.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    bucket: String,
    service: String,
    level: String,
    file: u64,
    database: u64,
}

impl Verdict {
    pub(super) fn new(counts: Counts, database: Vec<(Cell, u64)>) -> Self {
        let (events, rejected, left_out) = (counts.events, counts.rejected, counts.left_out);
        let mut both: BTreeMap<Cell, (u64, u64)> =
            counts.cells.into_iter().map(|(cell, file)| (cell, (file, 0))).collect();
        for (cell, count) in database {
            both.entry(cell).or_default().1 += count;
        }
        let differences: Vec<Difference> = both
            .into_iter()
            .filter(|(_, (file, database))| file != database)
            .map(|((minute_ms, service, level), (file, database))| Difference {
                bucket: bucket(minute_ms),
                service,
                level,
                file,
                database,
            })
            .collect();
        Self { equal: differences.is_empty(), events, rejected, left_out, differences }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut events = format!("{} events in the files, {} lines rejected", self.events, self.rejected);
        if self.left_out > 0 {
            events += &format!(", {} events left out", self.left_out);
        }
        if self.equal {
            return format!("equal: {events}, and Postgres holds each event once\n");
        }
        let columns =
            [("bucket", false), ("service", false), ("level", false), ("file", true), ("database", true)];
        let rows = self.differences.iter().map(|d| {
            vec![
                d.bucket.clone(),
                d.service.clone(),
                d.level.clone(),
                d.file.to_string(),
                d.database.to_string(),
            ]
        });
        let count = self.differences.len();
        format!("{}different in {count} places: {events}\n", output::table(&columns, rows))
    }
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Any year that an event can bear can be printed.
fn bucket(minute_ms: i64) -> String {
    Timestamp::from_millisecond(minute_ms).map_or_else(|_| format!("{minute_ms} ms"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::lines::Line;
    use super::*;
    use logweir_proto::Level;
    use logweir_proto::line::rules::RuleTexts;
    use logweir_proto::line::{Assembly, Carry, Format, Keys, MAX_EVENT_BYTES, Rules, Settings};
    use std::sync::Arc;

    const AT: i64 = 1_795_514_580_000;

    fn settings(format: Format, service: Option<&str>) -> Settings {
        Settings {
            format,
            service: service.map(str::to_owned),
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

    fn counts(lines: &[&str]) -> Counts {
        counts_under(lines, &settings(Format::Auto, None))
    }

    fn counts_under(lines: &[&str], settings: &Settings) -> Counts {
        let mut counts = Counts::new(200, 3);
        let mut assembly = Assembly::new(settings, Carry::at(AT));
        for line in lines {
            let line = if line.len() > 200 { Line::TooLong } else { Line::Whole(line.as_bytes()) };
            counts.add(line, &mut assembly).unwrap();
        }
        counts.take(&mut assembly).unwrap();
        counts
    }

    fn cell(minute: i64, level: &str) -> Cell {
        (AT + minute * 60_000, "api".to_owned(), level.to_owned())
    }

    #[test]
    fn equal_when_each_event_stands_once() {
        let files = counts(&[
            "2026-11-24T10:03:01Z one",
            "\tat two",
            "",
            r#"{"msg":"three"}"#,
            "2026-11-24T10:04:00Z ERROR three",
        ]);
        assert_eq!(files.span(), Some((AT, AT + 60_000)));
        assert_eq!(files.services(), ["api"]);
        let verdict = Verdict::new(files, vec![(cell(0, "info"), 2), (cell(1, "error"), 1)]);
        assert_eq!(
            serde_json::to_string(&verdict).unwrap(),
            r#"{"equal":true,"events":3,"rejected":0,"differences":[]}"#
        );
    }

    #[test]
    fn whatever_is_missing_double_or_foreign_is_a_difference() {
        let long = "x".repeat(201);
        let files = counts(&["one", r#"{"level":"banana"}"#, &long, "2026-11-24T10:04:00Z ERROR three"]);
        let verdict = Verdict::new(files, vec![(cell(1, "error"), 2), (cell(1, "warn"), 5)]);
        assert_eq!(
            serde_json::to_string(&verdict).unwrap(),
            concat!(
                r#"{"equal":false,"events":2,"rejected":2,"differences":["#,
                r#"{"bucket":"2026-11-24T10:03:00Z","service":"api","level":"info","file":1,"database":0},"#,
                r#"{"bucket":"2026-11-24T10:04:00Z","service":"api","level":"error","file":1,"database":2},"#,
                r#"{"bucket":"2026-11-24T10:04:00Z","service":"api","level":"warn","file":0,"database":5}]}"#,
            )
        );
        assert!(verdict.text().ends_with("different in 3 places: 2 events in the files, 2 lines rejected\n"));
    }

    #[test]
    fn what_the_rules_leave_out_counts_nowhere_and_moves_the_time_on() {
        let texts = RuleTexts { exclude: vec!["health".to_owned()], ..RuleTexts::default() };
        let rules = Arc::new(Rules::new(texts).unwrap());
        let lines =
            ["2026-11-24T10:03:01Z one", "2026-11-24T10:04:00Z health", r#"{"msg":"two"}"#, "WARN health"];
        let files = counts_under(&lines, &Settings { rules, ..settings(Format::Auto, None) });
        let verdict = Verdict::new(files, vec![(cell(0, "info"), 1), (cell(1, "info"), 1)]);
        assert_eq!(
            serde_json::to_string(&verdict).unwrap(),
            r#"{"equal":true,"events":2,"rejected":0,"left_out":2,"differences":[]}"#
        );
        assert!(verdict.text().contains("2 events in the files, 0 lines rejected, 2 events left out"));
    }

    #[test]
    fn the_number_of_cells_is_bounded() {
        let mut counts = counts(&["a", "INFO b", "ERROR c", "WARN d"]);
        assert_eq!(counts.cells.len(), 3);
        let settings = settings(Format::Json, Some("other"));
        let mut assembly = Assembly::new(&settings, Carry::at(AT));
        let error = counts.add(Line::Whole(b"{}"), &mut assembly).unwrap_err();
        assert!(error.contains("fewer files"), "{error}");
    }
}

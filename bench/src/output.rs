//! What was measured, on what, and how to repeat it: to stdout. The rest goes to stderr.

use crate::machine::Machine;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

/// One measurement.
#[derive(Debug)]
pub(crate) struct Report {
    /// In a sentence.
    pub(crate) title: String,
    /// Where it was done.
    pub(crate) machine: Machine,
    /// A row for each case.
    pub(crate) rows: Vec<Row>,
    /// What the columns mean.
    pub(crate) notes: Vec<String>,
    /// What contradicts the promise; empty is well.
    pub(crate) wrong: Vec<String>,
}

/// One case: names and values, the same names in each row of a report.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row(Vec<(&'static str, Value)>);

impl Row {
    /// With one more value.
    pub(crate) fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.0.push((name, json!(value)));
        self
    }

    /// With a time, in seconds.
    pub(crate) fn seconds(self, name: &'static str, value: Duration) -> Self {
        self.with(name, rounded(value.as_secs_f64(), 1_000.0))
    }

    /// With a time, in milliseconds.
    pub(crate) fn millis(self, name: &'static str, value: Duration) -> Self {
        self.with(name, rounded(value.as_secs_f64() * 1_000.0, 100.0))
    }

    /// With so many in such a time, per second.
    pub(crate) fn rate(self, name: &'static str, count: u64, time: Duration) -> Self {
        self.with(name, per(count, time.as_secs_f64()).round())
    }

    /// A value as people read it.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.0.iter().find(|(its, _)| *its == name).map_or(String::new(), |(_, value)| shown(value))
    }
}

/// A quotient; 0 where there is nothing to divide by.
pub(crate) fn per(count: u64, by: f64) -> f64 {
    // A count in a table needs no more digits than a float has.
    let count = count as f64;
    if by > 0.0 { count / by } else { 0.0 }
}

fn rounded(value: f64, digits: f64) -> f64 {
    (value * digits).round() / digits
}

impl Report {
    /// To stdout.
    ///
    /// # Errors
    /// When that can't be written.
    pub(crate) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let text = if as_json { self.json()? } else { self.text() };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            // A reader that leaves early is a quiet end.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    fn json(&self) -> anyhow::Result<String> {
        let rows: Vec<serde_json::Map<String, Value>> = self
            .rows
            .iter()
            .map(|row| row.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
            .collect();
        let document = json!({
            "title": self.title, "machine": self.machine, "rows": rows, "notes": self.notes,
            "wrong": self.wrong, "repeat": repeat(),
        });
        Ok(serde_json::to_string(&document)? + "\n")
    }

    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let names: Vec<String> = self
            .rows
            .first()
            .map(|row| row.0.iter().map(|(name, _)| name.replace('_', " ")).collect())
            .unwrap_or_default();
        table.set_header(&names);
        for row in &self.rows {
            table.add_row(row.0.iter().map(|(_, value)| shown(value)));
        }
        for index in 0..names.len() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = format!("{}\n{}\n{}\n", self.title, self.machine, table.trim_fmt());
        for note in &self.notes {
            writeln!(text, "- {note}").ok();
        }
        writeln!(text, "again: {}", repeat()).ok();
        text
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            let text = number.to_string();
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let fraction = fraction.trim_end_matches('0');
            let mut grouped = String::new();
            for (index, digit) in whole.chars().enumerate() {
                if index > 0 && (whole.len() - index).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
        }
        other => other.to_string(),
    }
}

/// The command, as it was given.
fn repeat() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("logweir-bench {}", args.join(" "))
}

/// One line for people, to stderr.
pub(crate) fn note(line: &str) {
    // Where stderr is closed there is nobody left to tell.
    writeln!(io::stderr().lock(), "{line}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (value, text) in [
            (json!(7), "7"),
            (json!(1_234_567), "1,234,567"),
            (json!(1234.5), "1,234.5"),
            (json!(250_000.0), "250,000"),
            (json!("default"), "default"),
        ] {
            assert_eq!(shown(&value), text);
        }
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert!(per(5, 0.0).abs() < f64::EPSILON);
        assert!((per(5, 2.0) - 2.5).abs() < f64::EPSILON);
    }
}

//! Data on stdout, the rest on stderr. A reader that leaves early is a quiet end.

use crate::failure::Failure;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use std::io::{self, Write as _};

/// Writes to stdout and flushes.
///
/// # Errors
/// [`Failure::PipeClosed`] when nobody reads any more, else the write's error.
pub(crate) fn data(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::PipeClosed.into()),
        other => Ok(other?),
    }
}

/// One JSON document and a line end, to stdout.
pub(crate) fn json(document: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(document)?;
    text.push(b'\n');
    data(&text)
}

/// One line for people, to stderr.
pub(crate) fn note(line: &str) {
    // Where stderr is closed there is nobody left to tell.
    writeln!(io::stderr().lock(), "{line}").ok();
}

/// A column: its title, and whether it holds numbers.
pub(crate) type Column = (&'static str, bool);

/// A table for people, ending in a line end.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.iter().map(|(title, _)| *title));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for (index, (_, is_number)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if *is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt() + "\n"
}

/// Text from elsewhere, so that it can neither break the layout nor command the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// RFC 4180: a header, `\r\n` after each record, and quotes where they are needed.
pub(crate) fn csv(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = String::new();
    push_record(&mut text, columns.iter().map(|(title, _)| *title));
    for row in rows {
        push_record(&mut text, row.iter().map(String::as_str));
    }
    text
}

fn push_record<'a>(text: &mut String, fields: impl Iterator<Item = &'a str>) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            text.push(',');
        }
        if field.contains(['"', ',', '\r', '\n']) {
            text.push('"');
            text.push_str(&field.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(field);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let rows =
            vec![vec!["a,b".to_owned(), "1".to_owned()], vec!["say \"hi\"\n".to_owned(), String::new()]];
        assert_eq!(
            csv(&[("name", false), ("count", true)], rows),
            "name,count\r\n\"a,b\",1\r\n\"say \"\"hi\"\"\n\",\r\n"
        );
    }

    #[test]
    fn a_table_lines_up_and_can_not_be_broken() {
        let rows =
            vec![vec!["api".to_owned(), "7".to_owned()], vec!["a\x1b[31m\nb".to_owned(), "1234".to_owned()]];
        assert_eq!(
            table(&[("service", false), ("count", true)], rows),
            "service   count\napi           7\na\u{fffd}[31m\u{fffd}b   1234\n"
        );
    }
}

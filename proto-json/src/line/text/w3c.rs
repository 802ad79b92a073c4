//! W3C's extended log format, as IIS, CloudFront and others write it: lines that begin with `#` say which columns the
//! others have, and are no events. Its times are in UTC. Source: <https://www.w3.org/TR/WD-logfile.html>

use super::{Found, access};
use crate::line::time;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Where the columns are, from 0. What a file's lines inherit from its last `#Fields:` and `#Date:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Columns {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    date: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    time: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    status: Option<u8>,
    /// The beginning of the day of `#Date:`, for lines that have no column with it, in Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    day_ms: Option<i64>,
}

const NONE: Columns = Columns { date: None, time: None, status: None, day_ms: None };

const DAY_MS: i64 = 86_400_000;

/// What the columns are after `line`, when that is one of the header; `None` when it is none. Until `#Fields:` was there,
/// only what has exactly the header's form is taken for a part of it.
pub(in super::super) fn directive(line: &[u8], columns: Option<Columns>) -> Option<Option<Columns>> {
    let (name, value) = split(line)?;
    match name {
        b"Fields" => {
            let day_ms = columns.and_then(|columns| columns.day_ms);
            Some(Some(Columns { day_ms, ..fields(value)? }))
        }
        b"Date" | b"Start-Date" if is_time(value) => {
            let (ms, _) = time::dated(value, &TimeZone::UTC)?;
            let day_ms = Some(ms - ms % DAY_MS);
            Some(Some(Columns { day_ms, ..columns.unwrap_or(NONE) }))
        }
        b"End-Date" if is_time(value) => Some(columns),
        b"Version" if matches!(value, [b'0'..=b'9', b'.', b'0'..=b'9']) => Some(columns),
        b"Software" if !value.is_empty() => Some(columns),
        _ => columns.map(Some),
    }
}

fn is_time(value: &[u8]) -> bool {
    time::dated(value, &TimeZone::UTC).is_some_and(|(_, len)| len == value.len())
}

/// `#Name: value`
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(b"#")?;
    let len = rest.iter().take(24).position(|b| *b == b':')?;
    let is_name = len > 0 && rest[..len].iter().all(|b| b.is_ascii_alphabetic() || *b == b'-');
    is_name.then(|| (&rest[..len], rest[len + 1..].trim_ascii()))
}

/// The columns that `#Fields:` names. At least one must be a time's, or it is something else.
fn fields(names: &[u8]) -> Option<Columns> {
    let mut columns = NONE;
    for (index, name) in (0..=u8::MAX).zip(names.split(|b| matches!(b, b' ' | b'\t' | b','))) {
        match name {
            b"date" => columns.date = Some(index),
            b"time" => columns.time = Some(index),
            b"sc-status" => columns.status = Some(index),
            _ => {}
        }
    }
    let is_known = columns.time.is_some() || names.starts_with(b"date-time");
    is_known.then_some(columns)
}

/// A line that has these columns.
pub(super) fn line(line: &[u8], columns: Columns) -> Option<Found> {
    let last = columns.date.max(columns.time).max(columns.status)?;
    let (mut date, mut clock, mut level, mut after) = (None, None, None, 0);
    let mut at = 0;
    for index in 0..=last {
        let (start, end) = column(line, at)?;
        let value = &line[start..end];
        if columns.date == Some(index) || columns.time == Some(index) {
            *(if columns.date == Some(index) { &mut date } else { &mut clock }) = Some(value);
            after = end;
        } else if columns.status == Some(index) {
            level = access::of_code(value);
        }
        at = end;
    }
    let clock = clock.filter(|clock| clock.len() <= 16)?;
    let (date, day_ms) = match date {
        Some(date) => (date, 0),
        None => (b"1970-01-01".as_slice(), columns.day_ms?),
    };
    let text = [date, b"T", clock].concat();
    let (ms, _) = time::dated(&text, &TimeZone::UTC).filter(|(_, len)| *len == text.len())?;
    Some(Found { level, inside: true, is_whole: true, ..Found::new("W3C", day_ms + ms, after) })
}

/// Where the column begins and ends that is the next from `at` on. Columns are parted by spaces or tabs, and may be in
/// quotes.
fn column(line: &[u8], at: usize) -> Option<(usize, usize)> {
    let start = at + line.get(at..)?.iter().position(|b| !matches!(b, b' ' | b'\t'))?;
    let rest = &line[start..];
    let len =
        access::quoted_len(rest).unwrap_or_else(|| memchr::memchr2(b' ', b'\t', rest).unwrap_or(rest.len()));
    Some((start, start + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_by_its_form() {
        let known = directive(b"#Fields: date time sc-status", None).flatten();
        assert!(known.is_some());
        for line in ["#Software: Microsoft IIS 10.0", "#Version: 1.0", "#Date: 2026-11-24 10:03:00"] {
            assert!(directive(line.as_bytes(), None).is_some(), "{line}");
        }
        for line in [
            "#Version: two",
            "#Date: today",
            "#Fields: a b",
            "#Note: x",
            "# Fields: time",
            "#1",
            "#",
            "# x: y",
        ] {
            assert_eq!(directive(line.as_bytes(), None), None, "{line}");
        }
        // Behind a header, its other names are known, too.
        assert_eq!(directive(b"#Remark: x", known), Some(known));
        assert_eq!(directive(b"# x", known), None);
    }

    #[test]
    fn columns_are_where_the_header_says() {
        let columns = directive(b"#Fields: time x sc-status date", None).flatten().unwrap();
        let found = line(b"10:03:00.5 \"a b\" 503\t2026-11-24 more", columns).unwrap();
        assert_eq!((found.ms, found.level), (Some(1_795_514_580_500), access::of_code(b"503")));
        for wrong in ["10:03:00 - 503", "10:03 x 503 yesterday", "", "x y z 2026-11-24"] {
            assert!(line(wrong.as_bytes(), columns).is_none(), "{wrong}");
        }
        let dated = directive(b"#Date: 2026-11-24 09:00:00", None).flatten();
        let columns = directive(b"#Fields: time", dated).flatten().unwrap();
        assert_eq!(line(b"10:03:00 x", columns).unwrap().ms, Some(1_795_514_580_000));
        let json = serde_json::to_string(&columns).unwrap();
        assert_eq!(json, r#"{"time":0,"day_ms":1795478400000}"#);
        assert_eq!(serde_json::from_str::<Columns>(&json).unwrap(), columns);
    }
}

//! Lines of text: their times, their levels, and what is done with their bytes.

use super::*;

#[test]
fn times_at_the_beginning_of_text() {
    for (line, ms, message) in [
        ("2026-11-24T10:03:00Z hi", AT, "hi"),
        ("2026-11-24T10:03:00.123456Z hi", AT + 123, "hi"),
        ("2026-11-24 10:03:00,5 hi", AT + 500, "hi"),
        ("2026-11-24T12:03:00+02:00 hi", AT, "hi"),
        ("2026-11-24 07:33:00 -0230 hi", AT, "hi"),
        ("2026-11-24 10:03:00+00 hi", AT, "hi"),
        ("2026-11-24 10:03:00.000 UTC [7] LOG:  hi", AT, "[7] LOG:  hi"),
        ("2026-11-24 10:03:00 +0000 hi", AT, "hi"),
        ("2026-11-24 10:03:00 - 5 left", AT, "- 5 left"),
        ("2026-11-24 10:03 hi", AT, "hi"),
        ("[2026-11-24 10:03:00] hi", AT, "hi"),
        ("[2026-11-24T10:03:00Z INFO  my::app] hi", AT, "INFO  my::app] hi"),
        ("  2026-11-24T10:03:00Z hi", AT, "hi"),
        ("2026/11/24 10:03:00 hi", AT, "hi"),
        ("2026/11/24 10:03:00.250000 hi", AT + 250, "hi"),
        ("1795514580 hi", AT, "hi"),
        ("1795514580.25 hi", AT + 250, "hi"),
        ("1795514580123 hi", AT + 123, "hi"),
        ("Nov 24 10:03:00 web1 app[7]: hi", AT, "web1 app[7]: hi"),
        ("Nov  4 10:03:00 web1 app[7]: hi", AT - 20 * 86_400_000, "web1 app[7]: hi"),
        ("2026-11-24T10:03:00Z", AT, ""),
        ("\u{feff}2026-11-24T10:03:00Z hi", AT, "hi"),
        ("\u{1b}[2m2026-11-24T10:03:00Z\u{1b}[0m \u{1b}[32mhi\u{1b}[0m", AT, "hi"),
        ("2026-11-24T23:59:60Z leap", AT + 50_219_000, "leap"),
        // No time.
        ("hi", BEFORE, "hi"),
        ("2026-11-24", BEFORE, "2026-11-24"),
        ("2026-13-24T10:03:00Z hi", BEFORE, "2026-13-24T10:03:00Z hi"),
        ("2026-02-29T10:03:00Z hi", BEFORE, "2026-02-29T10:03:00Z hi"),
        ("2026-11-24T10:03:00PM hi", BEFORE, "2026-11-24T10:03:00PM hi"),
        ("1969-11-24T10:03:00Z hi", BEFORE, "1969-11-24T10:03:00Z hi"),
        ("12345 hi", BEFORE, "12345 hi"),
        ("1795514580: hi", BEFORE, "1795514580: hi"),
        ("Nov 31 10:03:00 web1 hi", BEFORE, "Nov 31 10:03:00 web1 hi"),
        ("\tat com.acme.Main(Main.java:7)", BEFORE, "\tat com.acme.Main(Main.java:7)"),
    ] {
        assert_eq!(text(line), (ms, Level::Info, message.to_owned()), "{line}");
    }
}

#[test]
fn access_logs_bear_their_time_in_the_middle() {
    let line = r#"10.0.0.1 - bob [24/Nov/2026:11:03:00 +0100] "GET /search?level=error HTTP/1.1" 500 7"#;
    assert_eq!(text(line), (AT, Level::Error, line.to_owned()));
    let late = format!("{} [24/Nov/2026:11:03:00 +0100]", "x".repeat(256));
    assert_eq!(text(&late).0, BEFORE);
    assert_eq!(text("[24/Nov/2026:11:03:00 +0100] ERROR hi"), (AT, Level::Error, "ERROR hi".to_owned()));
}

#[test]
fn a_time_without_a_zone_is_in_the_settings_zone() {
    let berlin = Settings { timezone: TimeZone::get("Europe/Berlin").unwrap(), ..settings(Format::Text) };
    assert_eq!(run(b"2026-11-24 11:03:00 hi", &berlin).1, AT);
    assert_eq!(run(b"2026-11-24T10:03:00Z hi", &berlin).1, AT);
    assert_eq!(run(b"Nov 24 11:03:00 host hi", &berlin).1, AT);
    // 02:30 stands twice on this night, and not at all on the other: the earlier, and an hour on.
    let hour = |line: &str| run(line.as_bytes(), &berlin).1;
    assert_eq!(hour("2026-10-25 02:30:00 hi"), hour("2026-10-25T00:30:00Z hi"));
    assert_eq!(hour("2026-03-29 02:30:00 hi"), hour("2026-03-29T01:30:00Z hi"));
}

#[test]
fn a_time_without_a_year_is_near_the_time_before() {
    let at = |line: &str, near: &str| {
        let mut carry = Carry::at(0);
        to_event(format!("{near} before").as_bytes(), &settings(Format::Text), &mut carry, &mut Vec::new());
        to_event(line.as_bytes(), &settings(Format::Text), &mut carry, &mut Vec::new());
        jiff::Timestamp::from_millisecond(carry.timestamp_ms).unwrap().to_string()
    };
    assert_eq!(at("Nov 24 10:03:00 h m", "2026-11-24T10:00:00Z"), "2026-11-24T10:03:00Z");
    assert_eq!(at("Dec 31 23:59:59 h m", "2026-01-01T00:00:00Z"), "2025-12-31T23:59:59Z");
    assert_eq!(at("Jan  1 00:00:00 h m", "2025-12-31T23:59:59Z"), "2026-01-01T00:00:00Z");
    // A service that was quiet for weeks goes on in its year.
    assert_eq!(at("Jan 15 00:00:00 h m", "2025-12-01T00:00:00Z"), "2026-01-15T00:00:00Z");
    assert_eq!(at("Mar 20 00:00:00 h m", "2026-03-01T00:00:00Z"), "2026-03-20T00:00:00Z");
    assert_eq!(at("Nov 24 00:00:00 h m", "2026-01-05T00:00:00Z"), "2025-11-24T00:00:00Z");
    assert_eq!(at("Feb 29 00:00:00 h m", "2026-03-05T00:00:00Z"), "2024-02-29T00:00:00Z");
}

/// A file's own time is after all of its lines, however long ago the first was written.
#[test]
fn the_first_time_without_a_year_is_in_the_past() {
    let times = |lines: [&str; 3], file: &str| {
        let mut carry = Carry::at(file.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        lines.map(|line| {
            to_event(line.as_bytes(), &settings(Format::Text), &mut carry, &mut Vec::new());
            jiff::Timestamp::from_millisecond(carry.timestamp_ms).unwrap().to_string()
        })
    };
    assert_eq!(
        times(["Jan 10 10:00:00 h m", "Mar 24 10:03:00 h m", "Jun 20 10:03:00 h m"], "2026-11-25T00:00:00Z"),
        ["2026-01-10T10:00:00Z", "2026-03-24T10:03:00Z", "2026-06-20T10:03:00Z"]
    );
    assert_eq!(
        times(
            ["a banner", "I0110 10:00:00.5 7 a.go:1] x", "I0324 10:03:00.5 7 a.go:1] x"],
            "2026-11-25T00:00:00Z"
        ),
        ["2026-11-25T00:00:00Z", "2026-01-10T10:00:00.5Z", "2026-03-24T10:03:00.5Z"]
    );
    // The clock of whoever writes is a little ahead.
    assert_eq!(
        times(["Nov 25 10:00:00 h m", "01-10 10:00:00.5 1 1 I a: x", "x"], "2026-11-24T23:00:00Z")[0],
        "2026-11-25T10:00:00Z"
    );
}

#[test]
fn the_level_by_its_place_and_form() {
    use Level::{Debug, Error, Fatal, Info, Trace, Warn};
    for (rest, level) in [
        ("ERROR boom", Error),
        ("error boom", Error),
        ("WARNING: low", Warn),
        ("[ERROR] boom", Error),
        ("[WARN ] low", Warn),
        ("<error> boom", Error),
        ("(debug) x", Debug),
        ("ERROR:root:boom", Error),
        ("level=error msg=x", Error),
        ("level=\"error\" msg=x", Error),
        ("- ERROR - boom", Error),
        ("| ERROR | boom", Error),
        ("|ERROR|boom", Error),
        ("[main] ERROR c.a.App - boom", Error),
        ("[main][ERROR] boom", Error),
        ("[main] [7] ERROR boom", Error),
        ("[7] FATAL:  the database is starting up", Fatal),
        ("- myapp.db - ERROR - boom", Error),
        ("- root - ERROR - boom", Error),
        ("http-nio-8080-exec-1 TRACE x", Trace),
        ("my.app.Main: WARN x", Warn),
        ("app[7]: ERROR boom", Error),
        ("7 ERROR boom", Error),
        ("CRITICAL boom", Fatal),
        ("ERROR", Error),
    ] {
        let line = format!("2026-11-24T10:03:00Z {rest}");
        assert_eq!(text(&line).1, level, "{line}");
        assert_eq!(text(&line).2, rest);
    }
    for rest in [
        "INFO [worker] Ran apm-error job",
        "Ran apm-error job",
        "apm-error job ran",
        "GET /search?level=error",
        "\"GET /error HTTP/1.1\" 200",
        "/var/log/error.log rotated",
        "Found error in file",
        "job-1 error count is 0",
        "[a] [b] [c] ERROR too far",
        "errors: 0",
        "errorless",
        "level=banana",
        "banana=error",
        "connection to db: error",
        "user=error logged in",
        "",
    ] {
        let line = format!("2026-11-24T10:03:00Z {rest}");
        assert_eq!(text(&line).1, Info, "{line}");
    }
    let default = Settings { default_level: Debug, ..settings(Format::Text) };
    assert!(run(b"2026-11-24T10:03:00Z hello", &default).0.contains(r#""level":"debug""#));
}

#[test]
fn without_a_time_a_bare_level_is_in_capitals() {
    for (line, level) in [
        ("INFO 12:00 Ran apm-error job", Level::Info),
        ("ERROR boom", Level::Error),
        ("ERROR: boom", Level::Error),
        ("error: boom", Level::Error),
        ("[error] boom", Level::Error),
        ("level=error x", Level::Error),
        ("Error while connecting", Level::Info),
        ("warning lights are on", Level::Info),
        ("GET /search?level=error", Level::Info),
        ("Nov 24 10:03:00 error app[7]: hi", Level::Info),
        ("Nov 24 10:03:00 web1 app[7]: ERROR hi", Level::Error),
    ] {
        assert_eq!(text(line).1, level, "{line}");
    }
}

#[test]
fn bytes_that_json_can_not_hold_are_replaced_or_escaped() {
    let (_, _, message) = text(b"a\xffb\x00c\x1b[31md\x1b]0;title\x07e\x1bf\t\"\\\r");
    assert_eq!(message, "a\u{fffd}b\0cde\u{1b}f\t\"\\");
}

use super::*;
use crate::event::{self, Rules};
use crate::{Code, Level};
use proptest::prelude::*;

const FORM: Rules = Rules { max_bytes: usize::MAX, window: None };
/// 2026-11-24T10:03:00Z
const AT: i64 = 1_795_514_580_000;
/// The time before, in all of these tests: 2026-11-24T09:00:00Z
const BEFORE: i64 = AT - 63 * 60_000;

fn settings(format: Format) -> Settings {
    Settings {
        format,
        service: None,
        file_service: "api".to_owned(),
        default_level: Level::Info,
        timezone: TimeZone::UTC,
        origin: None,
        keys: Keys::default(),
        multiline_start: None,
        max_event_bytes: MAX_EVENT_BYTES,
    }
}

/// The event of one line, and what it leaves.
fn to_event(line: &[u8], settings: &Settings, carry: &mut Carry, out: &mut Vec<u8>) {
    let mut assembly = Assembly::new(settings, *carry);
    match assembly.line(line) {
        Next::Open | Next::Whole => {
            assembly.take().unwrap();
            out.extend_from_slice(assembly.event());
        }
        Next::Nothing => {}
        Next::Complete => panic!("nothing was open"),
    }
    assert!(!assembly.is_open());
    *carry = assembly.after();
}

fn run(line: &[u8], settings: &Settings) -> (String, i64) {
    let mut carry = Carry::at(BEFORE);
    let mut out = Vec::new();
    to_event(line, settings, &mut carry, &mut out);
    let text = String::from_utf8(out).unwrap();
    let event = text.strip_suffix('\n').unwrap().to_owned();
    assert!(!event.contains('\n'), "{event:?}");
    (event, carry.timestamp_ms)
}

fn auto(line: &str) -> String {
    run(line.as_bytes(), &settings(Format::Auto)).0
}

/// Time, level and message of a text line.
#[track_caller]
fn text(line: impl AsRef<[u8]>) -> (i64, Level, String) {
    let (json, carry) = run(line.as_ref(), &settings(Format::Text));
    let event = event::check(json.as_bytes(), &FORM).unwrap_or_else(|r| panic!("{r}: {json}"));
    assert_eq!(event.timestamp_ms, carry, "{json}");
    assert_eq!(event.service.as_str(), "api");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(value["timestamp"].is_i64(), "{json}");
    (carry, event.level, value["message"].as_str().unwrap().to_owned())
}

#[test]
fn a_valid_json_line_is_copied_byte_for_byte() {
    for line in [
        r#"{"timestamp":1795514580123,"service":"web","level":"warning","message":"hi"}"#,
        r#"  { "level":"INFO","x":[1, 2],"message":"\u00e9","service":"a/b","timestamp":"2026-11-24T10:03:00+01:00" } "#,
        r#"{"timestamp":"1970-01-02T00:00:00Z","service":"web","level":"info","message":"old but a time"}"#,
    ] {
        for format in [Format::Auto, Format::Json] {
            let (event, carry) = run(line.as_bytes(), &settings(format));
            assert_eq!(event, line);
            assert_eq!(carry, event::check(line.as_bytes(), &FORM).unwrap().timestamp_ms);
        }
    }
}

#[test]
fn json_fields_are_found_under_their_other_names() {
    for (line, event) in [
        (
            r#"{"time":"2026-11-24T10:03:00Z","lvl":"warn","msg":"hi","app":"web","x":{"a":[1, 2]}}"#,
            r#"{"timestamp":1795514580000,"service":"web","level":"warn","message":"hi","x":{"a":[1, 2]}}"#,
        ),
        (
            r#"{"@timestamp":"2026-11-24 10:03:00,5","severity":"ERROR","event":"hi","service.name":"web"}"#,
            r#"{"timestamp":1795514580500,"service":"web","level":"ERROR","message":"hi"}"#,
        ),
        (
            r#"{"ts":1795514580.123,"levelname":"Warning","log":"hi\n"}"#,
            r#"{"timestamp":1795514580123,"service":"api","level":"Warning","message":"hi\n"}"#,
        ),
        (
            r#"{"level":50,"time":1795514580000,"pid":7,"msg":"pino"}"#,
            r#"{"timestamp":1795514580000,"service":"api","level":"error","message":"pino","pid":7}"#,
        ),
        // The first name in the list wins, wherever it stands; the others remain.
        (
            r#"{"msg":"b","message":"a","ts":1,"timestamp":1795514580000}"#,
            r#"{"timestamp":1795514580000,"service":"api","level":"info","message":"a","msg":"b","ts":1}"#,
        ),
        // An object under another name is no message and no time.
        (
            r#"{"event":{"id":7},"log":"hi","time":[1]}"#,
            r#"{"timestamp":1795510800000,"service":"api","level":"info","message":"hi","event":{"id":7},"time":[1]}"#,
        ),
        (
            r#"{"trace_id":"0af7651916cd43dd8448eb211c80319c","attributes":{"a":1}}"#,
            r#"{"timestamp":1795510800000,"service":"api","level":"info","message":"","trace_id":"0af7651916cd43dd8448eb211c80319c","attributes":{"a":1}}"#,
        ),
        ("{}", r#"{"timestamp":1795510800000,"service":"api","level":"info","message":""}"#),
        (
            r#"{"\u006dsg":"escaped key","\ud800":1}"#,
            r#"{"timestamp":1795510800000,"service":"api","level":"info","message":"escaped key","\ud800":1}"#,
        ),
    ] {
        assert_eq!(auto(line), event, "{line}");
        assert_eq!(run(line.as_bytes(), &settings(Format::Json)).0, event, "{line}");
    }
}

#[test]
fn times_of_json_lines_are_told_apart_by_magnitude() {
    for (time, ms) in [
        ("1795514580", AT),
        ("1795514580.1239", AT + 123),
        ("1.795514580123e9", AT + 123),
        ("1795514580123", AT + 123),
        ("1795514580123.9", AT + 123),
        ("1795514580123999", AT + 123),
        ("1795514580123999999", AT + 123),
        ("0", 0),
        (r#""1795514580""#, AT),
        (r#""1795514580123""#, AT + 123),
        (r#""2026-11-24T10:03:00.123456789Z""#, AT + 123),
        (r#""2026-11-24T11:03:00+01:00""#, AT),
        (r#""2026-11-24T11:03:00+0100""#, AT),
        (r#""2026-11-24 10:03:00""#, AT),
        (r#""2026-11-24 10:03:00 UTC""#, AT),
        (r#""2026/11/24 10:03:00""#, AT),
    ] {
        let line = format!(r#"{{"time":{time}}}"#);
        let (event, carry) = run(line.as_bytes(), &settings(Format::Auto));
        assert_eq!(carry, ms, "{line}");
        assert!(event.starts_with(&format!(r#"{{"timestamp":{ms},"#)), "{event}");
    }
    // Valid for the wire as it is, but the wire would take the seconds for milliseconds of January 1970.
    let line = r#"{"timestamp":1795514580,"service":"web","level":"info","message":"m"}"#;
    assert_eq!(auto(line), r#"{"timestamp":1795514580000,"service":"web","level":"info","message":"m"}"#);
}

#[test]
fn what_is_present_but_wrong_goes_out_as_it_is() {
    for (line, code) in [
        (r#"{"level":"banana","msg":"x"}"#, Code::InvalidLevel),
        (r#"{"lvl":"banana"}"#, Code::InvalidLevel),
        (r#"{"level":9}"#, Code::InvalidLevel),
        (r#"{"level":null}"#, Code::InvalidLevel),
        (r#"{"service":"two words"}"#, Code::InvalidService),
        (r#"{"app":""}"#, Code::InvalidService),
        (r#"{"time":"yesterday"}"#, Code::InvalidTimestamp),
        (r#"{"timestamp":"yesterday","time":"2026-11-24T10:03:00Z"}"#, Code::InvalidTimestamp),
        (r#"{"timestamp":"2026-13-24T10:03:00Z"}"#, Code::InvalidTimestamp),
        (r#"{"ts":true}"#, Code::InvalidTimestamp),
        (r#"{"message":7}"#, Code::InvalidMessage),
        (r#"{"msg":null}"#, Code::InvalidMessage),
        (r#"{"trace_id":"xyz"}"#, Code::InvalidTrace),
        (r#"{"level":"info","level":"info"}"#, Code::DuplicateField),
        (r#"{"message":"a","message":"a"}"#, Code::DuplicateField),
    ] {
        let (event, carry) = run(line.as_bytes(), &settings(Format::Auto));
        assert_eq!(event::check(event.as_bytes(), &FORM).map_err(|r| r.code), Err(code), "{line} → {event}");
        assert!(carry == BEFORE || carry == AT, "{line}");
    }
}

#[test]
fn what_is_no_json_object_is_text_or_goes_out_as_it_is() {
    for line in ["{half", "{} {}", "[1]", "7", "INFO hi", "{\"a\":\"\u{1}\"}", "{'a':1}"] {
        let event = auto(line);
        let value: serde_json::Value = serde_json::from_str(&event).unwrap();
        assert_eq!(value["message"], line);
        assert_eq!(run(line.as_bytes(), &settings(Format::Json)).0, line);
    }
}

#[test]
fn the_settings_service_overrides_the_lines_own() {
    let given = Settings { service: Some("mine".to_owned()), ..settings(Format::Auto) };
    let line = r#"{"timestamp":1795514580000,"service":"web","level":"info","message":"m","app":"x"}"#;
    assert_eq!(
        run(line.as_bytes(), &given).0,
        r#"{"timestamp":1795514580000,"service":"mine","level":"info","message":"m","app":"x"}"#
    );
    assert!(run(b"hello", &given).0.contains(r#""service":"mine""#));
}

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

/// Pieces of lines that look like something.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<Vec<u8>>(),
        proptest::sample::select(
            [
                "{",
                "}",
                "[",
                "]",
                "\"",
                ":",
                ",",
                " ",
                " - ",
                "|",
                "\t",
                "\r",
                "\\",
                "=",
                "\u{1b}[31m",
                "\u{1b}",
                "{\"",
                "\":",
                "null",
                "1795514580",
                "1795514580123",
                "1e99",
                "-1",
                "0.5",
                "\"timestamp\":",
                "\"level\":",
                "\"service\":",
                "\"message\":",
                "\"msg\":",
                "\"time\":",
                "\"info\"",
                "\"a\"",
                "2026-11-24T10:03:00",
                "2026-11-24 10:03:00,123",
                "2026/11/24 10:03:00",
                "Z",
                " +0000",
                "+01:00",
                " UTC",
                "Nov 24 10:03:00",
                "Feb 29 10:03:00",
                "host app[7]: ",
                "[24/Nov/2026:10:03:00 +0000]",
                "INFO",
                "error",
                "level=",
                "[main]",
                "\u{feff}",
                "\u{2013}",
            ]
            .as_slice()
        )
        .prop_map(|text: &str| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (
        prop_oneof![Just(Format::Auto), Just(Format::Json), Just(Format::Text)],
        proptest::option::of(Just("mine".to_owned())),
        proptest::sample::select(["UTC", "Europe/Berlin", "America/St_Johns"].as_slice()),
    )
        .prop_map(|(format, service, zone)| Settings {
            service,
            timezone: TimeZone::get(zone).unwrap(),
            ..settings(format)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_line_becomes_one_event(line in pieces(), settings in any_settings(), near in any::<i64>()) {
        let mut carry = Carry::at(near);
        let mut out = Vec::new();
        to_event(&line, &settings, &mut carry, &mut out);
        if crate::ndjson::is_blank(&Encoding::Utf8.plain(&line)) {
            prop_assert!(out.is_empty());
            return Ok(());
        }
        prop_assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        prop_assert_eq!(out.pop(), Some(b'\n'));
        prop_assert!(carry.timestamp_ms == near || (0..=253_402_300_799_999).contains(&carry.timestamp_ms));

        let mut again = (Carry::at(near), Vec::new());
        to_event(&line, &settings, &mut again.0, &mut again.1);
        again.1.pop();
        prop_assert_eq!((carry, &out), (again.0, &again.1));

        if settings.format == Format::Text && (0..=253_402_300_799_999).contains(&near) {
            let event = event::check(&out, &FORM);
            prop_assert!(event.is_ok(), "{:?}: {}", event, String::from_utf8_lossy(&out));
            prop_assert_eq!(event.unwrap().timestamp_ms, carry.timestamp_ms);
        }
    }

    /// A JSON object in which nothing of the wire is wrong always becomes a valid event that keeps its fields.
    #[test]
    fn good_objects_become_good_events(
        time in proptest::option::of((proptest::sample::select(["timestamp", "@timestamp", "time", "ts", "date"].as_slice()), 0i64..4_000_000_000_000)),
        level in proptest::option::of((proptest::sample::select(["level", "severity", "lvl"].as_slice()), proptest::sample::select(["info", "WARN", "Err"].as_slice()))),
        message in proptest::option::of((proptest::sample::select(["message", "msg", "event", "log"].as_slice()), any::<String>())),
        other in proptest::collection::hash_map("[x-z]{3,6}", any::<i32>(), 0..4),
        settings in any_settings(),
    ) {
        let mut object = serde_json::Map::new();
        if let Some((key, ms)) = time { object.insert(key.into(), ms.into()); }
        if let Some((key, level)) = level { object.insert(key.into(), level.into()); }
        if let Some((key, text)) = &message { object.insert((*key).into(), text.clone().into()); }
        object.extend(other.iter().map(|(key, value)| (key.clone(), (*value).into())));
        let line = serde_json::to_vec(&object).unwrap();
        let mut carry = Carry::at(AT);
        let mut out = Vec::new();
        to_event(&line, &settings, &mut carry, &mut out);
        let event = event::check(&out[..out.len() - 1], &FORM).unwrap();
        prop_assert_eq!(event.timestamp_ms, carry.timestamp_ms);
        if settings.format != Format::Text {
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(value["message"].as_str().unwrap(), message.map_or(String::new(), |m| m.1));
            for (key, number) in other {
                prop_assert_eq!(value[&key].as_i64(), Some(i64::from(number)));
            }
        }
    }
}

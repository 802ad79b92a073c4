//! Lines that are JSON objects.

use super::*;
use crate::Code;

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

use super::*;

const FORM: Rules = Rules { max_bytes: usize::MAX, window: None };

fn rejected(line: &str) -> Rejection {
    check(line.as_bytes(), &FORM).unwrap_err()
}

fn with(field: &str, value: &str) -> String {
    let mut event = String::from("{");
    for (name, good) in
        [("timestamp", "0"), ("service", "\"api\""), ("level", "\"info\""), ("message", "\"\"")]
    {
        event += &format!("{name:?}:{},", if name == field { value } else { good });
    }
    event.pop();
    event + "}"
}

#[test]
fn a_rejection_says_what_is_wrong_and_what_would_be_right() {
    for (line, text) in [
        (
            with("level", "\"banana\""),
            "invalid_level: `level` is \"banana\"; it must be trace, debug, info, warn, error or fatal, or a usual \
             synonym, as a string",
        ),
        (
            with("timestamp", "1795514580.5"),
            "invalid_timestamp: `timestamp` is 1795514580.5; it must be RFC 3339 with an offset, such as \
             \"2026-11-24T10:03:00Z\", or an integer of Unix milliseconds",
        ),
        (
            with("message", "null"),
            "invalid_message: `message` is null; it must be a string, and may be empty",
        ),
        (
            with("message", "\"\",\"trace_id\":[]"),
            "invalid_trace: `trace_id` is an array; it must be a string of 32 lowercase hex digits, or absent",
        ),
        (
            "{}".to_owned(),
            "missing_field: `timestamp` is missing; it must be RFC 3339 with an offset, such as \
             \"2026-11-24T10:03:00Z\", or an integer of Unix milliseconds",
        ),
        (with("message", "\"\",\"level\":\"info\""), "duplicate_field: `level` stands twice; send it once"),
        ("[]".to_owned(), "not_object: the event must be a JSON object, and is an array"),
        (
            "{\"a\" 1}".to_owned(),
            "not_json: the event must be JSON in UTF-8, but at byte 5 a colon was expected",
        ),
        (
            with("message", "\"\\ud800\""),
            "not_json: the event must be JSON in UTF-8, but at byte 57 an escape is half of a surrogate pair",
        ),
    ] {
        assert_eq!(rejected(&line).to_string(), text);
    }
    let rules = Rules { max_bytes: 10, window: None };
    assert_eq!(
        check(with("", "").as_bytes(), &rules).unwrap_err().to_string(),
        "too_long: the event has 59 bytes, and at most 10 are accepted"
    );
}

#[test]
fn a_rejection_by_the_clock_says_by_how_much() {
    let window = Window { now_ms: 1_795_514_580_000, max_age_ms: 86_400_000, max_ahead_ms: 600_000 };
    let rules = Rules { max_bytes: 1_000, window: Some(window) };
    for (time, text) in [
        (
            "\"2026-11-24T12:03:00+01:00\"",
            "`timestamp` is 2026-11-24T11:03:00Z, 3600 s ahead of the collector's clock; at most 600 s are accepted",
        ),
        (
            "\"2026-11-22T10:03:00Z\"",
            "`timestamp` is 2026-11-22T10:03:00Z, 172800 s ago; at most 86400 s are accepted",
        ),
        (
            "1795514580",
            "`timestamp` is 1970-01-21T18:45:14.58Z, 1793719065 s ago; at most 86400 s are accepted; is it in \
             seconds? Unix time is taken in milliseconds",
        ),
        (
            "253402300799999",
            "`timestamp` is 253402300799999 ms, 251606786219 s ahead of the collector's clock; at most 600 s are \
             accepted",
        ),
    ] {
        assert_eq!(check(with("timestamp", time).as_bytes(), &rules).unwrap_err().detail, text);
    }
}

#[test]
fn the_window_does_not_overflow() {
    for now_ms in [i64::MIN, 0, i64::MAX] {
        for limit in [0, i64::MAX] {
            let window = Window { now_ms, max_age_ms: limit, max_ahead_ms: limit };
            let rules = Rules { max_bytes: 1_000, window: Some(window) };
            let line = with("", "");
            let verdict = check(line.as_bytes(), &rules);
            assert_eq!(verdict.is_ok(), now_ms == 0 || limit == i64::MAX, "{now_ms} {limit}");
        }
    }
}

#[test]
fn what_is_quoted_is_short_and_printable() {
    for value in [
        "x".repeat(1_000),
        "é".repeat(1_000),
        "🦀".repeat(1_000),
        "\u{9b}31m\u{202e}\u{7f}\u{2028}".repeat(20),
        "\\u001b\\\"\\\\".repeat(20),
        "x".repeat(57) + "\u{202e}",
        "x".repeat(62) + "é",
    ] {
        let rejection = rejected(&with("service", &format!("\"{value}\"")));
        assert_eq!(rejection.code, Code::InvalidService);
        let quoted =
            rejection.detail.strip_prefix("`service` is ").unwrap().rsplit_once("; it must").unwrap().0;
        assert!(quoted.len() <= 64, "{quoted}");
        assert!(quoted.len() > 50, "{quoted}");
        assert!(quoted.chars().all(|c| c.escape_debug().len() == 1 || matches!(c, '"' | '\\')), "{quoted:?}");
    }
    let short = rejected(&with("service", "\"größe \\u001b\""));
    assert!(short.detail.starts_with("`service` is \"größe \\u001b\"; "), "{short}");
}

#[test]
fn a_leap_second_belongs_to_the_minute_that_it_ends() {
    let at = |time: &str| {
        let line = with("timestamp", time);
        let event = check(line.as_bytes(), &FORM).unwrap();
        (event.timestamp_ms, event.minute_ms())
    };
    let leap = at("\"2026-12-31T23:59:60.7Z\"");
    assert_eq!(leap, at("\"2026-12-31T23:59:59.7Z\""));
    assert_eq!(leap.1, at("\"2026-12-31T23:59:00Z\"").0);
}

#[test]
fn times_before_1970_and_finer_than_milliseconds_are_rounded_down() {
    for (time, ms, minute) in [
        ("\"1970-01-01T00:00:00.0009Z\"", 0, 0),
        ("\"1969-12-31T23:59:59.9999Z\"", -1, -60_000),
        ("-1", -1, -60_000),
        ("-60000", -60_000, -60_000),
        ("-60001", -60_001, -120_000),
        ("\"9999-12-31T23:59:59.999-23:59\"", 253_402_387_139_999, 253_402_387_080_000),
        ("\"0000-01-01T00:00:00+23:59\"", -62_167_305_540_000, -62_167_305_540_000),
    ] {
        let line = with("timestamp", time);
        let event = check(line.as_bytes(), &FORM).unwrap();
        assert_eq!((event.timestamp_ms, event.minute_ms()), (ms, minute), "{time}");
    }
}

#[test]
fn names_are_equal_however_they_were_written() {
    let (plain, escaped) = (with("service", "\"shop/api\""), with("service", "\"shop\\/\\u0061pi\""));
    let (plain, escaped) =
        (check(plain.as_bytes(), &FORM).unwrap(), check(escaped.as_bytes(), &FORM).unwrap());
    assert_eq!(plain, escaped);
    assert_eq!(escaped.service.as_str(), "shop/api");
}

#[test]
fn the_overflow_is_a_service_in_the_queue_alone() {
    let line = with("service", "\"__overflow__\"");
    assert_eq!(rejected(&line).code, Code::InvalidService);
    assert_eq!(check_queued(line.as_bytes(), &FORM).unwrap().service.as_str(), OVERFLOW_SERVICE);
    for name in ["\"__overflow\"", "\"_\"", "\"__overflow___\"", "\"\\u005f_overflow__\"", "\"\""] {
        let line = with("service", name);
        assert_eq!(check_queued(line.as_bytes(), &FORM).unwrap_err().code, Code::InvalidService, "{name}");
    }
    let line = with("service", "\"api\"");
    assert_eq!(check_queued(line.as_bytes(), &FORM).unwrap(), check(line.as_bytes(), &FORM).unwrap());
}

#[test]
fn another_service_changes_nothing_else() {
    for (line, expected) in [
        (
            r#"{"timestamp":0,"service":"a","x":"service"}"#,
            r#"{"timestamp":0,"service":"__overflow__","x":"service"}"#,
        ),
        (
            r#" { "ser\u0076ice" : "\u0061\"b" , "attributes":{"service":"a"} } "#,
            r#" { "ser\u0076ice" : "__overflow__" , "attributes":{"service":"a"} } "#,
        ),
    ] {
        let mut out = b"before".to_vec();
        assert!(push_with_service(&mut out, line.as_bytes(), OVERFLOW_SERVICE));
        assert_eq!(std::str::from_utf8(&out).unwrap(), format!("before{expected}"));
    }
    for line in ["{}", "[]", "", r#"{"service":"a","service":"b"}"#, r#"{"service":"a""#] {
        assert!(!push_with_service(&mut Vec::new(), line.as_bytes(), OVERFLOW_SERVICE), "{line}");
    }
}

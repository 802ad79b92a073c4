use super::*;
use logweir_proto::Level;
use logweir_proto::line::rules::{ReadySet, RuleTexts};
use logweir_proto::line::{Keys, MAX_EVENT_BYTES, Rules};
use std::sync::Arc;

fn settings() -> Settings {
    Settings {
        format: Format::Auto,
        service: None,
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

/// What is shown of these lines, as a table and as JSON.
fn shown(text: &str, settings: &Settings) -> (String, Value) {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let head = Head { bytes: text.as_bytes().to_vec(), cut: false, at };
    let (rows, after) = rows(&head, settings);
    let (path, kind) = (Path::new("a.log"), after.state.kind);
    let found = Found { path, format: settings.format, kind, cut: false, rows: &rows };
    (found.table(), serde_json::from_str(&found.document(settings)).unwrap())
}

#[test]
fn each_event_bears_its_lines_and_its_rules() {
    let settings = settings();
    let head = concat!(
        "\n2026-11-24T10:03:00Z ERROR it broke\n\tat a.B(B.java:7)\n",
        "{\"level\":\"loud\",\"msg\":\"x\"}\n{\"ts\":1795514580,\"lvl\":\"warn\",\"msg\":\"y\"}\nno end",
    );
    let (text, json) = shown(head, &settings);
    let lines: Vec<&str> = text.lines().skip(2).map(|row| row[..8].trim()).collect();
    assert_eq!(lines[..4], ["2 (+1)", "4", "5", "6"], "{text}");
    for part in [
        "a.log: json (a line is a JSON object)",
        "rest of the line",
        "field msg",
        "ISO 8601",
        "place",
        "file name",
        "it broke…",
        "rejected: invalid_level",
        "field ts",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(json["events"][2]["time"], "2026-11-24T10:03:00Z");
    assert_eq!(json["events"][2]["level_by"], "field lvl");
    assert_eq!(json["events"][0]["lines"], 2);
    assert_eq!(
        (&json["events"][0]["filtered"], &json["events"][0]["redactions"]),
        (&Value::Null, &json!({}))
    );
}

#[test]
fn what_is_left_out_is_shown_with_its_rule_and_what_is_redacted_is_not_shown() {
    let texts = RuleTexts {
        exclude: vec!["healthz".to_owned()],
        redact: vec![ReadySet::Email],
        replace: vec!["sid=[0-9]+=>sid=*".parse().unwrap()],
        ..RuleTexts::default()
    };
    let settings = Settings { rules: Arc::new(Rules::new(texts).unwrap()), ..settings() };
    let head = "INFO GET /healthz by a@b.co\nINFO sid=1 sid=2 of a@b.co\n{\"level\":\"loud a@b.co\"}\n";
    let (text, json) = shown(head, &settings);
    assert!(!format!("{text}{json}").contains("a@b"), "{text}{json}");
    assert!(text.contains("left out by exclude-1: INFO GET /healthz by [email]"), "{text}");
    assert!(text.contains("INFO sid=* sid=* of [email]"), "{text}");
    let events = json["events"].as_array().unwrap();
    let filtered: Vec<&Value> = events.iter().map(|event| &event["filtered"]).collect();
    assert_eq!(filtered, [&json!("exclude-1"), &Value::Null, &Value::Null]);
    assert_eq!(events[1]["redactions"], json!({"email": 1, "regex-1": 2}));
    assert!(events[2]["rejected"].as_str().unwrap().contains("invalid_level"), "{json}");
}

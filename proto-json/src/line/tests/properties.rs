//! What holds of any line.

use super::*;
use proptest::prelude::*;

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

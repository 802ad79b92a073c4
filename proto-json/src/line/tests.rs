use super::*;
use crate::Level;
use crate::event::{self, Rules};
use std::sync::Arc;

mod json;
mod properties;
mod text;

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
        rules: Arc::default(),
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

//! One record of a rejects file: its event, and the number under which it is sent. Pure.

use logweir_proto::{BatchId, ProducerId, Seq};
use serde_json::Value;

/// An event that may be sent again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mended {
    /// Its number, as the name of a batch of it alone.
    pub(super) id: BatchId,
    /// A JSON document in one line.
    pub(super) event: Vec<u8>,
    /// The whole record.
    pub(super) record: Value,
}

/// Reads a line.
///
/// # Errors
/// A sentence that says what the record lacks.
pub(super) fn parse(line: &[u8]) -> Result<Mended, String> {
    let record: Value = serde_json::from_slice(line)
        .map_err(|e| format!("this is no record of a rejects file, a JSON object in one line ({e})"))?;
    let id = id(&record)?;
    let event = match record.get("event") {
        Some(Value::String(text)) => one_line(text)?,
        Some(object @ Value::Object(_)) => object.to_string(),
        _ => {
            return Err(
                "there is no `event`: write the mended event there, as JSON text or as an object".into()
            );
        }
    };
    Ok(Mended { id, event: event.into_bytes(), record })
}

/// The number of an event that had one, or the name that the agent gave to a line that never had one.
fn id(record: &Value) -> Result<BatchId, String> {
    let none = || "there is no `producer` and `number` (or `resend_as`), so nobody can say whether it counts already";
    if let Some(name) = record.get("resend_as").and_then(Value::as_str) {
        return name.parse().map_err(|e| format!("`resend_as`: {e}"));
    }
    let producer = record.get("producer").and_then(Value::as_str).ok_or_else(none)?;
    let number = record.get("number").and_then(Value::as_u64).ok_or_else(none)?;
    let producer: ProducerId = producer.parse().map_err(|e| format!("`producer`: {e}"))?;
    let seq = Seq::new(number).ok_or("`number`: event numbers begin at 1, and end before 2^63 - 1")?;
    Ok(BatchId { producer, seq })
}

/// The text without line ends, which may stand between the parts of JSON; else as it is.
fn one_line(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return Err(format!("its `event` is not JSON: {error}"));
    }
    // Valid JSON has line ends only where spaces may stand.
    Ok(text.replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PRODUCER: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10";

    fn parsed(record: Value) -> Result<(String, String), String> {
        let mended = parse(record.to_string().as_bytes())?;
        Ok((mended.id.to_string(), String::from_utf8(mended.event).unwrap()))
    }

    #[test]
    fn an_event_goes_under_the_number_that_it_had() {
        let event = r#"{"timestamp": 1795514580000, "n": 123456789012345678901234567890}"#;
        let record = json!({"producer": PRODUCER, "number": 17, "code": "too_old", "event": event});
        assert_eq!(parsed(record), Ok((format!("{PRODUCER}/17"), event.to_owned())));
        let object = json!({"producer": PRODUCER, "number": 17, "event": {"a": 1}});
        assert_eq!(parsed(object), Ok((format!("{PRODUCER}/17"), r#"{"a":1}"#.to_owned())));
        let many_lines = json!({"resend_as": format!("{PRODUCER}/1"), "event": "{\n\"a\":\r\n 1}\n"});
        assert_eq!(parsed(many_lines), Ok((format!("{PRODUCER}/1"), "{ \"a\":   1}".to_owned())));
    }

    #[test]
    fn what_it_lacks_is_said() {
        for (record, said) in [
            (json!({"producer": PRODUCER, "number": 17}), "no `event`"),
            (json!({"producer": PRODUCER, "number": 17, "event": 5}), "no `event`"),
            (json!({"producer": PRODUCER, "number": 17, "event": "not JSON"}), "not JSON"),
            (json!({"producer": PRODUCER, "number": 0, "event": "{}"}), "`number`"),
            (json!({"producer": "me", "number": 1, "event": "{}"}), "`producer`"),
            (json!({"resend_as": "me", "event": "{}"}), "`resend_as`"),
            (json!({"event": "{}"}), "`producer`"),
            (json!([]), "`producer`"),
        ] {
            let error = parsed(record.clone()).unwrap_err();
            assert!(error.contains(said), "{record}: {error}");
        }
        assert!(parse(b"{\"half").unwrap_err().contains("JSON object in one line"));
    }

    /// Any line: an event on one line under a number, or a sentence.
    #[test]
    fn fuzz_resend() {
        logweir_fuzz::target("agent/resend", |line| match parse(line) {
            Ok(mended) => {
                assert!(!mended.event.contains(&b'\n') && !mended.event.contains(&b'\r'));
                assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&mended.event).is_ok());
                assert!(mended.id.holds(1));
            }
            Err(why) => assert!(why.len() < 500, "{why}"),
        });
    }
}

//! A slow obvious judge of events, beside the validator and the published schema.

use jiff::civil::{Date, date};
use logweir_proto::event::{self, EVENT_SCHEMA, Rules};
use logweir_proto::{Code, Level};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::LazyLock;

const FORM: Rules = Rules { max_bytes: usize::MAX, window: None };

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(EVENT_SCHEMA).unwrap();
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
});

/// Asserts that the validator, the reference and the schema come to the same verdict.
pub(crate) fn same(line: &[u8]) {
    let ours = check(line);
    let Some(expected) = reference(line) else { return };
    assert_eq!(ours, expected, "{}", String::from_utf8_lossy(line));
    // The schema can't say these two.
    if !matches!(expected, Err(Code::DuplicateField | Code::TooDeep)) {
        let value = serde_json::from_slice::<Value>(line).unwrap_or_default();
        // Nor can values hold a number such as 1795514580000.00001.
        let rounded = value["timestamp"].is_f64() && ours == Err(Code::InvalidTimestamp);
        assert!(rounded || SCHEMA.is_valid(&value) == ours.is_ok(), "{}", String::from_utf8_lossy(line));
    }
}

/// What counts of an event: the minute, the service and the level.
pub(crate) type Counted = (i64, String, Level);

/// The verdict of the validator.
pub(crate) fn check(line: &[u8]) -> Result<Counted, Code> {
    event::check(line, &FORM)
        .map(|event| (event.minute_ms(), event.service.as_str().to_owned(), event.level))
        .map_err(|rejection| rejection.code)
}

/// The reference: it builds all values, and asks one thing after the other. `None` where serde_json's values
/// can't hold what the event holds.
pub(crate) fn reference(line: &[u8]) -> Option<Result<Counted, Code>> {
    if let Err(error) = serde_json::from_slice::<Value>(line) {
        let text = error.to_string();
        let cannot = text.starts_with("number out of range") || text.starts_with("recursion limit exceeded");
        return if cannot { None } else { Some(Err(Code::NotJson)) };
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let Ok(pairs) = json.deserialize_map(Pairs) else { return Some(Err(Code::NotObject)) };
    Some(judge(&pairs, line))
}

fn judge(pairs: &[(String, Box<RawValue>)], line: &[u8]) -> Result<Counted, Code> {
    let all =
        |name: &str| pairs.iter().filter(|(key, _)| key == name).map(|(_, raw)| raw).collect::<Vec<_>>();
    if nesting(line) > 32 || all("attributes").iter().any(|value| nesting(value.get().as_bytes()) > 16) {
        return Err(Code::TooDeep);
    }
    let fields = ["timestamp", "service", "level", "message", "trace_id", "span_id", "attributes"].map(all);
    if fields.iter().any(|values| values.len() > 1) {
        return Err(Code::DuplicateField);
    }
    if fields[..4].iter().any(Vec::is_empty) {
        return Err(Code::MissingField);
    }
    let fields =
        fields.map(|values| values.first().map(|raw| serde_json::from_str::<Value>(raw.get()).unwrap()));
    let field = |index: usize| fields[index].as_ref();
    let time = match field(0) {
        Some(Value::String(text)) => rfc3339(text),
        Some(Value::Number(_)) => all("timestamp").first().and_then(|raw| integer(raw.get())),
        _ => None,
    };
    let service = field(1).and_then(Value::as_str).filter(|name| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._/:-".contains(c);
        (1..=128).contains(&name.chars().count())
            && name.chars().all(allowed)
            && name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
    });
    let level = field(2).and_then(Value::as_str).and_then(|name| {
        let names = Level::ALL.iter().map(|level| (level.as_str(), *level)).chain(Level::SYNONYMS);
        names.into_iter().find(|(known, _)| name.to_ascii_lowercase() == *known).map(|(_, level)| level)
    });
    let is_hex = |index: usize, digits: usize| match field(index) {
        None => true,
        Some(Value::String(text)) => {
            text.chars().count() == digits && text.chars().all(|c| "0123456789abcdef".contains(c))
        }
        Some(_) => false,
    };
    let time = time.ok_or(Code::InvalidTimestamp)?;
    let service = service.ok_or(Code::InvalidService)?;
    let level = level.ok_or(Code::InvalidLevel)?;
    if !field(3).is_some_and(Value::is_string) {
        return Err(Code::InvalidMessage);
    }
    if !is_hex(4, 32) || !is_hex(5, 16) {
        return Err(Code::InvalidTrace);
    }
    if field(6).is_some_and(|value| !value.is_object()) {
        return Err(Code::InvalidAttributes);
    }
    Ok((time.div_euclid(60_000) * 60_000, service.to_owned(), level))
}

/// How deep brackets stand in brackets, outside of strings.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Exact, as decimal digits: floats would take 1795514580000.00001 for an integer.
fn integer(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Some(0);
    }
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    if exponent.abs() > 100_000 {
        return None;
    }
    for _ in 0..exponent {
        digits.push('0');
    }
    for _ in exponent..0 {
        digits.pop().filter(|digit| *digit == '0')?;
    }
    let range = -62_167_219_200_000..=253_402_300_799_999;
    format!("{sign}{digits}").parse().ok().filter(|ms| range.contains(ms))
}

fn rfc3339(text: &str) -> Option<i64> {
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str, most: i64| part.parse::<i64>().ok().filter(|n| digits(part, 2) && *n <= most);
    let (day, time) = text.split_once(['T', 't'])?;
    if !(day.len() == 10 && day.split('-').zip([4, 2, 2]).all(|(part, count)| digits(part, count))) {
        return None;
    }
    let day: Date = day.parse().ok()?;
    let (clock, offset) = match time.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => {
            let (clock, zone) = time.split_at(time.rfind(['+', '-'])?);
            let (hours, minutes) = zone[1..].split_once(':')?;
            let minutes = number(hours, 23)? * 60 + number(minutes, 59)?;
            (clock, if zone.starts_with('-') { -minutes } else { minutes })
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    if fraction.is_empty() || !digits(fraction, fraction.len()) {
        return None;
    }
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts[..] else { return None };
    let (hour, minute, second) = (number(hour, 23)?, number(minute, 59)?, number(second, 60)?);
    let days = i64::from((day - date(1970, 1, 1)).get_days());
    let minutes = days * 1_440 + hour * 60 + minute - offset;
    if second == 60 && minutes.rem_euclid(1_440) != 1_439 {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(minutes * 60_000 + second.min(59) * 1_000 + millis)
}

/// The fields of an object in their order, repeated ones too.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}

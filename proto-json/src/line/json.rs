//! A line that is a JSON object: copied when it is valid as it is, else rebuilt from raw slices of itself.

use super::{Carry, Settings, push_string, time};
use crate::Level;
use crate::event::{self, Rules};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;

const TIMES: [&str; 5] = ["timestamp", "@timestamp", "time", "ts", "date"];
const SERVICES: [&str; 3] = ["service", "service.name", "app"];
const LEVELS: [&str; 5] = ["level", "severity", "lvl", "levelname", "loglevel"];
const MESSAGES: [&str; 4] = ["message", "msg", "event", "log"];

/// Times of these magnitudes are milliseconds; see [`time::epoch`].
const MS_MAGNITUDES: std::ops::Range<i64> = 100_000_000_000..100_000_000_000_000;

/// Appends the event of a JSON object, without a line end. Appends nothing, and says `false`, when `line` is
/// none.
pub(super) fn object_to_event(
    line: &[u8],
    settings: &Settings,
    carry: &mut Carry,
    out: &mut Vec<u8>,
) -> bool {
    if settings.service.is_none()
        && let Ok(event) = event::check(line, &Rules { max_bytes: usize::MAX, window: None })
        && (MS_MAGNITUDES.contains(&event.timestamp_ms) || !has_numeric_time(line))
    {
        carry.timestamp_ms = event.timestamp_ms;
        out.extend_from_slice(line);
        return true;
    }
    match Fields::parse(line) {
        Some(fields) => {
            fields.write(settings, carry, out);
            true
        }
        None => false,
    }
}

/// Whether the wire's own time is a number. Only asked where its magnitude says that it is not milliseconds:
/// valid for the wire, but surely not meant as it would be taken there.
fn has_numeric_time(line: &[u8]) -> bool {
    Fields::parse(line).and_then(|fields| fields.first(&TIMES[..1])).is_some_and(|field| !field.is_string())
}

#[derive(Clone, Copy)]
struct Field<'a> {
    /// With its quotes.
    key: &'a str,
    value: &'a str,
}

impl<'a> Field<'a> {
    fn name(&self) -> Cow<'a, str> {
        unquoted(self.key).unwrap_or(Cow::Borrowed(self.key))
    }

    fn is_string(&self) -> bool {
        self.value.starts_with('"')
    }

    fn is_nested(&self) -> bool {
        self.value.starts_with(['{', '['])
    }
}

/// The text of a JSON string; `None` for other values and for half a surrogate pair.
fn unquoted(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

struct Fields<'a>(Vec<Field<'a>>);

impl<'a> Fields<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_slice(line);
        let fields = json.deserialize_map(FieldsVisitor).ok()?;
        json.end().ok()?;
        Some(fields)
    }

    /// The field under the first of `names` that is there. Another name than the wire's doesn't count where its
    /// value is an object or array: `"event":{"id":7}` is no message.
    fn first(&self, names: &[&str]) -> Option<Field<'a>> {
        let (own, others) = names.split_first()?;
        let mut fields = self.0.iter();
        let wire = fields.find(|f| f.name() == *own);
        let other = |name| self.0.iter().find(|f| f.name() == name && !f.is_nested());
        wire.or_else(|| others.iter().find_map(|name| other(*name))).copied()
    }

    fn write(&self, settings: &Settings, carry: &mut Carry, out: &mut Vec<u8>) {
        let time = self.first(&TIMES);
        let service = if settings.service.is_some() { None } else { self.first(&SERVICES) };
        let level = self.first(&LEVELS);
        let message = self.first(&MESSAGES);

        out.extend_from_slice(b"{\"timestamp\":");
        write_time(time, settings, carry, out);
        out.extend_from_slice(b",\"service\":");
        match service {
            Some(field) => out.extend_from_slice(field.value.as_bytes()),
            None => push_string(out, settings.own_service().as_bytes()),
        }
        out.extend_from_slice(b",\"level\":");
        match level {
            Some(field) => write_level(field.value, out),
            None => push_string(out, settings.default_level.as_str().as_bytes()),
        }
        out.extend_from_slice(b",\"message\":");
        out.extend_from_slice(message.map_or("\"\"", |field| field.value).as_bytes());

        // What was taken is left out once; a field that stands twice must be rejected for that.
        let taken = [time, service, level, message];
        for field in &self.0 {
            let is_taken = taken.iter().flatten().any(|t| std::ptr::eq(t.key, field.key));
            let is_overridden = settings.service.is_some() && field.name() == SERVICES[0];
            if !is_taken && !is_overridden {
                out.push(b',');
                out.extend_from_slice(field.key.as_bytes());
                out.push(b':');
                out.extend_from_slice(field.value.as_bytes());
            }
        }
        out.push(b'}');
    }
}

fn write_time(field: Option<Field<'_>>, settings: &Settings, carry: &mut Carry, out: &mut Vec<u8>) {
    if let Some(field) = field {
        let read = match unquoted(field.value) {
            Some(text) => time::whole(&text, &settings.timezone),
            None => time::epoch(field.value),
        };
        match read {
            Some(ms) => carry.timestamp_ms = ms,
            None => return out.extend_from_slice(field.value.as_bytes()),
        }
    }
    out.extend_from_slice(carry.timestamp_ms.to_string().as_bytes());
}

/// Folds the numbers of pino and bunyan, 10 (trace) to 60 (fatal), and passes on anything else.
fn write_level(value: &str, out: &mut Vec<u8>) {
    let folded = value
        .parse::<usize>()
        .ok()
        .filter(|number| (10..=60).contains(number))
        .and_then(|number| Level::ALL.get(number / 10 - 1));
    match folded {
        Some(level) => push_string(out, level.as_str().as_bytes()),
        None => out.extend_from_slice(value.as_bytes()),
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            fields.push(Field { key: key.get(), value: value.get() });
        }
        Ok(Fields(fields))
    }
}

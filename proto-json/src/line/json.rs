//! A line that is a JSON object: copied when it is a valid event as it is, else rebuilt from raw slices of itself.

use super::Settings;
use super::extra::Extra;
use super::facts::{By, Facts};
use super::fields::Picked;
use super::keys::{self, Meaning, Slot, WIRE};
use super::out::push_integer;
use super::state::Carry;
use super::{fields, time};
use crate::event::{self, Rules};
use crate::scan::{Kind, Scanner, Text, Value};
use jiff::tz::TimeZone;
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Times of these magnitudes are milliseconds; see [`time::epoch`].
pub(super) const MS_MAGNITUDES: std::ops::Range<i64> = 100_000_000_000..100_000_000_000_000;

/// Objects that hold parts of an event.
const NESTED: [&[u8]; 10] = [
    b"log",
    b"service",
    b"fields",
    b"body",
    b"syslog",
    b"instant",
    // loguru's
    b"record",
    b"record.level",
    b"record.time",
    // MongoDB's
    b"t",
];

/// What else the wire has rules for, besides the parts of an event and `attributes`.
const TRACE: [&str; 2] = ["trace_id", "span_id"];

/// Whether it may be one, as far as its first and last bytes say.
pub(super) fn may_be_object(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let first = line.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    line.ends_with(b"}") && first.is_some_and(|rest| matches!(rest.first(), Some(b'"' | b'}')))
}

/// Appends the event of a JSON object, without a line end. Appends nothing, and says `false`, when `line` is
/// none.
pub(super) fn to_event(
    line: &[u8],
    extra: &Extra<'_>,
    carry: &mut Carry,
    out: &mut Vec<u8>,
    facts: &mut Facts,
) -> bool {
    let settings = extra.settings;
    if let Some(object) = Object::parse(line, &settings.keys) {
        object.write(extra, carry, out, facts);
        return true;
    }
    let lossy = String::from_utf8_lossy(line);
    let Cow::Owned(text) = &lossy else { return false };
    let Some(object) = Object::parse(text.as_bytes(), &settings.keys) else { return false };
    object.write(extra, carry, out, facts);
    facts.replaced += u32::try_from(line.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count())
        .unwrap_or(u32::MAX);
    true
}

/// Appends a line that is a valid event as it is; `false`, and nothing is appended, when it is none.
pub(super) fn copy(line: &[u8], settings: &Settings, carry: &mut Carry, out: &mut Vec<u8>) -> bool {
    // What it can't do without is looked for first: most loggers have other names.
    static TIME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"timestamp\""));
    if settings.service.is_some() || !settings.keys.is_empty() || TIME.find(line).is_none() {
        return false;
    }
    let Ok(event) = event::check(line, &Rules { max_bytes: usize::MAX, window: None }) else { return false };
    if !MS_MAGNITUDES.contains(&event.timestamp_ms) && has_numeric_time(line) {
        return false;
    }
    carry.found(event.timestamp_ms);
    out.extend_from_slice(line);
    true
}

/// Whether the wire's own time is a number. Only asked where its magnitude says that it is not milliseconds:
/// valid for the wire, but surely not meant as it would be taken there.
fn has_numeric_time(line: &[u8]) -> bool {
    Object::parse(line, &keys::Keys::default())
        .and_then(|object| object.picked[Slot::Time as usize])
        .is_some_and(|picked| matches!(picked.value.kind, Kind::Number))
}

#[derive(Clone, Copy)]
struct Field<'a> {
    key: Text<'a>,
    value: Value<'a>,
}

impl Field<'_> {
    fn is(&self, name: &str) -> bool {
        match self.key.plain() {
            Some(plain) => plain == name.as_bytes(),
            None => self.key.ascii().eq(name.bytes()),
        }
    }
}

/// An object's fields, and which of them are the parts of an event.
struct Object<'a> {
    fields: Vec<Field<'a>>,
    picked: [Option<Picked<'a>>; 4],
}

impl<'a> Object<'a> {
    fn parse(line: &'a [u8], mapped: &keys::Keys) -> Option<Self> {
        let mut json = Scanner::new(line);
        if json.peek()? != b'{' {
            return None;
        }
        json.take();
        let mut object = Self { fields: Vec::with_capacity(16), picked: [None; 4] };
        if json.peek()? == b'}' {
            json.take();
        } else {
            loop {
                let field = Field { key: json.key().ok()?, value: json.value().ok()? };
                object.add(field, mapped);
                match json.peek()? {
                    b',' => json.take(),
                    b'}' => {
                        json.take();
                        break;
                    }
                    _ => return None,
                }
            }
        }
        json.end().ok()?;
        Some(object)
    }

    fn add(&mut self, field: Field<'a>, mapped: &keys::Keys) {
        let index = self.fields.len();
        self.fields.push(field);
        let decoded: Vec<u8>;
        let key = match field.key.plain() {
            Some(plain) => plain,
            None => {
                decoded = field.key.ascii().take(64).collect();
                &decoded
            }
        };
        let meaning = mapped.of(key).or_else(|| self.is_mongodbs(key).then_some(keys::MONGODB_LEVEL));
        let is_object = field.value.kind == Kind::Object;
        if let Some(meaning) = meaning
            && !(is_object && meaning.slot == Slot::Service)
        {
            self.pick(meaning, field.value, Some(index));
        }
        if is_object {
            self.look_into(key, field.value);
        }
    }

    /// The better of what is there and this one. Another name than the wire's doesn't count where its value is an
    /// object or array: `"event":{"id":7}` is no message.
    fn pick(&mut self, meaning: Meaning, value: Value<'a>, index: Option<usize>) {
        let place = &mut self.picked[meaning.slot as usize];
        if place.is_some_and(|there| !meaning.is_before(there.meaning)) {
            return;
        }
        let nested = matches!(value.kind, Kind::Object | Kind::Array);
        let picked = Picked { meaning, value, index };
        if (meaning.rank > 0 && nested) || (meaning.weak && !picked.is_good()) {
            return;
        }
        *place = Some(picked);
    }

    /// Parts that stand in an object under some names.
    fn look_into(&mut self, outer: &[u8], value: Value<'a>) {
        if !NESTED.contains(&outer) || value.kind != Kind::Object {
            return;
        }
        let mut json = Scanner::new(value.json);
        json.peek();
        json.take();
        while json.peek().is_some_and(|byte| byte != b'}') {
            let (Ok(key), Ok(value)) = (json.key(), json.value()) else { return };
            let key = key.plain().unwrap_or_default();
            if let Some(meaning) = keys::nested(outer, key) {
                self.pick(meaning, value, None);
            }
            match (outer, key) {
                (b"record", b"level") => self.look_into(b"record.level", value),
                (b"record", b"time") => self.look_into(b"record.time", value),
                _ => {}
            }
            if json.peek() == Some(b',') {
                json.take();
            }
        }
    }

    fn get(&self, slot: Slot) -> Option<Picked<'a>> {
        self.picked[slot as usize]
    }

    /// The object in the string of this one's message, when it holds any part of an event.
    fn unwrapped(&self) -> Option<Vec<u8>> {
        match self.get(Slot::Message)?.value.text()? {
            // An object has quotes, which are written with escapes there.
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => may_be_object(&text).then_some(text),
        }
    }

    fn write(&self, extra: &Extra<'_>, carry: &mut Carry, out: &mut Vec<u8>, facts: &mut Facts) {
        let text = self.unwrapped();
        let inner = text.as_ref().and_then(|text| Object::parse(text, &extra.settings.keys));
        let inner = inner.filter(|inner| inner.picked.iter().any(Option::is_some));
        let first = |slot| inner.as_ref().and_then(|inner: &Object<'_>| inner.get(slot)).or(self.get(slot));
        let settings = extra.settings;
        let service = if settings.service.is_some() { None } else { first(Slot::Service) };
        let message = match &inner {
            Some(inner) => inner.get(Slot::Message),
            None => self.get(Slot::Message),
        };

        out.extend_from_slice(b"{\"timestamp\":");
        write_time(first(Slot::Time), extra, carry, out, facts);
        fields::write_service(service, settings, out, facts);
        fields::write_level(first(Slot::Level), self.is_gelf(), settings, out, facts);
        fields::write_message(message, out, facts);
        self.write_others(None, extra, out);
        if let Some(inner) = &inner {
            inner.write_others(Some(self), extra, out);
        }
        if !extra.is_empty() && !self.has_attributes() {
            extra.push(out);
        }
        out.push(b'}');
    }

    /// The fields that are no part of the event. What was taken is left out once; a field that stands twice must be
    /// rejected for that, but not one of the object in the message (`self`) that the one `around` it has too.
    fn write_others(&self, around: Option<&Object<'_>>, extra: &Extra<'_>, out: &mut Vec<u8>) {
        let taken = self.picked.map(|picked| picked.and_then(|picked| picked.index));
        for (index, field) in self.fields.iter().enumerate() {
            let mapped = around.is_none() && !extra.settings.keys.is_empty() && self.is_mapped_over(field);
            let is_overridden = mapped || self.is_overridden(field, extra);
            let collides = around.is_some_and(|around| around.collides(field));
            if taken.contains(&Some(index)) || is_overridden || collides {
                continue;
            }
            out.extend_from_slice(b",\"");
            out.extend_from_slice(field.key.raw());
            out.extend_from_slice(b"\":");
            let attributes = !extra.is_empty() && field.is("attributes") && field.value.kind == Kind::Object;
            match field.value.json.split_first().filter(|_| attributes) {
                Some((brace, rest)) => {
                    out.push(*brace);
                    extra.push_attributes(out, false);
                    if rest.trim_ascii_start() != b"}" {
                        out.push(b',');
                    }
                    out.extend_from_slice(rest);
                }
                None => out.extend_from_slice(field.value.json),
            }
        }
    }

    /// Whether a field of the object in the message can't stand beside this one's.
    fn collides(&self, inner: &Field<'_>) -> bool {
        let both = |name: &str| inner.is(name) && self.fields.iter().any(|field| field.is(name));
        WIRE.iter().any(|name| inner.is(name)) || inner.is("attributes") || TRACE.into_iter().any(both)
    }

    /// A service in whose place another one is: of the settings, the name in `"service":{"name":…}`, or the file's where
    /// such an object has none.
    fn is_overridden(&self, field: &Field<'_>, extra: &Extra<'_>) -> bool {
        field.is("service") && (extra.settings.service.is_some() || field.value.kind == Kind::Object)
    }

    /// A field of the wire in whose place the settings have named another one.
    fn is_mapped_over(&self, field: &Field<'_>) -> bool {
        let slots = [Slot::Time, Slot::Service, Slot::Level, Slot::Message];
        slots.into_iter().zip(WIRE).any(|(slot, name)| {
            let mapped = self.get(slot).is_some_and(|picked| picked.by() == By::MappedKey);
            mapped && field.is(name)
        })
    }

    fn has_attributes(&self) -> bool {
        self.fields.iter().any(|field| field.is("attributes"))
    }

    /// Whether a field is the level in a line of MongoDB, which has its time before it.
    fn is_mongodbs(&self, key: &[u8]) -> bool {
        key == b"s" && self.get(Slot::Time).is_some_and(|picked| picked.meaning.name == keys::MONGODB)
    }

    /// Graylog's form, whose levels are those of syslog.
    fn is_gelf(&self) -> bool {
        self.get(Slot::Message).is_some_and(|picked| picked.meaning.name == "short_message")
    }
}

fn write_time(
    picked: Option<Picked<'_>>,
    extra: &Extra<'_>,
    carry: &mut Carry,
    out: &mut Vec<u8>,
    facts: &mut Facts,
) {
    match picked {
        Some(picked) => {
            facts.time = picked.by();
            match picked.time(&extra.settings.timezone) {
                Some(ms) => carry.found(ms),
                None => return out.extend_from_slice(picked.value.json),
            }
        }
        None => extra.time(carry, facts),
    }
    push_integer(out, carry.timestamp_ms);
}

impl Picked<'_> {
    fn time(&self, zone: &TimeZone) -> Option<i64> {
        match self.value.text() {
            Some(text) => time::whole(std::str::from_utf8(&text).ok()?, zone),
            None => time::epoch(std::str::from_utf8(self.value.json).ok()?),
        }
    }

    /// Whether the value is what its part should be.
    fn is_good(&self) -> bool {
        match self.meaning.slot {
            Slot::Time => self.time(&TimeZone::UTC).is_some_and(|ms| ms >= MS_MAGNITUDES.start),
            Slot::Level => fields::level(&self.value, self.meaning.scale).is_some(),
            Slot::Service => event::is_service(&self.value),
            Slot::Message => matches!(self.value.kind, Kind::String(_)),
        }
    }
}

//! Finding the known fields of an event in one scan.

use super::detail;
use crate::Rejection;
use crate::scan::{Broken, Kind, Scanner, Text, Value};

/// The fields of the schema, in the order of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Timestamp,
    Service,
    Level,
    Message,
    TraceId,
    SpanId,
    Attributes,
}

impl Field {
    const ALL: [Field; 7] = [
        Field::Timestamp,
        Field::Service,
        Field::Level,
        Field::Message,
        Field::TraceId,
        Field::SpanId,
        Field::Attributes,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Field::Timestamp => "timestamp",
            Field::Service => "service",
            Field::Level => "level",
            Field::Message => "message",
            Field::TraceId => "trace_id",
            Field::SpanId => "span_id",
            Field::Attributes => "attributes",
        }
    }

    fn of(key: Text<'_>) -> Option<Self> {
        match key.plain() {
            Some(b"timestamp") => Some(Field::Timestamp),
            Some(b"service") => Some(Field::Service),
            Some(b"level") => Some(Field::Level),
            Some(b"message") => Some(Field::Message),
            Some(b"trace_id") => Some(Field::TraceId),
            Some(b"span_id") => Some(Field::SpanId),
            Some(b"attributes") => Some(Field::Attributes),
            Some(_) => None,
            None => Self::ALL.into_iter().find(|field| key.ascii().eq(field.as_str().bytes())),
        }
    }

    /// Its place in the table.
    const fn index(self) -> usize {
        match self {
            Field::Timestamp => 0,
            Field::Service => 1,
            Field::Level => 2,
            Field::Message => 3,
            Field::TraceId => 4,
            Field::SpanId => 5,
            Field::Attributes => 6,
        }
    }
}

/// An event's known fields, and what is to be known of the rest.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    values: [Option<Value<'a>>; 7],
    repeated: [bool; 7],
    /// How deep the event is nested, itself included.
    pub(super) depth: usize,
    /// How deep `attributes` is nested, itself included.
    pub(super) attributes_depth: usize,
}

impl<'a> Fields<'a> {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { values: [None; 7], repeated: [false; 7], depth: 1, attributes_depth: 0 }
    }

    /// Takes an event apart, and sees that all of it is JSON. It fills fields that are there, since moving them
    /// costs as much as scanning a short event.
    ///
    /// # Errors
    /// `not_json` and `not_object`.
    pub(super) fn scan(&mut self, line: &'a [u8]) -> Result<(), Rejection> {
        let mut json = Scanner::new(line);
        if json.peek() == Some(b'{') {
            return self.object(&mut json).and_then(|()| finish(&mut json)).map_err(detail::not_json);
        }
        let value = json.value().map_err(detail::not_json)?;
        finish(&mut json).map_err(detail::not_json)?;
        Err(detail::not_object(&value))
    }

    fn object(&mut self, json: &mut Scanner<'a>) -> Result<(), Broken> {
        json.take();
        if json.peek() == Some(b'}') {
            json.take();
            return Ok(());
        }
        loop {
            let field = Field::of(json.key()?);
            let value = json.value()?;
            self.depth = self.depth.max(value.depth + 1);
            if let Some(field) = field {
                self.set(field, value);
            }
            match json.peek() {
                Some(b',') => json.take(),
                Some(b'}') => {
                    json.take();
                    return Ok(());
                }
                Some(_) => return Err(json.broken("a comma or } was expected")),
                None => return Err(json.broken("the text ends inside an array or object")),
            }
        }
    }

    fn set(&mut self, field: Field, value: Value<'a>) {
        let index = field.index();
        self.repeated[index] = self.values[index].is_some();
        if field == Field::Attributes {
            self.attributes_depth = self.attributes_depth.max(value.depth);
        }
        self.values[index] = Some(value);
    }

    pub(super) const fn get(&self, field: Field) -> Option<Value<'a>> {
        self.values[field.index()]
    }

    pub(super) fn required(&self, field: Field) -> Result<Value<'a>, Rejection> {
        self.get(field).ok_or_else(|| detail::missing(field))
    }

    /// The first field of the table that stands twice.
    pub(super) fn duplicate(&self) -> Option<Field> {
        Field::ALL.into_iter().find(|field| self.repeated[field.index()])
    }
}

fn finish(json: &mut Scanner<'_>) -> Result<(), Broken> {
    json.end()?;
    match json.lone_surrogate() {
        Some(offset) => Err(Broken { offset, what: "an escape is half of a surrogate pair" }),
        None => Ok(()),
    }
}

/// What a value is, in words.
pub(super) const fn kind_in_words(kind: Kind<'_>) -> &'static str {
    match kind {
        Kind::String(_) => "a string",
        Kind::Number => "a number",
        Kind::Boolean => "a boolean",
        Kind::Null => "null",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}

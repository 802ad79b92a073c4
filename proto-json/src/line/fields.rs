//! The parts of an event that stand in fields, and how they are written.

use super::Settings;
use super::facts::{By, Facts};
use super::keys::{Meaning, Scale};
use super::out::push_string;
use super::words;
use crate::Level;
use crate::scan::{Kind, Value};

/// A field that is a part of the event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picked<'a> {
    pub(super) meaning: Meaning,
    pub(super) value: Value<'a>,
    /// Which field it is; `None` when it stands inside another one.
    pub(super) index: Option<usize>,
}

impl Picked<'_> {
    pub(super) const fn by(&self) -> By {
        self.meaning.by()
    }
}

/// The level of a field's value.
pub(super) fn level(value: &Value<'_>, scale: Scale) -> Option<Level> {
    match value.kind {
        Kind::String(_) => level_of(&value.text()?, scale),
        Kind::Number => of_number(number(value.json)?, scale),
        _ => None,
    }
}

/// The level that a text names, or a number in it.
pub(super) fn level_of(text: &[u8], scale: Scale) -> Option<Level> {
    match number(text) {
        Some(number) => of_number(number, scale),
        None => words::value(text),
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn of_number(number: u64, scale: Scale) -> Option<Level> {
    match scale {
        Scale::Pino => words::pino(number),
        Scale::Syslog => words::syslog(number).or_else(|| words::pino(number)),
        Scale::Python => words::python(number),
        Scale::Logback => words::logback(number),
        Scale::Otel => words::otel(number),
    }
}

/// Appends `,"service":…`
pub(super) fn write_service(
    picked: Option<Picked<'_>>,
    settings: &Settings,
    out: &mut Vec<u8>,
    facts: &mut Facts,
) {
    out.extend_from_slice(b",\"service\":");
    match picked {
        Some(picked) => {
            facts.service = picked.by();
            out.extend_from_slice(picked.value.json);
        }
        None => {
            facts.service = settings.service_by();
            push_string(out, settings.own_service().as_bytes());
        }
    }
}

/// Appends `,"level":…`: as it is where the wire knows it, folded where only loggers do.
pub(super) fn write_level(
    picked: Option<Picked<'_>>,
    syslog: bool,
    settings: &Settings,
    out: &mut Vec<u8>,
    facts: &mut Facts,
) {
    out.extend_from_slice(b",\"level\":");
    let Some(picked) = picked else {
        facts.level = By::Default;
        push_string(out, settings.default_level.as_str().as_bytes());
        return;
    };
    facts.level = picked.by();
    let scale = if syslog { Scale::Syslog } else { picked.meaning.scale };
    let known = match picked.value.kind {
        Kind::String(text) => text.plain().is_some_and(|plain| Level::parse_bytes(plain).is_some()),
        _ => false,
    };
    match level(&picked.value, scale).filter(|_| !known) {
        Some(level) => push_string(out, level.as_str().as_bytes()),
        None => {
            out.extend_from_slice(picked.value.json);
            0
        }
    };
}

/// Appends `,"message":…`
pub(super) fn write_message(picked: Option<Picked<'_>>, out: &mut Vec<u8>, facts: &mut Facts) {
    out.extend_from_slice(b",\"message\":");
    facts.message = picked.map_or(By::Nothing, |picked| picked.by());
    out.extend_from_slice(picked.map_or(b"\"\"", |picked| picked.value.json));
}

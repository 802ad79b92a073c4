//! What is said in an event besides its own lines: where it comes from, and that it was cut.

use super::Settings;
use super::container::{self, Outer};
use super::facts::{By, Facts};
use super::out::push_string;
use super::state::Carry;

/// What an event says besides its lines.
pub(super) struct Extra<'a> {
    pub(super) settings: &'a Settings,
    pub(super) outer: Option<Outer>,
    pub(super) cut: bool,
}

impl Extra<'_> {
    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.outer.is_none() && !self.cut && self.settings.origin.is_none()
    }

    /// The time of an event without one of its own.
    pub(super) fn time(&self, carry: &mut Carry, facts: &mut Facts) {
        match self.outer.and_then(|outer| outer.ms) {
            Some(ms) => (carry.timestamp_ms, facts.time) = (ms, By::Runtime),
            None => facts.time = By::Before,
        }
    }

    /// Appends `"name":"value"` for all that belongs into the attributes, with a comma before each where `more`.
    pub(super) fn push_attributes(&self, out: &mut Vec<u8>, mut more: bool) {
        let origin = self.settings.origin.as_ref();
        let pairs = [
            ("stream", self.outer.and_then(|outer| outer.stream).map(container::Stream::as_str)),
            ("namespace", origin.map(|origin| origin.namespace.as_str())),
            ("pod", origin.map(|origin| origin.pod.as_str())),
            ("container", origin.map(|origin| origin.container.as_str())),
            ("truncated", self.cut.then_some("true")),
        ];
        for (name, value) in pairs {
            let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
            if std::mem::replace(&mut more, true) {
                out.push(b',');
            }
            push_string(out, name.as_bytes());
            out.push(b':');
            push_string(out, value.as_bytes());
        }
    }

    /// Appends `,"attributes":{…}` where there are any.
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            out.extend_from_slice(b",\"attributes\":{");
            self.push_attributes(out, false);
            out.push(b'}');
        }
    }
}

//! Writing what an event says.

use super::open::{Open, Seen};
use super::{Assembly, Next};
use crate::Level;
use crate::line::extra::Extra;
use crate::line::facts::{By, Facts};
use crate::line::out::{push_integer, push_string};
use crate::line::state::Kind;
use crate::line::text::Head;
use crate::line::{continuation, json, logfmt};

impl Assembly<'_> {
    /// Takes the open event, and writes it where that isn't done.
    pub(super) fn written(&mut self) -> Option<Facts> {
        if std::mem::take(&mut self.copied) {
            self.before = self.after;
            return Some(Facts { filtered: self.copied_filter, ..Facts::COPIED });
        }
        if self.open.as_ref()?.seen.is_none() {
            let text = std::mem::take(&mut self.text);
            self.first_line_is_there(self.look(&text), &text);
        }
        let open = self.open.take()?;
        self.before = self.after;
        match (open.facts, open.seen) {
            (Some(facts), _) => Some(facts),
            (None, Some(Seen::Text(head))) => Some(self.write_text(&open, head)),
            (None, _) => None,
        }
    }

    /// With `--format json`, what is no object: it is rejected with its reason.
    pub(super) fn as_it_is(&mut self, line: &[u8]) -> Next {
        self.event.clear();
        self.event.extend_from_slice(line);
        self.end_event();
        if let Some(open) = &mut self.open {
            let filtered = self.settings.rules.filter(line);
            open.facts = Some(Facts { kind: Some(Kind::Json), lines: 1, filtered, ..Facts::default() });
        }
        Next::Whole
    }

    /// Writes the event of a line that has fields; `false` when it has none after all.
    pub(super) fn write_fields(&mut self, seen: Seen, line: &[u8]) -> bool {
        let Some(open) = &mut self.open else { return false };
        let extra = Extra { settings: self.settings, outer: open.outer, cut: open.cut };
        let mut facts = Facts { lines: open.lines, cut: open.cut, ..Facts::default() };
        self.event.clear();
        let (carry, out) = (&mut self.after, &mut self.event);
        let (kind, done) = match seen {
            Seen::Object => (Kind::Json, json::to_event(line, &extra, carry, out, &mut facts)),
            _ => (Kind::Logfmt, logfmt::to_event(line, &extra, carry, out, &mut facts)),
        };
        if done {
            carry.state.vote(if open.outer.is_some() { Kind::Container } else { kind });
            facts.kind = Some(kind);
            facts.filtered = self.settings.rules.filter(line);
            open.facts = Some(facts);
            self.end_event();
        }
        done
    }

    fn write_text(&mut self, open: &Open, head: Head) -> Facts {
        let settings = self.settings;
        let extra = Extra { settings, outer: open.outer, cut: open.cut };
        let time = match (head.ms, open.outer.and_then(|outer| outer.ms)) {
            (Some(_), _) => By::Form(head.time_by),
            (None, Some(_)) => By::Runtime,
            (None, None) => By::Before,
        };
        let heading = || continuation::is_heading(&self.text).then_some((Level::Error, "stack trace"));
        let level = head.level.or_else(heading);
        let out = &mut self.event;
        out.clear();
        out.extend_from_slice(b"{\"timestamp\":");
        push_integer(out, self.after.timestamp_ms);
        out.extend_from_slice(b",\"service\":");
        push_string(out, settings.own_service().as_bytes());
        out.extend_from_slice(b",\"level\":\"");
        let word = level.map_or(settings.default_level, |(level, _)| level).as_str();
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(b"\",\"message\":");
        let replaced = push_string(out, self.text[head.message_from..].trim_ascii_end());
        extra.push(out);
        out.extend_from_slice(b"}\n");
        Facts {
            kind: Some(Kind::Text),
            time,
            level: level.map_or(By::Default, |(_, by)| By::Form(by)),
            service: settings.service_by(),
            message: By::Rest,
            replaced,
            lines: open.lines,
            cut: open.cut,
            filtered: settings.rules.filter(&self.text),
        }
    }

    /// An event is one line: between the tokens of a JSON text a line break is white space.
    pub(super) fn end_event(&mut self) {
        if memchr::memchr(b'\n', &self.event).is_some() {
            self.event.iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b' ');
        }
        self.event.push(b'\n');
    }
}

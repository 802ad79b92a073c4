//! What the reader says of itself when somebody asks.

use super::core::{Core, Moment};
use crate::files::tail::Tail;
use crate::handoff::{FileReport, Report};
use crate::records;
use logweir_proto::line::{Format, Kind};

/// How many losses are told.
const LOSSES: usize = 20;

impl Core {
    pub(super) fn report(&self, now: Moment) -> Report {
        let losses = records::last(self.losses.path(), LOSSES).unwrap_or_else(|error| {
            tracing::warn!("the losses can't be read for the status: {error}");
            Vec::new()
        });
        let (filtered_events, redactions) = self.metrics.found_by(&self.settings.rules);
        Report {
            filtered_events,
            redactions,
            files: self.tails.values().map(|tail| self.file_report(tail, now)).collect(),
            unsettled_batches: self.unsettled.len(),
            unsettled_bytes: self.unsettled.values().sum(),
            reading_stopped: self.stands_still(),
            losses,
        }
    }

    fn file_report(&self, tail: &Tail, now: Moment) -> FileReport {
        let behind_ms = tail.behind_since.map_or(0, |since| millis(now.mono.saturating_sub(since)));
        FileReport {
            file: tail.entry.path.to_string_lossy().into_owned(),
            position: tail.entry.offset,
            size: tail.size,
            behind_bytes: tail.behind(),
            behind_ms,
            bytes_per_second: tail.speed.at(tail.entry.offset, now.mono),
            format: self.format_of(tail),
            error: tail.error.clone(),
            gone: gone(tail).map(str::to_owned),
        }
    }

    /// What its lines are taken for.
    fn format_of(&self, tail: &Tail) -> String {
        let format = self.settings.format;
        let found = tail.entry.parser.kind.map(Kind::as_str);
        match (format, found) {
            (Format::Auto | Format::Container, Some(found)) => found.to_owned(),
            (Format::Auto, None) => "not yet known".to_owned(),
            _ => format.as_str().to_owned(),
        }
    }

    /// Why nothing is read, if so.
    fn stands_still(&self) -> Option<String> {
        let full = || self.is_window_full().then(|| "the window of unsettled batches is full".to_owned());
        self.trouble().or_else(full)
    }
}

fn gone(tail: &Tail) -> Option<&'static str> {
    if tail.entry.packed {
        return Some("compressed; it is read to its end");
    }
    if tail.unlinked {
        return Some("deleted; it is read to its end");
    }
    (!tail.matched && !tail.spooled)
        .then_some("renamed; no pattern matches it any more, it is read to its end")
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Counting lines as the agent parses and the collector judges them; only the clock's rules are left out, since
//! they concern the moment of sending.

use super::lines::Line;
use logweir_proto::event::{self, Rules};
use logweir_proto::line::{self, Carry, Settings};
use logweir_proto::ndjson;
use std::collections::{BTreeMap, BTreeSet};

/// Start of the minute in Unix milliseconds, service, level.
pub(super) type Cell = (i64, String, String);

/// What the files hold.
pub(super) struct Counts {
    pub(super) cells: BTreeMap<Cell, u64>,
    pub(super) events: u64,
    pub(super) rejected: u64,
    rules: Rules,
    max_cells: usize,
    event: Vec<u8>,
}

impl Counts {
    pub(super) fn new(event_bytes: usize, max_cells: usize) -> Self {
        let rules = Rules { max_bytes: event_bytes, window: None };
        Self { cells: BTreeMap::new(), events: 0, rejected: 0, rules, max_cells, event: Vec::new() }
    }

    /// Counts one line.
    ///
    /// # Errors
    /// A sentence, when there would be more cells than allowed.
    pub(super) fn add(
        &mut self,
        line: Line<'_>,
        settings: &Settings,
        carry: &mut Carry,
    ) -> Result<(), String> {
        let line = match line {
            Line::Whole(line) if ndjson::is_blank(line) => return Ok(()),
            Line::Whole(line) => line,
            Line::TooLong => {
                self.rejected += 1;
                return Ok(());
            }
        };
        self.event.clear();
        line::to_event(line, settings, carry, &mut self.event);
        let json = self.event.strip_suffix(b"\n").unwrap_or(&self.event);
        match event::check(json, &self.rules) {
            Ok(event) => {
                let cell =
                    (event.minute_ms(), event.service.as_str().to_owned(), event.level.as_str().to_owned());
                *self.cells.entry(cell).or_insert(0) += 1;
                self.events += 1;
            }
            Err(rejection) => {
                tracing::debug!(%rejection, "rejected");
                self.rejected += 1;
            }
        }
        if self.cells.len() > self.max_cells { Err(too_many(self.max_cells)) } else { Ok(()) }
    }

    /// The services that were seen.
    pub(super) fn services(&self) -> Vec<String> {
        let services: BTreeSet<&String> = self.cells.keys().map(|(_, service, _)| service).collect();
        services.into_iter().cloned().collect()
    }

    /// The first and the last minute.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let (first, _) = self.cells.first_key_value()?;
        let (last, _) = self.cells.last_key_value()?;
        Some((first.0, last.0))
    }
}

pub(super) fn too_many(max_cells: usize) -> String {
    format!("these are more than {max_cells} counts (minute, service, level); verify fewer files at a time")
}

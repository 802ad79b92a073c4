//! Counting events as the agent parses and the collector judges them; only the clock's rules are left out, since
//! they concern the moment of sending.

use super::lines::Line;
use logweir_proto::event::{self, Rules};
use logweir_proto::line::{Assembly, Next};
use std::collections::{BTreeMap, BTreeSet};

/// Start of the minute in Unix milliseconds, service, level.
pub(super) type Cell = (i64, String, String);

/// What the files hold.
pub(super) struct Counts {
    pub(super) cells: BTreeMap<Cell, u64>,
    pub(super) events: u64,
    pub(super) rejected: u64,
    /// Events that the rules leave out.
    pub(super) left_out: u64,
    rules: Rules,
    max_cells: usize,
}

impl Counts {
    pub(super) fn new(event_bytes: usize, max_cells: usize) -> Self {
        let rules = Rules { max_bytes: event_bytes, window: None };
        Self { cells: BTreeMap::new(), events: 0, rejected: 0, left_out: 0, rules, max_cells }
    }

    /// Shows the assembly one line, and counts the events that are whole with it.
    ///
    /// # Errors
    /// A sentence, when there would be more cells than allowed.
    pub(super) fn add(&mut self, line: Line<'_>, assembly: &mut Assembly<'_>) -> Result<(), String> {
        let Line::Whole(line) = line else {
            // It is no part of an event, and nothing joins one over it.
            self.rejected += 1;
            return self.take(assembly);
        };
        match assembly.line(line) {
            Next::Complete => {
                self.take(assembly)?;
                if assembly.line(line) == Next::Whole {
                    self.take(assembly)?;
                }
                Ok(())
            }
            Next::Whole => self.take(assembly),
            Next::Open | Next::Nothing => Ok(()),
        }
    }

    /// Counts the open event as it is, if there is one.
    ///
    /// # Errors
    /// A sentence, when there would be more cells than allowed.
    pub(super) fn take(&mut self, assembly: &mut Assembly<'_>) -> Result<(), String> {
        let Some(facts) = assembly.take() else { return Ok(()) };
        if facts.filtered.is_some() {
            self.left_out += 1;
            return Ok(());
        }
        let event = assembly.event();
        match event::check(event.strip_suffix(b"\n").unwrap_or(event), &self.rules) {
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

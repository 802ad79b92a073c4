//! What was written, per minute, service and level: recorded before it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

/// One count's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Minutes since 1970.
    pub minute: i64,
    /// The service.
    pub service: String,
    /// The level, folded.
    pub level: String,
}

/// Counts.
pub type Cells = BTreeMap<Cell, u64>;

/// A cell in which truth and database differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub cell: Cell,
    /// What was written.
    pub truth: u64,
    /// What is counted.
    pub counted: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { minute, service, level } = &self.cell;
        let bucket =
            jiff::Timestamp::from_second(minute * 60).map_or_else(|_| minute.to_string(), |t| t.to_string());
        write!(f, "{bucket} {service} {level}: written {}, counted {}", self.truth, self.counted)
    }
}

/// Every cell that differs, whichever side lacks it.
#[must_use]
pub fn differences(truth: &Cells, counted: &Cells) -> Vec<Difference> {
    let of = |cells: &Cells, cell: &Cell| cells.get(cell).copied().unwrap_or(0);
    let mut keys: Vec<&Cell> = truth.keys().chain(counted.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .map(|cell| Difference { cell: cell.clone(), truth: of(truth, cell), counted: of(counted, cell) })
        .filter(|difference| difference.truth != difference.counted)
        .collect()
}

/// The truth of one run. A copy of each record lies in a file, for whoever looks for a missing line.
#[derive(Debug)]
pub struct Truth {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    cells: Cells,
    record: BufWriter<File>,
}

impl Truth {
    /// Nothing yet.
    ///
    /// # Panics
    /// When the file can't be made.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let record = BufWriter::new(File::create(dir.join("truth.txt")).expect("the truth's file"));
        Self { inner: Mutex::new(Inner { cells: Cells::new(), record }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One more event; `note` says which.
    ///
    /// # Panics
    /// When the file can't be written.
    pub fn add(&self, cell: Cell, note: &str) {
        let mut inner = self.lock();
        writeln!(inner.record, "{} {} {} {note}", cell.minute, cell.service, cell.level)
            .expect("a line of the truth");
        *inner.cells.entry(cell).or_default() += 1;
    }

    /// All of it.
    #[must_use]
    pub fn cells(&self) -> Cells {
        self.lock().cells.clone()
    }

    /// The sum of the services that `of` chooses.
    #[must_use]
    pub fn total(&self, of: impl Fn(&str) -> bool) -> u64 {
        total(&self.lock().cells, of)
    }
}

/// The sum of the services that `of` chooses.
#[must_use]
pub fn total(cells: &Cells, of: impl Fn(&str) -> bool) -> u64 {
    cells.iter().filter(|(cell, _)| of(&cell.service)).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(service: &str) -> Cell {
        Cell { minute: 29_000_000, service: service.to_owned(), level: "info".to_owned() }
    }

    #[test]
    fn a_difference_is_seen_on_either_side_and_in_the_count() {
        let truth = Cells::from([(cell("a"), 1), (cell("b"), 2), (cell("c"), 3)]);
        let counted = Cells::from([(cell("b"), 2), (cell("c"), 4), (cell("d"), 1)]);
        let found: Vec<_> =
            differences(&truth, &counted).into_iter().map(|d| (d.cell.service, d.truth, d.counted)).collect();
        assert_eq!(found, [("a".to_owned(), 1, 0), ("c".to_owned(), 3, 4), ("d".to_owned(), 0, 1)]);
        assert!(differences(&truth, &truth).is_empty());
    }

    #[test]
    fn equal_totals_in_other_cells_are_no_equality() {
        let truth = Cells::from([(cell("a"), 2)]);
        let counted = Cells::from([(cell("a"), 1), (cell("b"), 1)]);
        assert_eq!(differences(&truth, &counted).len(), 2);
    }
}

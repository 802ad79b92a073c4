//! From an entry of the queue to what can be counted.
//!
//! ```text
//! body ─ decode (bounded) ─ lines ─ check ─► cells  (minute, service, level) → events, bytes
//!                                        └─► events (number, time, bytes, which cell)
//! ```
//!
//! The cells are what a wholly new batch adds; the events are looked at only when some of their numbers are known
//! or too old. An event costs 24 bytes and no allocation, unless it is the first of its cell.
//! Pure: a failure here is always the batch's own.

use crate::ranges::Ranges;
use logweir_proto::encoding::{self, DecodeError};
use logweir_proto::event::{self, Rules};
use logweir_proto::{Level, ProducerId, Rejection, ndjson};
use logweir_queue::Entry;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// A batch that can be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) producer: ProducerId,
    pub(crate) agent: String,
    /// The numbers of its events; those of rejected ones are not among them.
    pub(crate) numbers: Ranges,
    /// Sums by cell, each cell once.
    pub(crate) cells: Vec<Cell>,
    /// In the order of their numbers.
    pub(crate) events: Vec<Event>,
    /// The time of the oldest event, if there is any.
    pub(crate) oldest_ms: Option<i64>,
    /// The time of the newest event, likewise.
    pub(crate) newest_ms: Option<i64>,
}

/// What the events of one minute, service and level come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) minute_ms: i64,
    pub(crate) service: Arc<str>,
    pub(crate) level: Level,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) at_ms: i64,
    pub(crate) bytes: u32,
    /// The index of its cell.
    pub(crate) cell: u32,
}

/// How much a batch may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Of the decoded body.
    pub(crate) bytes: usize,
    /// Of the cells: each costs memory here, and a row in Postgres.
    pub(crate) keys: usize,
}

/// After how many lines it is looked whether anybody waits still: some hundred microseconds.
const LINES_PER_LOOK: usize = 256;

/// Why a batch can't be counted, ever.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BatchError {
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("the body holds fewer events than the {expected} that `events` and `skip` say")]
    TooFew { expected: u64 },
    #[error("the body holds more events than the {expected} that `events` and `skip` say")]
    TooMany { expected: u64 },
    #[error("event {number} breaks the schema: {rejection}")]
    Event { number: u64, rejection: Rejection },
    #[error("the body is larger than 4 GiB")]
    TooLarge,
    #[error("more than {limit} different (minute, service, level) in one batch: --max-batch-keys")]
    TooManyKeys { limit: usize },
    #[error("nobody waits for it any more")]
    GivenUp,
}

/// Decodes and validates. Ends soon after `given_up` is set; until the first line that is after the body is
/// decompressed, whose time `bounds` bounds.
pub(crate) fn decode(entry: &Entry, bounds: Bounds, given_up: &AtomicBool) -> Result<Batch, BatchError> {
    let body = encoding::decode(entry.enc, &entry.body, bounds.bytes)?;
    // What the collector has let in counts, whatever its limit for one event is.
    let rules = Rules { max_bytes: bounds.bytes, window: None };
    let first = entry.batch.seq.get();
    let expected = entry.events.saturating_sub(u64::try_from(entry.skip.len()).unwrap_or(u64::MAX));
    let mut skip = entry.skip.iter().peekable();
    let mut indices = (0..entry.events).filter(|index| skip.next_if_eq(&index).is_none());

    let mut cells = Cells::default();
    let mut events = Vec::new();
    let (mut oldest_ms, mut newest_ms) = (None, None);
    for (at, line) in ndjson::lines(&body).enumerate() {
        if at % LINES_PER_LOOK == 0 && given_up.load(Ordering::Relaxed) {
            return Err(BatchError::GivenUp);
        }
        let number = first + indices.next().ok_or(BatchError::TooMany { expected })?;
        let event =
            event::check_queued(line, &rules).map_err(|rejection| BatchError::Event { number, rejection })?;
        let bytes = u32::try_from(line.len()).map_err(|_| BatchError::TooLarge)?;
        let cell = cells.find(event.minute_ms(), event.service.as_str(), event.level, bounds.keys)?;
        cells.add(cell, bytes);
        let at_ms = event.timestamp_ms;
        oldest_ms = Some(oldest_ms.map_or(at_ms, |oldest: i64| oldest.min(at_ms)));
        newest_ms = newest_ms.max(Some(at_ms));
        events.push(Event { number, at_ms, bytes, cell });
    }
    if indices.next().is_some() {
        return Err(BatchError::TooFew { expected });
    }
    Ok(Batch {
        producer: entry.batch.producer,
        agent: entry.agent.clone(),
        numbers: Ranges::of_batch(first, entry.events, &entry.skip),
        cells: cells.list,
        events,
        oldest_ms,
        newest_ms,
    })
}

/// Finds a cell without allocating when it is known, and without hashing when it is the last one's.
#[derive(Default)]
struct Cells {
    list: Vec<Cell>,
    services: HashMap<Arc<str>, u32>,
    indices: HashMap<(u32, i64, Level), u32>,
    last: Option<u32>,
}

impl Cells {
    fn find(&mut self, minute_ms: i64, service: &str, level: Level, most: usize) -> Result<u32, BatchError> {
        let is_it = |cell: &Cell| {
            cell.minute_ms == minute_ms && cell.level == level && cell.service.as_ref() == service
        };
        if let Some(last) = self.last
            && self.list.get(index(last)).is_some_and(is_it)
        {
            return Ok(last);
        }
        let next = u32::try_from(self.list.len()).map_err(|_| BatchError::TooLarge)?;
        let known = self.services.get_key_value(service).map(|(name, id)| (Arc::clone(name), *id));
        let (name, id) = match known {
            Some(known) => known,
            None => {
                let name: Arc<str> = service.into();
                // There are no more services than cells.
                let id = u32::try_from(self.services.len()).map_err(|_| BatchError::TooLarge)?;
                self.services.insert(Arc::clone(&name), id);
                (name, id)
            }
        };
        let found = *self.indices.entry((id, minute_ms, level)).or_insert(next);
        if found == next {
            if self.list.len() >= most {
                return Err(BatchError::TooManyKeys { limit: most });
            }
            self.list.push(Cell { minute_ms, service: name, level, events: 0, bytes: 0 });
        }
        self.last = Some(found);
        Ok(found)
    }

    fn add(&mut self, cell: u32, bytes: u32) {
        if let Some(cell) = self.list.get_mut(index(cell)) {
            cell.events += 1;
            cell.bytes += u64::from(bytes);
        }
    }
}

/// 32 bits fit into an index on every machine that logweir runs on.
pub(crate) fn index(of: u32) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bytes::Bytes;
    use logweir_proto::encoding::Encoding;
    use logweir_proto::{BatchId, Seq};
    use logweir_queue::EntryId;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    pub(crate) const MINUTE: i64 = 60_000;
    /// 2026-11-24 10:03
    pub(crate) const AT: i64 = 1_795_514_580_000;

    pub(crate) fn line(at_ms: i64, service: &str, level: &str) -> String {
        format!(r#"{{"timestamp":{at_ms},"service":"{service}","level":"{level}","message":"m"}}"#)
    }

    pub(crate) fn entry(seq: u64, events: u64, skip: &[u64], body: &str) -> Entry {
        Entry {
            id: EntryId(format!("{seq}-0")),
            agent: "a".to_owned(),
            batch: BatchId { producer: ProducerId::new(Uuid::from_u128(1)), seq: Seq::new(seq).unwrap() },
            events,
            skip: skip.to_vec(),
            enc: Encoding::Identity,
            at_ms: AT,
            traceparent: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    const BOUNDS: Bounds = Bounds { bytes: 1 << 20, keys: 1_000 };

    pub(crate) fn decoded(entry: &Entry) -> Result<Batch, BatchError> {
        decode(entry, BOUNDS, &AtomicBool::new(false))
    }

    #[test]
    fn a_batch_of_too_many_keys_is_refused() {
        let keys = |n: i64| -> Vec<String> {
            (0..n).map(|n| line(AT + n / 2 * MINUTE, "a", if n % 2 == 0 { "info" } else { "warn" })).collect()
        };
        let bounds = Bounds { keys: 10, ..BOUNDS };
        let of = |lines: &[String]| {
            let entry = entry(1, u64::try_from(lines.len()).unwrap(), &[], &lines.join("\n"));
            decode(&entry, bounds, &AtomicBool::new(false))
        };
        // Repeated, they are no more.
        let ten = [keys(10), keys(10), keys(10)].concat();
        assert_eq!(of(&ten).unwrap().cells.len(), 10);
        assert_eq!(of(&[ten, keys(11)].concat()), Err(BatchError::TooManyKeys { limit: 10 }));
    }

    #[test]
    fn decoding_ends_when_nobody_waits() {
        let one = entry(1, 1, &[], &line(AT, "a", "info"));
        assert_eq!(decode(&one, BOUNDS, &AtomicBool::new(true)), Err(BatchError::GivenUp));
    }

    #[test]
    fn skipped_indices_are_passed_over() {
        let body = [line(AT, "a", "info"), String::new(), line(AT, "b", "WARNING")].join("\r\n");
        let batch = decoded(&entry(7, 5, &[0, 2, 4], &body)).unwrap();
        assert_eq!(batch.events.iter().map(|e| e.number).collect::<Vec<_>>(), [8, 10]);
        assert_eq!(batch.numbers.to_string(), "{[8,9),[10,11)}");
        assert_eq!((batch.cells[1].level, batch.cells[1].service.as_ref()), (Level::Warn, "b"));
        let bytes = u64::try_from(line(AT, "b", "WARNING").len()).unwrap();
        assert_eq!((batch.cells[1].events, batch.cells[1].bytes), (1, bytes));
    }

    #[test]
    fn more_or_fewer_lines_than_numbers_are_a_failure() {
        let body = [line(AT, "a", "info"), line(AT, "a", "info")].join("\n");
        decoded(&entry(1, 2, &[], &body)).unwrap();
        assert_eq!(decoded(&entry(1, 3, &[], &body)), Err(BatchError::TooFew { expected: 3 }));
        assert_eq!(decoded(&entry(1, 2, &[1], &body)), Err(BatchError::TooMany { expected: 1 }));
        let huge = decoded(&entry(1, 1 << 62, &[], &body));
        assert_eq!(huge, Err(BatchError::TooFew { expected: 1 << 62 }));
    }

    #[test]
    fn what_breaks_the_schema_is_named() {
        let over_long = "x".repeat(129);
        for (bad, code) in [
            (line(AT, "a\\u0000b", "info"), "invalid_service"),
            (line(AT, &over_long, "info"), "invalid_service"),
            (line(AT, "a", "loud"), "invalid_level"),
            ("nonsense".to_owned(), "not_json"),
        ] {
            let body = [line(AT, "a", "info"), bad].join("\n");
            let error = decoded(&entry(5, 2, &[], &body)).unwrap_err().to_string();
            assert!(error.contains("event 6") && error.contains(code), "{error}");
        }
        let small = Bounds { bytes: 10, ..BOUNDS };
        let bomb =
            decode(&entry(1, 1, &[], &line(AT, "a", "info")), small, &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(bomb, BatchError::Decode(DecodeError::TooLarge { limit: 10 })), "{bomb}");
    }

    proptest! {
        /// The twin is a map with a key made for each event.
        #[test]
        fn cells_are_the_sums_of_the_events(
            events in prop::collection::vec((0i64..4, 0usize..3, 0usize..6), 0..60),
        ) {
            let names = ["api", "a", "api-2"];
            let mut twin: BTreeMap<(i64, String, Level), (u64, u64)> = BTreeMap::new();
            let mut body = String::new();
            for (minute, service, level) in &events {
                let level = Level::ALL[*level];
                let text = line(AT + minute * MINUTE + 59_999, names[*service], level.as_str());
                let sum = twin.entry((AT + minute * MINUTE, names[*service].to_owned(), level)).or_default();
                sum.0 += 1;
                sum.1 += u64::try_from(text.len()).unwrap();
                body += &(text + "\n");
            }
            let batch = decoded(&entry(1, u64::try_from(events.len()).unwrap(), &[], &body)).unwrap();
            let cells: BTreeMap<_, _> = batch.cells.iter()
                .map(|c| ((c.minute_ms, c.service.to_string(), c.level), (c.events, c.bytes)))
                .collect();
            prop_assert_eq!(cells.len(), batch.cells.len());
            prop_assert_eq!(&cells, &twin);
            for event in &batch.events {
                prop_assert_eq!(batch.cells[index(event.cell)].minute_ms, event.at_ms.div_euclid(MINUTE) * MINUTE);
            }
        }
    }
}
